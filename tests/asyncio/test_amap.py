"""`amap`: streaming results to coroutines, from input of both kinds."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from contextvars import ContextVar

import pytest

from tasker import ConfigError, QueueFull, Runner, RunnerStopped, current_context
from tests.asyncio.support import Run, until
from tests.native.support import LONG_TIMEOUT, Broken, Gate, Resource, Runners, eventually


def double(_resource: Resource, number: int) -> int:
    return 2 * number


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


class Endless:
    """0, 1, 2 … for as long as `amap` reads."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[int]:
        while True:
            self.read += 1
            yield self.read - 1

    async def __aiter__(self) -> AsyncIterator[int]:
        for number in self:
            await asyncio.sleep(0)
            yield number


class EndlessPrompt(Endless):
    """The same, not to be awaited."""

    __aiter__ = None  # type: ignore[assignment]


ENDLESS = pytest.mark.parametrize("endless", [Endless, EndlessPrompt])
ORDERED = pytest.mark.parametrize("ordered", [True, False])


@ORDERED
def test_it_gives_the_results(runners: Runners, run: Run, ordered: bool) -> None:
    runner = runners.start(worker_count=2)

    async def main() -> None:
        for view in (runner, runner.options()):
            for items in (range(100), numbers(100)):
                results = [x async for x in view.amap(double, items, ordered=ordered)]
                assert sorted(results) == [*range(0, 200, 2)]
                assert not ordered or results == sorted(results)

    run(main())


def test_no_input_gives_no_results(runners: Runners, run: Run) -> None:
    runner = runners.start()

    async def main() -> None:
        assert [x async for x in runner.amap(double, [])] == []
        assert [x async for x in runner.amap(double, numbers(0), ordered=False)] == []

    run(main())


def test_it_ends_with_the_shortest_of_several_inputs(runners: Runners, run: Run) -> None:
    runner = runners.start()

    def add(_resource: Resource, a: int, b: int, c: int) -> int:
        return a + b + c

    async def main() -> None:
        mixed = runner.amap(add, range(10), numbers(3), itertools.count())
        assert [x async for x in mixed] == [0, 3, 6]
        prompt = runner.amap(add, range(10), [1, 2], itertools.count())
        assert [x async for x in prompt] == [1, 4]

    run(main())


@ENDLESS
@ORDERED
def test_it_looks_ahead_so_far_and_no_further(
    runners: Runners, run: Run, endless: type[Endless], ordered: bool
) -> None:
    runner, source = runners.start(), endless()

    async def main() -> None:
        async with aclosing(runner.amap(double, source, buffersize=7, ordered=ordered)) as results:
            assert source.read == 0
            for taken in range(1, 50):
                await anext(results)
                assert source.read <= taken + 7

    run(main())
    assert source.read < 100


@ENDLESS
def test_without_a_number_it_looks_ahead_further_while_that_pays(
    runners: Runners, run: Run, endless: type[Endless]
) -> None:
    runner, source = runners.start(), endless()

    async def main() -> None:
        async with aclosing(runner.amap(double, source)) as results:
            await anext(results)
            assert source.read <= 3
            async for _ in results:
                if source.read > 10_000:
                    break

    run(main())


def test_results_may_come_as_they_finish(runners: Runners, run: Run, gate: Gate) -> None:
    runner = runners.start(worker_count=2)

    def first_waits(_resource: Resource, number: int) -> int:
        if number == 0:
            gate.hold()
        return number

    async def main() -> None:
        async with aclosing(
            runner.amap(first_waits, range(10), buffersize=10, ordered=False)
        ) as results:
            early = [await anext(results) for _ in range(9)]
            assert sorted(early) == [*range(1, 10)]
            gate.open()
            assert [x async for x in results] == [0]

    run(main())


def test_a_result_is_given_while_the_input_is_waited_for(runners: Runners, run: Run) -> None:
    runner = runners.start()
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[int]:
        yield 1
        await go_on.wait()
        yield 2

    async def main() -> None:
        async with aclosing(runner.amap(double, slow())) as results:
            assert await anext(results) == 2
            go_on.set()
            assert await anext(results) == 4

    run(main())


@ORDERED
def test_a_failing_item_raises_at_its_place_and_cancels_the_rest(
    runners: Runners, run: Run, gate: Gate, ordered: bool
) -> None:
    runner = runners.start()
    ran: list[int] = []

    def fail_at_two(_resource: Resource, number: int) -> int:
        if number == 2:
            raise Broken
        if number > 2:
            gate.hold()
        ran.append(number)
        return number

    async def main() -> None:
        results = runner.amap(fail_at_two, range(20), buffersize=10, ordered=ordered)
        assert [await anext(results), await anext(results)] == [0, 1]
        with pytest.raises(Broken):
            await anext(results)
        gate.open()
        with pytest.raises(StopAsyncIteration):
            await anext(results)
        await until(lambda: runner.stats().queued_tasks + runner.stats().running_tasks == 0)

    run(main())
    assert ran in ([0, 1], [0, 1, 3])


