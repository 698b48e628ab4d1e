"""Makes views of the readings of one runner: rates and series come of what it remembers of them."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasker._sight.quantiles import between, counts_of, together
from tasker._sight.ring import Ring
from tasker._sight.telling import most_telling, raw_interest
from tasker._sight.texts import LONG, cut
from tasker._sight.view import (
    CountView,
    FoundView,
    Point,
    Rates,
    TaskView,
    View,
    WorkerView,
)

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Mapping

    from tasker._sight.reading import Reading
    from tasker._workers import WorkerInfo

SECONDS, MINUTE, MINUTES = 5.0, 60.0, 300.0
"""What rates are over."""
MOST_WORKERS, MOST_TASKS, MOST_ERRORS, MOST_FOUND = 100, 20, 20, 20
"""Rows of a view."""
PRIORITIES = "low", "normal", "high"


@dataclass(frozen=True, slots=True)
class Totals:
    """What only grows, as of one moment."""

    accepted: int
    completed: int
    failed: int
    timed_out: int
    retried: int
    refused: int
    execution_time: float
    attach_time: float
    waits: dict[str, array[int]]
    """By priority."""
    all_waits: array[int]
    executions: array[int]
    ended: dict[str, int]
    """Tasks that have ended, by name."""
    errors: dict[str, int]
    replaced: dict[str, int]


class History:
    """Remembers readings of one runner, and makes a view of each new one.

    It takes about 3 MB at most, however many names, errors and workers there are: 300 points, and
    the totals of 10 moments a second apart and of 60 moments 5 s apart, with up to 201 names and
    101 types of errors each, which is what a runner counts. Not for several threads at a time.

    Args:
        number: As `View.number`.
    """

    def __init__(self, number: int = 0) -> None:
        self._number = number
        self._begun: float | None = None
        self._recent: Ring[Totals] = Ring(1.0, 2 * SECONDS)
        self._older: Ring[Totals] = Ring(5.0, MINUTES)
        self._points: Ring[Point] = Ring(1.0, MINUTES)
        self._last_point: tuple[float, Totals] | None = None
        self._names: dict[str, str] = {}
        """Each name once: a runner makes new texts of them for each reading."""
        self._seen: dict[str, float] = {}
        """When an error was last seen to happen, by its type."""
        self._last: Totals | None = None

    def add(self, reading: Reading) -> View:
        """Takes a reading and returns the view of that moment.

        Args:
            reading: Later than those before it.
        """
        now, totals = reading.moment, totals_of(reading, self._names)
        if self._begun is None:
            self._begun = now
        self._note_errors(now, totals)
        self._recent.add(now, totals)
        self._older.add(now, totals)
        self._add_point(reading, totals)
        return self._view(reading, totals, now - self._begun)

    def _note_errors(self, now: float, totals: Totals) -> None:
        if self._last is not None:
            known = self._last.errors
            for kind, count in totals.errors.items():
                if count > known.get(kind, 0):
                    self._seen[kind] = now
        self._last = totals

    def _add_point(self, reading: Reading, totals: Totals) -> None:
        """Adds the point of this second if there is none yet."""
        now = reading.moment
        then, before = self._last_point or (now, totals)
        rate = _Rate(now - then)
        stats = reading.stats
        point = Point(
            time=reading.time,
            accepted=rate(before.accepted, totals.accepted),
            completed=rate(before.completed, totals.completed),
            failed=rate(before.failed, totals.failed),
            timed_out=rate(before.timed_out, totals.timed_out),
            queued=stats.queued_tasks,
            running=stats.running_tasks,
            oldest_wait=stats.oldest_wait,
            wait=between(before.all_waits, totals.all_waits),
            execution=between(before.executions, totals.executions),
            attach_share=attach_share(before, totals),
            busy_share=stats.busy_share,
        )
        if self._points.add(now, point):
            self._last_point = now, totals

    def _since(self, now: float, seconds: float) -> tuple[float, Totals]:
        """Finds the totals of so many seconds ago, or of as far back as there are some."""
        ring = self._recent if seconds <= SECONDS else self._older
        return ring.before(now - seconds)

    def _view(self, reading: Reading, totals: Totals, watched_for: float) -> View:
        now, stats, metrics = reading.moment, reading.stats, reading.metrics
        then, before = self._since(now, SECONDS)
        rate = _Rate(now - then)
        _, minute = self._since(now, MINUTE)
        errors = totals.failed - minute.failed + totals.timed_out - minute.timed_out
        ended = errors + totals.completed - minute.completed
        workers = most_telling(reading.workers, MOST_WORKERS, raw_interest)
        by_time = sorted(
            metrics.by_task.items(), key=lambda named: named[1].execution.total, reverse=True
        )
        by_count = sorted(metrics.errors, key=lambda kind: metrics.errors[kind], reverse=True)
        return View(
            number=self._number,
            name=cut(reading.name),
            state=reading.state,
            time=reading.time,
            watched_for=watched_for,
            free_threaded=is_free_threaded(),
            workers_alive=stats.active_workers,
            workers_base=reading.worker_count,
            workers_max=reading.max_worker_count,
            workers_starting=stats.starting_workers,
            queued=stats.queued_tasks,
            queued_by_priority=dict(reading.histograms["queued"]),
            queue_limit=reading.queue_limit,
            oldest_wait=stats.oldest_wait,
            running=stats.running_tasks,
            overdue=stats.overdue_tasks,
            busy_share=stats.busy_share,
            creation_failing_for=stats.creation_failing_for,
            accepted=totals.accepted,
            completed=totals.completed,
            failed=totals.failed,
            timed_out=totals.timed_out,
            cancelled=metrics.total_tasks_cancelled,
            dropped=metrics.total_tasks_dropped,
            refused=totals.refused,
            retried=totals.retried,
            rates=Rates(
                accepted=rate(before.accepted, totals.accepted),
                completed=rate(before.completed, totals.completed),
                failed=rate(before.failed, totals.failed),
                timed_out=rate(before.timed_out, totals.timed_out),
                retried=rate(before.retried, totals.retried),
                refused=rate(before.refused, totals.refused),
            ),
            error_share=errors / ended if ended else None,
            wait=between(minute.all_waits, totals.all_waits),
            wait_by_priority={
                priority: between(minute.waits[priority], totals.waits[priority])
                for priority in PRIORITIES
            },
            execution=between(minute.executions, totals.executions),
            attach_share=attach_share(minute, totals),
            findings=tuple(
                FoundView(found.code, found.severity, cut(found.text, LONG), found.since)
                for found in reading.findings[:MOST_FOUND]
            ),
            workers=tuple(map(worker_view, workers)),
            workers_left_out=len(reading.workers) - len(workers),
            worker_states=dict(Counter(worker.state for worker in reading.workers)),
            tasks=tuple(self._task_view(now, reading, name) for name, _ in by_time[:MOST_TASKS]),
            tasks_left_out=max(len(by_time) - MOST_TASKS, 0),
            errors=self._counts(now, by_count[:MOST_ERRORS], totals.errors, minute.errors),
            errors_left_out=max(len(by_count) - MOST_ERRORS, 0),
            replaced=self._counts(now, list(totals.replaced), totals.replaced, minute.replaced),
            series=self._points.things(),
        )

    def _task_view(self, now: float, reading: Reading, name: str) -> TaskView:
        figures = reading.metrics.by_task[name]
        ended = figures.completed + figures.failed

        def rate(seconds: float) -> float:
            then, before = self._since(now, seconds)
            return _Rate(now - then)(before.ended.get(name, 0), ended)

        return TaskView(
            name=cut(name),
            completed=figures.completed,
            failed=figures.failed,
            retried=figures.retried,
            total=figures.execution.total,
            mean=figures.execution.mean,
            p95=figures.execution.p95,
            rate_5s=rate(SECONDS),
            rate_1min=rate(MINUTE),
            rate_5min=rate(MINUTES),
        )

    def _counts(
        self, now: float, kinds: list[str], counts: Mapping[str, int], before: Mapping[str, int]
    ) -> tuple[CountView, ...]:
        return tuple(
            CountView(
                name=cut(kind),
                count=counts[kind],
                last_minute=counts[kind] - before.get(kind, 0),
                last_seen=now - self._seen[kind] if kind in self._seen else None,
            )
            for kind in kinds
        )


class _Rate:
    """Events per second over some seconds; none over no time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, before: int, after: int) -> float:
        return max(after - before, 0) / self._seconds if self._seconds > 0 else 0.0


