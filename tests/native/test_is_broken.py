"""`is_broken` is told the resource and the error, whichever verb the failed task came by."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tasker import Runner, TaskTimeout
from tests.native.support import LONG_TIMEOUT, Broken, Gate, LogCapture, Resource, Runners

Verb = Callable[[Runner[Resource], Callable[[Resource, int], int]], int]


async def _asubmit(runner: Runner[Resource], task: Callable[[Resource, int], int]) -> int:
    return await runner.asubmit(task, 7)


async def _amap(runner: Runner[Resource], task: Callable[[Resource, int], int]) -> int:
    answers = [answer async for answer in runner.amap(task, [7])]
    return answers[0]


VERBS: dict[str, Verb] = {
    "submit": lambda runner, task: runner.submit(task, 7).result(),
    "submit_many": lambda runner, task: runner.submit_many(task, [7])[0].result(),
    "queue_task": lambda runner, task: runner.queue_task(task, 7),
    "queue_task_with_priority": lambda runner, task: runner.queue_task_with_priority(task, 7),
    "run_task": lambda runner, task: runner.run_task(task, 7),
    "map": lambda runner, task: next(iter(runner.map(task, [7]))),
    "map with limits": lambda runner, task: next(iter(runner.options(timeout=60).map(task, [7]))),
    "view": lambda runner, task: runner.options(name="seven").submit(task, 7).result(),
    "asubmit": lambda runner, task: asyncio.run(_asubmit(runner, task)),
    "amap": lambda runner, task: asyncio.run(_amap(runner, task)),
}


class Judge:
    """An `is_broken` for which a resource that says so is broken, whatever the error."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, BaseException, int]] = []
        self.broken: set[int] = set()

    def __call__(self, resource: Resource, error: BaseException) -> bool:
        self.asked.append((resource.number, error, threading.get_ident()))
        return resource.number in self.broken


@pytest.mark.parametrize("thread_bound", [True, False], ids=["bound", "lent"])
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_true_replaces_the_resource_and_repeats_the_task(
    runners: Runners, verb: Verb, thread_bound: bool
) -> None:
    judge = Judge()
    used: list[tuple[int, int]] = []

    def task(resource: Resource, number: int) -> int:
        used.append((resource.number, threading.get_ident()))
        if len(used) == 1:
            judge.broken.add(resource.number)
            raise LookupError(number)
        return number

    runner = runners.start(is_broken=judge, thread_bound=thread_bound, resource_pool_size=1)
    assert verb(runner, task) == 7
    [(asked, error, thread)] = judge.asked
    assert (asked, thread) == used[0]
    assert type(error) is LookupError
    assert len(used) == 2
    assert used[1][0] != used[0][0]
    assert runner.metrics().total_tasks_retried == 1


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_false_leaves_the_resource_and_the_error_as_they_are(runners: Runners, verb: Verb) -> None:
    judge = Judge()
    used: list[int] = []

    def task(resource: Resource, number: int) -> int:
        used.append(resource.number)
        raise LookupError(number)

    runner = runners.start(is_broken=judge)
    with pytest.raises(LookupError):
        verb(runner, task)
    assert len(judge.asked) == 1
    with pytest.raises(LookupError):
        verb(runner, task)
    assert used[0] == used[1]


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_raising_replaces_the_resource_and_repeats_nothing(
    runners: Runners, log: LogCapture, verb: Verb
) -> None:
    used: list[int] = []

    def task(resource: Resource, number: int) -> int:
        used.append(resource.number)
        raise LookupError(number)

    def confused(_resource: Resource, _error: BaseException) -> bool:
        raise Broken

    runner = runners.start(is_broken=confused)
    with pytest.raises(LookupError):
        verb(runner, task)
    with pytest.raises(LookupError):
        verb(runner, task)
    assert used[0] != used[1]
    for record in log.take(2):
        assert "is_broken failed" in record.getMessage()


def test_nobody_is_asked_about_an_error_after_the_time_limit(
    runners: Runners, log: LogCapture, gate: Gate
) -> None:
    log.overlook("outlived its time limit")
    judge = Judge()
    runner = runners.start(is_broken=judge)
    future = runner.options(timeout=0.05).submit(gate.hold_then_raise, Broken())
    assert isinstance(future.exception(LONG_TIMEOUT), TaskTimeout)
    gate.open()
    assert runner.queue_task(lambda resource: resource.number) == 0
    assert judge.asked == []


def test_a_runner_executor_does_not_ask(runners: Runners) -> None:
    judge = Judge()
    runner = runners.start(is_broken=judge)

    def fail() -> None:
        raise Broken

    assert isinstance(runner.executor().submit(fail).exception(), Broken)
    assert judge.asked == []


def test_it_may_ask_the_runner_and_is_answered_on_the_resource_in_question(
    runners: Runners,
) -> None:
    answers: list[tuple[int, int]] = []

    def ask(resource: Resource, _error: BaseException) -> bool:
        answers.append((resource.number, runner.queue_task(lambda same: same.number)))
        return False

    def fail(_resource: Resource) -> None:
        raise Broken

    runner: Runner[Any] = runners.start(is_broken=ask)
    assert isinstance(runner.submit(fail).exception(), Broken)
    [(judged, answered)] = answers
    assert judged == answered
