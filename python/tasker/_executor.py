"""The standard library's thread pool on our engine, and the same face over a runner."""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import logging
import os
import threading
import time
import warnings
import weakref
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from tasker import _tasker
from tasker._checks import standard_deadline
from tasker._public import publish, publish_methods
from tasker._standard import ShutdownLock, WaitingTasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tasker._future import Future

T = TypeVar("T")
P = ParamSpec("P")

_LOGGER = logging.getLogger("concurrent.futures")
_numbers = itertools.count()


class _Executor(_tasker.Executor, concurrent.futures.ThreadPoolExecutor):
    """What both executors share: the standard class in name, and nothing of it at work."""

    _max_workers: int

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Calls *fn* with the items of the input, and gives the results in order.

        The calls are submitted at once, all of them or the first *buffersize*, before the first
        result is asked for. A call that fails raises at its place. Whatever ends the iteration
        early cancels the calls that have not started.

        Args:
            fn: Called as `fn(item)`, or with one item of each input.
            *iterables: The inputs; the shortest ends the calls.
            timeout: Seconds from now until the last result. `None`: no limit.
            chunksize: Not used; pools of processes have it.
            buffersize: How many calls may be submitted beyond the results handed out, at least 1,
                so that the input may be endless. `None`: the whole input is read at once. The
                standard library has it from Python 3.14 on.

        Returns:
            An iterator.

        Raises:
            TimeoutError: From the iterator: a result did not come in time.
            TypeError: *buffersize* is no int.
            ValueError: *buffersize* is less than 1.

        Example:
            >>> from tasker import ThreadPoolExecutor
            >>> with ThreadPoolExecutor() as executor:
            ...     list(executor.map(pow, [2, 3], [5, 2]))
            [32, 9]
        """
        del chunksize
        if buffersize is not None:
            _check_buffersize(buffersize)
        limit = standard_deadline(timeout)
        end = None if limit is None else time.monotonic() + limit
        items = zip(*iterables, strict=False)
        in_flight = deque(self.submit(fn, *item) for item in islice(items, buffersize))
        # The results do not keep the executor alive.
        rest = None if buffersize is None else _RemainingCalls(weakref.ref(self), fn, items)
        return _results(in_flight, rest, end)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "_adjust_thread_count" in vars(cls):
            message = (
                f"{cls.__qualname__} overrides _adjust_thread_count, which decides nothing here: "
                f"native code starts the workers, which are daemon threads"
            )
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    if not TYPE_CHECKING:
        # What other libraries look at in the standard class, where most of these are variables, and
        # what its own `submit` needs where a wrapper calls it.

        _initializer = None
        _initargs = ()

        @property
        def _threads(self) -> set[threading.Thread]:
            return set(self._workers())

        @property
        def _work_queue(self) -> WaitingTasks:
            return WaitingTasks(self)

        @_work_queue.setter
        def _work_queue(self, value: object) -> None:
            message = (
                f"a tasker executor queues in native code and takes no other _work_queue, such as "
                f"{value!r}; for a bound use Runner(Config(max_queue_size=...)).executor()"
            )
            raise AttributeError(message, name="_work_queue", obj=self)

        @property
        def _shutdown(self) -> bool:
            return self._is_closed()

        @property
        def _broken(self) -> bool:
            return self._is_broken()

        @property
        def _shutdown_lock(self) -> ShutdownLock:
            return ShutdownLock(self)

        def _adjust_thread_count(self) -> None:
            """Does nothing: workers are started where tasks are queued."""

        @staticmethod
        def _resolve_work_item_task(
            fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
            return fn, args, kwargs


publish_methods("ThreadPoolExecutor", _Executor)


class ThreadPoolExecutor(_Executor):
    """A drop-in replacement for `concurrent.futures.ThreadPoolExecutor`, and a subclass of it.

    It keeps the promises of the standard class of the running interpreter: a worker is started when
    a call finds none idle; an initializer that fails breaks the pool; what was submitted is
    finished before the interpreter exits; an executor that is dropped ends its workers. Its futures
    are `tasker.Future` objects, which asyncio code can await. A call that waits without a limit for
    another of the same executor that has not started runs that one itself, where the standard
    pool may wait for ever. Failing hooks and callbacks are logged to the standard library's logger
    `concurrent.futures`.

    Leaving its `with` block shuts it down and waits. All methods may be called from any thread.

    Args:
        max_workers: Most threads it may use. `None`: as many as the standard class takes, which
            depends on the number of processors.
        thread_name_prefix: The names of its threads begin with it. Empty: `ThreadPoolExecutor-N`.
        initializer: Called on each worker's thread before its first task. When it raises, what
            waits fails and submitting raises `concurrent.futures.thread.BrokenThreadPool`.
        initargs: Arguments for *initializer*.
        finalizer: Called without arguments on each worker's thread when it ends, if its
            initializer has succeeded. What it raises is logged. The standard class has no such
            thing.

    Raises:
        ValueError: *max_workers* is less than 1.
        TypeError: *initializer* or *finalizer* cannot be called.

    Example:
        >>> from tasker import ThreadPoolExecutor
        >>> with ThreadPoolExecutor(max_workers=4) as executor:
        ...     future = executor.submit(pow, 2, 10)
        ...     future.result()
        1024
    """

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        finalizer: Callable[[], object] | None = None,
    ) -> None:
        if max_workers is None:
            # From 3.13 on the standard class counts the processors that this process may use.
            count: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
            max_workers = min(32, (count() or 1) + 4)
        if max_workers <= 0:
            message = "max_workers must be greater than 0"
            raise ValueError(message)
        _check_callable("initializer", initializer)
        _check_callable("finalizer", finalizer)
        self._max_workers = max_workers
        self._thread_name_prefix = thread_name_prefix or f"ThreadPoolExecutor-{next(_numbers)}"
        vars(self).update(_initializer=initializer, _initargs=initargs)
        begin = functools.partial(initializer, *initargs) if initializer else None
        self._open(self._thread_name_prefix, max_workers, begin, finalizer, _LOGGER)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuses new calls, and ends the workers when those submitted are done.

        May be called again, and from anywhere; on a worker it does not wait.

        Args:
            wait: Whether to return only when the workers have ended.
            cancel_futures: Whether to cancel the calls that have not started.
        """
        self._shut_down(bool(wait), bool(cancel_futures))

    def __del__(self) -> None:
        self._let_go()


