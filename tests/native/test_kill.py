"""A kill: nothing starts any more, what waits is settled and handed back, what runs is told."""

from __future__ import annotations

import itertools
import threading
from functools import partial
from typing import Any

import pytest

from tasker import (
    DroppedTask,
    Future,
    Priority,
    Runner,
    RunnerStopped,
    StopTimeout,
    TaskCancelled,
    current_context,
)
from tests.native.support import (
    LONG_TIMEOUT,
    MOMENT,
    Broken,
    Call,
    Gate,
    LogCapture,
    Resource,
    Runners,
    at_once,
    break_down,
    eventually,
    is_healthy,
)


def obey(_resource: object) -> str | None:
    """A task function that gives up when it is told to."""
    context = current_context()
    assert context.wait(LONG_TIMEOUT)
    return context.reason


def test_what_waits_is_settled_before_anything_is_waited_for(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    running = runner.submit(gate.hold)
    gate.wait_for()
    waiting = [runner.submit(gate.hold) for _ in range(10)]
    kill = Call(runner.kill)
    for future in waiting:
        with pytest.raises(TaskCancelled, match="killed before the task started"):
            future.result(LONG_TIMEOUT)
        assert not future.cancelled()
    assert running.running()
    eventually(lambda: runner.state == "killed")
    gate.open()
    kill.result()
    assert running.result(0) is None
    assert runner.state == "stopped"
    assert runner.metrics().total_tasks_dropped == 10


def test_what_runs_is_told_and_may_still_succeed(runners: Runners) -> None:
    started = threading.Event()

    def task(resource: Resource) -> str | None:
        started.set()
        return obey(resource)

    runner = runners.start()
    future = runner.submit(task)
    assert started.wait(LONG_TIMEOUT)
    assert runner.kill(LONG_TIMEOUT) == []
    assert future.result(0) == "the runner was killed"


def test_a_task_that_asks_late_sees_the_kill(runners: Runners, gate: Gate) -> None:
    def late(_resource: Resource) -> tuple[bool, str | None]:
        gate.hold()
        return current_context().cancelled, current_context().reason

    runner = runners.start()
    future = runner.submit(late)
    gate.wait_for()
    kill = Call(runner.kill)
    eventually(lambda: runner.state == "killed")
    gate.open()
    kill.result()
    assert future.result(0) == (True, "the runner was killed")


def test_what_never_ran_is_handed_back_as_it_was_submitted(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    runner.submit(gate.hold_then_return, "result")
    view = runner.options(priority=Priority.HIGH, once=True, timeout=LONG_TIMEOUT, name="urgent")
    view.submit(divmod_of, 7, by=2)
    kill = Call(runner.kill)
    gate.open()
    urgent, plain = sorted(kill.result(), key=lambda task: -task.priority)
    assert isinstance(urgent, DroppedTask)
    assert (urgent.fn, urgent.args, urgent.kwargs) == (divmod_of, (7,), {"by": 2})
    assert (urgent.priority, urgent.once) == (Priority.HIGH, True)
    assert (urgent.timeout, urgent.name) == (LONG_TIMEOUT, "urgent")
    assert (plain.fn, plain.args, plain.kwargs) == (gate.hold_then_return, ("result",), {})
    assert (plain.priority, plain.once) == (Priority.NORMAL, False)
    assert (plain.timeout, plain.name) == (None, None)


def divmod_of(_resource: object, number: int, by: int) -> tuple[int, int]:
    return divmod(number, by)


def test_a_dropped_task_can_be_given_to_another_runner(runners: Runners, gate: Gate) -> None:
    runner, other = runners.start(), runners.start(name="other")
    runner.submit(gate.hold)
    gate.wait_for()
    futures: list[Future[Any]] = [runner.submit(divmod_of, i, by=2) for i in range(5)]
    kill = Call(runner.kill)
    eventually(lambda: all(future.done() for future in futures))
    gate.open()
    again = [task.submit_to(other) for task in kill.result()]
    assert [future.result(LONG_TIMEOUT) for future in again] == [divmod(i, 2) for i in range(5)]


def test_the_urgent_are_handed_back_first(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    for priority in (Priority.LOW, Priority.HIGH, Priority.NORMAL, Priority.HIGH):
        runner.options(priority=priority).submit(gate.hold)
    kill = Call(runner.kill)
    eventually(lambda: runner.metrics().total_tasks_dropped == 4)
    gate.open()
    assert [task.priority for task in kill.result()] == [
        Priority.HIGH,
        Priority.HIGH,
        Priority.NORMAL,
        Priority.LOW,
    ]


def test_cancelled_and_expired_tasks_are_not_handed_back(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    runner.submit(gate.hold).cancel()
    runner.options(timeout=0.001).submit(gate.hold).exception(LONG_TIMEOUT)
    kill = Call(runner.kill)
    eventually(lambda: runner.state == "killed")
    gate.open()
    assert kill.result() == []


def test_of_several_kills_one_gets_the_tasks(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    for _ in range(5):
        runner.submit(gate.hold)
    kills = at_once(3, runner.kill)
    eventually(lambda: runner.metrics().total_tasks_dropped == 5)
    gate.open()
    assert sorted(len(kill.result()) for kill in kills) == [0, 0, 5]


def test_it_strengthens_a_stop(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    waiting = runner.submit(gate.hold)
    stop = Call(runner.stop)
    stop.wait_until_blocked()
    kill = Call(runner.kill)
    assert isinstance(waiting.exception(LONG_TIMEOUT), TaskCancelled)
    gate.open()
    assert len(kill.result()) == 1
    stop.result()


def test_stops_and_kills_may_overlap(runners: Runners) -> None:
    for turn in range(10):
        runner = runners.start(worker_count=2, name=f"app{turn}")
        calls: list[Call[Any]] = [Call(runner.stop) for _ in range(3)]
        calls += [Call(runner.kill) for _ in range(2)]
        for call in calls:
            call.result()
        assert runner.state == "stopped"
    runners.factory.check()


def test_one_that_takes_too_long_has_the_dropped_tasks_in_its_error(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start()
    runner.options(name="stuck").submit(gate.hold)
    gate.wait_for()
    runner.submit(gate.hold_then_return, "never")
    with pytest.raises(StopTimeout, match=r"kill\(\) of runner") as raised:
        runner.kill(timeout=MOMENT)
    assert [task.name for task in raised.value.running] == ["stuck"]
    assert [task.args for task in raised.value.dropped] == [("never",)]
    gate.open()
    assert runner.kill(LONG_TIMEOUT) == []


def test_nothing_starts_after_it(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=3)
    for _ in range(3):
        runner.submit(gate.hold)
    gate.wait_for(3)
    ran: list[int] = []
    for _ in range(50):
        runner.submit(lambda _: ran.append(1))
    kill = Call(runner.kill)
    eventually(lambda: runner.state == "killed")
    gate.open()
    assert len(kill.result()) == 50
    assert ran == []
    with pytest.raises(RunnerStopped):
        runner.submit(gate.hold)


def test_nothing_is_retried_and_nobody_asked_after_it(runners: Runners, gate: Gate) -> None:
    asked: list[BaseException] = []

    def check(error: BaseException) -> bool:
        asked.append(error)
        return False

    runner = runners.start(check_health=check)
    error = Broken()
    future = runner.submit(gate.hold_then_raise, error)
    gate.wait_for()
    kill = Call(runner.kill)
    eventually(lambda: runner.state == "killed")
    gate.open()
    assert kill.result() == []
    assert future.exception(0) is error
    assert asked == []


def test_a_task_that_waits_for_a_retry_gets_its_last_error(
    runners: Runners, log: LogCapture
) -> None:
    tried, killed = threading.Event(), threading.Event()

    def create() -> Resource:
        if runners.factory.made and not killed.is_set():
            tried.set()
            raise ConnectionRefusedError
        return runners.factory.create()

    error = Broken()

    def fail(_resource: Resource) -> None:
        raise error

    runner = runners.start(on_create=create, check_health=is_healthy)
    future = runner.submit(fail)
    assert tried.wait(LONG_TIMEOUT)
    assert runner.kill(LONG_TIMEOUT) == []
    killed.set()
    assert future.exception(0) is error
    log.take()


def test_callers_that_wait_are_released(runners: Runners, gate: Gate) -> None:
    runner = runners.start(resource_pool_size=1)
    holders = [Call(runner.run_task, gate.hold)]
    runner.submit(gate.hold)
    gate.wait_for(2)
    calls = [Call(call, gate.hold) for call in (runner.queue_task, runner.run_task)]
    for call in calls:
        call.wait_until_blocked()
    kill = Call(runner.kill)
    assert [type(call.error()) for call in calls] == [TaskCancelled, TaskCancelled]
    gate.open()
    for call in (*holders, kill):
        call.result()


def test_a_caller_that_waits_for_a_loan_is_released(runners: Runners, gate: Gate) -> None:
    runner = runners.start(resource_pool_size=1, thread_bound=False)
    holder = Call(runner.run_task, gate.hold)
    gate.wait_for()
    waiting = Call(runner.run_task, gate.hold)
    waiting.wait_until_blocked()
    kill = Call(runner.kill)
    assert isinstance(waiting.error(), TaskCancelled)
    gate.open()
    holder.result()
    kill.result()


def test_a_resource_that_is_being_made_is_destroyed_when_it_comes(
    runners: Runners, gate: Gate
) -> None:
    def create() -> Resource:
        if runners.factory.made:
            gate.hold()
        return runners.factory.create()

    runner = runners.start(on_create=create, check_health=is_healthy, max_retries=0)
    assert isinstance(runner.submit(break_down).exception(LONG_TIMEOUT), Broken)
    gate.wait_for()
    waiting = runner.submit(lambda _: None)
    with pytest.raises(StopTimeout) as raised:
        runner.kill(MOMENT)
    assert raised.value.running == ()
    assert len(raised.value.dropped) == 1
    assert isinstance(waiting.exception(0), TaskCancelled)
    gate.open()
    runner.kill(LONG_TIMEOUT)
    assert len(runners.factory.made) == 2
    runners.factory.check()


def test_a_task_may_kill_its_own_runner(runners: Runners) -> None:
    runner = runners.start()
    handed = threading.Event()

    def kill(_resource: Resource) -> tuple[int, bool, str]:
        assert handed.wait(LONG_TIMEOUT)
        dropped = runner.kill()
        return len(dropped), current_context().cancelled, runner.state

    future = runner.submit(kill)
    waiting = runner.submit(lambda _: None)
    handed.set()
    assert future.result(LONG_TIMEOUT) == (1, True, "killed")
    assert isinstance(waiting.exception(LONG_TIMEOUT), TaskCancelled)
    runner.stop(LONG_TIMEOUT)


def test_a_callback_may_kill_its_own_runner(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    future = runner.submit(gate.hold)
    dropped: list[DroppedTask] = []
    states: list[str] = []

    def kill(_future: Future[None]) -> None:
        dropped.extend(runner.kill())
        states.append(runner.state)

    future.add_done_callback(kill)
    gate.wait_for()
    runner.submit(gate.hold)
    gate.open()
    eventually(lambda: states == ["killed"])
    assert len(dropped) == 1
    runner.stop(LONG_TIMEOUT)


def test_a_callback_of_a_dropped_task_may_use_the_runner(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    waiting = runner.submit(gate.hold)
    seen: list[object] = []

    def look(_future: Future[None]) -> None:
        seen.append(runner.state)
        seen.append(type(Call(runner.submit, gate.hold).error()))
        runner.stop(timeout=1)
        runner.kill(timeout=1)
        seen.append("went on")

    waiting.add_done_callback(look)
    kill = Call(runner.kill, LONG_TIMEOUT)
    eventually(lambda: len(seen) >= 2)
    gate.open()
    kill.result()
    assert seen == ["killed", RunnerStopped, "went on"]


def give(_resource: Resource, x: int) -> int:
    return x


def has_many(ran: list[int]) -> bool:
    return len(ran) > 20


@pytest.mark.parametrize("thread_bound", [True, False], ids=["bound", "lent"])
def test_a_kill_by_a_task_hands_back_calls_of_run_task_that_wait(
    runners: Runners, gate: Gate, *, thread_bound: bool
) -> None:
    runner = runners.start(resource_pool_size=1, thread_bound=thread_bound)
    running = Call(runner.run_task, gate.hold_then_return, 1)
    gate.wait_for()
    waiting = [Call(runner.run_task, give, x) for x in range(3)]
    eventually(lambda: runner.stats().queued_tasks == 3)
    dropped = runner.submit(lambda _resource: runner.kill()).result(LONG_TIMEOUT)
    assert sorted(task.args for task in dropped) == [(0,), (1,), (2,)]
    for call in waiting:
        assert isinstance(call.error(), TaskCancelled)
    gate.open()
    assert running.result() == 1
    assert runner.kill() == []


@pytest.mark.parametrize("is_valid", [True, False])
def test_a_kill_by_a_task_hands_back_a_call_whose_resource_is_validated(
    runners: Runners, gate: Gate, *, is_valid: bool
) -> None:
    def validate(_resource: Resource) -> bool:
        if threading.current_thread() is caller[0]:
            gate.hold()
            return is_valid
        return True

    def call_it() -> int:
        caller.append(threading.current_thread())
        return runner.run_task(give, 7)

    caller: list[threading.Thread] = []
    runner = runners.start(
        resource_pool_size=1, thread_bound=False, validate=validate, validate_after_idle=0.0
    )
    call = Call(call_it)
    gate.wait_for()
    dropped = runner.submit(lambda _resource: runner.kill()).result(LONG_TIMEOUT)
    assert [task.args for task in dropped] == [(7,)]
    gate.open()
    assert isinstance(call.error(), TaskCancelled)
    assert runner.kill() == []
    assert runner.metrics().total_tasks_dropped == 1


@pytest.mark.parametrize("thread_bound", [True, False], ids=["bound", "lent"])
def test_what_a_kill_by_a_task_drops_is_handed_back_once(
    runners: Runners, log: LogCapture, *, thread_bound: bool
) -> None:
    log.overlook("created")
    refusals = itertools.cycle([True, False, True])
    for _ in range(20):
        runner = runners.start(
            worker_count=2,
            thread_bound=thread_bound,
            validate=lambda _resource: next(refusals),
            validate_after_idle=0.0,
        )

        def kill(_resource: Resource, runner: Runner[Resource] = runner) -> list[DroppedTask]:
            return runner.kill()

        ran: list[int] = []
        numbers = itertools.count()
        cancelled: list[int] = []

        def work(runner: Runner[Resource], ran: list[int], numbers: Any, lost: list[int]) -> None:
            while True:
                number = next(numbers)
                verb = [runner.run_task, runner.queue_task][number % 2]
                try:
                    verb(lambda _resource, x: ran.append(x), number)
                except TaskCancelled:
                    lost.append(number)
                except RunnerStopped:
                    return

        calls = [Call(work, runner, ran, numbers, cancelled) for _ in range(4)]
        eventually(partial(has_many, ran))
        dropped = runner.queue_task(kill)
        for call in calls:
            call.result()
        dropped += runner.kill()
        handed = [task.args[0] for task in dropped]
        assert sorted(handed) == sorted(cancelled)
        assert runner.metrics().total_tasks_dropped == len(handed)
