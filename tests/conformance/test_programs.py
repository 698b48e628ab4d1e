"""Programs written for the standard library's pool do the same on ours, but for one import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).with_name("programs")
STANDARD = "from concurrent.futures import ThreadPoolExecutor\n"
OURS = "from tasker import ThreadPoolExecutor\n"


def output_of(program: str) -> str:
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("path", sorted(PROGRAMS.glob("*.py")), ids=lambda path: path.stem)
def test_a_program_does_the_same_with_the_other_import(path: Path) -> None:
    program = path.read_text(encoding="utf-8")
    assert program.count(STANDARD) == 1
    output = output_of(program.replace(STANDARD, OURS))
    assert output
    assert output == output_of(program)
