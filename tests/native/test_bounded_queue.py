"""A bounded queue: full means wait, hand-over by priority, or an error; the bound always holds."""

from __future__ import annotations

import _thread
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tasker import Priority, QueueFull, Runner, RunnerStopped, current_context
from tests.native.support import (
    FREE_THREADED,
    LONG_TIMEOUT,
    MOMENT,
    Broken,
    Call,
    Gate,
    Resource,
    Runners,
    at_once,
    eventually,
    is_healthy,
)


def full(runners: Runners, gate: Gate, size: int = 1, **fields: Any) -> Runner[Resource]:
    """A runner whose worker is busy and whose queue is full."""
    runner = runners.start(max_queue_size=size, **fields)
    runner.submit(gate.hold)
    gate.wait_for()
    for _ in range(size):
        runner.submit(lambda _: None)
    return runner


def test_a_full_queue_makes_submit_wait(runners: Runners, gate: Gate) -> None:
    runner = full(runners, gate, size=2)
    call = Call(runner.submit, lambda _: "through")
    call.wait_until_blocked()
    assert runner.stats().queued_tasks == 2
    gate.open()
    assert call.result().result(LONG_TIMEOUT) == "through"


@pytest.mark.parametrize("verb", ["submit", "queue_task", "queue_task_once"])
def test_every_queueing_verb_keeps_to_the_bound(runners: Runners, gate: Gate, verb: str) -> None:
    runner = full(runners, gate, size=2, when_full="raise")
    with pytest.raises(QueueFull, match="max_queue_size=2"):
        getattr(runner, verb)(lambda _: None)
    with pytest.raises(QueueFull):
        runner.options(priority=Priority.HIGH).submit(lambda _: None)
    assert runner.stats().queued_tasks == 2
    assert runner.metrics().total_tasks_refused == 2


def test_the_error_is_the_standards_too(runners: Runners, gate: Gate) -> None:
    runner = full(runners, gate, when_full="raise")
    with pytest.raises(queue.Full):
        runner.submit(lambda _: None)


def test_run_task_needs_no_room(runners: Runners, gate: Gate) -> None:
    runner = full(runners, gate, when_full="raise")
    assert runner.run_task(lambda _: "past the queue") == "past the queue"


def test_a_full_queue_takes_another_when_one_has_left(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_queue_size=1, when_full="raise")
    runner.submit(gate.hold)
    gate.wait_for()
    waiting = runner.submit(gate.hold)
    assert waiting.cancel()
    runner.submit(gate.hold).set_result(None)
    runner.options(timeout=0.001).submit(gate.hold).exception(LONG_TIMEOUT)
    runner.submit(gate.hold)
    with pytest.raises(QueueFull):
        runner.submit(gate.hold)


def test_a_cancel_lets_a_waiting_submitter_in(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_queue_size=1)
    runner.submit(gate.hold)
    gate.wait_for()
    waiting = runner.submit(gate.hold)
    call = Call(runner.submit, gate.hold)
    call.wait_until_blocked()
    waiting.cancel()
    call.result()
    assert runner.stats().queued_tasks == 1


def test_waiting_submitters_are_let_in_by_priority_then_first_come(
    runners: Runners, gate: Gate
) -> None:
    runner = full(runners, gate)
    accepted: list[str] = []

    def submit(name: str, priority: Priority) -> None:
        runner.options(priority=priority).submit(lambda _: accepted.append(name))

    calls = []
    for priority in (Priority.LOW, Priority.NORMAL, Priority.HIGH):
        for i in range(2):
            calls.append(Call(submit, f"{priority.name} {i}", priority))
            calls[-1].wait_until_blocked()
    gate.open()
    for call in calls:
        call.result()
    eventually(lambda: len(accepted) == 6)
    assert accepted == ["HIGH 0", "HIGH 1", "NORMAL 0", "NORMAL 1", "LOW 0", "LOW 1"]