def totals_of(reading: Reading, names: dict[str, str]) -> Totals:
    """Takes what only grows out of a reading.

    Args:
        reading: The reading.
        names: The texts to use for equal ones, to which new ones are added.
    """

    def shared(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
        return {names.setdefault(name, name): count for name, count in counts}

    metrics, histograms = reading.metrics, reading.histograms
    waits = {priority: counts_of(histograms["wait"][priority]) for priority in PRIORITIES}
    return Totals(
        accepted=metrics.total_tasks_arrived,
        completed=metrics.total_tasks_completed,
        failed=metrics.total_tasks_failed,
        timed_out=metrics.total_tasks_timed_out,
        retried=metrics.total_tasks_retried,
        refused=metrics.total_tasks_refused,
        execution_time=metrics.execution.total,
        attach_time=metrics.attach.total,
        waits=waits,
        all_waits=together(list(waits.values())),
        executions=counts_of(histograms["execution"]),
        ended=shared(
            (name, each.completed + each.failed) for name, each in metrics.by_task.items()
        ),
        errors=shared(metrics.errors.items()),
        replaced=shared(metrics.replaced.items()),
    )


def attach_share(before: Totals, after: Totals) -> float:
    """Tells how much of the time of workers with tasks went by waiting for the interpreter."""
    attach = after.attach_time - before.attach_time
    execution = after.execution_time - before.execution_time
    return attach / (attach + execution) if attach > 0 else 0.0


def worker_view(worker: WorkerInfo) -> WorkerView:
    """Takes out of a worker what is shown of it."""
    task = worker.task
    return WorkerView(
        name=cut(worker.name),
        kind=worker.kind,
        state=worker.state,
        task=None if task is None else cut(task.name),
        task_age=None if task is None else task.age,
        overdue=task is not None and task.overdue,
        tasks_done=worker.tasks_done,
        busy_share=worker.busy_share,
        resource_generation=worker.resource_generation,
        resource_age=worker.resource_age,
    )


def is_free_threaded() -> bool:
    """Tells whether the interpreter runs without the GIL."""
    has_gil = getattr(sys, "_is_gil_enabled", None)
    return has_gil is not None and not has_gil()
