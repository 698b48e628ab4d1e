"""How a `RayRunner` and its views take tasks."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, TypeVar

from tasker import _tasker
from tasker._amap import AsyncMapMixin
from tasker._errors import QueueFull
from tasker._map import MapMixin
from tasker._options import Options
from tasker.ray._look_ahead import TimedLookAhead
from tasker.ray._pickling import fitting_dumps, pack_call
from tasker.ray._results import RayResults
from tasker.ray._task import RayFuture, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tasker._config import Config
    from tasker._future import Future
    from tasker._results import LookAhead, Results
    from tasker.ray._engine import Engine

R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A")
P = ParamSpec("P")

NO_KWARGS: dict[str, Any] = {}
"""What many tasks share."""


class RaySubmitMixin(MapMixin[R], AsyncMapMixin[R]):
    """The methods that take tasks, for the runner and its views."""

    _options = Options()

    def _engine(self) -> Engine:
        raise NotImplementedError

    def _most_workers(self) -> int:
        return self._engine().most_workers

    @property
    def config(self) -> Config[R]:
        """The settings of the runner, of which most hold in each actor."""
        return self._engine().config

    def _tasks(
        self,
        fn: Callable[..., Any],
        calls: Iterable[tuple[tuple[Any, ...], dict[str, Any]]],
        *,
        is_direct: bool = False,
        takes_resource: bool = True,
    ) -> Iterator[Task]:
        """Makes a task for each pair of arguments, as it is asked for."""
        engine, options = self._engine(), self._options
        limit = engine.config.task_timeout if options.timeout is None else options.timeout
        limit = None if limit == math.inf else limit
        kind = engine.kinds.get(fn, options, takes_resource=takes_resource)
        name, owner, numbers = kind.name, engine.dispatcher, engine.numbers
        carried, submitted = engine.carrier.pack(), time.monotonic()
        dumps = fitting_dumps()
        for args, kwargs in calls:
            packed = pack_call(name, args, kwargs, dumps)
            future: RayFuture[Any] = RayFuture()
            task = Task(
                owner,
                next(numbers),
                kind,
                args,
                kwargs,
                packed,
                carried,
                options,
                limit,
                future,
                submitted,
                is_direct,
            )
            future._task = task
            yield task

    def submit(
        self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Queues a task for one of the actors and returns its future; see `Runner.submit`.

        Function and arguments are copied to the actor and the result back: the arguments at the
        call, the function at its first, with what it refers to.

        Args:
            fn: Called as `fn(resource, *args, **kwargs)` in an actor.
            *args: Further positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            The future of the task.

        Raises:
            TaskNotPicklable: *fn* or an argument cannot be sent to an actor. It is a `TypeError`.
            TypeError: *fn* cannot be called, or is a coroutine or generator function.
            RunnerStopped: The runner does not accept tasks.
            QueueFull: As for `Runner.submit`.
            RunnerBroken: The runner was inherited through a fork, or Ray was shut down.
        """
        engine = self._engine()
        engine.dispatcher.check_open()
        (task,) = self._tasks(fn, [(args, kwargs)])
        engine.dispatcher.accept(task, may_wait=engine.may_wait())
        return task.future

    def asubmit(
        self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        """Queues a task and returns an asyncio future of the running loop; see `Runner.asubmit`.

        Args:
            fn: As for `submit`.
            *args: Further positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            The future.

        Raises:
            RuntimeError: No asyncio loop is running in this thread.
            QueueFull: The queue is full, and the config says `when_full="raise"`.
            TaskNotPicklable: As for `submit`; so with the other errors.
        """
        engine = self._engine()
        engine.dispatcher.check_open()
        (task,) = self._tasks(fn, [(args, kwargs)])
        promise: asyncio.Future[T] = _tasker._promise(task.future)
        # The promise tells by itself of an error that nobody asks for.
        task.future.look()
        if engine.config.when_full == "raise":
            engine.dispatcher.accept(task, may_wait=False)
        else:
            engine.dispatcher.accept_later(task)
        return promise

    def submit_many(self, fn: Callable[[R, A], T], iterable: Iterable[A], /) -> list[Future[T]]:
        """Queues a task for each item and returns their futures; see `Runner.submit_many`.

        Args:
            fn: Called as `fn(resource, item)` in an actor.
            iterable: The items. If it raises, or one cannot be sent, nothing is queued.

        Returns:
            A future for each item, in the order of the input. An item that a full queue refuses
            has the refusal in its future.

        Raises:
            TaskNotPicklable: As for `submit`; so with the other errors.
        """
        engine = self._engine()
        engine.dispatcher.check_open()
        may_wait = engine.may_wait()
        tasks = list(self._tasks(fn, [((item,), NO_KWARGS) for item in iterable]))
        for task, error in engine.dispatcher.accept_each(tasks, may_wait=may_wait):
            task.future._task = None
            task.future.set_exception(error)
        return [task.future for task in tasks]

    def queue_task(
        self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Queues a task, waits for it and returns its result; see `Runner.queue_task`.

        Args:
            fn: As for `submit`.
            *args: Further positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            What *fn* returned.

        Raises:
            ResourceLost: The actor was lost that had the task, and it must not begin again.
            ResultNotPicklable: What it returned or raised cannot be sent back.
            BaseException: What *fn* raised, and as for `submit`.
        """
        return _outcome(self.submit(fn, *args, **kwargs))

    def run_task(
        self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Runs a task now, past the queue, on the actor that has least to do.

        There it is run as by `Runner.run_task`.

        Args:
            fn: As for `submit`.
            *args: Further positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            What *fn* returned.

        Raises:
            BaseException: As for `queue_task`.
        """
        engine = self._engine()
        engine.dispatcher.check_open()
        (task,) = self._tasks(fn, [(args, kwargs)], is_direct=True)
        engine.dispatcher.accept_now(task)
        future: Future[T] = task.future
        return _outcome(future)

    def batcher(self, *_: Any, **__: Any) -> NoReturn:
        """Raises `NotImplementedError`: there are no batches over actors yet."""
        message = "batcher: a RayRunner has no batches; submit lists of items as one task each"
        raise NotImplementedError(message)

    def _look_ahead(self, buffersize: int | None) -> LookAhead:
        return TimedLookAhead(buffersize, self._most_workers())

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
        engine = self._engine()
        engine.dispatcher.check_open()
        look_ahead = self._look_ahead(buffersize)

        def submit(items: list[tuple[Any, ...]], has_others: bool) -> list[RayFuture[Any]]:
            dispatcher = engine.dispatcher
            dispatcher.check_open()
            look_ahead.follow(self._most_workers())
            is_bounded = dispatcher.waiting.bound is not None
            if has_others and dispatcher.waiting.is_full:
                return []
            tasks: list[Task] = []
            try:
                calls = [(item, NO_KWARGS) for item in (items[:1] if is_bounded else items)]
                tasks.extend(self._tasks(fn, calls))
            except BaseException:
                if not tasks:
                    raise
                # Those before come first: of the one at fault it is said when it is alone.
            if not is_bounded:
                dispatcher.accept_each(tasks, may_wait=False)
                return [task.future for task in tasks]
            try:
                dispatcher.accept(tasks[0], may_wait=engine.may_wait() and not has_others)
            except QueueFull:
                if has_others:
                    return []
                raise
            return [tasks[0].future]

        return RayResults(submit, iterables, look_ahead, ordered, return_exceptions)


def _outcome(future: Future[T]) -> T:
    try:
        return future.result()
    except BaseException:
        # No caller is left to get its outcome.
        if not future.done():
            future.request_cancel("the call that waited for it was interrupted")
        raise
