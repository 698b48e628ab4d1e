"""The results of `InlineRunner.map`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from tasker._results import Results, result_at, shortest
from tasker.testing._task import InlineFuture

if TYPE_CHECKING:
    from tasker import _tasker

T = TypeVar("T")

Item = tuple[Any, ...]


class InlineResults(Results[T]):
    """Submits items, so many ahead, and gives the results; see `Results`."""

    def __init__(
        self,
        submit: Callable[[Item, bool], InlineFuture[T] | None],
        inputs: tuple[Iterable[Any], ...],
        look_ahead: _tasker._LookAhead,
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
        self._left = shortest(inputs)
        self._submit = submit
        self._look_ahead = look_ahead
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self._futures: deque[tuple[int, InlineFuture[T]]] = deque()
        self._submitted = 0
        self._items: Iterator[Item] | None = zip(*inputs, strict=False)
        self._held: Item | None = None
        self._failure: BaseException | None = None
        self._is_in_use = False
        self._read_on()
        self._raise_if_failed()

    def __next__(self) -> T:
        if self._is_in_use:
            message = "the results of this map are being read already"
            raise RuntimeError(message)
        self._read_on()
        self._raise_if_failed()
        if not self._futures:
            self._left = 0
            raise StopIteration
        index, future = self._take()
        self._is_in_use = True
        try:
            result = result_at(index, future, hands_out_errors=self._return_exceptions)
        except BaseException:
            self.close()
            raise
        finally:
            self._is_in_use = False
        if self._left is not None:
            self._left -= 1
        return result

    def close(self) -> None:
        self._items = self._held = self._failure = None
        self._left = 0
        while self._futures:
            self._futures.popleft()[1].cancel()

    def __length_hint__(self) -> int:
        return NotImplemented if self._left is None else self._left

    def __del__(self) -> None:
        if hasattr(self, "_futures"):
            self.close()

    def _take(self) -> tuple[int, InlineFuture[T]]:
        if not self._ordered:
            for place, (_, future) in enumerate(self._futures):
                if future.done():
                    self._futures.rotate(-place)
                    taken = self._futures.popleft()
                    self._futures.rotate(place)
                    return taken
        return self._futures.popleft()

    def _read_on(self) -> None:
        """Reads and submits as many items as may be under way."""
        self._is_in_use, in_use = True, self._is_in_use
        try:
            while self._failure is None and self._look_ahead.room(len(self._futures)):
                if self._held is None:
                    self._held = next(self._items, None) if self._items is not None else None
                if self._held is None:
                    # An exhausted zip asked again would take from its first input again.
                    self._items = None
                    return
                future = self._submit(self._held, bool(self._futures))
                if future is None:
                    return  # tried again once a result has been taken
                self._futures.append((self._submitted, future))
                self._submitted += 1
                self._held = None
        except BaseException as error:
            self._failure = error
        finally:
            self._is_in_use = in_use

    def _raise_if_failed(self) -> None:
        """Raises what the input raised, or why an item was refused, after everything before."""
        failure = self._failure
        if failure is None or self._futures:
            return
        self.close()
        try:
            raise failure
        finally:
            # The traceback of an error keeps this frame, which must not lead back to the error.
            del failure
