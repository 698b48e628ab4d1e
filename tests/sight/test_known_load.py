"""Every figure of a runner is within 4 %, or one sample, of what is true of a known load."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tasker import Priority
from tests.sight.known_load import (
    CREATION_TIME,
    HELD,
    KINDS,
    QUEUED,
    STALL,
    WORKERS,
    KnownLoad,
    assert_between,
    assert_timing,
    assert_up_to,
    known_load,
    near,
)

pytestmark = pytest.mark.timing
EDGES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 60.0)


@pytest.fixture(scope="module")
def load() -> Iterator[KnownLoad]:
    with known_load() as load:
        yield load


def test_the_load_is_what_it_says(load: KnownLoad) -> None:
    assert (load.count("failed"), load.count("retried")) == (2, 1)
    assert load.count("completed") == 298
    assert min(load.creations) >= CREATION_TIME
    for name, (_, span) in KINDS.items():
        assert min(load.spans(name)) >= span


def test_totals_are_exact(load: KnownLoad) -> None:
    told = load.runner.metrics()
    assert told.total_tasks_arrived == load.accepted
    assert told.total_tasks_completed == load.count("completed")
    assert told.total_tasks_failed == load.count("failed")
    assert told.total_tasks_retried == load.count("retried")
    others = (told.total_tasks_refused, told.total_tasks_cancelled, told.total_tasks_dropped)
    assert (*others, told.total_tasks_timed_out, told.total_creations_failed) == (0, 0, 0, 0, 0)
    assert told.errors == load.errors
    assert told.replaced == load.replaced
    assert told.success_rate == pytest.approx(298 / 300)


def test_durations_are_those_of_the_tasks(load: KnownLoad) -> None:
    told = load.runner.metrics()
    assert_timing(told.execution, load.spans())
    assert_timing(told.creation, load.creations)
    # The held tasks have begun to run, and count when they end.
    assert_timing(told.wait, load.waits())
    assert told.attach.count > 0
    assert told.attach.mean == told.average_attach_time
    assert told.attach.max <= load.age()


def test_flat_names_say_the_same(load: KnownLoad) -> None:
    told = load.runner.metrics()
    for kind, timing in (("execution", told.execution), ("wait", told.wait)):
        for name, figure in (
            ("average", timing.mean),
            ("min", timing.min),
            ("max", timing.max),
            ("p50", timing.p50),
            ("p95", timing.p95),
            ("p99", timing.p99),
        ):
            assert getattr(told, f"{name}_{kind}_time") == figure


def test_figures_by_name_are_those_of_the_names(load: KnownLoad) -> None:
    told = load.runner.metrics().by_task
    assert set(told) - {HELD} == set(KINDS)
    for name in KINDS:
        assert told[name].completed == load.count("completed", name)
        assert told[name].failed == load.count("failed", name)
        assert told[name].retried == load.count("retried", name)
        assert_timing(told[name].execution, load.spans(name))


def test_gauges_are_those_of_the_moment(load: KnownLoad) -> None:
    told = load.runner.stats()
    assert (told.active_workers, told.running_tasks) == (WORKERS, WORKERS)
    assert (told.queued_tasks, told.priority_tasks) == (sum(QUEUED.values()), QUEUED["high"])
    assert (told.overdue_tasks, told.creation_failing_for) == (0, 0.0)
    assert_between(lambda: load.runner.stats().oldest_wait, load.oldest_wait)
    assert_between(lambda: load.runner.stats().busy_share, load.busy_share)


def test_rates_are_over_the_life_of_a_young_runner(load: KnownLoad) -> None:
    runner = load.runner
    arrived, completed = load.accepted, load.count("completed")
    assert_between(lambda: runner.metrics().task_arrival_rate, lambda: arrived / max(load.age(), 1))
    assert_between(
        lambda: runner.metrics().task_completion_rate, lambda: completed / max(load.age(), 1)
    )


def test_workers_are_busy_and_come_to_what_all_did(load: KnownLoad) -> None:
    workers = load.runner.workers()
    assert [(worker.state, worker.kind) for worker in workers] == [("busy", "base")] * WORKERS
    assert sum(worker.tasks_done for worker in workers) == len(load.attempts)
    assert sum(worker.busy_seconds for worker in workers) == near(sum(load.spans()), STALL)
    assert sum(worker.resource_generation for worker in workers) == len(load.creations)
    assert_between(
        lambda: sum(worker.busy_share for worker in load.runner.workers()) / WORKERS,
        load.busy_share,
    )


def test_histograms_count_what_is_no_longer_than_their_edges(load: KnownLoad) -> None:
    told, histograms = load.runner._histograms(EDGES, EDGES)
    assert told.total_tasks_arrived == load.accepted
    assert histograms["queued"] == QUEUED
    shown = [(histograms["wait"][p.name.lower()], load.waits(p)) for p in Priority]
    shown += [
        (histograms["execution"], load.spans()),
        (histograms["creation"], load.creations),
    ]
    for (counts, count, total), times in shown:
        assert count == len(times)
        assert total == near(sum(times), STALL)
        for edge, up_to in zip(EDGES, counts, strict=True):
            assert_up_to(up_to, times, edge)