def test_a_newcomer_does_not_overtake_those_that_wait(runners: Runners, gate: Gate) -> None:
    runner, ran = full(runners, gate), list[str]()
    first = Call(runner.submit, lambda _: ran.append("first"))
    first.wait_until_blocked()
    gate.open()
    runner.submit(lambda _: ran.append("second"))
    first.result()
    eventually(lambda: len(ran) == 2)
    assert ran == ["first", "second"]


def test_a_submit_whose_limit_passes_while_it_waits_raises(runners: Runners, gate: Gate) -> None:
    runner = full(runners, gate)
    ran: list[int] = []
    began = time.monotonic()
    with pytest.raises(QueueFull, match="time limit passed while it waited"):
        runner.options(timeout=0.05).submit(lambda _: ran.append(1))
    assert time.monotonic() - began >= 0.05
    gate.open()
    runner.queue_task(lambda _: None)
    assert ran == []
    assert runner.metrics().total_tasks_refused == 1
    assert runner.metrics().total_tasks_timed_out == 0


def test_the_default_limit_counts_while_it_waits(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_queue_size=1, task_timeout=0.3)
    runner.options(timeout=LONG_TIMEOUT).submit(gate.hold)
    gate.wait_for()
    runner.options(timeout=LONG_TIMEOUT).submit(gate.hold)
    with pytest.raises(QueueFull):
        runner.submit(gate.hold)


@pytest.mark.parametrize("verb", ["queue_task", "submit_many"])
def test_the_limit_of_a_task_counts_from_the_call_that_waits_for_room(
    runners: Runners, gate: Gate, verb: str
) -> None:
    runner = full(runners, gate)
    view = runner.options(timeout=LONG_TIMEOUT)

    def deadline(_resource: Resource, *_items: int) -> float | None:
        return current_context().deadline

    def submit_many() -> float | None:
        return view.submit_many(deadline, [1])[0].result()

    call = Call({"queue_task": lambda: view.queue_task(deadline), "submit_many": submit_many}[verb])
    call.wait_until_blocked()
    still_outside = time.monotonic()
    gate.open()
    deadline_of_it = call.result()
    assert deadline_of_it is not None
    assert deadline_of_it <= still_outside + LONG_TIMEOUT


def test_all_items_of_submit_many_wait_for_room_within_one_limit(
    runners: Runners, gate: Gate
) -> None:
    runner = full(runners, gate)
    began = time.monotonic()
    futures = runner.options(timeout=0.1).submit_many(lambda _, item: item, range(20))
    assert time.monotonic() - began < 1.0
    assert [type(future.exception()) for future in futures] == [QueueFull] * 20


@pytest.mark.parametrize(
    "verb",
    [
        "queue_task",
        "queue_task_with_priority",
        "queue_task_once",
        "queue_task_with_priority_once",
        "run_task",
    ],
)
@pytest.mark.parametrize("when_full", ["block", "raise"])
def test_a_task_that_an_own_worker_runs_itself_needs_no_room(
    runners: Runners, verb: str, when_full: str
) -> None:
    runner = runners.start(max_queue_size=1, when_full=when_full)

    def outer(resource: Resource) -> bool:
        runner.submit(lambda _: None)
        inner: bool = getattr(runner, verb)(lambda same: same is resource)
        return inner

    assert runner.submit(outer).result(LONG_TIMEOUT)


def test_a_submit_from_an_own_worker_raises_instead_of_waiting(runners: Runners) -> None:
    runner = runners.start(max_queue_size=1)

    def feed_myself(_resource: Resource) -> str:
        runner.submit(lambda _: None)
        with pytest.raises(QueueFull, match="worker of the runner"):
            runner.submit(lambda _: None)
        return "alive"

    assert runner.queue_task(feed_myself) == "alive"