class RunnerExecutor(_Executor):
    """A runner for code that wants a standard executor; made by `Runner.executor`.

    Functions are called as `fn(*args, **kwargs)`, without the resource, on the runner's base and
    burst workers and in the class `Priority.NORMAL`. Their errors say nothing about the resource:
    `is_broken` is not asked, and nothing is retried. Everything else is as the runner's config
    says: the bound of the queue, time limits, context variables. `current_context` works. asyncio
    takes it in `run_in_executor` and `set_default_executor`.

    Its calls count as tasks in the runner's figures. `Runner.kill` hands back those that never ran
    with an `fn` that takes the resource and ignores it.

    It keeps its runner alive. All methods may be called from any thread.

    Example:
        >>> import asyncio
        >>> from tasker import Config, Runner
        >>> async def main(runner: Runner[dict[str, int]]) -> int:
        ...     loop = asyncio.get_running_loop()
        ...     return await loop.run_in_executor(runner.executor(), pow, 2, 5)
        >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
        ...     asyncio.run(main(runner))
        32
    """

    def __init__(self, runner: _tasker.Runner[Any]) -> None:
        self._look_on(runner)
        self._runner = runner
        self._thread_name_prefix = runner.name

    if not TYPE_CHECKING:

        @property
        def _max_workers(self) -> int:
            return self._runner.max_worker_count

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuses new calls through this executor. The runner and other executors of it go on.

        May be called again, and from anywhere; on a worker of the runner it does not wait.

        Args:
            wait: Whether to return only when the calls made through this executor are done, one
                whose future was lost to Ctrl-C included.
            cancel_futures: Whether to cancel those of them that have not started.
        """
        self._shut_down(bool(wait), bool(cancel_futures))


# The standard class raises these, and not a ConfigError.


def _check_buffersize(value: object) -> None:
    if not isinstance(value, int):
        message = "buffersize must be an integer or None"
        raise TypeError(message)
    if value < 1:
        message = "buffersize must be None or > 0"
        raise ValueError(message)


def _check_callable(name: str, value: object) -> None:
    if value is not None and not callable(value):
        message = f"{name} must be a callable"
        raise TypeError(message)


class _RemainingCalls:
    """The calls of a `map` that are still to be submitted."""

    def __init__(
        self,
        executor: weakref.ref[_Executor],
        fn: Callable[..., Any],
        items: Iterator[tuple[Any, ...]],
    ) -> None:
        self._executor = executor
        self._fn = fn
        self._items = items

    def submit_next(self, in_flight: deque[Future[Any]]) -> None:
        """Submits one more, if there is one and still an executor for it."""
        executor = self._executor()
        item = None if executor is None else next(self._items, None)
        if executor is None or item is None:
            # An exhausted zip asked again would take from its first input again.
            self._items = iter(())
        else:
            in_flight.append(executor.submit(self._fn, *item))


def _results(
    in_flight: deque[Future[T]], rest: _RemainingCalls | None, end: float | None
) -> Iterator[T]:
    try:
        while in_flight:
            if rest is not None:
                rest.submit_next(in_flight)
            # Nothing here holds on to a result that was handed out.
            yield _take(in_flight.popleft(), end)
    finally:
        for future in in_flight:
            future.cancel()


def _take(future: Future[T], end: float | None) -> T:
    try:
        return future.result(None if end is None else end - time.monotonic())
    except BaseException:
        future.cancel()  # matters when the wait was cut short
        raise
    finally:
        # The traceback of an error keeps this frame, which must not lead back to the error.
        del future


publish(globals(), ["RunnerExecutor", "ThreadPoolExecutor"])
