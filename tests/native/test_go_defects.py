"""Defects of the Go library that no other file of these tests would notice."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tasker import current_context
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Gate,
    LogCapture,
    Resource,
    Runners,
    break_down,
    is_healthy,
)


@pytest.mark.parametrize("hook", ["on_create", "on_destroy", "check_health", "validate", "reset"])
def test_a_hook_that_exits_harms_nobody(runners: Runners, log: LogCapture, hook: str) -> None:
    exited: list[str] = []

    def enter(name: str) -> None:
        # The first creation is left alone: it would fail the start.
        if name == hook and runners.factory.made and not exited:
            exited.append(name)
            raise SystemExit(3)

    def create() -> Resource:
        enter("on_create")
        return runners.factory.create()

    def destroy(resource: Resource) -> None:
        runners.factory.destroy(resource)
        enter("on_destroy")

    def check(error: BaseException) -> bool:
        enter("check_health")
        return is_healthy(error)

    def validate(_resource: Resource) -> bool:
        enter("validate")
        return True

    runner = runners.start(
        on_create=create,
        on_destroy=destroy,
        check_health=check,
        validate=validate,
        validate_after_idle=0,
        reset=lambda _: enter("reset"),
        max_retries=0,
    )
    assert isinstance(runner.submit(break_down).exception(LONG_TIMEOUT), Broken)
    for _ in range(2):
        assert runner.queue_task(lambda _: "alive") == "alive"
    assert exited == [hook]
    assert runner.stats().base_workers == 1
    (record,) = log.take()
    assert record.exc_info
    assert record.exc_info[0] is SystemExit


def test_retries_of_an_outage_are_not_lost_in_a_full_queue(runners: Runners, gate: Gate) -> None:
    runner = runners.start(
        worker_count=3, check_health=is_healthy, max_retries=1, max_queue_size=1, when_full="raise"
    )
    together = threading.Barrier(3)

    def flaky(_resource: Resource, i: int) -> int:
        if current_context().attempt == 1:
            gate.hold()
            together.wait(LONG_TIMEOUT)
            raise Broken
        return i

    futures = []
    for i in range(3):
        futures.append(runner.submit(flaky, i))
        gate.wait_for()
    waiting = runner.submit(lambda _: "in its turn")
    gate.open()
    assert [future.result(LONG_TIMEOUT) for future in futures] == [0, 1, 2]
    assert waiting.result(LONG_TIMEOUT) == "in its turn"
    assert runner.metrics().total_tasks_retried == 3


@pytest.mark.timing
def test_the_wait_of_a_retry_does_not_contain_the_attempt_before_it(
    runners: Runners, gate: Gate
) -> None:
    held = 0.3

    def flaky(_resource: Resource) -> None:
        if current_context().attempt == 1:
            gate.hold()
            raise Broken

    runner = runners.start(check_health=is_healthy)
    future = runner.submit(flaky)
    with pytest.raises(TimeoutError):
        future.result(held)
    gate.open()
    future.result(LONG_TIMEOUT)
    metrics = runner.metrics()
    assert metrics.max_wait_time < held / 2 < metrics.max_execution_time


@pytest.mark.parametrize("thread_bound", [True, False])
def test_an_on_destroy_that_fails_after_run_task_is_logged(
    runners: Runners, log: LogCapture, thread_bound: bool
) -> None:
    def destroy(resource: Resource) -> None:
        runners.factory.destroy(resource)
        if resource.number:
            raise OSError

    fields: dict[str, Any] = {"resource_pool_size": 0, "thread_bound": thread_bound}
    runner = runners.start(on_destroy=destroy, **fields)
    assert runner.run_task(lambda resource: resource.number) == 1
    (record,) = log.take()
    assert "on_destroy failed" in record.getMessage()
    assert runner.run_task(lambda resource: resource.number) == 2
    log.take()
