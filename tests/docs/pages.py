"""Pages of the documentation as programs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN, COMPILE = "```python", "```python no-run"
FENCES = {RUN, COMPILE, "```sh", "```text", "```go", "```pycon", "```"}

LATE = "runs a task that outlived its time limit, and max_worker_count leaves no room"


def name_of(page: Path) -> str:
    """Names a page as its readers would."""
    return page.relative_to(ROOT).as_posix()


def code_in(page: Path, fence: str) -> str:
    """Returns the page with all but its code blanked, so that line numbers stay true."""
    lines, inside = [], False
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("```"):
            assert line in FENCES, f"{name_of(page)}: unknown kind of block {line!r}"
            inside = line == fence
            lines.append("")
        else:
            lines.append(line if inside else "")
    return "\n".join(lines)


def blocks_in(page: Path, fence: str) -> list[str]:
    """Returns the page's blocks of one kind, each for itself."""
    found = re.findall(
        rf"^{re.escape(fence)}\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return [str(block) for block in found]


def said_in(code: str) -> list[str]:
    """Returns what a page says that it prints."""
    return re.findall(r"#> (.*)", code)


def run(
    *arguments: str | Path, cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a program as a reader would, with every warning shown."""
    command = [sys.executable, "-W", "default", *arguments]
    variables = {**os.environ, **(environment or {})}
    return subprocess.run(
        command, cwd=cwd, timeout=120, capture_output=True, text=True, env=variables
    )


def check(page: Path, folder: Path, environment: Mapping[str, str] | None = None) -> None:
    """Runs a page and compares what it prints with what it says."""
    script = folder / f"{page.stem}.md.py"
    script.write_text(code_in(page, RUN), "utf-8")
    result = run(script, cwd=folder, environment=environment)
    # How soon a task leaves that is interrupted depends on the machine.
    told = [line for line in result.stderr.splitlines() if LATE not in line]
    assert (result.returncode, told) == (0, []), result.stdout + result.stderr
    assert result.stdout.splitlines() == said_in(script.read_text("utf-8"))
