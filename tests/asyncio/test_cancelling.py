"""Cancelling between coroutines and tasks, in both directions."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref

import pytest

from tasker import TaskCancelled
from tests.asyncio.support import Held, Run, until
from tests.native.support import LONG_TIMEOUT, Gate, LogCapture, Runners


def test_cancelling_the_future_removes_a_task_that_waits(
    runners: Runners, run: Run, gate: Gate, no_collector: None
) -> None:
    del no_collector
    runner = runners.start()
    ran: list[int] = []

    async def main() -> None:
        runner.asubmit(gate.hold)
        await asyncio.to_thread(gate.wait_for)

        class Argument:
            pass

        argument = Argument()
        ref = weakref.ref(argument)
        future = runner.asubmit(lambda _, argument: ran.append(1), argument)
        del argument
        assert future.cancel("no longer")
        assert ref() is None
        assert runner.stats().queued_tasks == 0
        with pytest.raises(asyncio.CancelledError):
            await future
        assert not future.cancel()
        gate.open()
        await runner.asubmit(lambda _: None)

    run(main())
    assert ran == []
    assert runner.metrics().total_tasks_cancelled == 1


def test_cancelling_the_coroutine_tells_a_task_that_runs(runners: Runners, run: Run) -> None:
    runner, held = runners.start(), Held()

    async def wait() -> None:
        await runner.asubmit(held.run)

    async def main() -> None:
        waiter = asyncio.create_task(wait())
        await until(held.started.is_set)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        await until(held.ended.is_set)

    run(main())
    assert held.reason == "the asyncio future of the task was cancelled"


def test_a_failing_sibling_in_a_group_tells_a_task_that_runs(runners: Runners, run: Run) -> None:
    runner, held = runners.start(), Held()

    async def wait() -> None:
        await runner.asubmit(held.run)

    async def fail() -> None:
        await until(held.started.is_set)
        raise ValueError

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            group.create_task(fail())

    async def main() -> None:
        with pytest.raises(ExceptionGroup):
            await both()
        await until(held.ended.is_set)

    run(main())


def test_cancelling_a_gather_reaches_every_task(runners: Runners, run: Run) -> None:
    runner, held = runners.start(), Held()
    ran: list[int] = []

    async def main() -> None:
        running = runner.asubmit(held.run)
        waiting = [runner.asubmit(lambda _: ran.append(1)) for _ in range(5)]
        gathered = asyncio.gather(*waiting, running)
        await until(held.started.is_set)
        gathered.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gathered
        await until(held.ended.is_set)
        await runner.asubmit(lambda _: None)

    run(main())
    assert ran == []


def test_a_limit_of_asyncio_tells_the_task(runners: Runners, run: Run) -> None:
    runner, held = runners.start(), Held()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await runner.asubmit(held.run)
        await until(held.ended.is_set)

    run(main())


def test_a_shielded_task_is_left_alone(runners: Runners, run: Run, gate: Gate) -> None:
    runner = runners.start()

    async def main() -> str:
        future = runner.asubmit(gate.hold_then_return, "done")
        waiter = asyncio.shield(future)
        await asyncio.to_thread(gate.wait_for)
        waiter.cancel()
        gate.open()
        return await future

    assert run(main()) == "done"


def test_the_outcome_of_a_cancelled_future_is_dropped_quietly(
    runners: Runners, run: Run, gate: Gate
) -> None:
    runner = runners.start(worker_count=2)

    async def main() -> None:
        futures: list[asyncio.Future[str] | asyncio.Future[None]] = [
            runner.asubmit(gate.hold_then_return, "late"),
            runner.asubmit(gate.hold_then_raise, ValueError("late")),
        ]
        await asyncio.to_thread(gate.wait_for, 2)
        assert all(future.cancel() for future in futures)
        # Neither looked at its context.
        gate.open()
        await until(lambda: runner.stats().running_tasks == 0)
        await runner.asubmit(lambda _: None)
        assert all(future.cancelled() for future in futures)

    run(main())


def test_a_future_cancelled_between_outcome_and_delivery_stays_cancelled(
    runners: Runners, run: Run
) -> None:
    runner = runners.start()

    async def main() -> None:
        future = runner.asubmit(lambda _: 1)
        # The loop is held, so the outcome cannot be delivered.
        while runner.metrics().total_tasks_completed == 0:
            pass
        assert not future.done()
        assert future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future
        assert await runner.asubmit(lambda _: 2) == 2
        assert future.cancelled()

    run(main())


def test_a_kill_fails_the_coroutine_and_does_not_cancel_it(
    runners: Runners, run: Run, gate: Gate
) -> None:
    runner = runners.start()

    async def wait() -> None:
        await runner.asubmit(gate.hold)

    async def main() -> None:
        runner.asubmit(gate.hold)
        await asyncio.to_thread(gate.wait_for)
        waiter = asyncio.create_task(wait())
        await asyncio.sleep(0)
        kill = asyncio.create_task(runner.akill())
        with pytest.raises(TaskCancelled):
            await waiter
        assert not waiter.cancelled()
        gate.open()
        assert [task.fn for task in await kill] == [gate.hold]

    run(main())


def test_a_kill_tells_a_task_that_runs(runners: Runners, run: Run) -> None:
    runner, held = runners.start(), Held()

    async def main() -> None:
        future = runner.asubmit(held.run)
        await until(held.started.is_set)
        assert await runner.akill() == []
        await future

    run(main())
    assert held.reason == "the runner was killed"


@pytest.mark.stress
def test_a_cancel_that_races_with_the_outcome_never_stops_a_worker(
    runners: Runners, run: Run, fast_switch: None
) -> None:
    del fast_switch
    runner = runners.start(worker_count=4)

    async def main() -> None:
        for _ in range(2_000):
            runner.asubmit(lambda _: None).cancel()
        numbers = [runner.asubmit(lambda _, i: i, i) for i in range(50)]
        assert await asyncio.gather(*numbers) == [*range(50)]

    run(main())
    assert runner.stats().active_workers == 4


def test_cancelling_the_coroutine_interrupts_what_runs(runners: Runners, run: Run) -> None:
    interrupted, started = threading.Event(), threading.Event()
    runner = runners.start(on_cancel=lambda _: interrupted.set())

    def task(_: object) -> None:
        started.set()
        assert interrupted.wait(LONG_TIMEOUT)

    async def main() -> None:
        future = runner.asubmit(task)
        await until(started.is_set)
        future.cancel()
        await runner.asubmit(lambda _: None)

    run(main())


@pytest.mark.timing
def test_a_cancel_from_a_coroutine_returns_at_once_and_the_loop_goes_on(
    runners: Runners, run: Run, log: LogCapture
) -> None:
    log.overlook("takes longer than 1 s")
    release, taken = threading.Event(), list[float]()

    def hook(_: object) -> None:
        assert release.wait(LONG_TIMEOUT)

    runner = runners.start(worker_count=8, max_worker_count=8, on_cancel=hook)
    gate = Gate()

    async def main() -> None:
        futures = [runner.asubmit(gate.hold) for _ in range(8)]
        await asyncio.to_thread(gate.wait_for, 8)
        for future in futures:
            begin = time.perf_counter()
            future.cancel()
            taken.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        await asyncio.sleep(0)
        taken.append(time.perf_counter() - begin)
        gate.open()
        release.set()

    run(main())
    assert sorted(taken)[len(taken) // 2] < 0.001
