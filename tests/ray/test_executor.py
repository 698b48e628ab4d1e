"""A runner on Ray as a standard executor: functions without a resource, called at most once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from tasker import Config, ResourceLost, Runner, RunnerStopped, TaskNotPicklable
from tests.ray.conftest import Make
from tests.ray.functions import Resource, append, eventually, wait_for


def fail(path: Path) -> None:
    append({}, path, "failed")
    raise ConnectionResetError


def test_it_calls_functions_without_the_resource_in_an_actor(make: Make) -> None:
    with make().executor() as executor:
        assert isinstance(executor, concurrent.futures.Executor)
        assert executor.submit(int, "ff", base=16).result(timeout=60) == 255
        assert executor.submit(os.getpid).result(timeout=60) != os.getpid()
        assert list(executor.map(pow, [2, 3], [5, 2])) == [32, 9]
        done = concurrent.futures.as_completed([executor.submit(abs, -n) for n in range(3)])
        assert {each.result() for each in done} == {0, 1, 2}


def test_asyncio_runs_calls_in_it(make: Make) -> None:
    runner = make()

    async def main() -> int:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(runner.executor(), functools.partial(pow, 2), 5)

    assert asyncio.run(main()) == 32


def test_an_error_of_a_call_is_its_own_and_nothing_is_tried_again(
    make: Make, tmp_path: Path
) -> None:
    asked, begun = tmp_path / "asked", tmp_path / "begun"

    def is_broken(_resource: object, _error: BaseException) -> bool:
        asked.touch()
        return True

    runner = make(is_broken=is_broken)
    with pytest.raises(ConnectionResetError):
        runner.executor().submit(fail, begun).result(timeout=60)
    assert begun.read_text() == "failed\n"
    assert not asked.exists()
    assert runner.metrics().total_tasks_failed == 1


def test_what_began_on_an_actor_that_is_lost_is_not_begun_again(make: Make) -> None:
    future = make().executor().submit(os._exit, 1)
    with pytest.raises(ResourceLost):
        future.result(timeout=120)


def test_a_call_that_cannot_be_sent_is_refused(make: Make) -> None:
    executor = make().executor()
    with pytest.raises(TaskNotPicklable, match="its function"):
        executor.submit(threading.Lock().acquire)
    executor.shutdown()


def test_a_shutdown_waits_for_its_own_calls_alone(make: Make, tmp_path: Path) -> None:
    runner = make(worker_count=2)
    executor, other = runner.executor(), runner.executor()
    mine, others = tmp_path / "mine", tmp_path / "others"
    future, foreign = executor.submit(wait_for, {}, mine), other.submit(wait_for, {}, others)
    ending = threading.Thread(target=executor.shutdown)
    ending.start()
    eventually(lambda: executor._is_shut_down)
    assert not future.done()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(int)
    mine.touch()
    ending.join(60)
    assert not ending.is_alive()
    assert future.done()
    assert not foreign.done()
    others.touch()
    assert other.submit(int).result(timeout=60) == 0
    assert runner.state == "running"


def test_a_shutdown_can_cancel_its_calls_that_wait(make: Make, tmp_path: Path) -> None:
    runner, gate = make(settings={"max_out": 1}), tmp_path / "gate"
    executor, other = runner.executor(), runner.executor()
    held = executor.submit(wait_for, {}, gate)
    eventually(held.running)
    waiting, foreign = [executor.submit(int) for _ in range(3)], other.submit(int)
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(each.cancelled() for each in waiting)
    gate.touch()
    assert held.result(timeout=60) is None
    assert foreign.result(timeout=60) == 0


def test_a_shutdown_in_a_done_callback_does_not_wait_for_itself(make: Make, tmp_path: Path) -> None:
    runner, gate, over = make(), tmp_path / "gate", threading.Event()
    executor = runner.executor()
    first = executor.submit(wait_for, {}, gate)

    def shut_down(_future: object) -> None:
        executor.shutdown()
        over.set()

    first.add_done_callback(shut_down)
    second = executor.submit(int)
    gate.touch()
    assert over.wait(60)
    assert second.result(timeout=60) == 0


def test_a_refused_call_holds_up_no_shutdown(make: Make) -> None:
    runner = make()
    executor = runner.executor()
    runner.stop()
    with pytest.raises(RunnerStopped):
        executor.submit(int)
    executor.shutdown()


def test_a_kill_hands_back_what_another_runner_can_run(make: Make, tmp_path: Path) -> None:
    runner, gate = make(settings={"max_out": 1}), tmp_path / "gate"
    executor = runner.executor()
    held = executor.submit(wait_for, {}, gate)
    eventually(held.running)
    executor.submit(int, "7")
    killing: list[Any] = []
    thread = threading.Thread(target=lambda: killing.extend(runner.kill()))
    thread.start()
    eventually(lambda: runner.state == "killed")
    gate.touch()
    thread.join(60)
    (dropped,) = killing
    config: Config[Resource] = Config(on_create=dict, worker_count=1)
    with Runner(config) as local:
        assert dropped.submit_to(local).result(timeout=60) == 7
