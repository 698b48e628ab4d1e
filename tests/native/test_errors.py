"""What a task raises reaches its caller as itself, and harms nobody else."""

from __future__ import annotations

import concurrent.futures
import pickle
import queue
from collections.abc import Callable, Generator
from typing import Any

import pytest

import tasker
from tasker import Future, TaskCancelled, TaskerError
from tests.native.support import LONG_TIMEOUT, Call, Gate, Resource, Runners

UNUSUAL = [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("odd")]


def raise_it(_resource: object, error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("error", UNUSUAL, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("thread_bound", [True, False])
def test_every_kind_of_error_reaches_the_caller_as_itself(
    runners: Runners, error: BaseException, thread_bound: bool
) -> None:
    runner = runners.start(worker_count=2, thread_bound=thread_bound)
    assert runner.submit(raise_it, error).exception(LONG_TIMEOUT) is error
    for call in (runner.queue_task, runner.run_task):
        with pytest.raises(type(error)) as raised:
            call(raise_it, error)
        assert raised.value is error
    assert runner.queue_task(lambda _: "alive") == "alive"
    assert runner.stats().active_workers == 2


@pytest.mark.parametrize("thread_bound", [True, False])
def test_stop_iteration_becomes_the_cause_of_a_runtime_error(
    runners: Runners, thread_bound: bool
) -> None:
    runner = runners.start(thread_bound=thread_bound)
    error = StopIteration("value")
    for call in (runner.queue_task, runner.run_task):
        with pytest.raises(RuntimeError, match="StopIteration") as raised:
            call(raise_it, error)
        assert raised.value.__cause__ is error


def test_a_generator_that_waits_for_a_task_is_not_ended_in_silence(runners: Runners) -> None:
    runner = runners.start()

    def generator() -> Generator[int]:
        yield 1
        runner.submit(raise_it, StopIteration()).result(LONG_TIMEOUT)
        yield 2

    with pytest.raises(RuntimeError):
        list(generator())


def test_check_health_sees_the_error_the_caller_gets(runners: Runners) -> None:
    seen: list[BaseException] = []

    def check(error: BaseException) -> bool:
        seen.append(error)
        return True

    error = (
        runners.start(check_health=check).submit(raise_it, StopIteration()).exception(LONG_TIMEOUT)
    )
    assert seen == [error]


def test_an_asynchronous_stop_iteration_passes(runners: Runners) -> None:
    error = StopAsyncIteration()
    assert runners.start().submit(raise_it, error).exception(LONG_TIMEOUT) is error


def test_an_error_that_is_raised_again_and_again_stays_one(runners: Runners) -> None:
    runner = runners.start()
    error = ValueError("shared")
    futures = [runner.submit(raise_it, error) for _ in range(5)]
    assert all(future.exception(LONG_TIMEOUT) is error for future in futures)


def test_an_error_chained_by_the_task_keeps_its_chain(runners: Runners) -> None:
    def chain(_resource: Resource) -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error

    error = runners.start().submit(chain).exception(LONG_TIMEOUT)
    assert isinstance(error, ValueError)
    assert isinstance(error.__cause__, KeyError)


def test_a_task_runs_with_no_error_at_hand(runners: Runners) -> None:
    def raise_plainly(_resource: Resource) -> None:
        raise ValueError("second")

    runner = runners.start()
    runner.submit(raise_it, KeyError("first")).exception(LONG_TIMEOUT)
    error = runner.submit(raise_plainly).exception(LONG_TIMEOUT)
    assert error is not None
    assert error.__context__ is None


def test_an_error_returned_is_a_result(runners: Runners) -> None:
    error = ValueError("returned")
    future: Future[ValueError] = runners.start().submit(lambda _: error)
    assert future.result(LONG_TIMEOUT) is error
    assert future.exception() is None


def test_a_cancelled_error_raised_by_a_task_is_its_own(runners: Runners) -> None:
    future = runners.start().submit(raise_it, concurrent.futures.CancelledError())
    assert isinstance(future.exception(LONG_TIMEOUT), concurrent.futures.CancelledError)
    assert not future.cancelled()


def test_waiting_for_a_cancelled_future_inside_a_task(runners: Runners) -> None:
    def wait(_resource: Resource) -> None:
        future: Future[int] = Future()
        future.cancel()
        future.result()

    error = runners.start().submit(wait).exception(LONG_TIMEOUT)
    assert isinstance(error, concurrent.futures.CancelledError)


class Untold(Exception):
    """An error whose text cannot be asked for."""

    def __str__(self) -> str:
        raise ArithmeticError

    __repr__ = __str__


def test_an_error_without_text_is_delivered_all_the_same(runners: Runners) -> None:
    error = Untold()
    runner = runners.start(check_health=lambda _: False, max_retries=1)
    assert runner.submit(raise_it, error).exception(LONG_TIMEOUT) is error
    assert runner.submit(raise_it, error).exception(LONG_TIMEOUT) is error


class Unnotable(Exception):
    """An error that takes no notes."""

    def add_note(self, _note: str) -> None:
        raise ArithmeticError


def test_an_error_that_takes_no_notes_is_delivered_without(runners: Runners) -> None:
    error = Unnotable()
    runner = runners.start(check_health=lambda _: False, max_retries=1)
    assert runner.submit(raise_it, error).exception(LONG_TIMEOUT) is error


def test_all_own_errors_are_ordinary_exceptions() -> None:
    own = [
        each
        for each in vars(tasker).values()
        if isinstance(each, type) and issubclass(each, BaseException)
    ]
    assert own
    assert all(issubclass(each, TaskerError) for each in own)


def killed(runners: Runners) -> BaseException:
    runner, gate = runners.start(), Gate()
    runner.submit(gate.hold)
    gate.wait_for()
    future = runner.submit(gate.hold)
    call = Call(runner.kill)
    error = future.exception(LONG_TIMEOUT)
    gate.open()
    call.result()
    assert error is not None
    return error


def refused(runners: Runners) -> BaseException:
    runner = runners.start()
    runner.stop(LONG_TIMEOUT)
    return Call(runner.submit, print).error()


def crowded(runners: Runners) -> BaseException:
    runner, gate = runners.start(max_queue_size=1, when_full="raise"), Gate()
    runner.submit(gate.hold)
    gate.wait_for()
    runner.submit(gate.hold)
    error = Call(runner.submit, gate.hold).error()
    gate.open()
    return error


def late(runners: Runners) -> BaseException:
    runner, gate = runners.start(), Gate()
    runner.submit(gate.hold)
    error = runner.options(timeout=0.01).submit(gate.hold).exception(LONG_TIMEOUT)
    gate.open()
    assert error is not None
    return error


@pytest.mark.parametrize(
    ("make", "standard"),
    [
        (killed, concurrent.futures.CancelledError),
        (refused, RuntimeError),
        (crowded, queue.Full),
        (late, TimeoutError),
    ],
)
def test_own_errors_are_caught_as_the_standards(
    runners: Runners, make: Callable[[Runners], BaseException], standard: type[BaseException]
) -> None:
    error = make(runners)
    assert isinstance(error, standard)
    assert isinstance(error, TaskerError)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(copy), copy.args) == (type(error), error.args)


def test_a_task_that_raises_our_own_error_is_not_judged(runners: Runners) -> None:
    asked: list[Any] = []
    runner = runners.start(check_health=asked.append)
    error = TaskCancelled("gave up")
    assert runner.submit(raise_it, error).exception(LONG_TIMEOUT) is error
    assert asked == []
