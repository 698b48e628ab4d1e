"""Tasks that wait: their order, their limit, and how they leave the queue."""

from __future__ import annotations

import pytest

from tasker import (
    Priority,
    QueueFull,
    RunnerStopped,
    StopTimeout,
    TaskCancelled,
    TaskTimeout,
)
from tests.behaviour.support import Bench
from tests.native.support import LONG_TIMEOUT, Resource


class Order:
    """A task function that notes its argument."""

    def __init__(self, bench: Bench) -> None:
        self.seen: list[object] = bench.notes()

    def __call__(self, _resource: Resource, item: object) -> None:
        self.seen.append(item)


def test_urgent_tasks_go_first_and_within_a_class_the_first_come(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    order = Order(bench)
    futures = [
        runner.options(priority=priority).submit(order, f"{priority.name} {number}")
        for number in range(2)
        for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH)
    ]
    assert not any(future.done() for future in futures)
    assert runner.stats().queued_tasks == 6
    assert runner.stats().priority_tasks == 2
    let_run()
    for future in futures:
        future.result(LONG_TIMEOUT)
    assert order.seen == ["HIGH 0", "HIGH 1", "NORMAL 0", "NORMAL 1", "LOW 0", "LOW 1"]


def test_a_retry_is_first_in_its_class_and_comes_after_higher_ones(bench: Bench) -> None:
    runner, let_run = bench.start_held(check_health=lambda _: False)
    order = Order(bench)

    def fail_once(_resource: Resource) -> None:
        order.seen.append("retried")
        if order.seen.count("retried") == 1:
            runner.options(priority=Priority.HIGH).submit(order, "high")
            raise ValueError

    futures = [runner.submit(fail_once), runner.submit(order, "normal")]
    let_run()
    for future in futures:
        future.result(LONG_TIMEOUT)
    assert order.seen == ["retried", "high", "retried", "normal"]


def test_a_full_queue_refuses(bench: Bench) -> None:
    runner, let_run = bench.start_held(max_queue_size=2, when_full="raise")
    futures = [runner.submit(lambda _: None) for _ in range(2)]
    with pytest.raises(QueueFull, match="the queue holds max_queue_size=2 tasks"):
        runner.submit(lambda _: None)
    refused = runner.submit_many(lambda _, item: item, [1, 2])
    assert [type(future.exception(0)) for future in refused] == [QueueFull, QueueFull]
    assert runner.metrics().total_tasks_refused == 3
    assert futures[0].cancel()
    futures.append(runner.submit(lambda _: None))
    let_run()
    for future in futures[1:]:
        future.result(LONG_TIMEOUT)


