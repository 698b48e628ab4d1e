"""An actor whose task keeps the interpreter to itself answers nothing, and holds up no end."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

import pytest

from tasker import ResourceLost, StopTimeout
from tasker.ray import _dispatcher
from tests.ray.conftest import Make
from tests.ray.functions import Resource, eventually, same


def hold_interpreter(_resource: Resource, mark: Path, seconds: int) -> str:
    """Does what C code does that takes long and lets no other thread of its process run."""
    mark.touch()
    ctypes.PyDLL(None).sleep(seconds)
    return "held"


def test_a_stop_with_a_limit_returns_and_names_what_holds_it_up(make: Make, tmp_path: Path) -> None:
    runner, mark = make(), tmp_path / "mark"
    future = runner.submit(hold_interpreter, mark, 6)
    eventually(mark.exists)
    begin = time.monotonic()
    with pytest.raises(StopTimeout) as caught:
        runner.stop(timeout=0.5)
    assert time.monotonic() - begin < 5
    assert [task.name for task in caught.value.running] == ["hold_interpreter"]
    runner.stop(timeout=60)
    assert future.result(timeout=0) == "held"


def test_a_kill_with_a_limit_returns_what_waits(make: Make, tmp_path: Path) -> None:
    runner, mark = make(settings={"max_out": 1}), tmp_path / "mark"
    runner.submit(hold_interpreter, mark, 6)
    eventually(mark.exists)
    runner.submit(same, 1)
    begin = time.monotonic()
    with pytest.raises(StopTimeout) as caught:
        runner.kill(timeout=0.5)
    assert time.monotonic() - begin < 5
    assert [task.name for task in caught.value.running] == ["hold_interpreter"]
    assert [task.args for task in caught.value.dropped] == [(1,)]
    assert runner.kill(timeout=60) == []


def test_a_kill_without_a_limit_ends_the_process(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dispatcher, "SILENCE", 2.0)
    runner, mark = make(), tmp_path / "mark"
    (actor,) = runner.actors()
    future = runner.submit(hold_interpreter, mark, 100)
    eventually(mark.exists)
    begin = time.monotonic()
    assert runner.kill() == []
    assert time.monotonic() - begin < 50
    with pytest.raises(ResourceLost):
        future.result(timeout=0)

    def is_gone() -> bool:
        try:
            os.kill(actor.process, 0)
        except ProcessLookupError:
            return True
        return False

    eventually(is_gone, seconds=50)


def test_a_task_that_runs_on_after_a_kill_and_lets_others_run_is_waited_for(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_on(_resource: Resource, mark: Path) -> str:
        mark.touch()
        time.sleep(4)
        return "done"

    monkeypatch.setattr(_dispatcher, "SILENCE", 1.5)
    runner, mark = make(), tmp_path / "mark"
    future = runner.submit(run_on, mark)
    eventually(mark.exists)
    runner.kill()
    assert future.result(timeout=0) == "done"
