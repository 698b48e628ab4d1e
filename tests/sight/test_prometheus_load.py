"""What Prometheus is shown of a load whose figures are known: each within 4 %, or one sample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tasker import Priority
from tests.native.support import Runners
from tests.sight.known_load import (
    HELD,
    KINDS,
    QUEUED,
    WORKERS,
    End,
    KnownLoad,
    assert_between,
    assert_up_to,
    known_load,
    near,
)
from tests.sight.scraping import (
    OPENMETRICS,
    CollectorRegistry,
    RunnerCollector,
    Scrape,
    fetch,
    registry_of,
    scrape,
    served,
)

HERE: dict[str, Any] = {"runner": "db"}


@pytest.fixture
def load(runners: Runners) -> Iterator[KnownLoad]:
    del runners
    with known_load(name="db") as load:
        yield load


@pytest.fixture
def registry() -> CollectorRegistry:
    return registry_of(RunnerCollector(by_task=5))


@pytest.fixture
def found(load: KnownLoad, registry: CollectorRegistry) -> Scrape:
    del load
    with served(registry) as address:
        return fetch(address, OPENMETRICS)


def check(found: Scrape, name: str, times: list[float], **labels: str) -> None:
    """Compares a histogram with the times that it is of."""
    assert found.value(f"{name}_count", **HERE, **labels) == len(times)
    assert found.value(f"{name}_sum", **HERE, **labels) == near(sum(times))
    buckets = found.by(f"{name}_bucket", "le", **HERE, **labels)
    assert buckets.pop("+Inf") == len(times)
    for edge, count in buckets.items():
        assert_up_to(int(count), times, float(edge))


def test_histograms_are_of_the_times_that_the_tasks_took(load: KnownLoad, found: Scrape) -> None:
    check(found, "tasker_task_run_seconds", load.spans())
    check(found, "tasker_resource_create_seconds", load.creations)
    for priority in Priority:
        name = priority.name.lower()
        check(found, "tasker_task_wait_seconds", load.waits(priority), priority=name)


def test_counters_are_exact(load: KnownLoad, found: Scrape) -> None:
    assert found.value("tasker_tasks_accepted_total", **HERE) == load.accepted
    assert found.value("tasker_task_retries_total", **HERE) == load.count("retried")
    made = found.by("tasker_resource_creations_total", "outcome", **HERE)
    assert made == {"made": len(load.creations), "failed": 0}
    assert found.by("tasker_resource_replacements_total", "reason", **HERE) == load.replaced
    assert found.by("tasker_task_errors_total", "type", **HERE) == load.errors
    assert set(found.by("tasker_tasks_refused_total", "reason", **HERE).values()) == {0}


def test_tasks_are_counted_by_name(load: KnownLoad, found: Scrape) -> None:
    ends: tuple[End, ...] = ("completed", "failed")
    for end in ends:
        counts = found.by("tasker_tasks_total", "task", **HERE, outcome=end)
        assert {name: counts[name] for name in KINDS} == {
            name: load.count(end, name) for name in KINDS
        }
        assert sum(counts.values()) == load.count(end)
    for name in KINDS:
        labels = {"runner": "db", "task": name}
        assert found.value("tasker_task_run_by_name_seconds_count", **labels) == len(
            load.spans(name)
        )
        assert found.value("tasker_task_run_by_name_seconds_sum", **labels) == near(
            sum(load.spans(name))
        )
    # The held tasks run yet.
    assert found.by("tasker_task_run_by_name_seconds_count", "task", **HERE).get(HELD, 0) == 0


def test_gauges_are_those_of_the_moment(
    load: KnownLoad, found: Scrape, registry: CollectorRegistry
) -> None:
    workers = found.by("tasker_workers", "state", **HERE)
    assert workers == {"starting": 0, "idle": 0, "busy": WORKERS, "equipping": 0}
    assert found.value("tasker_running_tasks", **HERE) == WORKERS
    assert found.by("tasker_queue_tasks", "priority", **HERE) == QUEUED
    assert_between(
        lambda: scrape(registry).value("tasker_queue_oldest_task_age_seconds", **HERE),
        load.oldest_wait,
    )
    assert set(found.by("tasker_findings", "code", **HERE).values()) == {0}
