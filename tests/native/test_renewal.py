"""Resources are renewed after so many tasks, after so long, and when the runner is recycled."""

from __future__ import annotations

import threading

import pytest

from tasker import RunnerStopped
from tests.native.support import (
    PATIENCE,
    Call,
    Gate,
    Resource,
    Runners,
    eventually,
)

EVERYWHERE = pytest.mark.parametrize("thread_bound", [True, False])


def number(resource: Resource) -> int:
    return resource.number


@EVERYWHERE
@pytest.mark.parametrize("verb", ["queue_task", "run_task"])
def test_a_resource_serves_no_more_than_its_number_of_tasks(
    runners: Runners, verb: str, thread_bound: bool
) -> None:
    runner = runners.start(max_tasks_per_resource=3, thread_bound=thread_bound)
    used = [getattr(runner, verb)(number) for _ in range(9)]
    assert [used.count(each) for each in dict.fromkeys(used)] == [3, 3, 3]


def test_one_task_for_each_resource(runners: Runners) -> None:
    runner = runners.start(max_tasks_per_resource=1)
    futures = [runner.submit(number) for _ in range(10)]
    assert [future.result(PATIENCE) for future in futures] == list(range(10))


def test_a_renewed_resource_was_destroyed_once_on_its_thread(runners: Runners) -> None:
    runner = runners.start(worker_count=2, max_tasks_per_resource=2)
    for future in [runner.submit(number) for _ in range(40)]:
        future.result(PATIENCE)
    runner.stop(PATIENCE)
    assert len(runners.factory.made) > 2
    runners.factory.check()


@EVERYWHERE
@pytest.mark.parametrize("verb", ["queue_task", "run_task"])
def test_a_resource_is_renewed_when_it_is_old(
    runners: Runners, verb: str, thread_bound: bool
) -> None:
    runner = runners.start(max_resource_age=0.02, thread_bound=thread_bound)
    call = getattr(runner, verb)
    first = call(number)
    eventually(lambda: call(number) != first)


def test_a_young_resource_is_left_alone(runners: Runners) -> None:
    runner = runners.start(max_resource_age=PATIENCE * 10)
    assert {runner.queue_task(number) for _ in range(20)} == {0}


def test_an_idle_resource_is_not_renewed_for_its_age_alone_before_it_is_used(
    runners: Runners,
) -> None:
    """Whenever it happens, the task finds a fresh one."""
    runner = runners.start(max_resource_age=0.01)
    eventually(lambda: runner.queue_task(number) > 3)
    assert len(runners.factory.alive) == 1


def test_recycling_renews_every_resource_by_itself(runners: Runners) -> None:
    runner = runners.start(worker_count=3, resource_pool_size=2)
    before = set(runners.factory.alive)
    assert len(before) == 5
    runner.recycle()
    eventually(lambda: before.isdisjoint(runners.factory.alive))
    assert len(runners.factory.alive) == 5


def test_recycling_renews_lent_resources_as_they_are_used(runners: Runners) -> None:
    runner = runners.start(resource_pool_size=2, thread_bound=False)
    before = set(runners.factory.alive)
    runner.recycle()

    def all_are_renewed() -> bool:
        runner.run_task(number)
        return before.isdisjoint(runners.factory.alive)

    eventually(all_are_renewed)


def test_recycling_keeps_serving(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    over = threading.Event()

    def client() -> int:
        done = 0
        while not over.is_set():
            runner.queue_task(number)
            done += 1
        return done

    calls = [Call(client) for _ in range(2)]

    def recycle() -> None:
        before = set(runners.factory.alive)
        runner.recycle()
        eventually(lambda: before.isdisjoint(runners.factory.alive))

    for _ in range(5):
        recycle()
    over.set()
    assert all(call.result() > 0 for call in calls)
    assert runner.metrics().total_tasks_failed == 0
    assert runner.stats().base_workers == 2


def test_one_resource_at_a_time_is_renewed(runners: Runners, gate: Gate) -> None:
    def create() -> Resource:
        if len(runners.factory.made) >= 3:
            gate.hold()
        return runners.factory.create()

    runner = runners.start(worker_count=3, on_create=create)
    runner.recycle()
    gate.wait_for()
    assert len(runners.factory.alive) == 2
    assert [runner.queue_task(number) for _ in range(5)]
    gate.open()
    eventually(lambda: len(runners.factory.made) == 6)
    eventually(lambda: [each.number for each in runners.factory.alive] == [3, 4, 5])


def test_a_running_task_keeps_its_resource(runners: Runners, gate: Gate) -> None:
    def hold(resource: Resource) -> list[int]:
        gate.hold()
        return list(resource.destroyed_on)

    runner = runners.start()
    future = runner.submit(hold)
    gate.wait_for()
    runner.recycle()
    gate.open()
    assert future.result(PATIENCE) == []
    assert runner.queue_task(number) == 1


def test_a_task_may_recycle_its_own_runner(runners: Runners) -> None:
    runner = runners.start()
    runner.queue_task(lambda _: runner.recycle())
    eventually(lambda: runner.queue_task(number) == 1)


def test_a_stopped_runner_cannot_be_recycled(runners: Runners) -> None:
    runner = runners.start()
    runner.stop(PATIENCE)
    with pytest.raises(RunnerStopped):
        runner.recycle()
    assert len(runners.factory.made) == 1
