"""`run_task` goes past the queue: reserved and temporary workers, limits, the caller's thread."""

from __future__ import annotations

import contextvars
import gc
import random
import threading
import weakref
from typing import Any

import pytest

from tasker import (
    Priority,
    ResourceCreationError,
    RunnerStopped,
    TaskCancelled,
    TaskTimeout,
    current_context,
)
from tests.native.support import (
    FREE_THREADED,
    LONG_TIMEOUT,
    Broken,
    Call,
    Gate,
    LogCapture,
    Resource,
    Runners,
    at_once,
    break_down,
    eventually,
    is_healthy,
    worker_threads,
)

SIZES = [None, 0, 1, 3]
EVERYWHERE = pytest.mark.parametrize("thread_bound", [True, False])


def where(resource: Resource) -> tuple[int, int]:
    """The threads that made the resource and that use it."""
    return resource.thread, threading.get_ident()


@EVERYWHERE
@pytest.mark.parametrize("size", SIZES)
def test_it_does_not_wait_for_the_queue(
    runners: Runners, gate: Gate, size: int | None, thread_bound: bool
) -> None:
    runner = runners.start(resource_pool_size=size, thread_bound=thread_bound)
    waiting = [runner.submit(gate.hold) for _ in range(3)]
    gate.wait_for()
    assert runner.run_task(lambda _: "done") == "done"
    assert not any(future.done() for future in waiting)


@pytest.mark.parametrize("size", SIZES)
def test_a_bound_resource_is_used_on_its_own_thread(runners: Runners, size: int | None) -> None:
    runner = runners.start(worker_count=2, resource_pool_size=size)
    for _ in range(5):
        made_on, used_on = runner.run_task(where)
        assert made_on == used_on != threading.get_ident()


@pytest.mark.parametrize("size", SIZES)
def test_an_unbound_resource_is_used_in_the_callers_thread(
    runners: Runners, size: int | None
) -> None:
    runner = runners.start(worker_count=2, resource_pool_size=size, thread_bound=False)
    for _ in range(5):
        made_on, used_on = runner.run_task(where)
        assert made_on != used_on == threading.get_ident()


@EVERYWHERE
@pytest.mark.parametrize(("size", "at_start"), [(None, 0), (0, 0), (1, 1), (3, 3)])
def test_a_number_is_made_at_the_start(
    runners: Runners, size: int | None, at_start: int, thread_bound: bool
) -> None:
    runner = runners.start(worker_count=2, resource_pool_size=size, thread_bound=thread_bound)
    assert len(runners.factory.made) == 2 + at_start
    eventually(lambda: runner.stats().available_resources == at_start)
    assert runner.stats().active_workers == 2


@EVERYWHERE
def test_what_is_made_on_first_need_is_kept(runners: Runners, thread_bound: bool) -> None:
    runner = runners.start(thread_bound=thread_bound)
    numbers = {runner.run_task(lambda resource: resource.number) for _ in range(10)}
    assert numbers == {1}
    eventually(lambda: runner.stats().available_resources == 1)


@EVERYWHERE
def test_no_pool_means_temporary_resources_only(runners: Runners, thread_bound: bool) -> None:
    runner = runners.start(resource_pool_size=0, thread_bound=thread_bound)
    for _ in range(3):
        runner.run_task(where)
        eventually(lambda: len(runners.factory.alive) == 1)  # the base worker's
    eventually(lambda: len(worker_threads()) == 1)


@EVERYWHERE
@pytest.mark.parametrize(("size", "limit"), [(None, 2), (0, 2), (1, 1), (3, 3)])
def test_calls_at_the_same_time_never_use_more_than_the_limit(
    runners: Runners, gate: Gate, size: int | None, limit: int, thread_bound: bool
) -> None:
    runner = runners.start(worker_count=2, resource_pool_size=size, thread_bound=thread_bound)
    calls = [Call(runner.run_task, gate.hold) for _ in range(limit + 3)]
    gate.wait_for(limit)
    for call in calls:
        call.wait_until_blocked()
    assert len(runners.factory.alive) == 2 + limit
    gate.open()
    for call in calls:
        call.result()
    assert len(runners.factory.made) <= 2 + limit + (3 if size == 0 else 0)


@EVERYWHERE
def test_a_bad_resource_is_replaced_and_the_task_retried(
    runners: Runners, thread_bound: bool
) -> None:
    runner = runners.start(check_health=is_healthy, resource_pool_size=1, thread_bound=thread_bound)
    used: list[int] = []

    def flaky(resource: Resource) -> int:
        used.append(resource.number)
        if len(used) < 3:
            raise Broken
        return current_context().attempt

    assert runner.run_task(flaky) == 3
    assert len(set(used)) == 3
    eventually(lambda: len(runners.factory.alive) == 2)
    assert used[-1] in [resource.number for resource in runners.factory.alive]


@EVERYWHERE
def test_retries_used_up_give_the_error_with_a_note(runners: Runners, thread_bound: bool) -> None:
    runner = runners.start(check_health=is_healthy, max_retries=2, thread_bound=thread_bound)
    with pytest.raises(Broken) as raised:
        runner.run_task(break_down)
    assert len(raised.value.__notes__) == 1
    assert runner.metrics().total_tasks_retried == 2