def test_a_waiting_task_can_be_cancelled(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    order = Order(bench)
    first, second = (runner.submit(order, number) for number in range(2))
    assert first.cancel()
    assert first.cancelled()
    assert second.request_cancel("not needed")
    assert second.cancelled()
    assert runner.stats().queued_tasks == 0
    let_run()
    runner.stop()
    assert order.seen == []
    assert runner.metrics().total_tasks_cancelled == 2


def test_a_task_that_ended_cannot_be_cancelled(bench: Bench) -> None:
    future = bench.start().submit(lambda _: 7)
    assert future.result(LONG_TIMEOUT) == 7
    assert not future.cancel()
    assert not future.request_cancel()


def test_a_task_whose_limit_passes_while_it_waits_never_starts(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    order = Order(bench)
    future = runner.options(timeout=0, name="late").submit(order, "late")
    let_run()
    error = future.exception(LONG_TIMEOUT)
    assert isinstance(error, TaskTimeout)
    assert str(error) == "task late did not start within its time limit of 0 s"
    runner.stop()
    assert order.seen == []
    assert runner.metrics().total_tasks_timed_out == 1


def test_kill_hands_back_what_never_ran(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    order = Order(bench)
    futures = [
        runner.submit(order, 1),
        runner.options(priority=Priority.HIGH, timeout=60, name="urgent").submit(order, item=2),
        runner.options(priority=Priority.LOW, once=True).submit(order, 3),
    ]
    if bench.is_inline:
        dropped = runner.kill()
    else:
        with pytest.raises(TimeoutError) as late:
            runner.kill(timeout=0)
        dropped = late.value.dropped  # type: ignore[attr-defined]
    let_run()
    for future in futures:
        error = future.exception(LONG_TIMEOUT)
        assert isinstance(error, TaskCancelled)
        assert str(error) == "the runner was killed before the task started"
    assert [
        (task.args, task.kwargs, task.priority, task.once, task.timeout, task.name)
        for task in dropped
    ] == [
        ((), {"item": 2}, Priority.HIGH, False, 60, "urgent"),
        ((1,), {}, Priority.NORMAL, False, None, None),
        ((3,), {}, Priority.LOW, True, None, None),
    ]
    assert runner.kill() == []
    assert runner.metrics().total_tasks_dropped == 3
    assert order.seen == []
    other = bench.start()
    for task in dropped:
        task.submit_to(other).result(LONG_TIMEOUT)
    assert order.seen == [2, 1, 3]


def test_what_waits_can_be_dropped_and_the_runner_goes_on(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    order = Order(bench)
    futures = [
        runner.submit(order, 1),
        runner.options(priority=Priority.HIGH, name="urgent").submit(order, 2),
    ]
    dropped = runner.cancel_queued("not needed")
    assert {(task.args, task.name) for task in dropped} == {((2,), "urgent"), ((1,), None)}
    for future in futures:
        error = future.exception(0)
        assert isinstance(error, TaskCancelled)
        assert "not needed" in str(error)
    assert runner.metrics().total_tasks_dropped == 2
    let_run()
    assert runner.queue_task(lambda _: 7) == 7
    assert order.seen == []
    runner.stop()
    with pytest.raises(RunnerStopped):
        runner.cancel_queued()


@pytest.mark.parametrize("end", ["cancel_queued", "kill"])
def test_what_is_handed_back_begins_with_the_higher_classes(bench: Bench, end: str) -> None:
    runner, let_run = bench.start_held()
    order = Order(bench)
    settled: list[tuple[Priority, int]] = []

    def submit(priority: Priority, number: int) -> None:
        future = runner.options(priority=priority).submit(order, (priority, number))
        future.add_done_callback(lambda _: settled.append((priority, number)))

    for number in range(2):
        for priority in Priority:
            submit(priority, number)
    highest_first = [(priority, number) for priority in reversed(Priority) for number in range(2)]
    if end == "cancel_queued":
        dropped = runner.cancel_queued()
    elif bench.is_inline:
        dropped = runner.kill()
    else:
        with pytest.raises(StopTimeout) as late:
            runner.kill(timeout=0)
        dropped = late.value.dropped
    assert [task.args for task in dropped] == [(one,) for one in highest_first]
    assert settled == highest_first
    let_run()


def test_what_is_handed_back_of_maps_begins_with_the_higher_classes(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    order = Order(bench)
    maps = []
    for priority in (Priority.LOW, Priority.HIGH):
        view = runner.options(priority=priority)
        maps.append(view.map(order, [priority, priority], buffersize=2))
        view.submit(order, priority)
    dropped = runner.cancel_queued()
    assert [task.priority for task in dropped] == [Priority.HIGH] * 3 + [Priority.LOW] * 3
    let_run()


def test_a_dropped_task_that_a_callback_cancels_first_is_cancelled(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    first, second = (runner.submit(lambda _: None) for _ in range(2))
    first.add_done_callback(lambda _: second.cancel())
    assert len(runner.cancel_queued()) == 1
    assert second.cancelled()
    metrics = runner.metrics()
    assert (metrics.total_tasks_dropped, metrics.total_tasks_cancelled) == (1, 1)
    let_run()


@pytest.mark.parametrize("cancel", ["cancel", "request_cancel"])
def test_callbacks_find_a_cancelled_task_counted(bench: Bench, cancel: str) -> None:
    runner, let_run = bench.start_held()
    future = runner.submit(lambda _: None)
    found: list[tuple[int, int, int]] = bench.notes()

    def look(_future: object) -> None:
        dropped = runner.cancel_queued()
        metrics, stats = runner.metrics(), runner.stats()
        found.append((len(dropped), metrics.total_tasks_cancelled, stats.queued_tasks))

    future.add_done_callback(look)
    assert getattr(future, cancel)()
    assert found == [(0, 1, 0)]
    assert runner.metrics().total_tasks_cancelled == 1
    let_run()


def test_a_task_that_is_cancelled_while_its_resource_is_made_is_counted(bench: Bench) -> None:
    cancelled: list[bool] = bench.notes()

    def create() -> Resource:
        if bench.factory.made:
            cancelled.append(waiting.cancel())
        return bench.factory.create()

    runner, let_run = bench.start_held(on_create=create, max_tasks_per_resource=1)
    first, waiting = (runner.submit(lambda _: None) for _ in range(2))
    let_run()
    first.result(LONG_TIMEOUT)
    bench.eventually(lambda: len(cancelled) >= 1)
    runner.stop()
    assert cancelled[0]
    assert runner.metrics().total_tasks_cancelled == 1
    assert waiting.cancelled()


def test_a_waiting_task_that_is_settled_by_hand_counts_as_cancelled(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    order = Order(bench)
    first, second = (runner.submit(order, number) for number in range(2))
    first.set_result(None)
    second.set_exception(ValueError())
    assert runner.stats().queued_tasks == 0
    let_run()
    runner.stop()
    assert order.seen == []
    assert runner.metrics().total_tasks_cancelled == 2
