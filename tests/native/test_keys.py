"""Which worker a task with a key goes to, and what becomes of keys when workers come and go."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from tasker import Runner, current_context
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Gate,
    Resource,
    Runners,
    at_once,
    eventually,
    is_healthy,
)


def worker(_resource: object, *_key: object) -> str:
    return current_context().worker_name


def key_of(key: object, *_more: object) -> object:
    return key


def hits(runner: Runner[Any]) -> tuple[int, int]:
    metrics = runner.metrics()
    return metrics.total_key_hits, metrics.total_key_misses


def rest(runner: Runner[Any]) -> None:
    """Waits until no worker has anything to do."""
    eventually(lambda: runner.stats().running_tasks == runner.stats().queued_tasks == 0)


def test_a_key_goes_to_the_worker_that_had_it_last(runners: Runners) -> None:
    view = runners.start(worker_count=4).options(key=key_of)
    homes: dict[int, str] = {}
    returned = 0
    for turn in range(400):
        key = turn % 20
        found = view.queue_task(worker, key)
        returned += homes.get(key) == found
        homes[key] = found
    # A worker that is about to fall asleep is not found asleep, now and then.
    assert returned > 300
    assert hits(view.runner)[0] == returned


def test_new_keys_spread_over_the_workers_that_are_free(runners: Runners) -> None:
    view = runners.start(worker_count=4).options(key=key_of)
    found = {view.queue_task(worker, key) for key in range(100)}
    assert len(found) >= 3


def test_a_key_whose_worker_is_busy_moves_to_a_free_one(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    view = runner.options(key=lambda *_args: "acme")
    held = view.submit(gate.hold)
    gate.wait_for()
    found = view.queue_task(worker)
    assert hits(runner) == (0, 2)
    assert view.queue_task(worker) == found, "the other is still busy"
    assert hits(runner) == (1, 2)
    gate.open()
    held.result(LONG_TIMEOUT)


def test_a_worker_is_not_kept_idle_for_a_key(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=3)
    view = runner.options(key=lambda *_args: "acme")
    tasks = [view.submit(gate.hold) for _ in range(3)]
    gate.wait_for(3)
    gate.open()
    for task in tasks:
        task.result(LONG_TIMEOUT)


def test_a_busy_key_holds_up_no_other(runners: Runners, gate: Gate) -> None:
    runner, order = runners.start(), list[object]()
    view = runner.options(key=key_of)
    runner.submit(gate.hold)
    gate.wait_for()
    keys = ["busy"] * 50 + ["rare"] + ["busy"] * 50
    tasks = view.submit_many(lambda _, key: order.append(key), keys)
    gate.open()
    for task in tasks:
        task.result(LONG_TIMEOUT)
    assert order == keys


def test_tasks_with_and_without_keys_all_run_when_many_threads_submit(runners: Runners) -> None:
    runner = runners.start(worker_count=4)
    views = [runner.options(key=key_of), runner.options()]

    def client() -> int:
        tasks = [views[turn % 2].submit(worker, turn % 7) for turn in range(200)]
        return len([task.result(LONG_TIMEOUT) for task in tasks])

    assert [call.result() for call in at_once(8, client)] == [200] * 8
    assert sum(hits(runner)) == 8 * 100


@pytest.mark.parametrize("spare", [0, 1])
def test_a_worker_keeps_its_keys_when_its_resource_is_renewed(runners: Runners, spare: int) -> None:
    runner = runners.start(worker_count=1, max_worker_count=1 + spare)
    view = runner.options(key=key_of)
    view.queue_task(worker, "acme")
    assert runner.renew().result(LONG_TIMEOUT) == 1
    eventually(lambda: len(runners.factory.alive) == 1)
    view.queue_task(worker, "acme")
    assert hits(runner) == (1, 1)


def test_a_key_outlives_its_worker(runners: Runners) -> None:
    runner = runners.start(worker_count=4)
    view = runner.options(key=key_of)
    for key in range(40):
        view.queue_task(worker, key)
    runner.resize(worker_count=1)
    eventually(lambda: runner.stats().base_workers == 1)
    assert len({view.queue_task(worker, key) for key in range(40)}) == 1


def test_a_retry_takes_its_key_along_and_counts_once(runners: Runners) -> None:
    runner = runners.start(worker_count=2, check_health=is_healthy)
    seen: list[str] = []

    def break_once(resource: Resource) -> str:
        seen.append(worker(resource))
        if len(seen) == 1:
            raise Broken
        return seen[-1]

    view = runner.options(key=lambda *_args: "acme")
    view.queue_task(break_once)
    assert sum(hits(runner)) == 1
    rest(runner)
    view.queue_task(worker)
    assert sum(hits(runner)) == 2


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_runner_ends_with_tasks_of_many_keys_in_its_queue(
    runners: Runners, gate: Gate, end: str
) -> None:
    runner = runners.start(worker_count=3)
    view = runner.options(key=key_of)
    for key in range(30):
        view.queue_task(worker, key)
    tasks = view.submit_many(worker, range(300))
    getattr(runner, end)(timeout=LONG_TIMEOUT)
    assert all(task.done() for task in tasks)


def test_nothing_of_a_key_is_kept(runners: Runners) -> None:
    class Key:
        pass

    view = runners.start().options(key=lambda key: key)
    key = Key()
    gone = weakref.ref(key)
    view.queue_task(worker, key)
    del key
    eventually(lambda: gone() is None)


def test_a_view_whose_key_leads_back_to_it_is_collected(runners: Runners) -> None:
    class Ask:
        view: Any = None

        def __call__(self, *_args: object) -> int:
            return 1

    ask = Ask()
    gone = weakref.ref(ask)
    ask.view = runners.start().options(key=ask)
    ask.view.queue_task(worker)
    del ask
    gc.collect()
    eventually(lambda: gc.collect() >= 0 and gone() is None)
