"""Debuggers, profilers and tracers of lines see the tasks of our threads as those of others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from tasker import Config, Runner, ThreadPoolExecutor

LONG_TIMEOUT = 20.0


def run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=2 * LONG_TIMEOUT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Each line of a task, a hook and a callback is reached on a thread of ours alone.
WATCHED = """
from tasker import Config, Runner, ThreadPoolExecutor

def create():
    resource = {}
    return resource

def destroy(resource):
    resource.clear()

def reset(resource):
    resource.clear()

def task(resource, *items):
    total = sum(items)
    return total

def callback(future):
    assert future.result() == 3

def call():
    number = 3
    return number

with Runner(Config(on_create=create, on_destroy=destroy, reset=reset, worker_count=1)) as runner:
    future = runner.submit(task, 1, 2)
    future.add_done_callback(callback)
    list(runner.map(task, [1, 2]))
    runner.run_task(task)
with ThreadPoolExecutor(1) as pool:
    pool.submit(call).result()
"""


@pytest.mark.parametrize(
    ("core", "since"), [("ctrace", (3, 11)), ("pytrace", (3, 11)), ("sysmon", (3, 12))]
)
def test_coverage_counts_every_line_of_tasks_and_hooks(
    core: str, since: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("coverage")
    if sys.version_info < since:
        pytest.skip("sys.monitoring came with Python 3.12")
    monkeypatch.setenv("COVERAGE_CORE", core)
    program = tmp_path / "watched.py"
    program.write_text(WATCHED, "utf-8")
    coverage = [sys.executable, "-m", "coverage"]
    run([*coverage, "run", program.name], tmp_path)
    run([*coverage, "json", "-q", "--include", program.name, "-o", "report.json"], tmp_path)
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["files"][program.name]["missing_lines"] == []


@pytest.fixture
def held() -> Iterator[Callable[[Any], None]]:
    """A task that stays where it is until the test is over."""
    release, arrived = threading.Event(), threading.Semaphore(0)

    def here_it_is(*_anything: object) -> None:
        arrived.release()
        release.wait(LONG_TIMEOUT)

    with (
        Runner(Config(on_create=object, worker_count=1, name="watched")) as runner,
        ThreadPoolExecutor(1, "watched-pool") as pool,
    ):
        runner.submit(here_it_is)
        pool.submit(here_it_is)
        assert arrived.acquire(timeout=LONG_TIMEOUT)
        assert arrived.acquire(timeout=LONG_TIMEOUT)
        yield here_it_is
        release.set()


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system for another process's memory")
def test_py_spy_shows_where_a_task_is_and_on_which_worker(held: object) -> None:
    del held
    program = which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("py-spy is not installed")
    command = [program, "dump", "--json", "--pid", str(os.getpid())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_TIMEOUT)
    if done.returncode != 0 and "ermission" in done.stderr:
        pytest.skip("this system forbids to look into another process")
    assert done.returncode == 0, done.stderr
    stacks = {
        thread["thread_name"]: [frame["name"] for frame in thread["frames"]]
        for thread in json.loads(done.stdout)
    }
    ours = {name: frames for name, frames in stacks.items() if (name or "").startswith("watched")}
    inside = [name for name, frames in ours.items() if "here_it_is" in " ".join(frames)]
    assert len(inside) == 2


def test_a_profiler_set_for_all_threads_sees_tasks() -> None:
    seen: set[str] = set()

    def look(frame: Any, event: str, _argument: object) -> None:
        if event == "call":
            seen.add(frame.f_code.co_name)

    def task(*_anything: object) -> None:
        pass

    def call() -> None:
        pass

    threading.setprofile(look)
    try:
        with Runner(Config(on_create=object, worker_count=1)) as runner:
            runner.submit(task).result(LONG_TIMEOUT)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(call).result(LONG_TIMEOUT)
    finally:
        threading.setprofile(None)
    assert {"task", "call"} <= seen
