"""`map` on a real runner: streaming, in order, and it lets go of what it handed out."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Iterator

import pytest

from tasker import Priority, RunnerStopped, TaskTimeout
from tests.native.support import (
    PATIENCE,
    Call,
    Gate,
    Resource,
    Runners,
    at_once,
    eventually,
)


class Big:
    """A result worth counting."""


def double(_resource: Resource, x: int) -> int:
    return 2 * x


def test_results_come_in_order_although_tasks_end_in_any(runners: Runners) -> None:
    runner = runners.start(worker_count=3)
    second_is_done = threading.Event()

    def task(_resource: Resource, x: int) -> int:
        if x == 0:
            assert second_is_done.wait(PATIENCE)
        if x == 1:
            second_is_done.set()
        return x

    assert list(runner.map(task, range(20))) == list(range(20))


@pytest.mark.parametrize("fields", [{}, {"max_queue_size": 4}, {"max_queue_size": 1}])
def test_an_endless_input_is_read_no_further_than_needed(
    runners: Runners, fields: dict[str, int]
) -> None:
    read: list[int] = []

    def source() -> Iterator[int]:
        for i in itertools.count():
            read.append(i)
            yield i

    with runners.start(worker_count=2, **fields).map(double, source()) as results:
        assert list(itertools.islice(results, 50)) == list(range(0, 100, 2))
        assert len(read) <= 60


@pytest.mark.usefixtures("no_collector")
def test_results_handed_out_die(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    refs: list[weakref.ref[Big]] = []

    def make(_resource: Resource, _i: int) -> Big:
        big = Big()
        refs.append(weakref.ref(big))
        return big

    for big in runner.map(make, range(60)):
        del big
        assert sum(ref() is not None for ref in list(refs)) <= 8


def test_abandoning_it_cancels_what_waits(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    results = runner.map(gate.hold_then_return, range(10))
    gate.wait_for()
    results.close()
    assert runner.stats().queued_tasks == 0
    gate.open()
    eventually(lambda: runner.stats().running_tasks == 0)
    assert runner.metrics().total_tasks_completed == 1


def test_a_stop_lets_it_finish_what_was_submitted(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    results = runner.map(double, range(100), buffersize=5)
    assert next(results) == 0
    runner.stop(PATIENCE)
    with pytest.raises(RunnerStopped):
        assert len(list(results)) < 100


def test_a_view_maps_with_its_options(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    view = runner.options(timeout=0.02, priority=Priority.HIGH)
    runner.submit(gate.hold)
    gate.wait_for()
    results = view.map(double, range(3))
    assert runner.stats().priority_tasks == 2
    with pytest.raises(TaskTimeout):
        list(results)


def test_inside_a_task_it_never_stands_still(runners: Runners) -> None:
    runner = runners.start(max_queue_size=2)
    future = runner.submit(lambda _: list(runner.map(double, range(30))))
    assert future.result(PATIENCE) == list(range(0, 60, 2))


@pytest.mark.stress
def test_many_maps_share_a_runner(runners: Runners) -> None:
    runner = runners.start(worker_count=3, max_queue_size=4)
    calls = at_once(4, lambda: list(runner.map(double, range(300))))
    assert [call.result() for call in calls] == [list(range(0, 600, 2))] * 4


def test_it_can_be_handed_to_another_thread(runners: Runners) -> None:
    results = runners.start().map(double, range(50))
    assert next(results) == 0
    assert Call(list, results).result() == list(range(2, 100, 2))
