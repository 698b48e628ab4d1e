"""A worker that waits for a task of its own runner runs it, instead of waiting for ever."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tasker import Config, Future, Priority, Runner, TaskTimeout, current_context
from tests.native.support import (
    LONG_TIMEOUT,
    MOMENT,
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

WAITS: list[Callable[[Runner[Resource], Callable[..., Any]], Any]] = [
    lambda runner, task: runner.queue_task(task),
    lambda runner, task: runner.queue_task_with_priority(task),
    lambda runner, task: runner.queue_task_once(task),
    lambda runner, task: runner.run_task(task),
    lambda runner, task: runner.submit(task).result(),
    lambda runner, task: (runner.submit(task).exception(), "done")[1],
    lambda runner, task: runner.options(priority=Priority.LOW).queue_task(task),
    lambda runner, task: next(runner.map(lambda resource, _: task(resource), [1])),
]


@pytest.mark.parametrize("wait", WAITS)
def test_the_inner_task_runs_at_once_on_the_same_resource(
    runners: Runners, wait: Callable[[Runner[Resource], Callable[..., Any]], Any]
) -> None:
    runner = runners.start()
    used: list[tuple[int, int]] = []

    def inner(resource: Resource) -> str:
        used.append((resource.number, threading.get_ident()))
        return "done"

    def outer(resource: Resource) -> Any:
        used.append((resource.number, threading.get_ident()))
        return wait(runner, inner)

    assert runner.submit(outer).result(LONG_TIMEOUT) == "done"
    assert len(used) == 2
    assert used[0] == used[1]
    assert runner.metrics().total_tasks_completed == 2


def test_a_task_submitted_by_somebody_else_is_run_too(runners: Runners) -> None:
    runner = runners.start()
    handed = threading.Event()
    others: list[Future[int]] = []

    def outer(_resource: Resource) -> int:
        assert handed.wait(LONG_TIMEOUT)
        return others[0].result()

    future = runner.submit(outer)
    others.append(runner.submit(lambda _: 42))
    handed.set()
    assert future.result(LONG_TIMEOUT) == 42


def test_it_works_to_any_sensible_depth(runners: Runners) -> None:
    runner = runners.start()

    def down(_resource: Resource, depth: int) -> int:
        return 0 if depth == 0 else 1 + runner.queue_task(down, depth - 1)

    assert runner.submit(down, 50).result(LONG_TIMEOUT) == 50


def test_endless_depth_is_a_recursion_error(runners: Runners) -> None:
    runner = runners.start()

    def down(_resource: Resource) -> None:
        runner.queue_task(down)

    assert isinstance(runner.submit(down).exception(LONG_TIMEOUT), RecursionError)
    assert runner.queue_task(lambda _: "alive") == "alive"


def test_a_divide_and_conquer_never_stands_still(runners: Runners) -> None:
    runner = runners.start(worker_count=2)

    def total(_resource: Resource, numbers: list[int]) -> int:
        if len(numbers) == 1:
            return numbers[0]
        middle = len(numbers) // 2
        halves = [runner.submit(total, half) for half in (numbers[:middle], numbers[middle:])]
        return sum(half.result() for half in halves)

    assert runner.submit(total, list(range(64))).result(LONG_TIMEOUT) == sum(range(64))


def test_the_inner_tasks_error_is_its_own(runners: Runners) -> None:
    runner = runners.start()
    error = ValueError("inner")

    def fail(_resource: Resource) -> None:
        raise error

    def outer(_resource: Resource) -> BaseException | None:
        return runner.submit(fail).exception()

    assert runner.queue_task(outer) is error


def test_a_bad_resource_is_replaced_after_the_outer_task(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy)
    attempts: list[int] = []

    def inner(_resource: Resource) -> None:
        attempts.append(1)
        raise Broken

    def outer(resource: Resource) -> tuple[int, bool]:
        with pytest.raises(Broken) as raised:
            runner.queue_task(inner)
        assert not hasattr(raised.value, "__notes__")
        return resource.number, bool(resource.destroyed_on)

    assert runner.queue_task(outer) == (0, False)
    assert attempts == [1]
    assert runner.queue_task(lambda resource: resource.number) == 1


def test_an_outer_task_that_fails_of_it_is_retried_on_a_new_resource(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy)

    def outer(_resource: Resource) -> int:
        if current_context().attempt == 1:
            runner.queue_task(break_down)
        return current_context().attempt

    assert runner.queue_task(outer) == 2


def test_each_level_has_its_own_context(runners: Runners) -> None:
    runner = runners.start()

    def name(_resource: Resource) -> str:
        return current_context().task_name

    def outer(_resource: Resource) -> list[str]:
        view = runner.options(name="inner")
        return [current_context().task_name, view.queue_task(name), current_context().task_name]

    assert runner.options(name="outer").queue_task(outer) == ["outer", "inner", "outer"]


def test_a_wait_with_a_limit_only_waits(runners: Runners) -> None:
    runner = runners.start()

    def outer(_resource: Resource) -> str:
        inner = runner.submit(lambda _: "ran")
        with pytest.raises(TimeoutError):
            inner.result(timeout=MOMENT)
        return inner.result()

    assert runner.queue_task(outer) == "ran"


def test_the_standards_wait_only_waits(runners: Runners) -> None:
    runner = runners.start()

    def outer(_resource: Resource) -> int:
        inner = runner.submit(lambda _: "ran")
        return len(concurrent.futures.wait([inner], timeout=MOMENT).not_done)

    assert runner.queue_task(outer) == 1


def test_a_task_that_has_started_elsewhere_is_waited_for(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    elsewhere = runner.submit(gate.hold_then_return, "done")
    gate.wait_for()
    outer = runner.submit(lambda _: elsewhere.result())
    with pytest.raises(TimeoutError):
        outer.result(MOMENT)
    gate.open()
    assert outer.result(LONG_TIMEOUT) == "done"


def test_a_cancelled_task_is_not_run(runners: Runners) -> None:
    runner = runners.start()

    def outer(_resource: Resource) -> None:
        inner = runner.submit(lambda _: "ran")
        inner.cancel()
        with pytest.raises(concurrent.futures.CancelledError):
            inner.result()

    runner.queue_task(outer)
    assert runner.metrics().total_tasks_completed == 1


def test_inner_tasks_are_counted_while_they_run(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    outer = runner.submit(lambda _: runner.queue_task(gate.hold))
    gate.wait_for()
    stats = runner.stats()
    assert (stats.queued_tasks, stats.running_tasks) == (0, 2)
    gate.open()
    outer.result(LONG_TIMEOUT)


def test_the_room_in_a_bounded_queue_comes_back(runners: Runners) -> None:
    runner = runners.start(max_queue_size=1)

    def outer(_resource: Resource) -> int:
        return sum(runner.queue_task(lambda _: 1) for _ in range(5))

    assert runner.queue_task(outer) == 5


def test_a_runner_may_wait_for_another(runners: Runners) -> None:
    one, other = runners.start(name="one"), runners.start(name="other")
    assert one.queue_task(lambda _: other.queue_task(lambda _: "other")) == "other"


def test_two_runners_that_wait_for_each_other_end_by_their_limits(runners: Runners) -> None:
    one, other = runners.start(name="one"), runners.start(name="other")
    ran: list[str] = []

    def there(_resource: Resource) -> str:
        return other.queue_task(and_back)

    def and_back(_resource: Resource) -> str:
        with pytest.raises(TaskTimeout):
            one.options(timeout=MOMENT).queue_task(lambda _: ran.append("never"))
        return "came back"

    assert one.submit(there).result(LONG_TIMEOUT) == "came back"
    assert ran == []


@pytest.mark.parametrize("inner", ["queue_task", "run_task"])
def test_a_task_never_runs_on_the_resource_of_another_runner(runners: Runners, inner: str) -> None:
    one = runners.keep(Runner(Config(on_create=lambda: "one", worker_count=1, name="one")))
    other = runners.keep(
        Runner(Config(on_create=lambda: "other", worker_count=1, thread_bound=False, name="other"))
    )

    def outer(mine: str) -> list[str]:
        return [mine, other.run_task(lambda theirs: getattr(one, inner)(lambda mine: mine)), mine]

    assert one.submit(outer).result(LONG_TIMEOUT) == ["one", "one", "one"]
    assert one.metrics().total_tasks_completed == 2
    assert other.metrics().total_tasks_completed == 1


def test_check_health_may_ask_the_runner_itself(runners: Runners) -> None:
    own: list[Runner[Resource]] = []
    answers: list[int] = []

    def check(_error: BaseException) -> bool:
        answers.append(own[0].queue_task(lambda resource: resource.number))
        return True

    own.append(runners.start(check_health=check))
    assert isinstance(own[0].submit(break_down).exception(LONG_TIMEOUT), Broken)
    assert answers == [0]


@pytest.mark.parametrize("hook", ["on_create", "on_destroy"])
def test_a_hook_without_a_resource_never_stands_still(
    runners: Runners, log: LogCapture, hook: str
) -> None:
    own: list[Runner[Resource]] = []
    waited: list[BaseException] = []

    def wait() -> None:
        if own and not waited:
            try:
                own[0].queue_task(lambda _: None)
            except RuntimeError as error:
                waited.append(error)
                raise

    def create() -> Resource:
        if hook == "on_create":
            wait()
        return runners.factory.create()

    def destroy(resource: Resource) -> None:
        runners.factory.destroy(resource)
        if hook == "on_destroy":
            wait()

    fields = {"on_create": create, "on_destroy": destroy, "check_health": is_healthy}
    own.append(runners.start(**fields, max_retries=0))
    assert isinstance(own[0].submit(break_down).exception(LONG_TIMEOUT), Broken)
    assert own[0].submit(lambda _: "alive").result(LONG_TIMEOUT) == "alive"
    assert len(waited) == 1
    assert len(log.take()) == 1


@pytest.mark.stress
def test_workers_that_all_wait_for_inner_tasks_never_stand_still(runners: Runners) -> None:
    runner = runners.start(worker_count=3)

    def outer(_resource: Resource, i: int) -> int:
        inner = [runner.submit(lambda _, x: x, i + j) for j in range(5)]
        return sum(future.result() for future in inner)

    def client() -> None:
        for i in range(50):
            assert runner.queue_task(outer, i) == 5 * i + 10

    for call in at_once(4, client):
        call.result()
    eventually(lambda: runner.stats().running_tasks == 0)
