"""A batcher of a runner and that of its double make the same calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tasker import ConfigError, Priority, Retry, RunnerStopped, TaskCancelled, current_context
from tests.behaviour.support import AnyRunner, Bench
from tests.native.support import LONG_TIMEOUT, Broken, Resource, is_healthy


class Calls:
    """Batch functions that keep book."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.attempts: list[int] = []

    def double(self, _resource: Resource, items: list[int]) -> list[int | Exception]:
        """Doubles each item, but for one."""
        self.batches.append(items)
        self.attempts.append(current_context().attempt)
        return [KeyError(13) if item == 13 else 2 * item for item in items]

    def break_on_first(self, resource: Resource, items: list[int]) -> list[int | Exception]:
        """Finds the first resource bad."""
        results = self.double(resource, items)
        if resource.number == 0:
            raise Broken
        return results

    def refuse_odd(self, resource: Resource, items: list[int]) -> list[int | Exception]:
        """Cannot bear an odd item."""
        results = self.double(resource, items)
        if any(item % 2 for item in items):
            message = "odd"
            raise ValueError(message)
        return results


@pytest.fixture
def calls() -> Calls:
    return Calls()


def outcomes(futures: list[Any]) -> list[Any]:
    errors = [future.exception(LONG_TIMEOUT) for future in futures]
    return [
        future.result() if error is None else type(error)
        for future, error in zip(futures, errors, strict=True)
    ]


def counted(runner: AnyRunner) -> tuple[int, ...]:
    metrics = runner.metrics()
    return (
        metrics.total_tasks_completed,
        metrics.total_tasks_failed,
        metrics.total_tasks_retried,
        metrics.total_tasks_cancelled,
        metrics.total_tasks_dropped,
    )


def test_what_waits_runs_together_the_higher_classes_first(bench: Bench, calls: Calls) -> None:
    runner, let_run = bench.start_held()
    before = runner.stats().queued_tasks
    batcher = runner.batcher(calls.double, max_size=3, key=lambda item: item > 10)
    urgent = batcher.options(priority=Priority.HIGH)
    futures = [batcher.submit(item) for item in (1, 2, 13, 3)] + [urgent.submit(4)]
    assert runner.stats().queued_tasks - before == 5
    let_run()
    assert outcomes(futures) == [2, 4, KeyError, 6, 8]
    assert calls.batches == [[4, 1, 2], [13], [3]]


def test_an_item_alone_is_a_call(bench: Bench, calls: Calls) -> None:
    batcher = bench.start().batcher(calls.double, max_size=3)
    assert (batcher.queue_task(1), batcher.submit(2).result(LONG_TIMEOUT)) == (2, 4)

    async def ask() -> int | Exception:
        return await batcher.asubmit(3)

    assert asyncio.run(ask()) == 6
    assert calls.batches == [[1], [2], [3]]


def test_a_call_on_a_bad_resource_is_made_again_as_a_whole(bench: Bench, calls: Calls) -> None:
    runner, let_run = bench.start_held(check_health=is_healthy)
    batcher = runner.batcher(calls.break_on_first, max_size=3, split_failed=True)
    futures = [batcher.submit(item) for item in range(4)]
    let_run()
    assert outcomes(futures) == [0, 2, 4, 6]
    assert calls.batches == [[0, 1, 2], [0, 1, 2], [3]]
    assert calls.attempts == [1, 2, 1]
    assert counted(runner)[1:3] == (0, 3)


def test_items_that_must_not_run_twice_fail_with_the_resource(bench: Bench, calls: Calls) -> None:
    runner, let_run = bench.start_held(check_health=is_healthy)
    batcher = runner.options(once=True).batcher(calls.break_on_first, max_size=3)
    futures = [batcher.submit(item) for item in range(2)]
    let_run()
    assert outcomes(futures) == [Broken, Broken]
    assert calls.batches == [[0, 1]]


def test_split_failed_runs_items_one_by_one(bench: Bench, calls: Calls) -> None:
    runner, let_run = bench.start_held()
    batcher = runner.batcher(calls.refuse_odd, max_size=3, split_failed=True)
    futures = [batcher.submit(item) for item in (0, 1, 2)]
    let_run()
    assert outcomes(futures) == [0, ValueError, 4]
    assert calls.batches == [[0, 1, 2], [0], [1], [2]]
    assert calls.attempts == [1, 2, 2, 2]
    assert counted(runner)[1:3] == (1, 3)


