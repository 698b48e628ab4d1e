"""Figures of resources: how long they took to make, what could not be made, why they went."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.behaviour.support import AnyRunner, Bench
from tests.native.support import (
    LONG_TIMEOUT,
    LogCapture,
    Resource,
    break_down,
    eventually,
    is_healthy,
)

REASONS = ("unhealthy", "reset", "invalid", "age", "tasks", "renewed")


def use(runner: AnyRunner) -> int:
    number: int = runner.queue_task(lambda resource: resource.number)
    return number


def fails_on(resource: Resource) -> None:
    if resource.number == 0:
        raise ValueError


def break_it(runner: AnyRunner) -> None:
    runner.options(once=True).submit(break_down).exception(LONG_TIMEOUT)


def until_replaced(runner: AnyRunner) -> None:
    eventually(lambda: use(runner) > 0)


def renew(runner: AnyRunner) -> None:
    runner.renew().result(LONG_TIMEOUT)


WAYS: dict[str, tuple[dict[str, Any], Callable[[AnyRunner], object]]] = {
    "unhealthy": ({"check_health": is_healthy}, break_it),
    "reset": ({"reset": fails_on}, use),
    "invalid": (
        {"validate": lambda resource: resource.number > 0, "validate_after_idle": 0},
        until_replaced,
    ),
    "age": ({"max_resource_age": 0.1}, until_replaced),
    "tasks": ({"max_tasks_per_resource": 1}, use),
    "renewed": ({}, renew),
}


def test_all_reasons_are_there_from_the_beginning(bench: Bench) -> None:
    replaced = bench.start().metrics().replaced
    assert list(replaced.items()) == [(reason, 0) for reason in REASONS]


@pytest.mark.parametrize("reason", REASONS)
def test_a_resource_that_goes_is_counted_by_its_reason(
    bench: Bench, log: LogCapture, reason: str
) -> None:
    log.overlook("reset failed")
    fields, replace = WAYS[reason]
    runner = bench.start(**fields)
    replace(runner)
    bench.eventually(lambda: runner.metrics().replaced[reason])
    runner.stop()
    replaced = runner.metrics().replaced
    # An age that is up once is up again while others look.
    assert {name for name, count in replaced.items() if count} == {reason}
    assert reason == "age" or replaced[reason] == 1


def test_the_first_of_two_reasons_counts(bench: Bench) -> None:
    runner = bench.start(check_health=is_healthy, max_tasks_per_resource=1)
    break_it(runner)
    bench.eventually(lambda: runner.metrics().replaced["unhealthy"] == 1)
    assert runner.metrics().replaced["tasks"] == 0


def test_a_resource_that_goes_at_the_end_is_not_replaced(bench: Bench) -> None:
    runner = bench.start()
    use(runner)
    runner.stop()
    assert set(runner.metrics().replaced.values()) == {0}


def test_each_resource_that_is_made_has_its_time(bench: Bench) -> None:
    def create() -> Resource:
        time.sleep(0.02)
        return bench.factory.create()

    runner = bench.start(on_create=create)
    renew(runner)
    bench.eventually(lambda: runner.metrics().creation.count == 2)
    creation = runner.metrics().creation
    assert 0.02 <= creation.min <= creation.p50 <= creation.p99 <= creation.max
    assert creation.total == pytest.approx(creation.mean * 2)
    assert runner.metrics().total_creations_failed == 0


def test_what_cannot_be_made_is_counted_until_it_can(bench: Bench, log: LogCapture) -> None:
    fails = bench.event()

    def create() -> Resource:
        if fails.is_set():
            raise ConnectionRefusedError
        return bench.factory.create()

    runner = bench.start(on_create=create)
    assert runner.stats().creation_failing_for == 0.0
    fails.set()
    renew(runner)
    eventually(lambda: runner.stats().creation_failing_for)
    before = runner.stats().creation_failing_for
    eventually(lambda: runner.stats().creation_failing_for > before)
    assert runner.metrics().total_creations_failed >= 1
    assert runner.metrics().creation.count == 1
    fails.clear()
    assert use(runner) == 1
    assert runner.stats().creation_failing_for == 0.0
    assert runner.metrics().creation.count == 2
    log.rest()


def test_a_stopped_runner_fails_to_make_nothing(bench: Bench, log: LogCapture) -> None:
    fails = bench.event()

    def create() -> Resource:
        if fails.is_set():
            raise ConnectionRefusedError
        return bench.factory.create()

    runner = bench.start(on_create=create)
    fails.set()
    renew(runner)
    eventually(lambda: runner.stats().creation_failing_for)
    runner.stop()
    assert repr(runner.stats().creation_failing_for) == "0.0"
    assert runner.metrics().total_creations_failed >= 1
    log.rest()


def test_what_is_bad_from_the_start_could_not_be_made(bench: Bench, log: LogCapture) -> None:
    good = 6
    runner = bench.start(
        validate=lambda resource: resource.number in {0, good}, validate_after_idle=0
    )
    assert use(runner) == 0
    renew(runner)
    # Two are looked at before a task gets them; from then on each as it is made.
    runner.submit(lambda _: None).exception(LONG_TIMEOUT)
    eventually(lambda: runner.metrics().total_creations_failed)
    eventually(lambda: bench_uses(runner) == good)
    metrics = runner.metrics()
    assert metrics.replaced["invalid"] >= 2
    made = metrics.creation.count + metrics.total_creations_failed
    assert made == len(bench.factory.made)
    log.rest()


def bench_uses(runner: AnyRunner) -> int | None:
    future = runner.submit(lambda resource: resource.number)
    return None if future.exception(LONG_TIMEOUT) else future.result()
