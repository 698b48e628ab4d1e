"""Between two items of a `map` a worker looks at all that it looks at between two tasks.

Items travel in batches, and a worker runs quick ones in strides: what ends or changes its work must
be noticed inside a stride too, whoever brings it about, and above all the items themselves.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tasker import Priority, Results, Runner, TaskCancelled, current_context
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    Gate,
    Resource,
    Runners,
    break_down,
    eventually,
    is_healthy,
)

ITEMS = 60
TURN = 13
"""The item at which something happens; the quick ones before it have made a stride long."""


def at_work(runner: Runner[Resource], gate: Gate, task: Any, **options: Any) -> Results[Any]:
    """A map in one batch, whose items start together."""
    for _ in runner.map(lambda _resource, _x: None, range(2_000)):
        pass
    runner.submit(gate.hold)
    gate.wait_for()
    return runner.map(task, range(ITEMS), buffersize=ITEMS, **options)


@pytest.mark.parametrize(
    "find_it_bad",
    [
        lambda runner: runner.queue_task(break_down),
        lambda runner: runner.run_task(break_down),
        lambda runner: list(runner.map(break_down, [None])),
    ],
    ids=["queue_task", "run_task", "map"],
)
def test_no_item_runs_on_a_resource_that_an_item_found_bad(
    runners: Runners, find_it_bad: Any
) -> None:
    runner = runners.start(check_health=is_healthy, max_retries=0)

    def task(resource: Resource, x: int) -> int:
        if x == TURN:
            with pytest.raises(Broken):
                find_it_bad(runner)
        return resource.number

    numbers = list(runner.map(task, range(ITEMS), buffersize=ITEMS))
    assert numbers == [0] * (TURN + 1) + [1] * (ITEMS - TURN - 1)


def test_no_item_runs_on_a_resource_from_before_a_renewal(runners: Runners, gate: Gate) -> None:
    runner = runners.start()

    def task(resource: Resource, x: int) -> int:
        if x == TURN:
            runner.renew()
        return resource.number

    results = at_work(runner, gate, task)
    gate.open()
    assert list(results) == [0] * (TURN + 1) + [1] * (ITEMS - TURN - 1)


def urgent_by_submit(runner: Runner[Resource], task: Any) -> None:
    runner.options(priority=Priority.HIGH).submit(task)


def urgent_by_submit_many(runner: Runner[Resource], task: Any) -> None:
    runner.options(priority=Priority.HIGH).submit_many(task, [None])


def urgent_by_map(runner: Runner[Resource], task: Any) -> None:
    kept.append(runner.options(priority=Priority.HIGH).map(task, [None]))


def urgent_by_asubmit(runner: Runner[Resource], task: Any) -> None:
    async def submit() -> None:
        # Not awaited: the item that submits must go on.
        runner.options(priority=Priority.HIGH).asubmit(task)

    asyncio.run(submit())


kept: list[object] = []
"""Results that must not be closed by being dropped."""


@pytest.mark.parametrize("own", [Priority.NORMAL, Priority.LOW])
@pytest.mark.parametrize(
    "urge", [urgent_by_submit, urgent_by_submit_many, urgent_by_map, urgent_by_asubmit]
)
def test_what_is_more_urgent_waits_for_the_item_that_runs_and_no_other(
    runners: Runners, gate: Gate, urge: Any, own: Priority
) -> None:
    runner = runners.start()
    order: list[object] = []

    def task(_resource: Resource, x: int) -> None:
        order.append(x)
        if x == TURN:
            urge(runner, lambda _resource, *_: order.append("urgent"))

    results = at_work(runner.options(priority=own), gate, task)  # type: ignore[arg-type]
    gate.open()
    for _ in results:
        pass
    kept.clear()
    assert order == [*range(TURN + 1), "urgent", *range(TURN + 1, ITEMS)]


def test_normal_tasks_come_between_the_items_of_a_low_map(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    order: list[object] = []

    def task(_resource: Resource, x: int) -> None:
        order.append(x)
        if x == TURN:
            runner.submit(lambda _resource: order.append("normal"))

    results = at_work(runner.options(priority=Priority.LOW), gate, task)  # type: ignore[arg-type]
    gate.open()
    for _ in results:
        pass
    assert order == [*range(TURN + 1), "normal", *range(TURN + 1, ITEMS)]


def test_no_item_starts_after_a_kill_by_an_item(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    started: list[int] = []
    dropped: list[object] = []

    def task(_resource: Resource, x: int) -> None:
        started.append(x)
        if x == TURN:
            dropped.extend(runner.kill())

    results = at_work(runner, gate, task)
    gate.open()
    with pytest.raises(TaskCancelled):
        list(results)
    assert started == list(range(TURN + 1))
    assert len(dropped) == ITEMS - TURN - 1


@pytest.mark.parametrize("reads", [True, False], ids=["read elsewhere", "read by nobody"])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_close_by_an_item_cancels_at_once_what_has_not_started(
    runners: Runners, gate: Gate, *, reads: bool, ordered: bool, timeout: float | None
) -> None:
    runner = runners.start()
    started: list[int] = []
    cancelled: list[int] = []
    box: list[Results[None]] = []

    def task(_resource: Resource, x: int) -> None:
        started.append(x)
        if x == TURN:
            box[0].close()
            cancelled.append(runner.metrics().total_tasks_cancelled)

    view = runner.options(timeout=timeout)
    results = at_work(view, gate, task, ordered=ordered)  # type: ignore[arg-type]
    box.append(results)
    if reads:
        call: Call[list[None]] = Call(list, results)
        call.wait_until_blocked()
        gate.open()
        assert len(call.result()) <= TURN
    gate.open()
    eventually(lambda: cancelled)
    runner.submit(lambda _resource: None).result()
    assert started == list(range(TURN + 1))
    assert cancelled == [ITEMS - TURN - 1]


def test_a_close_from_the_input_cancels_at_once_what_has_not_started(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start()
    box: list[Results[None]] = []
    started: list[int] = []

    def source() -> Any:
        yield from range(9)
        runner_is_held.wait(LONG_TIMEOUT)
        box[0].close()
        assert runner.stats().queued_tasks == 0
        yield 9

    runner_is_held = threading.Event()
    gate_task = runner.submit(gate.hold)
    gate.wait_for()
    results = runner.map(lambda _resource, x: started.append(x), source(), buffersize=5)
    box.append(results)
    runner_is_held.set()
    call: Call[list[Any]] = Call(list, results)
    gate.open()
    call.result()
    gate_task.result()
    eventually(lambda: runner.stats().running_tasks == 0)
    assert 9 not in started


def test_an_item_that_was_told_to_end_is_the_last_of_its_stride(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start()
    states: list[bool] = []

    def task(_resource: Resource, x: int) -> None:
        context = current_context()
        assert context is not None
        if x == TURN:
            Call(runner.kill)
            assert context.wait(LONG_TIMEOUT)
        states.append(context.cancelled)

    results = at_work(runner, gate, task)
    gate.open()
    with pytest.raises(TaskCancelled):
        list(results)
    assert states == [False] * TURN + [True]
