"""`Runner.executor()`: a runner for code that wants a standard executor."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import sys
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tasker import (
    Future,
    QueueFull,
    Runner,
    RunnerExecutor,
    RunnerStopped,
    TaskCancelled,
    _executor,
)
from tests.native.support import LONG_TIMEOUT, Broken, Call, Gate, Resource, Runners, eventually


def give(*args: object, **kwargs: object) -> tuple[tuple[object, ...], dict[str, object]]:
    return args, kwargs


def test_it_is_a_standard_executor_that_calls_without_the_resource(runners: Runners) -> None:
    executor = runners.start().executor()
    assert isinstance(executor, concurrent.futures.ThreadPoolExecutor)
    assert executor.submit(give, 1, fn=2).result() == ((1,), {"fn": 2})
    assert list(executor.map(pow, [2, 3], [3, 2])) == [8, 9]


def test_tasks_of_the_runner_get_the_resource_all_the_same(runners: Runners) -> None:
    runner = runners.start()
    runner.executor().submit(int).result()
    assert runner.queue_task(type) is Resource


def test_asyncio_takes_it_as_default_executor(runners: Runners) -> None:
    executor = runners.start(worker_count=2).executor()

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(executor)
        return [
            await loop.run_in_executor(executor, pow, 2, 3),
            await loop.run_in_executor(None, pow, 2, 4),
            await asyncio.to_thread(pow, 2, 5),
        ]

    assert asyncio.run(main()) == [8, 16, 32]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)


def test_its_errors_say_nothing_about_the_resource(runners: Runners) -> None:
    def fail() -> None:
        raise Broken

    asked: list[BaseException] = []
    runner = runners.start(check_health=lambda error: bool(asked.append(error)))
    with pytest.raises(Broken):
        runner.executor().submit(fail).result()
    assert asked == []
    assert runner.metrics().total_tasks_retried == 0


def test_shutdown_waits_for_its_own_tasks_only(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    mine, others = Gate(), Gate()
    executor, other = runner.executor(), runner.executor()
    future, foreign = executor.submit(mine.hold), other.submit(others.hold)
    shutdown = Call(executor.shutdown)
    shutdown.wait_until_blocked()
    mine.open()
    shutdown.result()
    assert future.done()
    assert not foreign.done()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(int)
    others.open()
    assert other.submit(int).result() == 0
    assert runner.state == "running"


def test_shutdown_can_cancel_its_own_tasks(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    executor, other = runner.executor(), runner.executor()
    futures, foreign = [executor.submit(int) for _ in range(3)], other.submit(int)
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    gate.open()
    assert foreign.result() == 0


def test_shutdown_waits_for_a_submit_that_waits_for_room(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_queue_size=1)
    runner.submit(gate.hold)
    gate.wait_for()
    executor = runner.executor()
    executor.submit(int)
    late = Call(executor.submit, give, "late")
    late.wait_until_blocked()
    shutdown = Call(executor.shutdown)
    shutdown.wait_until_blocked()
    gate.open()
    shutdown.result()
    assert late.result().result(timeout=0) == (("late",), {})


def test_shutdown_on_a_worker_does_not_wait_for_itself(runners: Runners) -> None:
    executor = runners.start().executor()
    executor.submit(executor.shutdown).result(LONG_TIMEOUT)
    assert executor._shutdown


@pytest.mark.parametrize("given", [1, "yes", 0, None])
def test_shutdown_takes_any_truth_value(runners: Runners, gate: Gate, given: Any) -> None:
    executor = runners.start().executor()
    executor.submit(gate.hold, None)
    gate.wait_for()
    waiting, closing = executor.submit(int), Call(executor.shutdown, given, cancel_futures=given)
    eventually(lambda: executor._shutdown)
    if given:
        eventually(waiting.cancelled)
        closing.wait_until_blocked()
    else:
        closing.result()
        assert not waiting.cancelled()
    gate.open()
    closing.result()


def test_it_tells_how_many_workers_the_runner_may_have_now(runners: Runners) -> None:
    runner = runners.start()
    executor = runner.executor()
    assert executor._max_workers == 1
    runner.resize(worker_count=3)
    assert executor._max_workers == 3


def test_it_keeps_its_runner_alive(runners: Runners) -> None:
    runner = Runner(runners.config())
    executor, gone = runner.executor(), weakref.ref(runner)
    del runner
    assert executor.submit(int).result() == 0
    kept = gone()
    assert kept is not None
    kept.stop(LONG_TIMEOUT)


def test_it_obeys_the_bound_of_the_queue(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_queue_size=1, when_full="raise")
    runner.submit(gate.hold)
    gate.wait_for()
    executor = runner.executor()
    executor.submit(int)
    with pytest.raises(QueueFull):
        executor.submit(int)
    gate.open()
    executor.shutdown()


def test_a_stopped_runner_refuses_its_calls(runners: Runners) -> None:
    runner = runners.start()
    executor = runner.executor()
    runner.stop(LONG_TIMEOUT)
    assert executor._shutdown
    with pytest.raises(RunnerStopped, match="cannot schedule new futures after shutdown"):
        executor.submit(int)
    executor.shutdown()


def test_what_a_kill_drops_can_be_submitted_elsewhere(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    executor = runner.executor()
    future = executor.submit(give, 1, two=2)
    kill = Call(runner.kill)
    eventually(future.done)
    assert isinstance(future.exception(), TaskCancelled)
    gate.open()
    [dropped] = kill.result()
    again: Any = dropped.submit_to(runners.start()).result()
    assert again == ((1,), {"two": 2})
    executor.shutdown()


class InterruptAt:
    """Raises KeyboardInterrupt before the n-th step of *enter* and what it calls, as Ctrl-C may."""

    def __init__(self, enter: Callable[[], object], nth: int) -> None:
        self.entered = enter.__code__
        self.left = nth

    def __call__(self, frame: FrameType, event: str, _argument: object) -> InterruptAt | None:
        code = frame.f_code
        if code is not self.entered and code.co_filename != _executor.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


def test_a_task_whose_future_ctrl_c_takes_is_waited_for_all_the_same(runners: Runners) -> None:
    runner = runners.start()
    # Python 3.12 looks for a frame that wants it when a trace function is set.
    sys._getframe().f_trace_opcodes = True
    taken = 0
    for nth in itertools.count(1):
        executor, gate = runner.executor(), Gate()
        futures: list[Future[None]] = []

        def enter(executor: RunnerExecutor = executor, gate: Gate = gate) -> Future[None]:
            return executor.submit(gate.hold)

        arrived = runner.metrics().total_tasks_arrived
        before = sys.gettrace()
        sys.settrace(InterruptAt(enter, nth))
        try:
            futures.append(enter())
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        shutdown = Call(executor.shutdown)
        if runner.metrics().total_tasks_arrived > arrived:
            taken += not futures
            shutdown.wait_until_blocked()
        gate.open()
        shutdown.result()
        assert runner.stats().running_tasks + runner.stats().queued_tasks == 0
        if futures:
            break
    assert taken > 0
    assert nth > 3
