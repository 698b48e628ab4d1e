"""Health: a bad resource is replaced and its task tried again, up to a limit."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tasker import Future, Runner, TaskTimeout, current_context
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    Gate,
    LogCapture,
    Resource,
    Runners,
    break_down,
    eventually,
    is_healthy,
)


class Flaky:
    """A task function that finds its resource bad so many times, and notes which it was given."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.used: list[int] = []

    def __call__(self, resource: Resource) -> int:
        self.used.append(resource.number)
        if len(self.used) <= self.failures:
            raise Broken(len(self.used))
        return len(self.used)


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_attempts_are_one_more_than_retries(runners: Runners, max_retries: int) -> None:
    runner = runners.start(check_health=is_healthy, max_retries=max_retries)
    flaky = Flaky(failures=100)
    with pytest.raises(Broken) as raised:
        runner.queue_task(flaky)
    assert len(flaky.used) == 1 + max_retries
    assert raised.value.args == (1 + max_retries,)
    assert runner.metrics().total_tasks_retried == max_retries


def test_each_attempt_gets_another_resource(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy, max_retries=3)
    flaky = Flaky(failures=3)
    assert runner.queue_task(flaky) == 4
    assert flaky.used == [0, 1, 2, 3]
    assert [resource.number for resource in runners.factory.alive] == [3]


def test_a_resource_found_bad_is_never_used_again(runners: Runners) -> None:
    runner = runners.start(worker_count=4, check_health=is_healthy, max_retries=2)
    found_bad: set[int] = set()

    def flaky(resource: Resource, i: int) -> int:
        assert resource.number not in found_bad
        if i % 3 == 0 and current_context().attempt <= 2:
            found_bad.add(resource.number)
            raise Broken
        return i

    futures = [runner.submit(flaky, i) for i in range(60)]
    assert [future.result(LONG_TIMEOUT) for future in futures] == list(range(60))
    assert len(found_bad) == 40


def test_a_task_knows_its_attempt(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy)
    attempts: list[int] = []

    def flaky(_resource: Resource) -> None:
        attempts.append(current_context().attempt)
        if len(attempts) < 3:
            raise Broken

    runner.queue_task(flaky)
    assert attempts == [1, 2, 3]


def test_used_up_retries_are_noted_on_the_error_itself(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy, max_retries=2)
    with pytest.raises(Broken) as raised:
        runner.queue_task(break_down)
    assert raised.value.__notes__ == ["tasker gave up after 3 attempts, each on another resource"]


def test_an_error_without_a_retry_has_no_note(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy, max_retries=0)
    with pytest.raises(Broken) as raised:
        runner.queue_task(break_down)
    assert not hasattr(raised.value, "__notes__")


def test_without_check_health_no_error_makes_a_resource_bad(runners: Runners) -> None:
    runner = runners.start()
    for _ in range(3):
        with pytest.raises(Broken):
            runner.queue_task(break_down)
    assert len(runners.factory.made) == 1


def test_a_healthy_error_is_not_retried(runners: Runners) -> None:
    asked: list[BaseException] = []

    def check(error: BaseException) -> bool:
        asked.append(error)
        return True

    runner = runners.start(check_health=check)
    error = ValueError("bad row")

    def fail(_resource: Resource) -> None:
        raise error

    with pytest.raises(ValueError, match="bad row"):
        runner.queue_task(fail)
    assert asked == [error]
    assert len(runners.factory.made) == 1


@pytest.mark.parametrize("answer", [0, None, "", []])
def test_any_false_answer_counts(runners: Runners, answer: object) -> None:
    runner = runners.start(check_health=lambda _: answer, max_retries=1)
    with pytest.raises(Broken):
        runner.queue_task(break_down)
    assert runner.metrics().total_tasks_retried == 1


class NoTruth:
    def __bool__(self) -> bool:
        raise ArithmeticError


def raise_arithmetic_error(_error: BaseException) -> bool:
    raise ArithmeticError


@pytest.mark.parametrize("check", [raise_arithmetic_error, lambda _: NoTruth()])
def test_a_check_that_raises_replaces_the_resource_and_does_not_retry(
    runners: Runners, log: LogCapture, check: Callable[[BaseException], bool]
) -> None:
    runner = runners.start(check_health=check)
    flaky = Flaky(failures=1)
    with pytest.raises(Broken) as raised:
        runner.queue_task(flaky)
    assert not hasattr(raised.value, "__notes__")
    assert runner.queue_task(flaky) == 2
    assert flaky.used == [0, 1]
    (record,) = log.take()
    assert "check_health failed" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[0] is ArithmeticError


