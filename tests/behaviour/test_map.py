"""Many items at a time: `map`, `amap` and `submit_many`."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import operator
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tasker import ConfigError, Results
from tests.behaviour.support import Bench
from tests.native.support import LONG_TIMEOUT, Resource


def double(_resource: Resource, item: int) -> int:
    return 2 * item


ORDERED = pytest.mark.parametrize("ordered", [True, False])


@ORDERED
@pytest.mark.parametrize("buffersize", [None, 1, 3])
def test_map_gives_a_result_for_each_item(
    bench: Bench, ordered: bool, buffersize: int | None
) -> None:
    results = bench.start().map(double, range(20), ordered=ordered, buffersize=buffersize)
    assert isinstance(results, Results)
    assert sorted(results) == list(range(0, 40, 2))
    assert list(results) == []


def test_map_ends_with_the_shortest_input(bench: Bench) -> None:
    runner = bench.start()
    assert list(runner.map(lambda _, a, b: a + b, "abc", ["x", "y"])) == ["ax", "by"]
    assert list(runner.options(timeout=60).map(double, [])) == []


@ORDERED
def test_map_reads_an_endless_input_no_further_than_it_may(bench: Bench, ordered: bool) -> None:
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    with bench.start().map(double, numbers(), buffersize=3, ordered=ordered) as results:
        for taken in range(1, 6):
            next(results)
            assert len(read) <= taken + 3
    with pytest.raises(StopIteration):
        next(results)


def test_map_begins_at_once(bench: Bench) -> None:
    seen: list[int] = bench.notes()
    results = bench.start().map(lambda _, item: seen.append(item), [1, 2])
    bench.eventually(lambda: seen == [1, 2])
    results.close()


def test_an_item_that_fails_ends_the_map_at_its_place(bench: Bench) -> None:
    error = ValueError("three")

    def fail_at_three(_resource: Resource, item: int) -> int:
        if item == 3:
            raise error
        return item

    results = bench.start().map(fail_at_three, range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three") as raised:
        next(results)
    assert bench.is_same(raised.value, error)
    assert list(results) == []


def test_an_input_that_fails_raises_after_what_came_before(bench: Bench) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("input")

    results = bench.start().map(double, numbers())
    assert [next(results), next(results)] == [2, 4]
    with pytest.raises(ValueError, match="input"):
        next(results)
    assert list(results) == []


def test_an_input_that_fails_first_raises_at_once(bench: Bench) -> None:
    def numbers() -> Iterator[int]:
        raise ValueError("input")
        yield 1

    with pytest.raises(ValueError, match="input"):
        bench.start().map(double, numbers())


def test_map_refuses_what_it_cannot_read(bench: Bench) -> None:
    untyped: Any = bench.start()
    with pytest.raises(TypeError, match="at least one iterable"):
        untyped.map(double)
    with pytest.raises(TypeError, match="not iterable"):
        untyped.map(double, 7)
    with pytest.raises(TypeError, match="must be callable"):
        untyped.map(7, [1])
    with pytest.raises(ConfigError, match="buffersize must be at least 1, got 0"):
        untyped.map(double, [1], buffersize=0)


def test_map_tells_how_many_results_are_to_come(bench: Bench) -> None:
    results = bench.start().map(lambda _, a, b: (a, b), range(5), "abc")
    assert operator.length_hint(results) == 3
    next(results)
    assert operator.length_hint(results) == 2
    assert len(list(results)) == 2
    assert operator.length_hint(results, 7) == 0
    unknown = bench.start().map(double, iter([1]))
    assert operator.length_hint(unknown, 7) == 7


def test_an_input_cannot_read_its_own_results(bench: Bench) -> None:
    box: list[Results[int]] = []

    def numbers() -> Iterator[int]:
        yield 1
        while not box:
            yield 2
        with pytest.raises(RuntimeError):
            next(box[0])

    box.append(bench.start().map(double, numbers(), buffersize=1))
    assert next(iter(box[0])) == 2


def test_closing_a_map_cancels_what_waits(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    seen: list[int] = bench.notes()
    with runner.map(lambda _, item: seen.append(item), range(10), buffersize=4):
        pass
    assert runner.stats().queued_tasks == 0
    let_run()
    runner.stop()
    assert seen == []


def test_a_map_that_is_dropped_cancels_what_waits(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    results = runner.map(double, range(10), buffersize=4)
    del results
    bench.eventually(lambda: runner.stats().queued_tasks == 0)
    let_run()


def test_a_map_fits_itself_into_a_bounded_queue(bench: Bench) -> None:
    runner, let_run = bench.start_held(max_queue_size=2)
    results = runner.map(double, range(10), buffersize=5)
    assert runner.stats().queued_tasks == 2
    let_run()
    assert list(results) == list(range(0, 20, 2))
    assert runner.metrics().total_tasks_refused == 0


variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)


# Of the module: a variable cannot be sent to an actor inside a function.
def count_up(_resource: Resource, _item: int) -> int:
    variable.set(variable.get() + 1)
    return variable.get()


def test_each_item_gets_a_fresh_copy_of_the_variables(bench: Bench) -> None:
    def run() -> list[int]:
        variable.set(10)
        return list(bench.start().map(count_up, range(5)))

    assert contextvars.copy_context().run(run) == [11] * 5


# amap.


async def slowly(items: list[int]) -> AsyncIterator[int]:
    for item in items:
        await asyncio.sleep(0)
        yield item


@ORDERED
def test_amap_gives_a_result_for_each_item(bench: Bench, ordered: bool) -> None:
    runner = bench.start()

    async def main() -> list[int]:
        results = [result async for result in runner.amap(double, range(5), ordered=ordered)]
        view = runner.options(timeout=60)
        return results + [result async for result in view.amap(double, slowly([5, 6]))]

    assert sorted(asyncio.run(main())) == [0, 2, 4, 6, 8, 10, 12]


def test_amap_ends_with_the_error_of_an_item(bench: Bench) -> None:
    runner = bench.start()

    async def main() -> list[float]:
        results = runner.amap(lambda _, item: 1 / item, slowly([2, 1, 0]))
        done = [await anext(results), await anext(results)]
        with pytest.raises(ZeroDivisionError):
            await anext(results)
        return done

    assert asyncio.run(main()) == [0.5, 1.0]


def test_gather_and_cancel_take_what_asubmit_returns(bench: Bench) -> None:
    runner = bench.start()

    async def main() -> list[int]:
        done = await asyncio.gather(*(runner.asubmit(double, item) for item in range(3)))
        error = runner.asubmit(lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await error
        return done

    assert asyncio.run(main()) == [0, 2, 4]


def test_asubmit_needs_a_running_loop(bench: Bench) -> None:
    with pytest.raises(RuntimeError, match="in asyncio only; a plain function waits with submit"):
        bench.start().asubmit(double, 1)


# submit_many.


def test_submit_many_gives_a_future_for_each_item(bench: Bench) -> None:
    runner = bench.start()
    futures = runner.submit_many(double, iter([1, 2, 3]))
    assert [future.result(LONG_TIMEOUT) for future in futures] == [2, 4, 6]
    assert runner.submit_many(double, []) == []


def test_an_input_of_submit_many_that_fails_queues_nothing(bench: Bench) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise ValueError("input")

    runner = bench.start()
    with pytest.raises(ValueError, match="input"):
        runner.submit_many(double, numbers())
    assert runner.metrics().total_tasks_arrived == 0


# Failures in place of results.


def fail_at_odd(_resource: Resource, item: int) -> int:
    if item % 2:
        raise ValueError(item)
    return item


@ORDERED
def test_map_hands_out_failures_on_request(bench: Bench, ordered: bool) -> None:
    runner = bench.start()
    results = list(
        runner.map(fail_at_odd, range(4), ordered=ordered, return_exceptions=True, buffersize=2)
    )
    assert sorted(str(result) for result in results) == ["0", "1", "2", "3"]
    notes = [bench.notes_on(each) for each in results if isinstance(each, ValueError)]
    assert len(notes) == 2
    assert all(len(note) == 1 for note in notes)


def test_the_failure_of_an_item_names_it(bench: Bench) -> None:
    results = bench.start().map(fail_at_odd, [0, 2, 5])
    with pytest.raises(ValueError, match="5") as raised:
        list(results)
    assert "2" in bench.notes_on(raised.value)[0]


def test_a_failure_that_is_no_exception_ends_the_map_all_the_same(bench: Bench) -> None:
    def leave(_resource: Resource, _item: int) -> None:
        raise SystemExit(3)

    results = bench.start().map(leave, range(3), return_exceptions=True)
    with pytest.raises(SystemExit):
        next(results)
    assert list(results) == []


def test_amap_hands_out_failures_on_request(bench: Bench) -> None:
    runner = bench.start()

    async def main() -> list[str]:
        results = runner.amap(fail_at_odd, range(3), return_exceptions=True)
        return [repr(result) async for result in results]

    assert asyncio.run(main()) == ["0", "ValueError(1)", "2"]
