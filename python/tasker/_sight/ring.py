"""A memory of moments that forgets what is old, and takes no more of them than it needs."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Ring(Generic[T]):
    """Keeps one thing for each step of time, over a span of time.

    Args:
        step: Seconds between two that are kept; what comes earlier is not.
        span: Seconds for which one is kept; one that is just older stays beside them.
    """

    def __init__(self, step: float, span: float) -> None:
        self._step = step
        self._span = span
        self._kept: deque[tuple[float, T]] = deque()

    def add(self, time: float, thing: T) -> bool:
        """Keeps a thing if it is time for one.

        Args:
            time: Now, in seconds that never go back.
            thing: What to keep.

        Returns:
            Whether it was kept.
        """
        # A hair early is in time: a viewer of two looks a second would else get two points in 3 s.
        if self._kept and time - self._kept[-1][0] < 0.9 * self._step:
            return False
        self._kept.append((time, thing))
        while len(self._kept) > 1 and self._kept[1][0] <= time - self._span:
            self._kept.popleft()
        return True

    def before(self, time: float) -> tuple[float, T]:
        """Finds the newest that is no younger than a time, or the oldest of all.

        Raises:
            LookupError: Nothing was added yet.
        """
        found = None
        for kept in self._kept:
            if found is not None and kept[0] > time:
                break
            found = kept
        if found is None:
            message = "nothing was added"
            raise LookupError(message)
        return found

    def things(self) -> tuple[T, ...]:
        """Returns what is kept, oldest first."""
        return tuple(thing for _, thing in self._kept)
