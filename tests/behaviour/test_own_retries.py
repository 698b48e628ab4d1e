"""`Retry`: a task that failed on a good resource is tried again, by a runner and by its double."""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable
from typing import Any

import pytest

from tasker import Config, ConfigError, Retry, Unset, current_context
from tests.behaviour.support import AnyRunner, Bench
from tests.native.support import Broken, LogCapture, Resource, is_healthy


class Busy(Exception):
    """The resource is fine, and the call would work a moment later."""


class Flaky:
    """A task function that fails so many times, and notes what it was given and told."""

    def __init__(self, bench: Bench, *failures: type[BaseException]) -> None:
        self.failures = failures
        self.used: list[int] = bench.notes()
        self.told: list[tuple[int, type | None]] = bench.notes()

    def __call__(self, resource: Resource, *_item: object) -> int:
        context = current_context()
        error = context.last_error
        self.told.append((context.attempt, None if error is None else type(error)))
        self.used.append(resource.number)
        if len(self.used) <= len(self.failures):
            raise self.failures[len(self.used) - 1](len(self.used))
        return len(self.used)


QUICK = Retry(on=Busy, wait=0.0)


VERBS: dict[str, Callable[[Any, Flaky], int]] = {
    "queue_task": lambda runner, flaky: runner.queue_task(flaky),
    "submit": lambda runner, flaky: runner.submit(flaky).result(),
    "submit_many": lambda runner, flaky: runner.submit_many(flaky, [1])[0].result(),
    "run_task": lambda runner, flaky: runner.run_task(flaky),
    "map": lambda runner, flaky: next(iter(runner.map(flaky, [1]))),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("thread_bound", [True, False])
def test_a_task_is_tried_again_on_the_resource_that_is_good(
    bench: Bench, verb: str, *, configured: bool, thread_bound: bool
) -> None:
    fields: dict[str, Any] = {"retry": QUICK} if configured else {}
    runner = bench.start(thread_bound=thread_bound, **fields)
    flaky = Flaky(bench, Busy, Busy)
    view = runner if configured else runner.options(retry=QUICK)
    assert VERBS[verb](view, flaky) == 3
    assert len(set(flaky.used)) == 1
    assert runner.metrics().total_tasks_retried == 2
    assert runner.stats().paused_tasks == 0


def test_a_task_knows_its_attempt_and_the_error_before(bench: Bench) -> None:
    runner = bench.start(retry=QUICK, check_health=is_healthy)
    flaky = Flaky(bench, Busy, Broken)
    assert runner.queue_task(flaky) == 3
    assert flaky.told == [(1, None), (2, Busy), (3, Broken)]
    assert flaky.used == [0, 0, 1]


def test_after_the_last_attempt_the_error_is_the_callers_with_a_note(bench: Bench) -> None:
    runner = bench.start(retry=QUICK)
    flaky = Flaky(bench, *[Busy] * 9)
    with pytest.raises(Busy) as raised:
        runner.queue_task(flaky)
    assert raised.value.args == (3,)
    (note,) = bench.notes_on(raised.value)
    assert note.startswith("tasker gave up after 3 attempts, 0.0")
    assert runner.metrics().total_tasks_failed == 1


def test_a_first_attempt_that_is_the_last_gets_no_note(bench: Bench) -> None:
    runner = bench.start(retry=Retry(on=Busy, attempts=1))
    with pytest.raises(Busy) as raised:
        runner.queue_task(Flaky(bench, Busy))
    assert bench.notes_on(raised.value) == []


def test_a_bad_resource_costs_no_attempt_and_a_retry_no_max_retries(bench: Bench) -> None:
    runner = bench.start(
        retry=Retry(on=Busy, attempts=3, wait=0), check_health=is_healthy, max_retries=5
    )
    flaky = Flaky(bench, Broken, Broken, Busy, Broken, Busy)
    assert runner.queue_task(flaky) == 6


@pytest.mark.parametrize(
    ("on", "error", "again"),
    [
        (Busy, Busy, True),
        (Busy, ArithmeticError, False),
        ((OSError, ArithmeticError), ZeroDivisionError, True),
        (Exception, Busy, True),
        (lambda error: isinstance(error, Busy), Busy, True),
        (lambda error: isinstance(error, OSError), Busy, False),
        (lambda _error: 0.0, Busy, True),
        (lambda _error: 0, Busy, True),
        (lambda _error: False, Busy, False),
        (Exception, KeyboardInterrupt, False),
        (Exception, SystemExit, False),
        (lambda _error: True, GeneratorExit, False),
    ],
)
def test_on_says_which_errors(
    bench: Bench, on: Any, error: type[BaseException], *, again: bool
) -> None:
    runner = bench.start(retry=Retry(on=on, wait=0))
    flaky = Flaky(bench, error)
    future = runner.submit(flaky)
    if again:
        assert future.result() == 2
    else:
        assert type(future.exception()) is error
        assert flaky.used == [0]


def test_on_is_not_asked_after_the_last_attempt_nor_about_a_bad_resource(bench: Bench) -> None:
    asked: list[str] = bench.notes()

    def on(error: Exception) -> bool:
        asked.append(type(error).__name__)
        return True

    runner = bench.start(retry=Retry(on=on, attempts=2, wait=0), check_health=is_healthy)
    with pytest.raises(Busy):
        runner.queue_task(Flaky(bench, Broken, Busy, Busy))
    assert asked == ["Busy"]


@pytest.mark.parametrize(
    "answer", [None, "1", -1, math.nan, math.inf, ZeroDivisionError("on failed")]
)
def test_an_on_that_fails_is_logged_and_leaves_the_task_its_error(
    bench: Bench, log: LogCapture, answer: object
) -> None:
    def on(_error: Exception) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    runner = bench.start(retry=Retry(on=on))
    assert type(runner.submit(Flaky(bench, Busy)).exception()) is Busy
    (record,) = log.take()
    assert "the function of a Retry failed" in record.getMessage()
    assert record.exc_info is not None
    if not isinstance(answer, Exception):
        assert "False, True or the seconds" in str(record.exc_info[1])
        assert repr(answer) in str(record.exc_info[1])


def test_a_pause_that_outlasts_the_time_limit_is_not_begun(bench: Bench) -> None:
    runner = bench.start(retry=Retry(on=lambda _error: 90.0))
    flaky = Flaky(bench, Busy)
    with pytest.raises(Busy) as raised:
        runner.options(timeout=60).queue_task(flaky)
    (note,) = bench.notes_on(raised.value)
    assert "after 1 attempt: its time limit leaves no room for a pause of 90.00 s" in note
    assert flaky.used == [0]


def test_once_switches_the_configs_retry_off(bench: Bench) -> None:
    runner = bench.start(retry=QUICK)
    for call in (runner.options(once=True).queue_task, runner.queue_task_once):
        flaky = Flaky(bench, Busy)
        with pytest.raises(Busy):
            call(flaky)
        assert flaky.used == [0]


def test_none_switches_it_off_and_a_views_own_stands_before_the_configs(bench: Bench) -> None:
    runner = bench.start(retry=Retry(on=Busy, attempts=2, wait=0))
    assert type(runner.options(retry=None).submit(Flaky(bench, Busy)).exception()) is Busy
    patient = runner.options(retry=Retry(on=Busy, attempts=9, wait=0))
    assert patient.queue_task(Flaky(bench, *[Busy] * 8)) == 9
    assert runner.options(name="mine").queue_task(Flaky(bench, Busy)) == 2


def test_a_task_inside_another_is_tried_again_there(bench: Bench) -> None:
    runner = bench.start(retry=QUICK)
    inner = [Flaky(bench, Busy, Busy) for _ in range(4)]

    def outer(_resource: Resource) -> list[int]:
        return [
            runner.queue_task(inner[0]),
            runner.run_task(inner[1]),
            runner.submit(inner[2]).result(),
            *runner.map(inner[3], [1]),
        ]

    assert runner.options(retry=None).queue_task(outer) == [3, 3, 3, 3]
    assert {number for flaky in inner for number in flaky.used} == {0}


def test_a_map_keeps_its_order_and_hands_errors_out(bench: Bench) -> None:
    runner = bench.start(retry=Retry(on=Busy, attempts=2, wait=0))
    tries: dict[int, int] = {}

    def work(_resource: Resource, item: int) -> int:
        tries[item] = tries.get(item, 0) + 1
        if tries[item] <= item % 3:
            raise Busy(item)
        return item

    results = list(runner.map(work, range(30), return_exceptions=True))
    assert [r if isinstance(r, int) else type(r) for r in results] == [
        Busy if item % 3 == 2 else item for item in range(30)
    ]


def test_each_attempt_has_a_fresh_copy_of_the_context_variables(bench: Bench) -> None:
    mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="none")
    seen: list[str] = bench.notes()

    def work(_resource: Resource) -> None:
        seen.append(mark.get())
        mark.set("changed")
        if len(seen) < 3:
            raise Busy

    runner = bench.start(retry=QUICK)
    mark.set("submitted")
    runner.queue_task(work)
    assert seen == ["submitted"] * 3


