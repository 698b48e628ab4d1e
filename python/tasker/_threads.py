"""Starts OS threads for native code, whatever was done to `threading`."""

from __future__ import annotations

import contextvars
import sys
import threading
import traceback
import weakref
from itertools import dropwhile
from typing import TYPE_CHECKING, Any

from tasker._tasker import _ThreadBootstrap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Other libraries may put a class of their own in its place, and then each thread is waited for.
_Event = threading.Event


def start(
    target: Callable[[], object], name: str, ended: Callable[[], object]
) -> threading.Thread | _UnpatchedThread:
    """Starts a daemon thread in an empty `contextvars` context.

    What others have put around `Thread.start` reads an empty context too: a tracer that carries the
    context of the caller over to the thread finds nothing that would live as long as the thread.

    Args:
        target: What it runs.
        name: Its name.
        ended: Called on the thread as its last act. What others have put around `Thread.run`, or a
            profile function, may have raised before *target* was called: this is where that shows.

    Raises:
        RuntimeError: The system or the interpreter refuses a thread.
    """
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return _UnpatchedThread(target, name, monkey)
    # Until 3.13 a new thread begins in an empty context by itself.
    arguments: dict[str, Any] = (
        {"context": contextvars.Context()} if sys.version_info >= (3, 14) else {}
    )
    thread: Any = threading.Thread(target=target, name=name, daemon=True, **arguments)
    # `start` waits until the thread has come up, a change of threads for each. A caller that starts
    # many waits for all of them at once, by their first act.
    started = getattr(thread, "_started", None)
    if type(started) is _Event:
        started.__class__ = _NoWaitEvent

    def over() -> None:
        # Where `_bootstrap_inner` raised early, it did not say that the thread has started, and
        # `join` would wait for that for ever.
        if isinstance(started, _NoWaitEvent) and not started.is_set():
            started.is_void = True
            started.set()
            _forget(thread)
        ended()

    # The first thing that the new thread calls, which `start` looks up in the object.
    thread._bootstrap = _ThreadBootstrap(thread._bootstrap, over)
    first_call = weakref.ref(thread._bootstrap)
    try:
        try:
            contextvars.Context().run(thread.start)
        finally:
            del thread._bootstrap
    except BaseException:
        # An interrupt before the OS thread was started leaves the name in the list of those that
        # come up. A thread that was started holds what it calls, or has an ident by now.
        if thread.ident is None and first_call() is None:
            _forget(thread)
        raise
    return thread  # type: ignore[no-any-return]


def run_once(call: Callable[[], object], name: str) -> None:
    """Makes a call on a thread of its own, whatever becomes of `Thread.run` there.

    Args:
        call: What to call.
        name: The name of the thread.

    Raises:
        RuntimeError: As for `start`.
    """
    calls = [call]

    def run() -> None:
        if calls:
            calls.pop()()

    start(run, name, run)


def _forget(thread: threading.Thread) -> None:
    """Takes a thread that never came up out of `threading.enumerate()`."""
    inside: Any = threading
    with inside._active_limbo_lock:
        inside._limbo.pop(thread, None)


def forget_this_thread() -> None:
    """Takes this thread out of `threading.enumerate()`, where its own life is over.

    A callback that asked for the current thread has had it listed again, as one from elsewhere.
    """
    inside: Any = threading
    with inside._active_limbo_lock:
        inside._active.pop(threading.get_ident(), None)


def join(thread: threading.Thread | _UnpatchedThread) -> None:
    """Waits until a thread from `start` has ended, even if it has yet to come up."""
    started = getattr(thread, "_started", None)
    if isinstance(started, _NoWaitEvent):
        started.wait_until_set()
        if started.is_void:
            return
    thread.join()


def format_calls(calls: Sequence[tuple[str, int, str]]) -> tuple[str, ...]:
    """Writes a stack as `traceback.format_stack` does.

    Args:
        calls: File, line and name of each, the innermost first.
    """
    # Every thread begins with the same few calls, which say nothing.
    own = list(dropwhile(lambda call: call[0] == threading.__file__, reversed(calls)))
    try:
        return tuple(traceback.format_list([(*call, None) for call in own]))
    except Exception:
        # Tools replace `linecache`, a loader may raise anything, and a file may have no name that
        # the system takes. The caller of `stop` gets the stack without its source all the same.
        return tuple(traceback.format_list([(*call, "") for call in own]))


class _NoWaitEvent(_Event):
    """The event that a thread has started, which `Thread.start` does not wait for."""

    is_void = False
    """The thread ended without having started as far as `threading` knows: it cannot be joined."""

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        return True

    def wait_until_set(self) -> None:
        super().wait()


class _UnpatchedThread:
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
