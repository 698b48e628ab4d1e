"""Figures by the name of a task and by the type of its error, and the share of busy time."""

from __future__ import annotations

import dataclasses
import json
import time
from functools import partial
from typing import Any

import pytest

from tasker import Future, Metrics
from tests.behaviour.support import Bench
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    break_down,
    eventually,
    is_healthy,
)


def outcomes(metrics: Metrics) -> dict[str, tuple[int, int, int]]:
    """What became of the tasks of each name: completed, failed, retried."""
    return {
        name: (task.completed, task.failed, task.retried) for name, task in metrics.by_task.items()
    }


def check_sums(metrics: Metrics) -> None:
    """Checks that the figures by name, and by type of error, come to those of all."""
    rows = metrics.by_task.values()
    assert sum(row.completed for row in rows) == metrics.total_tasks_completed
    assert sum(row.failed for row in rows) == metrics.total_tasks_failed
    assert sum(row.retried for row in rows) == metrics.total_tasks_retried
    assert sum(row.execution.count for row in rows) == metrics.execution.count
    assert sum(metrics.errors.values()) == metrics.total_tasks_failed


def double(_resource: object, number: int) -> int:
    return 2 * number


class Shelf:
    """Things that can be called."""

    def look(self, _resource: object) -> None:
        pass

    def __call__(self, _resource: object) -> None:
        pass


def test_nothing_has_run_yet(bench: Bench) -> None:
    metrics = bench.start().metrics()
    assert (metrics.by_task, metrics.errors) == ({}, {})


def test_tasks_are_told_apart_by_the_names_of_their_functions(bench: Bench) -> None:
    runner = bench.start()
    runner.queue_task(double, 1)
    runner.queue_task(partial(double, number=2))
    runner.run_task(double, 3)
    runner.queue_task(Shelf().look)
    runner.queue_task(Shelf())
    runner.queue_task(lambda _: None)
    runner.options(name="renamed").queue_task(double, 4)
    runner.stop()
    here, prefix = __name__, "test_tasks_are_told_apart_by_the_names_of_their_functions.<locals>."
    assert outcomes(runner.metrics()) == {
        "double": (3, 0, 0),
        "Shelf.look": (1, 0, 0),
        f"<class '{here}.Shelf'>": (1, 0, 0),
        f"{prefix}<lambda>": (1, 0, 0),
        "renamed": (1, 0, 0),
    }
    check_sums(runner.metrics())


def test_items_of_a_map_are_tasks_of_one_name(bench: Bench) -> None:
    runner = bench.start()
    assert list(runner.map(double, range(100))) == list(range(0, 200, 2))
    assert len(runner.submit_many(double, range(50))) == 50
    runner.stop()
    assert outcomes(runner.metrics()) == {"double": (150, 0, 0)}
    check_sums(runner.metrics())


def test_a_task_inside_another_has_its_own_name(bench: Bench) -> None:
    runner = bench.start()

    def outer(_resource: object, depth: int) -> int:
        if depth:
            return runner.options(name=f"level {depth - 1}").run_task(outer, depth - 1)
        return sum(runner.map(double, range(4)))

    assert runner.options(name="level 2").queue_task(outer, 2) == 12
    runner.stop()
    expected = {f"level {depth}": (1, 0, 0) for depth in (2, 1, 0)}
    assert outcomes(runner.metrics()) == expected | {"double": (4, 0, 0)}
    check_sums(runner.metrics())


def test_ends_are_counted_by_name(bench: Bench) -> None:
    runner = bench.start(check_health=is_healthy, max_retries=1)
    runner.options(name="broken").submit(break_down).exception(LONG_TIMEOUT)
    runner.options(name="broken", once=True).submit(break_down).exception(LONG_TIMEOUT)
    runner.options(name="wrong").submit(lambda _: 1 / 0).exception(LONG_TIMEOUT)
    runner.stop()
    metrics = runner.metrics()
    assert outcomes(metrics) == {"broken": (0, 2, 1), "wrong": (0, 1, 0)}
    assert metrics.by_task["broken"].execution.count == 3
    check_sums(metrics)


def test_a_task_that_is_settled_by_hand_has_its_name(bench: Bench) -> None:
    runner, let_go = bench.start_held()
    futures: list[Future[None]] = []

    def settle(_resource: object, number: int) -> None:
        if number:
            futures[number].set_result(None)
        else:
            futures[number].set_exception(KeyError("by hand"))

    futures += [runner.submit(settle, number) for number in range(3)]
    let_go()
    runner.stop()
    assert outcomes(runner.metrics())[settle.__qualname__] == (2, 1, 0)
    assert runner.metrics().errors == {"KeyError": 1}
    check_sums(runner.metrics())


def test_what_never_ran_has_no_name(bench: Bench) -> None:
    runner, let_go = bench.start_held()
    futures = [runner.options(name=f"waits {n}").submit(lambda _: None) for n in range(3)]
    futures[0].cancel()
    assert len(runner.cancel_queued()) == 2
    let_go()
    runner.stop()
    assert not any(name.startswith("waits") for name in runner.metrics().by_task)
    check_sums(runner.metrics())


