"""A runner that was dropped without a stop: a warning, and everything is finished all the same."""

from __future__ import annotations

import gc
import sys
import time
import warnings
import weakref

import pytest

from tasker import Config, Context, Future, ResourceCreationError, Runner
from tests.native.support import (
    FREE_THREADED,
    LONG_TIMEOUT,
    Factory,
    Gate,
    Resource,
    Runners,
    eventually,
    runner_threads,
)


def drop(runners: Runners, gate: Gate) -> list[Future[str]]:
    """Starts a runner, gives it work and loses it."""
    runner = Runner(runners.config(worker_count=2, resource_pool_size=1))
    return [runner.submit(gate.hold_then_return, "done") for _ in range(5)]


def test_it_warns_and_finishes_in_the_background(runners: Runners, gate: Gate) -> None:
    began = time.monotonic()
    with pytest.warns(ResourceWarning, match="'tasker-1' running, 2 workers> was dropped without"):
        futures = drop(runners, gate)
    assert time.monotonic() - began < LONG_TIMEOUT / 2
    assert not any(future.done() for future in futures)
    gate.open()
    assert [future.result(LONG_TIMEOUT) for future in futures] == ["done"] * 5
    eventually(lambda: runner_threads() == [])
    runners.factory.check()


@pytest.mark.usefixtures("no_collector")
def test_workers_and_futures_do_not_keep_it_alive(runners: Runners, gate: Gate) -> None:
    runner = Runner(runners.config())
    ref = weakref.ref(runner)
    future = runner.submit(gate.hold)
    gate.wait_for()
    with pytest.warns(ResourceWarning):
        del runner
    assert ref() is None
    gate.open()
    future.result(LONG_TIMEOUT)
    eventually(lambda: runner_threads() == [])


def test_a_view_keeps_it_alive(runners: Runners) -> None:
    view = runners.start().options(name="view")
    gc.collect()
    assert view.queue_task(lambda _: "alive") == "alive"


def test_a_map_keeps_it_alive(runners: Runners) -> None:
    runner = Runner(runners.config())
    results = runner.map(lambda _, x: x, range(100))
    del runner
    assert list(results) == list(range(100))
    with pytest.warns(ResourceWarning):
        del results
    eventually(lambda: runner_threads() == [])


def test_a_context_does_not_keep_it_alive(runners: Runners) -> None:
    context = Context()
    runner = Runner(runners.config(context=context))
    with pytest.warns(ResourceWarning):
        del runner
    eventually(lambda: runner_threads() == [])
    context.cancel()


@pytest.mark.skipif(FREE_THREADED, reason="the runner dies on the thread that made it")
def test_a_task_may_drop_the_last_reference(runners: Runners) -> None:
    holder = [Runner(runners.config())]

    def drop_it(_resource: Resource) -> str:
        with pytest.warns(ResourceWarning):
            holder.clear()
        return "went on"

    future = holder[0].submit(drop_it)
    assert future.result(LONG_TIMEOUT) == "went on"
    eventually(lambda: runner_threads() == [])


def test_a_runner_that_never_came_to_life_is_dropped_in_silence() -> None:
    factory = Factory()

    def create() -> Resource:
        raise ConnectionRefusedError

    with pytest.raises(ResourceCreationError):
        Runner(Config(on_create=create, on_destroy=factory.destroy, worker_count=1))
    gc.collect()


def test_one_that_was_stopped_is_dropped_in_silence(runners: Runners) -> None:
    for end in (Runner.stop, Runner.kill):
        runner = Runner(runners.config())
        end(runner)
        del runner
    gc.collect()


def test_one_in_a_cycle_is_found_by_the_collector(runners: Runners) -> None:
    class Owner:
        runner: Runner[Resource]

    def build() -> None:
        owner = Owner()
        owner.runner = Runner(runners.config())
        owner.runner.submit(lambda _: owner).result(LONG_TIMEOUT)
        owner.runner.owner = owner  # type: ignore[attr-defined]

    build()
    with pytest.warns(ResourceWarning):
        gc.collect()
    eventually(lambda: runner_threads() == [])


@pytest.mark.parametrize("workers_left", [0, 1])
def test_one_that_its_own_hooks_refer_to_is_collected(workers_left: int) -> None:
    # No weak reference tells: the collector clears them before finalizers save what they refer to.
    probe = object()

    class Owner:
        def __init__(self) -> None:
            self.probe = probe
            config = Config(on_create=self.create, on_destroy=self.destroy, worker_count=1)
            self.runner = Runner(config)

        def create(self) -> Resource:
            return Resource(0)

        def destroy(self, resource: Resource) -> None: ...

    references = sys.getrefcount(probe)
    owner = Owner()
    if not workers_left:
        owner.runner.stop(LONG_TIMEOUT)
    del owner
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    eventually(lambda: runner_threads() == [])
    gc.collect()
    assert sys.getrefcount(probe) == references
