"""`validate` is asked before a resource is used that was idle for long."""

from __future__ import annotations

import threading

import pytest

from tasker import ResourceCreationError, TaskTimeout
from tests.native.support import (
    LONG_TIMEOUT,
    Gate,
    LogCapture,
    Resource,
    Runners,
    eventually,
)

EVERYWHERE = pytest.mark.parametrize("thread_bound", [True, False])


class Link:
    """A `validate` that notes which resources it was asked for, and knows which are dead."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.threads: list[int] = []
        self.dead: set[int] = set()

    def __call__(self, resource: Resource) -> bool:
        self.asked.append(resource.number)
        self.threads.append(threading.get_ident())
        return resource.number not in self.dead


def number(resource: Resource) -> int:
    return resource.number


@EVERYWHERE
@pytest.mark.parametrize("verb", ["queue_task", "run_task"])
def test_a_resource_that_was_idle_is_asked_for(
    runners: Runners, verb: str, thread_bound: bool
) -> None:
    link = Link()
    runner = runners.start(validate=link, validate_after_idle=0, thread_bound=thread_bound)
    call = getattr(runner, verb)
    used = call(number)
    eventually(lambda: runner.stats().running_tasks == 0)
    assert call(number) == used
    assert used in link.asked


def test_one_that_was_idle_for_less_is_not_asked_for(runners: Runners) -> None:
    link = Link()
    runner = runners.start(validate=link, validate_after_idle=LONG_TIMEOUT)
    assert [runner.queue_task(number) for _ in range(5)] == [0] * 5
    assert link.asked == []


def test_after_no_rest_at_all_means_before_every_task(runners: Runners, gate: Gate) -> None:
    link = Link()
    runner = runners.start(validate=link, validate_after_idle=0)
    futures = [runner.submit(gate.hold) for _ in range(6)]
    gate.wait_for()
    gate.open()
    for future in futures:
        future.result(LONG_TIMEOUT)
    assert link.asked == [0] * 6


@EVERYWHERE
@pytest.mark.parametrize("verb", ["queue_task", "queue_task_once", "run_task"])
def test_a_dead_resource_is_replaced_before_the_task_sees_it(
    runners: Runners, verb: str, thread_bound: bool
) -> None:
    link = Link()
    runner = runners.start(validate=link, validate_after_idle=0, thread_bound=thread_bound)
    call = getattr(runner, verb)
    first = call(number)
    link.dead.add(first)
    second = call(number)
    assert second not in link.dead
    assert runners.factory.made[first].destroyed_on == [runners.factory.made[first].thread]
    assert runner.metrics().total_tasks_retried == 0


@pytest.mark.parametrize("verb", ["queue_task", "run_task"])
def test_it_runs_where_the_task_will(runners: Runners, verb: str) -> None:
    link = Link()
    runner = runners.start(validate=link, validate_after_idle=0)
    for _ in range(3):
        getattr(runner, verb)(number)
    assert {runners.factory.made[each].thread for each in link.asked} == set(link.threads)


def test_one_that_raises_is_logged_and_the_resource_replaced(
    runners: Runners, log: LogCapture
) -> None:
    def validate(resource: Resource) -> bool:
        if resource.number == 0:
            raise ArithmeticError
        return True

    runner = runners.start(validate=validate, validate_after_idle=0)
    assert runner.queue_task(number) == 1
    (record,) = log.take()
    assert "validate failed" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[0] is ArithmeticError


def test_every_stale_resource_is_replaced_in_one_pass(runners: Runners) -> None:
    link = Link()
    runner = runners.start(worker_count=3, validate=link, validate_after_idle=0)
    barrier = threading.Barrier(3)

    def together(resource: Resource) -> int:
        barrier.wait(LONG_TIMEOUT)
        return resource.number

    first = {f.result(LONG_TIMEOUT) for f in [runner.submit(together) for _ in range(3)]}
    assert len(first) == 3
    link.dead |= first
    second = {f.result(LONG_TIMEOUT) for f in [runner.submit(together) for _ in range(3)]}
    assert second.isdisjoint(first)


def test_the_task_of_a_dead_resource_is_not_lost_while_none_can_be_made(
    runners: Runners, log: LogCapture
) -> None:
    link, up, tried = Link(), threading.Event(), threading.Event()

    def create() -> Resource:
        if runners.factory.made and not up.is_set():
            tried.set()
            raise ConnectionRefusedError
        return runners.factory.create()

    runner = runners.start(on_create=create, validate=link, validate_after_idle=0)
    link.dead.add(0)
    future = runner.submit(number)
    assert tried.wait(LONG_TIMEOUT)
    assert not future.done()
    up.set()
    assert future.result(LONG_TIMEOUT) == 1
    log.take()


@EVERYWHERE
@pytest.mark.parametrize("resource_pool_size", [None, 0])
@pytest.mark.parametrize("verb", ["queue_task", "run_task"])
def test_where_it_refuses_every_new_resource_they_are_made_with_pauses(
    runners: Runners, log: LogCapture, verb: str, thread_bound: bool, resource_pool_size: int | None
) -> None:
    up = threading.Event()
    runner = runners.start(
        validate=lambda _: up.is_set(),
        validate_after_idle=0,
        thread_bound=thread_bound,
        resource_pool_size=resource_pool_size,
    )
    with pytest.raises(TaskTimeout) as raised:
        getattr(runner.options(timeout=0.3), verb)(number)
    assert isinstance(raised.value.__cause__, ResourceCreationError)
    assert len(runners.factory.made) < 50
    assert "trying again with growing pauses" in log.take()[0].getMessage()
    up.set()
    assert getattr(runner, verb)(number) > 0


def test_where_it_refuses_every_new_resource_a_stop_ends(runners: Runners, log: LogCapture) -> None:
    runner = runners.start(validate=lambda _: False, validate_after_idle=0)
    future = runner.submit(number)
    runner.stop(timeout=LONG_TIMEOUT)
    assert isinstance(future.exception(), ResourceCreationError)
    log.rest()


def test_one_that_takes_long_keeps_no_other_worker_asleep(runners: Runners, gate: Gate) -> None:
    first = threading.Lock()

    def validate(_resource: Resource) -> bool:
        if first.acquire(blocking=False):
            gate.hold()
        return True

    runner = runners.start(worker_count=2, validate=validate, validate_after_idle=0)
    future = runner.submit(number)
    gate.wait_for(1)
    assert future.result(LONG_TIMEOUT) in {0, 1}
    gate.open()
