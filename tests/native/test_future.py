"""The future of a task through its whole life, and a future settled by hand."""

from __future__ import annotations

import concurrent.futures
import copy
import gc
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tasker import Future
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
)


def settled(settle: str, *outcome: object) -> Future[Any]:
    future: Future[Any] = Future()
    getattr(future, settle)(*outcome)
    return future


def look(future: Future[Any]) -> tuple[bool, bool, bool]:
    return future.running(), future.done(), future.cancelled()


def test_a_task_waits_runs_and_is_done(runners: Runners) -> None:
    runner, first, second = runners.start(), Gate(), Gate()
    blocker = runner.submit(first.hold)
    future = runner.submit(second.hold)
    first.wait_for()
    assert look(future) == (False, False, False)
    assert "state=pending" in repr(future)
    first.open()
    second.wait_for()
    assert look(future) == (True, False, False)
    assert "state=running" in repr(future)
    assert look(blocker) == (False, True, False)
    second.open()
    assert future.result(LONG_TIMEOUT) is None
    assert look(future) == (False, True, False)


def test_an_exception_that_is_returned_is_a_value(runners: Runners) -> None:
    error = Broken()
    future = runners.start().submit(lambda _: error)
    assert future.result(LONG_TIMEOUT) is error
    assert future.exception() is None


def test_a_future_made_by_hand_goes_through_the_same_states() -> None:
    future: Future[int] = Future()
    assert look(future) == (False, False, False)
    assert future.set_running_or_notify_cancel()
    assert look(future) == (True, False, False)
    future.set_result(7)
    assert look(future) == (False, True, False)
    assert (future.result(), future.exception()) == (7, None)


@pytest.mark.parametrize(
    ("future", "text"),
    [
        (Future(), "state=pending"),
        (settled("set_running_or_notify_cancel"), "state=running"),
        (settled("cancel"), "state=cancelled"),
        (settled("set_result", 7), "state=finished returned int"),
        (settled("set_result", None), "state=finished returned NoneType"),
        (settled("set_exception", KeyError()), "state=finished raised KeyError"),
    ],
)
def test_the_text_is_that_of_a_standard_future(future: Future[Any], text: str) -> None:
    assert repr(future) == f"<Future at {hex(id(future))} {text}>"


def test_the_text_names_the_subclass() -> None:
    class Answer(Future[int]):
        pass

    assert repr(Answer()).startswith("<Answer at ")


def test_results_and_errors_keep_their_identity(runners: Runners) -> None:
    runner = runners.start()
    result, error = object(), Broken()

    def fail(_resource: Resource) -> None:
        raise error

    good, bad = runner.submit(lambda _: result), runner.submit(fail)
    assert good.result(LONG_TIMEOUT) is good.result() is result
    assert good.exception() is None
    assert bad.exception(LONG_TIMEOUT) is bad.exception() is error
    with pytest.raises(Broken) as raised:
        bad.result()
    assert raised.value is error


def test_the_traceback_leads_to_the_task(runners: Runners) -> None:
    error = runners.start().submit(break_down).exception(LONG_TIMEOUT)
    assert error is not None
    assert error.__traceback__ is not None
    frames = traceback.extract_tb(error.__traceback__)
    assert [frame.name for frame in frames] == ["break_down"]


@pytest.mark.parametrize("wait", [Future.result, Future.exception])
@pytest.mark.parametrize("timeout", [0, -1, 0.01, 0.05])
def test_a_wait_that_ends_too_early_leaves_the_task_alone(
    runners: Runners, gate: Gate, wait: Callable[..., object], timeout: float
) -> None:
    future = runners.start().submit(gate.hold)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        wait(future, timeout)
    assert time.monotonic() - began >= timeout
    gate.open()
    assert future.result(timeout=LONG_TIMEOUT) is None


def test_a_limit_beyond_all_clocks_is_none(runners: Runners) -> None:
    runner = runners.start()
    for endless in (float("inf"), 1e300):
        assert runner.submit(lambda _: 7).result(endless) == 7


@pytest.mark.parametrize("timeout", ["1", object()])
def test_a_limit_has_to_be_a_number(gate: Gate, runners: Runners, timeout: Any) -> None:
    future = runners.start().submit(gate.hold)
    with pytest.raises(TypeError):
        future.result(timeout)


def test_many_threads_wait_for_one_future(runners: Runners, gate: Gate) -> None:
    future = runners.start().submit(gate.hold_then_return, "done")
    calls = [Call(future.result) for _ in range(8)]
    calls += [Call(future.result, LONG_TIMEOUT) for _ in range(8)]
    calls[-1].wait_until_blocked()
    gate.open()
    assert [call.result() for call in calls] == ["done"] * 16


def test_settling_twice_is_refused(runners: Runners) -> None:
    futures = [settled("set_result", 1), settled("set_exception", Broken()), settled("cancel")]
    futures.append(runners.start().submit(lambda _: 1))
    futures[-1].result(LONG_TIMEOUT)
    for future in futures:
        with pytest.raises(concurrent.futures.InvalidStateError, match="Future at"):
            future.set_result(2)
        with pytest.raises(concurrent.futures.InvalidStateError):
            future.set_exception(ValueError())


def test_set_exception_none_is_the_result_none() -> None:
    assert settled("set_exception", None).result() is None


def test_a_future_starts_once() -> None:
    future: Future[int] = Future()
    assert future.set_running_or_notify_cancel()
    with pytest.raises(RuntimeError, match="unexpected state"):
        future.set_running_or_notify_cancel()
    assert settled("cancel").set_running_or_notify_cancel() is False
    with pytest.raises(RuntimeError):
        settled("set_result", 1).set_running_or_notify_cancel()


