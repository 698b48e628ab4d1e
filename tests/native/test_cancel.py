"""Cancelling: what has not started never runs, what runs is told."""

from __future__ import annotations

import concurrent.futures
import threading
import tracemalloc

import pytest

from tasker import Future, TaskCancelled, current_context
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    Gate,
    LogCapture,
    Resource,
    Runners,
    at_once,
    eventually,
    is_healthy,
)


def obey(_resource: object, started: threading.Event) -> str | None:
    """A task function that gives up when it is told to, and returns the reason."""
    context = current_context()
    started.set()
    assert context.wait(LONG_TIMEOUT)
    return context.reason


def test_a_cancelled_task_never_runs(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    ran: list[int] = []
    future = runner.submit(lambda _: ran.append(1))
    assert future.cancel()
    assert future.cancelled()
    assert runner.stats().queued_tasks == 0
    gate.open()
    runner.queue_task(lambda _: None)
    assert ran == []
    assert runner.metrics().total_tasks_cancelled == 1


def test_waiting_for_a_cancelled_task_raises_the_standard_error(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    future = runner.submit(gate.hold)
    call = Call(future.result)
    call.wait_until_blocked()
    future.cancel()
    error = call.error()
    assert type(error) is concurrent.futures.CancelledError
    for wait in (future.result, future.exception):
        with pytest.raises(concurrent.futures.CancelledError):
            wait()


def test_cancelling_again_is_no_error(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    future = runner.submit(gate.hold)
    assert future.cancel()
    assert future.cancel()
    assert future.request_cancel()
    assert runner.metrics().total_tasks_cancelled == 1


def test_what_runs_or_is_done_cannot_be_cancelled(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    future = runner.submit(gate.hold)
    gate.wait_for()
    assert not future.cancel()
    gate.open()
    future.result(LONG_TIMEOUT)
    assert not future.cancel()
    assert not future.request_cancel()
    assert not future.cancelled()


def test_a_request_cancels_what_has_not_started(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    future = runner.submit(gate.hold)
    assert future.request_cancel("not needed")
    assert future.cancelled()


@pytest.mark.parametrize("reason", ["not needed", None])
def test_a_request_cancels_the_context_of_what_runs(runners: Runners, reason: str | None) -> None:
    started = threading.Event()
    future = runners.start().submit(obey, started)
    assert started.wait(LONG_TIMEOUT)
    assert future.request_cancel(reason)
    assert future.running() or future.done()
    assert future.result(LONG_TIMEOUT) == reason


def test_a_request_is_seen_by_a_task_that_asks_late(runners: Runners, gate: Gate) -> None:
    def late(_resource: Resource) -> tuple[bool, str | None]:
        gate.hold()
        return current_context().cancelled, current_context().reason

    future = runners.start().submit(late)
    gate.wait_for()
    assert future.request_cancel("first")
    assert future.request_cancel("second")
    gate.open()
    assert future.result(LONG_TIMEOUT) == (True, "first")


def test_a_told_task_may_still_succeed(runners: Runners, gate: Gate) -> None:
    future = runners.start().submit(gate.hold_then_return, "done")
    gate.wait_for()
    assert future.request_cancel()
    gate.open()
    assert future.result(LONG_TIMEOUT) == "done"


def test_a_told_task_that_checks_fails_with_the_reason(runners: Runners) -> None:
    started = threading.Event()

    def check(_resource: Resource) -> None:
        started.set()
        current_context().wait(LONG_TIMEOUT)
        current_context().check()

    future = runners.start().submit(check)
    assert started.wait(LONG_TIMEOUT)
    future.request_cancel("not needed")
    with pytest.raises(TaskCancelled, match="not needed"):
        future.result(LONG_TIMEOUT)
    assert not future.cancelled()


def test_a_told_task_is_not_retried_and_its_resource_not_judged(
    runners: Runners, gate: Gate
) -> None:
    asked: list[BaseException] = []

    def check(error: BaseException) -> bool:
        asked.append(error)
        return False

    runner = runners.start(check_health=check)
    future = runner.submit(gate.hold_then_raise, Broken())
    gate.wait_for()
    assert future.request_cancel()
    gate.open()
    assert isinstance(future.exception(LONG_TIMEOUT), Broken)
    assert asked == []
    assert runner.metrics().total_tasks_retried == 0


def test_a_request_while_a_retry_waits_ends_the_task(runners: Runners, log: LogCapture) -> None:
    tried, up = threading.Event(), threading.Event()
    attempts: list[int] = []

    def create() -> Resource:
        if runners.factory.made and not up.is_set():
            tried.set()
            raise ConnectionRefusedError
        return runners.factory.create()

    def fail(_resource: Resource) -> None:
        attempts.append(1)
        raise Broken

    runner = runners.start(on_create=create, check_health=is_healthy)
    future = runner.submit(fail)
    assert tried.wait(LONG_TIMEOUT)
    assert not future.cancel()
    assert future.request_cancel("not needed")
    up.set()
    with pytest.raises((Broken, TaskCancelled)):
        future.result(LONG_TIMEOUT)
    assert attempts == [1]
    log.take()


def test_the_number_of_cancelled_tasks_left_behind_is_bounded(runners: Runners, gate: Gate) -> None:
    """Cancelled entries leave the queue although no worker comes to skip them."""
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    survivor = runner.submit(lambda _: "still here")

    def round_trip(count: int) -> int:
        for _ in range(count):
            runner.submit(gate.hold, bytes(10)).cancel()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = round_trip(5_000)
        after = round_trip(20_000)
    finally:
        tracemalloc.stop()
    # 1,024 tombstones of at most a few hundred bytes each may come and go.
    assert after - before < 1_000_000
    assert runner.stats().queued_tasks == 1
    gate.open()
    assert survivor.result(LONG_TIMEOUT) == "still here"


@pytest.mark.stress
@pytest.mark.usefixtures("fast_switch")
def test_cancel_and_run_are_never_both_true(runners: Runners) -> None:
    runner = runners.start(worker_count=4)
    ran: set[int] = set()

    def client(base: int) -> None:
        for i in range(base, base + 500):
            future = runner.submit(lambda _, i: ran.add(i), i)
            if future.cancel():
                with pytest.raises(concurrent.futures.CancelledError):
                    future.result(LONG_TIMEOUT)
                assert i not in ran
            else:
                future.result(LONG_TIMEOUT)
                assert i in ran

    calls = [Call(client, base) for base in range(0, 2_000, 500)]
    for call in calls:
        call.result()
    assert runner.stats().active_workers == 4


@pytest.mark.stress
@pytest.mark.usefixtures("fast_switch")
def test_of_many_that_cancel_all_agree(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    for _ in range(100):
        future = runner.submit(lambda _: None)
        answers = [call.result() for call in at_once(3, future.cancel)]
        eventually(future.done)
        assert answers == [future.cancelled()] * 3


def test_a_future_made_by_hand_can_be_cancelled_until_it_runs() -> None:
    future: Future[int] = Future()
    assert future.cancel()
    running: Future[int] = Future()
    running.set_running_or_notify_cancel()
    assert not running.cancel()
    assert running.request_cancel()
    assert running.running()
