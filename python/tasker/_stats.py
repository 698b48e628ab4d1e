"""Figures of a runner: what is true now (`Stats`) and what has happened so far (`Metrics`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tasker._tasker import _once


class MetricsCollector(Protocol):
    """A further sink for the events of tasks, given as `Config.collector`."""


@_once
@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Gauges of one moment, from `Runner.stats`; all are zero once the runner has stopped."""

    base_workers: int
    """Base workers alive, those replacing their resource included.

    Not those that an overdue task has kept for more than 20 ms.
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
    running_tasks: int
    """Tasks whose function is running."""
    overdue_tasks: int
    """Tasks whose time limit has passed and whose function has not returned yet."""
    available_resources: int
    """Resources reserved for `run_task` that are idle."""


@_once
@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Figures since the start of the runner, from `Runner.metrics`.

    Times are in seconds, totals only grow, and rates cover the last 60 seconds. Waiting counts
    from the submit to the start of the function, execution from there to its end. Reading costs
    the same after ten tasks and after ten million.
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
    """Tasks that ended with an exception of their own."""
    total_tasks_retried: int
    """Attempts made again on a fresh resource."""
    total_tasks_refused: int
    """Tasks refused: the runner was stopped or its queue full."""
    total_tasks_cancelled: int
    """Tasks cancelled by their callers before they started."""
    total_tasks_dropped: int
    """Tasks dropped before they started: by `kill`, or by a stop without any resource."""
    total_tasks_timed_out: int
    """Tasks whose time limit passed."""
