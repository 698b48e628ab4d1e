"""What a notebook shows of a runner: how it does, what is wrong, who works, and on what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasker._notebook import MOST, Table, bundle, greatest
from tasker._sight import words
from tasker._sight.texts import LONG, cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasker._finding import Finding
    from tasker._stats import Metrics, Stats, Timing
    from tasker._workers import WorkerInfo

_MOST_ERRORS = 10


def overview(
    name: str,
    state: str,
    stats: Stats,
    metrics: Metrics,
    workers: Sequence[WorkerInfo],
    findings: Sequence[Finding],
) -> dict[str, str]:
    """Makes what IPython asks of `_repr_mimebundle_`.

    Args:
        name: The runner's.
        state: How far its life has come.
        stats: Its gauges.
        metrics: Its totals.
        workers: Its workers, of whom 20 are shown: those whose tasks run for longest.
        findings: What is wrong with it.
    """
    tables = [
        _findings(findings),
        _figures(stats, metrics),
        _times(metrics),
        _workers(workers),
        _tasks(metrics),
        _counts("errors", metrics.errors),
    ]
    return bundle(f"Runner {cut(name)}: {state}", tables)


def _findings(findings: Sequence[Finding]) -> Table:
    rows = [
        (f"{each.severity}: {cut(each.text, LONG)}", words.duration(each.since))
        for each in findings[:MOST]
    ]
    return Table("findings", ["", "for"], rows)


def _figures(stats: Stats, metrics: Metrics) -> Table:
    oldest = f", oldest {words.duration(stats.oldest_wait)}" if stats.oldest_wait else ""
    never_run = {
        "cancelled": metrics.total_tasks_cancelled,
        "dropped": metrics.total_tasks_dropped,
    }
    rare = {name: words.count(number) for name, number in never_run.items() if number}
    figures = {
        "workers": words.count(stats.active_workers),
        "busy share": words.share(stats.busy_share),
        "running": words.count(stats.running_tasks),
        "overdue": words.count(stats.overdue_tasks),
        "waiting": f"{words.count(stats.queued_tasks)}{oldest}",
        "completed": words.count(metrics.total_tasks_completed),
        "failed": words.count(metrics.total_tasks_failed),
        "timed out": words.count(metrics.total_tasks_timed_out),
        **rare,
        "retried": words.count(metrics.total_tasks_retried),
        "refused": words.count(metrics.total_tasks_refused),
    }
    return Table("", ["", ""], list(figures.items()))


def _times(metrics: Metrics) -> Table:
    def row(name: str, times: Timing) -> list[str]:
        quantiles = times.mean, times.p50, times.p95, times.p99, times.max
        return [name, words.count(times.count), *map(words.duration, quantiles)]

    kinds = {
        "execution": metrics.execution,
        "wait": metrics.wait,
        "interpreter": metrics.attach,
        "creation": metrics.creation,
    }
    rows = [row(name, times) for name, times in kinds.items() if times.count]
    return Table("times", ["", "count", "mean", "p50", "p95", "p99", "max"], rows)


def _workers(workers: Sequence[WorkerInfo]) -> Table:
    def age(worker: WorkerInfo) -> float:
        return -1.0 if worker.task is None else worker.task.age

    longest = sorted(workers, key=age, reverse=True)[:MOST]
    left_out = len(workers) - len(longest)
    rows = [_worker(worker) for worker in workers if worker in longest]
    title = f"workers, and {words.count(left_out)} more" if left_out else "workers"
    return Table(title, ["", "state", "task", "age", "busy", "done", "resource"], rows)


def _worker(worker: WorkerInfo) -> list[str]:
    task = worker.task
    state = "overdue" if task is not None and task.overdue else worker.state
    age = worker.resource_age
    return [
        cut(worker.name),
        state,
        "" if task is None else cut(task.name),
        "" if task is None else words.duration(task.age),
        words.share(worker.busy_share),
        words.count(worker.tasks_done),
        "none" if age is None else f"{worker.resource_generation}, {words.duration(age)}",
    ]


def _tasks(metrics: Metrics) -> Table:
    rows = [
        [
            cut(name),
            words.count(task.completed),
            words.count(task.failed),
            words.count(task.retried),
            words.duration(task.execution.mean),
            words.duration(task.execution.p95),
        ]
        for name, task in greatest(metrics.by_task).items()
    ]
    left_out = len(metrics.by_task) - len(rows)
    title = f"tasks, and {words.count(left_out)} more names" if left_out else "tasks"
    return Table(title, ["", "completed", "failed", "retried", "mean", "p95"], rows)


def _counts(title: str, counts: dict[str, int]) -> Table:
    rows = [(cut(name), words.count(n)) for name, n in greatest(counts).items()]
    return Table(title, ["", ""], rows[:_MOST_ERRORS])
