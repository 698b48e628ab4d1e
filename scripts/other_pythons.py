"""Runs the tests that depend on the interpreter on every other CPython >= 3.11 of this machine.

Interpreters are looked for on PATH (`python3.11` to `python3.15`, free-threaded ones too), under
`~/.pyenv/versions` and where `scripts/interpreters.py` puts those that it gets. The first one of
each version and build gets its own wheel and its own virtual environment under `.venvs/`. The
interpreter that runs this script is left out: it has the whole suite already.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts import interpreters

ROOT = Path(__file__).parent.parent
TESTS = ("tests/native", "tests/lifecycle", "tests/asyncio", "tests/meetings", "tests/conformance")
OLDEST, NEWEST = 11, 15
FIRST_FREE_THREADED = 14

PROBE = """
import ensurepip, json, sys, sysconfig, venv
free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
print(json.dumps([sys.implementation.name, *sys.version_info[:2], free_threaded]))
"""


@dataclass(frozen=True)
class Build:
    """What a wheel is made for: one version of CPython, with the GIL or without."""

    minor: int
    free_threaded: bool

    def __str__(self) -> str:
        return f"3.{self.minor}{'t' if self.free_threaded else ''}"


def main() -> int:
    """Tests each interpreter in turn and prints one line of result for it.

    Returns:
        The exit status: 0 when all passed, or when there is no other interpreter.
    """
    own = probe(sys.executable)
    found: dict[Build, str] = {}
    for program in candidates():
        build = probe(program)
        if build and build != own:
            found.setdefault(build, program)
    if not found:
        print(f"no other CPython from 3.{OLDEST} to 3.{NEWEST} found")
        return 0
    results = {str(build): tested(str(build), program) for build, program in found.items()}
    print()
    for version, passed in results.items():
        print(f"Python {version}: {'passed' if passed else 'FAILED'}")
    return int(not all(results.values()))


def candidates() -> Iterator[str]:
    """Programs that may be an interpreter worth testing."""
    for minor in range(OLDEST, NEWEST + 1):
        for suffix in ("", "t"):
            program = shutil.which(f"python3.{minor}{suffix}")
            if program:
                yield program
    for path in sorted(Path.home().glob(".pyenv/versions/*/bin/python")):
        yield str(path)
    for path in interpreters.programs():
        yield str(path)


def probe(program: str) -> Build | None:
    """Asks a program which build it is; None when it is of no use here.

    That is one that does not start (a shim without its version), another implementation, a version
    out of range, or one that cannot make virtual environments.
    """
    done = subprocess.run([program, "-c", PROBE], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    name, major, minor, free_threaded = json.loads(done.stdout)
    oldest = FIRST_FREE_THREADED if free_threaded else OLDEST
    supported = name == "cpython" and major == 3 and oldest <= minor <= NEWEST
    return Build(minor, free_threaded) if supported else None


def tested(version: str, program: str) -> bool:
    """Builds and installs a wheel for one interpreter and runs the tests on it."""
    print(f"\n-- Python {version} ({program})", flush=True)
    home = ROOT / ".venvs" / version
    python = home / "bin" / "python"
    wheels = home / "dist"
    # PyO3 is built anew whenever the interpreter changes, so each has its own target folder.
    environment = {**os.environ, "CARGO_TARGET_DIR": str(home / "target")}
    environment.pop("PYO3_PYTHON", None)
    maturin = [sys.executable, "-m", "maturin", "build", "--release", "--locked", "--quiet"]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--upgrade"]
    try:
        if not python.exists():
            run([program, "-m", "venv", str(home)])
        run([*pip, "pip"])
        run([*pip, "--group", "test"])
        # Not there for every Python: the tests that miss a library skip themselves.
        subprocess.run([*pip, "--group", "meetings"], cwd=ROOT, check=False)
        shutil.rmtree(wheels, ignore_errors=True)
        run([*maturin, "--out", str(wheels), "--interpreter", str(python)], environment)
        run([*pip, "--force-reinstall", "--no-deps", *map(str, wheels.glob("*.whl"))])
        run([str(python), "-m", "pytest", *TESTS])
    except subprocess.CalledProcessError:
        return False
    return True


def run(command: list[str], environment: dict[str, str] | None = None) -> None:
    """Runs one step in the root of the tree; its output is the user's to read."""
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    sys.exit(main())
