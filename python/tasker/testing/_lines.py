"""The tasks of an `InlineRunner` that run in order by key, as they were submitted."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tasker.testing._task import InlineTask

Line: TypeAlias = "deque[InlineTask]"
"""The tasks of a key. Those that have ended may still be among them."""


class InlineLines:
    """The lines of all keys."""

    def __init__(self) -> None:
        self._by_key: dict[Hashable, Line] = {}

    def line(self, key: Hashable) -> Line:
        """Gives the line of a key.

        Args:
            key: The key.

        Returns:
            Its line, perhaps a new one.
        """
        return self._by_key.setdefault(key, deque())

    def longest(self) -> int:
        """Counts the tasks of the key that has most, and forgets the keys that have none."""
        for key, line in list(self._by_key.items()):
            first_of(line)
            if not line:
                del self._by_key[key]
        count = (sum(not task.future.done() for task in line) for line in self._by_key.values())
        return max(count, default=0)


def first_of(line: Line) -> InlineTask | None:
    """Gives the first task of a line that has no outcome.

    Args:
        line: The line, of which those before it are taken out.
    """
    while line and line[0].future.done():
        line.popleft()
    return line[0] if line else None
