"""Strict priority, and first in, first out within a class."""

from __future__ import annotations

import itertools
import threading

import pytest

from tasker import Future, Priority, Runner
from tests.native.support import LONG_TIMEOUT, Broken, Call, Gate, Resource, Runners, is_healthy

CLASSES = (Priority.HIGH, Priority.NORMAL, Priority.LOW)


def finish(futures: list[Future[None]]) -> None:
    for future in futures:
        future.result(LONG_TIMEOUT)


def held(runner: Runner[Resource], gate: Gate) -> None:
    """Occupies the runner's only worker."""
    runner.submit(gate.hold)
    gate.wait_for()


@pytest.mark.parametrize("submitted", list(itertools.permutations(CLASSES)))
def test_a_free_worker_takes_the_highest_class_that_waits(
    runners: Runners, gate: Gate, submitted: tuple[Priority, ...]
) -> None:
    runner = runners.start()
    held(runner, gate)
    order: list[Priority] = []
    futures = [
        runner.options(priority=priority).submit(lambda _, p: order.append(p), priority)
        for priority in submitted * 3
    ]
    gate.open()
    finish(futures)
    assert order == [priority for priority in CLASSES for _ in range(3)]


@pytest.mark.parametrize("priority", CLASSES)
def test_within_a_class_the_first_comes_first(
    runners: Runners, gate: Gate, priority: Priority
) -> None:
    runner = runners.start()
    held(runner, gate)
    order: list[int] = []
    view = runner.options(priority=priority)
    futures = [view.submit(lambda _, i: order.append(i), i) for i in range(300)]
    gate.open()
    finish(futures)
    assert order == list(range(300))


def test_tasks_are_never_compared(runners: Runners, gate: Gate) -> None:
    class Incomparable:
        def __call__(self, _resource: Resource) -> None: ...

        def __eq__(self, other: object) -> bool:
            raise AssertionError

        __hash__ = None  # type: ignore[assignment]
        __lt__ = __gt__ = __eq__

    runner = runners.start()
    held(runner, gate)
    futures = [runner.submit(Incomparable()) for _ in range(5)]
    gate.open()
    finish(futures)


def test_the_verbs_with_priority_go_first(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    held(runner, gate)
    order: list[str] = []
    normal = runner.submit(lambda _: order.append("submit"))
    verbs = ("queue_task_with_priority", "queue_task_with_priority_once")
    calls = [Call(getattr(runner, verb), lambda _, v: order.append(v), verb) for verb in verbs]
    for call in calls:
        call.wait_until_blocked()
    gate.open()
    finish([normal])
    for call in calls:
        call.result()
    assert order[-1] == "submit"
    assert sorted(order[:-1]) == sorted(verbs)


def test_priority_holds_while_the_runner_stops(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    held(runner, gate)
    order: list[Priority] = []
    for priority in (*reversed(CLASSES), *CLASSES):
        runner.options(priority=priority).submit(lambda _, p: order.append(p), priority)
    stop = Call(runner.stop)
    stop.wait_until_blocked()
    gate.open()
    stop.result()
    assert order == [priority for priority in CLASSES for _ in range(2)]


def test_a_retry_goes_to_the_front_of_its_own_class(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy)
    attempts, order = itertools.count(), []
    everything_waits = threading.Event()

    def flaky(_resource: Resource) -> None:
        if next(attempts) == 0:
            assert everything_waits.wait(LONG_TIMEOUT)
            raise Broken
        order.append("retry")

    futures = [runner.submit(flaky)]
    for priority in (*reversed(CLASSES), Priority.HIGH):
        view = runner.options(priority=priority)
        futures.append(view.submit(lambda _, name: order.append(name), priority.name))
    everything_waits.set()
    finish(futures)
    assert order == ["HIGH", "HIGH", "retry", "NORMAL", "LOW"]


def test_the_waiting_and_the_urgent_are_counted(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    held(runner, gate)
    futures = [
        runner.options(priority=priority).submit(gate.hold)
        for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.HIGH)
    ]
    stats = runner.stats()
    assert (stats.queued_tasks, stats.priority_tasks, stats.running_tasks) == (4, 2, 1)
    assert futures[2].cancel()
    assert futures[0].cancel()
    stats = runner.stats()
    assert (stats.queued_tasks, stats.priority_tasks) == (2, 1)
