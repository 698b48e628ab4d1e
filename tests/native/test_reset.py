"""`reset` tidies a resource up after every task; one that cannot be tidied up is replaced."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tasker import Future, current_context
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

EVERYWHERE = pytest.mark.parametrize("thread_bound", [True, False])


class Resets:
    """A `reset` that notes its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, resource: Resource) -> None:
        self.calls.append((resource.number, threading.get_ident()))


def fail(_resource: object) -> None:
    raise ValueError


@EVERYWHERE
@pytest.mark.parametrize("verb", ["queue_task", "run_task"])
def test_it_runs_after_every_task_where_the_task_ran(
    runners: Runners, verb: str, thread_bound: bool
) -> None:
    resets = Resets()
    runner = runners.start(reset=resets, thread_bound=thread_bound)

    def where(resource: Resource) -> tuple[int, int]:
        return resource.number, threading.get_ident()

    places = [getattr(runner, verb)(where) for _ in range(3)]
    eventually(lambda: resets.calls == places)


def test_it_runs_after_a_task_that_failed(runners: Runners) -> None:
    resets = Resets()
    runner = runners.start(reset=resets)
    assert isinstance(runner.submit(fail).exception(LONG_TIMEOUT), ValueError)
    eventually(lambda: len(resets.calls) == 1)


def test_the_next_task_finds_the_resource_reset(runners: Runners) -> None:
    mess: set[int] = set()

    def clean(resource: Resource) -> None:
        mess.discard(resource.number)

    def leave_a_mess(resource: Resource) -> bool:
        found = resource.number in mess
        mess.add(resource.number)
        return found

    runner = runners.start(reset=clean)
    futures = [runner.submit(leave_a_mess) for _ in range(20)]
    assert not any(future.result(LONG_TIMEOUT) for future in futures)


def test_the_outcome_does_not_wait_for_it(runners: Runners, gate: Gate) -> None:
    future = runners.start(reset=gate.hold).submit(lambda _: "done")
    assert future.result(LONG_TIMEOUT) == "done"
    gate.wait_for()
    gate.open()


@EVERYWHERE
@pytest.mark.parametrize("verb", ["queue_task", "run_task"])
def test_one_that_raises_has_the_resource_replaced(
    runners: Runners, log: LogCapture, verb: str, thread_bound: bool
) -> None:
    calls: list[int] = []

    def reset(resource: Resource) -> None:
        calls.append(resource.number)
        if len(calls) == 1:
            raise Broken

    call = getattr(runners.start(reset=reset, thread_bound=thread_bound), verb)
    first, second = (call(lambda resource: resource.number) for _ in range(2))
    assert first != second
    eventually(lambda: calls == [first, second])
    (record,) = log.take()
    assert "reset failed" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[0] is Broken


def test_one_that_raises_changes_no_outcome(runners: Runners, log: LogCapture) -> None:
    def reset(_resource: Resource) -> None:
        raise Broken

    runner = runners.start(reset=reset, check_health=is_healthy, max_retries=3)
    assert runner.queue_task(lambda _: current_context().attempt) == 1
    assert runner.metrics().total_tasks_retried == 0
    log.take()


def test_a_bad_resource_is_not_reset(runners: Runners) -> None:
    resets = Resets()
    runner = runners.start(reset=resets, check_health=is_healthy, max_retries=1)
    assert isinstance(runner.submit(break_down).exception(LONG_TIMEOUT), Broken)
    assert runner.queue_task(lambda resource: resource.number) == 2
    eventually(lambda: [number for number, _ in resets.calls] == [2])


def test_a_task_inside_another_is_not_followed_by_it(runners: Runners) -> None:
    resets = Resets()
    runner = runners.start(reset=resets)

    def outer(_resource: Resource) -> int:
        runner.queue_task(lambda _: None)
        runner.run_task(lambda _: None)
        return len(resets.calls)

    assert runner.queue_task(outer) == 0
    eventually(lambda: len(resets.calls) == 1)


def test_a_graceful_stop_waits_for_it(runners: Runners, gate: Gate) -> None:
    order: list[str] = []

    def reset(_resource: Resource) -> None:
        gate.hold()
        order.append("reset")

    def destroy(resource: Resource) -> None:
        order.append("destroy")
        runners.factory.destroy(resource)

    runner = runners.start(reset=reset, on_destroy=destroy)
    runner.queue_task(lambda _: None)
    gate.wait_for()
    stop = Call(runner.stop)
    stop.wait_until_blocked()
    gate.open()
    stop.result()
    assert order == ["reset", "destroy"]


def test_it_is_part_of_no_task(runners: Runners) -> None:
    seen: list[BaseException] = []

    def reset(_resource: Resource) -> None:
        try:
            current_context()
        except RuntimeError as error:
            seen.append(error)

    runners.start(reset=reset).queue_task(lambda _: None)
    eventually(lambda: seen)


WAITS: list[Callable[[Any], object]] = [
    lambda runner: runner.queue_task(lambda _: None),
    lambda runner: runner.run_task(lambda _: None),
    lambda runner: runner.stop(),
]


@EVERYWHERE
@pytest.mark.parametrize("verb", ["queue_task", "run_task"])
@pytest.mark.parametrize("wait", WAITS)
def test_one_that_uses_its_runner_never_stands_still(
    runners: Runners, log: LogCapture, wait: Callable[[Any], object], verb: str, thread_bound: bool
) -> None:
    own: list[Any] = []
    done: list[Future[Any]] = []

    def reset(_resource: Resource) -> None:
        if own and not done:
            done.append(Future())
            try:
                wait(own[0])
            finally:
                done[0].set_result(None)

    own.append(runners.start(reset=reset, thread_bound=thread_bound))
    Call(getattr(own[0], verb), lambda _: None).result()
    eventually(lambda: done)
    done[0].result(LONG_TIMEOUT)
    own[0].stop(LONG_TIMEOUT)
    log.rest()
