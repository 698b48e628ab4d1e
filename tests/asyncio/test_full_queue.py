"""`asubmit` on a full queue: the task waits for room by itself, and the loop goes on."""

from __future__ import annotations

import asyncio
import weakref

import pytest

from tasker import Priority, QueueFull, RunnerStopped, TaskCancelled
from tests.asyncio.support import Run, until
from tests.native.support import Call, Gate, Resource, Runners


def same(_resource: Resource, value: int) -> int:
    return value


def test_all_get_through_and_the_bound_holds(runners: Runners, run: Run, gate: Gate) -> None:
    runner = runners.start(max_queue_size=2)

    async def main() -> None:
        held = runner.asubmit(gate.hold)
        await asyncio.to_thread(gate.wait_for)
        futures = [runner.asubmit(same, i) for i in range(50)]
        await asyncio.sleep(0)
        assert runner.stats().queued_tasks == 2
        assert runner.metrics().total_tasks_arrived == 3
        gate.open()
        assert await asyncio.gather(*futures) == [*range(50)]
        await held

    run(main())
    metrics = runner.metrics()
    assert (metrics.total_tasks_arrived, metrics.total_tasks_refused) == (51, 0)


def test_the_most_urgent_is_let_in_first(runners: Runners, run: Run, gate: Gate) -> None:
    runner = runners.start(max_queue_size=1)
    order: list[Priority] = []

    def note(_resource: Resource, priority: Priority) -> None:
        order.append(priority)

    async def main() -> None:
        runner.asubmit(gate.hold)
        await asyncio.to_thread(gate.wait_for)
        runner.asubmit(same, 1)
        # There is one place: whoever is let in runs next.
        late = [runner.options(priority=each).asubmit(note, each) for each in Priority]
        gate.open()
        await asyncio.gather(*late)

    run(main())
    assert order == [Priority.HIGH, Priority.NORMAL, Priority.LOW]


def test_threads_and_tasks_stand_in_one_line(runners: Runners, run: Run, gate: Gate) -> None:
    runner = runners.start(max_queue_size=1)
    order: list[str] = []

    async def main() -> None:
        runner.asubmit(gate.hold)
        await asyncio.to_thread(gate.wait_for)
        runner.asubmit(lambda _: order.append("inside"))
        thread = Call(runner.submit, lambda _: order.append("thread"))
        await asyncio.to_thread(thread.wait_until_blocked)
        task = runner.asubmit(lambda _: order.append("task"))
        gate.open()
        await task
        assert order == ["inside", "thread", "task"]
        await asyncio.to_thread(thread.result)

    run(main())


def test_when_full_raise_raises_at_once(runners: Runners, run: Run, gate: Gate) -> None:
    runner = runners.start(max_queue_size=1, when_full="raise")

    async def main() -> None:
        runner.asubmit(gate.hold)
        await asyncio.to_thread(gate.wait_for)
        inside = runner.asubmit(same, 1)
        with pytest.raises(QueueFull, match="max_queue_size=1"):
            runner.asubmit(same, 2)
        gate.open()
        assert await inside == 1

    run(main())
    assert runner.metrics().total_tasks_refused == 1


def test_a_worker_of_the_runner_does_not_wait(runners: Runners, run: Run) -> None:
    runner = runners.start(max_queue_size=1)

    def inner(_resource: Resource) -> str:
        async def ask() -> str:
            runner.asubmit(same, 1)
            try:
                runner.asubmit(same, 2)
            except QueueFull as error:
                return str(error)
            return ""

        return asyncio.run(ask())

    async def main() -> str:
        return await runner.asubmit(inner)

    assert "must not wait" in run(main())


def test_a_cancelled_task_leaves_the_line_and_lets_go(
    runners: Runners, run: Run, gate: Gate, no_collector: None
) -> None:
    del no_collector
    runner = runners.start(max_queue_size=1)
    ran: list[int] = []

    async def main() -> None:
        runner.asubmit(gate.hold)
        await asyncio.to_thread(gate.wait_for)
        inside = runner.asubmit(lambda _: ran.append(1))

        class Argument:
            pass

        argument = Argument()
        gone = runner.asubmit(lambda _, argument: ran.append(2), argument)
        behind = runner.asubmit(lambda _: ran.append(3))
        ref = weakref.ref(argument)
        del argument
        assert gone.cancel()
        assert ref() is None
        gate.open()
        await asyncio.gather(inside, behind)
        assert gone.cancelled()

    run(main())
    assert ran == [1, 3]
    metrics = runner.metrics()
    # It was never accepted, so nothing accepted was cancelled.
    assert (metrics.total_tasks_arrived, metrics.total_tasks_cancelled) == (3, 0)


