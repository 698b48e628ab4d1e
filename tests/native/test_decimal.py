"""A task in a copied context has a decimal context of its own, with what its submitter's held."""

from __future__ import annotations

import _pydecimal
import asyncio
import contextvars
import decimal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tasker import Runner
from tests.native.support import LONG_TIMEOUT, Broken, Gate, Resource, Runners

HALVES: dict[str, Any] = {"C": decimal, "Python": _pydecimal}
SUBMITTED = 11
"""The precision of the submitter, which no task must change."""


@pytest.fixture(params=list(HALVES.values()), ids=list(HALVES))
def half(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A half of the module, whose precision in the test's context is `SUBMITTED`."""
    half = request.param
    with half.localcontext() as context:
        context.prec = SUBMITTED
        yield half


def exchange(half: Any, precision: int) -> int:
    """Sets the precision; returns what it was."""
    context = half.getcontext()
    former: int = context.prec
    context.prec = precision
    return former


async def _asubmit(runner: Runner[Resource], task: Callable[..., int]) -> list[int]:
    return [await runner.asubmit(task, number) for number in (3, 4, 5)]


async def _amap(runner: Runner[Resource], task: Callable[..., int]) -> list[int]:
    return [answer async for answer in runner.amap(task, [3, 4, 5])]


VERBS: dict[str, Callable[[Runner[Resource], Callable[..., int]], list[int]]] = {
    "submit": lambda runner, task: [runner.submit(task, n).result() for n in (3, 4, 5)],
    "queue_task": lambda runner, task: [runner.queue_task(task, n) for n in (3, 4, 5)],
    "run_task": lambda runner, task: [runner.run_task(task, n) for n in (3, 4, 5)],
    "submit_many": lambda runner, task: [f.result() for f in runner.submit_many(task, [3, 4, 5])],
    "map": lambda runner, task: list(runner.map(task, [3, 4, 5])),
    "map with limits": lambda runner, task: list(runner.options(timeout=60).map(task, [3, 4, 5])),
    "asubmit": lambda runner, task: asyncio.run(_asubmit(runner, task)),
    "amap": lambda runner, task: asyncio.run(_amap(runner, task)),
    "executor": lambda runner, task: list(
        runner.executor().map(lambda number: task(None, number), [3, 4, 5])
    ),
}


@pytest.mark.parametrize("fields", [{}, {"thread_bound": False}, {"is_broken": lambda *_: False}])
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_what_a_task_sets_stays_with_it(
    runners: Runners, half: Any, verb: Callable[..., list[int]], fields: dict[str, Any]
) -> None:
    runner = runners.start(**fields)
    assert verb(runner, lambda _, n: exchange(half, n)) == [SUBMITTED] * 3
    assert half.getcontext().prec == SUBMITTED


INSIDE = {name: verb for name, verb in VERBS.items() if name not in {"asubmit", "amap", "executor"}}


@pytest.mark.parametrize("verb", INSIDE.values(), ids=INSIDE)
def test_a_task_inside_another_has_its_own(
    runners: Runners, half: Any, verb: Callable[..., list[int]]
) -> None:
    def outer(_resource: Resource) -> tuple[list[int], int]:
        half.getcontext().prec = 7
        return verb(runner, lambda _, n: exchange(half, n)), half.getcontext().prec

    runner = runners.start()
    assert runner.queue_task(outer) == ([7, 7, 7], 7)


def test_two_tasks_at_once_do_not_meet(runners: Runners, half: Any) -> None:
    gate = Gate()

    def divide(_resource: Resource, precision: int) -> str:
        half.getcontext().prec = precision
        gate.hold()
        return str(half.Decimal(1) / half.Decimal(3))

    runner = runners.start(worker_count=2)
    futures = [runner.submit(divide, precision) for precision in (3, 9)]
    gate.wait_for(2)
    gate.open()
    assert [future.result(LONG_TIMEOUT) for future in futures] == ["0.333", "0.333333333"]


def test_a_retry_finds_what_the_submitter_had(runners: Runners, half: Any) -> None:
    seen: list[int] = []

    def fail_twice(_resource: Resource) -> None:
        seen.append(exchange(half, 3))
        if len(seen) < 3:
            raise Broken

    runner = runners.start(is_broken=lambda *_: True)
    runner.queue_task(fail_twice)
    assert seen == [SUBMITTED] * 3


def test_an_item_of_a_batch_finds_what_the_submitter_had(runners: Runners, half: Any) -> None:
    variable = contextvars.ContextVar("variable", default="nobody's")
    variable.set("submitter's")
    gate = Gate()
    runner = runners.start()
    runner.submit(gate.hold)
    results = runner.map(lambda _, n: (exchange(half, n), variable.get()), range(3, 103))
    gate.open()
    assert set(results) == {(SUBMITTED, "submitter's")}


def test_flags_and_traps_are_its_own_too(runners: Runners, half: Any) -> None:
    def divide(_resource: Resource) -> str:
        half.getcontext().traps[half.DivisionByZero] = False
        return str(half.Decimal(1) / half.Decimal(0))

    runner = runners.start()
    assert runner.queue_task(divide) == "Infinity"
    assert not half.getcontext().flags[half.DivisionByZero]
    assert half.getcontext().traps[half.DivisionByZero]


def test_a_context_variable_of_the_same_name_is_left_alone(runners: Runners) -> None:
    variable = contextvars.ContextVar[object]("decimal_context")
    variable.set(given := object())
    assert runners.start().queue_task(lambda _: variable.get()) is given


def test_nothing_is_imported_for_it() -> None:
    program = """
import contextvars, sys
from tasker import Config, Runner
contextvars.ContextVar("variable").set(1)
loaded = {"decimal", "_decimal", "_pydecimal"} & set(sys.modules)
with Runner(Config(on_create=object, worker_count=1, thread_bound=False)) as runner:
    runner.submit(id).result()
    runner.run_task(id)
    list(runner.map(lambda _, n: n, range(3)))
    assert {"decimal", "_decimal", "_pydecimal"} & set(sys.modules) == loaded
    import decimal
    decimal.getcontext().prec = 11
    def set_to(_, n):
        decimal.getcontext().prec = n
    runner.submit(set_to, 3).result()
    runner.run_task(set_to, 3)
    print(decimal.getcontext().prec, sorted(loaded))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.split(maxsplit=1)[0], done.stderr) == ("11", "")