@pytest.mark.parametrize("slow", [False, True])
def test_an_input_that_raises_does_so_at_its_place(runners: Runners, run: Run, slow: bool) -> None:
    runner = runners.start()

    def broken() -> Iterator[int]:
        yield 1
        raise Broken

    async def slowly_broken() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(0)
        raise Broken

    async def main() -> None:
        results = runner.amap(double, slowly_broken() if slow else broken())
        assert await anext(results) == 2
        with pytest.raises(Broken):
            await anext(results)

    run(main())


@ENDLESS
@ORDERED
def test_closing_cancels_what_has_not_started(
    runners: Runners, run: Run, gate: Gate, endless: type[Endless], ordered: bool
) -> None:
    runner = runners.start()
    told: list[bool] = []

    def first_passes(_resource: Resource, number: int) -> int:
        if number:
            gate.hold()
            told.append(current_context().cancelled)
        return number

    async def main() -> None:
        results = runner.amap(first_passes, endless(), buffersize=5, ordered=ordered)
        assert await anext(results) == 0
        waiting = asyncio.ensure_future(anext(results))
        await asyncio.to_thread(gate.wait_for)
        waiting.cancel()
        await asyncio.wait([waiting])
        await results.aclose()
        await until(lambda: runner.stats().queued_tasks == 0)
        gate.open()

    run(main())
    runner.stop()
    assert told == [False]


def test_an_iteration_that_is_left_cancels_what_has_not_started(
    runners: Runners, run: Run, gate: Gate
) -> None:
    runner = runners.start()

    def first_passes(_resource: Resource, number: int) -> int:
        if number:
            gate.hold()
        return number

    async def main() -> None:
        async for _ in runner.amap(first_passes, range(10), buffersize=5):
            break
        # The loop closes a generator that nobody refers to any more.
        gc.collect()
        await until(lambda: runner.stats().queued_tasks == 0)
        gate.open()

    run(main())
    assert runner.metrics().total_tasks_cancelled >= 3


def test_a_result_handed_out_is_not_kept(runners: Runners, run: Run, no_collector: None) -> None:
    del no_collector

    class Big:
        pass

    alive: list[weakref.ref[Big]] = []

    def make(_resource: Resource, _number: int) -> Big:
        big = Big()
        alive.append(weakref.ref(big))
        return big

    runner = runners.start()

    async def main() -> None:
        async for big in runner.amap(make, range(60), buffersize=4):
            del big
            assert sum(ref() is not None for ref in alive) <= 5

    run(main())


def test_the_error_of_an_item_lives_no_longer_than_it_is_handled(
    runners: Runners, run: Run, no_collector: None
) -> None:
    del no_collector

    def fail(_resource: Resource, _number: int) -> None:
        raise Broken

    runner = runners.start()

    async def main() -> list[weakref.ref[Broken]]:
        refs = []
        for items in (range(3), numbers(3)):
            try:
                async for _ in runner.amap(fail, items):
                    pass
            except Broken as error:
                refs.append(weakref.ref(error))
        return refs

    refs = run(main())
    # The worker may have yet to let go of its last task.
    eventually(lambda: [ref() for ref in refs] == [None, None])


def test_it_waits_for_room_in_a_bounded_queue(runners: Runners, run: Run) -> None:
    runner = runners.start(worker_count=2, max_queue_size=1)

    async def main() -> None:
        results = [x async for x in runner.amap(double, range(100), buffersize=20)]
        assert results == [*range(0, 200, 2)]

    run(main())


def test_it_comes_back_when_the_queue_raises(runners: Runners, run: Run) -> None:
    runner = runners.start(max_queue_size=1, when_full="raise")

    async def main() -> None:
        results = [x async for x in runner.amap(double, range(100), buffersize=20)]
        assert results == [*range(0, 200, 2)]

    run(main())
    metrics = runner.metrics()
    assert (metrics.total_tasks_arrived, metrics.total_tasks_refused) == (100, 0)


def test_items_of_a_batcher_come_back_when_the_queue_raises(runners: Runners, run: Run) -> None:
    runner = runners.start(max_queue_size=1, when_full="raise")

    def double_all(_resource: Resource, items: list[int]) -> list[int]:
        return [2 * item for item in items]

    batcher = runner.batcher(double_all, max_size=2)

    async def main() -> None:
        results = [x async for x in batcher.amap(range(100), buffersize=20)]
        assert results == [*range(0, 200, 2)]

    run(main())
    metrics = runner.metrics()
    assert (metrics.total_tasks_arrived, metrics.total_tasks_refused) == (100, 0)


def test_a_queue_full_of_others_raises(runners: Runners, run: Run, gate: Gate) -> None:
    runner = runners.start(max_queue_size=1, when_full="raise")

    async def main() -> None:
        runner.submit(gate.hold)
        await asyncio.to_thread(gate.wait_for)
        runner.submit(gate.hold)
        with pytest.raises(QueueFull):
            await anext(runner.amap(double, range(3)))
        gate.open()

    run(main())


def test_a_stopped_runner_refuses(runners: Runners, run: Run) -> None:
    runner = runners.start()
    runner.stop()

    async def main() -> None:
        with pytest.raises(RunnerStopped):
            await anext(runner.amap(double, range(3)))

    run(main())


