"""Runners that start and end without blocking a loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tasker import Config, Future, ResourceCreationError, Runner, StopTimeout, TaskCancelled
from tests.asyncio.support import Run, until
from tests.native.support import LONG_TIMEOUT, Factory, Gate, Resource, Runners, eventually


def settled(factory: Factory) -> None:
    """All that was made is destroyed, and no thread of a start or an end is left."""
    eventually(lambda: not factory.alive)
    eventually(lambda: not any("tasker" in thread.name for thread in threading.enumerate()))
    factory.check()


def test_async_with_starts_and_stops(runners: Runners, run: Run) -> None:
    config = runners.config(worker_count=2)

    async def main() -> Runner[Resource]:
        async with Runner.start(config) as runner:
            assert runner.state == "running"
            assert await runner.asubmit(lambda _: 7) == 7
        return runner

    assert run(main()).state == "stopped"
    assert len(runners.factory.made) == 2
    settled(runners.factory)


def test_awaiting_gives_the_runner(runners: Runners, run: Run) -> None:
    async def main() -> None:
        runner = runners.keep(await Runner.start(runners.config(), timeout=LONG_TIMEOUT))
        assert await runner.asubmit(lambda _: 7) == 7
        await runner.astop()
        await runner.astop()
        assert runner.state == "stopped"

    run(main())


def test_a_subclass_starts_as_itself(runners: Runners, run: Run) -> None:
    class Special(Runner[Resource]):
        def __init__(self, config: Config[Resource], *, timeout: float | None = None) -> None:
            self.special = config.worker_count

    async def main() -> Runner[Resource]:
        async with Special.start(runners.config()) as runner:
            return runner

    runner = run(main())
    assert isinstance(runner, Special)
    assert runner.special == 1


def test_nothing_starts_before_it_is_awaited(runners: Runners, run: Run) -> None:
    async def main() -> None:
        Runner.start(runners.config())
        await asyncio.sleep(0)

    run(main())
    assert runners.factory.made == []


def test_the_loop_goes_on_while_a_runner_starts(runners: Runners, run: Run) -> None:
    going_on = threading.Event()

    def create() -> Resource:
        assert going_on.wait(LONG_TIMEOUT)
        return runners.factory.create()

    async def main() -> None:
        starting = asyncio.create_task(start(runners.config(on_create=create)))
        await asyncio.sleep(0)
        assert not starting.done()
        going_on.set()
        await (await starting).astop()

    run(main())
    settled(runners.factory)


async def start(config: Config[Resource]) -> Runner[Resource]:
    return await Runner.start(config)


def test_a_failed_start_raises(runners: Runners, run: Run) -> None:
    def fail() -> Resource:
        if runners.factory.made:
            raise OSError
        return runners.factory.create()

    async def main() -> None:
        async with Runner.start(runners.config(worker_count=3, on_create=fail)):
            raise AssertionError

    with pytest.raises(ResourceCreationError) as raised:
        run(main())
    assert isinstance(raised.value.__cause__, OSError)
    settled(runners.factory)


def test_a_start_that_takes_too_long_raises(runners: Runners, run: Run, gate: Gate) -> None:
    def create() -> Resource:
        gate.hold()
        return runners.factory.create()

    async def main() -> None:
        await Runner.start(runners.config(on_create=create), timeout=0.02)

    with pytest.raises(ResourceCreationError, match=r"within 0\.02 s"):
        run(main())
    gate.open()
    settled(runners.factory)


def test_a_cancelled_start_leaves_nothing_behind(runners: Runners, run: Run, gate: Gate) -> None:
    """What was made is destroyed at once, what hangs when it is ready."""
    hangs = threading.Event()

    def create() -> Resource:
        if runners.factory.made:
            hangs.set()
            gate.hold()
        return runners.factory.create()

    async def main() -> None:
        starting = asyncio.create_task(start(runners.config(worker_count=2, on_create=create)))
        await until(lambda: hangs.is_set() and runners.factory.made)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await until(lambda: not runners.factory.alive)
        assert len(runners.factory.made) == 1

    run(main())
    gate.open()
    eventually(lambda: len(runners.factory.made) == 2)
    settled(runners.factory)


def test_a_start_cancelled_when_it_is_complete_leaves_nothing_behind(
    runners: Runners, run: Run
) -> None:
    async def main() -> None:
        starting = asyncio.create_task(start(runners.config()))
        await asyncio.sleep(0)
        # The loop is held until the thread of the start has nothing more to do.
        eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("start")])
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    run(main())
    assert len(runners.factory.made) == 1
    settled(runners.factory)


def test_a_runner_that_is_there_may_be_used_with_async_with(runners: Runners, run: Run) -> None:
    runner = runners.start()

    async def main() -> None:
        async with runner as same:
            assert same is runner

    run(main())
    assert runner.state == "stopped"


def test_leaving_does_not_block_the_loop(runners: Runners, run: Run, gate: Gate) -> None:
    async def leave() -> None:
        async with Runner.start(runners.config()) as runner:
            runner.submit(gate.hold)
            runner.submit(lambda _: None)

    async def main() -> None:
        leaving = asyncio.create_task(leave())
        await asyncio.to_thread(gate.wait_for)
        assert not leaving.done()
        gate.open()
        await leaving

    run(main())


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ran"),
        (SystemExit, "ran"),
        (ValueError, "dropped"),
        (asyncio.CancelledError, "dropped"),
    ],
)
def test_how_the_block_is_left_decides_how_the_runner_ends(
    runners: Runners, run: Run, gate: Gate, error: type[BaseException] | None, outcome: str
) -> None:
    seen: list[Runner[Resource]] = []
    waiting: list[Future[str]] = []

    async def block() -> None:
        async with Runner.start(runners.config()) as runner:
            runner.submit(gate.hold)
            waiting.append(runner.submit(lambda _: "ran"))
            await asyncio.to_thread(gate.wait_for)
            seen.append(runner)
            if error is not None:
                raise error

    async def caught() -> None:
        # Out of the task of a loop a `SystemExit` would end the loop as well.
        try:
            await block()
        except BaseException as raised:
            assert type(raised) is error  # noqa: PT017, not what is tested

    async def main() -> str:
        left = asyncio.create_task(caught())
        await until(lambda: seen and seen[0].state != "running")
        gate.open()
        await left
        try:
            return await waiting[0]
        except TaskCancelled:
            return "dropped"

    assert run(main()) == outcome
    settled(runners.factory)


def test_a_cancel_while_the_block_waits_for_the_stop_kills(
    runners: Runners, run: Run, gate: Gate
) -> None:
    runner = runners.start()

    async def block() -> None:
        async with runner:
            runner.submit(gate.hold)
            waiting.append(runner.submit(lambda _: "ran"))
            await asyncio.to_thread(gate.wait_for)

    waiting: list[Future[str]] = []

    async def main() -> None:
        left = asyncio.create_task(block())
        await until(lambda: runner.state == "stopping")
        left.cancel()
        await until(lambda: runner.state == "killed")
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await left
        assert runner.state == "stopped"
        assert isinstance(waiting[0].exception(), TaskCancelled)

    run(main())


def test_a_coroutine_that_is_closed_while_its_block_waits_ends_at_once(
    runners: Runners, run: Run, gate: Gate
) -> None:
    runner = runners.start()

    async def serve() -> None:
        async with runner:
            runner.submit(gate.hold)

    async def main() -> None:
        coroutine = serve()
        coroutine.send(None)
        coroutine.close()
        await until(lambda: runner.state == "stopping")
        gate.open()
        await until(lambda: runner.state == "stopped")

    run(main())


def test_a_coroutine_that_is_closed_stops_its_runner(runners: Runners, run: Run) -> None:
    runner = runners.start()

    async def serve() -> None:
        async with runner:
            await asyncio.Event().wait()

    async def main() -> None:
        coroutine = serve()
        coroutine.send(None)
        coroutine.close()
        await until(lambda: runner.state == "stopped")

    run(main())


def test_astop_and_akill_keep_their_limits(runners: Runners, run: Run, gate: Gate) -> None:
    runner = runners.start()

    async def main() -> None:
        runner.submit(gate.hold)
        await asyncio.to_thread(gate.wait_for)
        runner.submit(gate.hold)
        with pytest.raises(StopTimeout):
            await runner.astop(timeout=0.01)
        with pytest.raises(StopTimeout) as raised:
            await runner.akill(0.01)
        assert [task.fn for task in raised.value.dropped] == [gate.hold]
        gate.open()
        assert await runner.akill() == []

    run(main())


def test_a_cancelled_astop_goes_on(runners: Runners, run: Run, gate: Gate) -> None:
    runner = runners.start()

    async def main() -> None:
        runner.submit(gate.hold)
        await asyncio.to_thread(gate.wait_for)
        stopping = asyncio.create_task(runner.astop())
        await until(lambda: runner.state == "stopping")
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert runner.state == "stopping"
        gate.open()
        await until(lambda: runner.state == "stopped")

    run(main())


def test_a_task_may_only_begin_the_end_of_its_runner(runners: Runners, run: Run) -> None:
    runner = runners.start()

    def end(_resource: Resource) -> str:
        asyncio.run(runner.astop())
        return runner.state

    async def main() -> str:
        return await runner.asubmit(end)

    assert run(main()) == "stopping"
    runner.stop()
