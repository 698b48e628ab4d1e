"""The share of the last minute in which an `InlineRunner` ran tasks."""

from __future__ import annotations

import time
from collections import deque

WINDOW = 60.0
"""Seconds that shares and rates cover."""


class BusyTime:
    """Keeps when tasks ran, as far back as a minute."""

    def __init__(self) -> None:
        self._born = time.monotonic()
        self._spans: deque[tuple[float, float]] = deque()

    def ran(self, begin: float, end: float) -> None:
        """Notes a task that ran inside no other.

        Args:
            begin: When it began.
            end: When it ended.
        """
        self._spans.append((begin, end))
        while self._spans[0][1] < end - WINDOW:
            self._spans.popleft()

    def share(self, since: float | None) -> float:
        """Gives the share, of the last minute or of a younger runner's life.

        Args:
            since: When the task began that runs now, if one does.
        """
        now = time.monotonic()
        start = max(self._born, now - WINDOW)
        spans = [*self._spans] if since is None else [*self._spans, (since, now)]
        busy = sum(max(end - max(begin, start), 0.0) for begin, end in spans)
        return min(busy / (now - start), 1.0) if now > start else 0.0
