"""`Runner.workers`: what each worker does, by figures that agree with all others."""

from __future__ import annotations

import dataclasses
import threading
import weakref
from collections import Counter
from typing import Any

import pytest

from tasker import Runner, RunningTask, StopTimeout, WorkerInfo
from tests.native.support import (
    FREE_THREADED,
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
    worker_threads,
)

OFTEN = 0.01
with_the_gil = pytest.mark.skipif(FREE_THREADED, reason="no stack is read where threads run on")


def only(runner: Runner[Any], *, stacks: bool = False) -> WorkerInfo:
    """The one worker that there is."""
    (worker,) = runner.workers(stacks=stacks)
    return worker


def running(runner: Runner[Any], *, stacks: bool = False) -> RunningTask:
    """The one task that runs."""
    (task,) = [worker.task for worker in runner.workers(stacks=stacks) if worker.task]
    return task


def kinds_and_states(runner: Runner[Any]) -> list[tuple[str, str]]:
    return [(worker.kind, worker.state) for worker in runner.workers()]


def functions(task: RunningTask) -> list[str]:
    """The functions on the stack of a task, the innermost last."""
    return [call.splitlines()[0].rpartition(" in ")[2] for call in task.stack]


def test_a_worker_is_told_by_a_frozen_object_of_the_package(runners: Runners) -> None:
    worker = only(runners.start())
    assert type(worker) is WorkerInfo
    assert WorkerInfo.__module__ == "tasker"
    assert not hasattr(worker, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        worker.state = "busy"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


def test_a_new_worker_is_idle_with_its_first_resource(runners: Runners) -> None:
    runner = runners.start()
    worker = only(runner)
    (thread,) = worker_threads(runner.name)
    assert worker.resource_age is not None
    assert 0 <= worker.resource_age < LONG_TIMEOUT
    assert dataclasses.replace(worker, resource_age=None) == WorkerInfo(
        name="tasker-1-worker-1",
        native_id=thread.native_id,
        kind="base",
        state="idle",
        task=None,
        tasks_done=0,
        busy_seconds=0.0,
        busy_share=0.0,
        resource_generation=1,
        resource_age=None,
    )


def test_workers_come_in_the_order_in_which_they_were_started(runners: Runners) -> None:
    names = [worker.name for worker in runners.start(worker_count=3, name="db").workers()]
    assert names == ["db-worker-1", "db-worker-2", "db-worker-3"]


def test_a_busy_worker_shows_its_task(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    runner.options(name="import").submit(gate.hold)
    gate.wait_for()
    busy, idle = sorted(runner.workers(), key=lambda worker: worker.state)
    assert (busy.state, idle.state, idle.task) == ("busy", "idle", None)
    task = busy.task
    assert task is not None
    assert (task.name, task.worker, task.attempt, task.overdue) == ("import", busy.name, 1, False)
    assert (0 <= task.age < LONG_TIMEOUT, task.stack) == (True, ())


def test_a_task_may_end_while_it_is_looked_at(runners: Runners) -> None:
    """Its function may die then, and its name is asked for."""

    class Task:
        def __call__(self, _resource: Resource) -> None:
            pass

    runner = runners.start(worker_count=2)
    over = threading.Event()

    def look() -> set[str]:
        seen = set()
        while not over.is_set():
            seen |= {worker.task.name for worker in runner.workers() if worker.task}
        return seen

    looking = Call(look)
    for _ in range(200):
        futures = [runner.submit(Task()) for _ in range(50)]
        while not all(future.done() for future in futures):
            assert all(repr(future).startswith("<Future at ") for future in futures)
    over.set()
    # One that has just ended has no name any more.
    assert all("Task" in name or name == "task" for name in looking.result())


def test_items_of_a_map_are_shown_as_tasks(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    call = Call(lambda: list(runner.options(name="items").map(gate.hold, range(3))))
    gate.wait_for()
    assert (running(runner).name, running(runner).attempt) == ("items", 1)
    gate.open()
    call.result()
    assert only(runner).tasks_done == 3


def test_what_was_done_is_counted_by_worker(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    for _ in range(10):
        runner.queue_task(lambda _: None)
    workers = runner.workers()
    eventually(lambda: sum(worker.tasks_done for worker in runner.workers()) == 10)
    eventually(lambda: sum(worker.busy_seconds for worker in runner.workers()) > 0)
    total = runner.metrics().average_execution_time * 10
    assert sum(worker.busy_seconds for worker in runner.workers()) == pytest.approx(total)
    assert [worker.name for worker in workers] == [worker.name for worker in runner.workers()]


@pytest.mark.parametrize("thread_bound", [True, False])
def test_a_reserved_worker_serves_run_task(
    runners: Runners, gate: Gate, thread_bound: bool
) -> None:
    runner = runners.start(resource_pool_size=1, thread_bound=thread_bound)
    assert kinds_and_states(runner) == [("base", "idle"), ("reserved", "idle")]
    call = Call(runner.run_task, gate.hold)
    gate.wait_for()
    assert kinds_and_states(runner) == [("base", "idle"), ("reserved", "busy")]
    gate.open()
    call.result()
    eventually(lambda: kinds_and_states(runner) == [("base", "idle"), ("reserved", "idle")])
    # Also what it did for callers, on their threads.
    assert runner.run_task(lambda _: 7) == 7
    eventually(lambda: runner.workers()[1].tasks_done == 2)


@pytest.mark.parametrize("thread_bound", [True, False])
def test_a_temporary_worker_is_there_for_one_task(
    runners: Runners, gate: Gate, thread_bound: bool
) -> None:
    runner = runners.start(resource_pool_size=0, thread_bound=thread_bound)
    call = Call(runner.run_task, gate.hold)
    gate.wait_for()
    assert kinds_and_states(runner) == [("base", "idle"), ("temporary", "busy")]
    gate.open()
    call.result()
    eventually(lambda: kinds_and_states(runner) == [("base", "idle")])


def test_a_lent_call_shows_the_thread_of_its_caller(runners: Runners, gate: Gate) -> None:
    runner = runners.start(resource_pool_size=1, thread_bound=False)
    own = runner.workers()[1].native_id
    callers: list[int] = []

    def hold(_: object) -> None:
        callers.append(threading.get_native_id())
        gate.hold()

    call = Call(runner.run_task, hold)
    gate.wait_for()
    assert runner.workers()[1].native_id == callers[0] != own
    gate.open()
    call.result()
    assert runner.workers()[1].native_id == own


def test_a_burst_worker_is_starting_until_it_has_its_first_resource(
    runners: Runners, gate: Gate
) -> None:
    first = Gate()
    made: list[int] = []

    def create() -> Resource:
        if made:
            gate.hold()
        made.append(1)
        return runners.factory.create()

    runner = runners.start(on_create=create, max_worker_count=2, burst_interval=OFTEN)
    for _ in range(2):
        runner.submit(first.hold)
    first.wait_for()
    gate.wait_for()
    assert kinds_and_states(runner) == [("base", "busy"), ("burst", "starting")]
    starting = runner.workers()[1]
    assert (starting.resource_generation, starting.resource_age) == (0, None)
    gate.open()
    first.wait_for()
    assert kinds_and_states(runner) == [("base", "busy"), ("burst", "busy")]
    first.open()


def test_a_worker_that_replaces_its_resource_is_equipping(runners: Runners, gate: Gate) -> None:
    made: list[int] = []

    def create() -> Resource:
        if made:
            gate.hold()
        made.append(1)
        return runners.factory.create()

    def fail(_: object) -> None:
        raise Broken

    runner = runners.start(on_create=create, check_health=is_healthy, max_retries=0)
    assert isinstance(runner.submit(fail).exception(LONG_TIMEOUT), Broken)
    gate.wait_for()
    worker = only(runner)
    assert (worker.state, worker.resource_generation, worker.resource_age) == ("equipping", 1, None)
    gate.open()
    eventually(lambda: only(runner).state == "idle")
    assert (only(runner).resource_generation, only(runner).resource_age is None) == (2, False)


def test_an_attempt_that_is_not_the_first_says_so(runners: Runners, gate: Gate) -> None:
    attempts: list[int] = []

    def fail_once(_: object) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise Broken
        gate.hold()

    runner = runners.start(check_health=is_healthy)
    runner.submit(fail_once)
    gate.wait_for()
    assert running(runner).attempt == 2
    assert only(runner).tasks_done == 1


def test_a_task_past_its_limit_is_overdue(runners: Runners, gate: Gate, log: LogCapture) -> None:
    log.overlook("outlived its time limit")
    runner = runners.start()
    runner.options(timeout=0.01).submit(gate.hold).exception(LONG_TIMEOUT)
    gate.wait_for()
    assert running(runner).overdue
    with pytest.raises(StopTimeout) as raised:
        runner.stop(0)
    (task,) = raised.value.running
    assert (task.overdue, task.attempt) == (True, 1)


@with_the_gil
@pytest.mark.parametrize("lent", [True, False])
def test_a_stack_shows_the_line_that_blocks(runners: Runners, gate: Gate, lent: bool) -> None:
    def leak(_: object) -> None:
        gate.hold()

    runner = runners.start(thread_bound=False)
    call = Call(runner.run_task, leak) if lent else Call(runner.queue_task, leak)
    gate.wait_for()
    task = running(runner, stacks=True)
    at = functions(task).index("leak")
    assert functions(task)[at + 1] == "hold"
    assert task.stack[at].splitlines()[1] == "    gate.hold()"
    assert running(runner).stack == ()
    gate.open()
    call.result()


def test_the_outermost_of_nested_tasks_is_shown(runners: Runners, gate: Gate) -> None:
    runner = runners.start()

    def outer(_: object) -> None:
        runner.queue_task(gate.hold)

    runner.options(name="outer").submit(outer)
    gate.wait_for()
    assert running(runner).name == "outer"


def test_a_stopped_runner_has_no_workers(runners: Runners) -> None:
    runner = runners.start(worker_count=3, resource_pool_size=2)
    assert len(runner.workers(stacks=True)) == 5
    runner.stop(LONG_TIMEOUT)
    assert runner.workers(stacks=True) == ()


def test_a_runner_that_stops_still_shows_what_holds_it_up(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    runner.submit(gate.hold)
    gate.wait_for()
    with pytest.raises(StopTimeout):
        runner.stop(0)
    eventually(lambda: kinds_and_states(runner) == [("base", "busy")])


def test_tasks_hooks_and_callbacks_may_look(runners: Runners) -> None:
    seen: list[str] = []
    held: list[Runner[Resource]] = []

    def look(*_: object) -> None:
        seen.extend(only(runner, stacks=True).state for runner in held)

    runner = runners.start(reset=look)
    held.append(runner)
    future = runner.submit(look)
    future.add_done_callback(look)
    future.result(LONG_TIMEOUT)
    eventually(lambda: len(seen) == 3)
    held.clear()
    assert seen == ["busy", "busy", "idle"]


def test_states_add_up_to_the_workers_under_load(runners: Runners) -> None:
    runner = runners.start(worker_count=3, resource_pool_size=1, thread_bound=False)
    is_over = threading.Event()

    def load() -> None:
        while not is_over.is_set():
            list(runner.map(lambda _, item: item, range(50)))
            runner.run_task(lambda _: None)

    loads = at_once(3, load)
    for look in range(300):
        workers = runner.workers(stacks=look % 2 == 0)
        states = Counter(worker.state for worker in workers)
        assert states["idle"] + states["busy"] == len(workers) == 4
        assert all((worker.task is not None) == (worker.state == "busy") for worker in workers)
    is_over.set()
    for call in loads:
        call.result()
    done = runner.metrics().total_tasks_completed
    eventually(lambda: sum(worker.tasks_done for worker in runner.workers()) == done)


@pytest.mark.usefixtures("no_collector")
def test_a_look_keeps_nothing_alive(runners: Runners, gate: Gate) -> None:
    class Thing:
        def __call__(self, _: object) -> None:
            gate.hold()

    thing, runner = Thing(), runners.start()
    is_alive = weakref.ref(thing)
    future = runner.submit(thing)
    gate.wait_for()
    workers = runner.workers(stacks=True)
    gate.open()
    future.result(LONG_TIMEOUT)
    del thing
    eventually(lambda: is_alive() is None)
    assert workers[0].state == "busy"


@pytest.mark.parametrize("wrong", [(1,), (True,)])
def test_stacks_are_asked_for_by_name(runners: Runners, wrong: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        runners.start().workers(*wrong)
