"""The metric families: their names, and what of a runner goes into them."""

from __future__ import annotations

import platform
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from tasker._tasker import __version__
from tasker.prometheus._labels import OTHER, Places, label

if TYPE_CHECKING:
    from tasker._watchable import Watchable
    from tasker.prometheus._buckets import Buckets
    from tasker.prometheus._reading import Reading

F = TypeVar("F", bound=Metric)

PAGE = "https://github.com/tasker-developers/tasker-rs/blob/main/docs/how-to/prometheus.md"
WORKER_STATES = ("starting", "idle", "busy", "equipping")
RESERVED_STATES = ("idle", "busy")
RESERVED_KINDS = frozenset({"reserved", "temporary"})
"""Workers that serve `run_task` alone."""
FINDINGS = (
    *("creation_failing", "queue_full", "stuck_worker", "overdue", "retries_failing"),
    *("tasks_failing", "all_busy", "interpreter_bound", "too_many_workers"),
)
"""Codes that have a series from the beginning: an alert on one that is not there says nothing."""
_PYTHON = platform.python_version()


class Families:
    """The families of one scrape, to which each runner adds its samples.

    Args:
        by_task: Whether tasks are told apart by name, and errors by type.
    """

    def __init__(self, *, by_task: bool) -> None:
        gauge, counter = GaugeMetricFamily, CounterMetricFamily
        summary, histogram = SummaryMetricFamily, HistogramMetricFamily
        part = "workers"
        self.info = _make(InfoMetricFamily, "tasker_runner", "What the runner runs on.", part)
        self.workers = _make(
            gauge, "tasker_workers", "Base and burst workers alive, by what they do.", part, "state"
        )
        self.base = _make(gauge, "tasker_workers_base", "Base workers asked for.", part)
        self.max = _make(gauge, "tasker_workers_max", "Base and burst workers at most.", part)
        self.starting = _make(
            gauge,
            "tasker_workers_starting",
            "Workers whose thread or first resource is being made.",
            part,
        )
        self.burst = _make(
            gauge, "tasker_workers_burst", "Workers alive beyond the base workers.", part
        )
        self.reserved = _make(
            gauge, "tasker_reserved_resources", "Resources kept for run_task.", part, "state"
        )
        self.attach = _make(
            summary,
            "tasker_worker_attach_seconds",
            "Time for which a woken worker waited for the interpreter.",
            part,
        )
        self.findings = _make(
            gauge, "tasker_findings", "Whether diagnose() finds this wrong.", "findings", "code"
        )
        part = "queue"
        self.queued = _make(gauge, "tasker_queue_tasks", "Tasks that wait.", part, "priority")
        self.limit = _make(gauge, "tasker_queue_limit", "Tasks that may wait at most.", part)
        self.oldest = _make(
            gauge,
            "tasker_queue_oldest_task_age_seconds",
            "Time for which the oldest waiting task has waited; 0 when none waits.",
            part,
        )
        self.refused = _make(
            counter, "tasker_tasks_refused", "Tasks that were not accepted.", part, "reason"
        )
        self.wait = _make(
            histogram,
            "tasker_task_wait_seconds",
            "Time in the queue, of each attempt.",
            part,
            "priority",
        )
        part = "tasks"
        self.running = _make(gauge, "tasker_running_tasks", "Tasks whose function runs.", part)
        self.overdue = _make(
            gauge, "tasker_overdue_tasks", "Tasks that run although their limit has passed.", part
        )
        self.paused = _make(
            gauge, "tasker_paused_tasks", "Tasks that wait for a retry without a worker.", part
        )
        self.longest_line = _make(
            gauge,
            "tasker_longest_line_tasks",
            "Tasks of the key that has most, where they run in order.",
            part,
        )
        self.accepted = _make(counter, "tasker_tasks_accepted", "Tasks accepted.", part)
        self.settled = _make(
            counter,
            "tasker_tasks",
            "Tasks that have got their outcome.",
            part,
            "outcome",
            *(["task"] if by_task else []),
        )
        self.retried = _make(
            counter, "tasker_task_retries", "Attempts made again on a fresh resource.", part
        )
        self.keyed = _make(
            counter,
            "tasker_keyed_tasks",
            "Tasks with a key that began, by whether on the worker which had the key last.",
            part,
            "result",
        )
        self.run = _make(
            histogram, "tasker_task_run_seconds", "Time in the function, of each attempt.", part
        )
        part = "resources"
        self.create = _make(
            histogram,
            "tasker_resource_create_seconds",
            "Time in on_create, of each resource that was made.",
            part,
        )
        self.created = _make(
            counter,
            "tasker_resource_creations",
            "Calls of on_create, but for those that ended a constructor.",
            part,
            "outcome",
        )
        self.replaced = _make(
            counter,
            "tasker_resource_replacements",
            "Resources given up for another.",
            part,
            "reason",
        )
        self.failing = _make(
            gauge,
            "tasker_resource_creation_failing_seconds",
            "Time since on_create failed first with no success after it; 0 when it works.",
            part,
        )
        if by_task:
            part = "tasks-by-name"
            self.run_by_task = _make(
                summary,
                "tasker_task_run_by_name_seconds",
                "Time in the function, of each attempt, by the name of the task.",
                part,
                "task",
            )
            self.errors = _make(
                counter,
                "tasker_task_errors",
                "Failed tasks by the type of their exception.",
                part,
                "type",
            )

    def __iter__(self) -> Iterator[Metric]:
        return iter(vars(self).values())

    def add(self, runner: Watchable, read: Reading, wait: Buckets, run: Buckets) -> None:
        """Adds what is told of every runner but its tasks' outcomes.

        Args:
            runner: The runner.
            read: What was read of it.
            wait: The edges for which it was read.
            run: As *wait*.
        """
        name = label(runner.name)
        stats, metrics = read.stats, read.metrics
        versions = {
            "version": __version__,
            "python": _PYTHON,
            "free_threaded": str(int(_is_free_threaded())),
        }
        self.info.add_metric([name], versions)
        states: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        for worker in read.workers:
            states[worker.kind in RESERVED_KINDS][worker.state] += 1
        for state in WORKER_STATES:
            self.workers.add_metric([name, state], states[False][state])
        for state in RESERVED_STATES:
            self.reserved.add_metric([name, state], states[True][state])
        self.base.add_metric([name], runner.worker_count)
        self.max.add_metric([name], runner.max_worker_count)
        self.starting.add_metric([name], stats.starting_workers)
        self.burst.add_metric([name], stats.burst_workers)
        self.attach.add_metric([name], metrics.attach.count, metrics.attach.total)

        found = dict.fromkeys(FINDINGS, 0) | {finding.code: 1 for finding in read.findings}
        for code, holds in found.items():
            self.findings.add_metric([name, code], holds)

        for priority, queued in read.histograms["queued"].items():
            self.queued.add_metric([name, priority], queued)
        if runner.config.max_queue_size is not None:
            self.limit.add_metric([name], runner.config.max_queue_size)
        self.oldest.add_metric([name], stats.oldest_wait)
        full = metrics.total_tasks_refused_full
        self.refused.add_metric([name, "full"], full)
        self.refused.add_metric([name, "stopped"], metrics.total_tasks_refused - full)
        for priority, figures in read.histograms["wait"].items():
            wait.fill(self.wait, {"runner": name, "priority": priority}, figures)

        self.running.add_metric([name], stats.running_tasks)
        self.overdue.add_metric([name], stats.overdue_tasks)
        self.paused.add_metric([name], stats.paused_tasks)
        self.longest_line.add_metric([name], stats.longest_line)
        self.accepted.add_metric([name], metrics.total_tasks_arrived)
        self.retried.add_metric([name], metrics.total_tasks_retried)
        self.keyed.add_metric([name, "hit"], metrics.total_key_hits)
        self.keyed.add_metric([name, "miss"], metrics.total_key_misses)
        run.fill(self.run, {"runner": name}, read.histograms["execution"])

        run.fill(self.create, {"runner": name}, read.histograms["creation"])
        self.created.add_metric([name, "made"], metrics.creation.count)
        self.created.add_metric([name, "failed"], metrics.total_creations_failed)
        for reason, times in metrics.replaced.items():
            self.replaced.add_metric([name, reason], times)
        self.failing.add_metric([name], stats.creation_failing_for)

    def add_outcomes(self, runner: Watchable, read: Reading) -> None:
        """Adds how many tasks had which outcome.

        Args:
            runner: The runner.
            read: What was read of it.
        """
        for outcome, times in _outcomes(read).items():
            self.settled.add_metric([label(runner.name), outcome], times)

    def add_by_task(self, runner: Watchable, read: Reading, tasks: Places, types: Places) -> None:
        """Adds the outcomes, times and errors of tasks by name.

        Args:
            runner: The runner.
            read: What was read of it.
            tasks: The names that have series of their own.
            types: The types of errors that have.
        """
        name = label(runner.name)
        by_task = read.metrics.by_task
        own = tasks.give({task: figures.execution.total for task, figures in by_task.items()})
        # Added up, and not what is left of the totals: these run ahead of the figures by name for
        # moments, and a counter must not fall.
        sums: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0, 0.0])
        for task, figures in by_task.items():
            row = sums[label(task) if task in own else OTHER]
            row[0] += figures.completed
            row[1] += figures.failed
            row[2] += figures.execution.count
            row[3] += figures.execution.total
        for task, (completed, failed, count, total) in sums.items():
            self.settled.add_metric([name, "completed", task], completed)
            self.settled.add_metric([name, "failed", task], failed)
            self.run_by_task.add_metric([name, task], int(count), total)
        # Of the others the runner keeps no names.
        for outcome, times in _outcomes(read).items():
            if outcome not in {"completed", "failed"}:
                self.settled.add_metric([name, outcome, ""], times)
        for kind, times in _gathered(read.metrics.errors, types).items():
            self.errors.add_metric([name, kind], times)


def _make(kind: type[F], name: str, text: str, part: str, *labels: str) -> F:
    """Makes a family; its text ends in the address of its part of the documentation."""
    make: Any = kind
    made: F = make(name, f"{text} {PAGE}#{part}", labels=("runner", *labels))
    return made


def _outcomes(read: Reading) -> dict[str, int]:
    metrics = read.metrics
    return {
        "completed": metrics.total_tasks_completed,
        "failed": metrics.total_tasks_failed,
        "cancelled": metrics.total_tasks_cancelled,
        "dropped": metrics.total_tasks_dropped,
        "timed_out": metrics.total_tasks_timed_out,
    }


def _gathered(counts: Mapping[str, int], places: Places) -> dict[str, int]:
    """Adds up the counts of those that have no place."""
    own = places.give(counts)
    sums: Counter[str] = Counter()
    for name, times in counts.items():
        sums[label(name) if name in own else OTHER] += times
    return sums


def _is_free_threaded() -> bool:
    """Whether the interpreter runs without its lock now: a module may have switched that on."""
    asked = getattr(sys, "_is_gil_enabled", None)
    return asked is not None and not asked()
