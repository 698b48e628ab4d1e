"""Figures by task name: every way to submit has its name, and the rows come to the totals."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import threading
import weakref
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import pytest

from tasker import Future, Metrics, Priority, Runner, RunnerStopped
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


def completed(runner: Runner[Any]) -> dict[str, int]:
    """How many tasks of each name returned."""
    return {name: row.completed for name, row in runner.metrics().by_task.items()}


def check_sums(metrics: Metrics) -> None:
    """Checks that the rows come to the totals."""
    rows = metrics.by_task.values()
    assert sum(row.completed for row in rows) == metrics.total_tasks_completed
    assert sum(row.failed for row in rows) == metrics.total_tasks_failed
    assert sum(row.retried for row in rows) == metrics.total_tasks_retried
    assert sum(row.execution.count for row in rows) == metrics.execution.count
    assert sum(row.execution.total for row in rows) == pytest.approx(metrics.execution.total)
    assert sum(metrics.errors.values()) == metrics.total_tasks_failed


def job(_resource: object, *_args: object) -> None:
    pass


# ---- ways to submit


@pytest.mark.parametrize("thread_bound", [True, False])
def test_calls_that_wait_have_their_names(runners: Runners, thread_bound: bool) -> None:
    runner = runners.start(resource_pool_size=1, thread_bound=thread_bound)
    runner.run_task(job)
    runner.queue_task(job)
    runner.options(name="named").run_task(job)
    runner.stop(LONG_TIMEOUT)
    assert completed(runner) == {"job": 2, "named": 1}
    check_sums(runner.metrics())


def test_tasks_of_coroutines_have_their_names(runners: Runners) -> None:
    runner = runners.start(worker_count=2)

    async def main() -> None:
        await runner.asubmit(job)
        async for _ in runner.amap(job, range(20)):
            pass
        async for _ in runner.options(name="named").amap(job, range(30)):
            pass

    asyncio.run(main())
    runner.stop(LONG_TIMEOUT)
    assert completed(runner) == {"job": 21, "named": 30}
    check_sums(runner.metrics())


def test_many_at_a_time_have_their_names(runners: Runners) -> None:
    runner = runners.start(worker_count=3)
    many = runner.options(name="many")
    for future in [*runner.submit_many(job, range(100)), *many.submit_many(job, range(50))]:
        future.result(LONG_TIMEOUT)
    assert len(list(runner.map(job, range(1_000)))) == 1_000
    assert len(list(runner.options(name="mapped").map(job, range(500)))) == 500
    runner.stop(LONG_TIMEOUT)
    assert completed(runner) == {"job": 1_100, "many": 50, "mapped": 500}
    check_sums(runner.metrics())


def test_a_view_of_another_name_counts_apart(runners: Runners) -> None:
    runner = runners.start()
    for name in ("first", "second", "first", None):
        runner.options(name=name).queue_task(job)
    runner.options(name="second", priority=Priority.HIGH).queue_task(job)
    runner.stop(LONG_TIMEOUT)
    assert completed(runner) == {"first": 2, "second": 2, "job": 1}


def test_tasks_in_tasks_count_each_by_its_own_name(runners: Runners) -> None:
    runner = runners.start(worker_count=2)

    def fails(_resource: Resource) -> None:
        raise Broken

    def outer(_resource: Resource) -> None:
        runner.options(name="inner").queue_task(job)
        list(runner.options(name="items").map(job, range(10)))
        with contextlib.suppress(Broken):
            runner.run_task(fails)
        raise ValueError

    error = runner.options(name="outer").submit(outer).exception(LONG_TIMEOUT)
    assert isinstance(error, ValueError)
    runner.stop(LONG_TIMEOUT)
    rows = runner.metrics().by_task
    assert (rows["inner"].completed, rows["items"].completed) == (1, 10)
    assert (rows["outer"].completed, rows["outer"].failed) == (0, 1)
    assert rows[fails.__qualname__].failed == 1
    check_sums(runner.metrics())


def test_items_that_fail_and_are_tried_again_have_their_name(runners: Runners) -> None:
    runner = runners.start(worker_count=2, check_health=is_healthy, max_retries=1)
    seen: set[int] = set()

    def flaky(_resource: Resource, item: int) -> None:
        if item % 10 == 0 and item not in seen:
            seen.add(item)
            raise Broken
        if item % 25 == 1:
            raise ValueError

    results = runner.map(flaky, range(100), return_exceptions=True)
    assert sum(isinstance(result, ValueError) for result in results) == 4
    runner.stop(LONG_TIMEOUT)
    row = runner.metrics().by_task[flaky.__qualname__]
    assert (row.completed, row.failed, row.retried) == (96, 4, 10)
    check_sums(runner.metrics())


# ---- names


class Named:
    """Has whatever name the test gives it, and no other attribute."""

    def __init__(self, name: object) -> None:
        self._name = name

    def __call__(self, _resource: object) -> None:
        pass

    def __getattr__(self, attribute: str) -> Any:
        if attribute != "__qualname__":
            raise AttributeError(attribute)
        if isinstance(self._name, BaseException):
            raise self._name
        return self._name


class Odd(type):
    """Makes classes that do not let themselves be shown."""

    def __repr__(cls) -> str:
        raise ValueError

    def __str__(cls) -> str:
        raise ValueError


class Shy(metaclass=Odd):
    """Can be called."""

    def __call__(self, _resource: object) -> None:
        pass


CALLABLES: dict[str, tuple[Callable[[], Callable[..., Any]], str]] = {
    "partial": (lambda: partial(partial(job, 1), 2), "job"),
    "attribute": (lambda: Named("given"), "given"),
    "no string": (lambda: Named(7), f"<class '{__name__}.Named'>"),
    "error": (lambda: Named(SystemExit()), f"<class '{__name__}.Named'>"),
    "unprintable": (lambda: Named("a\0\n\x7f<b>\u2028"), r"a\u{0}\n\u{7f}<b>\u{2028}"),
    "half a character": (lambda: Named("half \udc80"), "half \ufffd\ufffd\ufffd"),
    "empty": (lambda: Named(""), ""),
    "odd class": (lambda: Shy(), f"<class '{__name__}.Shy'>"),  # noqa: PLW0108 - it is no function
    "class": (lambda: type, "type"),
    "built-in": (lambda: repr, "repr"),
    "method of a list": (lambda: [].append, "list.append"),
}
"""What makes the callable, without which pytest would ask it for its name, and the name."""


@pytest.mark.parametrize("which", CALLABLES)
def test_what_can_be_called_has_a_name(runners: Runners, which: str) -> None:
    runner = runners.start()
    make, name = CALLABLES[which]
    runner.queue_task(make())
    runner.stop(LONG_TIMEOUT)
    assert completed(runner) == {name: 1}


def fresh(name: str) -> Callable[[object], None]:
    """Makes a function that nobody else knows, nor its name."""

    def task(_resource: object) -> None:
        pass

    task.__qualname__ = name
    return task


def test_a_name_of_a_function_counts_where_the_function_had_it(runners: Runners) -> None:
    runner = runners.start()

    def task(_resource: object) -> None:
        pass

    for name in ("first", "second", "first"):
        task.__qualname__ = name
        runner.queue_task(task)
    runner.stop(LONG_TIMEOUT)
    assert completed(runner) == {"first": 2, "second": 1}


def test_bound_methods_count_where_their_function_had_its_name(runners: Runners) -> None:
    runner = runners.start()

    class Jobs:
        def run(self, _resource: object) -> None:
            pass

    Jobs.run.__qualname__ = "first"
    for _ in range(3):
        runner.queue_task(Jobs().run)
    Jobs.run.__qualname__ = "second"
    runner.queue_task(Jobs().run)
    runner.queue_task(MethodType(partial(job), self := object()))
    runner.queue_task(MethodType(MethodType(job, self), self))
    runner.stop(LONG_TIMEOUT)
    assert completed(runner) == {"first": 3, "second": 1, "job": 2}


@pytest.mark.usefixtures("no_collector")
def test_names_are_told_apart_when_functions_die(runners: Runners) -> None:
    """The strings of their names die too, and others get their addresses."""
    runner = runners.start()
    for number in range(2_000):
        runner.queue_task(fresh(f"task {number % 100}"))
    runner.stop(LONG_TIMEOUT)
    assert completed(runner) == {f"task {number}": 20 for number in range(100)}


def test_ten_thousand_names_are_counted_in_two_hundred_rows_and_one(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    futures = [runner.submit(fresh(f"task {number}")) for number in range(10_000)]
    for future in futures:
        future.result(LONG_TIMEOUT)
    runner.stop(LONG_TIMEOUT)
    rows = completed(runner)
    assert len(rows) == 201
    assert list(rows)[-1] == "other"
    assert rows.pop("other") == 9_800
    assert set(rows.values()) == {1}
    check_sums(runner.metrics())


# ---- what the figures keep alive


class Text(str):
    """A string that holds other things."""

    __slots__ = ("__weakref__", "holds")


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("text", ["f", "x" * 10_000])
def test_no_function_and_no_string_of_a_class_of_its_own_is_kept(
    runners: Runners, text: str
) -> None:
    runner = runners.start(check_health=is_healthy, max_retries=0)
    gone: list[weakref.ref[Any]] = []

    def submit(body: Callable[..., Any]) -> None:
        def task(resource: object, *args: object) -> None:
            body(resource, *args)

        name = Text(text)
        name.holds = object()  # type: ignore[attr-defined]
        task.__qualname__ = name
        bound = Holder(task)
        gone.extend(weakref.ref(each) for each in (task, name, bound))
        runner.submit(task).exception(LONG_TIMEOUT)
        runner.submit(partial(task)).exception(LONG_TIMEOUT)
        runner.submit(bound.call).exception(LONG_TIMEOUT)
        list(runner.map(task, range(3), return_exceptions=True))

    for body in (job, break_down):
        submit(body)
    eventually(lambda: [ref() for ref in gone if ref() is not None] == [])
    assert len(gone) == 6


class Holder:
    """Holds a function, and calls it in a method."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def call(self, resource: object) -> None:
        self.function(resource)


