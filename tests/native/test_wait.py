"""The standard library's `wait` and `as_completed` see every change of every future."""

from __future__ import annotations

import concurrent.futures as standard
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION

import pytest

from tasker import Future, QueueFull
from tests.native.support import (
    LONG_TIMEOUT,
    Call,
    Gate,
    Runners,
    at_once,
    break_down,
)


def test_wait_sorts_the_done_from_the_others(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    slow, quick = runner.submit(gate.hold_then_return, 7), runner.submit(lambda _: 7)
    done, others = standard.wait([slow, quick], timeout=LONG_TIMEOUT, return_when=FIRST_COMPLETED)
    assert (done, others) == ({quick}, {slow})
    gate.open()
    assert standard.wait([slow, quick], timeout=LONG_TIMEOUT).not_done == set()


def test_wait_ends_at_the_first_exception(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    slow, failing = runner.submit(gate.hold), runner.submit(break_down)
    done, others = standard.wait([slow, failing], timeout=LONG_TIMEOUT, return_when=FIRST_EXCEPTION)
    assert (done, others) == ({failing}, {slow})


def test_wait_gives_up_in_time(runners: Runners, gate: Gate) -> None:
    future = runners.start().submit(gate.hold)
    assert standard.wait([future], timeout=0.01).not_done == {future}


def test_wait_sees_a_cancel(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    futures = [runner.submit(gate.hold) for _ in range(3)]
    call = Call(standard.wait, futures, LONG_TIMEOUT)
    call.wait_until_blocked()
    assert all(future.cancel() for future in futures)
    assert call.result().done == set(futures)


def test_as_completed_gives_futures_as_they_end(runners: Runners) -> None:
    runner = runners.start(worker_count=3)
    gates = [Gate() for _ in range(3)]
    futures = [runner.submit(gate.hold) for gate in gates]
    completed = standard.as_completed(futures, timeout=LONG_TIMEOUT)
    for i in (1, 2, 0):
        gates[i].open()
        assert next(completed) is futures[i]


def test_as_completed_gives_up_in_time(runners: Runners, gate: Gate) -> None:
    future = runners.start().submit(gate.hold)
    with pytest.raises(TimeoutError):
        list(standard.as_completed([future], timeout=0.01))


def test_futures_of_several_kinds_wait_together(runners: Runners) -> None:
    with standard.ThreadPoolExecutor(1) as pool:
        mixed: list[standard.Future[int]] = [
            pool.submit(lambda: 1),
            runners.start().submit(lambda _: 2),
            Future(),
        ]
        mixed[2].set_result(3)
        results = {future.result() for future in standard.as_completed(mixed, timeout=LONG_TIMEOUT)}
    assert results == {1, 2, 3}


def test_somebody_who_holds_the_condition_holds_the_outcome_back(runners: Runners) -> None:
    runner, gate = runners.start(), Gate()
    future = runner.submit(gate.hold)
    gate.wait_for()
    with future._condition:
        gate.open()
        with pytest.raises(TimeoutError):
            future.result(0.05)
        assert not future.done()
    assert future.result(LONG_TIMEOUT) is None


@pytest.mark.stress
@pytest.mark.usefixtures("fast_switch")
def test_no_wait_is_lost_in_a_race(runners: Runners) -> None:
    runner = runners.start(worker_count=4)

    def client() -> None:
        for turn in range(60):
            futures = [runner.submit(lambda _: None) for _ in range(8)]
            if turn % 2:
                assert standard.wait(futures, timeout=LONG_TIMEOUT).not_done == set()
            else:
                assert sum(1 for _ in standard.as_completed(futures, timeout=LONG_TIMEOUT)) == 8

    for call in at_once(4, client):
        call.result()


@pytest.mark.stress
@pytest.mark.usefixtures("fast_switch")
def test_many_threads_wait_for_the_same_futures(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    for _ in range(20):
        gate = Gate()
        futures = [runner.submit(gate.hold) for _ in range(4)]
        calls = [
            Call(standard.wait, futures, LONG_TIMEOUT, how)
            for how in (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION)
            for _ in range(2)
        ]
        gate.open()
        assert sum(1 for _ in standard.as_completed(futures, timeout=LONG_TIMEOUT)) == 4
        for call in calls:
            assert call.result().done
        assert all(future._waiters == [] for future in futures)


@pytest.mark.stress
@pytest.mark.usefixtures("fast_switch")
def test_no_wait_is_lost_when_tasks_are_cancelled_meanwhile(runners: Runners) -> None:
    runner = runners.start(max_queue_size=16, when_full="raise")

    def client() -> None:
        for _ in range(100):
            try:
                futures = [runner.submit(lambda _: None) for _ in range(3)]
            except QueueFull:
                continue
            waiting = Call(standard.wait, futures, LONG_TIMEOUT)
            for future in futures:
                future.cancel()
            assert waiting.result().not_done == set()

    for call in at_once(3, client):
        call.result()
