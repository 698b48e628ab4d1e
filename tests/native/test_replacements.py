"""`Metrics.replaced`: why resources were given up for others, wherever they served."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tasker import Runner
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Gate,
    LogCapture,
    Resource,
    Runners,
    at_once,
    break_down,
    eventually,
    is_healthy,
)

PLACES: dict[str, tuple[str, dict[str, Any]]] = {
    "worker": ("queue_task", {}),
    "reserved worker": ("run_task", {"resource_pool_size": 1}),
    "loan": ("run_task", {"resource_pool_size": 1, "thread_bound": False}),
    "temporary loan": ("run_task", {"resource_pool_size": 0, "thread_bound": False}),
}
"""By which verb a task reaches a resource there, and the fields of the config for it."""
LASTING = [place for place in PLACES if place != "temporary loan"]


def counted(runner: Runner[Resource]) -> dict[str, int]:
    """The reasons there were, and how often."""
    return {reason: count for reason, count in runner.metrics().replaced.items() if count}


def check_balance(runners: Runners, runner: Runner[Resource]) -> None:
    """Checks that each resource that was made is in use, or was given up for another."""
    made = len(runners.factory.made)
    eventually(
        lambda: (
            sum(runner.metrics().replaced.values()) + len(runners.factory.alive)
            == runner.metrics().creation.count
            == len(runners.factory.made)
        )
    )
    assert made <= len(runners.factory.made)


def number(resource: Resource) -> int:
    return resource.number


@pytest.fixture(params=LASTING)
def place(request: pytest.FixtureRequest, runners: Runners) -> Callable[..., Any]:
    """Starts a runner, and gives it with the verb that uses one and the same resource."""
    verb, there = PLACES[request.param]

    def start(**fields: Any) -> tuple[Runner[Resource], Callable[..., Any]]:
        runner = runners.start(**there, **fields)
        return runner, getattr(runner.options(once=True), verb)

    return start


def test_unhealthy(place: Callable[..., Any]) -> None:
    runner, use = place(check_health=is_healthy)
    first = use(number)
    with pytest.raises(Broken):
        use(break_down)
    assert use(number) != first
    assert counted(runner) == {"unhealthy": 1}


def test_a_health_hook_that_fails_is_unhealthy(place: Callable[..., Any], log: LogCapture) -> None:
    runner, use = place(check_health=lambda error: 1 / 0)
    with pytest.raises(Broken):
        use(break_down)
    use(number)
    assert counted(runner) == {"unhealthy": 1}
    log.take()


def test_reset(place: Callable[..., Any], log: LogCapture) -> None:
    bad: list[int] = []

    def reset(resource: Resource) -> None:
        if resource.number in bad:
            raise ValueError

    runner, use = place(reset=reset)
    bad.append(use(number))
    use(number)
    assert use(number) not in bad
    assert counted(runner) == {"reset": 1}
    log.take()


def test_invalid(place: Callable[..., Any]) -> None:
    bad: list[int] = []
    runner, use = place(validate=lambda resource: resource.number not in bad, validate_after_idle=0)
    bad.append(use(number))
    assert use(number) not in bad
    assert counted(runner) == {"invalid": 1}


def test_age(place: Callable[..., Any]) -> None:
    runner, use = place(max_resource_age=0.2)
    first = use(number)
    eventually(lambda: use(number) != first)
    assert set(counted(runner)) == {"age"}


def test_tasks(place: Callable[..., Any]) -> None:
    runner, use = place(max_tasks_per_resource=2)
    assert len({use(number) for _ in range(6)}) == 3
    # The last is given up too, as its worker has nothing else to do.
    eventually(lambda: counted(runner) == {"tasks": 3})


def test_renewed(place: Callable[..., Any]) -> None:
    runner, use = place()
    first = use(number)
    assert runner.renew().result(LONG_TIMEOUT) >= 1
    assert use(number) != first
    eventually(lambda: counted(runner) == {"renewed": runner.metrics().creation.count // 2})


def test_a_resource_that_serves_one_call_is_given_up_for_none(runners: Runners) -> None:
    verb, fields = PLACES["temporary loan"]
    runner = runners.start(**fields)
    for _ in range(3):
        getattr(runner, verb)(number)
    assert counted(runner) == {}


@pytest.mark.parametrize("thread_bound", [True, False])
def test_what_is_renewed_under_load_balances(runners: Runners, thread_bound: bool) -> None:
    """A successor makes its resource first, while the old one still serves."""
    runner = runners.start(
        worker_count=3,
        resource_pool_size=2,
        thread_bound=thread_bound,
        max_tasks_per_resource=7,
    )

    def client() -> None:
        for turn in range(30):
            verb = runner.run_task if turn % 3 == 0 else runner.queue_task
            verb(number)

    clients = at_once(6, client)
    for _ in range(5):
        runner.renew().result(LONG_TIMEOUT)
    for each in clients:
        each.result()
    check_balance(runners, runner)
    assert set(counted(runner)) == {"tasks", "renewed"}


def test_a_successor_counts_one_replacement(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    held = runner.submit(gate.hold)
    gate.wait_for()
    renewal = runner.renew()
    # The idle worker's is gone, the busy one's is not.
    eventually(lambda: counted(runner) == {"renewed": 1})
    gate.open()
    held.result(LONG_TIMEOUT)
    assert renewal.result(LONG_TIMEOUT) == 2
    assert counted(runner) == {"renewed": 2}
    check_balance(runners, runner)


def test_the_first_reason_counts_where_there_are_two(place: Callable[..., Any]) -> None:
    runner, use = place(check_health=is_healthy, max_tasks_per_resource=1)
    with pytest.raises(Broken):
        use(break_down)
    eventually(lambda: counted(runner) == {"unhealthy": 1})


def test_resources_of_workers_that_leave_are_given_up_for_none(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(worker_count=1, max_worker_count=3, idle_timeout=0.01)
    for _ in range(3):
        runner.submit(gate.hold)
    gate.wait_for(3)
    gate.open()
    eventually(lambda: len(runners.factory.alive) == 1)
    assert counted(runner) == {}
    runner.resize(worker_count=2)
    eventually(lambda: len(runners.factory.alive) == 2)
    runner.resize(worker_count=1)
    eventually(lambda: len(runners.factory.alive) == 1)
    runner.stop(LONG_TIMEOUT)
    assert counted(runner) == {}


def test_figures_of_creation_go_on_while_it_fails(runners: Runners, log: LogCapture) -> None:
    works = True
    tries: list[float] = []

    def create() -> Resource:
        tries.append(time.monotonic())
        if not works:
            raise ConnectionRefusedError
        return runners.factory.create()

    runner = runners.start(on_create=create, check_health=is_healthy)
    works = False
    with pytest.raises(Broken):
        runner.options(once=True).queue_task(break_down)
    eventually(lambda: len(tries) >= 3)
    before = time.monotonic()
    lasts = runner.stats().creation_failing_for
    after = time.monotonic()
    assert tries[1] <= after - lasts
    assert before - lasts <= tries[2]
    seen = runner.metrics()
    assert seen.total_creations_failed >= 1
    assert (seen.creation.count, seen.replaced["unhealthy"]) == (1, 1)
    works = True
    eventually(lambda: runner.stats().creation_failing_for == 0.0)
    seen = runner.metrics()
    assert (seen.creation.count, seen.total_creations_failed) == (2, len(tries) - 2)
    log.rest()


def test_resources_for_calls_count_as_made_too(runners: Runners) -> None:
    runner = runners.start(worker_count=2, resource_pool_size=3)
    eventually(lambda: runner.metrics().creation.count == len(runners.factory.made) == 5)


def test_a_creation_that_fails_in_the_constructor_counts_nowhere(runners: Runners) -> None:
    tries: list[int] = []

    def create() -> Resource:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionRefusedError
        return runners.factory.create()

    with pytest.raises(Exception, match="on_create failed"):
        runners.start(on_create=create)
    metrics = runners.start(on_create=create).metrics()
    assert (metrics.creation.count, metrics.total_creations_failed) == (1, 0)
