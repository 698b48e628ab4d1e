"""The results of a `map`: what every kind of runner gives."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator, Sized
from typing import TYPE_CHECKING, Protocol, Self, TypeVar, cast

from tasker._public import publish
from tasker._tasker import _is_handed_out, _once

if TYPE_CHECKING:
    from types import TracebackType

    from tasker._future import Future

T = TypeVar("T")


class LookAhead(Protocol):
    """How many items of an input may be read beyond the results handed out."""

    def follow(self, workers: int) -> None:
        """Goes by a number of workers that may have changed."""

    def room(self, ahead: int) -> int:
        """How many items may be read when so many are ahead."""
        ...

    def note_wait(self) -> None:
        """Takes note that the consumer has to wait for a result."""

    def note_taken(self) -> None:
        """Takes note of a result that was handed out."""


@_once
class Results(Iterator[T], metaclass=ABCMeta):
    """The results of a `map`, in the order of its input or as they come.

    The input is read in the thread that iterates, never further ahead than the look-ahead allows,
    so it may be endless. A result handed out is not kept. An item that fails, like an input that
    raises, raises at its place, ends the iteration and cancels the rest; so does `close`, leaving
    the `with` block and dropping the object. Cancelled is only what has not started. With
    `return_exceptions=True` an item that fails gives its exception as its result. The exception
    of an item has a note with the item's index.

    Where every input has a length, `operator.length_hint` tells how many results are to come.

    One thread at a time may iterate: another one, and an input that reads its own results, gets a
    `RuntimeError`. `close` may be called from any thread, also while another one waits for a
    result: its iteration ends then.
    """

    __slots__ = ()

    @abstractmethod
    def __next__(self) -> T: ...

    @abstractmethod
    def close(self) -> None:
        """Ends the iteration and cancels what has not started; may be called again."""

    @abstractmethod
    def __length_hint__(self) -> int:
        """Results still to come, when every input has a length."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.close()


def shortest(inputs: tuple[object, ...]) -> int | None:
    """How many items there are, if every input has a length."""
    lengths = [len(each) for each in inputs if isinstance(each, Sized)]
    return min(lengths) if len(lengths) == len(inputs) else None


def result_at(index: int, future: Future[T], *, hands_out_errors: bool) -> T:
    """The result of an item, or the error in its place where that is handed out."""
    error = future.exception()
    try:
        if error is not None and _is_handed_out(error, index) and hands_out_errors:
            # Its type says so: the results are of T | Exception then.
            return cast("T", error)
        return future.result()
    finally:
        # The traceback of an error keeps this frame, which must not lead back to the error.
        del error, future


publish(globals(), ["Results"])
