"""How the standard class's own `submit` queues on an executor of ours, where a wrapper calls it."""

from __future__ import annotations

import concurrent.futures.thread
import threading
from types import FunctionType
from typing import TYPE_CHECKING, Any

from tasker._tasker import _once

if TYPE_CHECKING:
    from tasker._future import Future
    from tasker._tasker import Executor


def _standard_class() -> type[Any]:
    module = concurrent.futures.thread
    # Other libraries put a class of their own in its place, as a rule a subclass.
    for cls in module.ThreadPoolExecutor.__mro__:
        if (cls.__module__, cls.__name__) == (module.__name__, "ThreadPoolExecutor"):
            return cls
    return module.ThreadPoolExecutor


STANDARD = _standard_class()
"""The standard class, for native code to look at its `submit`."""
# Of the same file, and hardly worth replacing.
_FILE: str = concurrent.futures.thread._python_exit.__code__.co_filename


def is_own(entry: object) -> bool:
    """Tells whether an entry of the standard class is CPython's own `submit`.

    Args:
        entry: What stands in the class's dictionary.
    """
    # Exactly: a proxy says that it is a function, too.
    if type(entry) is not FunctionType:
        return False
    code = entry.__code__
    # Code that replaces a function's own in place keeps its names, and does something else.
    return (code.co_filename, code.co_name) == (_FILE, "submit") and (
        "_adjust_thread_count" in code.co_names
    )


class _HeldLocks(threading.local):
    """The locks that this thread holds, the innermost last."""

    def __init__(self) -> None:
        self.locks: list[ShutdownLock] = []


_held = _HeldLocks()


class ShutdownLock:
    """Stands for the lock under which the standard body queues a call.

    It excludes no thread: native queueing needs no lock. What is put while it is held is queued
    when it is released, for the body holds a lock of the whole module besides, and a thread with
    that one must not wait for room in a queue.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self._items: list[Any] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Raises what `submit` would raise, if the executor accepts nothing."""
        del blocking, timeout
        self.executor._check_open()
        _held.locks.append(self)
        return True

    def release(self) -> None:
        """Queues what was put meanwhile."""
        lock = _release(self.executor)
        if lock is None:
            message = "release unlocked lock"
            raise RuntimeError(message)
        for item in lock._items:
            _queue(lock.executor, item)

    def put(self, item: Any) -> None:
        """Takes an item that is queued when this lock is released."""
        self._items.append(item)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind is None:
            self.release()
        else:
            # The caller is told that nothing was submitted.
            _release(self.executor)


def _innermost(executor: Executor) -> ShutdownLock | None:
    of_it = (lock for lock in reversed(_held.locks) if lock.executor is executor)
    return next(of_it, None)


def _release(executor: Executor) -> ShutdownLock | None:
    lock = _innermost(executor)
    if lock is not None:
        _held.locks.remove(lock)
    return lock


class WaitingTasks:
    """Stands for the queue of the standard class: tells how much waits, and takes work items."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def qsize(self) -> int:
        """How many tasks wait, more or less."""
        return self._executor._waiting()

    def empty(self) -> bool:
        """Whether none seems to wait."""
        return self.qsize() == 0

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Queues a work item of the standard class.

        Args:
            item: What the standard `submit` makes. `None`, which wakes a standard worker, is
                not needed and ignored.
            block: Not used.
            timeout: Not used.
        """
        del block, timeout
        if item is None:
            return
        lock = _innermost(self._executor)
        if lock is None:
            _queue(self._executor, item)
        else:
            lock.put(item)

    def __getattr__(self, name: str) -> Any:
        message = (
            f"the queue of a tasker executor has no {name!r}: its tasks wait in native code, where "
            f"shutdown(cancel_futures=True) cancels them and Config(max_queue_size=...) bounds them"
        )
        raise AttributeError(message, name=name, obj=self)


def _queue(executor: Executor, item: Any) -> None:
    """Queues a work item, and links the future in it to that of the task."""
    # From Python 3.14 on an item has what `_resolve_work_item_task` made of the three.
    fn, args, kwargs = item.task if hasattr(item, "task") else (item.fn, item.args, item.kwargs)
    task = executor._queue(fn, tuple(args), dict(kwargs))
    link = FutureLink(task, item.future)
    item.future.cancel = link.cancel
    item.future.running = link.running
    item.future._tasker = link
    link.attributes = len(vars(item.future))
    task.add_done_callback(link.settle)


@_once
class FutureLink:
    """Ties the future of the standard body to the future of its task.

    The standard one is settled as the task is, and cancels it. Where nobody has done anything with
    it the caller gets the task's own instead.
    """

    def __init__(self, task: Future[Any], future: concurrent.futures.Future[Any]) -> None:
        self.task = task
        self.attributes = 0
        # `None` while it is loose, and when it is settled.
        self._future: concurrent.futures.Future[Any] | None = future
        self._is_over = False
        self._lock = threading.Lock()

    def cancel(self) -> bool:
        """Cancels the task, if it has never started."""
        return self.task.cancel()

    def running(self) -> bool:
        """Whether the task runs."""
        return self.task.running()

    def settle(self, task: Future[Any]) -> None:
        """Gives the standard future the task's outcome."""
        with self._lock:
            self._is_over = True
            future, self._future = self._future, None
        if future is not None:
            _copy_outcome(task, future)

    def is_untouched(self, future: concurrent.futures.Future[Any]) -> bool:
        """Whether nothing hangs on the standard future, and nobody has settled it by hand."""
        with self._lock:
            settled_by_hand = future.done() and self._future is not None
        attributes = vars(future)
        hangs = attributes["_done_callbacks"] or attributes["_waiters"]
        return not settled_by_hand and not hangs and len(attributes) == self.attributes

    def loosen(self) -> None:
        """Lets go of the standard future."""
        with self._lock:
            self._future = None

    def tie(self, future: concurrent.futures.Future[Any]) -> None:
        """Holds on to the standard future again; it may be that the task is over meanwhile."""
        with self._lock:
            if not self._is_over:
                self._future = future
                return
        if not future.done():
            _copy_outcome(self.task, future)


def loosen(result: object) -> FutureLink | None:
    """Lets go of the standard body's future, if a wrapper returned one that nobody has touched.

    Args:
        result: What the wrapper returned.

    Returns:
        Its link, by which it can be tied again; `None` for everything else.
    """
    link = getattr(result, "__dict__", {}).get("_tasker")
    if not isinstance(link, FutureLink) or not isinstance(result, concurrent.futures.Future):
        return None
    if not link.is_untouched(result):
        return None
    link.loosen()
    return link


def _copy_outcome(task: Future[Any], future: concurrent.futures.Future[Any]) -> None:
    if task.cancelled():
        type(future).cancel(future)
        future.set_running_or_notify_cancel()
    elif (error := task.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(task.result())
