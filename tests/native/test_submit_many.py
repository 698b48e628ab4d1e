"""`submit_many`: a task for each item, and a future that tells what became of it."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from tasker import Future, Priority, QueueFull, RunnerStopped, TaskTimeout
from tests.native.support import LONG_TIMEOUT, MOMENT, Call, Gate, Resource, Runners, eventually


def double(_resource: Resource, x: int) -> int:
    return 2 * x


def test_each_item_is_a_task_in_the_order_of_the_input(runners: Runners) -> None:
    runner = runners.start()
    order: list[int] = []

    def task(resource: Resource, x: int) -> int:
        order.append(x)
        return double(resource, x)

    futures = runner.submit_many(task, iter(range(500)))
    assert all(type(future) is Future for future in futures)
    assert [future.result(LONG_TIMEOUT) for future in futures] == list(range(0, 1000, 2))
    assert order == list(range(500))
    assert runner.metrics().total_tasks_completed == 500
    assert runner.submit_many(double, []) == []


def test_it_reaches_all_workers(runners: Runners, gate: Gate) -> None:
    futures = runners.start(worker_count=4).submit_many(gate.hold_then_return, range(4))
    gate.wait_for(4)
    gate.open()
    assert [future.result(LONG_TIMEOUT) for future in futures] == [0, 1, 2, 3]


def test_a_view_submits_with_its_options(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    futures = runner.options(priority=Priority.HIGH, timeout=0.02).submit_many(double, range(3))
    assert runner.stats().priority_tasks == 3
    for future in futures:
        with pytest.raises(TaskTimeout):
            future.result(LONG_TIMEOUT)


def test_what_cannot_be_submitted_is_refused(runners: Runners) -> None:
    runner = runners.start()

    def failing() -> Iterator[int]:
        yield 1
        raise OSError("unplugged")

    with pytest.raises(TypeError, match="must be callable"):
        runner.submit_many(5, [1])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not iterable"):
        runner.submit_many(double, 5)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="unplugged"):
        runner.submit_many(double, failing())
    assert runner.metrics().total_tasks_arrived == 0
    runner.stop(LONG_TIMEOUT)
    with pytest.raises(RunnerStopped):
        runner.submit_many(double, [1])


def test_a_full_queue_refuses_items_in_their_futures(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_queue_size=3, when_full="raise")
    runner.submit(gate.hold)
    gate.wait_for()
    futures = runner.submit_many(double, range(5))
    assert [future.done() for future in futures] == [False] * 3 + [True] * 2
    for future in futures[3:]:
        assert isinstance(future.exception(), QueueFull)
    gate.open()
    assert [future.result(LONG_TIMEOUT) for future in futures[:3]] == [0, 2, 4]
    assert runner.metrics().total_tasks_refused == 2


def test_it_waits_for_room(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_queue_size=2)
    call: Call[list[Future[int]]] = Call(runner.submit_many, gate.hold_then_return, range(10))
    gate.wait_for()
    call.wait_until_blocked()
    gate.open()
    assert [future.result(LONG_TIMEOUT) for future in call.result()] == list(range(10))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends signals")
def test_what_a_signal_handler_raises_meanwhile_is_no_refusal(runners: Runners, gate: Gate) -> None:
    class TooSlow(Exception):
        """What a program may raise from its own handler of an alarm."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow

    runner = runners.start(max_queue_size=1)
    runner.submit(gate.hold)
    gate.wait_for()
    former = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, MOMENT)
    try:
        with pytest.raises(TooSlow):
            runner.submit_many(double, range(3))
    finally:
        signal.signal(signal.SIGALRM, former)
    assert runner.metrics().total_tasks_cancelled == 1


def test_a_stop_meanwhile_refuses_the_rest_in_their_futures(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_queue_size=2)
    call: Call[list[Future[int]]] = Call(runner.submit_many, gate.hold_then_return, range(10))
    gate.wait_for()
    call.wait_until_blocked()
    stop = Call(runner.stop, LONG_TIMEOUT)
    futures = call.result()
    gate.open()
    stop.result()
    errors = [future.exception(LONG_TIMEOUT) for future in futures]
    accepted = sum(error is None for error in errors)
    assert accepted == 3
    assert all(isinstance(error, RunnerStopped) for error in errors[accepted:])


def test_a_loop_is_not_blocked(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_queue_size=1)
    runner.submit(gate.hold)
    gate.wait_for()

    async def main() -> list[Future[int]]:
        return runner.submit_many(double, range(3))

    futures = asyncio.run(main())
    assert [type(future.exception()) for future in futures[1:]] == [QueueFull] * 2
    gate.open()
    assert futures[0].result(LONG_TIMEOUT) == 0


def test_each_task_runs_in_a_fresh_copy_of_the_context(runners: Runners) -> None:
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var")
    token = var.set(-1)

    def task(_resource: Resource, x: int) -> int:
        found = var.get()
        var.set(x)
        return found

    futures = runners.start().submit_many(task, range(100))
    assert {future.result(LONG_TIMEOUT) for future in futures} == {-1}
    var.reset(token)


def test_more_items_than_room_inside_a_task(runners: Runners) -> None:
    runner = runners.start(max_queue_size=2)

    def outer(_resource: Resource) -> list[object]:
        return [future.exception() for future in runner.submit_many(double, range(4))]

    errors = runner.submit(outer).result(LONG_TIMEOUT)
    assert errors[:2] == [None, None]
    assert [type(error) for error in errors[2:]] == [QueueFull] * 2


def test_futures_can_be_cancelled_and_let_go_of(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    futures = runner.submit_many(double, itertools.repeat(1, 50))
    assert all(future.cancel() for future in futures)
    gate.open()
    eventually(lambda: runner.stats().running_tasks == 0)
    assert runner.metrics().total_tasks_cancelled == 50
