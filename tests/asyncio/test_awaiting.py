"""Ordinary futures awaited in asyncio: outcomes, and cancelling in both directions."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import weakref
from typing import TypeVar

import pytest

from tasker import Future, Priority, QueueFull, TaskCancelled, current_context
from tests.asyncio.support import until
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    Gate,
    Resource,
    Runners,
    break_down,
    eventually,
)

T = TypeVar("T")


async def awaiting(future: Future[T]) -> T:
    return await future


def test_awaiting_gives_the_result(runners: Runners) -> None:
    runner = runners.start()

    async def main() -> tuple[int, int]:
        return await runner.submit(lambda _: 7), await asyncio.wrap_future(
            runner.submit(lambda _: 8)
        )

    assert asyncio.run(main()) == (7, 8)


def test_awaiting_raises_the_tasks_own_error(runners: Runners) -> None:
    error = Broken()

    def fail(_resource: Resource) -> None:
        raise error

    runner = runners.start()
    with pytest.raises(Broken) as raised:
        asyncio.run(awaiting(runner.submit(fail)))
    assert raised.value is error


def test_the_loop_goes_on_while_a_task_runs(runners: Runners, gate: Gate) -> None:
    runner = runners.start()

    async def main() -> str:
        waiter = asyncio.create_task(awaiting(runner.submit(gate.hold_then_return, "done")))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiter.done()
        gate.open()
        return await waiter

    assert asyncio.run(main()) == "done"


def test_futures_can_be_gathered(runners: Runners) -> None:
    runner = runners.start(worker_count=3)

    async def main() -> list[int]:
        return await asyncio.gather(*(runner.submit(lambda _, i: i, i) for i in range(50)))

    assert asyncio.run(main()) == list(range(50))


def test_several_coroutines_and_threads_may_wait_for_one_future(
    runners: Runners, gate: Gate
) -> None:
    future = runners.start().submit(gate.hold_then_return, 7)
    thread = Call(future.result)

    async def main() -> list[int]:
        waiters = [asyncio.create_task(awaiting(future)) for _ in range(3)]
        await asyncio.sleep(0)
        gate.open()
        return await asyncio.gather(*waiters)

    assert asyncio.run(main()) == [7, 7, 7]
    assert thread.result() == 7


def test_cancelling_the_coroutine_cancels_a_task_that_waits(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    ran: list[int] = []

    async def main() -> None:
        runner.submit(gate.hold)
        future = runner.submit(lambda _: ran.append(1))
        waiter = asyncio.create_task(awaiting(future))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert future.cancelled()
        gate.open()
        await runner.submit(lambda _: None)

    asyncio.run(main())
    assert ran == []


def test_cancelling_the_coroutine_tells_a_task_that_runs(runners: Runners) -> None:
    started, reasons = threading.Event(), list[str | None]()

    def obey(_resource: Resource) -> None:
        started.set()
        assert current_context().wait(LONG_TIMEOUT)
        reasons.append(current_context().reason)

    runner = runners.start()

    async def main() -> None:
        future = runner.submit(obey)
        waiter = asyncio.create_task(awaiting(future))
        # It awaits before it is cancelled, however quick the worker is.
        await asyncio.sleep(0)
        await until(started.is_set)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        await until(future.done)

    asyncio.run(main())
    assert reasons == ["the asyncio future of the task was cancelled"]


def test_a_limit_of_asyncio_tells_the_task(runners: Runners) -> None:
    def obey(_resource: Resource) -> bool:
        return current_context().wait(LONG_TIMEOUT)

    runner = runners.start()
    future = runner.submit(obey)

    async def main() -> None:
        async with asyncio.timeout(0.02):
            await future

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert future.result(LONG_TIMEOUT) is True


def test_a_shielded_task_is_left_alone(runners: Runners, gate: Gate) -> None:
    runner = runners.start()

    async def main() -> str:
        future = runner.submit(gate.hold_then_return, "done")
        inner = asyncio.ensure_future(future)
        waiter = asyncio.create_task(shielded(inner))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        gate.open()
        return await inner

    assert asyncio.run(main()) == "done"


async def shielded(inner: asyncio.Future[str]) -> str:
    return await asyncio.shield(inner)


def test_cancelling_the_future_cancels_the_coroutine(runners: Runners, gate: Gate) -> None:
    runner = runners.start()

    async def main() -> None:
        runner.submit(gate.hold)
        future = runner.submit(gate.hold)
        waiter = asyncio.create_task(awaiting(future))
        await asyncio.sleep(0)
        assert future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

    asyncio.run(main())


def test_a_kill_fails_the_coroutine_and_does_not_cancel_it(runners: Runners, gate: Gate) -> None:
    runner = runners.start()

    async def main() -> None:
        runner.submit(gate.hold)
        await until(lambda: runner.stats().running_tasks == 1)
        waiter = asyncio.create_task(awaiting(runner.submit(gate.hold)))
        await asyncio.sleep(0)
        kill = Call(runner.kill)
        with pytest.raises(TaskCancelled):
            await waiter
        assert not waiter.cancelled()
        gate.open()
        kill.result()

    asyncio.run(main())


def test_a_wrapped_future_cancels_a_task_that_waits(runners: Runners, gate: Gate) -> None:
    runner = runners.start()

    async def main() -> bool:
        runner.submit(gate.hold)
        future = runner.submit(gate.hold)
        wrapped = asyncio.wrap_future(future)
        wrapped.cancel()
        await until(future.cancelled)
        return future.cancelled()

    assert asyncio.run(main())


def test_a_loop_that_is_gone_troubles_nobody(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    future = runner.submit(gate.hold)

    async def abandon() -> None:
        asyncio.wrap_future(future)

    asyncio.run(abandon())
    gate.open()
    assert future.result(LONG_TIMEOUT) is None
    assert runner.queue_task(lambda _: 7) == 7


def test_in_a_thread_with_a_running_loop_a_full_queue_raises(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_queue_size=1)
    runner.submit(gate.hold)
    gate.wait_for()
    runner.submit(gate.hold)

    async def main() -> None:
        for view in (runner, runner.options(priority=Priority.HIGH, timeout=LONG_TIMEOUT)):
            with pytest.raises(QueueFull, match="running event loop"):
                view.submit(gate.hold)
            with pytest.raises(QueueFull, match="running event loop"):
                view.queue_task(gate.hold)

    asyncio.run(main())


def test_the_outcome_of_a_failed_await_lives_no_longer_than_the_error(
    runners: Runners, no_collector: None
) -> None:
    del no_collector
    runner = runners.start()

    async def main() -> weakref.ref[BaseException]:
        try:
            await runner.submit(break_down)
        except Broken as error:
            return weakref.ref(error)
        raise AssertionError

    ref = asyncio.run(main())
    eventually(lambda: ref() is None)


def test_run_in_executor_style_waiting_works(runners: Runners) -> None:
    """A blocking verb in a thread of asyncio's own."""
    runner = runners.start()

    async def main() -> int:
        return await asyncio.to_thread(runner.queue_task, lambda _: 7)

    assert asyncio.run(main()) == 7


@pytest.mark.stress
def test_thousands_of_awaits_each_get_their_own_result(runners: Runners) -> None:
    runner = runners.start(worker_count=4)

    async def client(i: int) -> int:
        return await runner.submit(lambda _, x: x, i)

    async def main() -> list[int]:
        return await asyncio.gather(*(client(i) for i in range(2_000)))

    assert asyncio.run(main()) == list(range(2_000))


def test_any_future_may_be_awaited_with_standard_ones(runners: Runners) -> None:
    runner = runners.start()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        async def main() -> tuple[int, int]:
            theirs = asyncio.wrap_future(pool.submit(lambda: 1))
            return await asyncio.gather(theirs, runner.submit(lambda _: 2))

        assert list(asyncio.run(main())) == [1, 2]


def test_an_outcome_that_no_coroutine_can_get_leaves_nobody_waiting() -> None:
    future = Future[None]()

    async def main() -> None:
        waiting = asyncio.create_task(awaiting(future))
        await asyncio.sleep(0)
        future.set_exception(StopIteration())
        await waiting

    with pytest.raises((TypeError, RuntimeError), match="StopIteration"):
        asyncio.run(main())
