"""Burst workers: hired when tasks wait, never beyond the limit, gone when nothing is to do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    Factory,
    Gate,
    LogCapture,
    Resource,
    Runners,
    break_down,
    eventually,
    is_healthy,
)

OFTEN = 0.01
"""Seconds between decisions, so that tests need not wait."""


def test_workers_are_hired_for_what_waits(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_worker_count=4, burst_interval=OFTEN)
    for _ in range(4):
        runner.submit(gate.hold)
    gate.wait_for(4)
    stats = runner.stats()
    assert (stats.base_workers, stats.burst_workers, stats.active_workers) == (1, 3, 4)


@pytest.mark.parametrize("verb", ["submit", "submit_many", "asubmit", "map"])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_are_hired_for_what_waits_when_the_last_one_asleep_wakes_up(
    runners: Runners, verb: str, workers: int
) -> None:
    tasks = 2 * workers
    runner = runners.start(worker_count=workers, max_worker_count=tasks, burst_interval=OFTEN)
    for _ in range(5):
        together = threading.Barrier(tasks)

        def meet(*_: object, together: threading.Barrier = together) -> None:
            together.wait(LONG_TIMEOUT)

        def asubmit_all(meet: Callable[..., None] = meet) -> None:
            async def gather() -> None:
                await asyncio.gather(*(runner.asubmit(meet) for _ in range(tasks)))

            asyncio.run(gather())

        match verb:
            case "submit":
                for future in [runner.submit(meet) for _ in range(tasks)]:
                    future.result(LONG_TIMEOUT)
            case "submit_many":
                for future in runner.submit_many(meet, range(tasks)):
                    future.result(LONG_TIMEOUT)
            case "asubmit":
                asubmit_all()
            case _:
                assert len(list(runner.map(meet, range(tasks), buffersize=tasks))) == tasks


@pytest.mark.parametrize("thread_bound", [True, False])
def test_a_run_task_inside_a_task_keeps_nobody_from_being_hired(
    runners: Runners, gate: Gate, thread_bound: bool
) -> None:
    runner = runners.start(max_worker_count=2, burst_interval=OFTEN, thread_bound=thread_bound)
    runner.submit(lambda _: runner.run_task(gate.hold))
    gate.wait_for()
    assert runner.submit(lambda _: "served").result(LONG_TIMEOUT) == "served"


def test_without_leave_nobody_is_hired(runners: Runners, gate: Gate) -> None:
    runner = runners.start(burst_interval=OFTEN)
    futures = [runner.submit(gate.hold) for _ in range(5)]
    gate.wait_for()
    with pytest.raises(TimeoutError):
        futures[0].result(10 * OFTEN)
    assert runner.stats().active_workers == len(runners.factory.made) == 1


def test_the_limit_holds_for_those_still_being_equipped(runners: Runners, gate: Gate) -> None:
    equipping = Gate()

    def create() -> Resource:
        if runners.factory.made:
            equipping.hold()
        return runners.factory.create()

    runner = runners.start(on_create=create, max_worker_count=3, burst_interval=OFTEN)
    futures = [runner.submit(gate.hold) for _ in range(20)]
    equipping.wait_for(2)
    with pytest.raises(TimeoutError):
        futures[0].result(10 * OFTEN)
    stats = runner.stats()
    assert (stats.active_workers, stats.starting_workers) == (1, 2)
    equipping.open()
    gate.wait_for(3)
    gate.open()
    for future in futures:
        future.result(LONG_TIMEOUT)
    assert len(runners.factory.made) == 3


def test_an_idle_burst_worker_leaves_and_base_workers_stay(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_worker_count=4, burst_interval=OFTEN, idle_timeout=0.02)
    futures = [runner.submit(gate.hold) for _ in range(4)]
    gate.wait_for(4)
    gate.open()
    for future in futures:
        future.result(LONG_TIMEOUT)
    eventually(lambda: runner.stats().burst_workers == 0)
    eventually(lambda: len(runners.factory.alive) == 1)
    assert runner.stats().base_workers == runner.stats().active_workers == 1
    assert runners.factory.alive == runners.factory.made[:1]


def test_a_busy_burst_worker_stays(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_worker_count=2, burst_interval=OFTEN, idle_timeout=0)
    futures = [runner.submit(gate.hold_then_return, i) for i in range(2)]
    gate.wait_for(2)
    with pytest.raises(TimeoutError):
        futures[0].result(5 * OFTEN)
    assert runner.stats().burst_workers == 1
    gate.open()
    assert [future.result(LONG_TIMEOUT) for future in futures] == [0, 1]


def test_burst_workers_end_with_the_runner(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_worker_count=3, burst_interval=OFTEN)
    for _ in range(6):
        runner.submit(gate.hold)
    gate.wait_for(3)
    stop = Call(runner.stop)
    stop.wait_until_blocked()
    gate.open()
    stop.result()
    assert runner.metrics().total_tasks_completed == 6
    runners.factory.check()


def test_failing_tasks_are_no_reason_to_grow(runners: Runners) -> None:
    runner = runners.start(max_worker_count=4, burst_interval=OFTEN, check_health=is_healthy)
    for _ in range(20):
        assert isinstance(runner.submit(break_down).exception(LONG_TIMEOUT), Broken)
    runner.queue_task(lambda _: None)
    eventually(lambda: runner.stats().burst_workers == 0 or runner.stats().queued_tasks == 0)
    assert runner.stats().active_workers <= 4


def test_run_task_is_no_reason_to_grow(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_worker_count=4, burst_interval=OFTEN, resource_pool_size=1)
    calls = [Call(runner.run_task, gate.hold) for _ in range(4)]
    gate.wait_for()
    with pytest.raises(TimeoutError):
        runner.submit(lambda _: time.sleep(10 * OFTEN)).result(5 * OFTEN)
    assert runner.stats().burst_workers == 0
    gate.open()
    for call in calls:
        call.result()


def test_a_burst_worker_that_cannot_be_equipped_costs_no_task(
    runners: Runners, log: LogCapture, gate: Gate
) -> None:
    def create() -> Resource:
        if runners.factory.made:
            raise ConnectionRefusedError
        return runners.factory.create()

    runner = runners.start(on_create=create, max_worker_count=2, burst_interval=OFTEN)
    futures = [runner.submit(gate.hold_then_return, i) for i in range(5)]
    log.take()
    gate.open()
    assert [future.result(LONG_TIMEOUT) for future in futures] == list(range(5))


def test_a_thread_that_cannot_start_costs_no_task(
    runners: Runners, log: LogCapture, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runners.start(max_worker_count=2, burst_interval=OFTEN)
    runner.submit(gate.hold)
    gate.wait_for()
    refused = threading.Event()
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if "-burst-" in thread.name:
            refused.set()
            message = "can't start new thread"
            raise RuntimeError(message)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    future = runner.submit(lambda _: "served")
    assert refused.wait(LONG_TIMEOUT)
    monkeypatch.undo()
    assert future.result(LONG_TIMEOUT) == "served"
    assert runner.stats().burst_workers == 1
    log.rest()


def test_threads_that_cannot_start_are_logged_once(
    runners: Runners, log: LogCapture, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runners.start(max_worker_count=2, burst_interval=0.001)
    runner.submit(gate.hold)
    gate.wait_for()
    tried = threading.Semaphore(0)
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if "-burst-" in thread.name:
            tried.release()
            message = "can't start new thread"
            raise RuntimeError(message)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    future = runner.submit(lambda _: "served")
    for _ in range(5):
        assert tried.acquire(timeout=LONG_TIMEOUT)
    (record,) = log.take()
    assert "no thread could be started" in record.getMessage()
    monkeypatch.undo()
    assert future.result(LONG_TIMEOUT) == "served"
    gate.open()


@pytest.mark.timing
def test_it_does_not_flap(runners: Runners) -> None:
    factory: Factory = runners.factory
    runner = runners.start(worker_count=2, max_worker_count=6, burst_interval=OFTEN)
    end = time.monotonic() + 0.7
    while time.monotonic() < end:
        for future in [runner.submit(lambda _: time.sleep(0.005)) for _ in range(12)]:
            future.result(LONG_TIMEOUT)
    assert len(factory.made) <= 6


@pytest.mark.stress
def test_every_task_runs_once_while_workers_come_and_go(runners: Runners) -> None:
    runner = runners.start(max_worker_count=6, burst_interval=0.001, idle_timeout=0)
    ran: list[int] = []
    futures = []
    for i in range(600):
        futures.append(runner.submit(lambda _, i: (time.sleep(0.001), ran.append(i)), i))
        if i % 50 == 0:
            futures[-1].result(LONG_TIMEOUT)
    for future in futures:
        future.result(LONG_TIMEOUT)
    assert sorted(ran) == list(range(600))
    eventually(lambda: runner.stats().active_workers == 1)