class Counted(Exception):
    """An error whose class is held by nobody."""


@pytest.mark.usefixtures("no_collector")
def test_no_class_of_an_error_is_kept(runners: Runners) -> None:
    runner = runners.start()

    def fail(_resource: object, kind: type[Exception]) -> None:
        raise kind

    kind = type("Short", (Counted,), {})
    gone = weakref.ref(kind)
    runner.submit(fail, kind).exception(LONG_TIMEOUT)
    assert list(runner.metrics().errors.values()) == [1]
    del kind
    # A class is in circles with itself.
    eventually(lambda: gc.collect() >= 0 and gone() is None)


# ---- rows and totals


def test_a_retry_that_waits_and_is_settled_by_hand_has_its_name(
    runners: Runners, log: LogCapture
) -> None:
    works = threading.Event()
    works.set()

    def create() -> Resource:
        if not works.is_set():
            raise ConnectionRefusedError
        return runners.factory.create()

    runner = runners.start(on_create=create, check_health=is_healthy, max_retries=5)
    works.clear()
    futures: list[Future[None]] = [runner.submit(break_down)]
    eventually(lambda: runner.stats().creation_failing_for)
    futures[0].set_result(None)
    assert runner.metrics().by_task["break_down"].completed == 1
    works.set()
    for settle in ("set_exception", "request_cancel", "cancel_queued"):
        eventually(lambda: runner.stats().creation_failing_for == 0.0)
        before = runner.metrics().total_tasks_retried
        works.clear()
        future = runner.submit(break_down)
        eventually(lambda: runner.metrics().total_tasks_retried > before)  # noqa: B023
        match settle:
            case "set_exception":
                future.set_exception(KeyError())
            case "request_cancel":
                future.request_cancel()
            case _:
                runner.cancel_queued()
        assert isinstance(future.exception(LONG_TIMEOUT), KeyError | Broken)
        works.set()
    runner.stop(LONG_TIMEOUT)
    assert set(runner.metrics().by_task) == {"break_down"}
    row = runner.metrics().by_task["break_down"]
    assert (row.completed, row.failed, row.retried) == (1, 3, 4)
    check_sums(runner.metrics())
    log.rest()