def test_the_place_of_a_cancelled_task_goes_to_the_next(
    runners: Runners, run: Run, gate: Gate
) -> None:
    runner = runners.start(max_queue_size=1)

    async def main() -> int:
        runner.asubmit(gate.hold)
        await asyncio.to_thread(gate.wait_for)
        inside = runner.asubmit(same, 1)
        waiting = runner.asubmit(same, 2)
        assert inside.cancel()
        assert runner.stats().queued_tasks == 1
        gate.open()
        return await waiting

    assert run(main()) == 2


def test_a_limit_that_passes_in_line_is_a_full_queue(
    runners: Runners, run: Run, gate: Gate
) -> None:
    runner = runners.start(max_queue_size=1)

    async def main() -> None:
        runner.asubmit(gate.hold)
        await asyncio.to_thread(gate.wait_for)
        inside = runner.asubmit(same, 1)
        with pytest.raises(QueueFull, match="time limit passed while it waited"):
            await runner.options(timeout=0.02).asubmit(same, 2)
        gate.open()
        assert await inside == 1

    run(main())
    metrics = runner.metrics()
    assert (metrics.total_tasks_refused, metrics.total_tasks_timed_out) == (1, 0)


def test_a_stop_refuses_who_stands_in_line(runners: Runners, run: Run, gate: Gate) -> None:
    runner = runners.start(max_queue_size=1)

    async def main() -> None:
        runner.asubmit(gate.hold)
        await asyncio.to_thread(gate.wait_for)
        inside, waiting = runner.asubmit(same, 1), runner.asubmit(same, 2)
        stop = asyncio.create_task(runner.astop())
        with pytest.raises(RunnerStopped):
            await waiting
        gate.open()
        assert await inside == 1
        await stop

    run(main())


def test_a_kill_does_not_hand_back_who_stands_in_line(
    runners: Runners, run: Run, gate: Gate
) -> None:
    runner = runners.start(max_queue_size=1)

    async def main() -> None:
        runner.asubmit(gate.hold)
        await asyncio.to_thread(gate.wait_for)
        inside, waiting = runner.asubmit(same, 1), runner.asubmit(same, 2)
        kill = asyncio.create_task(runner.akill())
        with pytest.raises(TaskCancelled):
            await inside
        with pytest.raises(RunnerStopped):
            await waiting
        gate.open()
        assert [task.args for task in await kill] == [(1,)]

    run(main())


def test_a_loop_that_is_gone_holds_nobody_up(runners: Runners, run: Run, gate: Gate) -> None:
    runner = runners.start(max_queue_size=1)
    ran: list[int] = []

    async def main() -> None:
        runner.asubmit(gate.hold)
        await asyncio.to_thread(gate.wait_for)
        for i in range(3):
            runner.asubmit(lambda _, i: ran.append(i), i)

    run(main())
    thread = Call(runner.submit, lambda _: ran.append(3))
    gate.open()
    thread.result().result()
    assert ran == [0, 1, 2, 3]


@pytest.mark.stress
def test_cancels_races_and_limits_leave_the_books_in_order(
    runners: Runners, run: Run, fast_switch: None
) -> None:
    del fast_switch
    runner = runners.start(worker_count=3, max_queue_size=3)

    async def main() -> None:
        limited = runner.options(timeout=0.001)
        for _ in range(20):
            futures = [(limited if i % 7 == 0 else runner).asubmit(same, i) for i in range(100)]
            await asyncio.sleep(0)
            for future in futures[::3]:
                future.cancel()
            await asyncio.gather(*futures, return_exceptions=True)
            for i, future in enumerate(futures):
                assert future.done()
                if i % 3 and i % 7:
                    assert future.result() == i
        await until(lambda: runner.stats().queued_tasks == 0)
        assert await runner.asubmit(same, 1) == 1

    run(main())