def test_a_retry_makes_the_whole_call_again(bench: Bench, calls: Calls) -> None:
    runner, let_run = bench.start_held()
    view = runner.options(retry=Retry(on=ValueError, attempts=2, wait=0.001))
    batcher = view.batcher(calls.refuse_odd, max_size=3)
    futures = [batcher.options(name="again").submit(item) for item in (0, 1, 2)]
    let_run()
    assert outcomes(futures) == [ValueError] * 3
    assert calls.batches == [[0, 1, 2]] * 2
    assert calls.attempts == [1, 2]
    assert counted(runner)[1:3] == (3, 3)


def test_a_call_is_split_when_its_retries_are_used_up(bench: Bench, calls: Calls) -> None:
    runner, let_run = bench.start_held()
    view = runner.options(retry=Retry(on=ValueError, attempts=2, wait=0.001))
    batcher = view.batcher(calls.refuse_odd, max_size=3, split_failed=True)
    futures = [batcher.submit(item) for item in (0, 1)]
    let_run()
    assert outcomes(futures) == [0, ValueError]
    assert calls.batches == [[0, 1], [0, 1], [0], [1]]


def take_next(results: list[Any]) -> Callable[[Resource, list[int]], Any]:
    def call(_resource: Resource, _items: list[int]) -> Any:
        return results.pop(0)

    return call


def test_another_number_of_results_fails_all(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    results: list[Any] = [[1], None]
    batcher = runner.batcher(take_next(results), max_size=3)
    futures = [batcher.submit(item) for item in range(2)]
    let_run()
    assert outcomes(futures) == [ValueError, ValueError]
    assert "returned 1 results for 2 items" in str(futures[0].exception())
    future = batcher.submit(1)
    let_run()
    assert isinstance(future.exception(LONG_TIMEOUT), TypeError)


def test_what_is_cancelled_or_dropped_is_left_out(bench: Bench, calls: Calls) -> None:
    runner, let_run = bench.start_held()
    batcher = runner.batcher(calls.double, max_size=3)
    futures = [batcher.submit(item) for item in range(3)]
    assert futures[1].cancel()
    dropped = [task for task in runner.cancel_queued() if task.args]
    assert [task.args for task in dropped] == [(0,), (2,)]
    assert isinstance(futures[0].exception(LONG_TIMEOUT), TaskCancelled)
    again = [task.submit_to(runner) for task in dropped]
    let_run()
    assert outcomes(again) == [0, 4]
    assert calls.batches == [[0, 2]]


def test_map_and_amap_give_the_results_in_order(bench: Bench, calls: Calls) -> None:
    batcher = bench.start().batcher(calls.double, max_size=3)
    assert list(batcher.map(range(8))) == [2 * item for item in range(8)]

    async def ask() -> list[int | Exception]:
        return [result async for result in batcher.amap(range(8))]

    assert asyncio.run(ask()) == [2 * item for item in range(8)]
    results = batcher.map([1, 13, 2])
    assert next(results) == 2
    with pytest.raises(KeyError) as caught:
        next(results)
    assert caught.value.__notes__ == ["tasker: raised for the item at index 1"]


@pytest.mark.parametrize("error", [KeyError, StopIteration])
def test_a_key_that_raises_fails_its_item_and_ends_a_map_at_its_place(
    bench: Bench, calls: Calls, error: type[Exception]
) -> None:
    def key(item: int) -> int:
        if item:
            raise error
        return 0

    batcher = bench.start().batcher(calls.double, max_size=4, key=key)
    # In silence it would end the iteration that it passes.
    expected = RuntimeError if error is StopIteration else error

    async def ask() -> None:
        with pytest.raises(expected):
            await batcher.asubmit(1)
        results = batcher.amap([0, 1, 2])
        assert await anext(results) == 0
        with pytest.raises(expected):
            await anext(results)

    failed = batcher.submit(1).exception(0)
    assert isinstance(failed, expected)
    assert isinstance(failed.__cause__, StopIteration) == (error is StopIteration)
    with pytest.raises(expected):
        batcher.queue_task(1)
    results = batcher.map([0, 1, 2])
    assert next(results) == 0
    with pytest.raises(expected):
        next(results)
    asyncio.run(ask())


def test_settings_and_refusals(bench: Bench, calls: Calls) -> None:
    runner = bench.start()
    with pytest.raises(ConfigError, match="max_size"):
        runner.batcher(calls.double, max_size=0)
    with pytest.raises(ConfigError, match="split_failed"):
        runner.options(once=True).batcher(calls.double, max_size=2, split_failed=True)
    broken = runner.batcher(calls.double, max_size=2, key=lambda _: 1 // 0)
    assert isinstance(broken.submit(1).exception(0), ZeroDivisionError)
    batcher = runner.batcher(calls.double, max_size=2)
    runner.stop()
    with pytest.raises(RunnerStopped):
        batcher.submit(1)
