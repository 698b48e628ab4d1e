"""What becomes of the items of an `amap` that fail: they end it, or are handed out."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tasker import ConfigError, Runner, RunnerBroken, RunnerStopped, TaskCancelled
from tests.asyncio.support import Run, until
from tests.native.support import Broken, Gate, Resource, Runners

ORDERED = pytest.mark.parametrize("ordered", [True, False])


def fail_at_thirds(_resource: Resource, number: int) -> int:
    if number % 3 == 0:
        raise ValueError(number)
    return number


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


@ORDERED
@pytest.mark.parametrize("slow", [False, True])
def test_failures_take_the_places_of_results(
    runners: Runners, run: Run, ordered: bool, slow: bool
) -> None:
    runner = runners.start(worker_count=2)

    async def main() -> list[int | Exception]:
        items = numbers(30) if slow else range(30)
        results = runner.amap(fail_at_thirds, items, ordered=ordered, return_exceptions=True)
        return [each async for each in results]

    results = run(main())
    values = [each.args[0] if isinstance(each, Exception) else each for each in results]
    assert (values if ordered else sorted(values)) == list(range(30))
    failures = [each for each in results if isinstance(each, Exception)]
    assert {each.args[0] for each in failures} == set(range(0, 30, 3))
    for each in failures:
        assert each.__notes__ == [f"tasker: raised for the item at index {each.args[0]}"]


def test_a_view_hands_out_too(runners: Runners, run: Run) -> None:
    view = runners.start().options(name="thirds")

    async def main() -> list[type]:
        return [type(x) async for x in view.amap(fail_at_thirds, range(4), return_exceptions=True)]

    assert run(main()) == [ValueError, int, int, ValueError]


@ORDERED
def test_an_item_that_raises_names_its_index(runners: Runners, run: Run, ordered: bool) -> None:
    runner = runners.start()

    async def main() -> None:
        async for each in runner.amap(fail_at_thirds, [1, 2, 3], ordered=ordered):
            assert each in (1, 2)

    with pytest.raises(ValueError, match="3") as raised:
        run(main())
    assert raised.value.__notes__ == ["tasker: raised for the item at index 2"]


@pytest.mark.parametrize("error", [BaseException("odd"), RunnerStopped("no"), RunnerBroken("no")])
def test_what_is_not_handed_out_ends_it(runners: Runners, run: Run, error: BaseException) -> None:
    runner = runners.start()

    def task(_resource: Resource, _number: int) -> None:
        raise error

    async def main() -> None:
        results = runner.amap(task, itertools.count(), return_exceptions=True)
        with pytest.raises(type(error)):
            await anext(results)
        assert [each async for each in results] == []

    run(main())


def test_an_input_that_raises_ends_it_at_its_place(runners: Runners, run: Run) -> None:
    runner = runners.start()

    async def broken() -> AsyncIterator[int]:
        yield 0
        raise Broken

    async def main() -> None:
        results = runner.amap(fail_at_thirds, broken(), return_exceptions=True)
        assert isinstance(await anext(results), ValueError)
        with pytest.raises(Broken) as raised:
            await anext(results)
        assert not hasattr(raised.value, "__notes__")

    run(main())


def test_a_stop_ends_an_endless_one(runners: Runners, run: Run) -> None:
    runner = runners.start()

    async def main() -> None:
        results = runner.amap(fail_at_thirds, itertools.count(), return_exceptions=True)
        await anext(results)
        await runner.astop()
        with pytest.raises(RunnerStopped):
            async for _ in results:
                pass

    run(main())


@ORDERED
def test_a_kill_ends_it(runners: Runners, run: Run, gate: Gate, ordered: bool) -> None:
    runner = runners.start()

    async def use_up(first: asyncio.Future[Any], results: AsyncIterator[Any]) -> None:
        await first
        async for _ in results:
            pass

    async def main() -> None:
        results = runner.amap(gate.hold, itertools.count(), ordered=ordered, return_exceptions=True)
        first = asyncio.ensure_future(anext(results))
        await asyncio.to_thread(gate.wait_for)
        kill = asyncio.ensure_future(runner.akill())
        await until(lambda: runner.state == "killed")
        gate.open()
        with pytest.raises(TaskCancelled):
            await use_up(first, results)
        await kill

    run(main())


def test_a_failure_that_was_handed_out_is_not_kept(
    runners: Runners, run: Run, no_collector: None
) -> None:
    del no_collector
    runner = runners.start()

    def fail(_resource: Resource, _number: int) -> None:
        raise Broken

    async def main() -> None:
        results = runner.amap(fail, range(3), buffersize=1, return_exceptions=True)
        failure = await anext(results)
        assert isinstance(failure, Broken)
        trace = weakref.ref(failure)
        del failure
        assert isinstance(await anext(results), Broken)
        await until(lambda: trace() is None)
        await results.aclose()

    run(main())


def test_it_is_a_bool(runners: Runners) -> None:
    runner: Runner[Resource] = runners.start()
    with pytest.raises(ConfigError, match="return_exceptions"):
        runner.amap(fail_at_thirds, [1], return_exceptions=1)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
