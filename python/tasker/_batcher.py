"""The method `batcher`, and what it gives: one call of a function for many items."""

from __future__ import annotations

from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from tasker import _tasker
from tasker._checks import check_count, check_type
from tasker._options import Options, check_options
from tasker._priority import Priority
from tasker._public import publish, publish_methods

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Hashable, Iterable

    from tasker._asyncio import Promise
    from tasker._batching import BatchSettings
    from tasker._future import Future
    from tasker._results import Results
    from tasker._retry import Retry, Unset

R = TypeVar("R")
X = TypeVar("X")
T = TypeVar("T")

if TYPE_CHECKING:
    from tasker._tasker import Batcher as _NativeBatcher
else:
    # The native class is generic in its stub alone.
    _NativeBatcher = GenericAlias(_tasker.Batcher, (X, T))


class Batcher(_NativeBatcher[X, T]):
    """Takes items one by one and calls a function for many of them; made by `Runner.batcher`.

    Each item is a task with a future of its own. A free worker takes as many as wait, up to
    `max_size`. A batcher may be kept and shared: all methods may be called from any thread. It
    keeps its runner alive, and ends with it.
    """

    def options(
        self,
        *,
        priority: Priority = Priority.NORMAL,
        timeout: float | None = None,
        name: str | None = None,
    ) -> Batcher[X, T]:
        """Makes a view of this batcher whose items have the given options.

        Items of a batcher and of all its views run in the same calls. An item of the class
        `Priority.HIGH` does not wait for a call to be full, and takes the others along.

        Args:
            priority: The class the items wait in, a `Priority` and no number.
            timeout: Time limit of each item in seconds, counted from its submit. `None`: the
                `task_timeout` of the config. `math.inf`: none.
            name: Name of the items' tasks. `None`: that of the function.

        Returns:
            The view.

        Raises:
            ConfigError: An option has a wrong type or value.

        Example:
            >>> from tasker import Config, Priority, Runner
            >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
            ...     upper = runner.batcher(lambda _, words: [w.upper() for w in words], max_size=8)
            ...     upper.options(priority=Priority.HIGH, timeout=5).queue_task("now")
            'NOW'
        """
        once, retry = self._kept_options
        options = check_options(priority, once, timeout, name, retry)
        return Batcher(self.runner, self._functions, *_of_items(options))

    def map(
        self, items: Iterable[X], /, *, buffersize: int | None = None, ordered: bool = True
    ) -> Results[T]:
        """Runs all items in full calls as far as there are any, and gives the results.

        Does what `Runner.map` does: the input is read in the thread that iterates, and no further
        than *buffersize* ahead of the results, so it may be endless; an item that fails, like an
        input that raises, raises at its place, ends the iteration and cancels the rest. Items go to
        the workers in groups of `max_size`, and wait for no others; those with a `key`, or with a
        time limit, go one by one as by `submit`.

        Args:
            items: The input.
            buffersize: How many items may be read beyond the results handed out, at least 1. A hard
                limit, also on the items of a call. `None`: it begins with two calls for each of the
                greatest number of workers, and grows as that of `Runner.map`.
            ordered: `False` gives each result as soon as it is there.

        Returns:
            An iterator, to be closed or dropped when it is not used up.

        Raises:
            TypeError: *items* cannot be iterated.
            ConfigError: *buffersize* is no int, or less than 1; *ordered* is no bool.
            RunnerStopped: The runner does not accept tasks.
            QueueFull: As for `Runner.map`.
            RunnerBroken: As for `submit`.

        Example:
            >>> from tasker import Config, Runner
            >>> def squares(cache: dict, numbers: list[int]) -> list[int]:
            ...     return [number * number for number in numbers]
            >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
            ...     list(runner.batcher(squares, max_size=2).map(range(5)))
            [0, 1, 4, 9, 16]
        """
        buffersize = check_count("buffersize", buffersize, least=1, optional=True)
        check_type("ordered", ordered, bool)
        return self._begin_map(items, buffersize, ordered)

    def amap(
        self,
        items: Iterable[X] | AsyncIterable[X],
        /,
        *,
        buffersize: int | None = None,
        ordered: bool = True,
    ) -> AsyncGenerator[T, None]:
        """Submits the items of the input as `asubmit` does, and gives the results.

        Does what `Runner.amap` does, for `async for` in asyncio. The last items of the input may
        wait for `max_wait` in vain.

        Args:
            items: The input, iterable or asynchronously iterable.
            buffersize: How many items may be read beyond the results handed out, at least 1.
                `None`: two calls for each worker, and more where they are so short that the
                consumer waits all the same.
            ordered: Whether the results come in the order of the input, else as they finish.

        Returns:
            An asynchronous generator.

        Raises:
            ConfigError: *buffersize* is no int or less than 1; *ordered* is no bool.
            RunnerStopped: When iterating: the runner does not accept tasks.
            QueueFull: When iterating: as for `Runner.amap`.
            RunnerBroken: When iterating: as for `submit`.

        Example:
            >>> import asyncio
            >>> from tasker import Config, Runner
            >>> def squares(cache: dict, numbers: list[int]) -> list[int]:
            ...     return [number * number for number in numbers]
            >>> async def main() -> list[int]:
            ...     async with Runner.start(Config(on_create=dict, worker_count=1)) as runner:
            ...         return [y async for y in runner.batcher(squares, max_size=2).amap(range(5))]
            >>> asyncio.run(main())
            [0, 1, 4, 9, 16]
        """
        buffersize = check_count("buffersize", buffersize, least=1, optional=True)
        check_type("ordered", ordered, bool)
        # Not at the top: it needs asyncio.
        from tasker._stream import stream  # noqa: PLC0415

        in_calls = self.runner.max_worker_count * self._functions.max_size
        look_ahead = _tasker._LookAhead(buffersize, in_calls)

        def asubmit(item: tuple[X, ...]) -> Promise[T]:
            return cast("Promise[T]", self.asubmit(*item))

        results = stream(
            asubmit,
            (items,),
            look_ahead,
            ordered,
            return_exceptions=False,
            has_room=self.runner._has_room,
        )
        # Without exceptions in place of results.
        return cast("AsyncGenerator[T, None]", results)


