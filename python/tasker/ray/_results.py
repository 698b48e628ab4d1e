"""The results of `RayRunner.map`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar, cast

from tasker import _tasker
from tasker._results import LookAhead, Results
from tasker.ray._task import RayFuture

T = TypeVar("T")

Item = tuple[Any, ...]


class RayResults(Results[T]):
    """Submits items, so many ahead, and gives the results; see `Results`."""

    def __init__(
        self,
        submit: Callable[[Item, bool], RayFuture[T] | None],
        inputs: tuple[Iterable[Any], ...],
        look_ahead: LookAhead,
        ordered: bool,
        return_exceptions: bool,
    ) -> None:
        """Submits the first items.

        Args:
            submit: Submits the task for an item; `None` where there is no room and it may wait.
            inputs: One iterable for each argument of the task.
            look_ahead: How many items may be read beyond the results handed out.
            ordered: Whether the results come in the order of the input, else as they finish.
            return_exceptions: Whether an item's `Exception` is handed out in place of its result.
        """
        lengths = [len(each) for each in inputs if isinstance(each, Sized)]
        self._left = min(lengths) if len(lengths) == len(inputs) else None
        self._submit = submit
        self._look_ahead = look_ahead
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self._flight: dict[int, RayFuture[T]] = {}
        """By the index of the item; the oldest first."""
        self._done: deque[int] = deque()
        self._news: SimpleQueue[None] = SimpleQueue()
        """Something is done that is waited for, or the iteration was closed."""
        self._submitted = 0
        self._items: Iterator[Item] | None = zip(*inputs, strict=False)
        self._held: Item | None = None
        self._failure: BaseException | None = None
        self._in_use = threading.Lock()
        with self._in_use:
            self._read_on()
            self._raise_if_failed()

    def __next__(self) -> T:
        if not self._in_use.acquire(blocking=False):
            message = "the results of this map are being read already"
            raise RuntimeError(message)
        try:
            self._read_on()
            self._raise_if_failed()
            found = self._wait()
            if found is None:
                self._left = 0
                raise StopIteration
            result = self._result(*found)
            self._look_ahead.note_taken()
            if self._left:
                self._left -= 1
            return result
        except StopIteration:
            raise
        except BaseException:
            self.close()
            raise
        finally:
            self._in_use.release()

    def close(self) -> None:
        self._items = self._held = self._failure = None
        self._left = 0
        flight, self._flight = self._flight, {}
        for future in flight.values():
            future.cancel()
        self._news.put(None)

    def __length_hint__(self) -> int:
        return NotImplemented if self._left is None else self._left

    def __del__(self) -> None:
        if hasattr(self, "_in_use"):
            self.close()

    def _wait(self) -> tuple[int, RayFuture[T]] | None:
        """Waits for the next result; `None`: there is none, or no longer."""
        while flight := self._flight:
            index = next(iter(flight)) if self._ordered else self._first_done()
            if index is not None and (future := flight.get(index)) is not None:
                if future.done():
                    flight.pop(index, None)
                    return index, future
                future.add_done_callback(partial(_tell, self._news))
            self._look_ahead.note_wait()
            self._news.get()
        return None

    def _first_done(self) -> int | None:
        return self._done.popleft() if self._done else None

    def _result(self, index: int, future: RayFuture[T]) -> T:
        """The result of an item, or the error in its place where that is handed out."""
        error = future.exception()
        try:
            if error is not None:
                is_handed_out = _tasker._is_handed_out(error, index)
                if self._return_exceptions and is_handed_out:
                    # Its type says so: the results are of T | Exception then.
                    return cast("T", error)
            return future.result()
        finally:
            # The traceback of an error keeps this frame, which must not lead back to the error.
            del error, future

    def _read_on(self) -> None:
        """Reads and submits as many items as may be under way."""
        try:
            while self._failure is None and self._look_ahead.room(len(self._flight)):
                if self._held is None:
                    self._held = next(self._items, None) if self._items is not None else None
                if self._held is None:
                    # An exhausted zip asked again would take from its first input again.
                    self._items = None
                    return
                future = self._submit(self._held, bool(self._flight))
                if future is None:
                    return  # tried again once a result has been taken
                index = self._submitted
                self._flight[index] = future
                self._submitted += 1
                self._held = None
                if not self._ordered:
                    future.add_done_callback(partial(_note_done, self._done, self._news, index))
        except BaseException as error:
            self._failure = error

    def _raise_if_failed(self) -> None:
        """Raises what the input raised, or why an item was refused, after everything before."""
        failure = self._failure
        if failure is None or self._flight:
            return
        self.close()
        try:
            raise failure
        finally:
            # As in `_result`.
            del failure


def _tell(news: SimpleQueue[None], _future: object) -> None:
    news.put(None)


def _note_done(done: deque[int], news: SimpleQueue[None], index: int, _future: object) -> None:
    done.append(index)
    news.put(None)
