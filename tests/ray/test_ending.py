"""How runners on Ray end: gracefully, at once, with their driver, and with Ray."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from tasker import Config, Context, ResourceCreationError, RunnerStopped, StopTimeout, TaskCancelled
from tests.ray.conftest import Make
from tests.ray.functions import (
    Resource,
    append,
    eventually,
    same,
    square,
    touch_and_wait,
    wait_for,
)


def marking(path: Path) -> dict[str, object]:
    """A config whose resources say by a file on which thread they came and went."""

    def come() -> Resource:
        append({}, path, f"made {threading.get_ident()}")
        return {}

    def go(_resource: Resource) -> None:
        append({}, path, f"gone {threading.get_ident()}")

    return {"on_create": come, "on_destroy": go}


def test_stop_finishes_what_waits_and_destroys_on_the_threads_that_made(
    make: Make, tmp_path: Path
) -> None:
    path = tmp_path / "book"
    runner = make(actors=2, worker_count=2, **marking(path))
    futures = runner.submit_many(square, range(500))
    runner.stop()
    assert runner.state == "stopped"
    assert [each.result() for each in futures] == [n * n for n in range(500)]
    lines = path.read_text().split("\n")[:-1]
    made = [line.split()[1] for line in lines if line.startswith("made")]
    gone = [line.split()[1] for line in lines if line.startswith("gone")]
    assert len(made) == 4
    assert sorted(made) == sorted(gone)
    with pytest.raises(RunnerStopped):
        runner.submit(square, 1)
    assert runner.stats().base_workers == 0
    assert runner.metrics().total_tasks_completed == 500


def test_kill_hands_back_what_never_began_and_it_can_be_submitted_again(
    make: Make, tmp_path: Path
) -> None:
    runner, mark, book = make(), tmp_path / "mark", tmp_path / "book"
    running = runner.submit(touch_and_wait, mark)
    futures = [runner.options(name=f"n{n}").submit(append, book, str(n)) for n in range(10)]
    eventually(mark.exists)
    dropped = runner.kill(timeout=60)
    assert running.result(timeout=60) == "the runner was killed"
    assert [task.name for task in dropped] == [f"n{n}" for n in range(10)]
    for each in futures:
        with pytest.raises(TaskCancelled):
            each.result(timeout=60)
    other = make()
    for each in [task.submit_to(other) for task in dropped]:
        each.result(timeout=60)
    assert sorted(map(int, book.read_text().split())) == list(range(10))
    assert runner.metrics().total_tasks_dropped == 10


def test_a_stop_that_takes_too_long_names_what_runs_and_kill_still_works(
    make: Make, tmp_path: Path
) -> None:
    runner, mark = make(), tmp_path / "mark"
    future = runner.options(name="long").submit(touch_and_wait, mark)
    eventually(mark.exists)
    with pytest.raises(StopTimeout, match="long") as caught:
        runner.stop(timeout=0.2)
    assert [task.name for task in caught.value.running] == ["long"]
    assert runner.state == "stopping"
    runner.kill(timeout=60)
    assert future.done()


def test_the_block_stops_or_kills(make: Make, tmp_path: Path) -> None:
    with make() as runner:
        future = runner.submit(square, 3)
    assert (runner.state, future.result()) == ("stopped", 9)
    mark = tmp_path / "mark"
    other = make()

    def leave_by_an_error() -> None:
        with other:
            other.submit(touch_and_wait, mark)
            eventually(mark.exists)
            raise KeyError

    with pytest.raises(KeyError):
        leave_by_an_error()
    assert other.state == "stopped"

    async def main() -> int:
        async with make() as third:
            return await third.asubmit(square, 3)

    assert asyncio.run(main()) == 9


def test_a_cancelled_context_stops_the_runner(make: Make) -> None:
    context = Context()
    runner = make(context=context)
    context.cancel()
    eventually(lambda: runner.state == "stopped")


def test_a_context_that_lives_on_keeps_nothing_of_a_runner_that_has_ended(cluster: Any) -> None:
    from tasker.ray import RayRunner

    del cluster
    context = Context()
    config: Config[Resource] = Config(on_create=dict, worker_count=1, context=context)
    runner = RayRunner(config, actors=1)
    dispatcher = weakref.ref(runner._engine().dispatcher)
    runner.stop()
    del runner
    gc.collect()
    assert dispatcher() is None
    context.cancel()


def test_a_name_is_free_again_when_its_runner_has_stopped_by_itself(make: Make) -> None:
    context = Context()
    runner = make(name="db", context=context)
    assert make(name="db").name == "db-2"
    context.cancel()
    assert runner._engine().dispatcher.over.wait(60)
    assert make(name="db").name == "db"


def test_what_waits_can_be_dropped_while_the_runner_goes_on(make: Make, tmp_path: Path) -> None:
    runner, gate = make(), tmp_path / "gate"
    held = runner.submit(wait_for, gate)
    eventually(held.running)
    futures = [runner.submit(same, n) for n in range(30)]
    dropped = runner.cancel_queued("not needed")
    gate.touch()
    numbers = [task.args[0] for task in dropped]
    assert numbers == sorted(numbers)
    assert len(numbers) >= 28  # one or two were sent ahead
    for n, future in enumerate(futures):
        if n in numbers:
            with pytest.raises(TaskCancelled, match="not needed"):
                future.result(timeout=60)
        else:
            assert future.result(timeout=60) == n
    assert runner.queue_task(square, 2) == 4


@pytest.mark.filterwarnings("ignore:.*was dropped without stop:ResourceWarning")
def test_a_dropped_runner_stops_in_the_background(make: Make, cluster: object) -> None:
    from tasker import Config
    from tasker.ray import RayRunner

    del make, cluster
    config: Config[Resource] = Config(on_create=dict, worker_count=1)
    runner = RayRunner(config, actors=1)
    dispatcher = runner._engine().dispatcher
    future = runner.submit(square, 4)
    del runner
    gc.collect()
    assert future.result(timeout=60) == 16
    assert dispatcher.over.wait(60)


def test_resize_changes_the_number_of_actors(make: Make) -> None:
    runner = make(actors=1)
    runner.resize(actors=2)
    eventually(lambda: [each.state for each in runner.actors()] == ["running"] * 2)
    assert (runner.worker_count, runner.stats().base_workers) == (2, 2)
    futures = runner.submit_many(square, range(200))
    runner.resize(actors=1)
    assert [each.result(timeout=60) for each in futures] == [n * n for n in range(200)]
    eventually(lambda: len(runner.actors()) == 1)
    assert runner.queue_task(square, 2) == 4


def test_an_actor_that_is_not_wanted_any_more_as_it_comes_up_leaves(
    make: Make, tmp_path: Path
) -> None:
    gate, coming, book = tmp_path / "gate", tmp_path / "coming", tmp_path / "book"
    gate.touch()

    def come() -> Resource:
        coming.touch()
        wait_for({}, gate)
        append({}, book, "made")
        return {}

    def go(_resource: Resource) -> None:
        append({}, book, "gone")

    runner = make(on_create=come, on_destroy=go)
    gate.unlink()
    coming.unlink()
    mark = tmp_path / "mark"
    held = runner.submit(touch_and_wait, mark)
    eventually(mark.exists)
    runner.resize(actors=2)
    eventually(coming.exists)
    runner.resize(actors=1)
    eventually(lambda: [each.state for each in runner.actors()] == ["running", "stopping"])
    gate.touch()
    eventually(lambda: [each.state for each in runner.actors()] == ["running"])
    held.request_cancel()
    runner.stop(timeout=100)
    assert sorted(book.read_text().split()) == ["gone", "gone", "made", "made"]


def test_renew_makes_all_resources_anew(make: Make) -> None:
    runner = make(actors=2)
    assert runner.renew().result(timeout=60) == 2
    assert {each.resource_generation for each in runner.workers()} == {2}


SCRIPT = """
import os, sys, threading
import ray
from pathlib import Path
from tasker import Config
from tasker.ray import RayRunner
where = dict(address=sys.argv[2]) if sys.argv[2:] else dict(num_cpus=1, include_dashboard=False)
ray.init(log_to_driver=False, **where)
book = Path(sys.argv[1])
def come():
    book.with_suffix(".made").touch()
    return str(book)
