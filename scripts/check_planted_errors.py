"""Checks that mypy and basedpyright report every planted typing error, and nothing else.

A line of `tests/typing/errors.py` that must be refused ends in the comment `# error`. Each of the
two checkers has to report every such line and no other one: a signature that became too loose loses
a report, one that became too strict gains one.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLANTED = Path("tests/typing/errors.py")
MARK = re.compile(r"#\s*error\b")


def main() -> int:
    """Runs both checkers and prints where they differ from the marks.

    Returns:
        The exit status: 0 when both agree with the marks.
    """
    source = (ROOT / PLANTED).read_text(encoding="utf-8").splitlines()
    planted = {number for number, line in enumerate(source, start=1) if MARK.search(line)}
    if not planted:
        print(f"{PLANTED}: no line is marked '# error'")
        return 1
    failed = False
    for checker, report in (("mypy", reported_by_mypy), ("basedpyright", reported_by_pyright)):
        reported = report()
        for number in sorted(planted - reported.keys()):
            print(f"{PLANTED}:{number}: {checker} accepts it: {source[number - 1].strip()}")
            failed = True
        for number in sorted(reported.keys() - planted):
            print(f"{PLANTED}:{number}: {checker} refuses it: {reported[number]}")
            failed = True
    if not failed:
        print(f"{len(planted)} planted errors, each reported by mypy and by basedpyright")
    return int(failed)


def reported_by_mypy() -> dict[int, str]:
    """The lines that mypy refuses, with its messages."""
    output = run(sys.executable, "-m", "mypy", "--output=json", str(PLANTED))
    found = [json.loads(line) for line in output.splitlines()]
    return {error["line"]: error["message"] for error in found if error["severity"] == "error"}


def reported_by_pyright() -> dict[int, str]:
    """The lines that basedpyright refuses, with its messages."""
    checker = Path(sys.executable).with_name("basedpyright")
    output = run(str(checker), "--outputjson", "--pythonpath", sys.executable, str(PLANTED))
    found = json.loads(output)["generalDiagnostics"]
    return {
        error["range"]["start"]["line"] + 1: error["message"]
        for error in found
        if error["severity"] == "error"
    }


def run(*command: str) -> str:
    """Runs a checker and returns what it prints; only a crash or a bad call ends the script."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    # Both use 0 for "nothing found" and 1 for "errors found".
    if done.returncode not in {0, 1}:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
