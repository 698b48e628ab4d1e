"""Which workers are shown where there is no room for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasker._sight.view import WorkerView
    from tasker._workers import WorkerInfo

W = TypeVar("W")
"""What is told of a worker."""
Interest = tuple[bool, float, bool]
"""Greater for what matters more."""


def most_telling(
    workers: tuple[W, ...], most: int, interest: Callable[[W], Interest]
) -> tuple[W, ...]:
    """Takes so many workers, those that matter, and leaves them in their order.

    Args:
        workers: All of them.
        most: How many there is room for.
        interest: Of a worker.
    """
    if len(workers) <= most:
        return workers
    chosen = sorted(range(len(workers)), key=lambda at: interest(workers[at]), reverse=True)
    return tuple(workers[at] for at in sorted(chosen[:most]))


def interest(worker: WorkerView) -> Interest:
    """Tells how much a worker matters: overdue, then busy for long, then without a resource."""
    age = -1.0 if worker.task_age is None else worker.task_age
    return worker.overdue, age, worker.state in {"starting", "equipping"}


def raw_interest(worker: WorkerInfo) -> Interest:
    """Tells the same, without the work that making a view of each worker would be."""
    task = worker.task
    is_equipping = worker.state in {"starting", "equipping"}
    return (False, -1.0, is_equipping) if task is None else (task.overdue, task.age, is_equipping)
