"""The results of `RayRunner.map`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from tasker._results import LookAhead, Results, result_at, shortest
from tasker.ray._task import RayFuture

T = TypeVar("T")

Item = tuple[Any, ...]


class RayResults(Results[T]):
    """Submits items, so many ahead, and gives the results; see `Results`."""

    def __init__(
        self,
        submit: Callable[[list[Item], bool], list[RayFuture[T]]],
        inputs: tuple[Iterable[Any], ...],
        look_ahead: LookAhead,
        ordered: bool,
        return_exceptions: bool,
    ) -> None:
        """Submits the first items.

        Args:
            submit: Submits tasks for items: for the first of them, where there is no room for all
                that may wait. It raises what is wrong with the first.
            inputs: One iterable for each argument of the task.
            look_ahead: How many items may be read beyond the results handed out.
            ordered: Whether the results come in the order of the input, else as they finish.
            return_exceptions: Whether an item's `Exception` is handed out in place of its result.
        """
        self._left = shortest(inputs)
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
        self._held: list[Item] = []
        """Items that were read, and for which there was no room."""
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
            index, future = found
            result = result_at(index, future, hands_out_errors=self._return_exceptions)
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
        self._items = self._failure = None
        self._held = []
        self._left = 0
        flight, self._flight = self._flight, {}
        for future in flight.values():
            future.look()
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
            index = self._submitted - len(flight) if self._ordered else self._first_done()
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

    def _read_on(self) -> None:
        """Reads and submits as many items as may be under way."""
        while room := self._look_ahead.room(len(self._flight)):
            self._read(room - len(self._held))
            if not self._held:
                return
            try:
                futures = self._submit(self._held[:room], bool(self._flight))
            except BaseException as error:
                self._items, self._held, self._failure = None, [], error
                return
            if not futures:
                return  # tried again once a result has been taken
            del self._held[: len(futures)]
            for index, future in enumerate(futures, self._submitted):
                self._flight[index] = future
                if not self._ordered:
                    future.add_done_callback(partial(_note_done, self._done, self._news, index))
            self._submitted += len(futures)

    def _read(self, most: int) -> None:
        """Reads items; what the input raises is raised after all before it."""
        try:
            while most > 0 and self._items is not None:
                item = next(self._items, None)
                if item is None:
                    # An exhausted zip asked again would take from its first input again.
                    self._items = None
                    return
                self._held.append(item)
                most -= 1
        except BaseException as error:
            self._items, self._failure = None, error

    def _raise_if_failed(self) -> None:
        """Raises what the input raised, or why an item was refused, after everything before."""
        failure = self._failure
        if failure is None or self._flight or self._held:
            return
        self.close()
        try:
            raise failure
        finally:
            # As in `result_at`.
            del failure


def _tell(news: SimpleQueue[None], _future: object) -> None:
    news.put(None)


def _note_done(done: deque[int], news: SimpleQueue[None], index: int, _future: object) -> None:
    done.append(index)
    news.put(None)