def test_check_health_runs_on_the_workers_thread(runners: Runners) -> None:
    threads: list[int] = []

    def check(_error: BaseException) -> bool:
        threads.append(threading.get_ident())
        return True

    runner = runners.start(check_health=check)
    with pytest.raises(Broken):
        runner.queue_task(break_down)
    assert threads == [runners.factory.made[0].thread]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_check_health_is_asked_about_every_kind_of_error(
    runners: Runners, error: BaseException
) -> None:
    asked: list[BaseException] = []

    def check(error: BaseException) -> bool:
        asked.append(error)
        return True

    runner = runners.start(check_health=check)

    def fail(_resource: Resource) -> None:
        raise error

    assert runner.submit(fail).exception(LONG_TIMEOUT) is error
    assert asked == [error]


def once_views(runner: Runner[Resource]) -> list[Callable[..., object]]:
    return [
        runner.queue_task_once,
        runner.queue_task_with_priority_once,
        runner.options(once=True).queue_task,
        runner.options(once=True).run_task,
    ]


def test_a_once_task_is_entered_once_and_gives_its_own_error(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy)
    for call in once_views(runner):
        flaky = Flaky(failures=1)
        with pytest.raises(Broken) as raised:
            call(flaky)
        assert len(flaky.used) == 1
        assert not hasattr(raised.value, "__notes__")


def test_a_once_task_still_has_its_bad_resource_replaced(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy)
    with pytest.raises(Broken):
        runner.queue_task_once(break_down)
    assert runner.queue_task(lambda resource: resource.number) == 1


def test_workers_outlive_their_resources(runners: Runners) -> None:
    runner = runners.start(worker_count=2, check_health=is_healthy, max_retries=0)
    for _ in range(10):
        assert isinstance(runner.submit(break_down).exception(LONG_TIMEOUT), Broken)
    assert runner.queue_task(lambda _: "ok") == "ok"
    assert runner.stats().active_workers == 2
    assert len({resource.thread for resource in runners.factory.made}) <= 2


def test_a_backlog_behind_failing_tasks_is_served(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy, max_retries=0)

    def flaky(_resource: Resource, i: int) -> int:
        if i % 2:
            raise Broken
        return i

    futures = [runner.submit(flaky, i) for i in range(40)]
    assert [future.result(LONG_TIMEOUT) for future in futures[::2]] == list(range(0, 40, 2))
    assert all(isinstance(future.exception(LONG_TIMEOUT), Broken) for future in futures[1::2])


class Unusual(BaseException):
    """Not an `Exception`."""


@pytest.mark.parametrize("error", [ConnectionRefusedError(), Unusual()])
def test_a_replacement_that_fails_is_tried_again(
    runners: Runners, log: LogCapture, error: BaseException
) -> None:
    failures = itertools.count()

    def create() -> Resource:
        if runners.factory.made and next(failures) < 2:
            raise error
        return runners.factory.create()

    runner = runners.start(on_create=create, check_health=is_healthy)
    assert runner.queue_task(Flaky(failures=1)) == 2
    assert runner.stats().active_workers == 1
    (record,) = log.take()
    assert record.exc_info
    assert record.exc_info[1] is error


def test_a_retry_waits_as_a_queued_task(runners: Runners, log: LogCapture) -> None:
    tried, up = threading.Event(), threading.Event()

    def create() -> Resource:
        if runners.factory.made and not up.is_set():
            tried.set()
            raise ConnectionRefusedError
        return runners.factory.create()

    runner = runners.start(on_create=create, check_health=is_healthy)
    future = runner.submit(Flaky(failures=1))
    assert tried.wait(LONG_TIMEOUT)
    assert runner.stats().queued_tasks == 1
    assert (future.running(), future.done()) == (True, False)
    assert runner.stats().running_tasks == 0
    assert not future.cancel()
    up.set()
    assert future.result(LONG_TIMEOUT) == 2
    assert len(log.take()) == 1


def test_every_worker_down_at_once_comes_back(runners: Runners) -> None:
    runner = runners.start(worker_count=4, check_health=is_healthy, max_retries=5)
    together = threading.Barrier(4)

    def all_fail_first(_resource: Resource) -> int:
        attempt = current_context().attempt
        if attempt == 1:
            together.wait(LONG_TIMEOUT)
            raise Broken
        return attempt

    futures = [runner.submit(all_fail_first) for _ in range(4)]
    assert [future.result(LONG_TIMEOUT) for future in futures] == [2] * 4
    eventually(lambda: len(runners.factory.made) == 8)


# A retry waits for a resource that is proven since its failure.


class Outage:
    """Kills every resource that there is, and has tasks find out."""

    def __init__(self, runners: Runners) -> None:
        self._factory = runners.factory
        self._alive_from = 0

    def strike(self) -> None:
        self._alive_from = len(self._factory.made)

    def use(self, resource: Resource) -> int:
        """A task function: gives its attempt."""
        if resource.number < self._alive_from:
            raise Broken
        return current_context().attempt