def go(path):
    Path(path).with_suffix(".gone").touch()
def wait(path):
    from tasker import current_context
    current_context().wait()
runner = RayRunner(Config(on_create=come, on_destroy=go, worker_count=1), actors=1)
"""


def run(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT + code, str(path)],
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_a_runner_alive_at_exit_is_stopped(tmp_path: Path) -> None:
    code = "f = runner.submit(len); f.add_done_callback(lambda f: book.touch())"
    result = run(code, tmp_path / "book")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "book").exists()
    assert (tmp_path / "book.gone").exists()


def test_ray_that_is_shut_down_under_a_runner_breaks_it(tmp_path: Path) -> None:
    code = """
from tasker import RunnerBroken
future = runner.submit(wait)
while not future.running(): pass
waiting = [runner.submit(len) for _ in range(9)]
ray.shutdown()
for each in [future, *waiting]:
    assert isinstance(each.exception(timeout=60), RunnerBroken), each
try:
    runner.submit(len)
except RunnerBroken as error:
    print(error)
runner.stop()
assert not ray.is_initialized()
"""
    result = run(code, tmp_path / "book")
    assert result.returncode == 0, result.stderr
    assert "Ray was shut down" in result.stdout


def test_a_task_right_after_ray_was_shut_down_starts_no_cluster(tmp_path: Path) -> None:
    code = """
