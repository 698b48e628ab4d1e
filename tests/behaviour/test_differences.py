"""What differs between a runner and its double: each row of the table in the guide on testing."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

import tasker
from tasker import Context, ResourceCreationError, StopTimeout, TaskTimeout
from tests.behaviour.support import Bench
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    LogCapture,
    Resource,
    eventually,
    is_healthy,
)


def test_workers(bench: Bench) -> None:
    runner = bench.start(worker_count=3, resource_pool_size=1)
    # A reserved worker is idle when it has gone to sleep, a moment after its resource was made.
    bench.eventually(lambda: runner.stats().available_resources == (0 if bench.is_inline else 1))
    stats = runner.stats()
    assert (stats.base_workers, stats.active_workers) == ((1, 1) if bench.is_inline else (3, 3))


def test_another_thread(bench: Bench) -> None:
    call = Call(bench.start().queue_task, lambda _: 7)
    if bench.is_inline:
        assert isinstance(call.error(), RuntimeError)
    else:
        assert call.result() == 7


@pytest.mark.timing
def test_a_time_limit_and_on_cancel(bench: Bench) -> None:
    interrupted = threading.Event()
    returned: list[bool] = []

    def overrun(_resource: Resource) -> None:
        returned.append(interrupted.wait(0.2 if bench.is_inline else LONG_TIMEOUT))

    runner = bench.start(on_cancel=lambda _: interrupted.set())
    future = runner.options(timeout=0.05, name="late").submit(overrun)
    error = future.exception(LONG_TIMEOUT)
    assert isinstance(error, TaskTimeout)
    assert str(error) == "task late did not finish within its time limit of 0.05 s"
    bench.eventually(lambda: returned == [not bench.is_inline])
    assert runner.metrics().total_tasks_timed_out == 1


def test_a_time_limit_cancels_the_context_for_who_looks(bench: Bench) -> None:
    runner = bench.start()
    future = runner.options(timeout=0.02).submit(
        lambda _: tasker.current_context().wait(LONG_TIMEOUT)
    )
    assert isinstance(future.exception(LONG_TIMEOUT), TaskTimeout)


def test_a_full_queue_that_blocks(bench: Bench) -> None:
    runner, let_run = bench.start_held(max_queue_size=1)
    runner.submit(lambda _: None)
    if bench.is_inline:
        with pytest.raises(tasker.QueueFull, match="no other thread"):
            runner.submit(lambda _: 7)
    else:
        call = Call(runner.submit, lambda _: 7)
        call.wait_until_blocked()
        let_run()
        assert call.result().result(LONG_TIMEOUT) == 7


def test_a_resource_that_cannot_be_replaced(bench: Bench, log: LogCapture) -> None:
    tries: list[int] = []

    def create() -> Resource:
        tries.append(0)
        if len(tries) in {2, 3}:
            raise ConnectionRefusedError
        return bench.factory.create()

    runner = bench.start(on_create=create, check_health=is_healthy)

    def break_once(resource: Resource) -> int:
        if resource.number == 0:
            raise Broken
        return resource.number

    future = runner.submit(break_once)
    if bench.is_inline:
        assert isinstance(future.exception(), ResourceCreationError)
        assert runner.queue_task(break_once) == 1
    else:
        assert future.result(LONG_TIMEOUT) == 1
    log.take()


@pytest.mark.timing
def test_an_age_that_is_reached_while_nothing_runs(bench: Bench) -> None:
    runner = bench.start(max_resource_age=0.1)
    if bench.is_inline:
        time.sleep(0.15)
        assert len(bench.factory.made) == 1
        assert runner.queue_task(lambda resource: resource.number) == 1
    else:
        eventually(lambda: len(bench.factory.made) >= 2)


def test_a_context_that_is_cancelled_while_nothing_runs(bench: Bench) -> None:
    context = Context()
    runner = bench.start(context=context)
    context.cancel()
    if bench.is_inline:
        assert runner.state == "stopping"
        with pytest.raises(tasker.RunnerStopped):
            runner.submit(lambda _: None)
    eventually(lambda: runner.state == "stopped")


def test_limits_of_stop(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    if bench.is_inline:
        runner.stop(timeout=0)
    else:
        with pytest.raises(StopTimeout):
            runner.stop(timeout=0)
        let_run()


def test_an_event_loop_of_the_tasks_own(bench: Bench) -> None:
    async def seven() -> int:
        return 7

    def run(_resource: Resource) -> int:
        coroutine = seven()
        try:
            return asyncio.run(coroutine)
        finally:
            coroutine.close()

    runner = bench.start()

    async def main() -> int:
        return await runner.asubmit(run)

    if bench.is_inline:
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            asyncio.run(main())
    else:
        assert asyncio.run(main()) == 7
    assert runner.queue_task(run) == 7


def test_an_error_that_nobody_looks_at(bench: Bench, log: LogCapture) -> None:
    runner = bench.start()
    runner.submit(lambda _: 1 / 0)
    runner.stop()
    if bench.is_inline:
        assert log.rest() == []
    else:
        assert "nobody" in log.take()[0].getMessage()


def test_waits_for_the_interpreter(bench: Bench) -> None:
    runner = bench.start()
    runner.queue_task(lambda _: None)
    runner.stop()
    assert (runner.metrics().attach.count == 0) is bench.is_inline


def test_what_is_not_there(bench: Bench) -> None:
    runner: Any = bench.start()
    assert hasattr(runner, "executor") is not bench.is_inline
    assert hasattr(type(runner), "start") is not bench.is_inline
    assert (runner in tasker.runners()) is not bench.is_inline
