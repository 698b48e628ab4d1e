"""The handle of a submitted task: a standard future with a native heart, awaitable in asyncio."""

from __future__ import annotations

import concurrent.futures
from types import GenericAlias
from typing import TYPE_CHECKING, Any, TypeVar

from tasker import _tasker

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")

if TYPE_CHECKING:
    from tasker._tasker import Future as _Native
else:
    # The native class is generic in its stub alone.
    _Native = GenericAlias(_tasker.Future, T)


class Future(_Native[T], concurrent.futures.Future[T]):
    """The outcome of a task, now or later.

    It is a `concurrent.futures.Future` in every respect: `wait`, `as_completed` and
    `asyncio.wrap_future` take it. Beyond that it has `request_cancel`, and in asyncio it can be
    awaited. Runners make futures; all methods may be called from any thread.

    Cancelling a task that awaits the future cancels the future: a queued task never runs, one
    that is running has its context cancelled. Await `asyncio.shield(future)` where that is not
    wanted.

    Example:
        >>> from tasker import Config, Runner
        >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
        ...     future = runner.submit(lambda cache: len(cache))
        ...     future.result(timeout=5)
        0
    """

    def __await__(self) -> Generator[Any, None, T]:
        """Waits in asyncio without blocking the loop, and returns the task's result.

        Raises:
            RuntimeError: No asyncio loop is running in this thread.
            BaseException: What the task raised.
        """
        # Not at the top: most programs never need it, and it takes as long as all else together.
        import asyncio  # noqa: PLC0415

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            message = (
                "a tasker.Future can be awaited in asyncio only; "
                "elsewhere use anyio.to_thread.run_sync(future.result)"
            )
            raise RuntimeError(message) from None
        try:
            return (yield from asyncio.wrap_future(self, loop=loop))
        except asyncio.CancelledError:
            # The standard link between the two futures cannot reach a task that is running.
            self.request_cancel("the task that awaited it was cancelled")
            raise
        finally:
            # The traceback of an error keeps this frame, which must not lead back to the error.
            del self
