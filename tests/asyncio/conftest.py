"""Fixtures for tests with event loops: each runs on every kind there is."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from tests.asyncio.support import LOOPS, Run, new_loop

T = TypeVar("T")


@pytest.fixture(params=LOOPS)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of loop."""
    return str(request.param)


@pytest.fixture
def run(kind: str) -> Run:
    """Runs a coroutine in a new loop of that kind; what the loop complains of fails the test."""

    def run(main: Coroutine[Any, Any, T], /) -> T:
        complaints: list[dict[str, Any]] = []
        with asyncio.Runner(loop_factory=lambda: new_loop(kind)) as runner:
            loop = runner.get_loop()
            loop.set_exception_handler(lambda _, context: complaints.append(context))
            result = runner.run(main)
        assert complaints == []
        return result

    return run
