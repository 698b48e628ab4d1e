"""A lent resource that an interrupt caught in the middle of something serves nobody else.

With `thread_bound=False` a task runs in the caller's thread, where signal handlers raise and
finalizers run between any two instructions of it.
"""

from __future__ import annotations

import functools
import gc
import signal
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from tasker import Config, Future, Runner
from tests.native.support import LONG_TIMEOUT, Call, LogCapture, Resource, Runners

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGUSR1"), reason="signals are raised as POSIX has them"
)

Handler = Callable[[int, FrameType | None], Any]


class Alarm(Exception):
    """What a handler raises."""


class DriverError(Exception):
    """What a driver makes of it."""


@contextmanager
def handling(handler: Any) -> Iterator[None]:
    former = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, former)


def raise_alarm(_number: int, _frame: FrameType | None) -> None:
    raise Alarm


def raise_by_star(*arguments: Any) -> None:
    raise_alarm(*arguments)


class Method:
    def handle(self, number: int, frame: FrameType | None) -> None:
        raise Alarm

    def __call__(self, number: int, frame: FrameType | None) -> None:
        raise Alarm


@functools.wraps(raise_alarm)
def decorated(*arguments: Any, **named: Any) -> None:
    return raise_alarm(*arguments, **named)


def raise_deeper(_number: int, _frame: FrameType | None) -> None:
    def deeper() -> None:
        raise Alarm

    deeper()


HANDLERS: dict[str, Any] = {
    "function": raise_alarm,
    "star": raise_by_star,
    "method": Method().handle,
    "callable": Method(),
    "partial": functools.partial(lambda _mine, _number, _frame: raise_alarm(0, None), 1),
    "decorated": decorated,
    "deeper": raise_deeper,
    "keyboard interrupt": signal.default_int_handler,
}


def hit(_resource: Resource) -> None:
    signal.raise_signal(signal.SIGUSR1)
    time.sleep(0)


def hit_in_a_loop(_resource: Resource) -> None:
    signal.raise_signal(signal.SIGUSR1)
    for _ in range(10_000_000):
        pass


def hit_as_a_driver(_resource: Resource) -> None:
    try:
        signal.raise_signal(signal.SIGUSR1)
        time.sleep(0)
    except BaseException as error:
        raise DriverError from error


def hit_as_a_driver_that_hides_it(resource: Resource) -> None:
    try:
        hit_as_a_driver(resource)
    except DriverError:
        raise DriverError from None


def hit_and_restore(_resource: Resource) -> None:
    try:
        signal.raise_signal(signal.SIGUSR1)
        time.sleep(0)
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def hit_and_chase_its_tail(resource: Resource) -> None:
    try:
        hit_as_a_driver(resource)
    except DriverError as error:
        if error.__cause__:
            error.__cause__.__context__ = error
        raise


TASKS = [
    hit,
    hit_in_a_loop,
    hit_as_a_driver,
    hit_as_a_driver_that_hides_it,
    hit_and_restore,
    hit_and_chase_its_tail,
]

JUDGES: dict[str, dict[str, Any]] = {
    "not judged": {},
    "is_broken": {"is_broken": lambda _resource, _error: False},
    "check_health": {"check_health": lambda _error: True},
}


def lending(runners: Runners, **fields: Any) -> Runner[Resource]:
    return runners.start(**{"thread_bound": False, "resource_pool_size": 1, **fields})


@pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
def test_what_a_signal_left_is_replaced(
    runners: Runners, handler: Any, task: Callable[[Resource], None], judge: dict[str, Any]
) -> None:
    runner = lending(runners, **judge)
    before = runner.run_task(lambda resource: resource.number)
    with handling(handler), pytest.raises((Alarm, DriverError, KeyboardInterrupt)):
        runner.run_task(task)
    assert runner.run_task(lambda resource: resource.number) != before
    assert runner.metrics().total_tasks_retried == 0


class Signal(int):
    """A resource that `signal.raise_signal`, which has no frame of its own, takes."""


def test_a_builtin_as_the_task_is_looked_at_too(runners: Runners) -> None:
    made: list[Signal] = []

    def create() -> Signal:
        made.append(Signal(signal.SIGUSR1))
        return made[-1]

    runner = runners.keep(
        Runner(Config(on_create=create, worker_count=1, thread_bound=False, resource_pool_size=1))
    )
    before = runner.run_task(lambda number: number)
    with handling(raise_alarm), pytest.raises(Alarm):
        runner.run_task(signal.raise_signal)
    assert runner.run_task(lambda number: number) is not before


