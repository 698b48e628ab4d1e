"""What an `InlineRunner` counts, for its `stats` and `metrics`."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from dataclasses import astuple, fields
from typing import Any

from tasker._stats import Metrics, Stats
from tasker.testing._busy import WINDOW, BusyTime
from tasker.testing._by_name import MAX_ERRORS, FirstNames, TasksByName
from tasker.testing._timing import timing

TOTALS = tuple(
    field.name.removeprefix("total_tasks_")
    for field in fields(Metrics)
    if field.name.startswith("total_tasks_")
)
REPLACEMENTS = ("unhealthy", "reset", "invalid", "age", "tasks", "renewed")
"""Why a resource is given up for another, in the order of a runner."""


class InlineCounters:
    """Counts tasks and resources, and keeps how long they took."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        """How many tasks, by the end of the name in `Metrics`."""
        self.by_name = TasksByName()
        self.busy = BusyTime()
        self._born = time.monotonic()
        self._waits: list[float] = []
        self._spans: list[float] = []
        self._arrivals: list[float] = []
        self._completions: list[float] = []
        self._errors: FirstNames[int] = FirstNames(MAX_ERRORS)
        self._creations: list[float] = []
        self._creations_failed = 0
        self._failing_since: float | None = None
        self._replaced: dict[str, int] = dict.fromkeys(REPLACEMENTS, 0)
        self._refusals: list[float] = []
        self._keys: set[int] = set()

    def count(self, kind: str) -> None:
        """Counts what happened to a task.

        Args:
            kind: By the end of the name in `Metrics`.
        """
        self.totals[kind] += 1
        if kind == "arrived":
            self._arrivals.append(time.monotonic())
        elif kind == "completed":
            self._completions.append(time.monotonic())

    def count_error(self, name: str) -> None:
        """Counts the error of a task that failed.

        Args:
            name: Of its type.
        """
        key = self._errors.key(name)
        self._errors[key] = self._errors.get(key, 0) + 1

    def refused_full(self) -> None:
        """Counts a task that found the queue full."""
        self.totals["refused_full"] += 1
        self._refusals.append(time.monotonic())

    def begun(self, key: int) -> None:
        """Counts a task with a key that begins.

        Args:
            key: The number of its key.
        """
        self.totals["key_hits" if key in self._keys else "key_misses"] += 1
        self._keys.add(key)

    @property
    def refused_lately(self) -> int:
        """How many tasks found the queue full in the last minute."""
        return _recent(self._refusals)

    def ran(self, name: str, wait: float, span: float) -> None:
        """Notes an attempt.

        Args:
            name: Of the task.
            wait: Seconds it waited.
            span: Seconds it took.
        """
        self._waits.append(wait)
        self._spans.append(span)
        self.by_name.ran(name, span)

    @property
    def attempts(self) -> int:
        """How many have ended."""
        return len(self._spans)

    @property
    def busy_seconds(self) -> float:
        """How long these took."""
        return sum(self._spans)

    def created(self, span: float) -> None:
        """Notes that a resource was made.

        Args:
            span: Seconds that took.
        """
        self._creations.append(span)
        self._failing_since = None

    def creation_failed(self) -> None:
        """Counts a resource that could not be made."""
        self._creations_failed += 1
        if self._failing_since is None:
            self._failing_since = time.monotonic()

    def created_in_vain(self) -> None:
        """Counts the last one that was made as one that could not: it was bad from the start."""
        self._creations.pop()
        self.creation_failed()

    def replaced(self, reason: str) -> None:
        """Counts a resource that is given up for another.

        Args:
            reason: One of `REPLACEMENTS`.
        """
        self._replaced[reason] += 1

    @property
    def creation_failing_for(self) -> float:
        """Seconds since a resource could not be made, with none made since; 0.0: all is well."""
        since = self._failing_since
        return 0.0 if since is None else time.monotonic() - since

    def metrics(self) -> Metrics:
        """Makes the figures since the start."""
        found: dict[str, Any] = {field.name: 0.0 for field in fields(Metrics)}
        found |= {"execution": timing(self._spans), "wait": timing(self._waits)}
        found |= {"attach": timing([]), "creation": timing(self._creations)}
        for what in ("execution", "wait"):
            _count, _total, *figures = astuple(found[what])
            names = ("average", "min", "max", "p50", "p95", "p99")
            found |= {f"{n}_{what}_time": one for n, one in zip(names, figures, strict=True)}
        found |= {f"total_tasks_{name}": self.totals[name] for name in TOTALS}
        age = time.monotonic() - self._born
        found["task_arrival_rate"] = _rate(self._arrivals, age)
        found["task_completion_rate"] = _rate(self._completions, age)
        if finished := self.totals["completed"] + self.totals["failed"]:
            found["success_rate"] = self.totals["completed"] / finished
            found["failure_rate"] = self.totals["failed"] / finished
        found["total_creations_failed"] = self._creations_failed
        found |= {f"total_{name}": self.totals[name] for name in ("key_hits", "key_misses")}
        found["by_task"] = self.by_name.metrics()
        found |= {"errors": dict(self._errors), "replaced": dict(self._replaced)}
        return Metrics(**found)


def stats(**known: float) -> Stats:
    """Makes the gauges of a moment.

    Args:
        **known: Those that are not zero.
    """
    found: dict[str, Any] = {field.name: 0 for field in fields(Stats)}
    found |= {"oldest_wait": 0.0, "busy_share": 0.0, "creation_failing_for": 0.0} | known
    return Stats(**found)


def _rate(moments: list[float], age: float) -> float:
    """Events per second: over the last minute, or over a younger runner's life."""
    return _recent(moments) / min(max(age, 1.0), WINDOW)


def _recent(moments: list[float]) -> int:
    """How many there are of the last minute."""
    return len(moments) - bisect_left(moments, time.monotonic() - WINDOW)