@EVERYWHERE
def test_once_holds_here_too(runners: Runners, thread_bound: bool) -> None:
    runner = runners.start(check_health=is_healthy, thread_bound=thread_bound)
    with pytest.raises(Broken) as raised:
        runner.options(once=True).run_task(break_down)
    assert not hasattr(raised.value, "__notes__")
    assert runner.metrics().total_tasks_retried == 0


@EVERYWHERE
def test_an_ordinary_error_leaves_the_resource_alone(runners: Runners, thread_bound: bool) -> None:
    runner = runners.start(check_health=is_healthy, thread_bound=thread_bound)

    def fail(_resource: Resource) -> None:
        raise ValueError

    for _ in range(3):
        with pytest.raises(ValueError, match=r"^$"):
            runner.run_task(fail)
    assert len(runners.factory.made) == 2


@EVERYWHERE
def test_the_time_limit_holds_while_it_waits_for_a_resource(
    runners: Runners, gate: Gate, thread_bound: bool
) -> None:
    runner = runners.start(resource_pool_size=1, thread_bound=thread_bound)
    holder = Call(runner.run_task, gate.hold)
    gate.wait_for()
    ran: list[int] = []
    with pytest.raises(TaskTimeout):
        runner.options(timeout=0.05).run_task(lambda _: ran.append(1))
    gate.open()
    holder.result()
    runner.run_task(lambda _: None)
    assert ran == []


@EVERYWHERE
def test_inside_a_task_it_runs_on_the_tasks_own_resource(
    runners: Runners, thread_bound: bool
) -> None:
    runner = runners.start(worker_count=2, thread_bound=thread_bound)

    def outer(resource: Resource) -> bool:
        return runner.run_task(lambda inner: inner is resource)

    assert runner.queue_task(outer)
    assert runner.run_task(outer)


@EVERYWHERE
def test_it_is_counted_like_any_task(runners: Runners, gate: Gate, thread_bound: bool) -> None:
    runner = runners.start(thread_bound=thread_bound)
    call = Call(runner.run_task, gate.hold)
    gate.wait_for()
    assert (runner.stats().running_tasks, runner.stats().available_resources) == (1, 0)
    assert runner.metrics().total_tasks_arrived == 1
    gate.open()
    call.result()
    assert (runner.stats().running_tasks, runner.metrics().total_tasks_completed) == (0, 1)


@EVERYWHERE
def test_stop_waits_for_it(runners: Runners, gate: Gate, thread_bound: bool) -> None:
    runner = runners.start(thread_bound=thread_bound)
    running = Call(runner.run_task, gate.hold)
    gate.wait_for()
    stop = Call(runner.stop)
    stop.wait_until_blocked()
    assert runner.state == "stopping"
    gate.open()
    running.result()
    stop.result()


@EVERYWHERE
def test_stop_serves_those_that_wait_for_a_resource(
    runners: Runners, gate: Gate, thread_bound: bool
) -> None:
    runner = runners.start(resource_pool_size=1, thread_bound=thread_bound)
    calls = [Call(runner.run_task, gate.hold) for _ in range(3)]
    gate.wait_for()
    for call in calls:
        call.wait_until_blocked()
    stop = Call(runner.stop)
    eventually(lambda: runner.state == "stopping")
    gate.open()
    for call in calls:
        call.result()
    stop.result()


@EVERYWHERE
@pytest.mark.stress
def test_many_callers_each_get_their_own_result(runners: Runners, thread_bound: bool) -> None:
    runner = runners.start(worker_count=2, resource_pool_size=2, thread_bound=thread_bound)

    def caller() -> list[int]:
        me = threading.get_ident()
        return [runner.run_task(lambda _, x: x, me + i) - me for i in range(200)]

    for call in at_once(6, caller):
        assert call.result() == list(range(200))


def test_the_priority_of_a_view_makes_no_difference(runners: Runners) -> None:
    view = runners.start().options(priority=Priority.LOW)
    assert view.run_task(lambda _: "done") == "done"


class Thing:
    """Something that can be watched."""


@EVERYWHERE
def test_a_call_leaves_nothing_of_itself_behind(runners: Runners, thread_bound: bool) -> None:
    runner = runners.start(thread_bound=thread_bound)
    argument, result, error = Thing(), Thing(), Broken("as asked")
    watched = [weakref.ref(thing) for thing in (argument, result, error)]

    def fail(_: Resource, error: Broken) -> None:
        raise error

    assert runner.run_task(lambda _, given, kept: kept, argument, kept=result) is result
    with pytest.raises(Broken) as raised:
        runner.run_task(fail, error)
    assert raised.value is error
    del argument, result, error, raised
    # An error and the frame that raised it know each other.
    eventually(lambda: gc.collect() >= 0 and not any(ref() for ref in watched))


