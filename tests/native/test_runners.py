"""`runners()` lists what is alive in this process, and keeps none of it alive."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

import tasker
from tasker import ResourceCreationError, Runner
from tests.native.support import Call, Gate, Resource, Runners, eventually


def alive(*mine: Runner[Any]) -> list[Runner[Any]]:
    """Those among mine that are listed, in that order."""
    return [runner for runner in tasker.runners() if runner in mine]


def test_they_are_listed_oldest_first(runners: Runners) -> None:
    mine = [runners.start() for _ in range(3)]
    assert alive(*mine) == mine


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_one_that_has_stopped_is_not_listed(runners: Runners, end: str) -> None:
    first, second = runners.start(), runners.start()
    getattr(first, end)()
    assert alive(first, second) == [second]


def test_one_that_is_stopping_is_listed(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    stop = Call(runner.stop)
    eventually(lambda: runner.state == "stopping")
    assert alive(runner) == [runner]
    gate.open()
    stop.result()
    assert alive(runner) == []


def test_listing_one_keeps_it_not_alive(runners: Runners) -> None:
    runner = Runner(runners.config(name="dropped"))
    known = weakref.ref(runner)
    assert runner in tasker.runners()
    with pytest.warns(ResourceWarning):
        del runner
    gc.collect()
    assert known() is None
    assert "dropped" not in [each.name for each in tasker.runners()]
    eventually(lambda: not runners.factory.alive)


def test_one_that_could_not_start_is_not_listed(runners: Runners) -> None:
    def create() -> Resource:
        raise ConnectionRefusedError

    before = len(tasker.runners())
    with pytest.raises(ResourceCreationError):
        runners.start(on_create=create)
    assert len(tasker.runners()) == before


def test_a_subclass_is_listed(runners: Runners) -> None:
    class Own(Runner[Resource]):
        def __init__(self, config: Any) -> None:
            """Leaves the base class out."""

    runner = Own(runners.config())
    runners.keep(runner)
    assert alive(runner) == [runner]


def test_it_may_be_asked_while_others_start_and_stop(runners: Runners) -> None:
    def come_and_go() -> None:
        for _ in range(20):
            with Runner(runners.config()):
                tasker.runners()

    for call in [Call(come_and_go) for _ in range(4)]:
        call.result()
    assert all(runner.state != "stopped" for runner in tasker.runners())
