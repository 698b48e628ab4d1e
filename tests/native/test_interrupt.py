"""Ctrl-C ends every blocking call of the main thread at once, and takes its task along."""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from tasker import Context, Future, Runner, current_context
from tests.native.support import LONG_TIMEOUT, MOMENT, Call, Gate, Resource, Runners, eventually

BLOCKING: dict[str, Callable[[Runner[Resource], Gate], Any]] = {
    "result": lambda runner, gate: runner.submit(gate.hold).result(),
    "result with a limit": lambda runner, gate: runner.submit(gate.hold).result(LONG_TIMEOUT),
    "exception": lambda runner, gate: runner.submit(gate.hold).exception(),
    "queue_task": lambda runner, gate: runner.queue_task(gate.hold),
    "run_task": lambda runner, gate: runner.run_task(gate.hold),
    "map": lambda runner, gate: next(runner.map(gate.hold_then_return, [1])),
    "stop": lambda runner, _: runner.stop(),
    "stop with a limit": lambda runner, _: runner.stop(LONG_TIMEOUT),
    "kill": lambda runner, _: runner.kill(),
    "context": lambda _runner, _gate: Context().wait(),
}


@contextmanager
def interrupted() -> Iterator[None]:
    """Sends Ctrl-C in a moment, and expects the block to end by it at once."""
    sent: list[float] = []

    def send() -> None:
        sent.append(time.monotonic())
        _thread.interrupt_main()

    threading.Timer(MOMENT, send).start()
    with pytest.raises(KeyboardInterrupt):
        yield
    assert time.monotonic() - sent[0] < 1


@pytest.mark.timing
@pytest.mark.parametrize("call", list(BLOCKING))
def test_every_blocking_call_ends(runners: Runners, gate: Gate, call: str) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    with interrupted():
        BLOCKING[call](runner, gate)
    gate.open()


def test_a_call_of_a_batcher_that_runs_is_told_and_not_made_again(runners: Runners) -> None:
    calls: list[list[int]] = []

    def work(_resource: Resource, items: list[int]) -> list[int]:
        calls.append(items)
        current_context().wait(LONG_TIMEOUT)
        raise LookupError

    runner = runners.start()
    results = runner.batcher(work, max_size=2, split_failed=True).map(range(2))
    with interrupted():
        next(results)
    runner.stop(timeout=LONG_TIMEOUT)
    assert calls == [[0, 1]]


@pytest.mark.parametrize("verb", ["queue_task", "run_task"])
def test_a_task_that_runs_is_told(runners: Runners, verb: str) -> None:
    reasons: list[str | None] = []

    def obey(_resource: Resource) -> None:
        current_context().wait(LONG_TIMEOUT)
        reasons.append(current_context().reason)

    runner = runners.start()
    with interrupted():
        getattr(runner, verb)(obey)
    eventually(lambda: reasons)
    assert reasons == ["the call that waited for it was interrupted"]


@pytest.mark.parametrize("verb", ["queue_task", "run_task"])
@pytest.mark.parametrize("thread_bound", [True, False])
def test_a_task_that_waits_is_cancelled(
    runners: Runners, gate: Gate, verb: str, thread_bound: bool
) -> None:
    runner = runners.start(resource_pool_size=1, thread_bound=thread_bound)
    runner.submit(gate.hold)
    holder = threading.Thread(target=runner.run_task, args=(gate.hold,))
    holder.start()
    gate.wait_for(2)
    ran: list[int] = []
    with interrupted():
        getattr(runner, verb)(lambda _: ran.append(1))
    gate.open()
    holder.join(LONG_TIMEOUT)
    runner.queue_task(lambda _: None)
    runner.run_task(lambda _: None)
    assert ran == []


def test_a_submit_that_waits_for_room_leaves_its_executor_nothing_to_wait_for(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(max_queue_size=1)
    runner.submit(gate.hold)
    gate.wait_for()
    runner.submit(gate.hold)
    executor = runner.executor()
    with interrupted():
        executor.submit(int)
    Call(executor.shutdown).result()
    gate.open()


def test_a_future_that_was_only_waited_for_goes_on(runners: Runners, gate: Gate) -> None:
    future = runners.start().submit(gate.hold_then_return, "done")
    with interrupted():
        future.result()
    gate.open()
    assert future.result(LONG_TIMEOUT) == "done"


WAITING: dict[str, Callable[[Runner[Resource], Callable[[Resource], None]], object]] = {
    "result": lambda runner, task: runner.submit(task).result(),
    "exception": lambda runner, task: runner.submit(task).exception(),
    "queue_task": lambda runner, task: runner.queue_task(task),
    "run_task": lambda runner, task: runner.run_task(task),
}


@pytest.mark.parametrize("call", list(WAITING))
def test_one_that_comes_just_when_the_task_ends_is_not_lost(runners: Runners, call: str) -> None:
    def interrupt_and_end(_resource: Resource) -> None:
        time.sleep(MOMENT)
        _thread.interrupt_main()

    runner = runners.start()
    with pytest.raises(KeyboardInterrupt):
        WAITING[call](runner, interrupt_and_end)


def test_in_the_callers_thread_it_is_no_reason_to_try_again(runners: Runners) -> None:
    runner = runners.start(thread_bound=False, check_health=lambda _: False)
    attempts: list[int] = []

    def work(_resource: Resource) -> None:
        attempts.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run_task(work)
    assert attempts == [1]
    assert runner.run_task(lambda resource: resource.number) > 1


def test_leaving_the_with_block_by_ctrl_c_kills(runners: Runners, gate: Gate) -> None:
    waiting: list[Future[None]] = []
    runner = runners.start()

    def work() -> None:
        with runner:
            running = runner.submit(gate.hold)
            gate.wait_for()
            waiting.extend(runner.submit(lambda _: None) for _ in range(10))
            for future in waiting:
                future.add_done_callback(lambda _: gate.open())
            running.result()

    with interrupted():
        work()
    assert runner.state == "stopped"
    assert all(future.exception(0) for future in waiting)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends signals")
def test_a_signal_that_raises_nothing_does_not_end_a_wait(runners: Runners, gate: Gate) -> None:
    seen: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) == 3:
            signal.setitimer(signal.ITIMER_REAL, 0)
            gate.open()

    former = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        assert runners.start().submit(gate.hold_then_return, "done").result() == "done"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert seen == [signal.SIGALRM] * 3


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends signals")
def test_a_signal_handler_may_use_and_stop_the_runner(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    followers: list[Future[str]] = []

    def handle(_number: int, _frame: FrameType | None) -> None:
        followers.append(runner.submit(lambda _: "follower"))
        gate.open()
        runner.stop()

    former = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, MOMENT)
    try:
        assert runner.submit(gate.hold_then_return, "done").result() == "done"
        eventually(lambda: followers)
    finally:
        signal.signal(signal.SIGALRM, former)
    assert followers[0].result(LONG_TIMEOUT) == "follower"
    eventually(lambda: runner.state == "stopped")
