"""Fixtures for the tests of real servers: the PostgreSQL server, and what was measured with it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration import requirements

if TYPE_CHECKING:
    from tests.integration.postgresql import Server

FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server. A test may leave it stopped."""
    from tests.integration.postgresql import Server  # not everybody has psycopg

    # Not under pytest's own folder: nobody but its owner may enter that.
    with tempfile.TemporaryDirectory(prefix="tasker-", ignore_cleanup_errors=True) as home:
        server = Server(requirements.programs(), Path(home), requirements.user())
        server.start()
        yield server
        if server.is_running:
            server.stop()


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Has a line printed at the end of the run, though the test passes."""
    lines = request.config.stash.setdefault(FIGURES, [])
    return lambda line: lines.append(f"{request.node.name}: {line}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Prints what was noted."""
    lines = config.stash.get(FIGURES, [])
    if lines:
        terminalreporter.section("measured on real servers")
        for line in lines:
            terminalreporter.write_line(line)
