"""How a runner ends: by a call, by a block, from within."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tasker import Context, RunnerStopped, current_context
from tests.behaviour.support import AnyRunner, Bench
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Resource,
    check_ended,
    eventually,
    runner_threads,
)


async def asubmit(runner: AnyRunner) -> None:
    runner.asubmit(lambda _: None)


async def amap(runner: AnyRunner) -> None:
    async for _ in runner.amap(lambda _, item: item, [1]):
        pass


def resize(runner: AnyRunner) -> None:
    # Of a RayRunner one asks for actors.
    given = "actors" if type(runner).__name__ == "RayRunner" else "worker_count"
    runner.resize(**{given: 2})


EVERYTHING: dict[str, Callable[[AnyRunner], object]] = {
    "submit": lambda runner: runner.submit(lambda _: None),
    "asubmit": lambda runner: asyncio.run(asubmit(runner)),
    "submit_many": lambda runner: runner.submit_many(lambda _, item: item, [1]),
    "queue_task": lambda runner: runner.queue_task(lambda _: None),
    "run_task": lambda runner: runner.run_task(lambda _: None),
    "map": lambda runner: runner.map(lambda _, item: item, [1]),
    "amap": lambda runner: asyncio.run(amap(runner)),
    "view": lambda runner: runner.options().submit(lambda _: None),
    "renew": lambda runner: runner.renew(),
    "resize": resize,
}


@pytest.mark.parametrize("call", EVERYTHING.values(), ids=EVERYTHING)
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_everything_is_refused_afterwards(
    bench: Bench, call: Callable[[AnyRunner], object], end: str
) -> None:
    runner = bench.start()
    getattr(runner, end)()
    with pytest.raises(RunnerStopped, match=r"cannot (schedule new futures|resize)"):
        call(runner)
    assert runner.state == "stopped"


def test_stop_finishes_what_waits(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    future = runner.submit(lambda _: 7)
    if not bench.is_inline:
        let_run()
    runner.stop()
    assert future.result(0) == 7
    check_ended(runner)


def test_a_stop_may_be_called_again_and_with_a_limit(bench: Bench) -> None:
    runner = bench.start()
    runner.stop(LONG_TIMEOUT)
    runner.stop()
    assert runner.kill(LONG_TIMEOUT) == []


def test_the_resource_is_destroyed_once(bench: Bench) -> None:
    runner = bench.start()
    runner.stop()
    runner.kill()
    bench.factory.check()


def test_a_block_stops_its_runner(bench: Bench) -> None:
    with bench.start() as runner:
        assert runner.state == "running"
        future = runner.submit(lambda _: 7)
    assert runner.state == "stopped"
    assert future.result(0) == 7


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit])
def test_a_block_that_is_left_by_an_exit_stops(bench: Bench, error: type[BaseException]) -> None:
    runner, let_run = bench.start_held()
    future = runner.submit(lambda _: 7)

    def leave() -> None:
        with runner:
            if not bench.is_inline:
                let_run()
            raise error

    with pytest.raises(error):
        leave()
    assert future.result(0) == 7


def test_a_block_that_is_left_by_an_error_kills(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    ran: list[object] = bench.notes()
    runner.submit(ran.append)

    def leave() -> None:
        with runner:
            if not bench.is_inline:
                runner.submit(lambda _: None).add_done_callback(lambda _: let_run())
            raise Broken

    with pytest.raises(Broken):
        leave()
    assert runner.state == "stopped"
    assert ran == []


def test_an_async_block_stops_or_kills(bench: Bench) -> None:
    async def main() -> None:
        async with bench.start() as runner:
            assert await runner.asubmit(lambda _: 7) == 7
        assert runner.state == "stopped"
        with pytest.raises(asyncio.CancelledError):
            async with bench.start() as other:
                raise asyncio.CancelledError
        assert other.state == "stopped"
        third = bench.start()
        await third.astop()
        assert await third.akill() == []

    asyncio.run(main())


def test_a_task_that_stops_its_runner_finishes(bench: Bench) -> None:
    runner = bench.start()

    def stop(_resource: Resource) -> str:
        waiting = runner.submit(lambda _: "done")
        runner.stop()
        with pytest.raises(RunnerStopped):
            runner.submit(lambda _: None)
        return f"{runner.state} {waiting.result()}"

    assert runner.queue_task(stop) == "stopping done"
    bench.eventually(lambda: runner.state == "stopped")
    # Nobody has waited for them.
    bench.eventually(lambda: runner_threads(runner.name) == [])
    check_ended(runner)


def test_a_task_that_kills_its_runner_is_told(bench: Bench) -> None:
    runner = bench.start(check_health=lambda _: False)

    def kill(_resource: Resource) -> tuple[int, bool, str | None]:
        waiting = runner.submit(lambda _: "done")
        (dropped,) = runner.kill()
        context = current_context()
        assert waiting.done()
        return len(dropped.args), context.cancelled, context.reason

    assert runner.queue_task(kill) == (0, True, "the runner was killed")
    bench.eventually(lambda: runner.state == "stopped")
    # Nobody has waited for them.
    bench.eventually(lambda: runner_threads(runner.name) == [])
    check_ended(runner)


def test_a_cancelled_context_stops_the_runner(bench: Bench) -> None:
    context = Context()
    runner = bench.start(context=context)
    context.cancel()
    with pytest.raises(RunnerStopped):
        runner.submit(lambda _: None)
    eventually(lambda: runner.state == "stopped")


def test_the_books_are_closed_at_the_end(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    futures: list[Any] = [runner.submit(lambda _: None) for _ in range(3)]
    futures += [runner.submit(lambda _: 1 / 0), runner.options(timeout=0).submit(lambda _: None)]
    futures[0].cancel()
    let_run()
    for future in futures[1:]:
        future.exception(LONG_TIMEOUT)
    runner.stop()
    check_ended(runner)
    metrics = runner.metrics()
    assert metrics.total_tasks_completed == (2 if bench.is_inline else 3)
    assert metrics.total_tasks_failed == 1
    assert metrics.total_tasks_cancelled == 1
    assert metrics.total_tasks_timed_out == 1
    assert 0 < metrics.success_rate < 1
    assert 0 <= metrics.min_execution_time <= metrics.p50_execution_time
    assert metrics.p50_execution_time <= metrics.p99_execution_time <= metrics.max_execution_time
    assert metrics.task_arrival_rate > 0
