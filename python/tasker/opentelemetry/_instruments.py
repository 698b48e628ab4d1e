"""The observable instruments: what of a snapshot each of them shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from tasker.opentelemetry._names import POOL, PRIORITY, RUNNER
from tasker.opentelemetry._reading import Collection, Reading

Point = tuple[float, Mapping[str, str]]
"""A figure, and its attributes beside the name of the runner."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """An observable instrument, and what it shows of a runner."""

    kind: Literal["counter", "up_down_counter", "gauge"]
    name: str
    unit: str
    description: str
    points: Callable[[Reading], Iterable[Point]]
    of_pool: bool = False
    """It is of the convention for pools of connections, and shown of those alone."""

    def register(self, meter: Meter, collection: Collection) -> None:
        """Makes the instrument of a meter.

        Args:
            meter: Where.
            collection: What it shows.
        """

        def observe(_options: CallbackOptions) -> Iterator[Observation]:
            name = POOL if self.of_pool else RUNNER
            for reading, is_pool in collection.readings(self.name):
                if self.of_pool and not is_pool:
                    continue
                for value, attributes in self.points(reading):
                    yield Observation(value, {name: reading.name, **attributes})

        create = {
            "counter": meter.create_observable_counter,
            "up_down_counter": meter.create_observable_up_down_counter,
            "gauge": meter.create_observable_gauge,
        }[self.kind]
        create(self.name, [observe], self.unit, self.description)


def _one(figure: Callable[[Reading], float]) -> Callable[[Reading], Iterable[Point]]:
    return lambda reading: [(figure(reading), {})]


def _by(
    attribute: str, figures: Callable[[Reading], Mapping[str, float]]
) -> Callable[[Reading], Iterable[Point]]:
    return lambda reading: [(value, {attribute: key}) for key, value in figures(reading).items()]


def _capacity(reading: Reading) -> Iterable[Point]:
    return [] if reading.queue_limit is None else [(reading.queue_limit, {})]


def _settled(reading: Reading) -> Mapping[str, float]:
    metrics = reading.metrics
    return {
        "completed": metrics.total_tasks_completed,
        "failed": metrics.total_tasks_failed,
        "cancelled": metrics.total_tasks_cancelled,
        "dropped": metrics.total_tasks_dropped,
        "timed_out": metrics.total_tasks_timed_out,
    }


def _refused(reading: Reading) -> Mapping[str, float]:
    metrics = reading.metrics
    full = metrics.total_tasks_refused_full
    return {"full": full, "stopped": metrics.total_tasks_refused - full}


def _keyed(reading: Reading) -> Mapping[str, float]:
    return {"hit": reading.metrics.total_key_hits, "miss": reading.metrics.total_key_misses}


def _created(reading: Reading) -> Mapping[str, float]:
    metrics = reading.metrics
    return {"made": metrics.creation.count, "failed": metrics.total_creations_failed}


def _connections(reading: Reading) -> Mapping[str, float]:
    # Those behind the queue, as the limit is theirs: `run_task` has its own beside them.
    return {"idle": reading.workers["idle"], "used": reading.workers["busy"]}


INSTRUMENTS = (
    Instrument(
        "up_down_counter",
        "tasker.worker.count",
        "{worker}",
        "Base and burst workers alive, by what they do.",
        _by("tasker.worker.state", lambda reading: reading.workers),
    ),
    Instrument(
        "up_down_counter",
        "tasker.worker.base",
        "{worker}",
        "Workers that are always alive, as set.",
        _one(lambda reading: reading.worker_count),
    ),
    Instrument(
        "up_down_counter",
        "tasker.worker.limit",
        "{worker}",
        "Base and burst workers that there may be at most.",
        _one(lambda reading: reading.max_worker_count),
    ),
    Instrument(
        "up_down_counter",
        "tasker.worker.starting",
        "{worker}",
        "Workers whose thread or first resource is being made.",
        _one(lambda reading: reading.stats.starting_workers),
    ),
    Instrument(
        "up_down_counter",
        "tasker.worker.burst",
        "{worker}",
        "Workers alive beyond the base.",
        _one(lambda reading: reading.stats.burst_workers),
    ),
    Instrument(
        "up_down_counter",
        "tasker.reserved.count",
        "{worker}",
        "Workers reserved for run_task that have a resource, by what they do.",
        _by("tasker.worker.state", lambda reading: reading.reserved),
    ),
    Instrument(
        "up_down_counter",
        "tasker.queue.size",
        "{task}",
        "Tasks that wait.",
        _by(PRIORITY, lambda reading: reading.histograms["queued"]),
    ),
    Instrument(
        "up_down_counter",
        "tasker.queue.capacity",
        "{task}",
        "Tasks that may wait at most; not there without a bound.",
        _capacity,
    ),
    Instrument(
        "gauge",
        "tasker.queue.oldest_age",
        "s",
        "For how long the task has waited that has waited longest.",
        _one(lambda reading: reading.stats.oldest_wait),
    ),
    Instrument(
        "up_down_counter",
        "tasker.task.running",
        "{task}",
        "Tasks whose function is running.",
        _one(lambda reading: reading.stats.running_tasks),
    ),
    Instrument(
        "up_down_counter",
        "tasker.task.overdue",
        "{task}",
        "Tasks past their time limit whose function has not returned yet.",
        _one(lambda reading: reading.stats.overdue_tasks),
    ),
    Instrument(
        "up_down_counter",
        "tasker.task.paused",
        "{task}",
        "Tasks that wait for a retry without a worker.",
        _one(lambda reading: reading.stats.paused_tasks),
    ),
    Instrument(
        "gauge",
        "tasker.task.longest_line",
        "{task}",
        "Tasks of the key that has most, where they run in order.",
        _one(lambda reading: reading.stats.longest_line),
    ),
    Instrument(
        "counter",
        "tasker.task.accepted",
        "{task}",
        "Tasks accepted.",
        _one(lambda reading: reading.metrics.total_tasks_arrived),
    ),
    Instrument(
        "counter",
        "tasker.task.settled",
        "{task}",
        "Tasks that have an outcome.",
        _by("tasker.task.outcome", _settled),
    ),
    Instrument(
        "counter",
        "tasker.task.refused",
        "{task}",
        "Tasks that were not accepted.",
        _by("tasker.refusal.reason", _refused),
    ),
    Instrument(
        "counter",
        "tasker.task.retried",
        "{task}",
        "Attempts made again on a fresh resource.",
        _one(lambda reading: reading.metrics.total_tasks_retried),
    ),
    Instrument(
        "counter",
        "tasker.task.keyed",
        "{task}",
        "Tasks with a key that began, by whether on the worker which had the key last.",
        _by("tasker.key.result", _keyed),
    ),
    Instrument(
        "counter",
        "tasker.resource.created",
        "{resource}",
        "Resources made, and attempts to make one that failed.",
        _by("tasker.resource.outcome", _created),
    ),
    Instrument(
        "counter",
        "tasker.resource.replaced",
        "{resource}",
        "Resources given up for another.",
        _by("tasker.replacement.reason", lambda reading: reading.metrics.replaced),
    ),
    # The names that dashboards of connection pools know; the convention is in development.
    Instrument(
        "up_down_counter",
        "db.client.connection.count",
        "{connection}",
        "The number of connections that are currently in state described by the state attribute.",
        _by("db.client.connection.state", _connections),
        of_pool=True,
    ),
    Instrument(
        "up_down_counter",
        "db.client.connection.max",
        "{connection}",
        "The maximum number of open connections allowed.",
        _one(lambda reading: reading.max_worker_count),
        of_pool=True,
    ),
    Instrument(
        "up_down_counter",
        "db.client.connection.pending_requests",
        "{request}",
        "The number of current pending requests for an open connection.",
        _one(lambda reading: reading.stats.queued_tasks),
        of_pool=True,
    ),
    Instrument(
        "counter",
        "db.client.connection.timeouts",
        "{timeout}",
        "The number of tasks whose time limit passed, waiting for a connection or using it.",
        _one(lambda reading: reading.metrics.total_tasks_timed_out),
        of_pool=True,
    ),
)
"""All of them. One without anything to show is not exported."""
