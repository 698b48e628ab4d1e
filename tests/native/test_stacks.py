"""Where the workers are, as the errors of a start or a stop that ran out of time tell it."""

from __future__ import annotations

import asyncio
import gc
import linecache
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasker import ResourceCreationError, Runner, StopTimeout
from tests.native.support import FREE_THREADED, LONG_TIMEOUT, Call, Gate, Runners

HERE = Path(__file__).name
LATE_STOPS = str(Path(__file__).parents[1] / "lifecycle" / "late_stops.py")

with_the_gil = pytest.mark.skipif(FREE_THREADED, reason="no stack is read where threads run on")


def running(runner: Runner[Any]) -> StopTimeout:
    with pytest.raises(StopTimeout) as raised:
        runner.stop(0.0)
    return raised.value


@with_the_gil
def test_a_task_is_shown_from_its_first_call_to_its_innermost(runners: Runners, gate: Gate) -> None:
    def outer(_: object) -> None:
        gate.hold()

    runner = runners.start()
    runner.submit(outer)
    gate.wait_for()
    (task,) = running(runner).running
    assert f'{HERE}", line' in task.stack[0]
    assert task.stack[0].splitlines()[0].endswith("in outer")
    assert task.stack[0].splitlines()[1] == "    gate.hold()"
    assert "in hold" in task.stack[1]
    assert "in wait" in task.stack[-1]


@with_the_gil
def test_a_lent_task_is_shown_where_its_caller_runs_it(runners: Runners, gate: Gate) -> None:
    runner = runners.start(thread_bound=False)

    def call_it() -> None:
        runner.run_task(gate.hold)

    call = Call(call_it)
    gate.wait_for()
    (task,) = running(runner).running
    functions = [line.splitlines()[0].rpartition(" in ")[2] for line in task.stack]
    assert functions.index("call_it") + 1 == functions.index("hold")
    gate.open()
    assert call.result() is None


def test_a_caller_that_has_left_is_shown_no_more(runners: Runners, gate: Gate) -> None:
    runner = runners.start(thread_bound=False, resource_pool_size=1)
    assert Call(runner.run_task, lambda _: 7).result() == 7
    runner.submit(gate.hold)
    gate.wait_for()
    (task,) = running(runner).running
    assert task.worker == "tasker-1-worker-1"


@with_the_gil
def test_a_deep_stack_is_cut_at_its_outer_end(runners: Runners, gate: Gate) -> None:
    def deep(_: object, levels: int) -> None:
        if levels:
            deeper(_, levels - 1)
        else:
            gate.hold()

    # Two by turns: the same call many times over is written once.
    def deeper(_: object, levels: int) -> None:
        deep(_, levels)

    runner = runners.start()
    runner.submit(deep, 300)
    gate.wait_for()
    (task,) = running(runner).running
    assert len(task.stack) == 100
    assert "in wait" in task.stack[-1]


@with_the_gil
def test_a_source_that_cannot_be_read_costs_its_lines_alone(
    runners: Runners, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> None:
        raise LookupError

    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    monkeypatch.setattr(linecache, "getlines", unreadable)
    monkeypatch.setattr(linecache, "getline", unreadable)
    waiting = runner.submit(id)
    with pytest.raises(StopTimeout) as raised:
        runner.kill(0.0)
    (task,) = raised.value.running
    assert task.stack[0].endswith("in hold\n")
    assert "in wait" in task.stack[-1]
    assert [dropped.fn for dropped in raised.value.dropped] == [id]
    assert waiting.done()


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_is_left_as_it_was(runners: Runners, gate: Gate, was_on: bool) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    gc.enable() if was_on else gc.disable()
    try:
        running(runner)
        assert gc.isenabled() == was_on
    finally:
        gc.enable()


def test_no_stack_is_read_without_a_gil(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    (task,) = running(runner).running
    assert (task.stack == ()) == FREE_THREADED
    assert task.name.endswith("hold")


@pytest.mark.parametrize("asynchronously", [False, True])
def test_a_start_that_hangs_says_where(runners: Runners, gate: Gate, asynchronously: bool) -> None:
    def connect() -> object:
        gate.hold()
        return object()

    config = runners.config(on_create=connect, on_destroy=None, worker_count=2, name="slow")

    async def start() -> object:
        return await Runner.start(config, timeout=0.05)

    def call() -> object:
        return asyncio.run(start()) if asynchronously else Runner(config, timeout=0.05)

    with pytest.raises(ResourceCreationError) as raised:
        call()
    text = str(raised.value)
    for worker in ("slow-worker-1", "slow-worker-2"):
        assert f"; {worker} is not ready" in text
    assert FREE_THREADED or "in wait" in text


def test_a_start_that_hangs_names_nobody_who_is_ready(runners: Runners, gate: Gate) -> None:
    ready = iter([True, False])

    def connect() -> object:
        if not next(ready):
            gate.hold()
        return object()

    config = runners.config(on_create=connect, on_destroy=None, worker_count=2, name="half")
    with pytest.raises(ResourceCreationError, match="is not ready") as raised:
        Runner(config, timeout=0.3)
    assert str(raised.value).count("is not ready") == 1


@pytest.mark.stress
@pytest.mark.parametrize(
    "count",
    [1_000, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
)
def test_stops_that_run_out_of_time_do_so_in_time_whatever_is_collected(count: int) -> None:
    program = [sys.executable, "-X", "faulthandler", LATE_STOPS, str(count)]
    ended = subprocess.run(
        program, capture_output=True, text=True, timeout=LONG_TIMEOUT * count / 500, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"done {count} ")
