"""`Runner.diagnose`: a runner in trouble says so."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import tasker
from tasker import Finding, QueueFull, Runner, RunnerBroken
from tasker._findings import Thresholds, examine
from tasker.testing import InlineRunner
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
)

AT_ONCE = Thresholds(
    stuck_factor=0.0,
    stuck_age=0.0,
    stuck_attempts=1,
    retries=3,
    busy_wait=0.0,
    attach_share=0.0,
    attach_seconds=0.0,
    bound_period=0.0,
    bound_busy=0.0,
    bound_least=0.0,
    bound_most=math.inf,
    failing_ended=3,
    unused_age=0.0,
    unused_attempts=1,
)
"""Everything that could become a finding is one."""


def codes(runner: Runner[Any]) -> set[str]:
    return {finding.code for finding in runner.diagnose()}


def at_once(runner: Runner[Any]) -> dict[str, Finding]:
    """What would be found at once, by code."""
    return {finding.code: finding for finding in examine(runner._snapshot(), limits=AT_ONCE)}


def test_a_new_runner_has_no_findings(runners: Runners) -> None:
    assert runners.start(worker_count=3, resource_pool_size=1).diagnose() == ()


def test_a_runner_at_work_has_no_findings(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    assert list(runner.map(lambda _, n: n, range(500))) == list(range(500))
    assert runner.diagnose() == ()


def test_a_stopped_runner_has_no_findings(runners: Runners) -> None:
    runner = runners.start(max_queue_size=1)
    runner.queue_task(lambda _: None)
    runner.stop(LONG_TIMEOUT)
    assert runner.diagnose() == ()


def test_a_finding_is_a_frozen_object_of_the_package(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_queue_size=1, when_full="raise")
    fill(runner, gate)
    (finding,) = (each for each in runner.diagnose() if each.code == "queue_full")
    assert type(finding) is Finding
    assert Finding.__module__ == "tasker"
    assert not hasattr(finding, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        finding.code = "all_busy"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


def fill(runner: Runner[Any], gate: Gate) -> None:
    """Has the one worker busy, and one more task refused than wait."""
    runner.submit(gate.hold)
    gate.wait_for()
    limit = runner.config.max_queue_size
    assert limit
    for _ in range(limit):
        runner.submit(gate.hold)
    with pytest.raises(QueueFull):
        runner.submit(gate.hold)


def test_a_queue_that_refuses_is_full(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_queue_size=2, when_full="raise")
    fill(runner, gate)
    assert "queue full: 1 task refused in the last minute" in [
        finding.text for finding in runner.diagnose()
    ]
    with pytest.raises(QueueFull):
        runner.submit(gate.hold)
    (finding,) = (each for each in runner.diagnose() if each.code == "queue_full")
    assert finding.text == "queue full: 2 tasks refused in the last minute"
    assert finding.since > 0
    gate.open()
    eventually(lambda: runner.stats().queued_tasks == 0)
    assert "queue_full" not in codes(runner)


def test_tasks_that_run_past_their_limit_are_overdue(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2, max_worker_count=4)
    futures = [runner.options(timeout=0.2).submit(gate.hold) for _ in range(2)]
    gate.wait_for(2)
    for future in futures:
        future.exception(LONG_TIMEOUT)
    (finding,) = (each for each in runner.diagnose() if each.code == "overdue")
    assert (finding.text, finding.figures) == ("2 tasks past their limit", {"tasks": 2})
    gate.open()
    eventually(lambda: codes(runner) == set())


class Refusal(Exception):
    """Says that no resource can be made; as hostile as a class can be."""

    def __repr__(self) -> str:
        raise AssertionError

    __str__ = __repr__


def test_creation_that_fails_is_told_by_the_type_of_its_error(
    runners: Runners, log: LogCapture
) -> None:
    works, resource = threading.Event(), Resource(0)
    works.set()

    def create() -> Resource:
        if not works.is_set():
            raise Refusal
        return resource

    runner = runners.start(on_create=create, on_destroy=None, check_health=is_healthy)
    works.clear()
    runner.options(once=True).submit(lambda _: (_ for _ in ()).throw(Broken)).exception(
        LONG_TIMEOUT
    )
    # The first failure is a failure before it is told of.
    eventually(lambda: any(each.text.endswith(".Refusal") for each in runner.diagnose()))
    finding = runner.diagnose()[0]
    assert (finding.code, finding.severity) == ("creation_failing", "critical")
    assert finding.text.startswith("creation has failed for ")
    assert finding.text.endswith(f": {__name__}.Refusal")
    assert finding.since > 0
    works.set()
    eventually(lambda: runner.diagnose() == ())
    log.rest()


def test_the_error_is_known_while_the_log_is_told_of_it(runners: Runners, log: LogCapture) -> None:
    fails = threading.Event()
    told: list[str] = []

    def create() -> Resource:
        if fails.is_set():
            raise Refusal
        return runners.factory.create()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.extend(finding.text for finding in runner.diagnose())
            fails.clear()

    runner = runners.start(on_create=create, check_health=is_healthy)
    handler = Handler()
    logging.getLogger("tasker").addHandler(handler)
    try:
        fails.set()
        runner.options(once=True).submit(break_down).exception(LONG_TIMEOUT)
        eventually(lambda: told)
    finally:
        logging.getLogger("tasker").removeHandler(handler)
    assert told[0].endswith(f": {__name__}.Refusal")
    log.take()


def test_retries_that_never_succeed_are_told_by_their_task(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy, max_retries=3)

    def load(_resource: Resource) -> None:
        raise Broken

    runner.options(name="load").submit(load).exception(LONG_TIMEOUT)
    eventually(lambda: "retries_failing" in at_once(runner))
    text = '3 retries of "load", and none of these tasks succeeds'
    assert at_once(runner)["retries_failing"].text == text
    assert runner.diagnose() == ()


def test_tasks_that_fail_are_told_with_their_error_and_name(runners: Runners) -> None:
    runner = runners.start(worker_count=2)

    def load(_resource: Resource) -> None:
        raise Refusal

    view = runner.options(name="load")
    for _ in range(10):
        view.submit(load).exception(LONG_TIMEOUT)
    text = f'10 of 10 tasks failed since the start, most with {__name__}.Refusal, most in "load"'
    eventually(lambda: text in [finding.text for finding in runner.diagnose()])
    (finding,) = runner.diagnose()
    assert (finding.code, finding.severity) == ("tasks_failing", "warning")


def test_tasks_that_pass_their_limit_are_failing_ones(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    for future in [runner.options(timeout=0.05).submit(gate.hold) for _ in range(10)]:
        assert isinstance(future.exception(LONG_TIMEOUT), tasker.TaskTimeout)
    gate.open()
    text = "10 of 11 tasks failed since the start, most with tasker.TaskTimeout"
    eventually(lambda: text in [finding.text for finding in runner.diagnose()])


def test_all_workers_busy_are_told_with_the_oldest_wait(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    for _ in range(3):
        runner.submit(gate.hold)
    gate.wait_for(2)
    finding = at_once(runner)["all_busy"]
    most = f'most of it in "{Gate.hold.__qualname__}"'
    assert finding.text.startswith(f"all 2 workers busy, {most}, oldest task waits ")
    assert finding.since == finding.figures["oldest_wait"] > 0


def test_a_task_that_takes_much_longer_than_the_others_is_stuck(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(name="db")
    runner.options(name="fetch").queue_task(lambda _: None)
    runner.options(name="fetch").submit(gate.hold)
    gate.wait_for()
    text = at_once(runner)["stuck_worker"].text
    assert text.startswith('seems stuck: task "fetch" has run for ')
    assert " on db-worker-" in text


def test_workers_that_wait_for_the_interpreter_are_told(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    assert at_once(runner)["interpreter_bound"].text.startswith("workers wait ")


def test_workers_that_take_turns_are_told(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=3)
    # No worker waits after a wake-up.
    limits = dataclasses.replace(AT_ONCE, attach_seconds=math.inf)
    earlier = runner._snapshot()
    for _ in range(3):
        runner.submit(gate.hold)
    gate.wait_for(3)
    now = runner._snapshot()
    assert now.processor_time >= earlier.processor_time > 0
    found = {each.code: each for each in examine(now, None, earlier, limits)}
    assert ("interpreter_bound" in found) is now.has_gil
    if now.has_gil:
        bound = found["interpreter_bound"]
        assert bound.text.startswith("workers wait for the interpreter, ")
        assert 0 < bound.figures["busy_workers"] <= 3


def test_workers_that_were_never_needed_are_too_many(runners: Runners) -> None:
    runner = runners.start(worker_count=4)
    for _ in range(20):
        runner.queue_task(lambda _: None)
    eventually(lambda: runner.metrics().execution.count == 20)
    unused = sum(worker.tasks_done == 0 for worker in runner.workers())
    assert unused
    text = f"never more than {4 - unused} of 4 workers busy at once"
    assert at_once(runner)["too_many_workers"].text == text


def test_a_task_may_ask(runners: Runners) -> None:
    runner = runners.start()
    assert runner.queue_task(lambda _: runner.diagnose()) == ()


def test_hooks_and_callbacks_may_ask(runners: Runners) -> None:
    told: dict[str, Any] = {}
    asking = threading.Event()

    def ask(what: str) -> None:
        if asking.is_set():
            told[what] = runner.diagnose()

    def destroy(resource: Resource) -> None:
        ask("on_destroy")
        runners.factory.destroy(resource)

    runner = runners.start(
        on_event=lambda _: ask("on_event"),
        reset=lambda _: ask("reset"),
        is_broken=lambda *_: bool(ask("is_broken")),
        on_destroy=destroy,
    )
    asking.set()
    future = runner.submit(break_down)
    future.add_done_callback(lambda _: ask("callback"))
    future.exception(LONG_TIMEOUT)
    runner.stop(LONG_TIMEOUT)
    assert set(told) == {"on_event", "reset", "is_broken", "on_destroy", "callback"}


@pytest.mark.parametrize(
    ("end", "state"), [(Runner.stop, "stopping"), (Runner.kill, "killed")], ids=["stop", "kill"]
)
def test_a_runner_that_stops_or_was_killed_tells_what_holds_it_up(
    runners: Runners, gate: Gate, end: Callable[..., object], state: str
) -> None:
    runner = runners.start(worker_count=2, max_worker_count=4)
    future = runner.options(timeout=0.2).submit(gate.hold)
    gate.wait_for()
    future.exception(LONG_TIMEOUT)
    call = Call(end, runner, LONG_TIMEOUT)
    eventually(lambda: runner.state == state)
    assert "overdue" in codes(runner)
    gate.open()
    call.result()
    assert runner.diagnose() == ()


def test_threads_may_ask_while_tasks_run_and_it_stops(runners: Runners) -> None:
    runner, over = runners.start(worker_count=3), threading.Event()

    def ask() -> int:
        looks = 0
        while not over.is_set() or not looks:
            assert isinstance(runner.diagnose(), tuple)
            looks += 1
        return looks

    calls = [Call(ask) for _ in range(4)]
    list(runner.map(lambda _, n: n, range(300)))
    runner.kill(LONG_TIMEOUT)
    over.set()
    assert all(call.result() for call in calls)


def test_the_names_of_runners_and_tasks_stay_on_one_line(runners: Runners, gate: Gate) -> None:
    runner = runners.start(name='a"\n\x1b[31m<b>' + "c" * 500)
    runner.options(name="\x00\n" + "d" * 500).queue_task(lambda _: None)
    runner.options(name="\x00\n" + "d" * 500).submit(gate.hold)
    gate.wait_for()
    text = at_once(runner)["stuck_worker"].text
    assert text.isprintable()
    assert len(text) < 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="a fork warns where threads run")
def test_a_forked_runner_is_broken(runners: Runners) -> None:
    runner = runners.start()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            runner.diagnose()
        except RunnerBroken:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_double_tells_what_it_can() -> None:
    config: tasker.Config[object] = tasker.Config(
        on_create=dict, worker_count=1, max_queue_size=1, when_full="raise", logger=None
    )
    with InlineRunner(config, manual=True) as runner:
        assert runner.diagnose() == ()
        runner.submit(repr)
        with pytest.raises(QueueFull):
            runner.submit(repr)
        (finding,) = runner.diagnose()
        assert finding.text == "queue full: 1 task refused in the last minute"
        runner.run_all()
        assert runner.diagnose() == ()
    assert runner.diagnose() == ()
