"""Objects of users that misbehave as they are pickled, made again, shown, or compared."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

from tasker import (
    Future,
    ResourceCreationError,
    ResultNotPicklable,
    Retry,
    TaskNotPicklable,
)
from tests.ray.conftest import Make
from tests.ray.functions import Resource, same, square


def exit_instead(*_: object) -> Any:
    raise SystemExit("not me")


class Mute(Exception):
    """An error that says nothing."""

    def __str__(self) -> str:
        raise ValueError("mute")

    def __repr__(self) -> str:
        raise SystemExit("mute")


class ExitsWhenPickled:
    def __reduce__(self) -> Any:
        raise SystemExit("not me")


class FailsMutelyWhenPickled:
    def __reduce__(self) -> Any:
        raise Mute


class ExitsWhenMade:
    def __reduce__(self) -> Any:
        return exit_instead, ()


class ErrorThatExitsWhenMade(Exception):
    def __reduce__(self) -> Any:
        return exit_instead, ()


class ErrorThatComesBackAsText(Exception):
    def __reduce__(self) -> Any:
        return str, ("text",)


@pytest.mark.parametrize("kind", [ExitsWhenPickled, FailsMutelyWhenPickled, ExitsWhenMade])
def test_a_result_that_cannot_travel_fails_its_task_alone(make: Make, kind: Any) -> None:
    runner = make()
    before, bad, after = runner.submit_many(lambda _, one: one(), [int, kind, str])
    with pytest.raises(ResultNotPicklable):
        bad.result(timeout=60)
    assert (before.result(timeout=60), after.result(timeout=60)) == (0, "")
    with pytest.raises(ResultNotPicklable):
        runner.run_task(lambda _: kind())
    assert runner.state == "running"


@pytest.mark.parametrize("kind", [ErrorThatExitsWhenMade, ErrorThatComesBackAsText, Mute])
def test_an_error_that_cannot_travel_fails_its_task_alone(make: Make, kind: Any) -> None:
    runner = make()

    def fail(_resource: Resource) -> None:
        raise kind

    error = runner.submit(fail).exception(timeout=60)
    assert type(error) is kind if kind is Mute else isinstance(error, ResultNotPicklable)
    assert "in fail" in "".join(getattr(error, "__notes__", ()))
    assert runner.queue_task(square, 2) == 4


def test_an_error_whose_class_is_in_the_actor_alone_is_told_in_words(make: Make) -> None:
    runner = make()

    def fail(_resource: Resource) -> None:
        import sys

        module = ModuleType("only_in_the_actor")
        sys.modules[module.__name__] = module
        kind: Any = type("Odd", (Exception,), {"__module__": module.__name__})
        module.Odd = kind  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
        raise kind("the shelf is empty")

    with pytest.raises(ResultNotPicklable, match="the shelf is empty") as caught:
        runner.options(name="look").queue_task(fail)
    assert 'task "look" raised' in str(caught.value)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert "in fail" in "".join(caught.value.__notes__)


def test_a_cause_that_cannot_be_pickled_leaves_the_error_what_it_is(make: Make) -> None:
    def fail(_resource: Resource) -> None:
        raise KeyError("above") from OSError(threading.Lock())

    error = make().submit(fail).exception(timeout=60)
    assert isinstance(error, KeyError)
    assert isinstance(error.__cause__, ResultNotPicklable)
    assert "OSError" in str(error.__cause__)


def test_an_error_of_on_create_that_cannot_be_pickled_is_told_in_words(make: Make) -> None:
    def come() -> Resource:
        raise ConnectionError("no server", threading.Lock())

    with pytest.raises(ResourceCreationError, match="no server") as caught:
        make(on_create=come)
    assert "ConnectionError" in str(caught.value.__cause__)


class NotMade:
    """A function that cannot be made in an actor, for a reason that cannot be told."""

    def __reduce__(self) -> Any:
        return _raise_mutely, ()

    def __call__(self, _resource: Resource) -> None: ...


def _raise_mutely() -> Any:
    raise Mute


def test_a_function_that_cannot_be_made_for_no_reason_fails_its_tasks_alone(make: Make) -> None:
    runner = make()
    with pytest.raises(TaskNotPicklable, match="Mute"):
        runner.queue_task(NotMade())
    with pytest.raises(TaskNotPicklable, match="Mute"):
        runner.queue_task(same, NotMade())
    assert runner.queue_task(square, 2) == 4
    assert runner.metrics().total_tasks_retried == 0


@dataclass(frozen=True)
class Times:
    """Equal to each other, whatever they multiply by."""

    factor: int = field(compare=False)

    def __call__(self, _resource: Resource, n: int) -> int:
        return self.factor * n

    def method(self, _resource: Resource, n: int) -> int:
        return self.factor * n


def test_functions_that_are_equal_are_not_taken_for_each_other(make: Make) -> None:
    runner = make()
    two, three = Times(2), Times(3)
    assert two == three
    assert [runner.queue_task(each, 5) for each in (two, three)] == [10, 15]
    assert [runner.queue_task(each.method, 5) for each in (two, three)] == [10, 15]


def test_a_method_is_sent_once(make: Make) -> None:
    runner, two = make(), Times(2)
    kinds = runner._engine().kinds
    assert [runner.queue_task(two.method, n) for n in range(3)] == [0, 2, 4]
    assert len(kinds._known) == 1


def test_functions_that_come_once_are_not_kept_for_ever(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasker.ray import _kinds, _link

    monkeypatch.setattr(_kinds, "MOST_KINDS", 10)
    monkeypatch.setattr(_link, "MOST_KINDS", 10)
    runner = make()

    def submit(n: int) -> Future[int]:
        return runner.submit(lambda _: n)  # another function each time

    last = [submit(n) for n in range(200)][-1]
    assert last.result(timeout=60) == 199

    def count_kinds(_resource: Resource) -> int:
        import gc

        from tasker.ray._desk import Desk

        return sum(len(each._kinds) for each in gc.get_objects() if type(each) is Desk)

    assert runner.queue_task(square, 3) == 9
    assert runner.queue_task(count_kinds) <= 12


def test_a_retry_whose_judge_has_no_hash_is_taken(make: Make) -> None:
    class Judge:
        __hash__ = None  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]

        def __call__(self, error: Exception) -> bool:
            return isinstance(error, OSError)

    runner = make()
    failed: list[int] = []

    def fail_once(resource: Resource) -> str:
        if resource.setdefault("failed", failed):
            return "done"
        resource["failed"].append(1)
        raise OSError

    view = runner.options(retry=Retry(on=Judge(), wait=0))
    assert [view.queue_task(fail_once) for _ in range(2)] == ["done", "done"]


def test_a_log_that_raises_does_no_harm(make: Make) -> None:
    logger = logging.Logger("broken")

    def refuse(_record: object) -> bool:
        raise ValueError("no log")

    logger.addFilter(refuse)
    runner = make(logger=logger, on_destroy=exit_instead)
    runner._engine().dispatcher.post(lambda: runner._engine().dispatcher._log(40, "text"))
    assert runner.queue_task(square, 3) == 9
    runner.renew().result(timeout=60)
    assert runner.queue_task(square, 4) == 16


def test_a_context_variable_that_cannot_be_pickled_is_named(make: Make) -> None:
    from tests.ray.carried import tenant

    runner = make(settings={"contextvars": ["tests.ray.carried.tenant"]})
    lock: Any = threading.Lock()
    token = tenant.set(lock)
    try:
        with pytest.raises(TaskNotPicklable, match=r"tests\.ray\.carried\.tenant"):
            runner.submit(square, 2)
    finally:
        tenant.reset(token)
    assert runner.queue_task(square, 2) == 4