def test_retries_are_told(bench: Bench) -> None:
    told: list[tuple[str, int, type | None]] = bench.notes()

    def on_event(event: Any) -> None:
        told.append((event.kind, event.attempt, event.error and type(event.error)))

    runner = bench.start(retry=QUICK, on_event=on_event)
    runner.queue_task(Flaky(bench, Busy, Busy))
    runner.stop()
    assert sorted(told, key=lambda it: it[1]) == [
        ("arrived", 0, None),
        ("retried", 1, Busy),
        ("retried", 2, Busy),
        ("completed", 3, None),
    ]


def test_a_dropped_task_keeps_its_retry(bench: Bench) -> None:
    patient = Retry(on=Busy, attempts=4, wait=0)
    runner, let_go = bench.start_held()
    flaky = Flaky(bench, Busy, Busy, Busy)
    runner.options(retry=patient).submit(flaky)
    runner.options(retry=None).submit(flaky)
    runner.submit(flaky)
    dropped = runner.cancel_queued()
    let_go()
    assert [task.retry for task in dropped] == [patient, None, Unset.UNSET]
    other: AnyRunner = bench.start()
    assert dropped[0].submit_to(other).result() == 4


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"on": 5}, "on must be an exception class, a tuple of them, or a function, got 5"),
        ({"on": int}, "on must be an exception class or a tuple of them, got"),
        ({"on": ()}, "on must be a tuple with at least one exception class, got ()"),
        ({"on": (OSError, "x")}, "on must be an exception class or a tuple of them, got 'x'"),
        ({"on": KeyboardInterrupt}, "on must be of subclasses of Exception"),
        ({"on": lambda: True}, "on must be callable with (error)"),
        ({"on": OSError, "attempts": 0}, "attempts must be at least 1, got 0"),
        ({"on": OSError, "attempts": 1.5}, "attempts must be an int, got 1.5"),
        ({"on": OSError, "wait": -1}, "wait must be at least 0, got -1"),
        ({"on": OSError, "wait": math.inf}, "wait must be a finite number of seconds, got inf"),
        ({"on": OSError, "max_wait": "1"}, "max_wait must be a number of seconds, got '1'"),
    ],
)
def test_a_wrong_field_is_refused_by_name(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Retry(**fields)
    assert text in str(raised.value)


def test_what_is_no_retry_is_refused(bench: Bench) -> None:
    with pytest.raises(ConfigError, match=r"retry must be a Retry or None, .* got 3"):
        Config(on_create=dict, worker_count=1, retry=3)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    runner = bench.start()
    with pytest.raises(ConfigError, match="retry must be a Retry or None"):
        runner.options(retry=OSError)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="once and retry exclude each other"):
        runner.options(once=True, retry=QUICK)
    runner.options(once=True, retry=None)


