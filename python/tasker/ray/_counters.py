"""What the driver counts of tasks: it sees each of them once, whatever becomes of its actor."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from tasker._priority import Priority
from tasker._stats import Histograms, Metrics, TaskMetrics, Timing
from tasker.ray._durations import NONE, Durations, Rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tasker.ray._task import Task
    from tasker.ray._wire import Attempt

T = TypeVar("T")

MOST_NAMES = 200
"""How many names of tasks are counted each by itself, as by a runner."""
MOST_ERRORS = 100
OTHER = "other"
"""The name under which all others are counted."""
TOTALS = tuple(
    each.name.removeprefix("total_tasks_")
    for each in fields(Metrics)
    if each.name.startswith("total_tasks_")
)


@dataclass(slots=True, eq=False)
class _Row:
    """What became of the tasks of one name."""

    totals: Counter[str] = field(default_factory=Counter)
    execution: Durations = field(default_factory=Durations)

    def metrics(self) -> TaskMetrics:
        completed, failed, retried = (self.totals[it] for it in ("completed", "failed", "retried"))
        return TaskMetrics(completed, failed, retried, self.execution.timing())


class Counters:
    """Counts tasks. Whoever counts holds the lock of the dispatcher."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        """How many tasks, by the end of the name in `Metrics`."""
        self.arrivals, self.completions, self.refusals = Rate(), Rate(), Rate()
        """The last is of those that found the queue full."""
        self._wait = {each: Durations() for each in Priority}
        self._rows: dict[str, _Row] = {}
        self._errors: Counter[str] = Counter()

    def arrived(self, count: int) -> None:
        """Counts accepted tasks."""
        self.totals["arrived"] += count
        self.arrivals.add(count)

    def refused(self, count: int, *, is_full: bool) -> None:
        """Counts refused tasks."""
        self.totals["refused"] += count
        if is_full:
            self.totals["refused_full"] += count
            self.refusals.add(count)

    def ended(
        self,
        what: str,
        name: str,
        priority: Priority,
        waited: float,
        attempts: Iterable[Attempt],
        error: str | None,
    ) -> None:
        """Counts a task that has its outcome.

        Args:
            what: By the end of the name in `Metrics`.
            name: Of the task.
            priority: Its class.
            waited: Seconds for which it waited in the driver.
            attempts: Those that its actor made.
            error: The type of its error, where it failed.
        """
        self.totals[what] += 1
        if what == "completed":
            self.completions.add()
        if what in ("completed", "failed"):
            self._row(name).totals[what] += 1
        if what == "failed" and error is not None:
            is_known = error in self._errors or len(self._errors) < MOST_ERRORS
            self._errors[error if is_known else OTHER] += 1
        for place, (wait, span) in enumerate(attempts):
            row = self._row(name)
            if place:
                self.totals["retried"] += 1
                row.totals["retried"] += 1
            self._wait[priority].add(wait if place else wait + waited)
            row.execution.add(span)

    def completed(self, ends: Sequence[tuple[Task, list[Attempt]]]) -> None:
        """Counts tasks that returned a result."""
        self.totals["completed"] += len(ends)
        self.completions.add(len(ends))
        waits: dict[Priority, list[float]] = {}
        spans: dict[str, list[float]] = {}
        counts: Counter[str] = Counter()
        for task, attempts in ends:
            name = task.kind.name
            counts[name] += 1
            of_class = waits.setdefault(task.options.priority, [])
            of_name = spans.setdefault(name, [])
            waited = task.sent - task.submitted
            for wait, span in attempts:
                of_class.append(wait + waited)
                of_name.append(span)
                waited = 0.0
            if (again := len(attempts) - 1) > 0:
                self.totals["retried"] += again
                self._row(name).totals["retried"] += again
        for priority, seconds in waits.items():
            self._wait[priority].add_all(seconds)
        for name, seconds in spans.items():
            row = self._row(name)
            row.totals["completed"] += counts[name]
            row.execution.add_all(seconds)

    def retried(self, name: str) -> None:
        """Counts a task that is sent again, as its actor was lost."""
        self.totals["retried"] += 1
        self._row(name).totals["retried"] += 1

    def _execution(self) -> Durations:
        return Durations.together(row.execution for row in self._rows.values())

    def _row(self, name: str) -> _Row:
        row = self._rows.get(name)
        if row is None:
            key = name if len(self._rows) < MOST_NAMES else OTHER
            row = self._rows.setdefault(key, _Row())
        return row

    def metrics(self, actors: Sequence[Metrics]) -> Metrics:
        """Makes the figures.

        Args:
            actors: Those of all actors there were, of which what concerns resources is added up.
        """
        found: dict[str, Any] = {each.name: 0.0 for each in fields(Metrics)}
        found |= {
            "execution": self._execution().timing(),
            "wait": Durations.together(self._wait.values()).timing(),
        }
        found |= {
            "attach": together([each.attach for each in actors]),
            "creation": together([each.creation for each in actors]),
        }
        for what in ("execution", "wait"):
            _count, _total, *figures = astuple(found[what])
            names = ("average", "min", "max", "p50", "p95", "p99")
            found |= {f"{n}_{what}_time": one for n, one in zip(names, figures, strict=True)}
        found["average_attach_time"] = found["attach"].mean
        found |= {f"total_tasks_{name}": self.totals[name] for name in TOTALS}
        found["task_arrival_rate"] = self.arrivals.per_second()
        found["task_completion_rate"] = self.completions.per_second()
        if finished := self.totals["completed"] + self.totals["failed"]:
            found["success_rate"] = self.totals["completed"] / finished
            found["failure_rate"] = self.totals["failed"] / finished
        for name in ("total_creations_failed", "total_key_hits", "total_key_misses"):
            found[name] = sum(getattr(each, name) for each in actors)
        names_ = sorted(self._rows, key=lambda name: name == OTHER)
        replaced: Counter[str] = Counter()
        for each in actors:
            replaced.update(each.replaced)
        reasons = ("unhealthy", "reset", "invalid", "age", "tasks", "renewed")
        return Metrics(
            **found
            | {
                "by_task": {name: self._rows[name].metrics() for name in names_},
                "errors": dict(self._errors),
                "replaced": {reason: replaced[reason] for reason in reasons},
            }
        )

    def histograms(
        self,
        wait_edges: Sequence[float],
        run_edges: Sequence[float],
        queued: dict[str, int],
        creations: Sequence[tuple[list[int], int, float]],
    ) -> Histograms:
        """Makes what `Runner._histograms` gives.

        Args:
            wait_edges: Upper edges for times in the queue.
            run_edges: Upper edges for times in functions and in `on_create`.
            queued: Waiting tasks by priority.
            creations: What the actors say of times in `on_create`.
        """
        counts = [sum(column) for column in zip(*(each[0] for each in creations), strict=True)]
        return {
            "queued": queued,
            "wait": {
                priority.name.lower(): each.histogram(wait_edges)
                for priority, each in self._wait.items()
            },
            "execution": self._execution().histogram(run_edges),
            "creation": (
                counts or [0] * len(run_edges),
                sum(each[1] for each in creations),
                sum(each[2] for each in creations),
            ),
        }


def together(timings: Sequence[Timing]) -> Timing:
    """Adds up durations of several actors; a percentile is the largest of theirs."""
    some = [each for each in timings if each.count]
    if not some:
        return NONE
    count, total = sum(each.count for each in some), sum(each.total for each in some)
    return Timing(
        count,
        total,
        total / count,
        min(each.min for each in some),
        *(max(getattr(each, name) for each in some) for name in ("max", "p50", "p95", "p99")),
    )
