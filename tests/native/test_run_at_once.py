"""`run_task` on a loan that is idle: one task is kept for all of its calls, and no call sees it."""

from __future__ import annotations

import sys
import threading

import pytest

from tasker import Runner, TaskContext, current_context
from tests.native.support import (
    LONG_TIMEOUT,
    Call,
    Gate,
    Resource,
    Runners,
    eventually,
)


@pytest.fixture
def runner(runners: Runners) -> Runner[Resource]:
    """Its one loan is idle."""
    runner = runners.start(resource_pool_size=1, thread_bound=False)
    runner.run_task(lambda _: None)
    return runner


def test_a_kill_tells_the_call_that_runs(runner: Runner[Resource]) -> None:
    started = threading.Event()

    def task(_resource: Resource) -> str | None:
        context = current_context()
        started.set()
        assert context.wait(LONG_TIMEOUT)
        return context.reason

    call = Call(runner.run_task, task)
    assert started.wait(LONG_TIMEOUT)
    assert runner.kill(LONG_TIMEOUT) == []
    assert call.result() == "the runner was killed"


def test_a_task_that_asks_after_a_kill_sees_it(runner: Runner[Resource], gate: Gate) -> None:
    def late(_resource: Resource) -> tuple[bool, str | None]:
        gate.hold()
        return current_context().cancelled, current_context().reason

    call = Call(runner.run_task, late)
    gate.wait_for()
    kill = Call(runner.kill)
    eventually(lambda: runner.state == "killed")
    gate.open()
    kill.result()
    assert call.result() == (True, "the runner was killed")


def test_a_context_is_of_one_call(runner: Runner[Resource]) -> None:
    contexts: list[TaskContext] = []

    def ask(_resource: Resource) -> int:
        contexts.append(current_context())
        assert current_context() is contexts[-1]
        return contexts[-1].attempt

    for _ in range(3):
        assert runner.run_task(ask) == 1
        contexts[-1].cancel("over")
        assert runner.run_task(lambda _: current_context().cancelled) is False
    assert len({id(context) for context in contexts}) == 3


def test_workers_show_the_call_while_it_runs(runner: Runner[Resource]) -> None:
    for done in (2, 3):
        gate = Gate()
        call = Call(runner.run_task, gate.hold)
        gate.wait_for()
        [worker] = [worker for worker in runner.workers() if worker.kind == "reserved"]
        assert worker.state == "busy"
        assert worker.task is not None
        assert worker.task.name == "Gate.hold"
        gate.open()
        call.result()
        [worker] = [worker for worker in runner.workers() if worker.kind == "reserved"]
        assert (worker.state, worker.task, worker.tasks_done) == ("idle", None, done)


def test_nothing_of_a_call_is_kept(runner: Runner[Resource]) -> None:
    argument, result = object(), object()

    def give(_resource: Resource, one: object, *, by: object) -> object:
        assert one is by is argument
        return result

    before = [sys.getrefcount(object_) for object_ in (argument, result)]
    for value in (False, True):
        assert runner.run_task(give, argument, by=argument) is result
        with pytest.raises(KeyError):
            runner.run_task(lambda _, key: dict[object, None]()[key], argument)
        assert runner.run_task(lambda _, value: value, value) is value
    assert [sys.getrefcount(object_) for object_ in (argument, result)] == before


def test_it_is_counted_by_its_name(runner: Runner[Resource]) -> None:
    def counted(_resource: Resource, fails: bool) -> None:
        if fails:
            raise LookupError

    for _ in range(3):
        runner.run_task(counted, False)
        with pytest.raises(LookupError):
            runner.run_task(counted, True)
    metrics = runner.metrics()
    [figures] = [figures for name, figures in metrics.by_task.items() if "counted" in name]
    assert (figures.completed, figures.failed) == (3, 3)
    assert (metrics.total_tasks_arrived, metrics.total_tasks_completed) == (7, 4)