@pytest.mark.parametrize("thread_bound", [True, False])
@pytest.mark.parametrize("call", ["queue_task", "run_task"])
def test_an_outage_costs_one_attempt_however_many_workers_idle(
    runners: Runners, call: str, thread_bound: bool
) -> None:
    runner = runners.start(
        worker_count=8, resource_pool_size=8, check_health=is_healthy, thread_bound=thread_bound
    )
    outage = Outage(runners)
    for _ in range(10):
        outage.strike()
        assert [getattr(runner, call)(outage.use) for _ in range(16)].count(1) >= 8
    assert runner.metrics().total_tasks_failed == 0
    assert 10 <= runner.metrics().total_tasks_retried <= 80


@pytest.mark.parametrize("tasks", [8, 100])
def test_an_outage_that_meets_all_workers_at_once_costs_one_attempt(
    runners: Runners, tasks: int
) -> None:
    runner = runners.start(worker_count=8, check_health=is_healthy)
    outage = Outage(runners)
    for _ in range(10):
        outage.strike()
        futures = [runner.submit(outage.use) for _ in range(tasks)]
        assert {future.result(LONG_TIMEOUT) for future in futures} <= {1, 2}
    assert runner.metrics().total_tasks_retried >= 10


def test_an_outage_costs_an_item_of_map_one_attempt(runners: Runners) -> None:
    runner = runners.start(worker_count=8, check_health=is_healthy)
    outage = Outage(runners)
    for _ in range(10):
        outage.strike()
        assert set(runner.map(lambda resource, _: outage.use(resource), range(100))) <= {1, 2}
    assert runner.metrics().total_tasks_retried >= 10


Held = Callable[..., tuple[Runner[Resource], Future[int]]]


@pytest.fixture
def held(runners: Runners, gate: Gate) -> Held:
    """Starts a runner in which a retry is held: its worker destroys until the gate opens."""

    def destroy(resource: Resource) -> None:
        gate.hold()
        runners.factory.destroy(resource)

    def start(**options: Any) -> tuple[Runner[Resource], Future[int]]:
        runner = runners.start(worker_count=3, on_destroy=destroy, check_health=is_healthy)
        future = runner.options(**options).submit(Flaky(failures=1))
        gate.wait_for()
        assert runner.stats().queued_tasks == 1
        return runner, future

    return start


def test_a_retry_waits_for_its_worker_while_others_idle(held: Held, gate: Gate) -> None:
    runner, future = held()
    assert runner.metrics().total_tasks_retried == 1
    assert not future.done()
    gate.open()
    assert future.result(LONG_TIMEOUT) == 2


def test_a_retry_is_taken_where_a_task_has_ended_well_since(held: Held, gate: Gate) -> None:
    runner, future = held()
    assert runner.queue_task(lambda resource: resource.number) in {0, 1, 2}
    assert future.result(LONG_TIMEOUT) == 2
    gate.open()


def test_stop_finishes_a_held_retry(held: Held, gate: Gate) -> None:
    runner, future = held()
    stop = Call(runner.stop)
    eventually(lambda: runner.state == "stopping")
    assert not future.done()
    gate.open()
    stop.result()
    assert future.result(0) == 2


def test_kill_gives_a_held_retry_its_last_error(held: Held, gate: Gate) -> None:
    runner, future = held()
    kill = Call(runner.kill)
    assert isinstance(future.exception(LONG_TIMEOUT), Broken)
    gate.open()
    assert kill.result() == []


def test_a_request_ends_a_held_retry(held: Held, gate: Gate) -> None:
    runner, future = held()
    assert future.request_cancel("not needed")
    assert isinstance(future.exception(LONG_TIMEOUT), Broken)
    assert runner.stats().queued_tasks == 0
    gate.open()


def test_a_limit_ends_a_held_retry(held: Held, gate: Gate) -> None:
    runner, future = held(timeout=0.1)
    error = future.exception(LONG_TIMEOUT)
    assert isinstance(error, TaskTimeout)
    assert isinstance(error.__context__, Broken)
    assert runner.stats().queued_tasks == 0
    gate.open()


def test_a_validated_resource_may_have_a_retry(runners: Runners, gate: Gate) -> None:
    looked_at: list[int] = []

    def validate(resource: Resource) -> bool:
        looked_at.append(resource.number)
        return True

    def destroy(resource: Resource) -> None:
        gate.hold()
        runners.factory.destroy(resource)

    runner = runners.start(
        worker_count=3, on_destroy=destroy, check_health=is_healthy, validate=validate
    )
    flaky = Flaky(failures=1)
    assert runner.queue_task(flaky) == 2
    assert looked_at == flaky.used[1:]
    gate.open()