class BatcherMixin(Generic[R]):
    """The method `batcher`, for a runner and its views."""

    if TYPE_CHECKING:

        def _origin(self) -> tuple[_tasker.Runner[R], Any]: ...
        def _adopt(self, settings: BatchSettings) -> _tasker._BatchFunctions: ...
        def _fixed_options(self) -> Options: ...

    def batcher(
        self,
        fn: Callable[[R, list[X]], Iterable[T | Exception]],
        /,
        *,
        max_size: int,
        max_wait: float = 0.0,
        key: Callable[[X], Hashable] | None = None,
        split_failed: bool = False,
    ) -> Batcher[X, T]:
        """Makes a batcher: it takes items one by one, and has *fn* called for as many as wait.

        A free worker takes what waits, up to *max_size*, and each item gets its own result. In
        figures and in `max_queue_size` each item is a task; `max_tasks_per_resource` counts a call
        once. *fn* runs in a context of its own, without the submitters' context variables;
        `current_context()` in it is cancelled when all its items are given up. When the resource
        goes bad all items of the call are tried again together. Of a view the batcher has the
        options.

        Args:
            fn: Called as `fn(resource, items)` with a list of 1 to *max_size* items. Returns as
                many results in the same order, any iterable; it may be a generator function. An
                `Exception` among them is the outcome of that item alone. What it raises is the
                outcome of all of them, as is a `ValueError` when it gives another number.
            max_size: The most items of a call, at least 1.
            max_wait: For how many seconds since its submit an item waits for others at most,
                unless *max_size* wait. No worker is kept meanwhile. An item of the class
                `Priority.HIGH`, and `stop`, end the wait. 0: an item goes at once to a free worker.
            key: Called as `key(item)` in the thread that submits, gives something hashable: all
                items of a call have the same. An item for which it raises fails with that error,
                and is not queued.
            split_failed: Whether the items of a call that raised are run again one by one, on the
                same or another resource, so that one bad item spoils no others. *fn* is entered
                twice for them. Not for a resource that went bad, nor in a view with `once=True`.

        Returns:
            The batcher.

        Raises:
            TypeError: *fn* cannot be called, or is a coroutine function.
            ConfigError: Another argument has a wrong type or value, or *split_failed* is given to
                a view with `once=True`, or the view has a key of its own.

        Example:
            >>> from tasker import Config, Runner
            >>> def squares(cache: dict, numbers: list[int]) -> list[int]:
            ...     return [number * number for number in numbers]
            >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
            ...     square = runner.batcher(squares, max_size=32, max_wait=0.01)
            ...     futures = [square.submit(number) for number in range(4)]
            ...     [future.result() for future in futures]
            [0, 1, 4, 9]
        """
        from tasker._batching import check_batcher  # noqa: PLC0415

        options = self._fixed_options()
        settings = check_batcher(fn, max_size, max_wait, key, split_failed, options)
        return Batcher(self._origin()[0], functions_of(settings), *_of_items(options))

    def _submit_item(self, settings: BatchSettings, item: Any) -> Future[Any]:
        """Submits an item of another runner's batcher to one with the same settings."""
        runner, functions = self._origin()[0], self._adopt(settings)
        batcher: Batcher[Any, Any] = Batcher(runner, functions, *_of_items(self._fixed_options()))
        return batcher.submit(item)


def _of_items(
    options: Options,
) -> tuple[Priority, bool, float | None, str | None, Retry | Unset | None]:
    """What the items of a batcher have of the options: its own key is asked for theirs."""
    return options[:5]


def functions_of(settings: BatchSettings) -> _tasker._BatchFunctions:
    """Makes what the views of a batcher share."""
    return _tasker._BatchFunctions(
        settings.fn,
        settings.max_size,
        settings.max_wait,
        settings.key,
        settings.split_failed,
        settings,
    )


publish_methods("Runner", BatcherMixin)
publish(globals(), ["Batcher"])
