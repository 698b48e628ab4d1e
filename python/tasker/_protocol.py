"""What a function takes that wants a runner: the seven verbs, without size and end."""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
)

from tasker._public import publish

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable

    from tasker._future import Future
    from tasker._results import Results

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
P = ParamSpec("P")


class TaskRunner(Protocol[R_co]):
    """Takes tasks: a `Runner`, what its `options` returns, or a `tasker.testing.InlineRunner`.

    The type for a parameter of code that submits tasks and neither starts nor stops what runs
    them. Each verb does what it does on `Runner`. A runner of a class is one of its base classes
    too: its tasks may ask for less than its resource is.

    Example:
        >>> import sqlite3
        >>> from tasker import Config, Runner, TaskRunner
        >>> def count(conn: sqlite3.Connection, table: str) -> int:
        ...     return conn.execute(f"select count(*) from {table}").fetchone()[0]
        >>> def tables(runner: TaskRunner[sqlite3.Connection]) -> int:
        ...     return runner.queue_task(count, "sqlite_master")
        >>> config = Config(on_create=lambda: sqlite3.connect(":memory:"), worker_count=1)
        >>> with Runner(config) as runner:
        ...     tables(runner), tables(runner.options(timeout=5))
        (0, 0)
    """

    def submit(
        self, fn: Callable[Concatenate[R_co, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Queues a task and returns its future."""
        ...

    def asubmit(
        self, fn: Callable[Concatenate[R_co, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        """Queues a task and returns an asyncio future of the running loop."""
        ...

    def submit_many(self, fn: Callable[[R_co, A], T], iterable: Iterable[A], /) -> list[Future[T]]:
        """Queues a task for each item and returns their futures."""
        ...

    def queue_task(
        self, fn: Callable[Concatenate[R_co, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Queues a task, waits for it and returns its result."""
        ...

    def run_task(
        self, fn: Callable[Concatenate[R_co, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Runs a task now, past the queue, and returns its result."""
        ...

    @overload
    def map(
        self,
        fn: Callable[[R_co, A], T],
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
        fn: Callable[[R_co, A], T],
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
        fn: Callable[[R_co, A, B], T],
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
        fn: Callable[[R_co, A, B], T],
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
        fn: Callable[[R_co, A, B, C], T],
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
        fn: Callable[[R_co, A, B, C], T],
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
        """Calls *fn* with a resource and the items of the input, and gives the results."""
        ...

    @overload
    def amap(
        self,
        fn: Callable[[R_co, A], T],
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
        fn: Callable[[R_co, A], T],
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
        fn: Callable[[R_co, A, B], T],
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
        fn: Callable[[R_co, A, B], T],
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
        fn: Callable[[R_co, A, B, C], T],
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
        fn: Callable[[R_co, A, B, C], T],
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
        """Calls *fn* with a resource and the items of the input, and gives the results."""
        ...


publish(globals(), ["TaskRunner"])
