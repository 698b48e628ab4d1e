"""The method `amap`: streaming `map` for coroutines, whose input may be asynchronous."""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    TypeVar,
    cast,
    overload,
)

from tasker import _tasker
from tasker._checks import check_count, check_type
from tasker._public import publish_methods

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable

    from tasker._asyncio import Promise
    from tasker._observer import Observer
    from tasker._results import LookAhead

R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
P = ParamSpec("P")


class AsyncMapMixin(Generic[R]):
    """The method `amap`, for a runner and its views."""

    if TYPE_CHECKING:

        def _most_workers(self) -> int: ...
        def _observer_of(self, fn: object) -> tuple[Observer, str] | None: ...
        def asubmit(
            self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
        ) -> asyncio.Future[T]: ...

    @overload
    def amap(
        self,
        fn: Callable[[R, A], T],
        iterable: Iterable[A] | AsyncIterable[A],
        /,
        *,
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
    ) -> AsyncGenerator[T, None]: ...
    @overload
    def amap(
        self,
        fn: Callable[[R, A], T],
        iterable: Iterable[A] | AsyncIterable[A],
        /,
        *,
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: bool,
    ) -> AsyncGenerator[T | Exception, None]: ...
    @overload
    def amap(
        self,
        fn: Callable[[R, A, B], T],
        iterable1: Iterable[A] | AsyncIterable[A],
        iterable2: Iterable[B] | AsyncIterable[B],
        /,
        *,
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
    ) -> AsyncGenerator[T, None]: ...
    @overload
    def amap(
        self,
        fn: Callable[[R, A, B], T],
        iterable1: Iterable[A] | AsyncIterable[A],
        iterable2: Iterable[B] | AsyncIterable[B],
        /,
        *,
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: bool,
    ) -> AsyncGenerator[T | Exception, None]: ...
    @overload
    def amap(
        self,
        fn: Callable[[R, A, B, C], T],
        iterable1: Iterable[A] | AsyncIterable[A],
        iterable2: Iterable[B] | AsyncIterable[B],
        iterable3: Iterable[C] | AsyncIterable[C],
        /,
        *,
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
    ) -> AsyncGenerator[T, None]: ...
    @overload
    def amap(
        self,
        fn: Callable[[R, A, B, C], T],
        iterable1: Iterable[A] | AsyncIterable[A],
        iterable2: Iterable[B] | AsyncIterable[B],
        iterable3: Iterable[C] | AsyncIterable[C],
        /,
        *,
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: bool,
    ) -> AsyncGenerator[T | Exception, None]: ...
    @overload
    def amap(
        self,
        fn: Callable[..., T],
        iterable1: Iterable[Any] | AsyncIterable[Any],
        iterable2: Iterable[Any] | AsyncIterable[Any],
        iterable3: Iterable[Any] | AsyncIterable[Any],
        iterable4: Iterable[Any] | AsyncIterable[Any],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
    ) -> AsyncGenerator[T, None]: ...
    @overload
    def amap(
        self,
        fn: Callable[..., T],
        iterable1: Iterable[Any] | AsyncIterable[Any],
        iterable2: Iterable[Any] | AsyncIterable[Any],
        iterable3: Iterable[Any] | AsyncIterable[Any],
        iterable4: Iterable[Any] | AsyncIterable[Any],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: bool,
    ) -> AsyncGenerator[T | Exception, None]: ...
    def amap(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
    ) -> AsyncGenerator[Any, None]:
        """Calls *fn* with a resource and the items of the input, and gives the results.

        For `async for`, in asyncio. The input, endless if need be, is read in the loop as results
        are taken, and not before the first is asked for. The iteration ends with the shortest of
        several inputs. An item that fails, like an input that raises, raises at its place, ends
        the iteration and cancels the rest; so does `aclose`, to be called when the iteration is
        not used up. Cancelled is only what has not started. The error of an item has a note with
        the item's index.

        Asynchronous inputs are read in one task of their own, in which asynchronous generators are
        also closed when the iteration ends: time limits, task groups and context variables of
        theirs hold from item to item. What such a generator raises when closed is raised.

        Args:
            fn: Called as `fn(resource, item)`, or with one item of each input.
            *iterables: The inputs, at least one, iterable or asynchronously iterable.
            buffersize: How many items may be read beyond the results handed out, at least 1.
                `None`: twice the number of workers, and more where tasks are so short that the
                consumer waits all the same.
            ordered: Whether the results come in the order of the input, else as they finish.
            return_exceptions: As for `map`: whether the `Exception` of an item is handed out in
                place of its result, and the iteration goes on.

        Returns:
            An asynchronous generator.

        Raises:
            TypeError: There is no input. When iterating: *fn* cannot be called.
            ConfigError: *buffersize* is no int or less than 1; *ordered* or *return_exceptions* is
                no bool.
            RunnerStopped: When iterating: the runner does not accept tasks.
            QueueFull: When iterating: there is no room for an item, the call may not wait, and
                nothing of this `amap` is in flight.
            RunnerBroken: When iterating: the runner was inherited through a fork, or failed inside.

        Example:
            >>> import asyncio
            >>> from tasker import Config, Runner
            >>> async def main() -> list[int]:
            ...     async with Runner.start(Config(on_create=dict, worker_count=2)) as runner:
            ...         return [y async for y in runner.amap(lambda cache, x: x * x, range(5))]
            >>> asyncio.run(main())
            [0, 1, 4, 9, 16]
        """
        if not iterables:
            message = "amap() needs at least one iterable"
            raise TypeError(message)
        buffersize = check_count("buffersize", buffersize, least=1, optional=True)
        check_type("ordered", ordered, bool)
        check_type("return_exceptions", return_exceptions, bool)
        # Not at the top: it needs asyncio.
        from tasker._stream import stream  # noqa: PLC0415

        look_ahead = self._look_ahead(buffersize)

        def asubmit(item: tuple[Any, ...]) -> Promise[Any]:
            look_ahead.follow(self._most_workers())
            return cast("Promise[Any]", self.asubmit(fn, *item))

        def begin(
            asubmit: Callable[[tuple[Any, ...]], Promise[Any]],
        ) -> AsyncGenerator[Any, None]:
            return stream(
                asubmit, iterables, look_ahead, ordered, return_exceptions, self._has_room
            )

        observed = self._observer_of(fn)
        if observed is None:
            return begin(asubmit)
        observer, name = observed
        return observer.amap(name, asubmit, begin)

    def _has_room(self) -> bool:
        return True

    def _look_ahead(self, buffersize: int | None) -> LookAhead:
        return _tasker._LookAhead(buffersize, self._most_workers())


publish_methods("Runner", AsyncMapMixin)
