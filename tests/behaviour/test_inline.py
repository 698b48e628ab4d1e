"""What an `InlineRunner` has that a runner has not: its steps, its book, its planned failures."""

from __future__ import annotations

import asyncio
import concurrent.futures
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import tasker.testing
from tasker import (
    Config,
    ConfigError,
    Priority,
    QueueFull,
    ResourceCreationError,
    RunnerStopped,
    SubmittedTask,
    TaskCancelled,
)
from tasker.testing import InlineRunner
from tests.behaviour.support import Bench
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    LogCapture,
    Resource,
    eventually,
    is_healthy,
)


def note(_resource: object, seen: list[object], item: object) -> object:
    seen.append(item)
    return item


def started(bench: Bench, **fields: Any) -> InlineRunner[Resource]:
    runner = bench.start(**fields)
    assert isinstance(runner, InlineRunner)
    return runner


def manual(bench: Bench, **fields: Any) -> InlineRunner[Resource]:
    runner, _ = bench.start_held(**fields)
    assert isinstance(runner, InlineRunner)
    return runner


def test_submit_gives_a_future_that_is_done(inline: Bench) -> None:
    runner = started(inline)
    assert runner.submit(lambda _: 7).done()
    assert runner.options(timeout=60).submit(lambda _: 1 / 0).done()
    assert all(future.done() for future in runner.submit_many(lambda _, item: item, [1, 2]))


def test_asubmit_is_done_at_the_next_turn_of_the_loop(inline: Bench) -> None:
    async def main() -> None:
        future = started(inline).asubmit(lambda _: 7)
        assert not future.done()
        await asyncio.sleep(0)
        assert future.result() == 7

    asyncio.run(main())


# Step by step.


def test_a_step_runs_the_task_whose_turn_it_is(inline: Bench) -> None:
    runner = manual(inline)
    seen: list[object] = []
    runner.submit(note, seen, "normal")
    runner.options(priority=Priority.HIGH).submit(note, seen, "high")
    assert seen == []
    assert runner.run_next()
    assert seen == ["high"]
    assert runner.run_next()
    assert seen == ["high", "normal"]
    assert not runner.run_next()


def test_a_step_goes_on_to_the_outcome(inline: Bench) -> None:
    runner = manual(inline, check_health=is_healthy)
    runner.fail_next(Broken(), times=2)
    future = runner.submit(lambda resource: resource.number)
    assert runner.run_next()
    assert future.done()
    assert future.result() == 2
    assert not runner.run_next()


def test_all_steps_are_counted_by_tasks(inline: Bench) -> None:
    runner = manual(inline, check_health=is_healthy)
    runner.fail_next(Broken())

    def submit_another(_resource: Resource) -> None:
        runner.submit(lambda _: None)

    runner.submit(submit_another)
    runner.submit(lambda _: None)
    assert runner.run_all() == 3
    assert runner.run_all() == 0


def test_there_are_no_steps_where_tasks_do_not_wait(inline: Bench) -> None:
    runner = started(inline)
    runner.submit(lambda _: None)
    assert not runner.run_next()
    assert runner.run_all() == 0


@pytest.mark.parametrize("step", ["run_next", "run_all"])
def test_a_task_makes_no_steps(inline: Bench, step: str) -> None:
    runner = manual(inline)
    future = runner.submit(lambda _: getattr(runner, step)())
    runner.run_all()
    with pytest.raises(RuntimeError, match=rf"{step}\(\) is for the test"):
        future.result()


