"""Runners under anyio's backends: natively in asyncio, through threads in trio."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from tasker import Runner, TaskCancelled
from tests.asyncio.support import LOOPS
from tests.native.support import Gate, Resource, Runners

pytestmark = pytest.mark.anyio


@pytest.fixture(
    params=[*(("asyncio", {"use_uvloop": kind == "uvloop"}) for kind in LOOPS), ("trio", {})],
    ids=[*LOOPS, "trio"],
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


async def result_of(runner: Runner[Resource], *args: int) -> int:
    future = runner.submit(lambda _, *args: sum(args), *args)
    return await anyio.to_thread.run_sync(future.result)


async def test_a_result_can_be_waited_for_in_a_thread(runners: Runners) -> None:
    assert await result_of(runners.start(), 1, 2) == 3


async def test_tasks_of_a_group_wait_side_by_side(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    results: list[int] = []

    async def one(i: int) -> None:
        results.append(await result_of(runner, i))

    async with anyio.create_task_group() as group:
        for i in range(30):
            group.start_soon(one, i)
    assert sorted(results) == [*range(30)]


async def test_a_runner_starts_and_ends_without_blocking_the_loop(runners: Runners) -> None:
    runner = await anyio.to_thread.run_sync(Runner, runners.config())
    assert await result_of(runner, 7) == 7
    await anyio.to_thread.run_sync(runner.stop)
    assert runner.state == "stopped"


async def test_a_cancelled_scope_can_cancel_the_task(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    waiting = runner.submit(gate.hold)
    with anyio.move_on_after(0.02) as scope:
        await anyio.to_thread.run_sync(waiting.result, abandon_on_cancel=True)
    assert scope.cancelled_caught
    assert waiting.cancel()
    gate.open()


async def test_a_kill_fails_who_waits(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    waiting = runner.submit(gate.hold)

    async def end() -> None:
        await anyio.to_thread.run_sync(runner.kill)

    async with anyio.create_task_group() as group:
        group.start_soon(end)
        with pytest.raises(TaskCancelled):
            await anyio.to_thread.run_sync(waiting.result)
        gate.open()


async def test_a_task_may_call_back_into_the_loop(runners: Runners) -> None:
    runner = runners.start()

    def ask(_resource: Resource) -> int:
        return anyio.from_thread.run(answer, token=token)

    async def answer() -> int:
        await anyio.lowlevel.checkpoint()
        return 7

    token = anyio.lowlevel.current_token()
    future = runner.submit(ask)
    assert await anyio.to_thread.run_sync(future.result) == 7


async def test_what_is_asyncios_own_says_what_to_do_elsewhere(
    runners: Runners, anyio_backend_name: str
) -> None:
    runner = runners.start()

    async def await_it() -> int:
        return await runner.submit(lambda _: 7)

    async def asubmit_it() -> int:
        return await runner.asubmit(lambda _: 7)

    async def amap_it() -> int:
        return await anext(runner.amap(lambda _, x: x, [7]))

    async def start_it() -> int:
        async with Runner.start(runners.config()) as other:
            return await other.asubmit(lambda _: 7)

    for attempt in (await_it, asubmit_it, amap_it, start_it):
        if anyio_backend_name == "asyncio":
            assert await attempt() == 7
        else:
            with pytest.raises(RuntimeError, match=r"anyio\.to_thread\.run_sync"):
                await attempt()