def test_an_ordinary_error_changes_nothing(runners: Runners) -> None:
    def fail(_resource: Resource) -> None:
        raise Alarm

    def fail_with_its_frame(_resource: Resource, frame: FrameType | None = None) -> None:
        raise Alarm

    def fail_for_what_left_no_traceback(_resource: Resource) -> None:
        raise Alarm from DriverError().with_traceback(None)

    runner = lending(runners)
    before = runner.run_task(lambda resource: resource.number)
    for task in (fail, fail_with_its_frame, fail_for_what_left_no_traceback):
        with pytest.raises(Alarm):
            runner.run_task(task)
    assert runner.run_task(lambda resource: resource.number) == before


def test_an_error_of_a_caller_that_handles_an_alarm_changes_nothing(runners: Runners) -> None:
    def fail(_resource: Resource) -> None:
        raise LookupError

    runner = lending(runners)
    before = runner.run_task(lambda resource: resource.number)
    try:
        with handling(raise_alarm):
            hit_in_a_loop(runners.factory.made[0])
    except Alarm:
        with pytest.raises(LookupError) as raised:
            runner.run_task(fail)
        assert isinstance(raised.value.__context__, Alarm)
    assert runner.run_task(lambda resource: resource.number) == before


def test_in_another_thread_what_is_no_exception_spoils_the_resource(runners: Runners) -> None:
    def leave(_resource: Resource) -> None:
        raise SystemExit

    runner = lending(runners)
    before = runner.run_task(lambda resource: resource.number)
    with pytest.raises(SystemExit):
        Call(lambda: runner.run_task(leave)).result()
    assert runner.run_task(lambda resource: resource.number) != before


def test_an_interrupted_task_inside_another_spoils_the_resource_of_both(runners: Runners) -> None:
    def outer(resource: Resource) -> int:
        with pytest.raises(Alarm):
            runner.run_task(hit)
        return resource.number

    runner = lending(runners)
    with handling(raise_alarm):
        before = runner.run_task(outer)
    assert runner.run_task(lambda resource: resource.number) != before


def test_a_time_limit_that_passed_before_does_not_hide_it(runners: Runners) -> None:
    def late(resource: Resource) -> None:
        time.sleep(0.05)
        hit(resource)

    runner = lending(runners)
    before = runner.run_task(lambda resource: resource.number)
    with handling(raise_alarm), pytest.raises(TimeoutError):
        runner.options(timeout=0.01).run_task(late)
    assert runner.run_task(lambda resource: resource.number) != before


# An interrupt in a hook, on the caller's thread.


@pytest.mark.parametrize("handler", [raise_alarm, signal.default_int_handler])
def test_an_interrupt_in_reset_reaches_the_caller(
    runners: Runners, log: LogCapture, handler: Any
) -> None:
    ran: list[int] = []

    def reset(_resource: Resource) -> None:
        if len(ran) == 1:
            ran.append(0)
            signal.raise_signal(signal.SIGUSR1)
            time.sleep(0)

    runner = lending(runners, reset=reset)
    with handling(handler), pytest.raises((Alarm, KeyboardInterrupt)):
        runner.run_task(lambda resource: ran.append(resource.number))
    assert runner.metrics().total_tasks_completed == 1
    assert runner.run_task(lambda resource: resource.number) != ran[0]
    assert log.rest() == []


@pytest.mark.parametrize("handler", [raise_alarm, signal.default_int_handler])
def test_an_interrupt_in_validate_reaches_the_caller(
    runners: Runners, log: LogCapture, handler: Any
) -> None:
    asked: list[int] = []

    def validate(resource: Resource) -> bool:
        asked.append(resource.number)
        if len(asked) == 2:
            signal.raise_signal(signal.SIGUSR1)
            time.sleep(0)
        return True

    ran: list[int] = []
    runner = lending(runners, validate=validate, validate_after_idle=0.0)
    runner.run_task(lambda resource: ran.append(resource.number))
    with handling(handler), pytest.raises((Alarm, KeyboardInterrupt)):
        runner.run_task(lambda resource: ran.append(resource.number))
    assert len(ran) == 1
    assert runner.run_task(lambda resource: resource.number) != ran[0]
    assert log.rest() == []


