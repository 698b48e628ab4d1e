"""Destructors, weak references and callbacks call into a runner in the middle of its work."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tasker import Config, Context, Future, Runner, RunnerStopped
from tests.native.support import LONG_TIMEOUT, Call, Gate, Resource, Runners, eventually


class Garbage:
    """Part of a cycle; makes a call when the collector finds it."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.myself = self
        self.call = call

    def __del__(self) -> None:
        self.call()


@pytest.fixture
def eager_collector() -> Iterator[None]:
    """The collector runs at each allocation of a container."""
    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    yield
    gc.set_threshold(*thresholds)
    gc.collect()


def call_back(runner: Runner[Resource]) -> None:
    runner.submit(lambda _: 1).add_done_callback(repr)


def settle(_runner: Runner[Resource]) -> None:
    future: Future[int] = Future()
    future.add_done_callback(repr)
    future.set_result(7)


CALLS: dict[str, Callable[[Runner[Resource]], object]] = {
    "submit": lambda runner: runner.submit(lambda _: None),
    "submit and cancel": lambda runner: runner.submit(lambda _: None).cancel(),
    "submit with a limit": lambda runner: runner.options(timeout=LONG_TIMEOUT).submit(
        lambda _: None
    ),
    "stats": lambda runner: runner.stats(),
    "metrics": lambda runner: runner.metrics(),
    "add_done_callback": call_back,
    "set_result": settle,
    "context": lambda _runner: Context().child(timeout=1).cancel("done"),
}


@pytest.mark.usefixtures("eager_collector")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_destructor_may_call_while_the_same_call_is_under_way(
    runners: Runners, call: Callable[[Runner[Resource]], object]
) -> None:
    runner = runners.start(worker_count=2)

    def work() -> None:
        for _ in range(200):
            Garbage(lambda: call(runner))
            call(runner)

    Call(work).result()
    # From 3.12 on the collector puts its work off, to when the runner may have stopped.
    gc.collect()
    eventually(lambda: runner.stats().queued_tasks == 0)


@pytest.mark.usefixtures("eager_collector")
def test_a_destructor_may_meet_a_stopped_runner(runners: Runners) -> None:
    runner = runners.start()
    refused: list[int] = []

    def submit() -> None:
        try:
            runner.submit(lambda _: None)
        except RunnerStopped:
            refused.append(1)

    def work() -> None:
        for _ in range(50):
            Garbage(submit)

    Call(work).result()
    runner.stop(LONG_TIMEOUT)
    Call(work).result()
    gc.collect()
    assert len(refused) >= 50


def test_an_argument_may_submit_when_it_dies(runners: Runners) -> None:
    runner = runners.start()
    followers: list[Future[str]] = []

    class Parting:
        def __del__(self) -> None:
            followers.append(runner.submit(lambda _: "follower"))

    for _ in range(5):
        runner.submit(lambda _, __: None, Parting())
    eventually(lambda: len(followers) == 5)
    assert [future.result(LONG_TIMEOUT) for future in followers] == ["follower"] * 5


def test_an_argument_of_a_cancelled_task_may_submit_when_it_dies(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(max_queue_size=3)
    runner.submit(gate.hold)
    gate.wait_for()
    followers: list[Future[None]] = []

    class Parting:
        def __del__(self) -> None:
            followers.append(runner.submit(gate.hold))

    assert runner.submit(gate.hold, Parting()).cancel()
    assert len(followers) == 1
    assert runner.stats().queued_tasks == 1


def test_a_result_nobody_wants_may_submit_when_it_dies(runners: Runners) -> None:
    runner = runners.start()
    followers: list[Future[str]] = []

    class Parting:
        def __del__(self) -> None:
            followers.append(runner.submit(lambda _: "follower"))

    runner.submit(lambda _: Parting())
    eventually(lambda: followers)
    assert followers[0].result(LONG_TIMEOUT) == "follower"


def test_a_resource_may_use_the_runner_when_it_dies(runners: Runners) -> None:
    states: list[str] = []

    class Parting:
        def __del__(self) -> None:
            states.append(own[0].state)
            own[0].stats()

    own: list[Runner[Parting]] = []
    own.append(runners.keep(Runner(Config(on_create=Parting, worker_count=1))))
    own[0].stop(LONG_TIMEOUT)
    assert states == ["stopping"]


def test_a_weak_reference_may_submit_when_its_object_dies(runners: Runners) -> None:
    runner = runners.start()
    followers: list[Future[str]] = []

    class Thing:
        pass

    def parting(_ref: weakref.ref[Any]) -> None:
        followers.append(runner.submit(lambda _: "follower"))

    thing = Thing()
    ref = weakref.ref(thing, parting)
    runner.submit(lambda _, __: None, thing)
    del thing
    eventually(lambda: followers)
    assert followers[0].result(LONG_TIMEOUT) == "follower"
    assert ref() is None


def test_a_destructor_on_a_worker_may_wait_for_its_own_runner(runners: Runners) -> None:
    runner = runners.start()
    results: list[int] = []

    class Parting:
        def __del__(self) -> None:
            results.append(runner.queue_task(lambda _: 7))

    runner.submit(lambda _, __: None, Parting())
    eventually(lambda: results == [7])


@pytest.mark.usefixtures("eager_collector")
def test_callbacks_and_cancels_may_be_nested_deeply(runners: Runners) -> None:
    runner = runners.start()
    depth = threading.local()

    def again(_future: Future[None]) -> None:
        depth.value = getattr(depth, "value", 0) + 1
        if depth.value < 100:
            future: Future[None] = Future()
            future.add_done_callback(again)
            future.cancel()

    first = runner.submit(lambda _: None)
    first.result(LONG_TIMEOUT)
    first.add_done_callback(again)
    assert depth.value == 100