def test_names_beyond_the_first_ones_are_counted_together(bench: Bench) -> None:
    runner = bench.start()
    for number in range(300):
        runner.options(name=f"task {number}").submit(double, number)
    runner.options(name="task 7").queue_task(double, 1)
    runner.options(name="other").queue_task(double, 1)
    runner.stop()
    rows = outcomes(runner.metrics())
    assert list(rows) == [*(f"task {number}" for number in range(200)), "other"]
    assert rows["task 7"] == (2, 0, 0)
    assert rows["other"] == (101, 0, 0)
    check_sums(runner.metrics())


def test_names_are_printable_and_not_endless(bench: Bench) -> None:
    runner = bench.start()
    name = "<script>alert(1)</script>\n\x1b[2J" + "x" * 10_000
    runner.options(name=name).queue_task(double, 1)

    def task(_resource: object) -> None:
        raise Broken

    task.__qualname__ = name + "y"
    runner.submit(task).exception(LONG_TIMEOUT)
    runner.stop()
    (shown,) = runner.metrics().by_task
    assert shown.startswith("<script>alert(1)</script>\\n\\u{1b}[2J")
    assert len(shown) < 250
    assert outcomes(runner.metrics()) == {shown: (1, 1, 0)}


class Errors:
    """Holds a class that has it in its name."""

    class Nested(Exception):
        pass


class Hostile(type):
    """Makes classes that say nothing true of themselves."""

    def __getattribute__(cls, name: str) -> Any:
        if name in {"__module__", "__qualname__", "__name__"}:
            raise ValueError
        return super().__getattribute__(name)

    def __getattr__(cls, name: str) -> Any:
        raise ValueError

    def __repr__(cls) -> str:
        raise ValueError

    @property
    def __module__(cls) -> str:  # type: ignore[override] # pyright: ignore[reportIncompatibleVariableOverride]
        raise ValueError


def made(name: str, **body: Any) -> type[Exception]:
    return type(name, (Exception,), body)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (ValueError, "ValueError"),
        (json.JSONDecodeError, "json.decoder.JSONDecodeError"),
        (Errors.Nested, f"{__name__}.Errors.Nested"),
        (made("Own", __module__="__main__"), "Own"),
        (made("NoModule", __module__=7), "NoModule"),
        (made("Lost", __module__=None), "Lost"),
        (made("Named", __module__="a", __qualname__="b\n"), "a.b\\n"),
        (Hostile("Bad", (Exception,), {"__module__": "evil"}), "evil.Bad"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_errors_are_counted_by_their_types(bench: Bench, kind: type[Exception], name: str) -> None:
    runner = bench.start()

    def fail(_resource: object) -> None:
        raise kind("", "", 0) if kind is json.JSONDecodeError else kind

    for _ in range(2):
        assert isinstance(runner.submit(fail).exception(LONG_TIMEOUT), Exception)
    assert runner.metrics().errors == {name: 2}


def test_types_beyond_the_first_ones_are_counted_together(bench: Bench) -> None:
    runner = bench.start()

    def fail(_resource: object, kind: type[Exception]) -> None:
        raise kind

    for number in range(150):
        runner.submit(fail, made(f"Error{number}", __module__="here")).exception(LONG_TIMEOUT)
    runner.submit(fail, made("Error3", __module__="here")).exception(LONG_TIMEOUT)
    errors = runner.metrics().errors
    assert len(errors) == 101
    assert (errors["here.Error3"], errors["other"]) == (2, 50)
    runner.stop()
    check_sums(runner.metrics())


def test_an_error_whose_attempt_was_repeated_is_none(bench: Bench) -> None:
    runner = bench.start(check_health=is_healthy)
    attempts: list[int] = bench.notes()

    def fail_once(_resource: object) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise Broken

    runner.queue_task(fail_once)
    assert runner.metrics().errors == {}


def test_figures_are_plain(bench: Bench) -> None:
    runner = bench.start(check_health=is_healthy)
    runner.queue_task(double, 1)
    runner.submit(break_down).exception(LONG_TIMEOUT)
    bench.eventually(lambda: len(runner.metrics().by_task) == 2)
    told: list[Any] = [runner.stats(), runner.metrics(), *runner.workers(stacks=True)]
    for figures in told:
        found = dataclasses.asdict(figures)
        assert json.loads(json.dumps(found)) == found


def test_a_worker_that_runs_nothing_is_not_busy(bench: Bench) -> None:
    runner = bench.start()
    (worker,) = runner.workers()
    assert (runner.stats().busy_share, worker.busy_share) == (0.0, 0.0)
    runner.stop()
    assert repr(runner.stats().busy_share) == "0.0"


@pytest.mark.timing
def test_a_worker_that_runs_half_of_the_time_is_half_busy(bench: Bench) -> None:
    begin = time.monotonic()
    runner = bench.start()
    began = time.monotonic()
    runner.queue_task(lambda _: time.sleep(0.2))
    # As long without a task as with one.
    eventually(lambda: time.monotonic() - began >= 0.4)
    seen = runner.stats().busy_share
    longest, shortest = time.monotonic() - begin, time.monotonic() - began
    busy = runner.metrics().execution.total
    assert busy / longest - 0.01 <= seen <= busy / shortest + 0.05
    (worker,) = runner.workers()
    assert worker.busy_share == pytest.approx(seen, abs=0.05)


def test_what_runs_now_counts_as_busy(bench: Bench) -> None:
    runner = bench.start()
    shares: list[float] = bench.notes()

    def look(_resource: object) -> None:
        shares.append(runner.stats().busy_share)
        eventually(lambda: runner.stats().busy_share > shares[0])

    runner.queue_task(look)
