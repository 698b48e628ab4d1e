"""Figures and workers: what a runner and its double tell of themselves."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tasker import ConfigError, QueueFull, RunningTask, WorkerInfo
from tests.behaviour.support import AnyRunner, Bench
from tests.native.support import FREE_THREADED, LONG_TIMEOUT, Broken, is_healthy


def only(runner: AnyRunner, *, stacks: bool = False) -> WorkerInfo:
    (worker,) = runner.workers(stacks=stacks)
    return worker


def test_an_idle_worker_is_told(bench: Bench) -> None:
    worker = only(bench.start(), stacks=True)
    assert (worker.kind, worker.state, worker.task) == ("base", "idle", None)
    assert (worker.tasks_done, worker.busy_seconds, worker.resource_generation) == (0, 0.0, 1)
    assert worker.native_id is not None
    assert worker.resource_age is not None


@pytest.mark.parametrize("stacks", [True, False])
def test_a_task_finds_itself_among_the_workers(bench: Bench, stacks: bool) -> None:
    runner = bench.start()

    def look(_: object) -> tuple[WorkerInfo, int]:
        return only(runner, stacks=stacks), threading.get_native_id()

    worker, native_id = runner.options(name="look").submit(look).result(LONG_TIMEOUT)
    assert (worker.state, worker.native_id) == ("busy", native_id)
    task = worker.task
    assert isinstance(task, RunningTask)
    assert (task.name, task.worker, task.attempt) == ("look", worker.name, 1)
    assert not task.overdue
    assert task.age >= 0
    if stacks and not FREE_THREADED:
        assert "in look" in task.stack[-1] or "in only" in task.stack[-1]
    else:
        assert task.stack == ()


def test_attempts_and_resources_are_counted(bench: Bench) -> None:
    runner = bench.start(check_health=is_healthy)
    attempts: list[int] = bench.notes()

    def fail_once(_: object) -> int:
        task = only(runner).task
        assert task
        attempts.append(task.attempt)
        if len(attempts) == 1:
            raise Broken
        return len(attempts)

    assert runner.submit(fail_once).result(LONG_TIMEOUT) == 2
    assert attempts == [1, 2]
    bench.eventually(lambda: only(runner).tasks_done == 2)
    assert only(runner).resource_generation == 2
    assert only(runner).busy_seconds > 0


@pytest.mark.parametrize("given", [1, "no", None])
def test_whether_to_look_at_stacks_is_a_bool(bench: Bench, given: Any) -> None:
    runner = bench.start()
    with pytest.raises(ConfigError, match=f"stacks must be a bool, got {given!r}"):
        runner.workers(stacks=given)


def test_a_stopped_runner_has_no_workers(bench: Bench) -> None:
    runner = bench.start()
    runner.stop()
    assert runner.workers() == ()
    assert repr(runner.stats().oldest_wait) == "0.0"


def test_what_waits_longest_is_told(bench: Bench) -> None:
    runner, let_go = bench.start_held()
    assert runner.stats().oldest_wait == 0.0
    first = runner.submit(lambda _: None)
    wait = runner.stats().oldest_wait
    assert wait > 0
    runner.submit(lambda _: None)
    assert runner.stats().oldest_wait >= wait
    first.cancel()
    let_go()
    bench.eventually(lambda: runner.stats().oldest_wait == 0.0)


def test_a_refusal_for_a_full_queue_is_counted_apart(bench: Bench) -> None:
    runner, let_go = bench.start_held(max_queue_size=1, when_full="raise")
    runner.submit(lambda _: None)
    with pytest.raises(QueueFull):
        runner.submit(lambda _: None)
    let_go()
    runner.stop()
    metrics: Any = runner.metrics()
    assert (metrics.total_tasks_refused, metrics.total_tasks_refused_full) == (1, 1)