WAITS: dict[str, Callable[[InlineRunner[Resource], list[object]], object]] = {
    "queue_task": lambda runner, seen: runner.queue_task(note, seen, "last"),
    "result": lambda runner, seen: runner.submit(note, seen, "last").result(),
    "result with a limit": lambda runner, seen: runner.submit(note, seen, "last").result(
        LONG_TIMEOUT
    ),
    "exception": lambda runner, seen: runner.submit(note, seen, "last").exception(),
    "wait": lambda runner, seen: concurrent.futures.wait([runner.submit(note, seen, "last")]),
    "as_completed": lambda runner, seen: list(
        concurrent.futures.as_completed([runner.submit(note, seen, "last")])
    ),
    "map": lambda runner, seen: list(runner.map(note, [seen], ["last"])),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_call_that_waits_runs_what_is_before_it(
    inline: Bench, wait: Callable[[InlineRunner[Resource], list[object]], object]
) -> None:
    runner = manual(inline)
    seen: list[object] = []
    runner.options(priority=Priority.LOW).submit(note, seen, "after")
    runner.submit(note, seen, "first")
    wait(runner, seen)
    assert seen == ["first", "last"]
    assert runner.stats().queued_tasks == 1


def test_run_task_goes_past_what_waits(inline: Bench) -> None:
    runner = manual(inline)
    seen: list[object] = []
    runner.submit(note, seen, "waits")
    assert runner.run_task(note, seen, "now") == "now"
    assert seen == ["now"]


def test_a_look_without_waiting_runs_nothing(inline: Bench) -> None:
    runner = manual(inline)
    seen: list[object] = []
    future = runner.submit(note, seen, 1)
    with pytest.raises(TimeoutError):
        future.result(timeout=0)
    assert seen == []


def test_a_retry_that_waits_can_be_called_off(inline: Bench) -> None:
    runner = manual(inline, check_health=is_healthy)

    def break_then_call_off(_resource: Resource) -> None:
        runner.options(priority=Priority.HIGH).submit(lambda _: futures[0].request_cancel())
        raise Broken

    futures = [runner.submit(break_then_call_off)]
    runner.run_next()
    assert isinstance(futures[0].exception(0), Broken)
    assert runner.stats().queued_tasks == 0


def test_kill_gives_a_retry_that_waits_its_last_error(inline: Bench) -> None:
    runner = manual(inline, check_health=is_healthy)
    dropped: list[object] = []

    def break_then_kill(_resource: Resource) -> None:
        runner.options(priority=Priority.HIGH).submit(lambda _: dropped.extend(runner.kill()))
        raise Broken

    future = runner.submit(break_then_kill)
    runner.submit(lambda _: None)
    runner.run_next()
    assert isinstance(future.exception(0), Broken)
    assert len(dropped) == 1


def test_a_full_queue_says_that_nobody_would_make_room(inline: Bench) -> None:
    runner = manual(inline, max_queue_size=1)
    runner.submit(lambda _: None)
    with pytest.raises(QueueFull, match=r"no other thread .* call run_next\(\) first"):
        runner.submit(lambda _: None)

    async def asubmit() -> None:
        runner.asubmit(lambda _: None)

    with pytest.raises(QueueFull, match="no other thread"):
        asyncio.run(asubmit())
    assert runner.metrics().total_tasks_refused == 2


def test_a_call_that_waits_makes_room_for_its_task(inline: Bench) -> None:
    runner = manual(inline, max_queue_size=1)
    seen: list[object] = []
    runner.options(priority=Priority.LOW).submit(note, seen, "low")
    assert runner.queue_task(note, seen, "own") == "own"
    assert seen == ["low", "own"]
    strict = manual(inline, max_queue_size=1, when_full="raise")
    strict.submit(lambda _: None)
    with pytest.raises(QueueFull):
        strict.queue_task(lambda _: None)


def test_stop_runs_what_waits(inline: Bench) -> None:
    runner = manual(inline)
    seen: list[object] = []
    runner.submit(note, seen, 1)
    runner.stop()
    assert seen == [1]


def test_a_future_that_is_awaited_is_done_by_a_step(inline: Bench) -> None:
    runner = manual(inline)

    async def main() -> list[int]:
        futures = [runner.asubmit(lambda _: 7), runner.asubmit(lambda _: 8)]
        task = asyncio.create_task(step())
        done = [await futures[0]]
        await task
        futures[1].cancel()
        return done

    async def step() -> None:
        runner.run_next()

    assert asyncio.run(main()) == [7]
    assert runner.stats().queued_tasks == 0


# What a test may look at.


def test_everything_that_is_accepted_is_noted(inline: Bench) -> None:
    runner = started(inline)
    seen: list[object] = []
    runner.submit(note, seen, item=1)
    view = runner.options(priority=Priority.HIGH, once=True, timeout=9, name="own")
    view.run_task(note, seen, 2)
    runner.submit_many(lambda _, item: item, [3])
    list(runner.map(lambda _, item: item, [4]))
    asyncio.run(collect(runner))
    assert all(type(task) is SubmittedTask for task in runner.submitted)
    assert [(task.args, task.kwargs) for task in runner.submitted] == [
        ((seen,), {"item": 1}),
        ((seen, 2), {}),
        ((3,), {}),
        ((4,), {}),
        ((5,), {}),
    ]
    own = runner.submitted[1]
    assert (own.fn, own.priority, own.once, own.timeout, own.name) == (
        note,
        Priority.HIGH,
        True,
        9,
        "own",
    )


async def collect(runner: InlineRunner[Resource]) -> list[int]:
    return [item async for item in runner.amap(lambda _, item: item, [5])]


def test_the_resource_in_use_can_be_looked_at(inline: Bench) -> None:
    runner = started(inline)
    assert runner.resource is inline.factory.made[0]
    runner.renew()
    assert runner.resource is inline.factory.made[1]
    runner.stop()
    with pytest.raises(RunnerStopped):
        _ = runner.resource


def test_it_shows_what_it_is(inline: Bench) -> None:
    assert repr(started(inline)) == "<InlineRunner 'tasker' running>"
    assert repr(manual(inline, name="pg")) == "<InlineRunner 'pg' running, manual>"


# Failures on order.


def test_the_next_attempts_fail_before_the_function_is_entered(inline: Bench) -> None:
    runner = started(inline)
    seen: list[object] = []
    error = ValueError("planned")
    runner.fail_next(error)
    assert runner.submit(note, seen, 1).exception() is error
    assert runner.queue_task(note, seen, 2) == 2
    assert seen == [2]


def test_a_failure_on_order_is_judged(inline: Bench) -> None:
    runner = started(inline, is_broken=lambda resource, error: isinstance(error, Broken))
    runner.fail_next(Broken(), times=2)
    assert runner.queue_task(lambda resource: resource.number) == 2
    assert runner.metrics().total_tasks_retried == 2


def test_wrong_orders_are_refused(inline: Bench) -> None:
    untyped: Any = started(inline)
    with pytest.raises(TypeError, match="error must be an exception, got 'broken'"):
        untyped.fail_next("broken")
    with pytest.raises(ConfigError, match="times must be at least 1, got 0"):
        untyped.fail_next(ValueError(), times=0)
    assert untyped.queue_task(lambda _: 7) == 7


# A resource of the test's own.


def test_a_resource_of_the_tests_own_is_kept() -> None:
    resource = {"a": 1}
    with InlineRunner.of(resource, is_broken=lambda _, error: True) as runner:
        assert runner.resource is resource
        runner.fail_next(KeyError())
        assert runner.queue_task(lambda cache: cache) is resource
    assert resource == {"a": 1}


def test_settings_of_a_resource_of_the_tests_own_are_checked() -> None:
    with InlineRunner.of([1], manual=True, worker_count=3, name="own") as runner:
        assert (runner.name, runner.config.worker_count) == ("own", 3)
        assert not runner.submit(len).done()
    with pytest.raises(ConfigError, match="worker_count must be at least 1"):
        InlineRunner.of([1], worker_count=0)


# One thread.


CALLS: dict[str, Callable[[InlineRunner[Resource]], object]] = {
    "submit": lambda runner: runner.submit(lambda _: None),
    "submit_many": lambda runner: runner.submit_many(lambda _, item: item, [1]),
    "queue_task": lambda runner: runner.queue_task(lambda _: None),
    "run_task": lambda runner: runner.run_task(lambda _: None),
    "map": lambda runner: runner.map(lambda _, item: item, [1]),
    "view": lambda runner: runner.options().submit(lambda _: None),
    "stop": lambda runner: runner.stop(),
    "kill": lambda runner: runner.kill(),
    "renew": lambda runner: runner.renew(),
    "run_next": lambda runner: runner.run_next(),
    "run_all": lambda runner: runner.run_all(),
    "fail_next": lambda runner: runner.fail_next(ValueError()),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_from_another_thread_is_an_error(
    inline: Bench, call: Callable[[InlineRunner[Resource]], object]
) -> None:
    runner = started(inline)
    error = Call(call, runner).error()
    assert isinstance(error, RuntimeError)
    assert "called from another one" in str(error)
    assert runner.state == "running"


def test_a_waiting_future_is_not_run_by_another_thread(inline: Bench) -> None:
    future = manual(inline).submit(lambda _: None)
    for method in (future.result, future.exception, future.cancel):
        assert isinstance(Call(method).error(), RuntimeError)


# What cannot be made again.


def test_a_task_fails_where_its_resource_cannot_be_replaced(inline: Bench, log: LogCapture) -> None:
    refused = ConnectionRefusedError("no server")
    up = [True]

    def create() -> Resource:
        if not up[0]:
            raise refused
        return inline.factory.create()

    runner = started(inline, on_create=create, check_health=is_healthy, max_retries=1)

    def break_down(_resource: Resource) -> None:
        up[0] = False
        raise Broken

    error = runner.submit(break_down).exception()
    assert isinstance(error, ResourceCreationError)
    assert error.__cause__ is refused
    assert runner.stats().equipped_workers == 0
    with pytest.raises(ResourceCreationError) as raised:
        _ = runner.resource
    assert raised.value.__cause__ is refused
    up[0] = True
    assert runner.queue_task(lambda resource: resource.number) == 1
    assert "could not be replaced" in log.take()[0].getMessage()


def test_a_validate_that_refuses_everything_ends(inline: Bench) -> None:
    runner = started(inline, validate=lambda _: False, validate_after_idle=0)
    error = runner.submit(lambda _: None).exception()
    assert isinstance(error, ResourceCreationError)
    assert "validate refused" in str(error.__cause__)


def test_an_interrupt_in_a_hook_reaches_the_caller_and_loses_no_task(inline: Bench) -> None:
    interrupts = [KeyboardInterrupt()]

    def validate(_resource: Resource) -> bool:
        if interrupts:
            raise interrupts.pop()
        return True

    runner = manual(inline, validate=validate, validate_after_idle=0)
    future = runner.submit(lambda _: 7)
    with pytest.raises(KeyboardInterrupt):
        runner.run_next()
    assert not future.done()
    assert runner.run_next()
    assert future.result(0) == 7


# Nothing is left.


def test_one_that_is_dropped_warns_and_destroys_its_resource(inline: Bench) -> None:
    config = Config(
        on_create=inline.factory.create, on_destroy=inline.factory.destroy, worker_count=1
    )
    runner = InlineRunner(config)
    with pytest.warns(ResourceWarning, match="was dropped without stop"):
        del runner
    inline.factory.check()


def test_nothing_of_a_task_is_kept_but_in_the_book(inline: Bench, no_collector: None) -> None:
    class Thing:
        pass

    del no_collector
    runner = started(inline)
    thing = Thing()
    known = weakref.ref(thing)
    future = runner.submit(lambda _, thing: thing, thing)
    assert future.result() is thing
    runner.submitted.clear()
    del thing, future
    eventually(lambda: known() is None)


def test_importing_the_doubles_is_left_to_who_needs_them() -> None:
    program = (
        "import sys, tasker.testing\n"
        "assert 'tasker.testing._inline' not in sys.modules\n"
        "assert 'InlineRunner' in dir(tasker.testing)\n"
        "assert tasker.testing.InlineRunner.__module__ == 'tasker.testing'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError, match="NoSuchDouble"):
        getattr(tasker.testing, "NoSuchDouble")  # noqa: B009 - checked where it is not known


def test_cancel_queued_drops_what_waits_and_the_runner_goes_on() -> None:
    runner = InlineRunner(Config(on_create=object, worker_count=1), manual=True)
    later: list[concurrent.futures.Future[int]] = []
    futures = [runner.submit(lambda _resource, x: x, x) for x in range(3)]
    futures[0].add_done_callback(lambda _: later.append(runner.submit(lambda _resource: 9)))
    dropped = runner.cancel_queued("enough")
    assert [task.args for task in dropped] == [(0,), (1,), (2,)]
    with pytest.raises(TaskCancelled, match="before it started: enough"):
        futures[1].result()
    assert runner.run_all() == 1
    assert later[0].result() == 9
    assert runner.metrics().total_tasks_dropped == 3
    runner.stop()
    with pytest.raises(RunnerStopped):
        runner.cancel_queued()
