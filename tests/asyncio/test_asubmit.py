"""`asubmit`: real asyncio futures that get a task's outcome, with the options of a task."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from tasker import Priority, RunnerStopped, TaskTimeout, current_context
from tests.asyncio.support import Run, new_loop
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Gate,
    Resource,
    Runners,
    break_down,
    is_healthy,
)


def add(_resource: Resource, a: int, b: int = 0) -> int:
    return a + b


def test_it_gives_the_result(runners: Runners, run: Run) -> None:
    runner = runners.start()

    async def main() -> tuple[int, int]:
        return await runner.asubmit(add, 1, 2), await runner.options().asubmit(add, 3, b=4)

    assert run(main()) == (3, 7)


def test_it_raises_the_tasks_own_error(runners: Runners, run: Run) -> None:
    error = Broken()

    def fail(_resource: Resource) -> None:
        raise error

    runner = runners.start()

    async def main() -> None:
        await runner.asubmit(fail)

    with pytest.raises(Broken) as raised:
        run(main())
    assert raised.value is error


@pytest.mark.parametrize("error", [StopIteration(1), StopAsyncIteration()])
def test_an_error_that_would_end_an_iteration_does_not(
    runners: Runners, run: Run, error: Exception
) -> None:
    def fail(_resource: Resource) -> None:
        raise error

    runner = runners.start()

    async def main() -> BaseException | None:
        try:
            await runner.asubmit(fail)
        except (RuntimeError, StopAsyncIteration) as raised:
            return raised.__cause__ or raised
        return None

    assert run(main()) is error


def test_a_stop_iteration_may_be_a_result(runners: Runners, run: Run) -> None:
    runner = runners.start()

    async def main() -> StopIteration:
        return await runner.asubmit(lambda _: StopIteration(1))

    assert run(main()).value == 1


def test_the_future_is_one_of_the_running_loop(runners: Runners, run: Run) -> None:
    runner = runners.start()

    async def main() -> None:
        future = runner.asubmit(add, 1)
        assert isinstance(future, asyncio.Future)
        assert asyncio.isfuture(future)
        assert future.get_loop() is asyncio.get_running_loop()
        assert not future.done()
        assert await future == 1
        assert (future.done(), future.result(), future.exception()) == (True, 1, None)

    run(main())


def test_it_is_fit_for_everything_that_takes_futures(runners: Runners, run: Run) -> None:
    runner = runners.start(worker_count=2)

    async def one(i: int) -> int:
        return await runner.asubmit(add, i)

    async def main() -> None:
        assert await asyncio.gather(*(runner.asubmit(add, i) for i in range(50))) == [*range(50)]
        done, pending = await asyncio.wait({runner.asubmit(add, i) for i in range(5)})
        assert (sorted(each.result() for each in done), pending) == ([*range(5)], set())
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(i)) for i in range(5)]
        assert [task.result() for task in tasks] == [*range(5)]
        assert await asyncio.wait_for(runner.asubmit(add, 1), LONG_TIMEOUT) == 1
        assert await asyncio.shield(runner.asubmit(add, 2)) == 2
        assert [await each for each in asyncio.as_completed([runner.asubmit(add, 3)])] == [3]

    run(main())


def test_a_done_callback_is_called_in_the_loop(runners: Runners, run: Run) -> None:
    runner = runners.start()

    async def main() -> None:
        seen = asyncio.Event()
        threads: list[int] = []

        def note(_future: asyncio.Future[int]) -> None:
            threads.append(threading.get_ident())
            seen.set()

        runner.asubmit(add, 1).add_done_callback(note)
        await seen.wait()
        assert threads == [threading.get_ident()]

    run(main())


def test_the_loop_goes_on_while_a_task_runs(runners: Runners, run: Run, gate: Gate) -> None:
    runner = runners.start()

    async def main() -> str:
        future = runner.asubmit(gate.hold_then_return, "done")
        for _ in range(10):
            await asyncio.sleep(0)
        assert not future.done()
        gate.open()
        return await future

    assert run(main()) == "done"


def test_the_options_of_a_view_hold(runners: Runners, run: Run, gate: Gate) -> None:
    runner = runners.start(check_health=is_healthy)
    order: list[str] = []

    def note(_resource: Resource) -> None:
        order.append(current_context().task_name)

    async def main() -> None:
        held = runner.asubmit(gate.hold)
        await asyncio.to_thread(gate.wait_for)
        late = runner.options(timeout=0.02).asubmit(note)
        low = runner.options(priority=Priority.LOW, name="low").asubmit(note)
        high = runner.options(priority=Priority.HIGH, name="high").asubmit(note)
        with pytest.raises(TaskTimeout):
            await late
        gate.open()
        await asyncio.gather(held, low, high)
        with pytest.raises(Broken) as once:
            await runner.options(once=True).asubmit(break_down)
        assert not hasattr(once.value, "__notes__")

    run(main())
    assert order == ["high", "low"]


def test_a_bad_resource_is_replaced_and_the_task_tried_again(runners: Runners, run: Run) -> None:
    runner = runners.start(check_health=is_healthy)
    seen: list[Resource] = []

    def fail_once(resource: Resource) -> int:
        seen.append(resource)
        if len(seen) == 1:
            raise Broken
        return len(seen)

    async def main() -> int:
        return await runner.asubmit(fail_once)

    assert run(main()) == 2
    assert seen[0] is not seen[1]


def test_a_task_sees_the_context_variables_of_its_coroutine(runners: Runners, run: Run) -> None:
    runner = runners.start()
    number = contextvars.ContextVar("number", default=0)

    async def one(i: int) -> int:
        number.set(i)
        return await runner.asubmit(lambda _: number.get())

    async def main() -> list[int]:
        return await asyncio.gather(*(one(i) for i in range(5)))

    assert run(main()) == [*range(5)]


def test_a_running_task_that_outlives_its_limit_fails_at_once(
    runners: Runners, run: Run, gate: Gate
) -> None:
    runner = runners.start(task_timeout=0.02, max_worker_count=2)

    async def main() -> None:
        with pytest.raises(TaskTimeout, match="did not finish"):
            await runner.asubmit(gate.hold)

    run(main())
    gate.open()


def test_without_a_running_loop_it_says_what_to_do(runners: Runners) -> None:
    runner = runners.start()
    with pytest.raises(RuntimeError, match=r"anyio\.to_thread\.run_sync\(future\.result\)"):
        runner.asubmit(add, 1)
    assert runner.metrics().total_tasks_arrived == 0


def test_what_cannot_be_called_is_refused_at_once(runners: Runners, run: Run) -> None:
    runner = runners.start()

    async def main() -> None:
        with pytest.raises(TypeError, match="must be callable"):
            runner.asubmit(7)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="'fn'"):
            runner.asubmit()  # type: ignore[call-overload]

    run(main())


def test_a_stopped_runner_refuses_at_once(runners: Runners, run: Run) -> None:
    runner = runners.start()
    runner.stop()

    async def main() -> None:
        with pytest.raises(RunnerStopped):
            runner.asubmit(add, 1)

    run(main())
    assert runner.metrics().total_tasks_refused == 1


def test_an_error_that_nobody_asks_for_is_reported_by_asyncio(runners: Runners, kind: str) -> None:
    runner = runners.start()
    complaints: list[object] = []
    error = Broken()

    def fail(_resource: Resource) -> None:
        raise error

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: complaints.append(context.get("exception"))
        )
        failed = asyncio.Event()
        runner.asubmit(fail).add_done_callback(lambda _: failed.set())
        await failed.wait()

    with asyncio.Runner(loop_factory=lambda: new_loop(kind)) as loop_runner:
        loop_runner.run(main())
    assert complaints == [error]


def test_asyncio_in_a_task_may_use_the_same_runner(runners: Runners, run: Run) -> None:
    runner = runners.start(worker_count=2)

    def inner(_resource: Resource) -> int:
        async def ask() -> int:
            return await runner.asubmit(add, 1, 2)

        return asyncio.run(ask())

    async def main() -> int:
        return await runner.asubmit(inner)

    assert run(main()) == 3


@pytest.mark.stress
def test_thousands_of_tasks_each_get_their_own_outcome(
    runners: Runners, run: Run, fast_switch: None
) -> None:
    del fast_switch
    runner = runners.start(worker_count=4)

    def odd_fails(_resource: Resource, i: int) -> int:
        if i % 2:
            raise ValueError(i)
        return i

    async def main() -> None:
        futures = [runner.asubmit(odd_fails, i) for i in range(4_000)]
        for i, outcome in enumerate(await asyncio.gather(*futures, return_exceptions=True)):
            assert outcome == i or (isinstance(outcome, ValueError) and outcome.args == (i,))

    run(main())
