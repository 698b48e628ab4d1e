"""What the tests of servers and drivers need, and why they are skipped when it is not there.

With `TASKER_REQUIRE` set no such skip is let through: `tests/required.py`.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest


class Missing(Exception):
    """Says what is missing."""


def programs() -> Path:
    """Finds the folder of the server's programs: of those on PATH, else of Debian's newest."""
    on_path = shutil.which("initdb")
    # What is on PATH may be a link, with no link to the server beside it.
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda folder: float(folder.parent.name),
        reverse=True,
    )
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise Missing("no initdb on PATH or in /usr/lib/postgresql (Debian package postgresql)")


def user() -> str | None:
    """Names whom to run the server as, which refuses root; None: whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    import pwd

    names = {entry.pw_name for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in names:
            return name
    raise Missing("the server refuses root, and there is no user postgres or nobody")


def library(name: str) -> Any:
    """Imports a library; without it the test is skipped."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"no {name}: {error}")


def missing() -> str | None:
    """Says what is missing, if anything is."""
    try:
        if sys.platform == "win32":
            raise Missing("its start and stop are written for POSIX")
        programs()
        user()
        try:
            importlib.import_module("psycopg")
        except ImportError as error:
            raise Missing(f"no psycopg: {error}") from None
    except Missing as reason:
        return f"no PostgreSQL: {reason}"
    return None
