"""A graceful stop: refuses new tasks, finishes the others; any number of times, from anywhere."""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tasker import (
    Context,
    Future,
    ResourceCreationError,
    Runner,
    RunnerStopped,
    StopTimeout,
    TaskCancelled,
)
from tests.native.support import (
    FREE_THREADED,
    LONG_TIMEOUT,
    MOMENT,
    Broken,
    Call,
    Gate,
    LogCapture,
    Resource,
    Runners,
    at_once,
    break_down,
    endless,
    eventually,
    is_healthy,
)


def test_it_finishes_what_was_accepted(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    futures = [runner.submit(gate.hold_then_return, i) for i in range(5)]
    gate.wait_for()
    stop = Call(runner.stop)
    eventually(lambda: runner.state == "stopping")
    gate.open()
    stop.result()
    assert [future.result(0) for future in futures] == [0, 1, 2, 3, 4]
    assert runner.state == "stopped"


def test_all_who_stop_wait_for_the_threads(
    runners: Runners, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runners.start()
    delete = threading.Thread._delete  # type: ignore[attr-defined]

    def linger(thread: threading.Thread) -> None:
        if thread.name.startswith(f"{runner.name}-"):
            gate.hold()
        delete(thread)

    monkeypatch.setattr(threading.Thread, "_delete", linger)
    stops = [Call(runner.stop) for _ in range(3)]
    gate.wait_for()
    for stop in stops:
        stop.wait_until_blocked()
    gate.open()
    for stop in stops:
        stop.result()


def test_it_refuses_from_its_beginning_on(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    stop = Call(runner.stop)
    eventually(lambda: runner.state == "stopping")
    for call in (runner.submit, runner.queue_task, runner.run_task, runner.options().submit):
        with pytest.raises(RunnerStopped):
            call(gate.hold)
    gate.open()
    stop.result()


def test_it_finishes_retries(runners: Runners, gate: Gate) -> None:
    runner = runners.start(check_health=is_healthy)
    attempts: list[int] = []

    def flaky(_resource: Resource) -> int:
        gate.hold()
        attempts.append(1)
        if len(attempts) < 3:
            raise Broken
        return len(attempts)

    future = runner.submit(flaky)
    gate.wait_for()
    stop = Call(runner.stop)
    stop.wait_until_blocked()
    gate.open()
    stop.result()
    assert future.result(0) == 3


def test_health_counts_while_it_drains(runners: Runners, gate: Gate) -> None:
    runner = runners.start(check_health=is_healthy, max_retries=0)
    runner.submit(gate.hold)
    gate.wait_for()
    broken = [runner.submit(break_down) for _ in range(3)]
    last = runner.submit(lambda resource: resource.number)
    stop = Call(runner.stop)
    stop.wait_until_blocked()
    gate.open()
    stop.result()
    assert all(isinstance(future.exception(0), Broken) for future in broken)
    assert last.result(0) == 3


def test_it_waits_for_a_resource_that_is_being_made_and_serves_with_it(
    runners: Runners, gate: Gate
) -> None:
    def create() -> Resource:
        if runners.factory.made:
            gate.hold()
        return runners.factory.create()

    runner = runners.start(on_create=create, check_health=is_healthy, max_retries=0)
    assert isinstance(runner.submit(break_down).exception(LONG_TIMEOUT), Broken)
    gate.wait_for()
    waiting = runner.submit(lambda resource: resource.number)
    stop = Call(runner.stop)
    stop.wait_until_blocked()
    gate.open()
    stop.result()
    assert waiting.result(0) == 1


def test_stopping_again_is_no_error(runners: Runners) -> None:
    runner = runners.start()
    for _ in range(3):
        runner.stop()
        assert runner.state == "stopped"
    assert runner.kill() == []
    assert runner.state == "stopped"
    assert len(runners.factory.made) == 1


def test_all_that_stop_at_the_same_time_return_at_the_end(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    runner.submit(gate.hold)
    gate.wait_for()
    calls = at_once(4, runner.stop)
    for call in calls:
        call.wait_until_blocked()
    gate.open()
    for call in calls:
        call.result()
    runners.factory.check()


def test_one_that_takes_too_long_raises_in_time_and_names_what_runs(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(name="app")
    runner.options(name="backup").submit(gate.hold)
    gate.wait_for()
    began = time.monotonic()
    with pytest.raises(StopTimeout, match=r"stop\(\) of runner \"app\" timed out") as raised:
        runner.stop(timeout=MOMENT)
    assert time.monotonic() - began >= MOMENT
    assert isinstance(raised.value, TimeoutError)
    (task,) = raised.value.running
    assert (task.name, task.worker) == ("backup", "app-worker-1")
    assert MOMENT <= task.age < LONG_TIMEOUT
    assert '"backup" (' in str(raised.value)
    assert raised.value.dropped == []
    assert runner.state == "stopping"


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_limit_of_nothing_begins_the_shutdown(
    runners: Runners, gate: Gate, timeout: float
) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    with pytest.raises(StopTimeout):
        runner.stop(timeout)
    gate.open()
    runner.stop(LONG_TIMEOUT)


def test_after_a_stop_that_timed_out_kill_works(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    running = runner.submit(gate.hold)
    gate.wait_for()
    waiting = runner.submit(gate.hold)
    with pytest.raises(StopTimeout):
        runner.stop(timeout=0)
    kill = Call(runner.kill)
    waiting.exception(LONG_TIMEOUT)
    gate.open()
    assert [task.fn for task in kill.result()] == [gate.hold]
    assert running.result(0) is None


def test_inner_tasks_are_named_as_well(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    view = runner.options(name="inner")
    runner.options(name="outer").submit(lambda _: view.queue_task(gate.hold))
    gate.wait_for()
    with pytest.raises(StopTimeout) as raised:
        runner.stop(timeout=0)
    assert sorted(task.name for task in raised.value.running) == ["inner", "outer"]


def test_a_task_may_stop_its_own_runner(runners: Runners) -> None:
    runner = runners.start(worker_count=2)

    def stop(_resource: Resource) -> str:
        runner.stop()
        runner.stop(timeout=LONG_TIMEOUT)
        return runner.state

    future = runner.submit(stop)
    assert future.result(LONG_TIMEOUT) == "stopping"
    runner.stop(LONG_TIMEOUT)


def test_a_task_that_stops_its_runner_does_not_stop_what_waits(runners: Runners) -> None:
    runner = runners.start()
    handed = threading.Event()

    def stop(_resource: Resource) -> None:
        assert handed.wait(LONG_TIMEOUT)
        runner.stop()

    runner.submit(stop)
    waiting = runner.submit(lambda _: "served")
    handed.set()
    assert waiting.result(LONG_TIMEOUT) == "served"


def test_a_task_in_the_callers_thread_may_stop_its_runner(runners: Runners) -> None:
    runner = runners.start(thread_bound=False)

    def stop(_resource: Resource) -> str:
        runner.stop()
        return runner.state

    assert runner.run_task(stop) == "stopping"
    runner.stop(LONG_TIMEOUT)


def test_a_callback_may_stop_its_own_runner(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    future = runner.submit(gate.hold)
    states: list[str] = []

    def stop(_future: Future[None]) -> None:
        runner.stop()
        states.append(runner.state)

    future.add_done_callback(stop)
    gate.open()
    eventually(lambda: states == ["stopping"])
    runner.stop(LONG_TIMEOUT)


@pytest.mark.parametrize("hook", ["on_destroy", "check_health"])
def test_a_hook_may_stop_its_own_runner(runners: Runners, hook: str) -> None:
    own: list[Runner[Resource]] = []

    def stop(thing: Any) -> bool:
        own[0].stop()
        if isinstance(thing, Resource):
            runners.factory.destroy(thing)
        return False

    fields = {"check_health": is_healthy, hook: stop, "max_retries": 0}
    own.append(runners.start(**fields))
    with pytest.raises(Broken):
        own[0].queue_task(break_down)
    own[0].stop(LONG_TIMEOUT)


@pytest.mark.parametrize("verb", ["stop", "kill"])
def test_one_that_a_hook_holds_up_says_where(runners: Runners, gate: Gate, verb: str) -> None:
    def close(resource: Resource) -> None:
        gate.hold()
        runners.factory.destroy(resource)

    runner = runners.start(on_destroy=close)
    # No stack is read where threads run on.
    place = "" if FREE_THREADED else ", at File "
    with pytest.raises(StopTimeout, match=f"tasker-1-worker-1 is still ending{place}") as raised:
        getattr(runner, verb)(MOMENT)
    assert raised.value.running == ()


def test_a_hook_may_have_its_runner_stopped_in_a_task_of_another(runners: Runners) -> None:
    other = runners.start(thread_bound=False)
    own: list[Runner[Resource]] = []

    def reset(_resource: Resource) -> None:
        other.run_task(lambda _: own[0].stop())

    own.append(runners.start(reset=reset))
    own[0].queue_task(lambda _: None)
    own[0].stop(LONG_TIMEOUT)


def test_ctrl_c_ends_the_wait_and_the_shutdown_goes_on(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    future = runner.submit(gate.hold_then_return, "done")
    gate.wait_for()
    threading.Timer(MOMENT, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        runner.stop()
    assert runner.state == "stopping"
    gate.open()
    assert future.result(LONG_TIMEOUT) == "done"
    runner.stop(LONG_TIMEOUT)


def test_leaving_the_with_block_stops(runners: Runners) -> None:
    with runners.start() as runner:
        futures = [runner.submit(lambda _, i: i, i) for i in range(20)]
    assert runner.state == "stopped"
    assert [future.result(0) for future in futures] == list(range(20))


def test_leaving_the_with_block_by_an_error_kills(runners: Runners, gate: Gate) -> None:
    error = KeyError()

    def fail(runner: Runner[Resource]) -> Future[None]:
        with runner:
            runner.submit(gate.hold)
            gate.wait_for()
            waiting.append(runner.submit(gate.hold))
            threading.Timer(MOMENT, gate.open).start()
            raise error

    waiting: list[Future[None]] = []
    runner = runners.start()
    with pytest.raises(KeyError) as raised:
        fail(runner)
    assert raised.value is error
    assert waiting[0].exception(0) is not None
    assert runner.state == "stopped"


def test_a_cancelled_config_context_stops_gracefully(runners: Runners, gate: Gate) -> None:
    context = Context()
    runner = runners.start(context=context)
    futures = [runner.submit(gate.hold_then_return, i) for i in range(4)]
    gate.wait_for()
    context.cancel("maintenance")
    eventually(lambda: runner.state == "stopping")
    with pytest.raises(RunnerStopped):
        runner.submit(gate.hold)
    gate.open()
    assert [future.result(LONG_TIMEOUT) for future in futures] == [0, 1, 2, 3]
    eventually(lambda: runner.state == "stopped")
    runners.factory.check()


def test_a_config_context_stops_its_runner_from_inside_a_task(runners: Runners) -> None:
    context = Context()
    runner = runners.start(context=context.child())
    runner.queue_task(lambda _: context.cancel())
    eventually(lambda: runner.state == "stopped")


def test_a_config_context_with_a_deadline_stops_at_it(runners: Runners) -> None:
    runner = runners.start(context=Context().child(timeout=MOMENT))
    assert runner.state == "running"
    assert runner.queue_task(lambda _: "accepted") == "accepted"
    eventually(lambda: runner.state == "stopped")


def test_one_context_may_stop_many_runners_and_outlive_them(runners: Runners) -> None:
    context = Context()
    first = runners.start(context=context)
    first.stop(LONG_TIMEOUT)
    others = [runners.start(context=context, name=f"app{i}") for i in range(3)]
    context.cancel()
    eventually(lambda: all(runner.state == "stopped" for runner in others))


def test_while_no_resource_can_be_made_the_last_worker_settles_what_waits(
    runners: Runners, log: LogCapture
) -> None:
    tried = threading.Event()

    def create() -> Resource:
        if runners.factory.made:
            tried.set()
            raise ConnectionRefusedError("db down")
        return runners.factory.create()

    runner = runners.start(on_create=create, check_health=is_healthy, max_retries=1)
    failed = runner.submit(break_down)
    assert tried.wait(LONG_TIMEOUT)
    waiting = [runner.submit(lambda _: None) for _ in range(3)]
    runner.stop(LONG_TIMEOUT)
    for future in [failed, *waiting]:
        error = future.exception(0)
        assert isinstance(error, ResourceCreationError)
        assert isinstance(error.__cause__, ConnectionRefusedError)
    log.take()


@pytest.mark.stress
@pytest.mark.parametrize("end", [Runner.stop, Runner.kill])
def test_what_is_accepted_while_it_ends_is_settled(
    runners: Runners, end: Callable[[Runner[Any]], object]
) -> None:
    def feed(runner: Runner[Resource], fed: threading.Event) -> list[Future[int]]:
        accepted: list[Future[int]] = []
        for _ in endless():
            try:
                accepted.append(runner.submit(lambda _: 1))
            except RunnerStopped:
                break
            fed.set()
        return accepted

    for turn in range(10):
        runner, fed = runners.start(worker_count=2, name=f"app{turn}"), threading.Event()
        feeders = [Call(feed, runner, fed) for _ in range(3)]
        assert fed.wait(LONG_TIMEOUT)
        end(runner)
        assert all(future.done() for feeder in feeders for future in feeder.result())


@pytest.mark.stress
@pytest.mark.parametrize("end", [Runner.stop, Runner.kill])
@pytest.mark.parametrize("thread_bound", [True, False])
def test_every_run_task_returns_while_it_ends(
    runners: Runners, end: Callable[[Runner[Any]], object], thread_bound: bool
) -> None:
    def call(runner: Runner[Resource], fed: threading.Event) -> None:
        for _ in endless():
            try:
                assert runner.run_task(lambda _: 1) == 1
            except (RunnerStopped, TaskCancelled):
                break
            fed.set()

    for turn in range(10):
        runner = runners.start(worker_count=2, thread_bound=thread_bound, name=f"app{turn}")
        fed = threading.Event()
        callers = [Call(call, runner, fed) for _ in range(4)]
        assert fed.wait(LONG_TIMEOUT)
        end(runner)
        for caller in callers:
            caller.result()