@EVERYWHERE
def test_calls_inside_each_other_and_after_each_other_keep_their_results_apart(
    runners: Runners, thread_bound: bool
) -> None:
    runner = runners.start(resource_pool_size=3, thread_bound=thread_bound)
    other = runners.start(resource_pool_size=2, thread_bound=thread_bound)

    def down(_: Resource, depth: int) -> list[int]:
        inner = (other if depth % 2 else runner).run_task(down, depth - 1) if depth else []
        return [*inner, depth]

    for _ in range(3):
        assert runner.run_task(down, 4) == [0, 1, 2, 3, 4]
        assert [runner.run_task(lambda _, n: n, n) for n in range(5)] == [0, 1, 2, 3, 4]
        with pytest.raises(ZeroDivisionError):
            runner.run_task(lambda _: 1 // 0)
        assert runner.run_task(lambda _: None) is None


@EVERYWHERE
def test_each_attempt_has_a_fresh_copy_of_the_callers_variables(
    runners: Runners, thread_bound: bool
) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    runner = runners.start(
        check_health=is_healthy, max_retries=2, resource_pool_size=1, thread_bound=thread_bound
    )
    seen = []

    def look(_: Resource) -> str:
        seen.append(variable.get())
        variable.set(f"set by attempt {len(seen)}")
        if len(seen) < 3:
            raise Broken
        return variable.get()

    variable.set("the caller's")
    assert runner.run_task(look) == "set by attempt 3"
    assert seen == ["the caller's"] * 3
    assert variable.get() == "the caller's"


@EVERYWHERE
@pytest.mark.parametrize("fields", [{}, {"check_health": is_healthy}], ids=["plain", "judged"])
def test_an_empty_context_of_the_caller_stays_empty(
    runners: Runners, fields: dict[str, Any], thread_bound: bool
) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    runner = runners.start(resource_pool_size=1, thread_bound=thread_bound, **fields)
    seen = []

    def look(_: Resource) -> None:
        seen.append(len(contextvars.copy_context()))
        variable.set("set by a task")
        if fields and len(seen) == 1:
            raise Broken

    context = contextvars.Context()
    context.run(runner.run_task, look)
    context.run(runner.run_task, look)
    assert set(seen) == {0}
    assert len(context) == 0


@EVERYWHERE
@pytest.mark.parametrize("hook", ["check_health", "validate", "on_event"])
def test_a_hook_cannot_change_the_variables_of_a_task(
    runners: Runners, hook: str, thread_bound: bool
) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    def meddle(subject: object) -> bool:
        variable.set("meddled with")
        return not isinstance(subject, Broken)

    def look(_: Resource) -> None:
        seen.append(variable.get())
        if hook == "check_health" and len(seen) == 1:
            raise Broken

    fields: dict[str, Any] = {hook: meddle, "validate_after_idle": 0.0}
    runner = runners.start(resource_pool_size=1, thread_bound=thread_bound, **fields)
    contextvars.copy_context().run(runner.run_task, look)
    assert set(seen) == {"unset"}


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize(
    "care",
    [
        {"max_tasks_per_resource": 3},
        {"validate": lambda _: random.random() < 0.8, "validate_after_idle": 0.0},
        {"reset": lambda _: None},
    ],
    ids=lambda care: next(iter(care)),
)
@pytest.mark.parametrize("size", SIZES)
def test_many_callers_of_lent_resources_get_one_outcome_each(
    runners: Runners, log: LogCapture, size: int | None, care: dict[str, Any], end: str
) -> None:
    # By chance `validate` refuses several new ones in a row.
    log.overlook("resources cannot be created")
    callers, enough = 4, 200
    fields = {"thread_bound": False, "resource_pool_size": size, "check_health": is_healthy, **care}
    runner = runners.start(worker_count=2, **fields)
    calls = [0] * callers
    all_at_work = threading.Event()

    def work(_: Resource) -> None:
        match random.randrange(50):
            case 0 | 1 | 2 | 3:
                raise Broken
            case 4:
                runner.renew()

    def go_on(caller: int) -> None:
        limited = runner.options(timeout=0.01)
        while True:
            try:
                (limited if random.random() < 0.2 else runner).run_task(work)
            except RunnerStopped:
                return
            except (Broken, TaskTimeout, TaskCancelled):
                pass
            except ResourceCreationError:
                # By chance `validate` refuses the last new one, too.
                assert runner.state != "running"
            calls[caller] += 1
            if min(calls) >= enough:
                all_at_work.set()

    threads = [Call(go_on, caller) for caller in range(callers)]
    assert all_at_work.wait(LONG_TIMEOUT)
    stats = runner.stats()
    assert FREE_THREADED or stats.queued_tasks <= callers
    assert stats.running_tasks <= callers
    getattr(runner, end)()
    for thread in threads:
        thread.result()
    metrics, stats = runner.metrics(), runner.stats()
    ended = [
        metrics.total_tasks_completed,
        metrics.total_tasks_failed,
        metrics.total_tasks_cancelled,
        metrics.total_tasks_dropped,
        metrics.total_tasks_timed_out,
    ]
    assert metrics.total_tasks_arrived == sum(ended)
    assert (stats.queued_tasks, stats.running_tasks, stats.available_resources) == (0, 0, 0)
