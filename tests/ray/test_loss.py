"""Actors and nodes that are lost: no task is lost with them, and none is delivered twice."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tasker import ResourceCreationError, ResourceLost, TaskTimeout
from tests.ray.conftest import Make
from tests.ray.functions import (
    Resource,
    append,
    eventually,
    exit_hard,
    process,
    square,
    touch_and_wait,
)


@pytest.mark.parametrize("run", range(10))
def test_three_killed_actors_lose_no_task_and_deliver_none_twice(
    make: Make, tmp_path: Path, run: int
) -> None:
    del run  # what is lost now and then shows itself in ten
    runner = make(actors=2, worker_count=2, settings={"max_out": 32})
    book = tmp_path / "book"

    def work(_resource: Resource, n: int) -> int:
        with book.open("a") as file:
            file.write(f"{n}\n")
        time.sleep(0.0005)
        return n

    delivered: Counter[int] = Counter()
    futures = runner.submit_many(work, range(5000))
    for each in futures:
        each.add_done_callback(lambda done: delivered.update([done.result()]))
    for count in (1000, 2500, 4000):
        eventually(lambda count=count: delivered.total() >= count)
        victims = [each.process for each in runner.actors() if each.process]
        os.kill(victims[0], signal.SIGKILL)
    assert [each.result(timeout=120) for each in futures] == list(range(5000))
    assert delivered == Counter(range(5000))
    runs = Counter(map(int, book.read_text().split()))
    assert set(runs) == set(range(5000))
    # No more than what was with the actors.
    assert sum(runs.values()) - 5000 <= 3 * 32
    assert sum(1 for count in runs.values() if count > 1) <= 3 * 32


def test_a_task_that_must_not_begin_twice_fails_with_its_actor(make: Make, tmp_path: Path) -> None:
    runner, mark = make(), tmp_path / "mark"
    future = runner.options(once=True, name="pay").submit(touch_and_wait, mark)
    eventually(mark.exists)
    (actor,) = runner.actors()
    os.kill(actor.process, signal.SIGKILL)
    with pytest.raises(ResourceLost, match="pay may have begun") as caught:
        future.result(timeout=60)
    assert caught.value.__cause__ is not None
    assert runner.queue_task(square, 3) == 9


def test_a_task_that_ends_its_process_is_tried_again(make: Make, tmp_path: Path) -> None:
    runner = make()
    runner.queue_task(exit_hard, tmp_path / "once")
    assert runner.metrics().total_tasks_retried == 1


def test_a_poisonous_task_fails_and_takes_no_other_with_it(make: Make) -> None:
    runner = make(max_retries=2)
    before = runner.submit_many(square, range(20))
    poison = runner.options(name="poison").submit(exit_hard)
    after = runner.submit_many(square, range(20))
    with pytest.raises(ResourceLost, match="poison was sent to was lost, 3 in all"):
        poison.result(timeout=200)
    assert [each.result(timeout=60) for each in [*before, *after]] == [n * n for n in range(20)] * 2


def test_what_was_with_a_lost_actor_comes_first_and_in_order(make: Make, tmp_path: Path) -> None:
    runner, book, once = make(), tmp_path / "book", tmp_path / "once"
    futures = [runner.submit(exit_hard, once)]
    futures += [runner.submit(append, book, str(n)) for n in range(30)]
    for each in futures:
        each.result(timeout=100)
    assert book.read_text().split() == [str(n) for n in range(30)]


def test_a_cancelled_task_is_not_sent_again(make: Make, tmp_path: Path) -> None:
    runner, mark = make(), tmp_path / "mark"

    def ignore(_resource: Resource) -> None:
        mark.touch()
        while True:
            time.sleep(0.01)

    future = runner.submit(ignore)
    eventually(mark.exists)
    future.request_cancel("enough")
    (actor,) = runner.actors()
    os.kill(actor.process, signal.SIGKILL)
    assert future.exception(timeout=60) is not None
    assert runner.queue_task(process) != actor.process


def test_stop_waits_for_tasks_of_an_actor_that_is_lost_meanwhile(
    make: Make, tmp_path: Path
) -> None:
    runner, book, once = make(), tmp_path / "book", tmp_path / "once"
    runner.submit(exit_hard, once)
    futures = [runner.submit(append, book, str(n)) for n in range(10)]
    runner.stop()
    assert all(each.done() for each in futures)
    assert book.read_text().split() == [str(n) for n in range(10)]


@pytest.mark.parametrize("seconds", [0, 0.5])
def test_where_no_actor_can_be_made_any_more_tasks_fail_fast(
    make: Make, tmp_path: Path, seconds: float
) -> None:
    fine = tmp_path / "fine"
    fine.touch()

    def come() -> Resource:
        if not fine.exists():
            raise ConnectionError("no server")
        return {}

    runner = make(on_create=come, fail_fast_after=seconds)
    fine.unlink()
    (actor,) = runner.actors()
    os.kill(actor.process, signal.SIGKILL)
    error = runner.submit(square, 2).exception(timeout=100)
    assert isinstance(error, ResourceCreationError)
    assert runner.stats().creation_failing_for > 0
    fine.touch()

    def is_back() -> Any:
        return runner.submit(square, 2).exception(timeout=100) is None

    eventually(is_back)
    assert runner.stats().creation_failing_for == 0


def test_an_actor_that_is_lost_while_another_leaves_is_replaced(make: Make, tmp_path: Path) -> None:
    runner = make(actors=3)
    marks = [tmp_path / f"{n}" for n in range(3)]
    held = [runner.submit(touch_and_wait, mark) for mark in marks]
    eventually(lambda: all(mark.exists() for mark in marks))
    runner.resize(actors=2)  # the one that leaves waits for its task
    eventually(lambda: any(each.state == "stopping" for each in runner.actors()))
    staying = [each for each in runner.actors() if each.state == "running"]
    os.kill(staying[0].process, signal.SIGKILL)
    for each in held:
        eventually(lambda each=each: each.request_cancel() or each.done())
    eventually(
        lambda: (
            [each.state for each in runner.actors()] == ["running"] * 2
            and staying[0].process not in {each.process for each in runner.actors()}
        )
    )


def test_a_limit_holds_for_a_task_that_lost_its_actor_after_it(make: Make) -> None:
    runner = make()
    dispatcher = runner._engine().dispatcher
    (task,) = runner.options(timeout=1e-3)._tasks(square, [((2,), {})])
    task.future.set_running_or_notify_cancel()
    with dispatcher.waiting.lock:
        dispatcher.waiting.add(task)
        eventually(lambda: task.due is not None and time.monotonic() > task.due)
        assert dispatcher.waiting.overdue() == [task]  # with an actor, which rules on it
        dispatcher.waiting.take(1)
        dispatcher.waiting.put_first([task])
        assert dispatcher.waiting.overdue() == [task]
        dispatcher.waiting.take_suspect()


def test_an_actor_gives_a_task_of_no_time_its_own_error(make: Make) -> None:
    runner = make()
    (task,) = runner.options(timeout=1e-9)._tasks(square, [((2,), {})])
    dispatcher = runner._engine().dispatcher
    with dispatcher.waiting.lock:
        # As if its limit had passed right after the look for such.
        dispatcher.waiting.suspects.append(task)
    dispatcher.post(lambda: None)
    with pytest.raises(TaskTimeout, match="did not start within its time limit of 1e-09 s"):
        task.future.result(timeout=60)
