"""`cancel_queued` drops what waits and hands it back, and the runner goes on."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tasker import (
    DroppedTask,
    Priority,
    Runner,
    RunnerStopped,
    TaskCancelled,
    current_context,
)
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    Gate,
    Resource,
    Runners,
    at_once,
    eventually,
    finished_tasks,
    is_healthy,
)

WAITING = 7


def give(_resource: Resource, x: int = 0) -> int:
    return x


@pytest.fixture
def runner(runners: Runners, gate: Gate) -> Runner[Resource]:
    """A runner whose one worker is held by a task."""
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    return runner


def arguments(dropped: list[DroppedTask]) -> list[tuple[Any, ...]]:
    return sorted(task.args for task in dropped)


def test_what_waits_is_settled_and_handed_back_and_the_runner_goes_on(
    runner: Runner[Resource], gate: Gate
) -> None:
    futures = [runner.submit(give, x) for x in range(WAITING)]
    futures[2].cancel()
    dropped = runner.cancel_queued()
    assert arguments(dropped) == [(x,) for x in range(WAITING) if x != 2]
    assert all(task.fn is give for task in dropped)
    for x, future in enumerate(futures):
        if x != 2:
            with pytest.raises(TaskCancelled, match="dropped from the queue before it started"):
                future.result(0)
            assert not future.cancelled()
    assert runner.stats().queued_tasks == 0
    assert runner.metrics().total_tasks_dropped == WAITING - 1
    assert runner.cancel_queued() == []
    gate.open()
    assert runner.queue_task(give, 5) == 5
    assert [task.submit_to(runner).result(LONG_TIMEOUT) for task in dropped] == [0, 1, 3, 4, 5, 6]


def test_the_reason_is_told(runner: Runner[Resource], gate: Gate) -> None:
    future = runner.submit(give)
    runner.cancel_queued(reason="the cell was interrupted")
    with pytest.raises(TaskCancelled, match="before it started: the cell was interrupted"):
        future.result(0)
    with pytest.raises(TypeError):
        runner.cancel_queued(3)  # type: ignore[arg-type]
    gate.open()


def test_every_class_and_every_option_comes_back(runner: Runner[Resource], gate: Gate) -> None:
    for priority in Priority:
        options = {"priority": priority, "once": True, "timeout": 60.0, "name": "x"}
        runner.options(**options).submit(give, int(priority))  # type: ignore[arg-type]
    dropped = {task.priority: task for task in runner.cancel_queued()}
    assert set(dropped) == set(Priority)
    for priority, task in dropped.items():
        assert (task.args, task.once) == ((int(priority),), True)
        assert (task.timeout, task.name) == (60.0, "x")
    gate.open()


def test_what_runs_is_left_alone(runners: Runners, gate: Gate) -> None:
    runner = runners.start()

    def task(_resource: Resource) -> bool:
        gate.hold()
        return current_context().cancelled

    future = runner.submit(task)
    gate.wait_for()
    assert runner.cancel_queued() == []
    gate.open()
    assert future.result(LONG_TIMEOUT) is False


def test_what_waits_for_a_retry_gets_its_last_error(runners: Runners, gate: Gate) -> None:
    creating = threading.Event()

    def create() -> Resource:
        if runners.factory.made:
            creating.set()
            gate.hold()
        return runners.factory.create()

    runner = runners.start(on_create=create, check_health=is_healthy)

    def task(_resource: Resource) -> None:
        raise Broken("the connection is gone")

    future = runner.submit(task)
    assert creating.wait(LONG_TIMEOUT)
    eventually(lambda: runner.stats().queued_tasks == 1)
    assert runner.cancel_queued() == []
    with pytest.raises(Broken, match="the connection is gone"):
        future.result(0)
    metrics = runner.metrics()
    assert (metrics.total_tasks_failed, metrics.total_tasks_dropped) == (1, 0)
    gate.open()
    assert runner.queue_task(give, 1) == 1


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("timeout", [None, 60.0])
@pytest.mark.parametrize("return_exceptions", [True, False])
def test_a_map_under_way_ends(
    runners: Runners, gate: Gate, *, ordered: bool, timeout: float | None, return_exceptions: bool
) -> None:
    runner = runners.start()

    def task(resource: Resource, x: int) -> int:
        return gate.hold_then_return(resource, x) if x == 3 else x

    view = runner.options(timeout=timeout)
    results = view.map(
        task, range(50), buffersize=20, ordered=ordered, return_exceptions=return_exceptions
    )
    gate.wait_for()
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    dropped = runner.cancel_queued()
    assert dropped
    assert arguments(dropped) == [(x,) for x in range(4, 4 + len(dropped))]
    gate.open()
    with pytest.raises(TaskCancelled, match="dropped from the queue"):
        list(results)
    assert list(results) == []
    assert runner.queue_task(give, 1) == 1


def test_an_amap_under_way_ends(runners: Runners, gate: Gate) -> None:
    runner = runners.start()

    async def main() -> None:
        results = runner.amap(gate.hold_then_return, range(9), buffersize=5)
        first = asyncio.ensure_future(anext(results))
        await asyncio.to_thread(gate.wait_for)
        assert len(runner.cancel_queued()) == 4
        gate.open()
        assert await first == 0
        with pytest.raises(TaskCancelled):
            await anext(results)
        assert await runner.asubmit(give, 1) == 1

    asyncio.run(main())


def test_a_coroutine_that_waits_fails(runner: Runner[Resource], gate: Gate) -> None:
    async def main() -> None:
        waiting = [runner.asubmit(give, x) for x in range(3)]
        assert arguments(runner.cancel_queued()) == [(0,), (1,), (2,)]
        for future in waiting:
            with pytest.raises(TaskCancelled):
                await future

    asyncio.run(main())
    gate.open()


@pytest.mark.parametrize("thread_bound", [True, False], ids=["bound", "lent"])
def test_calls_of_run_task_that_wait_are_dropped_too(
    runners: Runners, gate: Gate, *, thread_bound: bool
) -> None:
    runner = runners.start(resource_pool_size=1, thread_bound=thread_bound)
    running = Call(runner.run_task, gate.hold_then_return, 1)
    gate.wait_for()
    waiting = [Call(runner.run_task, give, x) for x in range(3)]
    eventually(lambda: runner.stats().queued_tasks == 3)
    assert arguments(runner.cancel_queued("enough")) == [(0,), (1,), (2,)]
    for call in waiting:
        with pytest.raises(TaskCancelled, match="enough"):
            call.result()
    gate.open()
    assert running.result() == 1
    assert runner.run_task(give, 2) == 2


def test_a_lent_call_is_dropped_while_its_resource_is_validated(
    runners: Runners, gate: Gate
) -> None:
    def validate(_resource: Resource) -> bool:
        gate.hold()
        return True

    runner = runners.start(
        resource_pool_size=1, thread_bound=False, validate=validate, validate_after_idle=0.0
    )
    call: Call[int] = Call(runner.run_task, give, 3)
    gate.wait_for()
    assert arguments(runner.cancel_queued()) == [(3,)]
    gate.open()
    with pytest.raises(TaskCancelled):
        call.result()
    assert runner.run_task(give, 4) == 4


def test_callers_of_executors_get_it_too(runner: Runner[Resource], gate: Gate) -> None:
    with runner.executor() as executor:
        future = executor.submit(pow, 2, 3)
        (dropped,) = runner.cancel_queued()
        assert isinstance(future.exception(0), TaskCancelled)
        gate.open()
        assert dropped.submit_to(runner).result(LONG_TIMEOUT) == 8
        assert executor.submit(pow, 2, 5).result(LONG_TIMEOUT) == 32


def test_threads_that_wait_for_room_are_let_in_afterwards(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_queue_size=2)
    runner.submit(gate.hold)
    gate.wait_for()
    for x in range(2):
        runner.submit(give, x)
    waiting = [Call(runner.submit, give, x) for x in (10, 11)]
    for call in waiting:
        call.wait_until_blocked()
    assert arguments(runner.cancel_queued()) == [(0,), (1,)]
    futures = [call.result() for call in waiting]
    assert runner.stats().queued_tasks == 2
    gate.open()
    assert [future.result(LONG_TIMEOUT) for future in futures] == [10, 11]


def test_tasks_that_wait_for_room_by_themselves_are_let_in_afterwards(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(max_queue_size=2)
    runner.submit(gate.hold)
    gate.wait_for()

    async def main() -> None:
        waiting = [runner.asubmit(give, x) for x in range(6)]
        assert arguments(runner.cancel_queued()) == [(0,), (1,)]
        assert arguments(runner.cancel_queued()) == [(2,), (3,)]
        gate.open()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [TaskCancelled] * 4 + [int] * 2

    asyncio.run(main())


def test_what_a_callback_submits_is_not_touched(runner: Runner[Resource], gate: Gate) -> None:
    later = []
    waiting = [runner.submit(give, x) for x in range(3)]
    for future in waiting:
        future.add_done_callback(lambda _: later.append(runner.submit(give, 9)))
    assert len(runner.cancel_queued()) == 3
    assert runner.stats().queued_tasks == 3
    gate.open()
    assert [future.result(LONG_TIMEOUT) for future in later] == [9, 9, 9]


def test_a_callback_must_not_wait_for_another_task_that_is_dropped(
    runner: Runner[Resource], gate: Gate
) -> None:
    waits: list[BaseException | None] = []
    first, second = runner.submit(give), runner.submit(give)

    def wait(_future: object) -> None:
        with pytest.raises(RuntimeError, match="must not wait"):
            second.result()
        waits.append(None)

    first.add_done_callback(wait)
    assert len(runner.cancel_queued()) == 2
    assert waits == [None]
    gate.open()


def test_a_task_may_drop_what_waits_behind_it(runners: Runners) -> None:
    runner = runners.start()
    futures: list[Any] = []
    ready = threading.Event()

    def task(_resource: Resource) -> list[DroppedTask]:
        assert ready.wait(LONG_TIMEOUT)
        return runner.cancel_queued()

    first = runner.submit(task)
    futures.extend(runner.submit(give, x) for x in range(4))
    ready.set()
    assert len(first.result(LONG_TIMEOUT)) == 4
    assert all(isinstance(future.exception(0), TaskCancelled) for future in futures)


def test_it_is_refused_after_a_stop(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    waiting = runner.submit(give, 1)
    stop = Call(runner.stop)
    eventually(lambda: runner.state == "stopping")
    with pytest.raises(RunnerStopped):
        runner.cancel_queued()
    gate.open()
    stop.result()
    assert waiting.result(0) == 1
    with pytest.raises(RunnerStopped):
        runner.cancel_queued()


@pytest.mark.parametrize("workers", [1, 3])
def test_each_task_is_handed_back_once_or_runs_once(runners: Runners, workers: int) -> None:
    runner = runners.start(worker_count=workers, resource_pool_size=1, thread_bound=False)
    ran: list[int] = []
    handed: list[DroppedTask] = []
    over = threading.Event()

    def task(_resource: Resource, x: int) -> int:
        ran.append(x)
        return x

    def drop() -> None:
        while not over.is_set():
            handed.extend(runner.cancel_queued())

    def attempt(call: Callable[..., Any], x: int) -> None:
        with contextlib.suppress(TaskCancelled):
            call(task, x)

    def submit(start: int) -> None:
        for x in range(start, start + 60):
            match x % 4:
                case 0:
                    attempt(runner.queue_task, x)
                case 1:
                    attempt(runner.run_task, x)
                case 2:
                    attempt(lambda fn, x: runner.submit_many(fn, [x])[0].result(), x)
                case _:
                    attempt(lambda fn, x: list(runner.map(fn, [x])), x)

    droppers = at_once(2, drop)
    starts = iter(range(0, 300, 100))
    submitters = at_once(3, lambda: submit(next(starts)))
    for submitter in submitters:
        submitter.result()
    over.set()
    for dropper in droppers:
        dropper.result()
    seen = ran + [task.args[0] for task in handed]
    assert sorted(seen) == [x for start in range(0, 300, 100) for x in range(start, start + 60)]
    eventually(lambda: runner.stats().running_tasks == 0)
    metrics = runner.metrics()
    assert metrics.total_tasks_dropped == len(handed)
    assert metrics.total_tasks_arrived == finished_tasks(metrics) == len(seen)
