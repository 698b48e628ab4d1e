"""Streaming `map`: the method, on top of the native iterator that it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from tasker._checks import check_count, check_type
from tasker._public import publish_methods
from tasker._results import Results
from tasker._tasker import Results as NativeResults

if TYPE_CHECKING:
    from tasker._observer import Observer
    from tasker._tasker import Runner, Submitter

# Registered, not derived: a native class is no subclass of a Python one.
Results.register(NativeResults)

R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


class MapMixin(Generic[R]):
    """The method `map`, for a runner and its views."""

    if TYPE_CHECKING:

        def _origin(self) -> tuple[Runner[R], Submitter[R] | None]: ...
        def _observer_of(self, fn: object) -> tuple[Observer, str] | None: ...

    @overload
    def map(
        self,
        fn: Callable[[R, A], T],
        iterable: Iterable[A],
        /,
        *,
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
    ) -> Results[T]: ...
    @overload
    def map(
        self,
        fn: Callable[[R, A], T],
        iterable: Iterable[A],
        /,
        *,
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: bool,
    ) -> Results[T | Exception]: ...
    @overload
    def map(
        self,
        fn: Callable[[R, A, B], T],
        iterable1: Iterable[A],
        iterable2: Iterable[B],
        /,
        *,
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
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
        ordered: bool = True,
        return_exceptions: bool,
    ) -> Results[T | Exception]: ...
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
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
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
        ordered: bool = True,
        return_exceptions: bool,
    ) -> Results[T | Exception]: ...
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
        ordered: bool = True,
        return_exceptions: Literal[False] = False,
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
        ordered: bool = True,
        return_exceptions: bool,
    ) -> Results[T | Exception]: ...
    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        buffersize: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
    ) -> Results[Any]:
        """Calls *fn* with a resource and the items of the input, and gives the results.

        Queues the first items at once and more as results are taken, so it works on endless input,
        and does little while none is taken: what has not started is cancelled when it is dropped.
        Ends with the shortest of several inputs, as the built-in `map` does. Each item is a task:
        it runs in a fresh copy of the context at the time it is queued, is retried, counted and
        limited in time like any other. Quick items travel in batches, which workers share. The
        error of an item has a note with the item's index. May be called from any thread; one thread
        at a time may iterate.

        Args:
            fn: Called as `fn(resource, item)`, or with one item of each input.
            *iterables: The inputs, at least one. They are read in the thread that iterates.
            buffersize: How many items may be read beyond the results handed out, at least 1. A hard
                limit. `None`: it begins with twice the greatest number of workers, and doubles only
                while the iterating thread has to wait although all these items together take less
                than a millisecond. A full queue makes it less for a while.
            ordered: `False` gives each result as soon as it is there.
            return_exceptions: `True` hands out the `Exception` of an item in place of its result
                and goes on, `TaskTimeout` and `ResourceCreationError` included. An error of an
                input, what says that the runner takes no more items (`RunnerStopped`,
                `RunnerBroken`, the `TaskCancelled` of an item that was dropped) and any other
                `BaseException` end the iteration all the same.

        Returns:
            An iterator, to be closed or dropped when it is not used up.

        Raises:
            TypeError: There is no input, or one cannot be iterated, or *fn* cannot be called, or is
                a coroutine or generator function.
            ConfigError: *buffersize* is no int, or less than 1; *ordered* or *return_exceptions* is
                no bool.
            RunnerStopped: The runner does not accept tasks.
            QueueFull: There is no room for the first item and the call may not wait. For a later
                item it is raised at its place, if nothing of this map is in flight then.
            RunnerBroken: The runner was inherited through a fork, or failed inside.

        Example:
            >>> from tasker import Config, Runner
            >>> with Runner(Config(on_create=dict, worker_count=2)) as runner:
            ...     list(runner.map(lambda cache, x: x * x, range(5)))
            [0, 1, 4, 9, 16]
        """
        if not iterables:
            message = "map() needs at least one iterable"
            raise TypeError(message)
        buffersize = check_count("buffersize", buffersize, least=1, optional=True)
        check_type("ordered", ordered, bool)
        check_type("return_exceptions", return_exceptions, bool)
        observed = self._observer_of(fn)
        if observed is None:
            return self._begin_map(fn, iterables, buffersize, ordered, return_exceptions)
        observer, name = observed
        return observer.map(
            name,
            lambda: self._begin_map(fn, iterables, buffersize, ordered, return_exceptions),
        )

    def _begin_map(
        self,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        buffersize: int | None,
        ordered: bool,
        return_exceptions: bool,
    ) -> Results[Any]:
        runner, view = self._origin()
        return NativeResults(runner, view, fn, iterables, buffersize, ordered, return_exceptions)


publish_methods("Runner", MapMixin)
