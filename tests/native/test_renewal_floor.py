"""Renewals starve nobody: a resource that wears out while it is made or validated serves one task.

And they spare no resource that rested: what wore out meanwhile is renewed before the next task.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tasker import Config, Runner
from tests.native.support import LONG_TIMEOUT, MOMENT, Call, Resource, Runners, eventually

TASKS = 4


class Worn:
    """Configs whose resources are worn before their first task."""

    def __init__(self, runners: Runners) -> None:
        self._runners = runners
        self._runner: Runner[Resource] | None = None

    def start(self, how: str, **fields: Any) -> Runner[Resource]:
        config = self._runners.config(**getattr(self, how)(), **fields)
        self._runner = self._runners.keep(Runner(config))
        # The first ones were made before there was a runner to renew them.
        self._runner.renew()
        return self._runner

    def wait_until_quiet(self) -> int:
        """Waits until nobody makes a resource any more; how many were made.

        On a slow machine the last one is made long before its worker has it.
        """
        assert self._runner is not None
        runner, made = self._runner, -1
        while made != (made := len(self._runners.factory.made)):
            eventually(lambda: all(worker.state == "idle" for worker in runner.workers()))
            time.sleep(MOMENT)
        return made

    def _renew(self) -> None:
        if self._runner is not None and self._runner.state == "running":
            self._runner.renew()

    def by_age(self) -> dict[str, Any]:
        return {"max_resource_age": 1e-10}

    def by_slow_validation(self) -> dict[str, Any]:
        def validate(_resource: Resource) -> bool:
            time.sleep(0.02)
            return True

        return {"max_resource_age": 0.01, "validate": validate, "validate_after_idle": 0.0}

    def by_renewing_in_on_create(self) -> dict[str, Any]:
        def create() -> Resource:
            self._renew()
            return self._runners.factory.create()

        return {"on_create": create}

    def by_renewing_elsewhere_meanwhile(self) -> dict[str, Any]:
        def create() -> Resource:
            Call(self._renew).result()
            return self._runners.factory.create()

        return {"on_create": create}

    def by_renewing_in_validate(self) -> dict[str, Any]:
        def validate(_resource: Resource) -> bool:
            self._renew()
            return True

        return {"validate": validate, "validate_after_idle": 0.0}


HOWS = [name for name in vars(Worn) if name.startswith("by_")]
AT_ONCE = [how for how in HOWS if how.startswith(("by_age", "by_renewing_in_on", "by_renewing_e"))]
"""Those whose resources are worn as soon as they are made."""


@pytest.fixture
def worn(runners: Runners) -> Worn:
    return Worn(runners)


def number(resource: Resource, *_anything: object) -> int:
    return resource.number


def by_submit(runner: Runner[Resource]) -> list[int]:
    return [future.result(LONG_TIMEOUT) for future in [runner.submit(number) for _ in range(TASKS)]]


def by_queue_task(runner: Runner[Resource]) -> list[int]:
    return [runner.queue_task(number) for _ in range(TASKS)]


def by_run_task(runner: Runner[Resource]) -> list[int]:
    return [runner.run_task(number) for _ in range(TASKS)]


def by_run_task_at_once(runner: Runner[Resource]) -> list[int]:
    calls = [Call(runner.run_task, number) for _ in range(TASKS)]
    return [call.result() for call in calls]


def by_map(runner: Runner[Resource]) -> list[int]:
    return list(runner.map(number, range(TASKS)))


VERBS = [by_submit, by_queue_task, by_run_task, by_run_task_at_once, by_map]
Verb = Callable[[Runner[Resource]], list[int]]


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("thread_bound", [True, False], ids=["bound", "lent"])
def test_tasks_end_although_every_resource_is_worn_before_it_serves(
    worn: Worn, how: str, verb: Verb, workers: int, *, thread_bound: bool
) -> None:
    runner = worn.start(how, worker_count=workers, thread_bound=thread_bound)
    assert len(Call(verb, runner).result()) == TASKS


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("fields", [{"resource_pool_size": 0}, {"resource_pool_size": 1}])
@pytest.mark.parametrize("thread_bound", [True, False], ids=["bound", "lent"])
def test_run_task_ends_on_temporary_and_on_reserved_workers(
    worn: Worn, how: str, fields: dict[str, int], *, thread_bound: bool
) -> None:
    runner = worn.start(how, thread_bound=thread_bound, **fields)
    assert len(Call(by_run_task_at_once, runner).result()) == TASKS


@pytest.mark.parametrize("how", HOWS)
def test_tasks_end_where_another_worker_comes_to_relieve_the_one(worn: Worn, how: str) -> None:
    runner = worn.start(how, max_worker_count=2)
    assert len(Call(by_submit, runner).result()) == TASKS


@pytest.mark.parametrize("how", AT_ONCE)
@pytest.mark.parametrize("verb", [by_queue_task, by_run_task, by_map])
@pytest.mark.parametrize("thread_bound", [True, False], ids=["bound", "lent"])
def test_a_resource_that_wore_out_while_it_rested_never_serves(
    worn: Worn, how: str, verb: Verb, *, thread_bound: bool
) -> None:
    runner = worn.start(how, resource_pool_size=1, thread_bound=thread_bound)
    for _ in range(5):
        # What there is has rested.
        made = worn.wait_until_quiet()
        assert verb(runner)[0] >= made


@pytest.mark.parametrize("verb", [by_queue_task, by_run_task, by_map])
@pytest.mark.parametrize("thread_bound", [True, False], ids=["bound", "lent"])
def test_a_resource_from_before_a_renewal_never_serves(
    runners: Runners, verb: Verb, *, thread_bound: bool
) -> None:
    runner = runners.start(thread_bound=thread_bound)
    gate = threading.Event()
    if verb is by_run_task:
        # The base worker is not to have the turn to renew: they renew one after the other.
        runner.submit(lambda _: gate.wait(LONG_TIMEOUT))
        eventually(lambda: runner.stats().running_tasks == 1)
    for _ in range(100):
        # One that was being made as the last round renewed may serve one task, and is renewed
        # before the next: nothing is being made from then on.
        verb(runner)
        verb(runner)
        made = len(runners.factory.made)
        runner.renew()
        assert verb(runner)[0] >= made
    gate.set()


@pytest.mark.parametrize("how", AT_ONCE)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"worker_count": 2},
        {"max_worker_count": 2},
        {"resource_pool_size": 1},
        {"resource_pool_size": 1, "thread_bound": False},
    ],
)
def test_resources_are_not_made_in_vain_while_nothing_waits(
    worn: Worn, how: str, fields: dict[str, int]
) -> None:
    worn.start(how, **fields)
    assert Call(worn.wait_until_quiet).result() <= 8


@pytest.mark.parametrize("how", [how for how in AT_ONCE if "renewing" in how])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_worker_count": 2},
        {"resource_pool_size": 1},
        {"resource_pool_size": 1, "thread_bound": False},
    ],
)
def test_a_renewal_is_done_in_the_end_although_each_asks_for_the_next(
    worn: Worn, how: str, fields: dict[str, int]
) -> None:
    runner = worn.start(how, **fields)
    worn.wait_until_quiet()
    assert runner.renew().result(LONG_TIMEOUT) >= 1


def test_a_renewal_in_a_hook_of_one_runner_leaves_another_alone(runners: Runners) -> None:
    other = runners.start()
    with Runner(Config(on_create=lambda: [other.renew()], worker_count=1)) as runner:
        runner.queue_task(lambda _resource: None)
    assert other.queue_task(number) > 0
    assert runners.factory.made[-1].number == other.queue_task(number)