def test_a_task_cannot_be_started_by_hand(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    future = runner.submit(lambda _: 7)
    with pytest.raises(RuntimeError):
        future.set_running_or_notify_cancel()
    gate.open()
    assert future.result(LONG_TIMEOUT) == 7


def test_a_waiting_task_settled_by_hand_does_not_run(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    ran: list[int] = []
    future = runner.submit(lambda _: ran.append(1))
    future.set_result(None)
    gate.open()
    runner.queue_task(lambda _: None)
    assert ran == []
    assert runner.stats().queued_tasks == 0


def test_a_running_task_settled_by_hand_keeps_that_result(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    future: Future[object] = runner.submit(gate.hold)
    gate.wait_for()
    future.set_result("by hand")
    assert future.result() == "by hand"
    gate.open()
    runner.queue_task(lambda _: None)
    assert future.result() == "by hand"
    assert runner.stats().running_tasks == 0


def test_a_task_that_waits_for_a_retry_can_be_settled_by_hand(
    runners: Runners, log: LogCapture
) -> None:
    tried, up = threading.Event(), threading.Event()
    attempts: list[int] = []

    def create() -> Resource:
        if runners.factory.made and not up.is_set():
            tried.set()
            raise ConnectionRefusedError
        return runners.factory.create()

    def fail(_resource: Resource) -> None:
        attempts.append(1)
        raise Broken

    runner = runners.start(on_create=create, check_health=is_healthy)
    future = runner.submit(fail)
    try:
        assert tried.wait(LONG_TIMEOUT)
        future.set_result(None)
    finally:
        up.set()
    assert future.result(0) is None
    runner.queue_task(lambda _: None)
    assert attempts == [1]
    log.take()


def test_only_one_of_many_settles() -> None:
    for _ in range(50):
        future: Future[int] = Future()
        barrier = threading.Barrier(4)

        def settle(i: int, future: Future[int], barrier: threading.Barrier) -> bool:
            barrier.wait(LONG_TIMEOUT)
            try:
                future.set_result(i)
            except concurrent.futures.InvalidStateError:
                return False
            return True

        calls = [Call(settle, i, future, barrier) for i in range(4)]
        assert [i for i, call in enumerate(calls) if call.result()] == [future.result()]


def test_it_is_a_standard_future(runners: Runners) -> None:
    future = runners.start().submit(lambda _: 7)
    assert isinstance(future, concurrent.futures.Future)
    assert issubclass(Future, concurrent.futures.Future)
    assert concurrent.futures.Future in type(future).__mro__
    assert not isinstance(concurrent.futures.Future(), Future)


def test_it_can_be_subclassed() -> None:
    class Answer(Future[int]):
        def __init__(self, question: str) -> None:
            super().__init__()
            self.question = question

    answer = Answer("6 * 7")
    answer.set_result(42)
    assert (answer.question, answer.result()) == ("6 * 7", 42)


def test_it_is_generic_at_run_time() -> None:
    assert isinstance(Future[int](), Future)


def test_it_takes_attributes(runners: Runners) -> None:
    future: Any = runners.start().submit(lambda _: 7)
    future.tag = "mine"
    assert future.tag == "mine"
    assert vars(future) == {"tag": "mine"}
    del future.tag
    assert not hasattr(future, "tag")


def test_it_hashes_and_compares_by_identity(runners: Runners) -> None:
    runner = runners.start()
    futures = [runner.submit(lambda _: 7) for _ in range(3)]
    assert len(set(futures)) == 3
    assert futures[0] != futures[1]


def test_it_can_be_referenced_weakly(runners: Runners, no_collector: None) -> None:
    del no_collector
    runner = runners.start()
    future = runner.submit(lambda _: 7)
    assert future.result(LONG_TIMEOUT) == 7
    ref = weakref.ref(future)
    assert ref() is future
    del future
    eventually(lambda: ref() is None)


def test_a_future_in_a_cycle_is_collected(runners: Runners) -> None:
    class Thing:
        future: Future[Any]

    thing = Thing()
    future = thing.future = runners.start().submit(lambda _, t: t, thing)
    assert future.result(LONG_TIMEOUT) is thing
    ref = weakref.ref(future)
    del future, thing
    eventually(lambda: gc.collect() is not None and ref() is None)


def test_copying_is_refused(runners: Runners) -> None:
    future = runners.start().submit(lambda _: 7)
    assert future.result(LONG_TIMEOUT) == 7
    with pytest.raises(TypeError):
        copy.copy(future)


def test_the_standards_private_names_are_there(runners: Runners) -> None:
    runner, gate = runners.start(), Gate()
    future: Any = runner.submit(gate.hold)
    gate.wait_for()
    assert future._state == "RUNNING"
    assert future._waiters == []
    assert future._done_callbacks == []
    with future._condition:
        assert future._result is None
        assert future._exception is None
    gate.open()
    future.result(LONG_TIMEOUT)
    assert future._state == "FINISHED"
    assert settled("set_result", 7)._result == 7
    assert isinstance(settled("set_exception", Broken())._exception, Broken)
    assert settled("cancel")._state == "CANCELLED_AND_NOTIFIED"
    assert Future()._state == "PENDING"


@pytest.mark.stress
def test_waits_with_and_without_limits_never_miss_the_end(runners: Runners) -> None:
    runner = runners.start(worker_count=3)

    def client() -> None:
        for i in range(100):
            future = runner.submit(lambda _, x: x, i)
            assert future.result(LONG_TIMEOUT if i % 2 else None) == i

    for call in at_once(6, client):
        call.result()
