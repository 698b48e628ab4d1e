"""What becomes of outcomes when loops are slow, closed, or many."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.asyncio.support import Run, new_loop
from tests.native.support import Call, Gate, LogCapture, Resource, Runners, eventually


class Value:
    """A result that can be watched."""


def test_many_outcomes_come_with_one_call_of_the_loop(
    runners: Runners, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runners.start(worker_count=2)
    calls: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        call: Callable[..., asyncio.Handle] = loop.call_soon_threadsafe

        def count(callback: Callable[..., object], *args: Any, **kwargs: Any) -> asyncio.Handle:
            calls.append(1)
            return call(callback, *args, **kwargs)

        monkeypatch.setattr(loop, "call_soon_threadsafe", count)
        futures = [runner.asubmit(lambda _, i: i, i) for i in range(500)]
        # The loop is held until all are done.
        while runner.metrics().total_tasks_completed < 500:
            pass
        assert await asyncio.gather(*futures) == [*range(500)]
        monkeypatch.undo()

    run(main())
    assert len(calls) == 1


def test_a_loop_that_closed_while_tasks_ran_is_no_error(
    runners: Runners, kind: str, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    runner = runners.start(worker_count=2)
    loop = new_loop(kind)

    async def begin() -> None:
        for _ in range(20):
            runner.asubmit(gate.hold)
        await asyncio.to_thread(gate.wait_for, 2)

    loop.run_until_complete(begin())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    gate.open()
    eventually(lambda: runner.metrics().total_tasks_completed == 20)
    assert runner.queue_task(lambda _: 7) == 7
    assert caplog.records == []


def test_nothing_is_kept_for_a_closed_loop(
    runners: Runners, kind: str, gate: Gate, no_collector: None
) -> None:
    del no_collector
    runner = runners.start()
    loop = new_loop(kind)
    results: list[weakref.ref[Value]] = []

    def give(_resource: Resource) -> Value:
        gate.hold()
        value = Value()
        results.append(weakref.ref(value))
        return value

    async def begin() -> None:
        for _ in range(3):
            runner.asubmit(give)

    loop.run_until_complete(begin())
    loop.close()
    gate.open()
    runner.queue_task(lambda _: None)
    # What the loop and its futures keep of each other is the collector's.
    del loop
    gc.collect()
    assert [result() for result in results] == [None] * 3


def test_what_was_on_its_way_to_a_loop_that_closes_is_dropped(
    runners: Runners, kind: str, no_collector: None
) -> None:
    del no_collector
    runner = runners.start()
    loop = new_loop(kind)
    results: list[weakref.ref[Value]] = []

    def give(_resource: Resource) -> Value:
        value = Value()
        results.append(weakref.ref(value))
        return value

    async def begin() -> None:
        for _ in range(3):
            runner.asubmit(give)
        # The loop is held until all are on their way.
        while runner.metrics().total_tasks_completed < 3:
            pass

    loop.run_until_complete(begin())
    loop.close()
    del loop
    gc.collect()
    assert [result() for result in results] == [None] * 3
    assert runner.queue_task(lambda _: 7) == 7


def test_a_loop_that_pauses_gets_its_outcomes_when_it_goes_on(runners: Runners, kind: str) -> None:
    runner = runners.start()
    loop = new_loop(kind)

    async def begin() -> asyncio.Future[int]:
        return runner.asubmit(lambda _: 7)

    future = loop.run_until_complete(begin())
    eventually(lambda: runner.metrics().total_tasks_completed == 1)
    assert loop.run_until_complete(future) == 7
    loop.close()


def test_a_loop_may_go_on_in_another_thread(runners: Runners, kind: str, gate: Gate) -> None:
    runner = runners.start()
    loop = new_loop(kind)

    async def begin() -> asyncio.Future[str]:
        return runner.asubmit(gate.hold_then_return, "first")

    async def go_on(first: asyncio.Future[str]) -> tuple[str, str]:
        gate.open()
        return await asyncio.gather(first, runner.asubmit(lambda _: "second"))

    future = loop.run_until_complete(begin())
    assert [*Call(loop.run_until_complete, go_on(future)).result()] == ["first", "second"]
    loop.close()


def test_loops_in_several_threads_use_one_runner(runners: Runners, kind: str) -> None:
    runner = runners.start(worker_count=3)

    async def main(base: int) -> list[int]:
        found = []
        for _ in range(20):
            found += await asyncio.gather(
                *(runner.asubmit(lambda _, i: i, base + i) for i in range(20))
            )
        return found

    def run_loop(base: int) -> list[int]:
        with asyncio.Runner(loop_factory=lambda: new_loop(kind)) as loop_runner:
            return loop_runner.run(main(base))

    calls = [Call(run_loop, base) for base in (0, 1_000, 2_000)]
    for call, base in zip(calls, (0, 1_000, 2_000), strict=True):
        assert call.result() == [base + i for i in range(20)] * 20


def test_one_loop_after_the_other_uses_one_runner(runners: Runners, run: Run) -> None:
    runner = runners.start()

    async def main(i: int) -> int:
        return await runner.asubmit(lambda _: i)

    assert [run(main(i)) for i in range(5)] == [*range(5)]


def test_a_loop_is_not_kept_alive(runners: Runners, no_collector: None) -> None:
    del no_collector
    runner = runners.start()
    refs: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def main() -> int:
        refs.append(weakref.ref(asyncio.get_running_loop()))
        return await runner.asubmit(lambda _: 7)

    assert asyncio.run(main()) == 7
    gc.collect()
    assert refs[0]() is None


def test_a_loop_in_debug_mode_has_nothing_to_say(
    runners: Runners, caplog: pytest.LogCaptureFixture
) -> None:
    runner = runners.start()

    async def main() -> list[int]:
        asyncio.get_running_loop().slow_callback_duration = 60
        return await asyncio.gather(*(runner.asubmit(lambda _, i: i, i) for i in range(10)))

    assert asyncio.run(main(), debug=True) == [*range(10)]
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


def test_a_loop_that_cannot_be_called_is_logged_and_the_worker_goes_on(
    runners: Runners, log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runners.start()
    threads: list[str] = []

    def fail(*_args: object) -> None:
        threads.append(threading.current_thread().name)
        raise OSError

    async def main() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "call_soon_threadsafe", fail)
        runner.asubmit(lambda _: 1)
        eventually(lambda: threads)
        monkeypatch.undo()
        assert await runner.asubmit(lambda _: 2) == 2

    asyncio.run(main())
    (record,) = log.take()
    assert "event loop" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is OSError
