"""Hooks are called in one order, whatever runs the tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from tasker import (
    ConfigError,
    Context,
    Future,
    ResourceCreationError,
    Runner,
    RunnerStopped,
    current_context,
)
from tasker.testing import InlineRunner
from tests.behaviour.support import AnyRunner, Bench
from tests.native.support import (
    LONG_TIMEOUT,
    MOMENT,
    Broken,
    LogCapture,
    Resource,
    break_down,
    is_healthy,
)

VERB = pytest.mark.parametrize("verb", ["queue_task", "run_task"])


def raise_arithmetic_error(_anything: object) -> bool:
    raise ArithmeticError


def says_broken(_resource: Resource, error: BaseException) -> bool:
    return not is_healthy(error)


JUDGES: list[dict[str, Any]] = [{"is_broken": says_broken}, {"check_health": is_healthy}]
"""The hooks that say whether an error is the fault of the resource."""
JUDGE = pytest.mark.parametrize("judge", JUDGES, ids=["is_broken", "check_health"])


class NoTruth:
    def __bool__(self) -> bool:
        raise ArithmeticError


HOOKS: list[Callable[[Any], object]] = [raise_arithmetic_error, lambda _: NoTruth()]


class Diary:
    """Hooks that note their calls."""

    def __init__(self, bench: Bench) -> None:
        self._factory = bench.factory
        self.entries: list[str] = bench.notes()

    def note(self, what: str, resource: Resource) -> None:
        self.entries.append(f"{what} {resource.number}")

    def create(self) -> Resource:
        resource = self._factory.create()
        self.note("create", resource)
        return resource

    def destroy(self, resource: Resource) -> None:
        self.note("destroy", resource)
        self._factory.destroy(resource)

    def reset(self, resource: Resource) -> None:
        self.note("reset", resource)

    def validate(self, resource: Resource) -> bool:
        self.note("validate", resource)
        return True

    def check_health(self, error: BaseException) -> bool:
        self.entries.append(f"check {type(error).__name__}")
        return is_healthy(error)

    def task(self, resource: Resource) -> None:
        self.note("task", resource)

    def fail(self, resource: Resource) -> None:
        self.note("fail", resource)
        raise ValueError

    def fail_once(self, resource: Resource) -> None:
        self.note("bad" if current_context().attempt == 1 else "task", resource)
        if current_context().attempt == 1:
            raise Broken

    def start(self, bench: Bench, **fields: Any) -> AnyRunner:
        hooks = {
            "on_create": self.create,
            "on_destroy": self.destroy,
            "reset": self.reset,
            "check_health": self.check_health,
        }
        # Their reserved workers would have resources of their own.
        return bench.start(**{**hooks, **fields})


@pytest.fixture
def diary(bench: Bench) -> Diary:
    return Diary(bench)


def test_from_the_first_resource_to_the_last(bench: Bench, diary: Diary) -> None:
    runner = diary.start(bench)
    runner.queue_task(diary.task)
    runner.submit(diary.fail).exception(LONG_TIMEOUT)
    runner.queue_task(diary.fail_once)
    runner.stop()
    assert diary.entries == [
        "create 0",
        "task 0",
        "reset 0",
        "fail 0",
        "check ValueError",
        "reset 0",
        "bad 0",
        "check Broken",
        "destroy 0",
        "create 1",
        "task 1",
        "reset 1",
        "destroy 1",
    ]


def test_validate_comes_before_each_task_where_no_rest_is_allowed(
    bench: Bench, diary: Diary
) -> None:
    runner = diary.start(bench, validate=diary.validate, validate_after_idle=0)
    runner.queue_task(diary.task)
    runner.queue_task(diary.fail_once)
    runner.stop()
    assert diary.entries == [
        "create 0",
        "validate 0",
        "task 0",
        "reset 0",
        "validate 0",
        "bad 0",
        "check Broken",
        "destroy 0",
        "create 1",
        "validate 1",
        "task 1",
        "reset 1",
        "destroy 1",
    ]


def test_a_resource_that_served_its_number_is_renewed_after_the_reset(
    bench: Bench, diary: Diary
) -> None:
    runner = diary.start(bench, max_tasks_per_resource=2)
    for _ in range(4):
        runner.queue_task(diary.task)
    runner.stop()
    assert diary.entries[:8] == [
        "create 0",
        "task 0",
        "reset 0",
        "task 0",
        "reset 0",
        "destroy 0",
        "create 1",
        "task 1",
    ]


def test_the_outcome_comes_before_reset(diary: Diary, bench: Bench) -> None:
    runner, let_run = bench.start_held(reset=diary.reset)
    future = runner.submit(diary.task)
    future.add_done_callback(lambda _: diary.entries.append("told"))
    let_run()
    bench.eventually(lambda: "told" in diary.entries[-2:] and "reset 0" in diary.entries[-1])
    assert diary.entries[-3:] == ["task 0", "told", "reset 0"]


def test_hooks_are_part_of_no_task(bench: Bench) -> None:
    seen: list[str] = bench.notes()

    def hook(_anything: object = None) -> bool:
        with pytest.raises(RuntimeError):
            current_context()
        seen.append("")
        return True

    def create() -> Resource:
        hook()
        return bench.factory.create()

    runner = bench.start(
        on_create=create, reset=hook, validate=hook, validate_after_idle=0, check_health=hook
    )
    assert isinstance(runner.submit(break_down).exception(LONG_TIMEOUT), Broken)
    runner.stop()
    assert len(seen) >= 4


# Replacement and retries.


class Flaky:
    """A task function that finds its resource bad so many times, and notes which it was given."""

    def __init__(self, bench: Bench, failures: int) -> None:
        self.failures = failures
        self.used: list[int] = bench.notes()

    def __call__(self, resource: Resource) -> int:
        self.used.append(resource.number)
        if len(self.used) <= self.failures:
            raise Broken(len(self.used))
        return len(self.used)


@VERB
@JUDGE
@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_attempts_are_one_more_than_retries(
    bench: Bench, verb: str, judge: dict[str, Any], max_retries: int
) -> None:
    runner = bench.start(**judge, max_retries=max_retries)
    flaky = Flaky(bench, failures=100)
    with pytest.raises(Broken) as raised:
        getattr(runner, verb)(flaky)
    assert len(set(flaky.used)) == 1 + max_retries
    assert raised.value.args == (1 + max_retries,)
    attempts = f"tasker gave up after {1 + max_retries} attempts, each on another resource"
    assert bench.notes_on(raised.value) == ([attempts] if max_retries else [])
    assert runner.metrics().total_tasks_retried == max_retries
    assert runner.metrics().total_tasks_failed == 1


@VERB
@JUDGE
def test_an_error_that_is_raised_again_and_again_has_one_note(
    bench: Bench, verb: str, judge: dict[str, Any]
) -> None:
    runner = bench.start(**judge, max_retries=1)
    error = Broken()

    def fail(_resource: Resource) -> None:
        raise error

    for _ in range(2):
        with pytest.raises(Broken):
            getattr(runner, verb)(fail)
    assert error.__notes__ == ["tasker gave up after 2 attempts, each on another resource"]


def settle(future: Future[Any], by: str) -> None:
    if by == "set_result":
        future.set_result(None)
    else:
        future.set_exception(Broken())


BY_HAND = pytest.mark.parametrize(
    ("by", "completed"), [("set_result", 1), ("set_exception", 0)], ids=["result", "exception"]
)


def check_counted_by_hand(bench: Bench, runner: AnyRunner, completed: int) -> None:
    # What holds a runner's worker is a task as well.
    held = 0 if bench.is_inline else 1

    def is_counted() -> bool:
        found = runner.metrics()
        counted = (found.total_tasks_completed - held, found.total_tasks_failed)
        return counted == (completed, 1 - completed)

    bench.eventually(is_counted)


@BY_HAND
def test_a_retry_settled_by_hand_is_counted_by_that_outcome(
    bench: Bench, by: str, completed: int
) -> None:
    futures: list[Future[Any]] = []
    attempts: list[int] = bench.notes()

    def create() -> Resource:
        if futures and not futures[0].done():
            settle(futures[0], by)
        return bench.factory.create()

    def fail(_resource: Resource) -> None:
        attempts.append(1)
        raise Broken

    runner, let_run = bench.start_held(on_create=create, check_health=is_healthy)
    future = runner.submit(fail)
    futures.append(future)
    let_run()
    assert (future.exception(LONG_TIMEOUT) is None) is bool(completed)
    check_counted_by_hand(bench, runner, completed)
    assert attempts == [1]
    assert runner.metrics().total_tasks_retried == 1


@BY_HAND
@pytest.mark.parametrize("ends", ["returns", "raises"])
def test_a_running_task_settled_by_hand_is_counted_by_that_outcome(
    bench: Bench, by: str, completed: int, ends: str
) -> None:
    futures: list[Future[Any]] = []

    def task(_resource: Resource) -> None:
        settle(futures[0], by)
        if ends == "raises":
            raise ArithmeticError

    runner, let_run = bench.start_held()
    future = runner.submit(task)
    futures.append(future)
    let_run()
    assert (future.exception(LONG_TIMEOUT) is None) is bool(completed)
    check_counted_by_hand(bench, runner, completed)
    runner.stop()
    check_counted_by_hand(bench, runner, completed)


class Unnoted(Broken):
    """An error that takes no notes."""

    __notes__ = property(lambda self: 1 / 0)

    def add_note(self, note: str, /) -> None:
        raise RuntimeError(note)


@VERB
@JUDGE
def test_an_error_that_takes_no_notes_is_the_outcome_all_the_same(
    bench: Bench, verb: str, judge: dict[str, Any]
) -> None:
    runner = bench.start(**judge, max_retries=1)

    def fail(_resource: Resource) -> None:
        raise Unnoted

    with pytest.raises(Unnoted):
        getattr(runner, verb)(fail)
    assert runner.metrics().total_tasks_failed == 1


@VERB
def test_the_error_of_a_wrong_call_says_how_tasks_are_called(bench: Bench, verb: str) -> None:
    runner = bench.start()
    with pytest.raises(TypeError) as raised:
        getattr(runner, verb)(lambda: None)
    (note,) = bench.notes_on(raised.value)
    assert note.startswith("tasker calls a task as fn(resource, *args, **kwargs)")


@VERB
@JUDGE
def test_each_attempt_gets_another_resource(bench: Bench, verb: str, judge: dict[str, Any]) -> None:
    runner = bench.start(**judge)
    flaky = Flaky(bench, failures=3)
    assert getattr(runner, verb)(flaky) == 4
    assert len(set(flaky.used)) == 4


@VERB
def test_a_once_task_is_entered_once_and_its_bad_resource_replaced(bench: Bench, verb: str) -> None:
    runner = bench.start(check_health=is_healthy)
    flaky = Flaky(bench, failures=1)
    with pytest.raises(Broken) as raised:
        getattr(runner.options(once=True), verb)(flaky)
    assert bench.notes_on(raised.value) == []
    assert getattr(runner, verb)(flaky) == 2
    assert len(set(flaky.used)) == 2


def test_without_a_judge_no_error_makes_a_resource_bad(bench: Bench) -> None:
    runner = bench.start()
    for _ in range(3):
        with pytest.raises(Broken):
            runner.queue_task(break_down)
    assert len(bench.factory.made) == 1


@pytest.mark.parametrize("judge", ["is_broken", "check_health"])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_judge_that_raises_replaces_the_resource_and_does_not_retry(
    bench: Bench, log: LogCapture, judge: str, hook: Callable[[Any], bool]
) -> None:
    fields = {"is_broken": lambda resource, _: hook(resource), "check_health": hook}
    runner = bench.start(**{judge: fields[judge]})
    flaky = Flaky(bench, failures=1)
    with pytest.raises(Broken):
        runner.queue_task(flaky)
    assert runner.queue_task(flaky) == 2
    assert flaky.used == [0, 1]
    (record,) = log.take()
    assert f"{judge} failed" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[0] is ArithmeticError


def test_a_reset_that_raises_has_the_resource_replaced_and_changes_no_outcome(
    bench: Bench, log: LogCapture
) -> None:
    def reset(resource: Resource) -> None:
        if resource.number == 0:
            raise ArithmeticError

    runner = bench.start(reset=reset, check_health=is_healthy)
    assert [runner.queue_task(lambda resource: resource.number) for _ in range(2)] == [0, 1]
    assert "reset failed" in log.take()[0].getMessage()


@pytest.mark.parametrize("validate", [*HOOKS, lambda _: False])
def test_a_resource_that_validate_refuses_is_replaced_before_the_task_sees_it(
    bench: Bench, log: LogCapture, validate: Callable[[Resource], bool]
) -> None:
    runner = bench.start(
        validate=lambda resource: resource.number > 0 or validate(resource), validate_after_idle=0
    )
    assert runner.queue_task(lambda resource: resource.number) == 1
    assert runner.metrics().total_tasks_retried == 0
    for record in log.rest():
        assert "validate failed" in record.getMessage()


def test_an_error_of_on_destroy_is_logged_and_dropped(bench: Bench, log: LogCapture) -> None:
    def destroy(resource: Resource) -> None:
        bench.factory.destroy(resource)
        raise ArithmeticError

    runner = bench.start(on_destroy=destroy)
    runner.stop()
    (record,) = log.take()
    assert "on_destroy failed" in record.getMessage()
    assert getattr(record, "worker", "").startswith("tasker-")


def test_without_a_logger_nothing_is_logged(bench: Bench, log: LogCapture) -> None:
    runner = bench.start(reset=raise_arithmetic_error, logger=None)
    runner.queue_task(lambda _: None)
    runner.stop()
    assert log.rest() == []


def test_a_task_that_heeds_its_context_is_not_judged(bench: Bench) -> None:
    asked: list[BaseException] = bench.notes()

    def check(error: BaseException) -> bool:
        asked.append(error)
        return False

    def heed(_resource: Resource) -> None:
        box[0].request_cancel("enough")
        current_context().check()

    runner, let_run = bench.start_held(check_health=check)
    box = [runner.submit(heed)]
    let_run()
    assert "enough" in str(box[0].exception(LONG_TIMEOUT))
    assert asked == []


def test_a_bad_resource_found_inside_is_replaced_when_the_outer_task_has_ended(
    bench: Bench,
) -> None:
    runner = bench.start(check_health=is_healthy)

    def outer(resource: Resource) -> int:
        with pytest.raises(Broken) as raised:
            runner.queue_task(break_down)
        assert bench.notes_on(raised.value) == []
        return resource.number

    assert runner.queue_task(outer) == 0
    assert runner.queue_task(lambda resource: resource.number) == 1
    assert runner.metrics().total_tasks_retried == 0


def test_check_health_may_use_the_runner_and_is_answered_on_the_resource_in_question(
    bench: Bench,
) -> None:
    box: list[AnyRunner] = []

    def check(_error: BaseException) -> bool:
        return box[0].queue_task(lambda resource: resource.number) != 0

    box.append(bench.start(check_health=check, max_retries=1))
    assert box[0].queue_task(Flaky(bench, failures=1)) == 2


def test_renew_renews_the_resource(bench: Bench) -> None:
    runner = bench.start()
    assert runner.queue_task(lambda resource: resource.number) == 0
    assert runner.renew().result(LONG_TIMEOUT) == 1
    assert bench.factory.made[0].destroyed_on
    bench.eventually(lambda: len(bench.factory.made) == 2)
    assert runner.queue_task(lambda resource: resource.number) == 1


def test_a_renewal_inside_a_task_is_done_when_the_task_has_ended(bench: Bench) -> None:
    runner = bench.start()
    renewals: list[Future[int]] = []

    async def wait() -> int:
        return await renewals[0]

    def renew(_resource: Resource) -> bool:
        renewals.append(runner.renew())
        with pytest.raises(RuntimeError, match="must not wait without a limit for the renewal"):
            renewals[0].result()
        with pytest.raises(RuntimeError, match="must not wait without a limit for the renewal"):
            asyncio.run(wait())
        return renewals[0].done()

    assert runner.queue_task(renew) is False
    assert renewals[0].result(LONG_TIMEOUT) == 1


def test_a_renewal_fails_when_its_runner_ends_before(bench: Bench) -> None:
    runner = bench.start()
    renewals: list[Future[int]] = []

    def renew_and_stop(_resource: Resource) -> None:
        renewals.append(runner.renew())
        runner.stop()

    runner.queue_task(renew_and_stop)
    assert isinstance(renewals[0].exception(LONG_TIMEOUT), RunnerStopped)


def test_a_cancelled_renewal_goes_on(bench: Bench) -> None:
    runner = bench.start()
    runner.queue_task(lambda _: runner.renew().cancel())
    bench.eventually(lambda: len(bench.factory.made) == 2)


def test_a_runner_is_asked_for_other_numbers_of_workers(bench: Bench) -> None:
    runner = bench.start()
    assert (runner.worker_count, runner.max_worker_count) == (1, 1)
    runner.resize(worker_count=3)
    assert (runner.worker_count, runner.max_worker_count) == (3, 3)
    runner.resize(max_worker_count=5)
    runner.resize(worker_count=2)
    assert (runner.worker_count, runner.max_worker_count) == (2, 5)
    assert runner.config.worker_count == 1
    with pytest.raises(TypeError, match=r"resize\(\) needs"):
        runner.resize()
    for given in ({"worker_count": 0}, {"worker_count": 6}, {"max_worker_count": 1}):
        with pytest.raises(ConfigError, match="worker_count must be at least"):
            runner.resize(**given)
    assert (runner.worker_count, runner.max_worker_count) == (2, 5)
    assert runner.queue_task(lambda _: 7) == 7


def test_a_first_resource_that_cannot_be_made_is_an_error_of_the_constructor(
    bench: Bench,
) -> None:
    def create() -> Resource:
        raise ConnectionRefusedError("no server")

    with pytest.raises(ResourceCreationError, match="ConnectionRefusedError: no server") as raised:
        bench.start(on_create=create)
    assert isinstance(raised.value.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize("kind", [Runner, InlineRunner])
def test_what_is_no_config_is_refused(kind: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match="config must be a Config, got 7"):
        kind(7)


@pytest.mark.parametrize(
    ("option", "value"), [("priority", 7), ("once", 1), ("timeout", "soon"), ("name", "")]
)
def test_wrong_options_are_named(bench: Bench, option: str, value: object) -> None:
    options: Callable[..., object] = bench.start().options
    with pytest.raises(ConfigError, match=f"{option} must be"):
        options(**{option: value})


# Interrupting what runs.


def test_a_cancelled_task_is_interrupted_once_and_its_resource_looked_at(bench: Bench) -> None:
    interrupted: list[int] = bench.notes()
    looked_at: list[int] = bench.notes()
    called = bench.event()

    def on_cancel(resource: Resource) -> None:
        interrupted.append(resource.number)
        called.set()

    def validate(resource: Resource) -> bool:
        looked_at.append(resource.number)
        return True

    def give_up(_resource: Resource) -> None:
        for _ in range(2):
            assert box[0].request_cancel("enough")
        assert called.wait(LONG_TIMEOUT)

    runner, let_run = bench.start_held(on_cancel=on_cancel, validate=validate)
    box = [runner.submit(give_up)]
    let_run()
    assert box[0].exception(LONG_TIMEOUT) is None
    assert looked_at == []
    assert runner.queue_task(lambda resource: resource.number) == 0
    assert interrupted == looked_at == [0]


def test_an_on_cancel_that_raises_is_logged(bench: Bench, log: LogCapture) -> None:
    called = bench.event()

    def on_cancel(_resource: Resource) -> None:
        called.set()
        raise ArithmeticError

    def give_up(_resource: Resource) -> str:
        box[0].request_cancel()
        assert called.wait(LONG_TIMEOUT)
        return "ended"

    runner, let_run = bench.start_held(on_cancel=on_cancel)
    box = [runner.submit(give_up)]
    let_run()
    assert box[0].result(LONG_TIMEOUT) == "ended"
    assert "on_cancel" in log.take()[0].getMessage()


def test_a_callback_of_a_task_is_called_while_it_runs_and_never_after(bench: Bench) -> None:
    contexts: list[Context] = []
    called: list[str] = bench.notes()

    def cancel_within(_resource: Resource) -> None:
        context = current_context()
        contexts.append(context.child())
        reached = bench.event()
        context.on_cancel(reached.set)
        context.cancel()
        assert reached.wait(LONG_TIMEOUT)
        context.on_cancel(lambda: called.append("at once"))

    def leave_open(_resource: Resource) -> None:
        contexts.append(current_context())
        current_context().on_cancel(lambda: called.append("own"))
        contexts.append(current_context().child())
        contexts[-1].on_cancel(lambda: called.append("child's"))

    runner = bench.start()
    runner.queue_task(cancel_within)
    assert called == ["at once"]
    runner.queue_task(leave_open)
    for context in contexts:
        context.cancel()
    runner.queue_task(lambda _: time.sleep(MOMENT))
    assert called == ["at once"]