def test_wrong_arguments_are_refused_at_once(runners: Runners) -> None:
    runner: Runner[Resource] = runners.start()
    with pytest.raises(TypeError, match="at least one iterable"):
        runner.amap(double)  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="buffersize"):
        runner.amap(double, [1], buffersize=0)
    with pytest.raises(ConfigError, match="ordered"):
        runner.amap(double, [1], ordered=1)  # type: ignore[call-overload]


def test_an_input_under_way_is_given_up_with_the_iteration(runners: Runners, run: Run) -> None:
    runner = runners.start()
    ended = threading.Event()

    async def hangs() -> AsyncIterator[int]:
        yield 1
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def main() -> None:
        async with aclosing(runner.amap(double, hangs())) as results:
            assert await anext(results) == 2
            waiting = asyncio.ensure_future(anext(results))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting], timeout=LONG_TIMEOUT)
        assert ended.is_set()

    run(main())


@pytest.mark.parametrize("ordered", [True, False])
def test_errors_behind_the_one_that_ended_it_are_not_reported(
    runners: Runners, run: Run, gate: Gate, ordered: bool
) -> None:
    runner = runners.start(worker_count=2)
    reported: list[object] = []

    def fail(_resource: Resource, item: int) -> None:
        if item == 0:
            gate.hold()
        raise Broken

    def over() -> int:
        metrics = runner.metrics()
        return metrics.total_tasks_failed + metrics.total_tasks_cancelled

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        results = runner.amap(fail, range(4), buffersize=4, ordered=ordered)
        first = asyncio.ensure_future(anext(results))
        # Where the first error to come ends it, the others may not have begun.
        await until(lambda: over() == 3)
        gate.open()
        with pytest.raises(Broken):
            await first
        await results.aclose()
        await until(lambda: over() == 4)
        gc.collect()
        await asyncio.sleep(0)
        gc.collect()

    run(main())
    assert reported == []


class InOneTask:
    """An input that insists on being read and closed in one task and one context."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.closed = False
        self.step: ContextVar[int] = ContextVar("step")

    async def __aiter__(self) -> AsyncIterator[int]:
        task = asyncio.current_task()
        token = self.step.set(0)
        try:
            async with asyncio.timeout(LONG_TIMEOUT):
                for number in range(self.count):
                    await asyncio.sleep(0)
                    assert self.step.get() == number, "the variable was lost"
                    assert asyncio.current_task() is task
                    self.step.set(number + 1)
                    yield number
        finally:
            await asyncio.sleep(0)
            self.step.reset(token)
            assert asyncio.current_task() is task
            self.closed = True


@ORDERED
def test_an_input_is_read_in_one_task(runners: Runners, run: Run, ordered: bool) -> None:
    runner = runners.start(worker_count=2)
    source = InOneTask(20)

    async def main() -> list[int]:
        return [number async for number in runner.amap(double, source, ordered=ordered)]

    assert sorted(run(main())) == [2 * number for number in range(20)]
    assert source.closed


def test_an_input_between_items_is_closed_in_its_task(runners: Runners, run: Run) -> None:
    runner = runners.start(worker_count=1)
    source = InOneTask(20)
    other = InOneTask(20)

    async def main() -> None:
        pairs = runner.amap(lambda _resource, a, b: a + b, source, other)
        async with aclosing(pairs):
            assert await anext(pairs) == 0
        assert source.closed
        assert other.closed

    run(main())


def test_a_cancelled_consumer_closes_the_input_in_its_task(runners: Runners, run: Run) -> None:
    runner = runners.start(worker_count=1)
    source = InOneTask(2)

    async def then_nothing() -> AsyncIterator[int]:
        async with aclosing(aiter(source)) as items:  # type: ignore[type-var]
            async for item in items:
                yield item
                if item == 1:
                    await asyncio.Event().wait()

    async def main() -> None:
        both = asyncio.Event()

        async def consume() -> None:
            async for result in runner.amap(double, then_nothing()):
                if result == 2:
                    both.set()

        consumer = asyncio.create_task(consume())
        await both.wait()
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        # The generator of a consumer that was cancelled is closed with it.
        assert source.closed

    run(main())


def test_what_an_input_raises_when_closed_is_raised(runners: Runners, run: Run) -> None:
    runner = runners.start(worker_count=1)

    async def source() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise Broken

    async def main() -> None:
        results = runner.amap(double, source(), buffersize=1)
        assert await anext(results) == 2
        with pytest.raises(Broken):
            await results.aclose()

    run(main())


def test_an_input_whose_task_was_cancelled_cancels_the_consumer(runners: Runners, run: Run) -> None:
    runner = runners.start(worker_count=1)
    readers: list[asyncio.Task[object] | None] = []

    async def source() -> AsyncIterator[int]:
        readers.append(asyncio.current_task())
        yield 1
        yield 2

    async def main() -> None:
        results = runner.amap(double, source(), buffersize=1)
        assert await anext(results) == 2
        (reader,) = readers
        assert reader is not None
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await anext(results)
        await results.aclose()

    run(main())
