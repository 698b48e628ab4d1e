"""How `amap` works: tasks in flight for the items of an input that may be asynchronous too."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tasker import _tasker
from tasker._errors import QueueFull

if TYPE_CHECKING:
    from tasker._asyncio import Promise

T = TypeVar("T")

Item = tuple[Any, ...]
Inputs = Sequence[Iterable[Any] | AsyncIterable[Any]]

MOMENT = 0.001
"""Seconds that all items in flight may take together for the look-ahead to grow."""


async def stream(
    asubmit: Callable[[Item], Promise[T]],
    inputs: Inputs,
    look_ahead: LookAhead,
    ordered: bool,
    return_exceptions: bool,
) -> AsyncGenerator[T | Exception, None]:
    """Gives the results of a task for each item of the input.

    Args:
        asubmit: Submits the task for an item.
        inputs: One iterable for each argument of the task, at least one.
        look_ahead: How many items may be read beyond the results handed out.
        ordered: Whether the results come in the order of the input, else as they finish.
        return_exceptions: Whether an item's `Exception` is handed out in place of its result.
    """
    is_slow = any(isinstance(each, AsyncIterable) for each in inputs)
    source = _SlowSource(inputs) if is_slow else _Source(inputs)
    flight: _Flight[T] = _InOrder() if ordered else _AsTheyFinish()
    item: Item | None = None
    failure: Exception | None = None
    try:
        while True:
            while failure is None and len(flight) < look_ahead.size:
                try:
                    item = item or source.take()
                    if item is None:
                        break
                    flight.add(asubmit(item))
                    item = None
                except QueueFull as error:
                    if not len(flight):
                        failure = error
                    break  # tried again once a result has been taken
                except Exception as error:
                    failure = error
            has_room = failure is None and item is None and len(flight) < look_ahead.size
            reading = source.reading if has_room else None
            if not len(flight):
                if failure is not None:
                    raise failure
                if reading is None:
                    return
                await asyncio.wait([reading])
                continue
            if not flight.signal().done():
                look_ahead.waits()
                # Not an `await` of the promise itself: cancelled, that would tell the task.
                either = [flight.signal(), reading] if reading else [flight.signal()]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                del either
                continue
            yield flight.take(return_exceptions)
            look_ahead.taken()
    finally:
        # The traceback of an error keeps this frame, which must not lead back to the error.
        failure = None
        flight.abandon()
        await source.close()


class LookAhead:
    """How many items may be in flight: so many, or more and more while that pays.

    Without a number it begins with what keeps the workers busy, and doubles when the consumer had
    to wait although everything in flight took but a moment.
    """

    def __init__(self, fixed: int | None, least: int) -> None:
        """Begins.

        Args:
            fixed: The number, if there is one.
            least: What to begin with otherwise.
        """
        self.size = fixed or least
        self._grows = fixed is None
        self._since = time.monotonic()
        self._taken = 0
        self._waited = False

    def waits(self) -> None:
        """Notes that the consumer has to wait."""
        self._waited = True

    def taken(self) -> None:
        """Notes that a result was handed out."""
        if not self._grows:
            return
        self._taken += 1
        if self._taken >= self.size:
            now = time.monotonic()
            if self._waited and now - self._since < MOMENT:
                self.size *= 2
            self._since, self._taken, self._waited = now, 0, False


class _Flight(Protocol[T]):
    """The tasks in flight."""

    def __len__(self) -> int: ...

    def add(self, promise: Promise[T]) -> None: ...

    def signal(self) -> asyncio.Future[Any]:
        """What is done when the next result is there."""
        ...

    def pop(self) -> tuple[int, Promise[T]]:
        """Gives the next task that is done, and the index of its item."""
        ...

    def take(self, return_exceptions: bool) -> T | Exception:
        """Gives the next result, or the error in its place where that is handed out."""
        index, promise = self.pop()
        error = promise.exception()
        try:
            if error is not None:
                is_handed_out = _tasker._is_handed_out(error, index)
                if return_exceptions and is_handed_out and isinstance(error, Exception):
                    return error
            return promise.result()
        finally:
            # As in `stream`.
            del error, promise

    def abandon(self) -> None:
        """Cancels what has not started, and forgets the rest."""
        ...


class _InOrder(_Flight[T]):
    def __init__(self) -> None:
        self._promises: deque[Promise[T]] = deque()
        self._taken = 0

    def __len__(self) -> int:
        return len(self._promises)

    def add(self, promise: Promise[T]) -> None:
        self._promises.append(promise)

    def signal(self) -> asyncio.Future[Any]:
        return self._promises[0]

    def pop(self) -> tuple[int, Promise[T]]:
        index = self._taken
        self._taken += 1
        return index, self._promises.popleft()

    def abandon(self) -> None:
        while self._promises:
            self._promises.popleft().let_go()


class _AsTheyFinish(_Flight[T]):
    def __init__(self) -> None:
        self._pending: dict[Promise[T], int] = {}
        self._ready: deque[tuple[int, Promise[T]]] = deque()
        self._added = 0
        self._bell: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __len__(self) -> int:
        return len(self._pending) + len(self._ready)

    def add(self, promise: Promise[T]) -> None:
        self._pending[promise] = self._added
        self._added += 1
        promise.add_done_callback(self._finish)

    def _finish(self, promise: Promise[T]) -> None:
        index = self._pending.pop(promise, None)
        if index is not None:
            self._ready.append((index, promise))
            if not self._bell.done():
                self._bell.set_result(None)

    def signal(self) -> asyncio.Future[Any]:
        if self._ready:
            return self._ready[0][1]
        if self._bell.done():
            self._bell = self._bell.get_loop().create_future()
        return self._bell

    def pop(self) -> tuple[int, Promise[T]]:
        return self._ready.popleft()

    def abandon(self) -> None:
        while self._ready:
            self._ready.popleft()[1].let_go()
        while self._pending:
            self._pending.popitem()[0].let_go()


class _Source:
    """Input that is read without waiting."""

    reading: asyncio.Future[Any] | None = None
    """A read that is under way."""

    def __init__(self, inputs: Sequence[Any]) -> None:
        self._items: Iterator[Item] = zip(*inputs, strict=False)

    def take(self) -> Item | None:
        """Gives the next item; `None` when there is none, or `reading` is to bring it."""
        item = next(self._items, None)
        if item is None:
            # An exhausted zip asked again would take from its first input again.
            self._items = iter(())
        return item

    async def close(self) -> None:
        """Ends a read that is under way, and closes what has to be."""


class _SlowSource(_Source):
    """Input that has to be waited for."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._reader: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()
        self._is_over = False
        self._is_closing = False

    def take(self) -> Item | None:
        if self._is_over:
            return None
        if self.reading is None:
            self.reading = asyncio.get_running_loop().create_future()
            self._asked.set()
            if self._reader is None:
                self._reader = asyncio.create_task(self._read())
                self._reader.add_done_callback(self._end)
            elif self._reader.done():
                self.reading.cancel()  # as somebody did with the reader, between two items
        if not self.reading.done():
            return None
        reading, self.reading = self.reading, None
        try:
            item: Item | None = reading.result()
        except BaseException:
            self._is_over = True
            raise
        finally:
            # As in `stream`.
            del reading
        self._is_over = item is None
        return item

    async def _read(self) -> None:
        """Reads an item whenever asked, and closes the input: all in one task.

        Inputs may set context variables, or hold a time limit or a task group open between items.
        """
        async with AsyncExitStack() as stack:
            iterators: list[Iterator[Any] | AsyncIterator[Any]] = []
            for each in self._inputs:
                iterator = aiter(each) if isinstance(each, AsyncIterable) else iter(each)
                if isinstance(iterator, AsyncGenerator):
                    stack.push_async_callback(iterator.aclose)
                iterators.append(iterator)
            try:
                while True:
                    await self._asked.wait()
                    self._asked.clear()
                    item = await _next(iterators)
                    if item is None:
                        return
                    if self.reading is not None:
                        self.reading.set_result(item)
            finally:
                self._is_closing = True

    def _end(self, reader: asyncio.Task[None]) -> None:
        """Hands out how the reading ended."""
        error = None if reader.cancelled() else reader.exception()
        if self.reading is None or self.reading.done():
            return
        if reader.cancelled():
            self.reading.cancel()
        elif error is not None:
            self.reading.set_exception(error)
            self.reading.exception()  # or asyncio would complain where nobody asks
        else:
            self.reading.set_result(None)

    async def close(self) -> None:
        reader = self._reader
        if reader is None or reader.done():
            return
        if not self._is_closing:
            reader.cancel()
        await asyncio.wait([reader])
        if not reader.cancelled():
            reader.result()


async def _next(iterators: Sequence[Iterator[Any] | AsyncIterator[Any]]) -> Item | None:
    """One item of each; `None` when there is none."""
    item = []
    for each in iterators:
        try:
            argument = await anext(each) if isinstance(each, AsyncIterator) else next(each)
        except (StopIteration, StopAsyncIteration):
            return None
        item.append(argument)
    return tuple(item)
