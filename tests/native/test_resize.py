"""`resize` changes how many workers there are, whatever they are at."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import pytest

from tasker import Config, ConfigError, Runner, RunnerStopped
from tests.native.support import (
    LONG_TIMEOUT,
    Call,
    Gate,
    LogCapture,
    Resource,
    Runners,
    at_once,
    eventually,
    runner_threads,
    worker_threads,
)


def number(resource: Resource) -> int:
    return resource.number


def asked(runner: Runner[Any]) -> tuple[int, int]:
    return runner.worker_count, runner.max_worker_count


def has_base_workers(runner: Runner[Any], count: int) -> None:
    """Waits until there are so many, all with a resource, and nothing else."""

    def has() -> bool:
        stats = runner.stats()
        return (stats.base_workers, stats.equipped_workers, stats.burst_workers) == (
            count,
            count,
            0,
        )

    eventually(has)


# ---- what is asked for


def test_what_is_asked_for_is_what_the_config_says_until_it_changes(runners: Runners) -> None:
    runner = runners.start(worker_count=2, max_worker_count=5)
    assert asked(runner) == (2, 5)
    runner.resize(worker_count=3)
    assert asked(runner) == (3, 5)
    runner.resize(max_worker_count=4)
    assert asked(runner) == (3, 4)
    assert (runner.config.worker_count, runner.config.max_worker_count) == (2, 5)


def test_the_maximum_follows_where_there_are_no_burst_workers(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    runner.resize(worker_count=4)
    assert asked(runner) == (4, 4)
    runner.resize(worker_count=1)
    assert asked(runner) == (1, 1)
    runner.resize(worker_count=2, max_worker_count=3)
    assert asked(runner) == (2, 3)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"worker_count": 0}, "worker_count must be at least 1, got 0"),
        ({"worker_count": -1}, "worker_count must be at least 1, got -1"),
        ({"worker_count": True}, "worker_count must be an int or None, got True"),
        ({"worker_count": 2.0}, "worker_count must be an int or None, got 2.0"),
        ({"worker_count": "2"}, "worker_count must be an int or None, got '2'"),
        ({"worker_count": math.inf}, "worker_count must be an int or None, got inf"),
        ({"worker_count": 2**31}, "worker_count must be at most 2147483647, got 2147483648"),
        ({"max_worker_count": 0}, "max_worker_count must be at least 1, got 0"),
        ({"max_worker_count": 1}, r"max_worker_count must be at least worker_count \(2\), got 1"),
        ({"worker_count": 5}, r"max_worker_count must be at least worker_count \(5\), got 4"),
        (
            {"worker_count": 3, "max_worker_count": 2},
            r"max_worker_count must be at least worker_count \(3\), got 2",
        ),
    ],
)
def test_what_is_no_number_of_workers_is_refused_and_changes_nothing(
    runners: Runners, given: dict[str, Any], text: str
) -> None:
    runner = runners.start(worker_count=2, max_worker_count=4)
    with pytest.raises(ConfigError, match=f"^{text}$"):
        runner.resize(**given)
    assert asked(runner) == (2, 4)
    assert runner.stats().base_workers == 2


def test_a_call_without_numbers_is_an_error(runners: Runners) -> None:
    runner = runners.start()
    with pytest.raises(TypeError, match="needs worker_count=, max_worker_count= or both"):
        runner.resize()
    with pytest.raises(TypeError):
        runner.resize(2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_runner_that_has_ended_is_not_resized(runners: Runners, end: str) -> None:
    runner = runners.start()
    getattr(runner, end)(LONG_TIMEOUT)
    told = "^cannot resize: the runner is stopping or has stopped$"
    with pytest.raises(RunnerStopped, match=told):
        runner.resize(worker_count=2)
    assert asked(runner) == (1, 1)


# ---- more


def test_new_workers_help_with_what_waits(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    futures = [runner.submit(gate.hold_then_return, item) for item in range(4)]
    gate.wait_for()
    runner.resize(worker_count=4)
    gate.wait_for(3)
    assert len(worker_threads()) == 4
    gate.open()
    assert [future.result(LONG_TIMEOUT) for future in futures] == [0, 1, 2, 3]
    has_base_workers(runner, 4)


def test_a_map_under_way_reads_ahead_for_the_new_workers(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    first = Gate()

    def hold(_resource: Resource, item: int) -> int:
        (gate if item else first).hold()
        return item

    call: Call[list[int]] = Call(list, runner.map(hold, range(40)))
    first.wait_for()
    runner.resize(worker_count=8)
    # It reads on when it has a result.
    first.open()
    gate.wait_for(8)
    gate.open()
    assert call.result() == list(range(40))


def test_a_resource_is_made_as_a_replacement_is(runners: Runners, log: LogCapture) -> None:
    fails = threading.Event()

    def create() -> Resource:
        if fails.is_set():
            raise ConnectionError("down")
        return runners.factory.create()

    runner = runners.start(on_create=create)
    fails.set()
    runner.resize(worker_count=3)
    assert "resources cannot be created" in log.take()[0].getMessage()
    assert runner.queue_task(number) == 0
    assert (runner.worker_count, runner.stats().base_workers) == (3, 1)
    fails.clear()
    has_base_workers(runner, 3)


def test_burst_workers_come_when_there_is_room_for_them(runners: Runners, gate: Gate) -> None:
    runner = runners.start(burst_interval=0.001)
    for _ in range(3):
        runner.submit(gate.hold)
    gate.wait_for()
    runner.resize(max_worker_count=3)
    gate.wait_for(2)
    stats = runner.stats()
    assert (stats.base_workers, stats.burst_workers) == (1, 2)


def test_burst_workers_take_the_place_of_base_workers_that_are_missing(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(max_worker_count=3, burst_interval=0.001, idle_timeout=0.0)
    for _ in range(3):
        runner.submit(gate.hold)
    gate.wait_for(3)
    runner.resize(worker_count=3)
    assert (runner.stats().base_workers, runner.stats().burst_workers) == (3, 0)
    gate.open()
    eventually(lambda: runner.stats().running_tasks == 0)
    assert len(runners.factory.alive) == 3
    assert len(runners.factory.made) == 3


# ---- fewer


def test_idle_workers_leave_at_once_and_destroy_their_resources(runners: Runners) -> None:
    runner = runners.start(worker_count=4)
    runner.resize(worker_count=1)
    eventually(lambda: len(runners.factory.alive) == 1)
    eventually(lambda: len(worker_threads()) == 1)
    assert runner.stats().base_workers == 1
    assert runner.queue_task(number) in range(4)


def test_a_busy_worker_leaves_after_its_task(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=3)
    futures = [runner.submit(gate.hold_then_return, item) for item in range(3)]
    gate.wait_for(3)
    runner.resize(worker_count=1)
    assert len(runners.factory.alive) == 3
    gate.open()
    assert [future.result(LONG_TIMEOUT) for future in futures] == [0, 1, 2]
    eventually(lambda: len(runners.factory.alive) == 1)
    has_base_workers(runner, 1)


def test_idle_workers_leave_before_busy_ones(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=4)
    used: list[Resource] = []

    def hold(resource: Resource) -> None:
        used.append(resource)
        gate.hold()

    futures = [runner.submit(hold) for _ in range(2)]
    gate.wait_for(2)
    runner.resize(worker_count=2)
    eventually(lambda: len(runners.factory.alive) == 2)
    assert {each.number for each in runners.factory.alive} == {each.number for each in used}
    gate.open()
    for future in futures:
        future.result(LONG_TIMEOUT)
    has_base_workers(runner, 2)


def test_what_waits_is_left_to_those_that_stay(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=4)
    for _ in range(4):
        runner.submit(gate.hold)
    gate.wait_for(4)
    futures = [runner.submit(lambda _, item: item, item) for item in range(50)]
    runner.resize(worker_count=1)
    gate.open()
    assert [future.result(LONG_TIMEOUT) for future in futures] == list(range(50))
    has_base_workers(runner, 1)


def test_a_worker_leaves_amid_the_items_of_a_map(runners: Runners) -> None:
    runner = runners.start(worker_count=4)
    results = runner.map(lambda _, item: item, range(20_000))
    first = [next(results) for _ in range(100)]
    runner.resize(worker_count=1)
    assert first + list(results) == list(range(20_000))
    has_base_workers(runner, 1)


def test_burst_workers_leave_when_the_maximum_is_lowered(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_worker_count=4, burst_interval=0.001)
    futures = [runner.submit(gate.hold) for _ in range(4)]
    gate.wait_for(4)
    gate.open()
    for future in futures:
        future.result(LONG_TIMEOUT)
    assert len(runners.factory.alive) == 4
    runner.resize(max_worker_count=2)
    eventually(lambda: len(runners.factory.alive) == 2)
    runner.resize(max_worker_count=1)
    eventually(lambda: len(runners.factory.alive) == 1)
    has_base_workers(runner, 1)


def test_a_runner_that_cannot_make_resources_can_shrink(runners: Runners, log: LogCapture) -> None:
    fails = threading.Event()

    def create() -> Resource:
        if fails.is_set():
            raise ConnectionError("down")
        return runners.factory.create()

    runner = runners.start(on_create=create)
    fails.set()
    runner.resize(worker_count=6)
    log.take()
    runner.resize(worker_count=1)
    began = time.monotonic()
    eventually(lambda: len(worker_threads()) == 1)
    # Long before each of them has had its turn to try.
    assert time.monotonic() - began < 2
    assert runner.queue_task(number) == 0


def test_a_worker_that_makes_its_resource_leaves_with_it(runners: Runners, gate: Gate) -> None:
    made = threading.Event()

    def create() -> Resource:
        if made.is_set():
            gate.hold()
        return runners.factory.create()

    runner = runners.start(on_create=create)
    made.set()
    runner.resize(worker_count=3)
    gate.wait_for(2)
    assert runner.stats().starting_workers == 2
    runner.resize(worker_count=1)
    gate.open()
    eventually(lambda: len(worker_threads()) == 1)
    has_base_workers(runner, 1)


def test_a_worker_that_is_to_leave_stays_if_it_is_wanted_again(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(worker_count=3)
    futures = [runner.submit(gate.hold) for _ in range(3)]
    gate.wait_for(3)
    runner.resize(worker_count=1)
    runner.resize(worker_count=3)
    gate.open()
    for future in futures:
        future.result(LONG_TIMEOUT)
    has_base_workers(runner, 3)
    assert len(runners.factory.made) == 3


def test_the_same_numbers_change_nothing(runners: Runners) -> None:
    runner = runners.start(worker_count=3, max_worker_count=5)
    for _ in range(10):
        runner.resize(worker_count=3, max_worker_count=5)
    assert len(runners.factory.made) == 3
    has_base_workers(runner, 3)


# ---- where it is called from


def test_a_task_may_resize_its_own_runner(runners: Runners) -> None:
    runner = runners.start()
    runner.queue_task(lambda _: runner.resize(worker_count=4))
    has_base_workers(runner, 4)
    runner.queue_task(lambda _: runner.resize(worker_count=1))
    eventually(lambda: len(runners.factory.alive) == 1)


@pytest.mark.parametrize("thread_bound", [True, False])
def test_a_call_of_run_task_may_resize_its_own_runner(
    runners: Runners, *, thread_bound: bool
) -> None:
    runner = runners.start(worker_count=3, thread_bound=thread_bound)
    runner.run_task(lambda _: runner.resize(worker_count=1))
    eventually(lambda: runner.stats().base_workers == 1)
    assert runner.run_task(lambda _: 7) == 7


@pytest.mark.parametrize("hook", ["on_create", "on_destroy"])
def test_a_hook_may_resize_its_own_runner(runners: Runners, hook: str) -> None:
    box: list[Runner[Resource]] = []

    def create() -> Resource:
        if box and hook == "on_create":
            box[0].resize(worker_count=3)
        return runners.factory.create()

    def destroy(resource: Resource) -> None:
        if box and hook == "on_destroy" and box[0].state == "running":
            box[0].resize(worker_count=3)
        runners.factory.destroy(resource)

    runner = runners.start(worker_count=2, on_create=create, on_destroy=destroy)
    box.append(runner)
    runner.renew().result(LONG_TIMEOUT)
    has_base_workers(runner, 3)


def test_calls_at_the_same_time_leave_the_numbers_of_one(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    for _ in range(20):
        sizes = iter(range(1, 5))
        for call in at_once(4, lambda sizes=sizes: runner.resize(worker_count=next(sizes))):  # type: ignore[misc]
            call.result()
        has_base_workers(runner, runner.worker_count)
    assert runner.worker_count == runner.max_worker_count


# ---- what goes by the numbers


def test_reserved_workers_follow_where_the_config_does_not_say_their_number(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(worker_count=3)
    calls = [Call(runner.run_task, gate.hold) for _ in range(3)]
    gate.wait_for(3)
    gate.open()
    for call in calls:
        call.result()
    assert len(runners.factory.alive) == 6
    runner.resize(worker_count=1)
    eventually(lambda: len(runners.factory.alive) == 2)
    assert runner.stats().available_resources <= 1
    assert runner.run_task(lambda _: 7) == 7


def test_more_reserved_workers_may_come_where_more_base_workers_do(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start()
    calls = [Call(runner.run_task, gate.hold) for _ in range(3)]
    gate.wait_for()
    eventually(lambda: runner.stats().queued_tasks == 2)
    runner.resize(worker_count=3)
    gate.wait_for(2)
    gate.open()
    for call in calls:
        call.result()


def test_resources_that_are_lent_go_home_when_they_are_too_many(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(worker_count=3, thread_bound=False)
    calls = [Call(runner.run_task, gate.hold) for _ in range(3)]
    gate.wait_for(3)
    assert len(runners.factory.alive) == 6
    runner.resize(worker_count=1)
    # The base workers are idle; what is lent comes back with the end of its task.
    eventually(lambda: len(runners.factory.alive) == 4)
    gate.open()
    for call in calls:
        call.result()
    eventually(lambda: len(runners.factory.alive) == 2)
    assert runner.run_task(lambda _: 7) == 7


def test_idle_resources_to_lend_go_home_at_once(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=3, thread_bound=False)
    calls = [Call(runner.run_task, gate.hold) for _ in range(3)]
    gate.wait_for(3)
    gate.open()
    for call in calls:
        call.result()
    runner.resize(worker_count=1)
    eventually(lambda: len(runners.factory.alive) == 2)
    assert runner.stats().available_resources == 1


def test_a_pool_with_a_size_of_its_own_keeps_it(runners: Runners) -> None:
    runner = runners.start(worker_count=3, resource_pool_size=2)
    runner.resize(worker_count=1)
    eventually(lambda: len(runners.factory.alive) == 3)
    assert runner.stats().available_resources == 2


def test_a_worker_whose_task_overran_sends_no_worker_away_that_serves(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(worker_count=2, max_worker_count=3)
    late = runner.options(timeout=0.01).submit(gate.hold)
    gate.wait_for()
    assert late.exception(LONG_TIMEOUT) is not None
    eventually(lambda: len(runners.factory.made) == 3)  # with that of the substitute
    runner.resize(worker_count=1, max_worker_count=1)
    eventually(lambda: len(runners.factory.alive) == 2)
    assert runner.queue_task(number) in {each.number for each in runners.factory.alive}
    gate.open()
    eventually(lambda: len(runners.factory.alive) == 1)
    has_base_workers(runner, 1)
    assert len(runners.factory.made) == 3


def test_a_runner_whose_only_workers_overran_says_that_there_is_no_room(
    runners: Runners, gate: Gate, log: LogCapture
) -> None:
    runner = runners.start(worker_count=2)
    for _ in range(2):
        runner.options(timeout=0.01).submit(gate.hold)
    gate.wait_for(2)
    eventually(lambda: runner.stats().base_workers == 0)
    log.take(2)
    runner.resize(worker_count=1)
    assert "max_worker_count leaves no room" in log.take()[-1].getMessage()
    waits = runner.submit(number)
    gate.open()
    assert waits.result(LONG_TIMEOUT) in range(2)
    has_base_workers(runner, 1)


def test_a_held_retry_is_not_lost_with_the_worker_that_would_come_back_for_it(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(worker_count=3, is_broken=lambda _, __: True)
    attempts: list[int] = []

    def fail_once(resource: Resource) -> int:
        attempts.append(resource.number)
        if len(attempts) == 1:
            gate.hold()
            raise ConnectionError
        return resource.number

    future = runner.submit(fail_once)
    gate.wait_for()
    runner.resize(worker_count=1)
    gate.open()
    assert future.result(LONG_TIMEOUT) != attempts[0]
    has_base_workers(runner, 1)


def test_grown_and_shrunk_again_and_again_nothing_is_left_behind(runners: Runners) -> None:
    runner = runners.start(worker_count=2, thread_bound=False)
    over = threading.Event()

    def work() -> int:
        done = 0
        while not over.is_set():
            runner.queue_task(number)
            runner.run_task(number)
            done += 1
        return done

    calls = [Call(work) for _ in range(3)]
    for count in [5, 1, 3, 2, 6, 1] * 5:
        runner.resize(worker_count=count)
        runner.queue_task(number)
    over.set()
    assert all(call.result() > 0 for call in calls)
    has_base_workers(runner, 1)
    eventually(lambda: len(worker_threads()) <= 2)
    assert runner.metrics().total_tasks_failed == 0


def test_a_stop_while_workers_come_or_leave_ends_everything(runners: Runners) -> None:
    for count in [1, 6]:
        with Runner(runners.config(worker_count=3)) as runner:
            futures = [runner.submit(number) for _ in range(20)]
            runner.resize(worker_count=count)
        assert all(future.done() and future.exception() is None for future in futures)
        assert runner_threads() == []
    assert runners.factory.alive == []


def test_the_text_of_a_runner_tells_how_many_there_are(runners: Runners) -> None:
    runner: Runner[Any] = runners.keep(Runner(Config(on_create=dict, worker_count=1)))
    runner.resize(worker_count=2)
    has_base_workers(runner, 2)
    assert repr(runner) == "<Runner 'tasker-1' running, 2 workers>"