def test_a_submit_from_another_runners_worker_waits(runners: Runners, gate: Gate) -> None:
    runner = full(runners, gate)
    other = runners.start(name="other")
    inner = other.submit(lambda _: runner.queue_task(lambda _: "through"))
    with pytest.raises(TimeoutError):
        inner.result(MOMENT)
    gate.open()
    assert inner.result(LONG_TIMEOUT) == "through"


def test_ctrl_c_ends_the_wait_and_nothing_was_accepted(runners: Runners, gate: Gate) -> None:
    runner = full(runners, gate)
    ran: list[int] = []
    threading.Timer(MOMENT, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        runner.submit(lambda _: ran.append(1))
    gate.open()
    runner.queue_task(lambda _: None)
    assert ran == []


@pytest.mark.parametrize("end", [Runner.stop, Runner.kill])
def test_the_end_of_the_runner_refuses_those_that_wait(
    runners: Runners, gate: Gate, end: Callable[[Runner[Any]], object]
) -> None:
    runner = full(runners, gate)
    calls = [Call(runner.submit, lambda _: None) for _ in range(3)]
    for call in calls:
        call.wait_until_blocked()
    ending = Call(end, runner)
    for call in calls:
        assert isinstance(call.error(), RunnerStopped)
    gate.open()
    ending.result()
    assert runner.metrics().total_tasks_refused == 3


def test_a_retry_needs_no_room(runners: Runners) -> None:
    runner = runners.start(max_queue_size=1, check_health=is_healthy, when_full="raise")
    attempts: list[int] = []

    def flaky(_resource: Resource) -> str:
        attempts.append(1)
        if len(attempts) == 1:
            runner.submit(lambda _: None)
            raise Broken
        return "retried"

    assert runner.submit(flaky).result(LONG_TIMEOUT) == "retried"


def test_a_refused_draft_gives_its_room_back(runners: Runners) -> None:
    runner = runners.start(max_queue_size=1, when_full="raise")
    for _ in range(5):
        with pytest.raises(TypeError):
            runner.submit(7)  # type: ignore[call-overload]
    assert runner.queue_task(lambda _: "room") == "room"


def test_map_streams_through_a_small_queue(runners: Runners) -> None:
    runner = runners.start(worker_count=2, max_queue_size=1)
    assert list(runner.map(lambda _, x: 2 * x, range(200))) == list(range(0, 400, 2))


@pytest.mark.stress
@pytest.mark.usefixtures("fast_switch")
def test_the_bound_holds_for_many_producers(runners: Runners) -> None:
    runner = runners.start(worker_count=2, max_queue_size=4)
    producing = threading.Event()
    over: list[int] = []

    def producer() -> None:
        for i in range(200):
            runner.options(priority=Priority(i % 3)).submit(lambda _: None)

    def watcher() -> None:
        while not producing.is_set():
            queued = runner.stats().queued_tasks
            if queued > 4:
                over.append(queued)

    watching = Call(watcher)
    for call in at_once(5, producer):
        call.result()
    producing.set()
    watching.result()
    runner.stop(LONG_TIMEOUT)
    assert runner.metrics().total_tasks_completed == 1_000
    assert FREE_THREADED or over == []


@pytest.mark.stress
@pytest.mark.usefixtures("fast_switch")
def test_room_is_never_lost(runners: Runners) -> None:
    """Submits that wait, give up, are cancelled: in the end the queue holds as many as before."""
    runner = runners.start(worker_count=2, max_queue_size=3)

    def client() -> None:
        for i in range(150):
            try:
                future = runner.options(timeout=0.002 if i % 3 else None).submit(lambda _: None)
            except QueueFull:
                continue
            if i % 2:
                future.cancel()

    for call in at_once(5, client):
        call.result()
    eventually(lambda: runner.stats().queued_tasks == 0)
    gate = Gate()
    for _ in range(2):
        runner.submit(gate.hold)
    gate.wait_for(2)
    for _ in range(3):
        runner.submit(gate.hold)
    fourth = Call(runner.submit, gate.hold)
    fourth.wait_until_blocked()
    gate.open()
    fourth.result()
