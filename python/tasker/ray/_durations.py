"""Durations and rates that only grow in count, of which no single one is kept."""

from __future__ import annotations

import math
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import add

from tasker._sight.quantiles import EDGES
from tasker._stats import Timing

WINDOW = 60.0
"""Seconds that rates cover."""
NONE = Timing(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class Durations:
    """What durations of one kind come to; percentiles are up to 4 % off."""

    def __init__(self) -> None:
        self._counts = [0] * (len(EDGES) + 1)
        self._total = 0.0
        self._min, self._max = math.inf, 0.0

    def add(self, seconds: float) -> None:
        """Adds one."""
        self._counts[bisect_left(EDGES, seconds)] += 1
        self._total += seconds
        self._min = min(self._min, seconds)
        self._max = max(self._max, seconds)

    def add_all(self, seconds: Sequence[float]) -> None:
        """Adds some, all in one go: a reply brings hundreds."""
        if not seconds:
            return
        counts = self._counts
        for each in seconds:
            counts[bisect_left(EDGES, each)] += 1
        self._total += sum(seconds)
        self._min = min(self._min, *seconds)
        self._max = max(self._max, *seconds)

    @staticmethod
    def together(parts: Iterable[Durations]) -> Durations:
        """Adds up some."""
        whole = Durations()
        for each in parts:
            whole._counts = list(map(add, whole._counts, each._counts))
            whole._total += each._total
            whole._min = min(whole._min, each._min)
            whole._max = max(whole._max, each._max)
        return whole

    def timing(self) -> Timing:
        """Sums them up."""
        upto = list(accumulate(self._counts))
        count = upto[-1]
        if not count:
            return NONE

        def at(percent: int) -> float:
            bucket = bisect_left(upto, -(-percent * count // 100))
            edge = EDGES[min(bucket, len(EDGES) - 1)]
            return min(max(edge / math.sqrt(EDGES[1] / EDGES[0]), self._min), self._max)

        mean = self._total / count
        return Timing(count, self._total, mean, self._min, self._max, at(50), at(95), at(99))

    def histogram(self, edges: Sequence[float]) -> tuple[list[int], int, float]:
        """Counts those that are no longer than each edge, as `Runner._histograms` gives it."""
        upto = [0, *accumulate(self._counts)]
        counts = [upto[bisect_right(EDGES, edge)] for edge in edges]
        return counts, upto[-1], self._total


class Rate:
    """How many things happen in a second, over the last minute."""

    def __init__(self) -> None:
        self._born = time.monotonic()
        self._counts: deque[tuple[int, int]] = deque()
        """How many in each second of the last minute that had one."""

    def add(self, count: int = 1) -> None:
        """Counts what happens now."""
        second = int(time.monotonic())
        if self._counts and self._counts[-1][0] == second:
            count += self._counts.pop()[1]
        self._counts.append((second, count))
        while self._counts[0][0] < second - WINDOW:
            self._counts.popleft()

    def lately(self) -> int:
        """How many there were in the last minute."""
        start = time.monotonic() - WINDOW
        return sum(count for second, count in tuple(self._counts) if second >= start)

    def per_second(self) -> float:
        """Over the last minute, or over a shorter life."""
        return self.lately() / min(max(time.monotonic() - self._born, 1.0), WINDOW)
