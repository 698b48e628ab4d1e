"""Figures by task name of an `InlineRunner`: the first names have their own, others share them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tasker._stats import TaskMetrics
from tasker.testing._timing import timing

MAX_NAMES = 200
"""How many names of tasks are counted each by itself, as by a runner."""
MAX_ERRORS = 100
"""How many types of errors are."""
OTHER = "other"
"""The name under which all others are counted."""

KINDS_BY_NAME = ("completed", "failed", "retried")
"""What is counted of the tasks of one name."""

T = TypeVar("T")


class FirstNames(dict[str, T], Generic[T]):
    """What is kept for each of the first names that come, and once for all others."""

    def __init__(self, most: int) -> None:
        """Knows no name yet.

        Args:
            most: How many names are told apart.
        """
        super().__init__()
        self._most = most

    def key(self, name: str) -> str:
        """Gives the name by which one is counted.

        Args:
            name: What it is called.
        """
        return name if name in self or len(self.keys() - {OTHER}) < self._most else OTHER


@dataclass(slots=True, eq=False)
class _Row:
    """What became of the tasks of one name."""

    totals: Counter[str] = field(default_factory=Counter)
    spans: list[float] = field(default_factory=list)

    def metrics(self) -> TaskMetrics:
        completed, failed, retried = (self.totals[kind] for kind in KINDS_BY_NAME)
        return TaskMetrics(completed, failed, retried, timing(self.spans))


class TasksByName:
    """Counts tasks by name."""

    def __init__(self) -> None:
        self._rows: FirstNames[_Row] = FirstNames(MAX_NAMES)

    def begin(self, name: str) -> None:
        """Notes that a task of this name begins: the first to begin are told apart.

        Args:
            name: Of the task.
        """
        self._row(name)

    def ran(self, name: str, span: float) -> None:
        """Notes an attempt.

        Args:
            name: Of the task.
            span: Seconds it took.
        """
        self._row(name).spans.append(span)

    def count(self, kind: str, name: str) -> None:
        """Counts what happened to a task.

        Args:
            kind: One of `KINDS_BY_NAME`.
            name: Of the task.
        """
        self._row(name).totals[kind] += 1

    def metrics(self) -> dict[str, TaskMetrics]:
        """Makes the figures, those of all other names last."""
        names = sorted(self._rows, key=lambda name: name == OTHER)
        return {name: self._rows[name].metrics() for name in names}

    def _row(self, name: str) -> _Row:
        return self._rows.setdefault(self._rows.key(name), _Row())
