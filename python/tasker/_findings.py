"""What is wrong with a runner, in words: the rules behind `Runner.diagnose`."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasker._finding import Finding
from tasker._tasker import _once
from tasker._texts import plain, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tasker._running_task import RunningTask
    from tasker._stats import Metrics, Stats, Timing
    from tasker._workers import WorkerInfo

_WORST_FIRST = ("critical", "warning", "info")
MOMENT = 5.0
"""Seconds that what is under way now is looked at for at least."""
_OTHER = "other"
"""What `Metrics` counts under this name is of many names."""
_TIME_OUT = "tasker.TaskTimeout"
"""The error of tasks that passed their limit, as `Metrics.errors` writes types."""


def _has_gil() -> bool:
    asked = getattr(sys, "_is_gil_enabled", None)
    return asked is None or asked()


@_once
@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that the rules look at, taken in one go."""

    at: float
    """When, in seconds of the runner's own clock."""
    stats: Stats
    metrics: Metrics
    workers: tuple[WorkerInfo, ...]
    max_queue_size: int | None
    refused_lately: int
    """Tasks that the full queue turned away in the last minute."""
    creation_error: str | None
    """The type of the last error of `on_create`."""
    processor_time: float = field(default_factory=time.process_time)
    """What the process has had so far, in seconds of one processor."""
    has_gil: bool = field(default_factory=_has_gil)
    """Whether one thread at a time runs Python code."""


@_once
@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """From where on a figure is a finding."""

    full_share: float = 0.9
    """A queue that refuses is never quite full for long: its workers go on taking from it."""
    stuck_factor: float = 100.0
    """So many times what 99 % of the attempts take at most."""
    stuck_age: float = 10.0
    stuck_attempts: int = 100
    """Fewer attempts say nothing about how long the next may take."""
    retries: int = 10
    busy_wait: float = 1.0
    busy_wait_warning: float = 60.0
    """Many tasks that were submitted at once wait for long, and nothing is wrong with them."""
    attach_share: float = 0.25
    attach_seconds: float = 1.0
    bound_period: float = MOMENT
    """Processor time of less than that says little: the system gives it in slices."""
    bound_busy: float = 1.5
    bound_least: float = 0.8
    bound_most: float = 1.15
    """Processors that threads get which take turns; libraries let go of the GIL for moments."""
    failing_ended: int = 10
    failing_share: float = 0.5
    unused_age: float = 600.0
    unused_attempts: int = 1000


_THRESHOLDS = Thresholds()


def examine(
    now: Snapshot,
    earlier: Snapshot | None = None,
    recent: Snapshot | None = None,
    limits: Thresholds = _THRESHOLDS,
) -> list[Finding]:
    """Finds what is wrong, the worst first.

    `Finding.since` is 0 where the figures of one moment do not tell.

    Args:
        now: The runner at this moment.
        earlier: The runner a minute ago or longer: what has happened since then is looked at.
            `None`: since its start.
        recent: The runner a few seconds ago or longer, for what changes by the moment. `None`:
            since its start, and processor time is not looked at.
        limits: From where on something is a finding.
    """
    found = [
        *_creation_failing(now),
        *_queue_full(now, limits),
        *_stuck_worker(now, limits),
        *_overdue(now),
        *_retries_failing(now, earlier, limits),
        *_tasks_failing(now, earlier, limits),
        *_all_busy(now, recent, limits),
        *_interpreter_bound(now, earlier, recent, limits),
        *_too_many_workers(now, limits),
    ]
    return sorted(found, key=lambda finding: _WORST_FIRST.index(finding.severity))


def _creation_failing(now: Snapshot) -> Iterator[Finding]:
    seconds = now.stats.creation_failing_for
    if seconds > 0:
        error = f": {now.creation_error}" if now.creation_error else ""
        yield Finding(
            code="creation_failing",
            severity="warning" if now.stats.equipped_workers else "critical",
            text=f"creation has failed for {_duration(seconds)}{error}",
            since=seconds,
            figures={"seconds": seconds, "equipped_workers": now.stats.equipped_workers},
        )


def _queue_full(now: Snapshot, limits: Thresholds) -> Iterator[Finding]:
    size, refused, queued = now.max_queue_size, now.refused_lately, now.stats.queued_tasks
    if size is not None and refused and queued >= limits.full_share * size:
        yield Finding(
            code="queue_full",
            severity="warning",
            text=f"queue full: {_number(refused, 'task')} refused in the last minute",
            since=0.0,
            figures={"refused": refused, "queued_tasks": queued, "max_queue_size": size},
        )


