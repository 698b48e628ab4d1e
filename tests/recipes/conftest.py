"""Fixtures for the recipes: the servers and programs that their pages talk to."""

from __future__ import annotations

import importlib.util
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.integration import requirements
from tests.integration.conftest import server

if TYPE_CHECKING:
    from tests.integration.postgresql import Server

__all__ = ["server"]


def need(found: object, what: str) -> None:
    """Skips a test for want of something."""
    if not found:
        pytest.skip(what)


def need_modules(*names: str) -> None:
    """Skips a test for want of a module."""
    for name in names:
        need(importlib.util.find_spec(name), f"no {name} in this environment")


@pytest.fixture
def postgresql(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment in which `dbname=app` is a database of a running server."""
    missing = requirements.missing()
    need(missing is None, missing or "")
    import psycopg

    server: Server = request.getfixturevalue("server")
    if not server.is_running:
        server.start()
    if not server.ask("select 1 from pg_database where datname = 'app'"):
        server.ask("create database app")
    settings = psycopg.conninfo.conninfo_to_dict(server.conninfo)
    return {
        "PGHOST": str(settings["host"]),
        "PGPORT": str(settings["port"]),
        "PGUSER": str(settings["user"]),
    }


@pytest.fixture
def chromium() -> dict[str, str]:
    """The environment in which the distribution's Chromium is used."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    need(path, "no Chromium (Debian package chromium)")
    return {"CHROMIUM": str(path)}