def test_a_retry_that_waits_when_the_runner_is_killed_has_its_name(
    runners: Runners, log: LogCapture
) -> None:
    works = True

    def create() -> Resource:
        if not works:
            raise ConnectionRefusedError
        return runners.factory.create()

    runner = runners.start(on_create=create, check_health=is_healthy, max_retries=5)
    works = False
    future = runner.submit(break_down)
    list_future = runner.map(break_down, [1], return_exceptions=True)
    eventually(lambda: runner.metrics().total_tasks_retried)
    runner.kill(LONG_TIMEOUT)
    assert future.exception() is not None
    list_future.close()
    metrics = runner.metrics()
    assert metrics.total_tasks_failed >= 1
    assert set(metrics.by_task) == {"break_down"}
    check_sums(metrics)
    log.rest()


class Chaos:
    """Clients that submit tasks of several names in every way, which end in every way."""

    def __init__(self, runner: Runner[Resource]) -> None:
        self.runner = runner

    def task(self, _resource: object, chance: float) -> None:
        if chance < 0.1:
            raise Broken
        if chance < 0.2:
            raise ValueError
        if chance < 0.3:
            threading.Event().wait(chance / 100)
        if chance < 0.4:
            self.runner.options(name="inner").run_task(job)

    def client(self) -> None:
        choose = random.Random(threading.get_ident())
        futures: list[Future[None]] = []
        for _ in range(60):
            view = self.runner.options(
                name=choose.choice([None, "a", "b", "c"]),
                once=choose.random() < 0.3,
                timeout=choose.choice([None, 0.0005, 0.01]),
            )
            with contextlib.suppress(Exception):
                match choose.randrange(4):
                    case 0:
                        view.run_task(self.task, choose.random())
                    case 1:
                        futures += view.submit_many(self.task, [choose.random() for _ in range(9)])
                    case 2:
                        chances = [choose.random() for _ in range(20)]
                        list(view.map(self.task, chances, return_exceptions=True))
                    case _:
                        futures.append(view.submit(self.task, choose.random()))
                        if choose.random() < 0.3:
                            futures[-1].cancel()
                        elif choose.random() < 0.2:
                            futures[-1].set_result(None)
        for future in futures:
            with contextlib.suppress(BaseException):
                future.exception(LONG_TIMEOUT)


