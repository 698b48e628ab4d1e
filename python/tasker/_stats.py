"""Figures of a runner: what is true now (`Stats`) and what has happened so far (`Metrics`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from tasker._public import publish
from tasker._tasker import _once


def _shown(figures: object) -> dict[str, str]:
    # A notebook that shows figures loads what draws them, and no other program does.
    from tasker._notebook import figures_bundle  # noqa: PLC0415

    return figures_bundle(figures)


@_once
@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Gauges of one moment, from `Runner.stats`; all are zero once the runner has stopped."""

    base_workers: int
    """Base workers alive, those replacing or renewing their resource included.

    So are those that are too many since a `resize`, until their task has ended. Not those that an
    overdue task has kept for more than 20 ms.
    """
    active_workers: int
    """Base and burst workers alive; those reserved for `run_task` and temporary ones are not."""
    burst_workers: int
    """Workers alive beyond `worker_count`."""
    starting_workers: int
    """Workers whose thread or first resource is being made."""
    equipped_workers: int
    """Those among the active ones that have a resource now; the others are making one."""
    queued_tasks: int
    """Tasks waiting in all classes, those waiting for a retry included."""
    priority_tasks: int
    """Those among `queued_tasks` that wait in the class `Priority.HIGH`."""
    paused_tasks: int
    """Tasks that wait for a retry without a worker; see `Retry`. They are not in `queued_tasks`."""
    longest_line: int
    """Tasks of the key that has most of them, where they run in order; what runs included."""
    oldest_wait: float
    """Seconds for which the task has waited that has waited longest since it was accepted.

    0.0 when nothing waits. It counts tasks that have never started, of all classes, items of a
    `map`, and calls of `run_task`. A submitter that waits for room in a full queue counts from its
    call, and its task anew once there is room; a task that is back from a pause counts from the end
    of that. Reading it costs the same with one waiting task and with ten million; it grows with the
    number of keys whose tasks wait to run in order.
    """
    running_tasks: int
    """Tasks whose function is running."""
    overdue_tasks: int
    """Tasks whose time limit has passed and whose function has not returned yet."""
    available_resources: int
    """Resources reserved for `run_task` that are idle."""
    busy_share: float
    """The share of the last minute in which the base and burst workers alive ran tasks.

    From 0 to 1, over the life of those that are younger, what runs now included; it may be off by a
    thirtieth.
    """
    creation_failing_for: float
    """Seconds since `on_create` failed first with no success after it; 0.0 when it works.

    The failure that ends a constructor counts nowhere: there is no runner then.
    """

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Shows the figures in a notebook."""
        return _shown(self)


@_once
@dataclass(frozen=True, slots=True)
class Timing:
    """What durations of one kind come to, in seconds; all zero before the first."""

    count: int
    """How many there are."""
    total: float
    """Their sum."""
    mean: float
    """Their arithmetic mean."""
    min: float
    """The shortest."""
    max: float
    """The longest."""
    p50: float
    """The median. Percentiles are by nearest rank, and never above `max`."""
    p95: float
    """95 % are no longer."""
    p99: float
    """99 % are no longer."""


@_once
@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """What became of the tasks of one name, in `Metrics.by_task`.

    An attempt counts when its worker is done with it, microseconds after the outcome is there.
    """

    completed: int
    """Tasks that returned a result."""
    failed: int
    """Tasks that ran and ended with an exception."""
    retried: int
    """Attempts made again on a fresh resource."""
    execution: Timing
    """Time in the function, of each attempt by itself; percentiles are up to 4 % off."""


@_once
@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Figures since the start of the runner, from `Runner.metrics`.

    Times are in seconds, totals only grow, and rates cover the last 60 seconds. Waiting counts
    from the moment a task is accepted, after a wait for room in a full queue, to the start of the
    function, execution from there to its end. Reading costs the same after ten tasks and after ten
    million.
    """

    average_execution_time: float
    """Mean time a task's function took."""
    min_execution_time: float
    """Shortest time a task's function took."""
    max_execution_time: float
    """Longest time a task's function took."""
    p50_execution_time: float
    """Time within which half of the functions returned."""
    p95_execution_time: float
    """Time within which 95 % of the functions returned."""
    p99_execution_time: float
    """Time within which 99 % of the functions returned."""
    average_wait_time: float
    """Mean time a task waited for a worker."""
    min_wait_time: float
    """Shortest time a task waited for a worker."""
    max_wait_time: float
    """Longest time a task waited for a worker."""
    p50_wait_time: float
    """Time within which half of the tasks had started."""
    p95_wait_time: float
    """Time within which 95 % of the tasks had started."""
    p99_wait_time: float
    """Time within which 99 % of the tasks had started."""
    average_attach_time: float
    """Mean time a woken worker waited for the interpreter, for the GIL above all."""
    task_arrival_rate: float
    """Tasks accepted per second over the last 60 seconds."""
    task_completion_rate: float
    """Tasks completed per second over the last 60 seconds."""
    success_rate: float
    """Share of completed tasks among those completed or failed, from 0 to 1."""
    failure_rate: float
    """Share of failed tasks among those completed or failed, from 0 to 1."""
    total_tasks_arrived: int
    """Tasks accepted."""
    total_tasks_completed: int
    """Tasks that returned a result."""
    total_tasks_failed: int
    """Tasks that ran and ended with an exception.

    It is their own, or, for a retry that waited when the runner ended, the one that says so.
    """
    total_tasks_retried: int
    """Attempts made again on a fresh resource."""
    total_tasks_refused: int
    """Tasks refused: the runner was stopped or its queue full."""
    total_tasks_refused_full: int
    """Those among `total_tasks_refused` that found the queue full, or no room in time."""
    total_tasks_cancelled: int
    """Tasks cancelled by their callers before they started."""
    total_tasks_dropped: int
    """Tasks that never ran: dropped by `kill` or `cancel_queued`.

    Also those that waited when the runner stopped and no worker could make a resource.
    """
    total_tasks_timed_out: int
    """Tasks whose time limit passed."""
    total_creations_failed: int
    """Calls of `on_create` that raised, and resources that were bad from the start.

    `creation` has the others. Not counted is what fails in the constructor.
    """
    total_key_hits: int
    """Tasks with a key (`options(key=...)`) that began on the worker which had their key last."""
    total_key_misses: int
    """Tasks with a key that began on another worker, the first one of each key among them."""
    execution: Timing
    """Time in task functions, of each attempt by itself."""
    wait: Timing
    """Time in the queue, of each attempt by itself."""
    attach: Timing
    """Time for which a woken worker waited for the interpreter, for the GIL above all."""
    creation: Timing
    """Time in `on_create`, of each resource that was made."""
    by_task: dict[str, TaskMetrics]
    """Figures by the name of the task: that of its function, or of `options(name=...)`.

    The first 200 names that ran are counted each by itself, the others together as `other`.
    """
    errors: dict[str, int]
    """Failed tasks by the type of their exception, as a traceback writes it: `httpx.ReadError`.

    The first 100 types are counted each by itself, the others together as `other`.
    """
    replaced: dict[str, int]
    """Resources given up for another, by reason. All reasons are there from the beginning.

    `unhealthy`: `is_broken` or `check_health` said so after a task failed; `reset` and `invalid`:
    `reset` or `validate` did; `age` and `tasks`: `max_resource_age` or `max_tasks_per_resource` was
    reached; `renewed`: by `Runner.renew`.
    """

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Shows the figures in a notebook."""
        return _shown(self)


class Histograms(TypedDict):
    """What a runner tells its integrations beside `Metrics`, with the same moment in mind."""

    queued: dict[str, int]
    """Waiting tasks by priority: `low`, `normal`, `high`."""
    wait: dict[str, tuple[list[int], int, float]]
    """Times in the queue by priority.

    How many are no longer than each edge, how many there are, and their sum in seconds.
    """
    execution: tuple[list[int], int, float]
    """Times in task functions."""
    creation: tuple[list[int], int, float]
    """Times in `on_create`."""


publish(globals(), ["Metrics", "Stats", "TaskMetrics", "Timing"])
