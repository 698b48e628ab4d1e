"""How an `InlineRunner` and its views take tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from tasker import _tasker
from tasker._amap import AsyncMapMixin
from tasker._config import Config
from tasker._errors import ConfigError, QueueFull
from tasker._map import MapMixin
from tasker._options import Options
from tasker.testing._batcher import InlineBatcherMixin
from tasker.testing._map import InlineResults
from tasker.testing._task import NO_KEY, InlineKey

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from tasker._future import Future
    from tasker._results import Results
    from tasker.testing._engine import InlineEngine
    from tasker.testing._task import InlineFuture

R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A")
P = ParamSpec("P")


class InlineSubmitMixin(MapMixin[R], AsyncMapMixin[R], InlineBatcherMixin[R]):
    """The methods that take tasks, for the runner and its views."""

    _options = Options()

    def _engine(self) -> InlineEngine[R]:
        raise NotImplementedError

    def _most_workers(self) -> int:
        return self._engine()._sizes[1]

    @property
    def config(self) -> Config[R]:
        """The settings of the runner."""
        return self._engine()._config

    def _key(self, fn: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> InlineKey:
        """Asks for the key of a task, if it has one."""
        if self._options.key is None:
            return NO_KEY
        number, key = _tasker._ask_key(fn, self._options.name, self._options.key, args, kwargs)
        return InlineKey(number, self._engine()._lines.line(key) if self._options.serial else None)

    def submit(
        self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Runs a task and returns its future, which is done; see `Runner.submit`.

        The future is pending, and the task runs later, with `manual=True`, and where a task or a
        hook of this runner submits: as on a runner with one worker, which is busy then.

        Args:
            fn: Called as `fn(resource, *args, **kwargs)`.
            *args: Further positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            The future of the task. A wait for it runs the task, and what comes before it.

        Raises:
            TypeError: *fn* cannot be called.
            RunnerStopped: The runner does not accept tasks.
            QueueFull: The queue is full; there is no other thread that would make room.
            RuntimeError: The call comes from another thread than the runner.
        """
        runner = self._engine()
        runner._check_open(self._options, fn)
        key = self._key(fn, args, kwargs)
        runner._check_room(self._options, fn)
        task = runner._make_task(self._options, fn, args, kwargs, key)
        future: InlineFuture[T] = runner._accept(task)
        runner._pump()
        return future

    def asubmit(
        self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        """Runs a task and returns an asyncio future that is done at the next turn of the loop.

        Args:
            fn: Called as `fn(resource, *args, **kwargs)`, in the thread of the loop.
            *args: Further positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            The future, as of `Runner.asubmit`.

        Raises:
            RuntimeError: No asyncio loop is running in this thread, or it is not that of the
                runner.
            TypeError: *fn* cannot be called.
            RunnerStopped: The runner does not accept tasks.
            QueueFull: As for `submit`.
        """
        runner = self._engine()
        runner._check_open(self._options, fn)
        key = self._key(fn, args, kwargs)
        runner._check_room(self._options, fn)
        task = runner._make_task(self._options, fn, args, kwargs, key)
        promise: asyncio.Future[T] = _tasker._promise(task.future)
        runner._accept(task)
        runner._pump()
        return promise

    def submit_many(self, fn: Callable[[R, A], T], iterable: Iterable[A], /) -> list[Future[T]]:
        """Runs a task for each item and returns their futures; see `Runner.submit_many`.

        Args:
            fn: Called as `fn(resource, item)`.
            iterable: The items. If it raises, nothing is run.

        Returns:
            A future for each item, in the order of the input. An item that a full queue refuses
            has the refusal in its future.

        Raises:
            TypeError: *fn* cannot be called, or *iterable* not be iterated.
            RunnerStopped: The runner does not accept tasks.
            RuntimeError: The call comes from another thread than the runner.
        """
        runner = self._engine()
        runner._check_open(self._options, fn)
        futures: list[Future[T]] = []
        items = [(item,) for item in iterable]
        keys = [self._key(fn, item, {}) for item in items]
        tasks = [
            runner._make_task(self._options, fn, item, {}, key)
            for item, key in zip(items, keys, strict=True)
        ]
        for task in tasks:
            try:
                runner._check_room(self._options, fn)
            except QueueFull as refusal:
                task.future.forget_task()
                task.future.set_exception(refusal)
            else:
                runner._accept(task)
            futures.append(task.future)
        runner._pump()
        return futures

    def queue_task(
        self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Runs what waits before a task, the task itself, and returns its result.

        Args:
            fn: Called as `fn(resource, *args, **kwargs)`.
            *args: Further positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            What *fn* returned.

        Raises:
            TaskTimeout: The task's time limit has passed when *fn* returns, or before it starts.
            TaskCancelled: The task was dropped by `kill`.
            BaseException: What *fn* raised, as itself; and as for `submit`.
        """
        runner = self._engine()
        runner._check_open(self._options, fn)
        key = self._key(fn, args, kwargs)
        if runner._is_in_task and not self._options.serial:
            return self._call_now(fn, args, kwargs, key)
        runner._make_room(self._options, fn)
        future = runner._accept(runner._make_task(self._options, fn, args, kwargs, key))
        try:
            result: T = future.result()
        except BaseException:
            # No caller is left to get its outcome.
            if not future.done():
                future.request_cancel("the call that waited for it was interrupted")
            raise
        return result

    def run_task(
        self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Runs a task now, past what waits, and returns its result.

        Args:
            fn: Called as `fn(resource, *args, **kwargs)`.
            *args: Further positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            What *fn* returned.

        Raises:
            ConfigError: The tasks of this view have keys.
            BaseException: As for `queue_task`.
        """
        if self._options.key is not None:
            raise ConfigError(_tasker._RUN_TASK_WITH_KEY)
        runner = self._engine()
        runner._check_open(self._options, fn)
        return self._call_now(fn, args, kwargs)

    def _call_now(
        self,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        key: InlineKey = NO_KEY,
    ) -> T:
        runner = self._engine()
        task = runner._make_task(self._options, fn, args, kwargs, key)
        runner._run_now(task)
        result: T = task.future.result(0)
        return result

    def _observer_of(self, fn: object) -> None:
        del fn

    def _begin_map(
        self,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        buffersize: int | None,
        ordered: bool,
        return_exceptions: bool,
    ) -> Results[Any]:
        runner = self._engine()
        runner._check_open(self._options, fn)
        look_ahead = _tasker._LookAhead(buffersize, self._most_workers())

        def submit(item: tuple[Any, ...], may_wait: bool) -> InlineFuture[Any] | None:
            runner._check_open(self._options, fn)
            look_ahead.follow(self._most_workers())
            if may_wait and not runner._has_room():
                return None
            key = self._key(fn, item, {})
            runner._check_room(self._options, fn)
            future = runner._accept(runner._make_task(self._options, fn, item, {}, key))
            runner._pump()
            return future

        return InlineResults(submit, iterables, look_ahead, ordered, return_exceptions)
