"""What goes wrong for good: each ends in a typed error, and nothing hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasker import ResourceCreationError, RunnerStopped, TaskTimeout
from tests.ray.conftest import Make
from tests.ray.functions import Resource, eventually, square


def start_that_fails_from_the_second_time_on(make: Make, path: Path) -> Any:
    def come() -> Resource:
        if path.exists():
            raise ConnectionError("no server")
        path.touch()
        return {}

    runner = make(on_create=come)
    (actor,) = runner.actors()
    os.kill(actor.process, signal.SIGKILL)
    eventually(lambda: runner.stats().creation_failing_for > 0)
    return runner


def test_a_stop_ends_though_no_actor_can_be_made_any_more(make: Make, tmp_path: Path) -> None:
    runner = start_that_fails_from_the_second_time_on(make, tmp_path / "first")
    future = runner.submit(square, 2)
    runner.stop()
    with pytest.raises(ResourceCreationError) as caught:
        future.result(timeout=60)
    cause: BaseException | None = caught.value
    causes = []
    while cause is not None:
        causes.append(type(cause))
        cause = cause.__cause__
    assert ConnectionError in causes
    with pytest.raises(RunnerStopped):
        runner.submit(square, 2)


def test_a_time_limit_ends_what_waits_for_an_actor(make: Make, tmp_path: Path) -> None:
    runner = start_that_fails_from_the_second_time_on(make, tmp_path / "first")
    future = runner.options(timeout=0.5).submit(square, 2)
    with pytest.raises(TaskTimeout, match="did not start"):
        future.result(timeout=60)
    waiting = runner.submit(square, 3)
    (dropped,) = runner.kill(timeout=60)
    assert waiting.done()
    assert dropped.args == (3,)


def test_a_map_ends_when_ray_is_shut_down_and_another_runner_works_after_it(
    tmp_path: Path,
) -> None:
    code = """
import ray
from tasker import Config, RunnerBroken
from tasker.ray import RayRunner

def start():
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    return RayRunner(Config(on_create=dict, worker_count=1), actors=1)

def work(resource, n):
    if n == 5:
        from tasker import current_context
        current_context().wait()
    return n

with start() as runner:
    results = runner.map(work, range(100))
    print([next(results) for _ in range(5)])
    ray.shutdown()
    try:
        next(results)
    except RunnerBroken as error:
        print(error)
with start() as runner:
    print(runner.queue_task(work, 7))
"""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=230,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    first, broken, last = result.stdout.splitlines()
    assert (first, last) == ("[0, 1, 2, 3, 4]", "7")
    assert "Ray was shut down" in broken
