"""What the tests with event loops need beyond what all tests of the package do."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from tests.native.support import LONG_TIMEOUT, eventually

T = TypeVar("T")

LOOPS = ["asyncio"] if sys.platform == "win32" else ["asyncio", "uvloop"]
"""The kinds of event loops there are."""


class Run(Protocol):
    """Runs a coroutine in a new loop of some kind."""

    def __call__(self, main: Coroutine[Any, Any, T], /) -> T: ...


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    """Makes an event loop of a kind."""
    if kind == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


async def until(predicate: Callable[[], object]) -> None:
    """`eventually`, for coroutines."""
    await asyncio.to_thread(eventually, predicate)


class Held:
    """A task that listens to its context: it runs until it is told to give up."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.ended = threading.Event()
        self.reason: str | None = None

    def run(self, _resource: object) -> None:
        from tasker import current_context

        self.started.set()
        context = current_context()
        assert context.wait(LONG_TIMEOUT), "nobody told it"
        self.reason = context.reason
        self.ended.set()
