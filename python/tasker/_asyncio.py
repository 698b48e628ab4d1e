"""The part of the package that needs asyncio; imported on first use, for it takes long to import.

Native code settles the futures made here, on the thread of their loop, many with one wake-up.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tasker import _tasker, _threads
from tasker._future import Future
from tasker._tasker import Context, _abandon_starts_with, _once

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
N = TypeVar("N", bound="_tasker.Runner[Any]")
"""The class of a runner."""


@_once
class Promise(asyncio.Future[T]):
    """An asyncio future that gets the outcome of a task; made by native code alone."""

    __slots__ = ("_task",)

    _task: Future[T]

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancels the task if it has not started, else its context; in any case this future.

        Args:
            msg: Goes to the `CancelledError` of whoever awaits this.

        Returns:
            Whether this future was pending.
        """
        if not self.done():
            self._task.request_cancel("the asyncio future of the task was cancelled")
        return super().cancel(msg)

    def abandon(self) -> None:
        """Cancels the task if it has not started, or ends its wait for a retry; lets it run on."""
        self._task._abandon()
        if not super().cancel() and not self.cancelled():
            # asyncio reports an error that no caller has looked at.
            self.exception()


async def off_loop(call: Callable[[], T], name: str) -> T:
    """Waits for a blocking call on a thread of its own, which goes on when this is cancelled.

    Args:
        call: What to call.
        name: The name of the thread.
    """
    return await _begin(call, name)


async def start_runner(make: Callable[[], N], name: str) -> N:
    """Makes a runner on a thread of its own; cancelled, it leaves nothing of it behind.

    Args:
        make: Makes it.
        name: The name of the thread.
    """
    abandon = Context()

    def make_unless_abandoned() -> N:
        _abandon_starts_with(abandon)
        return make()

    future = _begin(make_unless_abandoned, name)
    try:
        return await future
    except BaseException:
        abandon.cancel("the start was cancelled")
        # It may have been complete just then.
        future.add_done_callback(partial(_kill_runner, name=name))
        raise
    finally:
        # The traceback of an error keeps this frame, which must not lead back to the error.
        del future


def _kill_runner(future: Future[N], name: str) -> None:
    if future.exception() is None:
        # Not here: this may be the thread of the loop.
        _threads.run_once(future.result().kill, name)


def _begin(call: Callable[[], T], name: str) -> Future[T]:
    # First of all: nothing is begun that could not be awaited.
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        message = (
            "this works in asyncio only; elsewhere make the call that blocks "
            "with anyio.to_thread.run_sync"
        )
        raise RuntimeError(message) from None
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    _threads.start(partial(_settle, future, call), name, partial(_give_up, future, name))
    return future


def _give_up(future: Future[Any], name: str) -> None:
    if not future.done():
        message = f"the thread {name!r} ended before it began to work"
        future.set_exception(RuntimeError(message))


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    try:
        result = call()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
    finally:
        # As in `start_runner`.
        del future
