"""The batcher of an `InlineRunner`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from tasker import _tasker
from tasker._batching import BatchSettings, check_batcher
from tasker._checks import check_count, check_type
from tasker._future import Future
from tasker._options import Options, check_options
from tasker._priority import Priority
from tasker._public import publish, publish_methods
from tasker.testing._joint import InlineFunctions
from tasker.testing._map import InlineResults
from tasker.testing._task import InlineFuture

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Hashable, Iterable

    from tasker._asyncio import Promise
    from tasker._results import Results
    from tasker.testing._engine import InlineEngine

R = TypeVar("R")
X = TypeVar("X")
T = TypeVar("T")


class InlineBatcher(Generic[X, T]):
    """Takes items one by one; made by `InlineRunner.batcher`.

    Without `manual=True` each item runs where it is submitted, alone. With it, and where a task
    submits, items wait, and run together when the first of them has its turn. `max_wait` makes no
    difference.
    """

    def __init__(
        self, runner: InlineEngine[Any], functions: InlineFunctions, options: Options
    ) -> None:
        """Made by `InlineRunner.batcher` alone.

        Args:
            runner: Runs the items.
            functions: What the views of the batcher share.
            options: What it fixes.
        """
        self._runner = runner
        self._functions = functions
        self._options = options

    def submit(self, item: X, /) -> Future[T]:
        """Runs an item, or queues it, and returns its future; see `Batcher.submit`.

        Args:
            item: What the function gets in its list of items.

        Returns:
            The future of the item's result.

        Raises:
            RunnerStopped: The runner does not accept tasks.
            QueueFull: The queue is full; there is no other thread that would make room.
            RuntimeError: The call comes from another thread than the runner.
        """
        try:
            function = self._functions.for_item(item)
        except Exception as error:  # that of `key`
            return _failed(error)
        future: Future[T] = self._submitter().submit(function, item)
        return future

    def asubmit(self, item: X, /) -> asyncio.Future[T]:
        """Runs an item, or queues it, and returns an asyncio future; see `Batcher.asubmit`.

        Args:
            item: As for `submit`.

        Returns:
            The future, as of `InlineRunner.asubmit`.

        Raises:
            RuntimeError: As for `InlineRunner.asubmit`.
            RunnerStopped: The runner does not accept tasks.
            QueueFull: As for `submit`.
        """
        try:
            function = self._functions.for_item(item)
        except Exception as error:  # that of `key`
            failed: InlineFuture[T] = InlineFuture()
            promise: asyncio.Future[T] = _tasker._promise(failed)
            failed.set_exception(error)
            return promise
        promise = self._submitter().asubmit(function, item)
        return promise

    def queue_task(self, item: X, /) -> T:
        """Runs what waits before an item, the item itself, and returns its result.

        Args:
            item: As for `submit`.

        Returns:
            The item's result.

        Raises:
            BaseException: As for `Batcher.queue_task`.
        """
        result: T = self._submitter().queue_task(self._functions.for_item(item), item)
        return result

    def map(
        self, items: Iterable[X], /, *, buffersize: int | None = None, ordered: bool = True
    ) -> Results[T]:
        """Runs the items and gives the results; see `Batcher.map`.

        Args:
            items: The input.
            buffersize: How many items may be read beyond the results handed out, at least 1.
            ordered: Whether the results come in the order of the input, else as they finish.

        Returns:
            An iterator.

        Raises:
            ConfigError: *buffersize* is no int, or less than 1; *ordered* is no bool.
            BaseException: As for `InlineRunner.map`.
        """
        buffersize = check_count("buffersize", buffersize, least=1, optional=True)
        check_type("ordered", ordered, bool)
        runner, settings = self._runner, self._functions.settings
        look_ahead = _tasker._LookAhead(buffersize, settings.max_size)

        def submit(item: tuple[Any, ...], may_wait: bool) -> InlineFuture[T] | None:
            if may_wait and not runner._has_room():
                return None
            function = self._functions.for_item(*item)
            return cast("InlineFuture[T]", self._submitter().submit(function, *item))

        return InlineResults(submit, (items,), look_ahead, ordered, return_exceptions=False)

    def amap(
        self,
        items: Iterable[X] | AsyncIterable[X],
        /,
        *,
        buffersize: int | None = None,
        ordered: bool = True,
    ) -> AsyncGenerator[T, None]:
        """Runs the items and gives the results, in asyncio; see `Batcher.amap`.

        Args:
            items: The input, iterable or asynchronously iterable.
            buffersize: As for `map`.
            ordered: As for `map`.

        Returns:
            An asynchronous generator.

        Raises:
            ConfigError: As for `map`.
            BaseException: When iterating: as for `InlineRunner.amap`.
        """
        buffersize = check_count("buffersize", buffersize, least=1, optional=True)
        check_type("ordered", ordered, bool)
        # Not at the top: it needs asyncio.
        from tasker._stream import stream  # noqa: PLC0415

        look_ahead = _tasker._LookAhead(buffersize, self._functions.settings.max_size)

        def asubmit(item: tuple[X, ...]) -> Promise[T]:
            return cast("Promise[T]", self.asubmit(*item))

        results = stream(
            asubmit,
            (items,),
            look_ahead,
            ordered,
            return_exceptions=False,
            has_room=lambda: True,
        )
        # Without exceptions in place of results.
        return cast("AsyncGenerator[T, None]", results)

    def options(
        self,
        *,
        priority: Priority = Priority.NORMAL,
        timeout: float | None = None,
        name: str | None = None,
    ) -> InlineBatcher[X, T]:
        """Makes a view of this batcher whose items have the given options.

        Args:
            priority: The class the items wait in.
            timeout: Time limit of each item in seconds.
            name: Name of the items' tasks. `None`: that of the function.

        Returns:
            The view.

        Raises:
            ConfigError: An option has a wrong type or value.
        """
        kept = self._options
        options = check_options(priority, kept.once, timeout, name, kept.retry)
        return InlineBatcher(self._runner, self._functions, options)

    def _submitter(self) -> Any:
        return self._runner._view(self._options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._runner!r}>"


class InlineBatcherMixin(Generic[R]):
    """The method `batcher`, for the runner and its views."""

    _options = Options()

    if TYPE_CHECKING:

        def _engine(self) -> InlineEngine[R]: ...

    def batcher(
        self,
        fn: Callable[[R, list[X]], Iterable[T | Exception]],
        /,
        *,
        max_size: int,
        max_wait: float = 0.0,
        key: Callable[[X], Hashable] | None = None,
        split_failed: bool = False,
    ) -> InlineBatcher[X, T]:
        """Makes a batcher of this runner; see `Runner.batcher`.

        Args:
            fn: Called as `fn(resource, items)`.
            max_size: The most items of a call, at least 1.
            max_wait: Makes no difference.
            key: Gives what the items of a call have in common.
            split_failed: Whether the items of a call that raised are run again one by one.

        Returns:
            The batcher.

        Raises:
            TypeError: *fn* cannot be called, or is a coroutine function.
            ConfigError: Another argument has a wrong type or value, or *split_failed* is given to
                a view with `once=True`.
        """
        settings = check_batcher(fn, max_size, max_wait, key, split_failed, self._options)
        return InlineBatcher(self._engine(), InlineFunctions(settings), self._options)

    def _submit_item(self, settings: BatchSettings, item: Any) -> Future[Any]:
        """Submits an item of another runner's batcher to one with the same settings."""
        functions = self._engine()._adopter.adopt(settings)
        batcher: InlineBatcher[Any, Any] = InlineBatcher(self._engine(), functions, self._options)
        return batcher.submit(item)


def _failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


publish_methods("InlineRunner", InlineBatcherMixin, "tasker.testing")
publish(globals(), ["InlineBatcher"], "tasker.testing")
