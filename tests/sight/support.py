"""What tests of viewers share: readings of a runner that never was, as the test would have them."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from tasker import Metrics, RunningTask, Stats, TaskMetrics, Timing, WorkerInfo
from tasker._sight.quantiles import EDGES
from tasker._sight.reading import Reading

HOSTILE = "[red]\x1b[31m<script>\u202e'\"&\n" + "x" * 300
"""A name that means something in every format, and is long."""
NO_TIME = Timing(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
NOTHING = {
    "unhealthy": 0,
    "reset": 0,
    "invalid": 0,
    "age": 0,
    "tasks": 0,
    "renewed": 0,
}


def timing(count: int, mean: float) -> Timing:
    """Durations that are all the same."""
    return Timing(count, count * mean, *[mean] * 6)


def stats(**figures: float) -> Stats:
    """Gauges, zero where nothing else is said."""
    zero: dict[str, Any] = dict.fromkeys(Stats.__annotations__, 0)
    return Stats(**{**zero, **figures})


def metrics(**figures: Any) -> Metrics:
    """Totals, zero where nothing else is said."""
    zero: dict[str, Any] = dict.fromkeys(Metrics.__annotations__, 0)
    kinds = dict.fromkeys(("execution", "wait", "attach", "creation"), NO_TIME)
    counted: dict[str, Any] = {"by_task": {}, "errors": {}, "replaced": NOTHING}
    return Metrics(**{**zero, **kinds, **counted, **figures})


def worker(number: int = 1, **figures: Any) -> WorkerInfo:
    """An idle worker, where nothing else is said."""
    idle: dict[str, Any] = {
        "name": f"db-worker-{number}",
        "native_id": number,
        "kind": "base",
        "state": "idle",
        "task": None,
        "tasks_done": 0,
        "busy_seconds": 0.0,
        "busy_share": 0.0,
        "resource_generation": 1,
        "resource_age": 10.0,
    }
    return WorkerInfo(**{**idle, **figures})


def busy(number: int, name: str, age: float, *, overdue: bool = False) -> WorkerInfo:
    """A worker with a task."""
    task = RunningTask(name, age, f"db-worker-{number}", overdue=overdue)
    return worker(number, state="busy", task=task, busy_share=1.0)


def task_metrics(ended: int, mean: float, failed: int = 0) -> TaskMetrics:
    """What became of tasks that took the same time each."""
    return TaskMetrics(ended - failed, failed, 0, timing(ended, mean))


def histogram(*durations: tuple[float, int]) -> tuple[list[int], int, float]:
    """As `Runner._histograms` gives one, of durations and how often each was."""
    upto = [sum(n for seconds, n in durations if seconds <= edge) for edge in EDGES]
    return upto, sum(n for _, n in durations), sum(seconds * n for seconds, n in durations)


EMPTY = Reading(
    moment=100.0,
    time=1_700_000_000.0,
    name="db",
    state="running",
    worker_count=2,
    max_worker_count=4,
    queue_limit=None,
    stats=stats(),
    metrics=metrics(),
    histograms={
        "queued": {"low": 0, "normal": 0, "high": 0},
        "wait": dict.fromkeys(("low", "normal", "high"), histogram()),
        "execution": histogram(),
        "creation": histogram(),
    },
    workers=(),
    findings=(),
)
"""A reading of a runner that has nothing to do."""


def reading(at: float = 0.0, of: Reading = EMPTY, **figures: Any) -> Reading:
    """A reading of so many seconds later."""
    return replace(of, moment=of.moment + at, time=of.time + at, **figures)


def deep_size(thing: object, seen: dict[int, object] | None = None) -> int:
    """Bytes of a thing with all that it refers to and shares with no class or module."""
    # It holds what was seen, as the next dictionary would get the address of one that is gone.
    seen = {} if seen is None else seen
    if id(thing) in seen or isinstance(thing, type):
        return 0
    seen[id(thing)] = thing
    size = sys.getsizeof(thing)
    if isinstance(thing, dict):
        return size + sum(deep_size(each, seen) for pair in thing.items() for each in pair)
    if isinstance(thing, str | bytes | int | float):
        return size
    if hasattr(thing, "__iter__") and type(thing).__module__ in {"builtins", "collections"}:
        return size + sum(deep_size(each, seen) for each in thing)
    slots = [getattr(thing, name) for name in getattr(thing, "__slots__", ())]
    return size + sum(deep_size(each, seen) for each in [*slots, getattr(thing, "__dict__", {})])
