"""What the tests of servers and drivers need, and what is said when it is not there."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

REQUIRED = "TASKER_REQUIRE_POSTGRESQL"
"""With this environment variable set, a missing server or driver is an error."""


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
    """Imports a library; without it the test is skipped.

    Raises:
        Missing: It is not there, and `REQUIRED` is set.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        do_without(f"no {name}: {error}")


def do_without(what: str) -> NoReturn:
    """Skips a test for which something is missing.

    Raises:
        Missing: `REQUIRED` is set.
    """
    if REQUIRED in os.environ:
        raise Missing(what)
    pytest.skip(what)


def missing() -> str | None:
    """Says what is missing, if anything is.

    Raises:
        Missing: Something is, and `REQUIRED` is set.
    """
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
        if REQUIRED in os.environ:
            raise
        return f"no PostgreSQL: {reason}"
    return None
