"""`fail_fast_after`: while no resource can be made tasks fail at once, and then they are served."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tasker import Config, ConfigError, ResourceCreationError, Retry, Runner, TaskTimeout
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


class Outage:
    """An `on_create` that can be made to fail."""

    def __init__(self, runners: Runners) -> None:
        self._runners = runners
        self.is_on = False

    def create(self) -> Resource:
        if self.is_on:
            raise ConnectionRefusedError("away")
        return self._runners.factory.create()

    def start(self, **fields: Any) -> Runner[Resource]:
        defaults = {"check_health": is_healthy, "max_retries": 0, "logger": None}
        return self._runners.start(on_create=self.create, **{**defaults, **fields})

    def begin(self, runner: Runner[Resource], workers: int = 1) -> None:
        """Has every worker lose its resource."""
        self.is_on = True
        for _ in range(workers):
            with pytest.raises(Broken):
                runner.queue_task(break_down)


@pytest.fixture
def outage(runners: Runners) -> Outage:
    return Outage(runners)


def number(resource: Resource, *_item: object) -> int:
    return resource.number


def test_waiting_tasks_fail_with_the_last_error_of_on_create(outage: Outage) -> None:
    runner = outage.start(fail_fast_after=0.05)
    outage.begin(runner)
    futures = [runner.submit(number) for _ in range(5)]
    for future in futures:
        error = future.exception(LONG_TIMEOUT)
        assert type(error) is ResourceCreationError
        assert "within fail_fast_after" in str(error)
        assert isinstance(error.__cause__, ConnectionRefusedError)
    assert runner.metrics().total_tasks_dropped == 5


VERBS: dict[str, Any] = {
    "submit": lambda runner, limit: runner.submit(number).result(limit),
    "queue_task": lambda runner, _: runner.queue_task(number),
    "submit_many": lambda runner, limit: runner.submit_many(number, [1, 2])[1].result(limit),
    "run_task": lambda runner, _: runner.run_task(number),
    "map": lambda runner, _: list(runner.map(number, range(9))),
    "asubmit": lambda runner, _: asyncio.run(submitted(runner)),
    "executor": lambda runner, _: runner.executor().submit(len, ()).result(LONG_TIMEOUT),
}


async def submitted(runner: Runner[Resource]) -> int:
    return await runner.asubmit(number)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("thread_bound", [True, False])
def test_new_tasks_fail_at_once_and_later_ones_are_served(
    outage: Outage, verb: str, *, thread_bound: bool
) -> None:
    runner = outage.start(fail_fast_after=0.0, thread_bound=thread_bound)
    outage.begin(runner)
    with pytest.raises(ResourceCreationError):
        runner.queue_task(number)
    with pytest.raises(ResourceCreationError) as raised:
        VERBS[verb](runner, 0)
    assert isinstance(raised.value.__cause__, ConnectionRefusedError)
    assert runner.stats().queued_tasks == 0
    outage.is_on = False
    eventually(lambda: runner.stats().creation_failing_for == 0)
    VERBS[verb](runner, LONG_TIMEOUT)


def test_a_runner_that_limps_goes_on_serving(outage: Outage, gate: Gate) -> None:
    runner = outage.start(fail_fast_after=0.0, worker_count=2)
    future = runner.submit(gate.hold_then_return, 5)
    gate.wait_for()
    outage.begin(runner)
    eventually(lambda: runner.stats().creation_failing_for > 0)
    waits = runner.submit(number)
    gate.open()
    assert (future.result(LONG_TIMEOUT), waits.result(LONG_TIMEOUT)) in {(5, 0), (5, 1)}


def test_a_resource_of_run_task_serves_its_calls_meanwhile(outage: Outage) -> None:
    runner = outage.start(fail_fast_after=0.0, resource_pool_size=1)
    outage.begin(runner)
    with pytest.raises(ResourceCreationError):
        runner.queue_task(number)
    assert runner.run_task(number) in {0, 1}


def test_without_it_tasks_wait(outage: Outage) -> None:
    runner = outage.start()
    outage.begin(runner)
    waits = Call(runner.queue_task, number)
    waits.wait_until_blocked()
    eventually(lambda: runner.stats().creation_failing_for > 0.2)
    outage.is_on = False
    assert waits.result() == 1


@pytest.mark.parametrize("end", ["fails_fast", "stops", "times_out"])
def test_a_task_that_was_to_be_tried_again_keeps_its_own_error_as_context(
    outage: Outage, end: str
) -> None:
    limit = 0.0 if end == "fails_fast" else None
    runner = outage.start(fail_fast_after=limit, max_retries=3)
    outage.is_on = True
    timeout = 1.0 if end == "times_out" else None
    future = runner.options(timeout=timeout).submit(break_down)
    if end == "stops":
        eventually(lambda: runner.stats().creation_failing_for > 0)
        runner.stop(LONG_TIMEOUT)
    error = future.exception(LONG_TIMEOUT)
    assert type(error) is (TaskTimeout if end == "times_out" else ResourceCreationError)
    assert isinstance(error.__cause__, ConnectionRefusedError)
    assert isinstance(error.__context__, Broken)


@pytest.mark.parametrize("verb", ["queue_task", "run_task"])
@pytest.mark.parametrize("thread_bound", [True, False])
def test_a_retry_is_bounded_where_a_worker_has_an_idle_resource(
    outage: Outage, verb: str, *, thread_bound: bool
) -> None:
    runner = outage.start(
        fail_fast_after=0.05,
        max_retries=3,
        worker_count=2,
        resource_pool_size=2,
        thread_bound=thread_bound,
    )
    outage.is_on = True
    used: list[int] = []

    def served_by_another(resource: Resource) -> int:
        used.append(resource.number)
        if len(used) == 1:
            raise Broken
        return resource.number

    assert getattr(runner, verb)(served_by_another) == used[1] != used[0]
    with pytest.raises(ResourceCreationError):
        runner.queue_task(break_down)
    assert runner.metrics().total_tasks_failed == 1


def test_a_paused_task_fails_when_its_pause_is_over(outage: Outage) -> None:
    runner = outage.start(fail_fast_after=0.0)
    again = threading.Event()

    def fail(_resource: Resource) -> None:
        again.set()
        raise ArithmeticError

    future = runner.options(retry=Retry(on=lambda _: 0.3)).submit(fail)
    assert again.wait(LONG_TIMEOUT)
    eventually(lambda: runner.stats().paused_tasks == 1)
    outage.begin(runner)
    assert type(future.exception(LONG_TIMEOUT)) is ResourceCreationError


def test_the_log_says_once_that_tasks_fail(outage: Outage, log: LogCapture) -> None:
    config = {"fail_fast_after": 0.0, "name": "shop"}
    runner = outage.start(**config, logger=Config(on_create=dict, worker_count=1).logger)
    outage.begin(runner)
    with pytest.raises(ResourceCreationError):
        runner.queue_task(number)
    eventually(lambda: runner.stats().creation_failing_for > 0.3)
    texts = [record.getMessage() for record in log.take(2)]
    told = [text for text in texts if "tasks fail until one can" in text]
    assert told == [
        "shop: no worker has a resource, and none can be created; tasks fail until one can"
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-1, "fail_fast_after must be at least 0, got -1"),
        ("1", "fail_fast_after must be a number of seconds or None, got '1'"),
        (True, "fail_fast_after must be a number of seconds or None, got True"),
        (float("nan"), "fail_fast_after must be at least 0, got nan"),
    ],
)
def test_what_is_no_length_of_time_is_refused(value: Any, text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Config(on_create=dict, worker_count=1, fail_fast_after=value)
    assert str(raised.value) == text
    forever: Config[Any] = Config(on_create=dict, worker_count=1, fail_fast_after=float("inf"))
    assert forever.fail_fast_after is None
