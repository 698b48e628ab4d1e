"""What becomes of the items of a `map` that fail: they end it, or are handed out."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tasker import (
    ConfigError,
    Context,
    QueueFull,
    ResourceCreationError,
    Results,
    RunnerBroken,
    RunnerStopped,
    TaskCancelled,
    TaskTimeout,
)
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    Gate,
    Resource,
    Runners,
    eventually,
    is_healthy,
)

ORDERED = pytest.mark.parametrize("ordered", [True, False])
MANY = 5_000
"""Items of a map in which batches are at their largest."""


def fail_at_thirds(_resource: object, number: int) -> int:
    if number % 3 == 0:
        raise ValueError(number)
    return number


def raise_it(_resource: object, error: BaseException) -> None:
    raise error


def notes(error: object) -> list[str]:
    return list(getattr(error, "__notes__", []))


def index_in_note(error: object) -> int:
    (note,) = notes(error)
    return int(note.rpartition(" ")[2])


# ---- handing out


@ORDERED
@pytest.mark.parametrize("buffersize", [None, 1, 7, 4000])
def test_failures_take_the_places_of_results(
    runners: Runners, ordered: bool, buffersize: int | None
) -> None:
    runner = runners.start(worker_count=3)
    results = runner.map(
        fail_at_thirds, range(MANY), ordered=ordered, buffersize=buffersize, return_exceptions=True
    )
    seen: list[Any] = [getattr(each, "args", [each])[0] for each in results]
    assert (seen if ordered else sorted(seen)) == list(range(MANY))


@ORDERED
def test_each_failure_names_its_item(runners: Runners, ordered: bool) -> None:
    runner = runners.start(worker_count=3)
    results = runner.map(fail_at_thirds, range(MANY), ordered=ordered, return_exceptions=True)
    failures = [each for each in results if isinstance(each, ValueError)]
    assert len(failures) == len(range(0, MANY, 3))
    assert all(index_in_note(each) == each.args[0] for each in failures)


def test_it_goes_on_endlessly(runners: Runners) -> None:
    results = runners.start().map(fail_at_thirds, itertools.count(), return_exceptions=True)
    with results:
        assert isinstance(next(results), ValueError)
        assert [next(results), next(results)] == [1, 2]
        assert isinstance(next(results), ValueError)


def test_a_view_hands_out_too(runners: Runners) -> None:
    view = runners.start().options(name="thirds")
    kinds = [type(each) for each in view.map(fail_at_thirds, range(4), return_exceptions=True)]
    assert kinds == [ValueError, int, int, ValueError]


def test_a_failure_that_is_handed_out_has_its_traceback(runners: Runners) -> None:
    (failure,) = runners.start().map(fail_at_thirds, [0], return_exceptions=True)
    assert isinstance(failure, ValueError)
    assert failure.__traceback__ is not None
    assert failure.__traceback__.tb_frame.f_code is fail_at_thirds.__code__


def test_an_exception_that_an_item_returns_is_a_result(runners: Runners) -> None:
    error = ValueError("a value")
    (result,) = runners.start().map(lambda _, x: x, [error])
    assert result is error
    assert notes(error) == []


def test_items_that_were_tried_again_and_again_are_handed_out(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy, max_retries=2)

    def task(_resource: object, number: int) -> int:
        if number == 1:
            raise Broken
        return number

    zero, failure, two = runner.map(task, range(3), return_exceptions=True)
    assert (zero, two) == (0, 2)
    assert isinstance(failure, Broken)
    (note,) = notes(failure)
    assert "gave up after 3 attempts" in note
    assert index_in_note(failure) == 1


def test_an_item_that_outlived_its_time_limit_is_handed_out(runners: Runners, gate: Gate) -> None:
    view = runners.start(worker_count=2, max_worker_count=4).options(timeout=0.1)

    def task(_resource: object, number: int) -> int:
        if number == 1:
            gate.hold()
        return number

    zero, failure, two = view.map(task, range(3), return_exceptions=True)
    assert (zero, two) == (0, 2)
    assert isinstance(failure, TaskTimeout)
    assert index_in_note(failure) == 1


def test_stop_iteration_of_an_item_is_handed_out_as_what_it_becomes(runners: Runners) -> None:
    results = runners.start().map(raise_it, [StopIteration(1)] * 2, return_exceptions=True)
    failures = list(results)
    assert [type(each) for each in failures] == [RuntimeError] * 2
    assert [index_in_note(each) for each in failures] == [0, 1]


def test_items_without_a_resource_are_handed_out(runners: Runners) -> None:
    gate, made = Gate(), itertools.count()

    def create() -> Resource:
        if next(made) > 0:
            raise ConnectionRefusedError
        return runners.factory.create()

    runner = runners.start(
        on_create=create, check_health=lambda _: False, max_retries=0, logger=None
    )

    def task(_resource: object, number: int) -> int:
        gate.hold()
        raise Broken(number)

    results = runner.map(task, range(3), buffersize=3, return_exceptions=True)
    gate.wait_for()
    stop = Call(runner.stop)
    eventually(lambda: runner.state == "stopping")
    gate.open()
    failures = list(results)
    stop.result()
    assert [type(each) for each in failures] == [Broken, *[ResourceCreationError] * 2]
    assert [index_in_note(each) for each in failures] == [0, 1, 2]


def test_a_map_inside_a_task_hands_out(runners: Runners) -> None:
    runner = runners.start()

    def task(_resource: object) -> list[type]:
        results = runner.map(fail_at_thirds, range(4), return_exceptions=True)
        return [type(each) for each in results]

    assert runner.queue_task(task) == [ValueError, int, int, ValueError]


def test_what_the_function_raises_of_the_package_is_its_own(runners: Runners) -> None:
    def task(_resource: object, number: int) -> None:
        if number == 0:
            raise QueueFull
        context = Context()
        context.cancel()
        context.check()

    full, cancelled = runners.start().map(task, range(2), return_exceptions=True)
    assert isinstance(full, QueueFull)
    assert isinstance(cancelled, TaskCancelled)


# ---- what ends it all the same


@ORDERED
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), BaseException("odd")])
def test_an_error_that_is_no_exception_ends_it(
    runners: Runners, ordered: bool, error: BaseException
) -> None:
    runner = runners.start()
    results = runner.map(raise_it, itertools.repeat(error), ordered=ordered, return_exceptions=True)
    with pytest.raises(type(error)) as raised:
        next(results)
    assert raised.value is error
    assert list(results) == []


@pytest.mark.parametrize("error", [RunnerStopped("no"), RunnerBroken("no")])
def test_a_runner_that_takes_no_more_ends_it(runners: Runners, error: Exception) -> None:
    results = runners.start().map(raise_it, itertools.repeat(error), return_exceptions=True)
    with pytest.raises(type(error)):
        list(results)
    assert list(results) == []


def test_an_input_that_raises_ends_it_at_its_place(runners: Runners) -> None:
    def numbers() -> Iterator[int]:
        yield from (0, 1)
        raise LookupError

    results = runners.start().map(fail_at_thirds, numbers(), return_exceptions=True)
    assert isinstance(next(results), ValueError)
    assert next(results) == 1
    with pytest.raises(LookupError) as raised:
        next(results)
    assert notes(raised.value) == []
    assert list(results) == []


@ORDERED
def test_a_stop_ends_an_endless_one(runners: Runners, ordered: bool) -> None:
    runner = runners.start()
    results = runner.map(fail_at_thirds, itertools.count(), ordered=ordered, return_exceptions=True)
    next(results)
    runner.stop(LONG_TIMEOUT)
    with pytest.raises(RunnerStopped):
        for _ in results:
            pass


@ORDERED
@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_kill_ends_it(runners: Runners, gate: Gate, ordered: bool, timeout: float | None) -> None:
    runner = runners.start()
    view = runner.options(timeout=timeout)
    results: Results[Exception | None] = view.map(
        gate.hold, itertools.count(), ordered=ordered, return_exceptions=True
    )
    gate.wait_for()
    kill = Call(runner.kill)
    eventually(lambda: runner.state == "killed")
    gate.open()
    with pytest.raises(TaskCancelled):
        for _ in results:
            pass
    kill.result()


def test_without_it_the_first_failure_ends_it(runners: Runners) -> None:
    results = runners.start().map(fail_at_thirds, range(1, 10), return_exceptions=False)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ValueError, match="3") as raised:
        next(results)
    assert index_in_note(raised.value) == 2
    assert list(results) == []


@pytest.mark.parametrize("value", [1, "yes", None])
def test_it_is_a_bool(runners: Runners, value: Any) -> None:
    with pytest.raises(ConfigError, match="return_exceptions"):
        runners.start().map(fail_at_thirds, [1], return_exceptions=value)


# ---- the note


@ORDERED
def test_a_ready_made_exception_has_one_note_of_the_latest_item(
    runners: Runners, ordered: bool
) -> None:
    error = ConnectionError("closed")
    error.add_note("of the user")
    runner = runners.start()
    results = runner.map(
        raise_it, itertools.repeat(error, 100), ordered=ordered, return_exceptions=True
    )
    for index, each in enumerate(results):
        assert each is error
        mine, ours = notes(error)
        assert mine == "of the user"
        assert ours == f"tasker: raised for the item at index {index}"


def test_notes_of_retries_and_items_do_not_pile_up(runners: Runners) -> None:
    error = Broken("closed")
    runner = runners.start(check_health=is_healthy, max_retries=1)
    for _ in range(5):
        assert len(list(runner.map(raise_it, [error] * 3, return_exceptions=True))) == 3
        assert notes(error) == [
            "tasker gave up after 2 attempts, each on another resource: "
            "raised for the item at index 2"
        ]
        assert runner.submit(raise_it, error).exception(LONG_TIMEOUT) is error
        assert notes(error) == ["tasker gave up after 2 attempts, each on another resource"]


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """An error that nothing can be written to."""

    code: int


class Hostile(Exception):
    """An error that answers no question and takes no note."""

    def __getattribute__(self, name: str) -> Any:
        if name == "__notes__":
            raise ArithmeticError
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: object) -> None:
        raise SystemError

    def add_note(self, _note: str) -> None:
        raise ArithmeticError


class Odd(Exception):
    """An error with notes that are no list."""

    __notes__ = ("a", "tuple")  # type: ignore[assignment]


@pytest.mark.parametrize("error", [Frozen(7), Hostile(), Odd()])
@pytest.mark.parametrize("retries", [0, 1])
def test_an_error_that_takes_no_notes_is_handed_out_without(
    runners: Runners, error: Exception, retries: int
) -> None:
    runner = runners.start(check_health=lambda _: False, max_retries=retries)
    (failure,) = runner.map(raise_it, [error], return_exceptions=True)
    assert failure is error
    with pytest.raises(type(error)) as raised:
        list(runner.map(raise_it, [error]))
    assert raised.value is error


class Interrupting(Exception):
    """An error during whose note Ctrl-C comes."""

    def __setattr__(self, name: str, value: object) -> None:
        raise KeyboardInterrupt


def test_an_interrupt_during_the_note_is_not_lost(runners: Runners) -> None:
    results = runners.start().map(raise_it, [Interrupting()], return_exceptions=True)
    with pytest.raises(KeyboardInterrupt):
        list(results)