import contextlib
from tasker import RunnerBroken
for _ in range(3):
    runner.submit(len).result(timeout=60)
ray.shutdown()
future = runner.submit(len)
with contextlib.suppress(RunnerBroken):  # it may have noticed
    runner.resize(actors=2)
assert isinstance(future.exception(timeout=60), RunnerBroken)
assert runner.stats().base_workers == 0
assert runner.workers() == runner.actors() == ()
runner.kill()
assert not ray.is_initialized()
print("broken")
"""
    result = run(code, tmp_path / "book")
    assert result.returncode == 0, result.stderr
    assert "broken" in result.stdout


def test_an_actor_on_order_when_ray_is_shut_down_starts_no_cluster(tmp_path: Path) -> None:
    code = """
import time
dispatcher = runner._engine().dispatcher
dispatcher.post(lambda: dispatcher.fleet._wishes.append(time.monotonic() + 2))
ray.shutdown()
assert dispatcher.over.wait(60)
assert not ray.is_initialized()
print("broken")
"""
    result = run(code, tmp_path / "book")
    assert result.returncode == 0, result.stderr
    assert "broken" in result.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_ends_by_itself(tmp_path: Path) -> None:
    code = """
import gc, multiprocessing
def drop():
    global runner
    del runner
    gc.collect()
child = multiprocessing.get_context("fork").Process(target=drop)
child.start()
child.join()
print(child.exitcode, runner.queue_task(len) > 0)
"""
    result = run(code, tmp_path / "book")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "0 True"


def test_a_driver_that_is_killed_leaves_no_process(cluster: object, tmp_path: Path) -> None:
    import ray

    del cluster
    address = ray.get_runtime_context().gcs_address
    code = """
runner.submit(wait)
print(runner.actors()[0].process, flush=True)
threading.Event().wait()
"""
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT + code, str(tmp_path / "book"), address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        process = int(program.stdout.readline())
        os.kill(program.pid, signal.SIGKILL)

    def is_gone() -> bool:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        return False

    eventually(is_gone)


def test_a_start_that_fails_destroys_what_other_actors_have_made(
    make: Make, tmp_path: Path
) -> None:
    made, gone = tmp_path / "made", tmp_path / "gone"

    def come() -> Resource:
        if (tmp_path / "first").exists():
            eventually(made.exists)
            raise ConnectionError("no server")
        (tmp_path / "first").touch()
        made.touch()
        return {}

    def go(_resource: Resource) -> None:
        gone.touch()

    with pytest.raises(ResourceCreationError, match="no server"):
        make(actors=2, on_create=come, on_destroy=go)
    eventually(gone.exists)


def test_a_runner_needs_a_connection_to_ray(tmp_path: Path) -> None:
    del tmp_path
    code = """
from tasker import Config, ResourceCreationError
from tasker.ray import RayRunner
try:
    RayRunner(Config(on_create=dict, worker_count=1), actors=1)
except ResourceCreationError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=200
    )
    assert "call ray.init() before" in result.stdout, result.stderr


def test_two_drivers_share_a_cluster(make: Make, cluster: object) -> None:
    import ray

    del cluster
    runner = make()
    address = ray.get_runtime_context().gcs_address
    code = f"""
import ray
from tasker import Config
from tasker.ray import RayRunner
ray.init(address={address!r}, log_to_driver=False)
with RayRunner(Config(on_create=dict, worker_count=1), actors=1) as runner:
    print(sum(runner.map(lambda cache, n: n * n, range(100))))
"""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=200
    )
    assert result.stdout.strip() == str(sum(n * n for n in range(100))), result.stderr
    assert runner.queue_task(square, 2) == 4
