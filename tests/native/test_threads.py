"""Workers are ordinary Python threads: named, listed, with one life and one thread state."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tasker import Config, ResourceCreationError, Runner, ThreadPoolExecutor
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    Gate,
    LogCapture,
    Resource,
    Runners,
    break_down,
    eventually,
    is_healthy,
    runner_threads,
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
    runner.stop(LONG_TIMEOUT)
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
    assert runner.queue_task(own_name).startswith("tasker-1-worker")
    assert runner.run_task(own_name) == "tasker-1-reserved-3"
    assert runner.stats().active_workers == 2


def test_threads_end_with_their_runner(runners: Runners) -> None:
    runner = runners.start(worker_count=4, resource_pool_size=2)
    threads = worker_threads()
    assert len(threads) == 6
    runner.stop(LONG_TIMEOUT)
    assert not any(thread.is_alive() for thread in threads)


def test_temporary_workers_leave_no_thread_behind(runners: Runners) -> None:
    runner = runners.start(resource_pool_size=0)
    for _ in range(20):
        runner.run_task(own_name)
    eventually(lambda: len(worker_threads()) == 1)


def test_many_workers_that_start_together_are_looked_at_about_once_each(
    runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, looks = 1_000, list[threading.Thread]()
    original = threading.Thread.is_alive

    def is_alive(thread: threading.Thread) -> bool:
        looks.append(thread)
        return original(thread)

    monkeypatch.setattr(threading.Thread, "is_alive", is_alive)
    runners.start(worker_count=count)
    assert len(looks) < 2 * count


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
    assert runners.start().submit(count_up).result(LONG_TIMEOUT) == 1


# ---- threads that end before they come up, and starts that are interrupted


class Spoiled:
    """Has `Thread.run` raise in threads whose name holds one of these words, as a wrapper might."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.words: set[str] = set()
        run = threading.Thread.run

        def wrapper(thread: threading.Thread) -> None:
            if any(word in thread.name for word in self.words):
                raise Broken
            run(thread)

        monkeypatch.setattr(threading.Thread, "run", wrapper)
        monkeypatch.setattr(threading, "excepthook", lambda _: None)


@pytest.fixture
def spoiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spoiled]:
    spoiled = Spoiled(monkeypatch)
    yield spoiled
    spoiled.words.clear()


def test_a_worker_whose_thread_does_not_come_up_is_a_failed_start(spoiled: Spoiled) -> None:
    spoiled.words.add("lost-worker-2")
    with pytest.raises(ResourceCreationError, match="thread could not be started") as raised:
        Runner(Config(on_create=object, worker_count=3, name="lost"))
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert "lost-worker-2 ended before it began" in str(raised.value.__cause__)
    eventually(lambda: not runner_threads("lost"))


def test_a_thread_that_ends_before_it_is_listed_is_a_failed_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bootstrap: Callable[[threading.Thread], None] = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]

    def fail(thread: threading.Thread) -> None:
        if "lost-worker-2" in thread.name:
            raise Broken
        bootstrap(thread)

    monkeypatch.setattr(threading.Thread, "_bootstrap_inner", fail)
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    with pytest.raises(ResourceCreationError, match="thread could not be started"):
        Runner(Config(on_create=object, worker_count=3, name="lost"))
    eventually(lambda: not runner_threads("lost"))


def test_a_profile_function_that_raises_is_a_failed_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def profile(*_: object) -> None:
        raise Broken

    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    # From 3.12 on the interpreter reports what leaves a thread before `threading` comes in there.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    threading.setprofile(profile)
    try:
        with pytest.raises(ResourceCreationError, match="thread could not be started"):
            Runner(Config(on_create=object, worker_count=2, name="lost"))
    finally:
        threading.setprofile(None)
    eventually(lambda: not runner_threads("lost"))


def test_a_start_in_a_coroutine_whose_thread_does_not_come_up_fails(spoiled: Spoiled) -> None:
    async def start() -> None:
        await asyncio.wait_for(Runner.start(Config(on_create=object, worker_count=1)), LONG_TIMEOUT)

    spoiled.words.add("tasker")
    with pytest.raises(RuntimeError, match="ended before it began"):
        asyncio.run(start())


def test_a_keeper_that_does_not_come_up_is_an_error_of_who_needs_it(
    runners: Runners, spoiled: Spoiled
) -> None:
    runner = runners.start(logger=None)
    spoiled.words.add("keeper")
    with pytest.raises(RuntimeError, match="tasker-1-keeper ended before it began"):
        runner.options(timeout=LONG_TIMEOUT).submit(own_name)
    spoiled.words.clear()
    assert runner.options(timeout=LONG_TIMEOUT).queue_task(own_name) == "tasker-1-worker-1"


