"""Done-callbacks: called once, in order, whatever they do."""

from __future__ import annotations

import functools
import threading
from typing import Any

import pytest

from tasker import Future, QueueFull, TaskCancelled, current_context
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    Gate,
    LogCapture,
    Runners,
    at_once,
    eventually,
)


def fail(_future: Future[Any]) -> None:
    raise ArithmeticError


def test_callbacks_get_the_future_in_the_order_they_were_added(
    runners: Runners, gate: Gate
) -> None:
    future = runners.start().submit(gate.hold)
    seen: list[tuple[int, Future[None]]] = []

    def note(number: int, done: Future[None]) -> None:
        seen.append((number, done))

    for i in range(5):
        future.add_done_callback(functools.partial(note, i))
    assert seen == []
    gate.open()
    eventually(lambda: len(seen) == 5)
    assert seen == [(i, future) for i in range(5)]


def test_a_callback_finds_the_future_done(runners: Runners, gate: Gate) -> None:
    future = runners.start().submit(gate.hold_then_return, 7)
    results: list[int] = []
    future.add_done_callback(lambda f: results.append(f.result(0)))
    gate.open()
    eventually(lambda: results == [7])


def test_a_callback_runs_on_the_worker_that_settles(runners: Runners, gate: Gate) -> None:
    future = runners.start().submit(gate.hold)
    threads: list[int] = []
    future.add_done_callback(lambda _: threads.append(threading.get_ident()))
    gate.open()
    eventually(lambda: threads == [runners.factory.made[0].thread])


@pytest.mark.parametrize("settle", ["cancel", "set_result", "set_exception"])
def test_a_callback_of_a_done_future_is_called_at_once(settle: str) -> None:
    future: Future[None] = Future()
    getattr(future, settle)(*([None] if settle != "cancel" else []))
    threads: list[int] = []
    future.add_done_callback(lambda _: threads.append(threading.get_ident()))
    assert threads == [threading.get_ident()]


def test_a_cancel_calls_back_on_the_cancelling_thread(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    future = runner.submit(gate.hold)
    threads: list[int] = []
    future.add_done_callback(lambda f: threads.append(threading.get_ident() * f.cancelled()))
    assert future.cancel()
    assert threads == [threading.get_ident()]


def test_a_failed_task_calls_back(runners: Runners, gate: Gate) -> None:
    future = runners.start().submit(gate.hold_then_raise, Broken())
    errors: list[BaseException | None] = []
    future.add_done_callback(lambda f: errors.append(f.exception(0)))
    gate.open()
    eventually(lambda: errors == [future.exception(LONG_TIMEOUT)])


def test_a_kill_calls_back(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    future = runner.submit(gate.hold)
    errors: list[BaseException | None] = []
    future.add_done_callback(lambda f: errors.append(f.exception(0)))
    kill = Call(runner.kill)
    eventually(lambda: errors)
    assert isinstance(errors[0], TaskCancelled)
    gate.open()
    kill.result()


def test_a_callback_that_raises_is_logged_and_the_others_are_called(
    runners: Runners, log: LogCapture, gate: Gate
) -> None:
    runner = runners.start(check_health=lambda _: False)
    future = runner.submit(gate.hold)
    seen: list[Future[None]] = []
    future.add_done_callback(fail)
    future.add_done_callback(seen.append)
    gate.open()
    eventually(lambda: seen == [future])
    (record,) = log.take()
    assert record.getMessage() == "tasker-1-worker-1: a done-callback failed"
    assert record.exc_info
    assert record.exc_info[0] is ArithmeticError
    assert runner.queue_task(lambda resource: resource.number) == 0


def test_an_error_of_a_late_callback_is_logged_too(log: LogCapture) -> None:
    future: Future[int] = Future()
    future.set_result(7)
    future.add_done_callback(fail)
    (record,) = log.take()
    assert record.getMessage() == "a done-callback failed"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_no_error_of_a_callback_gets_out(
    runners: Runners, log: LogCapture, gate: Gate, error: BaseException
) -> None:
    def exit_(_future: Future[None]) -> None:
        raise error

    runner = runners.start()
    future = runner.submit(gate.hold)
    future.add_done_callback(exit_)
    gate.open()
    future.result(LONG_TIMEOUT)
    future.add_done_callback(exit_)
    assert len(log.take(2)) == 2
    assert runner.queue_task(lambda _: "alive") == "alive"


def test_what_cannot_be_called_is_logged_like_any_error(log: LogCapture) -> None:
    future: Future[int] = Future()
    future.set_result(7)
    future.add_done_callback(7)  # type: ignore[arg-type]
    (record,) = log.take()
    assert record.exc_info
    assert record.exc_info[0] is TypeError


def test_a_callback_may_add_another(runners: Runners, gate: Gate) -> None:
    future = runners.start().submit(gate.hold)
    seen: list[str] = []

    def outer(f: Future[None]) -> None:
        seen.append("outer")
        f.add_done_callback(lambda _: seen.append("inner"))
        seen.append("end")

    future.add_done_callback(outer)
    gate.open()
    eventually(lambda: seen == ["outer", "inner", "end"])


def test_a_callback_may_submit(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    future = runner.submit(gate.hold)
    followers: list[Future[int]] = []
    future.add_done_callback(lambda _: followers.append(runner.submit(lambda _: 7)))
    gate.open()
    eventually(lambda: followers)
    assert followers[0].result(LONG_TIMEOUT) == 7


def test_a_callback_may_wait_for_a_task_of_its_own_runner(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    future = runner.submit(gate.hold)
    results: list[int] = []
    future.add_done_callback(lambda _: results.append(runner.submit(lambda _: 7).result()))
    future.add_done_callback(lambda _: results.append(runner.queue_task(lambda _: 8)))
    future.add_done_callback(lambda _: results.append(runner.run_task(lambda _: 9)))
    gate.open()
    eventually(lambda: results == [7, 8, 9])


def test_a_callback_never_blocks_on_a_full_queue(runners: Runners) -> None:
    runner, first, second = runners.start(max_queue_size=1), Gate(), Gate()
    future = runner.submit(first.hold)
    first.wait_for()
    errors: list[BaseException] = []

    def submit_two(_future: Future[None]) -> None:
        try:
            for _ in range(2):
                runner.submit(second.hold)
        except QueueFull as error:
            errors.append(error)

    future.add_done_callback(submit_two)
    first.open()
    eventually(lambda: errors)
    second.open()


def test_callbacks_are_part_of_no_task(runners: Runners, gate: Gate) -> None:
    future = runners.start().submit(gate.hold)
    seen: list[BaseException] = []

    def ask(_future: Future[None]) -> None:
        try:
            current_context()
        except RuntimeError as error:
            seen.append(error)

    future.add_done_callback(ask)
    gate.open()
    eventually(lambda: seen)


@pytest.mark.stress
@pytest.mark.usefixtures("fast_switch")
def test_each_callback_is_called_once_in_a_race(runners: Runners) -> None:
    runner = runners.start(worker_count=2)

    def race(called: list[int]) -> None:
        future = runner.submit(lambda _: None)

        def add() -> None:
            for _ in range(5):
                future.add_done_callback(lambda _: called.append(1))

        for call in at_once(3, add):
            call.result()
        eventually(lambda: len(called) >= 15)

    rounds: list[list[int]] = [[] for _ in range(100)]
    for called in rounds:
        race(called)
    assert rounds == [[1] * 15] * 100
