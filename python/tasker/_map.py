"""Streaming `map`: results in order, with a bounded number of items in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from tasker._config import Config, check_count
from tasker._errors import QueueFull

if TYPE_CHECKING:
    from types import TracebackType

    from tasker._future import Future

R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
P = ParamSpec("P")


class Results(Iterator[T]):
    """The results of a `map`, in the order of its input.

    The input is read in the thread that iterates, never further ahead than the look-ahead allows,
    so it may be endless. A result handed out is not kept. An item that fails, like an input that
    raises, raises at its place, ends the iteration and cancels the rest; so does `close`, leaving
    the `with` block and dropping the object. Cancelled is only what has not started.

    Only one thread may iterate at a time.
    """

    def __init__(
        self,
        submit: Callable[..., Future[T]],
        fn: Callable[..., T],
        inputs: Sequence[Iterable[Any]],
        look_ahead: int,
    ) -> None:
        """Begins to submit; made by `map` alone.

        Args:
            submit: Called as `submit(fn, *item)`.
            fn: The task function.
            inputs: One iterable for each argument, as for the built-in `map`; at least one.
            look_ahead: Items that may be read beyond the results handed out.
        """
        self._in_flight: deque[Future[T]] = deque()
        self._submit = submit
        self._fn = fn
        self._items: Iterator[tuple[Any, ...]] = zip(*inputs, strict=False)
        self._item: tuple[Any, ...] | None = None
        self._failure: Exception | None = None
        self._look_ahead = look_ahead
        self._left = _shortest(inputs)
        self._fill()

    def __next__(self) -> T:
        try:
            self._fill()
            return self._take()
        except BaseException:  # StopIteration as well: whatever ends the iteration ends it for good
            self.close()
            raise

    def _fill(self) -> None:
        """Submits items until the look-ahead is used up or there is no room for more."""
        try:
            while (
                len(self._in_flight) < self._look_ahead
                and self._failure is None
                and self._submit_next()
            ):
                pass
        except Exception as error:
            if not self._in_flight:
                raise
            self._failure = error

    def _submit_next(self) -> bool:
        """Submits the next item, unless there is none or no room for it."""
        if self._item is None:
            self._item = next(self._items, None)
        if self._item is None:
            # An exhausted zip asked again would take from its first input again.
            self._items = iter(())
            return False
        try:
            future = self._submit(self._fn, *self._item)
        except QueueFull:
            if not self._in_flight:
                raise
            return False  # tried again once a result has been taken
        self._in_flight.append(future)
        self._item = None
        return True

    def _take(self) -> T:
        """Waits for the oldest item in flight."""
        if not self._in_flight:
            raise self._failure or StopIteration
        future = self._in_flight.popleft()
        try:
            result = future.result()
        except BaseException:
            future.request_cancel()  # matters when the wait was interrupted
            raise
        finally:
            # The traceback of an error keeps this frame, which must not lead back to the error.
            del future
        if self._left is not None:
            self._left -= 1
        return result

    def close(self) -> None:
        """Ends the iteration and cancels what has not started; may be called again."""
        self._items = iter(())
        self._left = 0
        self._item = self._failure = None
        while self._in_flight:
            self._in_flight.popleft().cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __length_hint__(self) -> int:
        """Results still to come, when every input has a length."""
        return NotImplemented if self._left is None else self._left


class Maps(Generic[R]):
    """The verb `map`, for classes that have `submit` and a `config`."""

    if TYPE_CHECKING:

        @property
        def config(self) -> Config[R]: ...
        def submit(
            self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
        ) -> Future[T]: ...

    @overload
    def map(
        self, fn: Callable[[R, A], T], iterable: Iterable[A], /, *, buffersize: int | None = None
    ) -> Results[T]: ...
    @overload
    def map(
        self,
        fn: Callable[[R, A, B], T],
        iterable1: Iterable[A],
        iterable2: Iterable[B],
        /,
        *,
        buffersize: int | None = None,
    ) -> Results[T]: ...
    @overload
    def map(
        self,
        fn: Callable[[R, A, B, C], T],
        iterable1: Iterable[A],
        iterable2: Iterable[B],
        iterable3: Iterable[C],
        /,
        *,
        buffersize: int | None = None,
    ) -> Results[T]: ...
    @overload
    def map(
        self,
        fn: Callable[..., T],
        iterable1: Iterable[Any],
        iterable2: Iterable[Any],
        iterable3: Iterable[Any],
        iterable4: Iterable[Any],
        /,
        *iterables: Iterable[Any],
        buffersize: int | None = None,
    ) -> Results[T]: ...
    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        buffersize: int | None = None,
    ) -> Results[Any]:
        """Calls *fn* with a resource and the items of the input, and gives the results in order.

        Submits the first items at once and more as results are taken, so it works on endless
        input. Ends with the shortest of several inputs, as the built-in `map` does.

        Args:
            fn: Called as `fn(resource, item)`, or with one item of each input.
            *iterables: The inputs, at least one. They are read in the thread that iterates.
            buffersize: How many items may be read beyond the results handed out, at least 1.
                `None`: twice the number of workers. A bounded queue lowers it to what the queue
                and the workers can hold.

        Returns:
            An iterator, to be closed or dropped when it is not used up.

        Raises:
            TypeError: There is no input, or *fn* cannot be called.
            ConfigError: *buffersize* is no int, or less than 1.
            RunnerStopped: The runner does not accept tasks.
            QueueFull: There is no room for the first item and the call may not wait. For a later
                item it is raised at its place, if nothing of this map is in flight then.

        Example:
            >>> from tasker import Config, Runner
            >>> with Runner(Config(on_create=dict, worker_count=2)) as runner:
            ...     list(runner.map(lambda cache, x: x * x, range(5)))
            [0, 1, 4, 9, 16]
        """
        if not iterables:
            message = "map() needs at least one iterable"
            raise TypeError(message)
        check_count("buffersize", buffersize, least=1, optional=True)
        return Results(self.submit, fn, iterables, _look_ahead(self.config, buffersize))


def _look_ahead(config: Config[Any], buffersize: int | None) -> int:
    if buffersize is None:
        buffersize = 2 * (config.max_worker_count or config.worker_count)
    if config.max_queue_size is None:
        return buffersize
    # Beyond this a submit could wait for room that only the consumer of the results can make.
    return min(buffersize, config.worker_count + config.max_queue_size)


def _shortest(inputs: Sequence[Any]) -> int | None:
    try:
        return min(len(each) for each in inputs)
    except (TypeError, OverflowError):
        return None