def _stuck_worker(now: Snapshot, limits: Thresholds) -> Iterator[Finding]:
    stuck: list[tuple[RunningTask, float, float]] = []
    for worker in now.workers:
        task = worker.task
        if task is None or (usual := _usual(now.metrics, task.name, limits)) is None:
            continue
        limit = max(limits.stuck_factor * usual.p99, limits.stuck_age)
        if task.age > limit:
            stuck.append((task, task.age - limit, usual.p99))
    if stuck:
        task, _, usual_time = max(stuck, key=lambda each: each[0].age)
        others = (
            f"{len(stuck)} workers seem stuck, the longest" if len(stuck) > 1 else "seems stuck"
        )
        yield Finding(
            code="stuck_worker",
            severity="warning",
            text=(
                f"{others}: task {quoted(task.name)} has run for {_duration(task.age)} on "
                f"{task.worker}, where 99 % take at most {_duration(usual_time)}"
            ),
            since=max(over for _, over, _ in stuck),
            figures={"workers": len(stuck), "seconds": task.age, "p99": usual_time},
        )


def _usual(metrics: Metrics, name: str, limits: Thresholds) -> Timing | None:
    """How long such tasks take: those of the name, or all where it has few."""
    named = metrics.by_task.get(name)
    timings = [named.execution] if named else []
    timings.append(metrics.execution)
    return next((each for each in timings if each.count >= limits.stuck_attempts), None)


def _overdue(now: Snapshot) -> Iterator[Finding]:
    overdue = now.stats.overdue_tasks
    if overdue:
        yield Finding(
            code="overdue",
            severity="warning",
            text=f"{_number(overdue, 'task')} past {'its' if overdue == 1 else 'their'} limit",
            since=0.0,
            figures={"tasks": overdue},
        )


def _retries_failing(
    now: Snapshot, earlier: Snapshot | None, limits: Thresholds
) -> Iterator[Finding]:
    failing = _retried_in_vain(now, earlier, limits)
    if failing:
        name = max(failing, key=lambda each: (failing[each], each))
        retried = sum(failing.values())
        more = len(failing) - 1
        others = f" and {_number(more, 'other name')}" if more else ""
        yield Finding(
            code="retries_failing",
            severity="warning",
            text=f"{retried} retries of {quoted(name)}{others}, and none of these tasks succeeds",
            since=0.0,
            figures={"retries": retried, "names": len(failing)},
        )


def _retried_in_vain(now: Snapshot, earlier: Snapshot | None, limits: Thresholds) -> dict[str, int]:
    """How often tasks were tried again of which none succeeded, by name."""
    failing: dict[str, int] = {}
    before = earlier.metrics.by_task if earlier else {}
    for name, task in now.metrics.by_task.items() if _is_active(now) else ():
        retried, failed, completed = task.retried, task.failed, task.completed
        if was := before.get(name):
            retried, failed = retried - was.retried, failed - was.failed
            completed -= was.completed
        if retried >= limits.retries and failed and not completed:
            failing[name] = retried
    return failing


def _tasks_failing(
    now: Snapshot, earlier: Snapshot | None, limits: Thresholds
) -> Iterator[Finding]:
    ends, types, names = _ends(now.metrics)
    if earlier:
        for counts, before in zip((ends, types, names), _ends(earlier.metrics), strict=True):
            counts.subtract(before)
    if told := _retried_in_vain(now, earlier, limits):
        # That is the finding on these. Which of the errors were theirs is not known.
        ends["failed"] -= sum(names.pop(name, 0) for name in told)
        types.clear()
    failing = ends["failed"] + ends["timed out"]
    ended = failing + ends["completed"]
    if (
        ended >= limits.failing_ended
        and failing >= limits.failing_share * ended
        and _is_active(now)
    ):
        when = f"in the last {_period(now.at - earlier.at)}" if earlier else "since the start"
        text = f"{failing} of {_number(ended, 'task')} failed {when}"
        types = +types
        if (error := max(types, key=lambda each: types[each], default=_OTHER)) != _OTHER:
            many = "most" if types[error] > failing / 2 else types[error]
            text += f", {many} with {plain(error)}"
        if (name := _main(names, failing)) is not None:
            text += f", most in {quoted(name)}"
        yield Finding(
            code="tasks_failing",
            severity="warning",
            text=text,
            since=0.0,
            figures={"failed": failing, "ended": ended},
        )


def _ends(metrics: Metrics) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """How many tasks ended in which way; the bad ends by type of error, and by name."""
    timed_out = metrics.total_tasks_timed_out
    ends = Counter(
        {
            "completed": metrics.total_tasks_completed,
            "failed": metrics.total_tasks_failed,
            "timed out": timed_out,
        }
    )
    types = Counter(metrics.errors)
    types[_TIME_OUT] += timed_out
    return ends, types, Counter({name: task.failed for name, task in metrics.by_task.items()})


def _main(shares: Mapping[str, float], total: float) -> str | None:
    """Which of them has more than half of the total, if one has."""
    name = max(shares, key=lambda each: shares[each], default=_OTHER)
    return name if name != _OTHER and shares[name] > total / 2 else None


