"""Time limits: counted from the submit, kept whether a task waits, runs or waits for a retry."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable

import pytest

from tasker import Future, Runner, TaskTimeout, current_context
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    Gate,
    LogCapture,
    Resource,
    Runners,
    at_once,
    break_down,
    eventually,
    is_healthy,
    worker_threads,
)

LIMIT = 0.05
OVERDUE = "outlived its time limit"
"""What the warning says of a task that ran over its limit for long."""


def obey(_resource: object) -> str | None:
    """A task function that gives up when it is told to."""
    context = current_context()
    assert context.wait(LONG_TIMEOUT)
    return context.reason


def overdue(runner: Runner[Resource], gate: Gate) -> None:
    """Has the runner run a task that outlives its time limit until the gate opens."""
    future = runner.options(timeout=LIMIT).submit(gate.hold)
    gate.wait_for()
    with pytest.raises(TaskTimeout):
        future.result(LONG_TIMEOUT)


def test_a_task_that_does_not_start_in_time_never_starts(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    ran: list[int] = []
    future = runner.options(timeout=LIMIT, name="late").submit(lambda _: ran.append(1))
    with pytest.raises(TaskTimeout, match=r"late did not start within its time limit of 0\.05 s"):
        future.result(LONG_TIMEOUT)
    assert isinstance(future.exception(), TimeoutError)
    assert runner.stats().queued_tasks == 0
    gate.open()
    runner.queue_task(lambda _: None)
    assert ran == []
    assert runner.metrics().total_tasks_timed_out == 1


def test_a_task_that_runs_too_long_gives_its_future_up_at_once(
    runners: Runners, log: LogCapture, gate: Gate
) -> None:
    log.overlook(OVERDUE)
    runner = runners.start()
    future = runner.options(timeout=LIMIT, name="slow").submit(gate.hold_then_return, "late")
    with pytest.raises(TaskTimeout, match=r"slow did not finish within its time limit of 0\.05 s"):
        future.result(LONG_TIMEOUT)
    assert not future.cancelled()
    gate.open()
    runner.queue_task(lambda _: None)
    assert isinstance(future.exception(), TaskTimeout)
    assert runner.metrics().total_tasks_timed_out == 1


def test_a_task_that_runs_too_long_is_told(runners: Runners, log: LogCapture) -> None:
    log.overlook(OVERDUE)
    seen = list[str | None]()
    runner = runners.start()
    with pytest.raises(TaskTimeout):
        runner.options(timeout=LIMIT).queue_task(lambda r: seen.append(obey(r)))
    eventually(lambda: seen)
    assert seen == ["the deadline has passed"]


@pytest.mark.parametrize("worker", ["busy", "idle"])
def test_a_limit_of_zero_never_starts(runners: Runners, gate: Gate, worker: str) -> None:
    runner = runners.start()
    if worker == "busy":
        runner.submit(gate.hold)
        gate.wait_for()
    ran: list[int] = []
    future = runner.options(timeout=0).submit(lambda _: ran.append(1))
    assert isinstance(future.exception(LONG_TIMEOUT), TaskTimeout)
    gate.open()
    runner.queue_task(lambda _: None)
    assert ran == []


def test_a_limit_that_is_kept_changes_nothing(runners: Runners) -> None:
    runner = runners.start(task_timeout=LONG_TIMEOUT)
    assert [runner.queue_task(lambda _, i: i, i) for i in range(50)] == list(range(50))
    assert runner.metrics().total_tasks_timed_out == 0


def test_the_default_limit_holds_for_every_verb(runners: Runners, log: LogCapture) -> None:
    log.overlook(OVERDUE)
    runner = runners.start(task_timeout=LIMIT)
    for call in (
        runner.queue_task,
        runner.queue_task_with_priority,
        runner.queue_task_once,
        runner.queue_task_with_priority_once,
        runner.run_task,
        runner.options(name="a view").queue_task,
    ):
        with pytest.raises(TaskTimeout):
            call(obey)
    runner.stop(LONG_TIMEOUT)


def test_a_views_limit_goes_before_the_default(runners: Runners, gate: Gate) -> None:
    runner = runners.start(task_timeout=LIMIT)
    future = runner.options(timeout=LONG_TIMEOUT).submit(gate.hold_then_return, "done")
    with pytest.raises(TimeoutError):
        future.result(2 * LIMIT)
    gate.open()
    assert future.result(LONG_TIMEOUT) == "done"


def test_limits_end_in_the_order_they_fall_due(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    order: list[float] = []
    for limit in (0.09, 0.03, 0.06):
        future = runner.options(timeout=limit).submit(gate.hold)
        future.add_done_callback(lambda _, limit=limit: order.append(limit))  # type: ignore[misc]
    eventually(lambda: len(order) == 3)
    assert order == [0.03, 0.06, 0.09]


def test_a_task_knows_its_deadline(runners: Runners) -> None:
    def look(_resource: Resource) -> tuple[float | None, float | None]:
        return current_context().deadline, current_context().remaining()

    runner = runners.start()
    assert runner.queue_task(look) == (None, None)
    before = time.monotonic()
    deadline, remaining = runner.options(timeout=LONG_TIMEOUT).queue_task(look)
    after = time.monotonic()
    assert deadline is not None
    assert remaining is not None
    assert before + LONG_TIMEOUT - 0.1 <= deadline <= after + LONG_TIMEOUT + 0.1
    assert 0 < remaining <= LONG_TIMEOUT


def test_waiting_counts(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    future = runner.options(timeout=LONG_TIMEOUT).submit(lambda _: current_context().remaining())
    with pytest.raises(TimeoutError):
        future.result(LIMIT)
    gate.open()
    remaining = future.result(LONG_TIMEOUT)
    assert remaining is not None
    assert remaining < LONG_TIMEOUT - LIMIT


def test_an_overdue_task_is_counted_until_its_function_returns(
    runners: Runners, log: LogCapture, gate: Gate
) -> None:
    log.overlook(OVERDUE)
    runner = runners.start()
    overdue(runner, gate)
    eventually(lambda: runner.stats().overdue_tasks == 1)
    assert runner.stats().running_tasks == 1
    gate.open()
    runner.queue_task(lambda _: None)
    stats = runner.stats()
    assert (stats.overdue_tasks, stats.running_tasks, stats.active_workers) == (0, 0, 1)


def test_workers_with_a_resource_are_counted_among_the_active_ones(
    runners: Runners, log: LogCapture, gate: Gate
) -> None:
    log.overlook(OVERDUE)
    runner = runners.start(worker_count=2)
    overdue(runner, gate)
    eventually(lambda: runner.stats().active_workers == 1)
    assert runner.stats().equipped_workers == 1
    gate.open()
    eventually(lambda: runner.stats().active_workers == 2)
    assert runner.stats().equipped_workers == 2


def test_with_a_slot_free_a_stand_in_takes_the_place_of_an_overdue_worker(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(max_worker_count=2, burst_interval=LONG_TIMEOUT)
    overdue(runner, gate)
    assert runner.queue_task(lambda resource: resource.number) == 1
    assert runner.stats().base_workers == 1
    gate.open()
    eventually(lambda: len(runners.factory.alive) == 1)
    eventually(lambda: len(worker_threads("tasker-1-worker")) == 1)
    assert runner.stats().base_workers == 1
    assert runner.queue_task(lambda _: "alive") == "alive"


def test_stand_ins_keep_to_the_limit_of_workers(
    runners: Runners, log: LogCapture, gate: Gate
) -> None:
    runner = runners.start(max_worker_count=3, burst_interval=LONG_TIMEOUT)
    overdue(runner, gate)
    eventually(lambda: len(runners.factory.alive) == 2)
    overdue(runner, gate)
    eventually(lambda: len(runners.factory.alive) == 3)
    overdue(runner, gate)
    assert len(log.take()) == 1
    assert runner.stats().overdue_tasks == 3
    assert len(runners.factory.alive) == 3
    waiting = runner.submit(lambda _: "served")
    assert not waiting.done()
    gate.open()
    assert waiting.result(LONG_TIMEOUT) == "served"
    eventually(lambda: len(runners.factory.alive) == 1)
    assert runner.stats().base_workers == 1


def test_without_a_slot_there_is_one_warning(runners: Runners, log: LogCapture, gate: Gate) -> None:
    runner = runners.start()
    overdue(runner, gate)
    (record,) = log.take()
    assert record.levelname == "WARNING"
    assert "tasker-1-worker-1" in record.getMessage()
    assert "max_worker_count" in record.getMessage()
    gate.open()


def test_a_limit_ends_the_wait_for_a_resource_and_names_its_cause(
    runners: Runners, log: LogCapture
) -> None:
    up = threading.Event()

    def create() -> Resource:
        if runners.factory.made and not up.is_set():
            raise ConnectionRefusedError("db down")
        return runners.factory.create()

    def fail(_resource: Resource) -> None:
        raise Broken

    runner = runners.start(on_create=create, check_health=is_healthy, max_retries=0)
    with pytest.raises(Broken):
        runner.queue_task(fail)
    with pytest.raises(TaskTimeout) as raised:
        runner.options(timeout=LIMIT).queue_task(lambda _: None)
    assert isinstance(raised.value.__cause__, ConnectionRefusedError)
    up.set()
    assert runner.queue_task(lambda _: "back") == "back"
    assert len(log.take()) == 1


def test_what_kept_resources_from_being_made_is_no_cause_once_it_is_over(
    runners: Runners, log: LogCapture, gate: Gate
) -> None:
    refusals = [ConnectionRefusedError("db down")]

    def create() -> Resource:
        if runners.factory.made and refusals:
            raise refusals.pop()
        return runners.factory.create()

    runner = runners.start(on_create=create, check_health=is_healthy, max_retries=0)
    with pytest.raises(Broken):
        runner.queue_task(break_down)
    running = runner.submit(gate.hold)
    gate.wait_for()
    with pytest.raises(TaskTimeout) as raised:
        runner.options(timeout=LIMIT).queue_task(lambda _: None)
    assert raised.value.__cause__ is None
    gate.open()
    running.result(LONG_TIMEOUT)
    log.take()


def test_a_limit_ends_the_wait_for_a_retry(runners: Runners, log: LogCapture) -> None:
    up = threading.Event()
    attempts: list[int] = []

    def create() -> Resource:
        if runners.factory.made and not up.is_set():
            raise ConnectionRefusedError
        return runners.factory.create()

    def fail(_resource: Resource) -> None:
        attempts.append(1)
        raise Broken

    runner = runners.start(on_create=create, check_health=is_healthy)
    with pytest.raises(TaskTimeout) as raised:
        runner.options(timeout=2 * LIMIT, name="begun").queue_task(fail)
    up.set()
    runner.queue_task(lambda _: None)
    assert attempts == [1]
    assert str(raised.value).startswith("task begun did not finish within its time limit of ")
    log.take()


def test_a_slow_check_health_does_not_hold_the_limit_back(
    runners: Runners, log: LogCapture, gate: Gate
) -> None:
    log.overlook(OVERDUE)

    def check(_error: BaseException) -> bool:
        gate.hold()
        return False

    def fail(_resource: Resource) -> None:
        raise Broken

    runner = runners.start(check_health=check)
    with pytest.raises(TaskTimeout):
        runner.options(timeout=LIMIT).queue_task(fail)
    gate.open()
    assert runner.queue_task(lambda _: "next") == "next"
    assert runner.metrics().total_tasks_retried == 0


def test_a_result_that_comes_too_late_dies(
    runners: Runners, log: LogCapture, no_collector: None
) -> None:
    log.overlook(OVERDUE)
    del no_collector

    class Thing:
        pass

    runner, gate = runners.start(), Gate()
    refs: list[weakref.ref[Thing]] = []

    def slow(_resource: Resource) -> Thing:
        thing = Thing()
        refs.append(weakref.ref(thing))
        gate.hold()
        return thing

    future = runner.options(timeout=LIMIT).submit(slow)
    with pytest.raises(TaskTimeout):
        future.result(LONG_TIMEOUT)
    gate.open()
    eventually(lambda: refs[0]() is None)


def test_stop_waits_for_an_overdue_task(runners: Runners, log: LogCapture, gate: Gate) -> None:
    log.overlook(OVERDUE)
    runner = runners.start()
    overdue(runner, gate)
    stop = Call(runner.stop)
    stop.wait_until_blocked()
    gate.open()
    stop.result()


def test_limits_hold_while_the_runner_stops(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    future = runner.options(timeout=LIMIT).submit(gate.hold)
    stop = Call(runner.stop)
    with pytest.raises(TaskTimeout):
        future.result(LONG_TIMEOUT)
    gate.open()
    stop.result()


def test_a_callback_that_waits_does_not_stop_the_clock(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    errors: list[BaseException] = []

    def wait(_future: Future[None]) -> None:
        try:
            runner.options(timeout=LIMIT).queue_task(gate.hold)
        except RuntimeError as error:
            errors.append(error)

    runner.options(timeout=LIMIT).submit(gate.hold).add_done_callback(wait)
    other = runner.options(timeout=2 * LIMIT).submit(gate.hold)
    assert isinstance(other.exception(LONG_TIMEOUT), TaskTimeout)
    assert ["must not wait" in str(error) for error in errors] == [True]
    assert runner.stats().queued_tasks == 0


LIMITED: dict[str, Callable[[Runner[Resource], Gate], object]] = {
    "result": lambda runner, gate: runner.submit(gate.hold).result(LIMIT),
    "exception": lambda runner, gate: runner.submit(gate.hold).exception(LIMIT),
    "queue_task": lambda runner, gate: runner.options(timeout=LIMIT).queue_task(gate.hold),
    "run_task": lambda runner, gate: runner.options(timeout=LIMIT).run_task(gate.hold),
    "stop": lambda runner, _: runner.stop(LIMIT),
    "kill": lambda runner, _: runner.kill(LIMIT),
}


@pytest.mark.timing
@pytest.mark.parametrize("call", LIMITED.values(), ids=LIMITED.keys())
def test_every_limited_call_ends_soon_after_its_limit(
    runners: Runners, gate: Gate, call: Callable[[Runner[Resource], Gate], object]
) -> None:
    runner = runners.start(max_worker_count=2)
    runner.submit(gate.hold)
    gate.wait_for()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        call(runner, gate)
    assert LIMIT <= time.monotonic() - began < LIMIT + 0.5


@pytest.mark.stress
@pytest.mark.usefixtures("fast_switch")
def test_limits_and_results_in_a_race_give_one_outcome(runners: Runners, log: LogCapture) -> None:
    log.overlook(OVERDUE)
    runner = runners.start(worker_count=3, max_worker_count=6)

    def client() -> tuple[int, int]:
        results, timeouts = 0, 0
        for i in range(150):
            limit = (i % 10) / 5_000
            future = runner.options(timeout=limit).submit(lambda _, t: time.sleep(t), limit / 2)
            try:
                future.result(LONG_TIMEOUT)
                results += 1
            except TaskTimeout:
                timeouts += 1
        return results, timeouts

    outcomes = [call.result() for call in at_once(4, client)]
    runner.stop(LONG_TIMEOUT)
    metrics = runner.metrics()
    assert metrics.total_tasks_completed == sum(results for results, _ in outcomes)
    assert metrics.total_tasks_timed_out == sum(timeouts for _, timeouts in outcomes)
    assert runner.stats().overdue_tasks == 0
