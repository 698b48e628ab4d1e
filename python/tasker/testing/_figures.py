"""What an `InlineRunner` counts, in the classes of a runner's figures."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from dataclasses import fields
from typing import Any

from tasker._stats import Metrics, Stats

RATED = 60.0
"""Seconds that rates cover."""
TOTALS = tuple(
    field.name.removeprefix("total_tasks_")
    for field in fields(Metrics)
    if field.name.startswith("total_tasks_")
)


class Figures:
    """Counts tasks, and keeps how long they took."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        """How many tasks, by the end of the name in `Metrics`."""
        self._born = time.monotonic()
        self._waits: list[float] = []
        self._spans: list[float] = []
        self._arrivals: list[float] = []
        self._completions: list[float] = []

    def arrived(self) -> None:
        """Counts a task that was accepted."""
        self.totals["arrived"] += 1
        self._arrivals.append(time.monotonic())

    def completed(self) -> None:
        """Counts a task that returned."""
        self.totals["completed"] += 1
        self._completions.append(time.monotonic())

    def ran(self, wait: float, span: float) -> None:
        """Notes an attempt.

        Args:
            wait: Seconds it waited.
            span: Seconds it took.
        """
        self._waits.append(wait)
        self._spans.append(span)

    def metrics(self) -> Metrics:
        """Makes the figures since the start."""
        found: dict[str, Any] = {field.name: 0.0 for field in fields(Metrics)}
        found |= _spread("execution_time", self._spans) | _spread("wait_time", self._waits)
        found |= {f"total_tasks_{name}": self.totals[name] for name in TOTALS}
        age = time.monotonic() - self._born
        found["task_arrival_rate"] = _rate(self._arrivals, age)
        found["task_completion_rate"] = _rate(self._completions, age)
        if finished := self.totals["completed"] + self.totals["failed"]:
            found["success_rate"] = self.totals["completed"] / finished
            found["failure_rate"] = self.totals["failed"] / finished
        return Metrics(**found)


def stats(**known: int) -> Stats:
    """Makes the gauges of a moment.

    Args:
        **known: Those that are not zero.
    """
    return Stats(**{field.name: known.get(field.name, 0) for field in fields(Stats)})


def _spread(what: str, times: list[float]) -> dict[str, float]:
    if not times:
        return {}
    ordered = sorted(times)
    figures = {"average": sum(times) / len(times), "min": ordered[0], "max": ordered[-1]}
    for percent in (50, 95, 99):
        # The nearest rank, as the native histogram has it.
        figures[f"p{percent}"] = ordered[-(-percent * len(ordered) // 100) - 1]
    return {f"{which}_{what}": figure for which, figure in figures.items()}


def _rate(moments: list[float], age: float) -> float:
    """Events per second: over the last minute, or over a younger runner's life."""
    recent = len(moments) - bisect_left(moments, time.monotonic() - RATED)
    return recent / min(max(age, 1.0), RATED)
