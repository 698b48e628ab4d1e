"""The error of a call with other arguments than the task takes says how tasks are called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tasker import Runner
from tests.native.support import Broken, Resource, Runners

Verb = Callable[..., Any]

NOTE = (
    "tasker calls a task as fn(resource, *args, **kwargs): the resource comes first, and options "
    "such as timeout go to runner.options(...)"
)


async def _asubmit(runner: Runner[Resource], task: Any, **named: Any) -> Any:
    return await runner.asubmit(task, 1, **named)


async def _amap(runner: Runner[Resource], task: Any) -> Any:
    return [answer async for answer in runner.amap(task, [1])]


VERBS: dict[str, Verb] = {
    "submit": lambda runner, task, **named: runner.submit(task, 1, **named).result(),
    "queue_task": lambda runner, task, **named: runner.queue_task(task, 1, **named),
    "queue_task_once": lambda runner, task, **named: runner.queue_task_once(task, 1, **named),
    "run_task": lambda runner, task, **named: runner.run_task(task, 1, **named),
    "view": lambda runner, task, **named: (
        runner.options(name="x").submit(task, 1, **named).result()
    ),
    "asubmit": lambda runner, task, **named: asyncio.run(_asubmit(runner, task, **named)),
}
OF_ITEMS: dict[str, Verb] = {
    "submit_many": lambda runner, task: runner.submit_many(task, [1])[0].result(),
    "map": lambda runner, task: list(runner.map(task, [1])),
    "map with limits": lambda runner, task: list(runner.options(timeout=60).map(task, [1])),
    "amap": lambda runner, task: asyncio.run(_amap(runner, task)),
}


def takes_two(_resource: Resource, number: int) -> int:
    return number


def takes_one(number: int) -> int:
    return number


class Taking:
    def __call__(self, number: int) -> int:
        return number

    def method(self, number: int) -> int:
        return number


class Made:
    def __init__(self, number: int) -> None: ...


WRONG = [takes_one, Taking(), Taking().method, partial(takes_one), Made, lambda: None]


@pytest.mark.parametrize("fields", [{}, {"thread_bound": False}])
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_an_option_given_to_the_call_is_noted(
    runners: Runners, verb: Verb, fields: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match="timeout") as raised:
        verb(runners.start(**fields), takes_two, timeout=3)
    assert raised.value.__notes__ == [NOTE]


@pytest.mark.parametrize("verb", [*VERBS.values(), *OF_ITEMS.values()], ids=[*VERBS, *OF_ITEMS])
@pytest.mark.parametrize("task", WRONG)
def test_a_task_without_the_resource_is_noted(runners: Runners, verb: Verb, task: Any) -> None:
    with pytest.raises(TypeError) as raised:
        verb(runners.start(), task)
    [note] = raised.value.__notes__
    assert note.startswith(NOTE)


@pytest.mark.parametrize("verb", ["map", "map with limits"])
def test_an_items_note_tells_of_both(runners: Runners, verb: str) -> None:
    with pytest.raises(TypeError) as raised:
        OF_ITEMS[verb](runners.start(), takes_one)
    assert raised.value.__notes__ == [f"{NOTE}: raised for the item at index 0"]


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_an_error_inside_the_task_is_its_own(runners: Runners, verb: Verb) -> None:
    def call_wrongly(_resource: Resource, _number: int) -> None:
        takes_two()  # type: ignore[call-arg]

    with pytest.raises(TypeError) as raised:
        verb(runners.start(), call_wrongly)
    assert not hasattr(raised.value, "__notes__")


def test_other_errors_of_a_builtin_are_left_alone(runners: Runners) -> None:
    def fail(_resource: Resource) -> None:
        raise Broken

    with pytest.raises(AttributeError) as raised:
        runners.start().queue_task(getattr, "missing")
    assert not hasattr(raised.value, "__notes__")
    with pytest.raises(Broken) as broken:
        runners.start().queue_task(fail)
    assert not hasattr(broken.value, "__notes__")


def test_an_executor_calls_without_a_resource(runners: Runners) -> None:
    call: Any = takes_one
    error = runners.start().executor().submit(call).exception()
    assert isinstance(error, TypeError)
    assert not hasattr(error, "__notes__")


def test_retries_leave_one_note(runners: Runners) -> None:
    runner = runners.start(is_broken=lambda *_: True, max_retries=2)
    task: Any = takes_one
    error = runner.submit(task, 1).exception()
    assert isinstance(error, TypeError)
    assert len(error.__notes__) == 1
