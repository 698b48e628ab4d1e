"""`Stats.oldest_wait`: how long the task has waited that has waited longest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from tasker import Future, Priority, Runner, Submitter
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    Gate,
    Runners,
    eventually,
    is_healthy,
)


class Stopwatch:
    """Between which two moments a task was submitted."""

    def __init__(self, submit: Callable[[], object]) -> None:
        self._before = time.monotonic()
        submit()
        self._after = time.monotonic()

    def is_oldest_of(self, runner: Runner[Any]) -> bool:
        """Whether the oldest wait of a runner is this one's."""
        before = time.monotonic()
        wait = runner.stats().oldest_wait
        after = time.monotonic()
        return before - self._after <= wait <= after - self._before


def held(runners: Runners, gate: Gate, **fields: Any) -> Runner[Any]:
    """Starts a runner whose one worker is busy."""
    runner = runners.start(**fields)
    runner.submit(gate.hold)
    gate.wait_for()
    return runner


def test_it_is_zero_when_nothing_waits(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    assert runner.stats().oldest_wait == 0.0
    runner.queue_task(lambda _: None)
    assert runner.stats().oldest_wait == 0.0
    runner.submit(gate.hold)
    gate.wait_for()
    assert runner.stats().oldest_wait == 0.0, "what runs does not wait"


def test_it_counts_from_the_submit_of_the_oldest_whatever_its_class(
    runners: Runners, gate: Gate
) -> None:
    runner = held(runners, gate)
    low = Stopwatch(lambda: runner.options(priority=Priority.LOW).submit(gate.hold))
    assert low.is_oldest_of(runner)
    for priority in Priority:
        runner.options(priority=priority).submit(gate.hold)
    assert low.is_oldest_of(runner)
    assert low.is_oldest_of(runner), "a look changes nothing"
    assert runner.stats().queued_tasks == 4


def test_what_was_cancelled_does_not_count(runners: Runners, gate: Gate) -> None:
    runner = held(runners, gate)
    cancelled = [runner.submit(gate.hold) for _ in range(100)]
    first = Stopwatch(lambda: cancelled.append(runner.submit(gate.hold)))
    second = Stopwatch(lambda: runner.submit(gate.hold))
    for future in cancelled[:-1]:
        assert future.cancel()
    assert first.is_oldest_of(runner)
    cancelled[-1].cancel()
    assert second.is_oldest_of(runner)
    assert runner.stats().queued_tasks == 1
    assert len(runner.cancel_queued()) == 1
    assert runner.stats().oldest_wait == 0.0


def test_order_stays_as_it_was_when_the_oldest_is_looked_at(runners: Runners, gate: Gate) -> None:
    runner, order = held(runners, gate), []
    futures = [runner.submit(lambda _, item: order.append(item), item) for item in range(20)]
    for drop in (0, 1, 7):
        futures[drop].cancel()
        runner.stats()
    gate.open()
    futures[-1].result(LONG_TIMEOUT)
    assert order == [item for item in range(20) if item not in {0, 1, 7}]


def test_a_wait_after_a_rest_begins_with_its_own_submit(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.queue_task(lambda _: None)
    runner.submit(gate.hold)
    gate.wait_for()
    watch = Stopwatch(lambda: runner.submit(lambda _: None))
    assert watch.is_oldest_of(runner)
    gate.open()
    eventually(lambda: runner.stats().oldest_wait == 0.0)


def test_items_of_a_map_count_from_their_submit_when_their_entry_comes_back(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(worker_count=2)
    calls: list[Call[list[None]]] = []

    def start() -> None:
        calls.append(Call(lambda: list(runner.map(gate.hold, range(50), buffersize=50))))
        gate.wait_for()

    watch = Stopwatch(start)
    # Both workers run items, so that what is left has rejoined its lane.
    gate.wait_for()
    eventually(lambda: runner.stats().queued_tasks == 48)
    assert watch.is_oldest_of(runner)
    later = runner.submit(gate.hold)
    assert watch.is_oldest_of(runner)
    gate.open()
    calls[0].result()
    later.result(LONG_TIMEOUT)
    assert runner.stats().oldest_wait == 0.0


def test_submit_many_counts_from_the_call(runners: Runners, gate: Gate) -> None:
    runner = held(runners, gate)
    watch = Stopwatch(lambda: runner.submit_many(gate.hold, range(1_000)))
    assert watch.is_oldest_of(runner)


@pytest.mark.parametrize("thread_bound", [True, False])
def test_callers_of_run_task_count(runners: Runners, gate: Gate, thread_bound: bool) -> None:
    runner = runners.start(resource_pool_size=1, thread_bound=thread_bound)
    first = Call(runner.run_task, gate.hold)
    gate.wait_for()
    assert runner.stats().oldest_wait == 0.0
    second: list[Call[None]] = []

    def wait() -> None:
        second.append(Call(runner.run_task, gate.hold))
        eventually(lambda: runner.stats().queued_tasks == 1)

    watch = Stopwatch(wait)
    assert watch.is_oldest_of(runner)
    gate.open()
    first.result()
    second[0].result()
    assert runner.stats().oldest_wait == 0.0


@pytest.mark.parametrize("verb", ["submit", "asubmit"])
def test_who_waits_for_room_counts(runners: Runners, gate: Gate, verb: str) -> None:
    runner = held(runners, gate, max_queue_size=1)
    in_queue: list[Future[None]] = []
    first = Stopwatch(lambda: in_queue.append(runner.submit(gate.hold)))

    async def asubmit(view: Submitter[Any]) -> None:
        await view.asubmit(gate.hold)

    def wait_for_room(priority: Priority) -> Call[Any]:
        view = runner.options(priority=priority)
        by_thread = verb == "submit"
        call = Call(view.submit, gate.hold) if by_thread else Call(asyncio.run, asubmit(view))
        call.wait_until_blocked()
        return call

    calls: list[Call[Any]] = []
    low = Stopwatch(lambda: calls.append(wait_for_room(Priority.LOW)))
    assert first.is_oldest_of(runner)
    calls.append(wait_for_room(Priority.HIGH))
    # Its room goes to the submitter of the higher class, and the older one still waits for room.
    in_queue[0].cancel()
    eventually(lambda: runner.stats().priority_tasks == 1)
    assert low.is_oldest_of(runner)
    gate.open()
    for call in calls:
        call.result()


def test_a_retry_does_not_count(runners: Runners, gate: Gate) -> None:
    made: list[int] = []

    def create() -> Any:
        if made:
            gate.hold()
        made.append(1)
        return runners.factory.create()

    def fail_once(_: object) -> None:
        if not failed:
            failed.append(1)
            raise Broken

    failed: list[int] = []
    runner = runners.start(on_create=create, check_health=is_healthy)
    future = runner.submit(fail_once)
    gate.wait_for()
    assert (runner.stats().queued_tasks, runner.stats().oldest_wait) == (1, 0.0)
    watch = Stopwatch(lambda: runner.submit(lambda _: None))
    assert watch.is_oldest_of(runner)
    gate.open()
    future.result(LONG_TIMEOUT)


def test_tasks_that_run_inside_another_do_not_wait(runners: Runners, gate: Gate) -> None:
    runner = runners.start()

    def outer(_: object) -> None:
        runner.submit(gate.hold).result()

    future = runner.submit(outer)
    gate.wait_for()
    assert runner.stats().oldest_wait == 0.0, "its entry is still in its lane"
    gate.open()
    future.result(LONG_TIMEOUT)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_it_ends_with_the_runner(runners: Runners, gate: Gate, end: str) -> None:
    runner = held(runners, gate)
    watch = Stopwatch(lambda: runner.submit(lambda _: None))
    call = Call(getattr(runner, end))
    eventually(lambda: runner.state != "running")
    if end == "stop":
        assert watch.is_oldest_of(runner)
    else:
        eventually(lambda: runner.stats().oldest_wait == 0.0)
    gate.open()
    call.result()
    assert runner.stats().oldest_wait == 0.0


@pytest.mark.parametrize("count", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_it_is_exact_however_many_wait(runners: Runners, gate: Gate, count: int) -> None:
    runner = held(runners, gate)
    futures: list[Future[None]] = []
    first = Stopwatch(lambda: futures.append(runner.submit(gate.hold)))
    futures += runner.submit_many(gate.hold, range(count))
    last = Stopwatch(lambda: runner.submit(gate.hold))
    assert first.is_oldest_of(runner)
    for future in futures:
        future.cancel()
    assert last.is_oldest_of(runner)
    assert len(runner.cancel_queued()) == 1