def _all_busy(now: Snapshot, recent: Snapshot | None, limits: Thresholds) -> Iterator[Finding]:
    serving = [worker for worker in now.workers if worker.kind in ("base", "burst")]
    waited = now.stats.oldest_wait
    if serving and all(each.state == "busy" for each in serving) and waited >= limits.busy_wait:
        many = len(serving)
        spent = _busy_time(now, recent)
        name = _main(spent, sum(spent.values()))
        yield Finding(
            code="all_busy",
            severity="warning" if waited >= limits.busy_wait_warning else "info",
            text=(
                f"{f'all {many} workers' if many > 1 else 'the one worker'} busy"
                f"{'' if name is None else f', most of it in {quoted(name)}'}, "
                f"oldest task waits {_duration(waited)}"
            ),
            since=waited,
            figures={"workers": many, "oldest_wait": waited},
        )


def _interpreter_bound(
    now: Snapshot, earlier: Snapshot | None, recent: Snapshot | None, limits: Thresholds
) -> Iterator[Finding]:
    if not _is_active(now):
        return
    told = _waits_after_wakes(now, earlier, limits) or _takes_turns(now, recent, limits)
    if told:
        how, figures = told
        yield Finding(
            code="interpreter_bound",
            severity="info",
            text=f"workers wait {how}: more workers will not help",
            since=0.0,
            figures=figures,
        )


def _waits_after_wakes(
    now: Snapshot, earlier: Snapshot | None, limits: Thresholds
) -> tuple[str, dict[str, float]] | None:
    attach, execution = now.metrics.attach.total, now.metrics.execution.total
    if earlier:
        attach -= earlier.metrics.attach.total
        execution -= earlier.metrics.execution.total
    if attach < limits.attach_seconds:
        return None
    share = attach / (attach + max(execution, 0.0))
    if share < limits.attach_share:
        return None
    how = f"{share:.0%} of their time for the interpreter".replace("%", " %")
    return how, {"share": share}


def _takes_turns(
    now: Snapshot, recent: Snapshot | None, limits: Thresholds
) -> tuple[str, dict[str, float]] | None:
    """A worker whose next task waits already is not woken, and takes its turns within the task."""
    if recent is None or not now.has_gil or (period := now.at - recent.at) < limits.bound_period:
        return None
    busy = sum(_busy_time(now, recent).values()) / period
    cores = (now.processor_time - recent.processor_time) / period
    if busy < limits.bound_busy or not limits.bound_least <= cores <= limits.bound_most:
        return None
    how = f"for the interpreter, {busy:.1f} busy on {cores:.1f} cores"
    return how, {"busy_workers": busy, "cores": cores}


def _busy_time(now: Snapshot, earlier: Snapshot | None) -> dict[str, float]:
    """Seconds that workers have spent in tasks since then, in those that run too, by name."""
    spent = {name: task.execution.total for name, task in now.metrics.by_task.items()}
    for worker in now.workers:
        if task := worker.task:
            spent[task.name] = spent.get(task.name, 0.0) + task.age
    before = _busy_time(earlier, None) if earlier else {}
    return {name: seconds - before.get(name, 0.0) for name, seconds in spent.items()}


def _too_many_workers(now: Snapshot, limits: Thresholds) -> Iterator[Finding]:
    # The engine wakes the worker that fell asleep last: one that has never run a task was never
    # needed.
    # Renewals begin the books of a worker anew, so the age of its resource counts.
    base = [worker for worker in now.workers if worker.kind == "base"]
    ages = [
        worker.resource_age
        for worker in base
        if worker.tasks_done == 0 and worker.state == "idle" and worker.resource_age is not None
    ]
    unused = [age for age in ages if age >= limits.unused_age]
    attempts = now.metrics.execution.count
    if unused and _is_active(now) and attempts >= limits.unused_attempts:
        used = len(base) - len(unused)
        yield Finding(
            code="too_many_workers",
            severity="info",
            text=f"never more than {used} of {len(base)} workers busy at once",
            since=min(unused) - limits.unused_age,
            figures={"workers": len(base), "used": used},
        )


def _is_active(now: Snapshot) -> bool:
    """Whether tasks run, wait, or did so in the last minute."""
    stats, metrics = now.stats, now.metrics
    rates = metrics.task_arrival_rate + metrics.task_completion_rate
    return stats.running_tasks + stats.queued_tasks + rates > 0


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _period(seconds: float) -> str:
    return "minute" if seconds < 90 else _duration(seconds)


def _duration(seconds: float) -> str:
    """Says how long, to two digits or so."""
    if seconds < 1:
        return f"{max(seconds * 1000, 1):.0f} ms"
    for unit, length in (("s", 1), ("min", 60), ("h", 3600)):
        if seconds < 100 * length:
            return f"{_rounded(seconds / length)} {unit}"
    return f"{_rounded(seconds / 86400)} days"


def _rounded(number: float) -> str:
    return f"{number:.0f}" if number >= 9.95 else f"{number:.1f}".removesuffix(".0")
