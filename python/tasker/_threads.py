"""Starts OS threads for native code, whatever was done to `threading`."""

from __future__ import annotations

import contextvars
import sys
import threading
import traceback
from itertools import dropwhile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

# Others may put a class of their own in its place, and then each thread is waited for.
_Event = threading.Event


def start(target: Callable[[], object], name: str) -> threading.Thread | _Bare:
    """Starts a daemon thread in an empty `contextvars` context.

    Args:
        target: What it runs.
        name: Its name.

    Raises:
        RuntimeError: The system or the interpreter refuses a thread.
    """
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return _Bare(target, name, monkey)
    # Until 3.13 a new thread begins in an empty context by itself.
    arguments: dict[str, Any] = (
        {"context": contextvars.Context()} if sys.version_info >= (3, 14) else {}
    )
    thread = threading.Thread(target=target, name=name, daemon=True, **arguments)
    # `start` waits until the thread has come up, a change of threads for each. Whoever starts many
    # waits for all of them at once, by their first act.
    started = getattr(thread, "_started", None)
    if type(started) is _Event:
        started.__class__ = _Unwaited
    thread.start()
    return thread


def join(thread: threading.Thread | _Bare) -> None:
    """Waits until a thread from `start` has ended, even if it has yet to come up."""
    started = getattr(thread, "_started", None)
    if isinstance(started, _Unwaited):
        started.wait_indeed()
    thread.join()


def stacks(threads: Iterable[threading.Thread | _Bare]) -> dict[str, tuple[str, ...]]:
    """Looks where threads are now, by name, as `traceback.format_stack` gives it."""
    frames = sys._current_frames()
    named = ((thread.name, frames.get(thread.ident or 0)) for thread in threads)
    return {name: _format(frame) for name, frame in named if frame}


def _format(frame: FrameType) -> tuple[str, ...]:
    summary = traceback.extract_stack(frame)
    # Every thread begins with the same few calls, which say nothing.
    own = dropwhile(lambda call: call.filename == threading.__file__, summary)
    return tuple(traceback.format_list(list(own)))


class _Unwaited(_Event):
    """A thread's mark of having started, which `Thread.start` does not wait for."""

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        return True

    def wait_indeed(self) -> None:
        super().wait()


class _Bare:
    """A real thread where gevent has turned `threading.Thread` into a greenlet."""

    def __init__(self, target: Callable[[], object], name: str, monkey: Any) -> None:
        self.name = name
        self.ident: int | None = None
        self._get_ident = monkey.get_original("_thread", "get_ident")
        self._ended = monkey.get_original("_thread", "allocate_lock")()
        self._ended.acquire()
        self._target = target
        monkey.get_original("_thread", "start_new_thread")(self._run, ())

    def _run(self) -> None:
        self.ident = self._get_ident()
        try:
            self._target()
        finally:
            self._ended.release()

    def is_alive(self) -> bool:
        return bool(self._ended.locked())

    def join(self, timeout: float | None = None) -> None:
        if self._ended.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
            self._ended.release()