def test_pauses_are_drawn_below_a_bound_that_doubles() -> None:
    retry = Retry(on=Busy, attempts=100, wait=1.0, max_wait=5.0)
    for failures, bound in [(1, 1.0), (2, 2.0), (3, 4.0), (4, 5.0), (99, 5.0)]:
        drawn = [retry._pause(Busy(), failures) for _ in range(200)]
        assert all(pause is not None and 0 <= pause <= bound for pause in drawn)
        assert max(pause or 0 for pause in drawn) > bound / 2 > min(pause or 0 for pause in drawn)
    assert retry._pause(Busy(), 100) is None


def test_a_pause_lets_go_of_the_variables_of_the_attempt() -> None:
    def generator() -> Any:
        try:
            raise Busy
        except Busy as caught:
            yield caught
        yield "alive"

    def work() -> None:
        local = object()
        raise ArithmeticError(id(local)) from first

    suspended = generator()
    first = next(suspended)
    with pytest.raises(ArithmeticError) as raised:
        work()
    assert Retry(on=ArithmeticError, wait=0)._pause(raised.value, 1) == 0.0
    traceback = raised.value.__traceback__
    assert traceback is not None
    assert traceback.tb_next is not None
    assert traceback.tb_next.tb_frame.f_locals == {}
    assert traceback.tb_next.tb_lineno > 0
    assert next(suspended) == "alive"
