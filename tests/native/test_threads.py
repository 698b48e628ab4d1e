"""Workers are ordinary Python threads: named, listed, with one life and one thread state."""

from __future__ import annotations

import sys
import sysconfig
import threading
import time
from pathlib import Path
from types import FrameType

import pytest

from tests.native.support import (
    PATIENCE,
    Broken,
    Call,
    Gate,
    Resource,
    Runners,
    break_down,
    eventually,
    is_healthy,
    worker_threads,
)

local = threading.local()


def count_up(_resource: Resource) -> int:
    local.count = getattr(local, "count", 0) + 1
    return local.count  # type: ignore[no-any-return]


def own_name(_resource: Resource) -> str:
    return threading.current_thread().name


def test_threads_are_named_after_their_runner_and_their_part(runners: Runners) -> None:
    runner = runners.start(worker_count=2, resource_pool_size=1, name="app")
    names = {thread.name for thread in worker_threads("app")}
    assert names == {"app-worker-1", "app-worker-2", "app-reserved-3"}
    assert runner.queue_task(own_name) in {"app-worker-1", "app-worker-2"}
    assert runner.run_task(own_name) == "app-reserved-3"


def test_workers_are_daemons_in_the_list_of_threads(runners: Runners) -> None:
    runners.start(worker_count=2)
    threads = worker_threads()
    assert len(threads) == 2
    assert all(thread.daemon and thread.is_alive() for thread in threads)


def test_a_task_finds_the_same_thread_as_everybody(runners: Runners) -> None:
    runner = runners.start()
    (worker,) = worker_threads()
    assert runner.queue_task(lambda _: threading.current_thread()) is worker
    assert worker.ident == runners.factory.made[0].thread


def test_thread_local_data_lives_as_long_as_the_worker(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy, max_retries=0)
    assert [runner.queue_task(count_up) for _ in range(5)] == [1, 2, 3, 4, 5]
    with pytest.raises(Broken):
        runner.queue_task(break_down)
    assert runner.queue_task(count_up) == 6
    assert [runner.run_task(count_up) for _ in range(3)] == [1, 2, 3]


def test_a_task_has_the_stack_of_a_thread(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    (worker,) = worker_threads()
    frame: FrameType | None = sys._current_frames()[worker.ident or 0]
    functions: list[str] = []
    while frame is not None:
        functions.append(frame.f_code.co_name)
        frame = frame.f_back
    assert "hold" in functions
    assert functions[-1] == "_bootstrap"


def test_a_trace_function_sees_the_tasks(runners: Runners) -> None:
    seen: list[str] = []

    def trace(frame: FrameType, _event: str, _argument: object) -> None:
        seen.append(frame.f_code.co_name)

    threading.settrace(trace)
    try:
        runner = runners.start()
    finally:
        threading.settrace(None)
    runner.queue_task(own_name)
    runner.stop(PATIENCE)
    assert "own_name" in seen


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("name", "known_as"), [("app", "app-worker-1"), ("a-rather-long-name", "a-rather-long-n")]
)
def test_the_system_knows_their_names(runners: Runners, name: str, known_as: str) -> None:
    runner = runners.start(name=name)
    tid = runner.queue_task(lambda _: threading.get_native_id())
    assert Path(f"/proc/self/task/{tid}/comm").read_text(encoding="utf-8").strip() == known_as


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_name_is_cut_between_characters(runners: Runners) -> None:
    runner = runners.start(name="größenänderung")
    tid = runner.queue_task(lambda _: threading.get_native_id())
    comm = Path(f"/proc/self/task/{tid}/comm").read_bytes().strip()
    assert "größenänderung-worker-1".startswith(comm.decode())
    assert 13 <= len(comm) <= 15


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this build of Python has the GIL"
)
def test_the_interpreter_stays_free_threaded() -> None:
    if sys.version_info >= (3, 13):
        assert not sys._is_gil_enabled()


@pytest.mark.timing
def test_a_worker_that_was_idle_for_a_while_still_serves(runners: Runners) -> None:
    runner = runners.start(worker_count=2, resource_pool_size=1)
    assert runner.queue_task(own_name)
    time.sleep(0.3)
    assert runner.queue_task(own_name).startswith("tasker-worker")
    assert runner.run_task(own_name) == "tasker-reserved-3"
    assert runner.stats().active_workers == 2


def test_threads_end_with_their_runner(runners: Runners) -> None:
    runner = runners.start(worker_count=4, resource_pool_size=2)
    threads = worker_threads()
    assert len(threads) == 6
    runner.stop(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)


def test_temporary_workers_leave_no_thread_behind(runners: Runners) -> None:
    runner = runners.start(resource_pool_size=0)
    for _ in range(20):
        runner.run_task(own_name)
    eventually(lambda: len(worker_threads()) == 1)


def test_a_worker_survives_a_thread_that_dies_inside_a_task(runners: Runners) -> None:
    def spawn(_resource: Resource) -> BaseException:
        return Call(break_down, None).error()

    assert isinstance(runners.start().queue_task(spawn), Broken)


def test_threads_start_where_others_have_replaced_the_event(
    runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Event(threading.Event):
        __slots__ = ("more",)

    monkeypatch.setattr(threading, "Event", Event)
    assert runners.start().submit(count_up).result(PATIENCE) == 1
