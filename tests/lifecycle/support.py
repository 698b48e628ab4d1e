"""Runs programs in interpreters of their own, which have to end well.

A program is a function inside a test, so that it is checked like all other code. What is run is its
body, as a module: its variables live until the interpreter has ended. It sees none of the test's
variables; it has the names of `PRELUDE` instead.
"""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIMIT = 30.0
"""Seconds after which a program is taken to hang."""

PRELUDE = """
import atexit, contextlib, gc, importlib.util, logging, os, signal, sys, threading, time, warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from tasker import *
from tests.lifecycle.child import *
"""

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals and fork of POSIX")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def run(program: Callable[[], None], *arguments: str, options: Sequence[str] = ()) -> list[str]:
    """Runs a program; it has to exit with status 0 and nothing on standard error.

    Args:
        program: A function that uses nothing but its own names and those of `PRELUDE`.
        *arguments: Its `sys.argv[1:]`.
        options: Further options of the interpreter.

    Returns:
        The lines that it printed.
    """
    output, errors = run_aloud(program, *arguments, options=options)
    assert not errors, errors
    return output


def run_aloud(
    program: Callable[[], None],
    *arguments: str,
    options: Sequence[str] = (),
    status: int = 0,
) -> tuple[list[str], str]:
    """Runs a program that may write to standard error, as `run` does.

    Returns:
        The lines that it printed, and its standard error.
    """
    _, _, body = inspect.getsource(program).partition("\n")
    text = PRELUDE + textwrap.dedent(body)
    # A warning is an error; one in a destructor shows on standard error.
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-W",
        "error",
        *options,
        "-c",
        text,
        *arguments,
    ]
    pipe = subprocess.PIPE
    # In a group of its own, so that the children that it forks end with it.
    child = subprocess.Popen(
        command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    try:
        output, errors = child.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        # Has each interpreter print what its threads are doing.
        os.killpg(child.pid, signal.SIGABRT)
        output, errors = child.communicate()
        pytest.fail(f"the program hangs\n{output}\n{errors}")
    assert child.returncode == status, f"status {child.returncode}\n{output}\n{errors}"
    return output.splitlines(), errors