def test_a_start_that_fails_for_its_keeper_leaves_no_other_thread_behind(spoiled: Spoiled) -> None:
    spoiled.words.add("keeper")
    config = Config(
        on_create=object,
        on_cancel=lambda _: None,
        worker_count=1,
        max_worker_count=2,
        name="lost",
    )
    with pytest.raises(RuntimeError, match="lost-keeper ended before it began"):
        Runner(config)
    eventually(lambda: not any("lost" in thread.name for thread in threading.enumerate()))


def test_a_keeper_that_does_not_come_up_for_the_log_fails_no_start(
    runners: Runners, spoiled: Spoiled, log: LogCapture
) -> None:
    spoiled.words.add("keeper")
    runner = runners.start()
    (record,) = log.take()
    assert record.getMessage() == "tasker-1: the start of the thread that looks at it failed"
    assert record.exc_info
    assert runner.queue_task(own_name) == "tasker-1-worker-1"
    spoiled.words.clear()
    # Who needs it later has it started.
    assert runner.options(timeout=LONG_TIMEOUT).queue_task(own_name) == "tasker-1-worker-1"
    assert "tasker-1-keeper" in {thread.name for thread in runner_threads()}


def test_a_worker_takes_over_for_one_that_does_not_come_up(
    runners: Runners, spoiled: Spoiled, log: LogCapture
) -> None:
    runner = runners.start()
    spoiled.words.add("reserved")
    assert runner.run_task(own_name) == "tasker-1-worker-1"
    assert runner.run_task(own_name) == "tasker-1-worker-1"
    # Once, for nothing has changed in between.
    (record,) = log.take()
    assert "no thread could be started" in record.getMessage()


def test_a_caller_waits_for_a_loan_until_a_worker_comes_up(
    runners: Runners, spoiled: Spoiled, log: LogCapture
) -> None:
    runner = runners.start(thread_bound=False, resource_pool_size=0)
    spoiled.words.add("temporary")
    call = Call(runner.run_task, lambda _: 7)
    log.take()
    spoiled.words.clear()
    assert call.result() == 7


def test_a_stand_in_that_does_not_come_up_leaves_its_place(
    runners: Runners, spoiled: Spoiled, gate: Gate, log: LogCapture
) -> None:
    runner = runners.start(max_worker_count=2, burst_interval=3600)
    spoiled.words.add("worker-")
    late = runner.options(timeout=0.01).submit(gate.hold)
    gate.wait_for()
    assert isinstance(late.exception(LONG_TIMEOUT), TimeoutError)
    log.take()
    gate.open()
    assert runner.queue_task(own_name) == "tasker-1-worker-1"
    eventually(lambda: runner.stats().active_workers == 1)


def test_a_pool_whose_thread_does_not_come_up_says_so(spoiled: Spoiled) -> None:
    with ThreadPoolExecutor(2, thread_name_prefix="lost") as pool:
        spoiled.words.add("lost")
        with pytest.raises(RuntimeError, match="ended before it began"):
            pool.submit(pow, 2, 3)
        spoiled.words.clear()
        assert pool.submit(pow, 2, 3).result(LONG_TIMEOUT) == 8


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Has the next starts of threads interrupted, before or after the system has started them."""
    name = "_start_new_thread" if sys.version_info < (3, 13) else "_start_joinable_thread"
    start: Callable[..., object] = getattr(threading, name)

    def prepare(before: bool) -> None:
        def interrupted(*args: Any, **kwargs: Any) -> None:
            if not before:
                start(*args, **kwargs)
            # A frame keeps what the traceback keeps.
            args, kwargs = (), {}
            raise KeyboardInterrupt

        monkeypatch.setattr(threading, name, interrupted)

    return prepare


@pytest.mark.parametrize("before", [True, False])
def test_an_interrupted_start_leaves_no_name_behind(
    interrupt: Callable[[bool], None], before: bool
) -> None:
    interrupt(before)
    with pytest.raises(KeyboardInterrupt):
        Runner(Config(on_create=object, worker_count=1, name="lost"))
    eventually(lambda: not runner_threads("lost"))


def test_a_wrapped_start_reads_an_empty_context(monkeypatch: pytest.MonkeyPatch) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="empty")
    seen: set[str] = set()
    start = threading.Thread.start

    def wrapper(thread: threading.Thread) -> None:
        seen.add(variable.get())
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", wrapper)
    variable.set("the caller's")
    config = Config(on_create=object, worker_count=1, max_worker_count=2)
    with Runner(config) as runner, ThreadPoolExecutor(1) as pool:
        runner.options(timeout=LONG_TIMEOUT).run_task(lambda _: None)
        pool.submit(id, 7).result(LONG_TIMEOUT)
    asyncio.run(start_and_stop(config))
    assert seen == {"empty"}


async def start_and_stop(config: Config[object]) -> None:
    async with Runner.start(config):
        pass