@pytest.mark.parametrize("hook", ["is_broken", "check_health"])
@pytest.mark.parametrize("handler", [raise_alarm, signal.default_int_handler])
def test_an_interrupt_in_the_judgement_reaches_the_caller(
    runners: Runners, log: LogCapture, handler: Any, hook: str
) -> None:
    def judge(*_arguments: object) -> bool:
        signal.raise_signal(signal.SIGUSR1)
        time.sleep(0)
        raise AssertionError

    def fail(resource: Resource) -> None:
        used.append(resource.number)
        raise LookupError

    def judge_one(_error: BaseException) -> bool:
        return judge()

    used: list[int] = []
    runner = lending(runners, **{hook: judge_one if hook == "check_health" else judge})
    with handling(handler), pytest.raises((Alarm, KeyboardInterrupt)) as raised:
        runner.run_task(fail)
    assert isinstance(raised.value.__context__, LookupError)
    assert len(used) == 1
    assert runner.run_task(lambda resource: resource.number) != used[0]
    assert log.rest() == []


# What comes in the middle of a task and calls the runner.


def test_a_handler_is_not_served_on_the_resource_in_use(runners: Runners) -> None:
    used: list[int] = []

    def handle(_number: int, _frame: FrameType | None) -> None:
        used.append(runner.run_task(lambda resource: resource.number))

    runner = lending(runners, worker_count=2, resource_pool_size=2)
    with handling(handle):
        runner.run_task(lambda resource: (used.append(resource.number), hit(resource)))
    outer, inner = used
    assert outer != inner


VERBS: dict[str, Callable[[Runner[Resource]], int]] = {
    "queue_task": lambda runner: runner.queue_task(lambda resource: resource.number),
    "submit": lambda runner: runner.submit(lambda resource: resource.number).result(),
    "map": lambda runner: next(runner.map(lambda resource, _: resource.number, [0])),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_what_a_handler_queues_is_run_by_a_worker(
    runners: Runners, verb: Callable[[Runner[Resource]], int]
) -> None:
    used: list[int] = []

    def handle(_number: int, _frame: FrameType | None) -> None:
        used.append(verb(runner))

    runner = lending(runners)
    with handling(handle):
        runner.run_task(lambda resource: (used.append(resource.number), hit(resource)))
    outer, inner = used
    assert outer != inner


def test_a_handler_that_no_other_resource_is_left_for_is_told(runners: Runners) -> None:
    errors: list[BaseException] = []

    def handle(_number: int, _frame: FrameType | None) -> None:
        with pytest.raises(RuntimeError, match="nobody may be left to run it") as raised:
            runner.run_task(lambda _: None)
        errors.append(raised.value)

    runner = lending(runners)
    with handling(handle):
        runner.run_task(hit)
    assert len(errors) == 1


def test_a_call_of_the_task_itself_is_inside_though_a_handler_made_the_task(
    runners: Runners,
) -> None:
    used: list[tuple[int, int]] = []

    def outer(resource: Resource) -> None:
        used.append((resource.number, runner.run_task(lambda inner: inner.number)))

    runner = lending(runners)
    with handling(lambda _number, _frame: runner.run_task(outer)):
        hit_in_a_loop(runners.factory.made[0])
    [(first, second)] = used
    assert first == second


class Careless:
    """Calls the runner when the collector finds it."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call
        self.itself = self

    def __del__(self) -> None:
        self.call()


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def collect_careless(call: Callable[[], object]) -> None:
    Careless(call)
    gc.collect()


def collect_finalized(call: Callable[[], object]) -> None:
    weakref.finalize(Cycle(), call)
    gc.collect()


@pytest.mark.parametrize("collect", [collect_careless, collect_finalized])
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_a_finalizer_is_not_served_on_the_resource_in_use(
    runners: Runners,
    verb: Callable[[Runner[Resource]], int],
    collect: Callable[[Callable[[], object]], None],
) -> None:
    seen: list[str] = []

    def call() -> None:
        try:
            seen.append(str(verb(runner)))
        except RuntimeError as error:
            seen.append(str(error))

    runner = runners.start()
    runner.queue_task(lambda _resource: collect(call))
    assert len(seen) == 1
    assert "nobody may be left" in seen[0]


def test_a_finalizer_may_submit(runners: Runners) -> None:
    futures: list[Future[int]] = []

    def call() -> None:
        futures.append(runner.submit(lambda resource: resource.number))

    runner = runners.start()
    runner.queue_task(lambda _resource: collect_careless(call))
    assert futures[0].result(LONG_TIMEOUT) == 0


def test_a_finalizer_called_by_hand_is_part_of_its_task(runners: Runners) -> None:
    used: list[int] = []

    def outer(resource: Resource) -> None:
        owner = Cycle()
        close = weakref.finalize(owner, lambda: used.append(runner.queue_task(number)))
        close()
        used.append(resource.number)

    def number(resource: Resource) -> int:
        return resource.number

    runner = runners.start()
    runner.queue_task(outer)
    assert used == [0, 0]
