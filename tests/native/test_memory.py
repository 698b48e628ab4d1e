"""Memory: nothing of a task outlives it, nothing of a runner outlives its stop, nothing grows."""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import threading
import tracemalloc
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasker import (
    Config,
    Context,
    Future,
    Runner,
    RunnerStopped,
    TaskCancelled,
    TaskTimeout,
    current_context,
)
from tests.native.support import (
    FREE_THREADED,
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

pytestmark = pytest.mark.usefixtures("no_collector")


class Thing:
    """Something that can be referenced weakly."""


class Tracked:
    """Weak references to the parts of tasks."""

    def __init__(self) -> None:
        self.refs: list[weakref.ref[Any]] = []

    def new(self) -> Thing:
        thing = Thing()
        self.refs.append(weakref.ref(thing))
        return thing

    def function(self, body: Callable[..., Any]) -> Callable[..., Any]:
        """A callable of its own for the body."""

        def task(resource: object, *args: object, **kwargs: object) -> Any:
            return body(resource, *args, **kwargs)

        self.refs.append(weakref.ref(task))
        return task

    def error(self, *args: object) -> Broken:
        error = Broken(*args)
        self.refs.append(weakref.ref(error))
        return error

    @property
    def alive(self) -> list[Any]:
        return [ref() for ref in self.refs if ref() is not None]

    def wait_until_dead(self, parts: int) -> None:
        """Waits until all are dead: a worker may be just letting go of them."""
        assert len(self.refs) == parts
        eventually(lambda: self.alive == [])


@pytest.fixture
def tracked() -> Tracked:
    return Tracked()


VERBS: list[Callable[..., Any]] = [
    lambda runner, *args, **kwargs: runner.submit(*args, **kwargs).result(LONG_TIMEOUT),
    lambda runner, *args, **kwargs: runner.queue_task(*args, **kwargs),
    lambda runner, *args, **kwargs: runner.run_task(*args, **kwargs),
]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("thread_bound", [True, False])
def test_nothing_of_a_finished_task_is_kept(
    runners: Runners, tracked: Tracked, verb: Callable[..., Any], thread_bound: bool
) -> None:
    runner = runners.start(thread_bound=thread_bound)
    function = tracked.function(lambda _, thing, *, other: tracked.new())
    verb(runner, function, tracked.new(), other=tracked.new())
    del function
    tracked.wait_until_dead(4)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("thread_bound", [True, False])
def test_nothing_of_a_failed_task_is_kept(
    runners: Runners, tracked: Tracked, verb: Callable[..., Any], thread_bound: bool
) -> None:
    runner = runners.start(check_health=lambda _: True, thread_bound=thread_bound)

    def fail(_resource: object, _thing: Thing) -> None:
        local = tracked.new()
        raise tracked.error(local)

    def call() -> None:
        function = tracked.function(fail)
        with contextlib.suppress(Broken):
            verb(runner, function, tracked.new())
            pytest.fail("raised nothing")

    call()
    tracked.wait_until_dead(4)


def test_nothing_of_a_retried_task_is_kept(runners: Runners, tracked: Tracked) -> None:
    runner = runners.start(check_health=is_healthy, max_retries=2)

    def fail(_resource: object, _thing: Thing) -> None:
        current_context()
        raise tracked.error(tracked.new())

    future = runner.submit(fail, tracked.new())
    assert isinstance(future.exception(LONG_TIMEOUT), Broken)
    del future
    tracked.wait_until_dead(1 + 3 * 2)


def test_the_future_keeps_the_outcome_and_nothing_else(runners: Runners, tracked: Tracked) -> None:
    runner = runners.start()
    result = Thing()
    future = runner.submit(tracked.function(lambda _, __: result), tracked.new())
    assert future.result(LONG_TIMEOUT) is result
    tracked.wait_until_dead(2)
    assert future.result() is result


def test_a_result_dies_with_its_future(runners: Runners, tracked: Tracked) -> None:
    runner = runners.start(worker_count=2)
    futures = [runner.submit(lambda _: tracked.new()) for _ in range(20)]
    for future in futures:
        future.result(LONG_TIMEOUT)
    assert len(tracked.alive) == 20
    del future, futures
    tracked.wait_until_dead(20)


def test_what_a_worker_made_dies_at_once_where_the_last_reference_goes(
    runners: Runners, tracked: Tracked
) -> None:
    runner = runners.start()
    future = runner.submit(lambda _: tracked.new())
    future.result(LONG_TIMEOUT)
    tracked.refs.append(weakref.ref(future))
    # The worker has let go of the first task by then.
    runner.queue_task(lambda _: None)
    del future
    assert tracked.alive == []


def test_a_cancelled_task_lets_go_at_once(runners: Runners, tracked: Tracked, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    future = runner.submit(tracked.function(gate.hold), tracked.new(), key=tracked.new())
    assert len(tracked.alive) == 3
    future.cancel()
    assert tracked.alive == []


def test_an_expired_task_lets_go_at_once(runners: Runners, tracked: Tracked, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    view = runner.options(timeout=0.02)
    future = view.submit(tracked.function(gate.hold), tracked.new())
    assert isinstance(future.exception(LONG_TIMEOUT), TaskTimeout)
    tracked.wait_until_dead(2)


def test_a_task_settled_by_hand_lets_go_at_once(
    runners: Runners, tracked: Tracked, gate: Gate
) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    future = runner.submit(tracked.function(gate.hold), tracked.new())
    future.set_result(None)
    assert tracked.alive == []


def test_a_refused_task_is_not_kept(runners: Runners, tracked: Tracked) -> None:
    runner = runners.start()
    runner.stop(LONG_TIMEOUT)
    with contextlib.suppress(RunnerStopped):
        runner.submit(tracked.function(print), tracked.new())
        pytest.fail("accepted")
    tracked.wait_until_dead(2)


def test_killed_tasks_live_in_what_the_kill_hands_back_and_nowhere_else(
    runners: Runners, tracked: Tracked, gate: Gate
) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    futures = [runner.submit(gate.hold, tracked.new()) for _ in range(5)]
    kill = Call(runner.kill)
    assert all(isinstance(future.exception(LONG_TIMEOUT), TaskCancelled) for future in futures)
    gate.open()
    dropped = kill.result()
    assert len(tracked.alive) == len(dropped) == 5
    del dropped, kill
    tracked.wait_until_dead(5)


def test_callbacks_die_after_they_were_called(
    runners: Runners, tracked: Tracked, gate: Gate
) -> None:
    def callback(_future: Future[None]) -> None:
        pass

    future = runners.start().submit(gate.hold)
    tracked.refs.append(weakref.ref(callback))
    future.add_done_callback(callback)
    del callback
    assert len(tracked.alive) == 1
    gate.open()
    future.result(LONG_TIMEOUT)
    tracked.wait_until_dead(1)


def test_a_replaced_resource_dies(runners: Runners, tracked: Tracked) -> None:
    runner = runners.keep(
        Runner(
            Config(on_create=tracked.new, check_health=is_healthy, max_retries=0, worker_count=1)
        )
    )

    def fail(_resource: Thing) -> None:
        raise Broken

    for _ in range(3):
        assert isinstance(runner.submit(fail).exception(LONG_TIMEOUT), Broken)
    runner.queue_task(lambda _: None)
    assert len(tracked.refs) == 4
    eventually(lambda: len(tracked.alive) == 1)


def test_a_stopped_runner_keeps_nothing_but_its_config(tracked: Tracked) -> None:
    def build() -> Runner[Thing]:
        def create() -> Thing:
            return tracked.new()

        def destroy(_thing: Thing) -> None:
            pass

        for hook in (create, destroy):
            tracked.refs.append(weakref.ref(hook))
        config = Config(on_create=create, on_destroy=destroy, worker_count=2)
        tracked.refs.append(weakref.ref(config))
        runner = Runner(config)
        runner.run_task(lambda _: None)
        runner.stop(LONG_TIMEOUT)
        return runner

    runner = build()
    assert len(tracked.alive) == 3
    del runner
    tracked.wait_until_dead(6)


def test_a_runner_dies_without_the_collector(runners: Runners, tracked: Tracked) -> None:
    runner = Runner(runners.config())
    tracked.refs.append(weakref.ref(runner))
    with runner:
        view = runner.options(name="view")
        futures = [view.submit(lambda _, i: i, i) for i in range(5)]
        assert list(runner.map(lambda _, x: x, range(5))) == list(range(5))
    del runner, view
    tracked.wait_until_dead(1)
    assert [future.result(0) for future in futures] == list(range(5))


def test_a_runner_in_a_cycle_with_its_own_tasks_is_collected(runners: Runners) -> None:
    """Its task function is a closure over the runner; its result leads back as well."""

    def build() -> weakref.ref[Any]:
        runner: Any = Runner(runners.config())
        runner.last = runner.submit(lambda _: runner)
        runner.last.result(LONG_TIMEOUT)
        runner.stop(LONG_TIMEOUT)
        return weakref.ref(runner)

    ref = build()
    gc.collect()
    assert ref() is None


def is_collected(ref: weakref.ref[Any]) -> bool:
    gc.collect()
    return ref() is None


@pytest.mark.parametrize("ends", ["stopped", "dropped"])
def test_a_runner_in_a_cycle_with_its_own_logger_is_collected(ends: str) -> None:
    """The logger has a handler that asks the runner for figures with each record."""

    class Handler(logging.Handler):
        runner: Runner[Any] | None = None

    def build() -> weakref.ref[Any]:
        handler = Handler()
        logger = logging.Logger("cyclic")
        logger.addHandler(handler)
        handler.runner = Runner(Config(on_create=object, worker_count=1, logger=logger))
        if ends == "stopped":
            handler.runner.stop(LONG_TIMEOUT)
        return weakref.ref(handler.runner)

    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        ref = build()
        eventually(lambda: is_collected(ref))


@pytest.mark.parametrize("ends", ["stopped", "dropped"])
def test_the_owner_of_a_runner_is_collected_after_its_on_create_failed(ends: str) -> None:
    """The traceback of the error leads to the owner, whose method `on_create` is."""

    class Owner:
        def __init__(self) -> None:
            self.fails = False
            config = Config(
                on_create=self.connect, is_broken=is_broken, worker_count=1, logger=None
            )
            self.runner = Runner(config)

        def connect(self) -> object:
            if self.fails:
                self.fails = False
                raise ConnectionError
            return object()

    def is_broken(_resource: object, error: BaseException) -> bool:
        return isinstance(error, Broken)

    def build() -> weakref.ref[Any]:
        owner = Owner()
        owner.fails = True
        with contextlib.suppress(Broken):
            owner.runner.options(once=True).queue_task(break_down)
        assert owner.runner.queue_task(lambda _: 1) == 1
        assert owner.runner.metrics().total_creations_failed == 1
        if ends == "stopped":
            owner.runner.stop(LONG_TIMEOUT)
        return weakref.ref(owner)

    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        ref = build()
        eventually(lambda: is_collected(ref))


def test_what_nobody_looked_at_is_logged_after_its_runner_has_gone() -> None:
    records = LogCapture()
    logger = logging.Logger("given")
    logger.addHandler(records)
    runner = Runner(Config(on_create=object, worker_count=1, logger=logger))
    future: Future[Any] = runner.submit(lambda _: [].pop())
    runner.stop(LONG_TIMEOUT)
    del runner, logger
    gc.collect()
    del future
    assert "failed and nobody looked" in records.take()[0].getMessage()


def test_a_cycle_through_an_error_and_its_future_is_collected(runners: Runners) -> None:
    class Cyclic(Exception):
        future: Future[None]

    def build() -> weakref.ref[Cyclic]:
        error = Cyclic()
        runner, gate = runners.start(), Gate()
        future = runner.submit(gate.hold_then_raise, error)
        error.future = future
        gate.open()
        assert future.exception(LONG_TIMEOUT) is error
        return weakref.ref(error)

    ref = build()
    eventually(lambda: is_collected(ref))


def test_a_cycle_through_a_waiting_future_is_collected_once_it_ran(
    runners: Runners, tracked: Tracked, gate: Gate
) -> None:
    """While it waits, the collector does not look at a future, nor at what hangs on it."""
    runner = runners.start()
    runner.submit(gate.hold)

    def build() -> None:
        thing: Any = tracked.new()
        thing.future = runner.submit(lambda _, t: None, thing)

    build()
    gc.collect()
    assert len(tracked.alive) == 1
    gate.open()
    runner.queue_task(lambda _: None)
    eventually(lambda: gc.collect() is not None and tracked.alive == [])


def test_the_collector_may_run_at_any_moment(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    runner.submit(gate.hold)
    thresholds = gc.get_threshold()
    gc.enable()
    gc.set_threshold(1)
    try:
        for i in range(300):
            future: Any = runner.options(timeout=LONG_TIMEOUT).submit(lambda _, x: [x], i)
            future.myself = future
            future.add_done_callback(lambda f: f)
            assert future.result(LONG_TIMEOUT) == [i]
            runner.submit(gate.hold).cancel()
    finally:
        gc.set_threshold(*thresholds)


def used(kind: str) -> int:
    """Bytes of memory: those of Python's objects, or of the whole process."""
    gc.collect()
    if kind == "objects":
        return tracemalloc.get_traced_memory()[0]
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def work(runner: Runner[Resource], count: int) -> None:
    """Makes all kinds of tasks, one after the other, without keeping any."""

    def fail(_resource: Resource) -> None:
        raise ValueError

    urgent, once = runner.options(timeout=LONG_TIMEOUT, name="urgent"), runner.options(once=True)
    for i in range(count // 10):
        futures: list[Future[Any]] = [runner.submit(lambda _, x: x, i) for _ in range(5)]
        futures += [urgent.submit(str), once.submit(fail), runner.submit(current_context_of)]
        runner.run_task(lambda _, x: x, i)
        runner.submit(repr).cancel()
        for future in futures:
            future.exception(LONG_TIMEOUT)


def current_context_of(_resource: Resource) -> Context:
    return current_context().child(timeout=LONG_TIMEOUT)


@pytest.mark.stress
@pytest.mark.parametrize("kind", ["objects", "process"])
def test_nothing_grows_with_the_number_of_tasks(runners: Runners, kind: str) -> None:
    if kind == "process" and sys.platform != "linux":
        pytest.skip("looks into /proc")
    count = 200_000
    runner = runners.start(worker_count=2, copy_contextvars=kind == "objects")
    if kind == "objects":
        tracemalloc.start()
    try:
        work(runner, count // 4)
        before = used(kind)
        work(runner, count)
        grown = used(kind) - before
    finally:
        tracemalloc.stop()
    # A byte for each task would be seen.
    assert grown < (100_000 if kind == "objects" else 1_000_000)


@pytest.mark.stress
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_nothing_grows_with_the_number_of_runners(runners: Runners) -> None:
    def round_trips(count: int) -> tuple[int, int]:
        for _ in range(count):
            with Runner(runners.config(worker_count=2, resource_pool_size=1)) as runner:
                runner.options(timeout=LONG_TIMEOUT).queue_task(lambda _: None)
                runner.run_task(lambda _: None)
        runners.factory.made.clear()
        return used("process"), len(list(Path("/proc/self/fd").iterdir()))

    before = round_trips(50)
    after = round_trips(200)
    assert after[0] - before[0] < 2_000_000
    assert after[1] == before[1]


@pytest.mark.stress
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_nothing_grows_with_the_number_of_cancelled_tasks_and_contexts(
    runners: Runners, gate: Gate
) -> None:
    """Their entries leave the queue although no worker comes to skip them."""
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    survivor = runner.submit(lambda _: "still here")
    expiring = runner.options(timeout=LONG_TIMEOUT * 100)
    root = Context()

    def round_trips(count: int) -> int:
        for _ in range(count):
            runner.submit(gate.hold, bytes(10)).cancel()
            expiring.submit(gate.hold).cancel()
            root.child(timeout=LONG_TIMEOUT)
        return used("process")

    before = round_trips(20_000)
    assert round_trips(60_000) - before < 1_500_000
    assert runner.stats().queued_tasks == 1
    gate.open()
    assert survivor.result(LONG_TIMEOUT) == "still here"


def test_a_waiting_thread_is_forgotten_when_it_gives_up(runners: Runners, gate: Gate) -> None:
    """Else a future that is polled with a limit would collect its waiters."""
    future = runners.start().submit(gate.hold)
    context = Context()
    with pytest.raises(TimeoutError):
        future.result(0.001)
    context.wait(0.001)
    tracemalloc.start()
    try:
        before = used("objects")
        for _ in range(500):
            with pytest.raises(TimeoutError):
                future.result(0)
            context.wait(0)
        assert used("objects") - before < 10_000
    finally:
        tracemalloc.stop()
    assert threading.active_count() >= 2


@pytest.mark.skipif(FREE_THREADED, reason="counts what dies late there")
@pytest.mark.parametrize("fields", [{}, {"task_timeout": 60}, {"check_health": is_healthy}])
@pytest.mark.parametrize("ordered", [True, False])
def test_an_endless_map_keeps_no_more_than_it_looks_ahead(
    runners: Runners, fields: dict[str, Any], *, ordered: bool
) -> None:
    alive = 0

    class Counted:
        def __init__(self) -> None:
            nonlocal alive
            alive += 1

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    runner = runners.start(worker_count=2, **fields)
    results = runner.map(
        lambda _, thing: (thing, Counted()), iter(Counted, None), buffersize=10, ordered=ordered
    )
    for count, pair in enumerate(results):
        del pair
        assert alive <= 2 * 11
        if count == 5_000:
            break
    results.close()
    eventually(lambda: alive == 0)
