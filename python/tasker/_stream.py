"""How `amap` works: tasks in flight for the items of an input that may be asynchronous too."""

from __future__ import annotations

import asyncio
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
    from tasker._results import LookAhead

T = TypeVar("T")

Item = tuple[Any, ...]
Inputs = Sequence[Iterable[Any] | AsyncIterable[Any]]


async def stream(
    asubmit: Callable[[Item], Promise[T]],
    inputs: Inputs,
    look_ahead: LookAhead,
    ordered: bool,
    return_exceptions: bool,
    has_room: Callable[[], bool],
) -> AsyncGenerator[T | Exception, None]:
    """Gives the results of a task for each item of the input.

    Args:
        asubmit: Submits the task for an item.
        inputs: One iterable for each argument of the task, at least one.
        look_ahead: How many items may be read beyond the results handed out.
        ordered: Whether the results come in the order of the input, else as they finish.
        return_exceptions: Whether an item's `Exception` is handed out in place of its result.
        has_room: Whether a task that is submitted now is not refused for a full queue.
    """
    is_async = any(isinstance(each, AsyncIterable) for each in inputs)
    source = _AsyncInput(inputs) if is_async else _SyncInput(inputs)
    flight: _InFlight[T] = _OrderedInFlight() if ordered else _UnorderedInFlight()
    item: Item | None = None
    failure: Exception | None = None
    try:
        while True:
            while failure is None and look_ahead.room(len(flight)):
                try:
                    item = item or source.take()
                    if item is None:
                        break
                    # A refusal is counted, and the item is going to be accepted later.
                    if len(flight) and not has_room():
                        break
                    flight.add(asubmit(item))
                    item = None
                except QueueFull as error:
                    if not len(flight):
                        failure = error
                    break  # tried again once a result has been taken
                except Exception as error:
                    failure = error
            reads_on = failure is None and item is None and look_ahead.room(len(flight)) > 0
            reading = source.reading if reads_on else None
            if not len(flight):
                if failure is not None:
                    raise failure
                if reading is None:
                    return
                await asyncio.wait([reading])
                continue
            if not flight.next_done().done():
                look_ahead.note_wait()
                # Not an `await` of the promise itself: cancelled, that would tell the task.
                either = [flight.next_done(), reading] if reading else [flight.next_done()]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                del either
                continue
            yield flight.take(return_exceptions)
            look_ahead.note_taken()
    finally:
        # The traceback of an error keeps this frame, which must not lead back to the error.
        failure = None
        flight.abandon()
        await source.close()


class _InFlight(Protocol[T]):
    """The tasks in flight."""

    def __len__(self) -> int: ...

    def add(self, promise: Promise[T]) -> None: ...

    def next_done(self) -> asyncio.Future[Any]:
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


class _OrderedInFlight(_InFlight[T]):
    def __init__(self) -> None:
        self._promises: deque[Promise[T]] = deque()
        self._taken = 0

    def __len__(self) -> int:
        return len(self._promises)

    def add(self, promise: Promise[T]) -> None:
        self._promises.append(promise)

    def next_done(self) -> asyncio.Future[Any]:
        return self._promises[0]

    def pop(self) -> tuple[int, Promise[T]]:
        index = self._taken
        self._taken += 1
        return index, self._promises.popleft()

    def abandon(self) -> None:
        while self._promises:
            self._promises.popleft().abandon()


class _UnorderedInFlight(_InFlight[T]):
    def __init__(self) -> None:
        self._pending: dict[Promise[T], int] = {}
        self._ready: deque[tuple[int, Promise[T]]] = deque()
        self._added = 0
        self._wakeup: asyncio.Future[None] = asyncio.get_running_loop().create_future()

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
            if not self._wakeup.done():
                self._wakeup.set_result(None)

    def next_done(self) -> asyncio.Future[Any]:
        if self._ready:
            return self._ready[0][1]
        if self._wakeup.done():
            self._wakeup = self._wakeup.get_loop().create_future()
        return self._wakeup

    def pop(self) -> tuple[int, Promise[T]]:
        return self._ready.popleft()

    def abandon(self) -> None:
        while self._ready:
            self._ready.popleft()[1].abandon()
        while self._pending:
            self._pending.popitem()[0].abandon()


class _SyncInput:
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


class _AsyncInput(_SyncInput):
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
                self._reader.add_done_callback(self._hand_out_end)
            elif self._reader.done():
                self.reading.cancel()  # as the reader was, between two items
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

    def _hand_out_end(self, reader: asyncio.Task[None]) -> None:
        """Hands out how the reading ended."""
        error = None if reader.cancelled() else reader.exception()
        if self.reading is None or self.reading.done():
            return
        if reader.cancelled():
            self.reading.cancel()
        elif error is not None:
            self.reading.set_exception(error)
            self.reading.exception()  # or asyncio would complain where no caller asks
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
