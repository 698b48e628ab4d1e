"""The handle of a submitted task: a standard future with a native heart, awaitable in asyncio."""

from __future__ import annotations

import concurrent.futures
from types import GenericAlias
from typing import TYPE_CHECKING, TypeVar

from tasker import _tasker
from tasker._public import publish
from tasker._tasker import _once

T = TypeVar("T")

if TYPE_CHECKING:
    from tasker._tasker import Future as _Native
else:
    # The native class is generic in its stub alone.
    _Native = GenericAlias(_tasker.Future, T)


@_once
class Future(_Native[T], concurrent.futures.Future[T]):
    """The outcome of a task, now or later.

    It is a `concurrent.futures.Future` in every respect: `wait`, `as_completed` and
    `asyncio.wrap_future` take it. Beyond that it has `request_cancel`, and in asyncio it can be
    awaited. Runners make futures; all methods may be called from any thread.

    Cancelling a coroutine that awaits the future cancels the future: a queued task never runs, one
    that is running has its context cancelled. Await `asyncio.shield(future)` where that is not
    wanted. In other event loops awaiting raises `RuntimeError`.

    A coroutine that a task runs, as by `asyncio.run`, waits for another worker of the same runner:
    where none is left it waits for ever, while `result` runs the task in its place.

    Example:
        >>> from tasker import Config, Runner
        >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
        ...     future = runner.submit(lambda cache: len(cache))
        ...     future.result(timeout=5)
        0
    """


publish(globals(), ["Future"])