@pytest.mark.stress
@pytest.mark.usefixtures("fast_switch")
@pytest.mark.parametrize("thread_bound", [True, False])
@pytest.mark.parametrize("end", ["stop", "kill", "cancel_queued"])
def test_rows_come_to_the_totals_however_it_ends(
    runners: Runners, log: LogCapture, gate: Gate, end: str, thread_bound: bool
) -> None:
    log.overlook("outlived its time limit")
    log.overlook("failed and nobody looked")
    runner = runners.start(
        worker_count=3,
        max_worker_count=4,
        resource_pool_size=1,
        check_health=is_healthy,
        thread_bound=thread_bound,
    )
    chaos = Chaos(runner)
    clients = at_once(4, chaos.client)
    eventually(lambda: runner.metrics().total_tasks_arrived > 300)
    if end == "cancel_queued":
        with contextlib.suppress(RunnerStopped):
            runner.cancel_queued()
    elif end == "kill":
        Call(runner.kill).result()
    for client in clients:
        client.result()
    runner.stop(LONG_TIMEOUT)
    metrics = runner.metrics()
    assert metrics.total_tasks_failed > 0
    assert {"a", "b", "c", "inner"} & set(metrics.by_task)
    assert set(metrics.by_task) <= {"a", "b", "c", "inner", "Chaos.task"}
    check_sums(metrics)
    del gate
