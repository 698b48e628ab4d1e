"""A batcher makes one call of many items: what runs together, who waits for what, who gets what."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import wait
from typing import Any

import pytest

from tasker import (
    Batcher,
    ConfigError,
    Future,
    Priority,
    QueueFull,
    ResourceCreationError,
    Runner,
    RunnerStopped,
    TaskCancelled,
    TaskTimeout,
    current_context,
)
from tests.native.support import (
    LONG_TIMEOUT,
    MOMENT,
    Broken,
    Call,
    Gate,
    LogCapture,
    Resource,
    Runners,
    at_once,
    endless,
    eventually,
    is_healthy,
)

LONG_WAIT = LONG_TIMEOUT * 10
"""A `max_wait` that passes in no test."""


class Calls:
    """Batch functions that keep book."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.resources: list[int] = []
        self.attempts: list[int] = []

    def double(self, resource: Resource, items: list[int]) -> list[int]:
        """Doubles each item."""
        self.batches.append(list(items))
        self.resources.append(resource.number)
        self.attempts.append(current_context().attempt)
        return [2 * item for item in items]

    def break_on_first(self, resource: Resource, items: list[int]) -> list[int]:
        """Finds the first resource bad."""
        results = self.double(resource, items)
        if resource.number == 0:
            raise Broken
        return results

    def refuse_odd(self, resource: Resource, items: list[int]) -> list[int]:
        """Cannot bear an odd item."""
        results = self.double(resource, items)
        for item in items:
            if item % 2:
                message = f"{item} is odd"
                raise ValueError(message)
        return results


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def held(runners: Runners, gate: Gate) -> Runner[Resource]:
    """A runner whose one worker is held by a task."""
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    return runner


def results(futures: Iterable[Future[Any]]) -> list[Any]:
    return [future.result(LONG_TIMEOUT) for future in futures]


def errors(futures: Iterable[Future[Any]]) -> list[BaseException | None]:
    return [future.exception(LONG_TIMEOUT) for future in futures]


# ---- what runs together


def test_what_waits_runs_in_calls_of_at_most_max_size(
    held: Runner[Resource], gate: Gate, calls: Calls
) -> None:
    batcher = held.batcher(calls.double, max_size=4)
    futures = [batcher.submit(item) for item in range(10)]
    gate.open()
    assert results(futures) == [2 * item for item in range(10)]
    assert calls.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_an_item_alone_goes_at_once(runners: Runners, calls: Calls) -> None:
    batcher = runners.start().batcher(calls.double, max_size=4)
    assert [batcher.queue_task(item) for item in range(3)] == [0, 2, 4]
    assert calls.batches == [[0], [1], [2]]


def test_max_size_one_is_a_call_for_each_item(
    held: Runner[Resource], gate: Gate, calls: Calls
) -> None:
    batcher = held.batcher(calls.double, max_size=1, max_wait=LONG_WAIT)
    futures = [batcher.submit(item) for item in range(3)]
    gate.open()
    assert results(futures) == [0, 2, 4]
    assert calls.batches == [[0], [1], [2]]


def test_tasks_keep_their_place_between_items(
    held: Runner[Resource], gate: Gate, calls: Calls
) -> None:
    order: list[str] = []

    def note(_resource: Resource, items: list[str]) -> list[None]:
        order.extend(items)
        return [None] * len(items)

    batcher = held.batcher(note, max_size=2)
    futures: list[Future[Any]] = [batcher.submit("a")]
    futures.append(held.submit(lambda _: order.append("task")))
    futures += [batcher.submit(item) for item in "bcd"]
    gate.open()
    results(futures)
    assert order == ["a", "b", "task", "c", "d"]


def test_items_of_two_batchers_do_not_meet(held: Runner[Resource], gate: Gate) -> None:
    one, other = Calls(), Calls()
    batchers = [held.batcher(calls.double, max_size=8) for calls in (one, other)]
    futures = [batchers[item % 2].submit(item) for item in range(4)]
    gate.open()
    results(futures)
    assert (one.batches, other.batches) == ([[0, 2]], [[1, 3]])


def test_views_share_calls_and_the_higher_classes_are_first_in_them(
    held: Runner[Resource], gate: Gate, calls: Calls
) -> None:
    batcher = held.batcher(calls.double, max_size=3)
    low, high = (batcher.options(priority=priority) for priority in (Priority.LOW, Priority.HIGH))
    futures = [low.submit(0), batcher.submit(1), low.submit(2), batcher.submit(3), high.submit(4)]
    gate.open()
    results(futures)
    assert calls.batches == [[4, 1, 3], [0, 2]]


def test_one_item_of_each_class_makes_one_call(
    held: Runner[Resource], gate: Gate, calls: Calls
) -> None:
    batcher = held.batcher(calls.double, max_size=3)
    futures = [batcher.options(priority=priority).submit(priority) for priority in Priority]
    gate.open()
    results(futures)
    assert calls.batches == [[2, 1, 0]]


# ---- waiting for more


def test_a_full_call_waits_for_nothing_more(runners: Runners, calls: Calls) -> None:
    batcher = runners.start().batcher(calls.double, max_size=3, max_wait=LONG_WAIT)
    futures = [batcher.submit(item) for item in range(3)]
    assert results(futures) == [0, 2, 4]


def test_what_is_left_over_of_a_full_call_waits_on(runners: Runners, calls: Calls) -> None:
    batcher = runners.start().batcher(calls.double, max_size=3, max_wait=LONG_WAIT)
    futures = [batcher.submit(item) for item in range(5)]
    results(futures[:3])
    assert wait(futures[3:], MOMENT).done == set()
    assert batcher.submit(5).result(LONG_TIMEOUT) == 10
    assert calls.batches == [[0, 1, 2], [3, 4, 5]]


def test_items_wait_no_longer_than_max_wait_since_the_first(runners: Runners, calls: Calls) -> None:
    batcher = runners.start().batcher(calls.double, max_size=9, max_wait=MOMENT)
    begin = time.monotonic()
    futures = [batcher.submit(item) for item in range(3)]
    assert results(futures) == [0, 2, 4]
    assert time.monotonic() - begin >= MOMENT
    assert calls.batches == [[0, 1, 2]]


def test_no_worker_is_kept_while_items_wait_for_more(runners: Runners, calls: Calls) -> None:
    runner = runners.start()
    batcher = runner.batcher(calls.double, max_size=2, max_wait=LONG_WAIT)
    future = batcher.submit(1)
    other = runner.batcher(calls.double, max_size=2)
    assert other.queue_task(7) == 14
    assert runner.queue_task(lambda resource: resource.number) == 0
    assert not future.done()
    assert (runner.stats().queued_tasks, runner.stats().running_tasks) == (1, 0)
    assert batcher.queue_task(2) == 4
    assert future.result(LONG_TIMEOUT) == 2
    assert calls.batches == [[7], [1, 2]]


def test_an_urgent_item_ends_the_wait_and_takes_the_others_along(
    runners: Runners, calls: Calls
) -> None:
    batcher = runners.start().batcher(calls.double, max_size=9, max_wait=LONG_WAIT)
    futures = [batcher.submit(item) for item in range(2)]
    assert batcher.options(priority=Priority.HIGH).queue_task(7) == 14
    assert results(futures) == [0, 2]
    assert calls.batches == [[7, 0, 1]]


def test_stop_waits_for_nothing_more(runners: Runners, calls: Calls) -> None:
    runner = runners.start()
    batcher = runner.batcher(calls.double, max_size=9, max_wait=LONG_WAIT)
    futures = [batcher.submit(item) for item in range(3)]
    runner.stop(timeout=LONG_TIMEOUT)
    assert results(futures) == [0, 2, 4]
    assert calls.batches == [[0, 1, 2]]
    with pytest.raises(RunnerStopped):
        batcher.submit(4)


def test_items_that_wait_for_more_count_in_the_oldest_wait(runners: Runners, calls: Calls) -> None:
    runner = runners.start()
    batcher = runner.batcher(calls.double, max_size=9, max_wait=LONG_WAIT)
    batcher.submit(1)
    eventually(lambda: runner.stats().oldest_wait > 0)


def test_a_cancelled_item_is_none_of_those_that_fill_a_call(runners: Runners, calls: Calls) -> None:
    batcher = runners.start().batcher(calls.double, max_size=3, max_wait=LONG_WAIT)
    futures = [batcher.submit(item) for item in range(2)]
    assert futures[0].cancel()
    futures.append(batcher.submit(2))
    assert wait(futures[1:], MOMENT).done == set()
    futures.append(batcher.submit(3))
    assert results(futures[1:]) == [2, 4, 6]
    assert calls.batches == [[1, 2, 3]]


# ---- keys


def test_items_of_one_call_have_one_key(held: Runner[Resource], gate: Gate, calls: Calls) -> None:
    batcher = held.batcher(calls.double, max_size=9, key=lambda item: item % 3)
    futures = [batcher.submit(item) for item in range(7)]
    gate.open()
    assert results(futures) == [2 * item for item in range(7)]
    assert calls.batches == [[0, 3, 6], [1, 4], [2, 5]]


def test_key_is_asked_in_the_thread_that_submits(runners: Runners, calls: Calls) -> None:
    asked: list[int] = []
    batcher = runners.start().batcher(
        calls.double, max_size=9, key=lambda _item: asked.append(threading.get_ident())
    )
    batcher.queue_task(1)
    assert asked == [threading.get_ident()]


@pytest.mark.parametrize("key", [lambda _item: 1 // 0, lambda _item: []], ids=["raises", "list"])
def test_an_item_whose_key_fails_fails_alone_and_is_not_queued(
    runners: Runners, calls: Calls, key: Callable[[int], Any]
) -> None:
    runner = runners.start()
    batcher = runner.batcher(calls.double, max_size=9, key=key)
    assert isinstance(batcher.submit(1).exception(0), (ZeroDivisionError, TypeError))
    with pytest.raises((ZeroDivisionError, TypeError)):
        batcher.queue_task(1)

    async def ask() -> None:
        with pytest.raises((ZeroDivisionError, TypeError)):
            await batcher.asubmit(1)

    asyncio.run(ask())
    assert runner.metrics().total_tasks_arrived == 0


def test_a_busy_key_starves_no_other(runners: Runners) -> None:
    seen: list[str] = []
    rare: list[Future[None]] = []

    def refill(_resource: Resource, items: list[str]) -> list[None]:
        seen.extend(items)
        if not rare[0].done() and len(seen) < 1_000:
            busy.submit("busy")
        return [None] * len(items)

    runner = runners.start()
    busy = runner.batcher(refill, max_size=2, key=str)
    gate = Gate()
    runner.submit(gate.hold)
    futures = [busy.submit("busy") for _ in range(8)]
    rare.append(busy.submit("rare"))
    gate.open()
    results([*futures, *rare])
    assert seen.index("rare") <= 10


def test_keys_of_which_nothing_waits_are_forgotten(runners: Runners, calls: Calls) -> None:
    runner = runners.start()
    keys: list[Key] = []

    class Key:
        alive = 0

        def __init__(self) -> None:
            Key.alive += 1

        def __del__(self) -> None:
            Key.alive -= 1

    del keys
    batcher = runner.batcher(calls.double, max_size=9, key=lambda _item: Key())
    for item in range(1_000):
        batcher.queue_task(item)
    assert Key.alive < 200


# ---- results


def test_any_iterable_is_taken_for_the_results(runners: Runners) -> None:
    runner = runners.start()

    def generate(_resource: Resource, items: list[int]) -> Iterator[int]:
        current_context()
        yield from items

    for give in (generate, lambda _, items: tuple(items), lambda _, items: map(int, items)):
        assert runner.batcher(give, max_size=2).queue_task(3) == 3


@pytest.mark.parametrize("given", [[], [1, 2, 3]])
def test_another_number_of_results_fails_all_with_both_numbers(
    held: Runner[Resource], gate: Gate, given: list[int]
) -> None:
    def miscount(_resource: Resource, _items: list[int]) -> list[int]:
        return given

    batcher = held.batcher(miscount, max_size=2)
    futures = [batcher.submit(item) for item in range(2)]
    gate.open()
    for error in errors(futures):
        assert isinstance(error, ValueError)
        assert str(error).endswith(f"miscount returned {len(given)} results for 2 items")


def test_none_in_place_of_results_says_what_is_missing(runners: Runners) -> None:
    nothing: Any = lambda _, _items: None  # noqa: E731
    batcher: Batcher[int, int] = runners.start().batcher(nothing, max_size=2)
    with pytest.raises(TypeError, match="must return a result for each item, got None"):
        batcher.queue_task(1)


def test_an_exception_among_the_results_fails_its_item_alone(
    held: Runner[Resource], gate: Gate
) -> None:
    def judge(_resource: Resource, items: list[int]) -> list[int | Exception]:
        return [KeyError(item) if item == 1 else item for item in items]

    batcher = held.batcher(judge, max_size=3)
    futures = [batcher.submit(item) for item in range(3)]
    gate.open()
    assert [type(error) for error in errors(futures)] == [type(None), KeyError, type(None)]
    assert (held.metrics().total_tasks_completed, held.metrics().total_tasks_failed) == (3, 1)


def test_stop_iteration_among_the_results_is_wrapped(runners: Runners) -> None:
    def stop(_resource: Resource, items: list[int]) -> list[int | Exception]:
        return [StopIteration() for _ in items]

    batcher = runners.start().batcher(stop, max_size=2)
    with pytest.raises(RuntimeError, match="StopIteration"):
        batcher.queue_task(1)


def test_an_error_of_the_function_is_that_of_all(held: Runner[Resource], gate: Gate) -> None:
    def fail(_resource: Resource, _items: list[int]) -> list[int]:
        message = "no"
        raise LookupError(message)

    batcher = held.batcher(fail, max_size=3)
    futures = [batcher.submit(item) for item in range(3)]
    gate.open()
    first, second, third = errors(futures)
    assert isinstance(first, LookupError)
    assert first is second is third
    assert held.metrics().total_tasks_failed == 3


# ---- failures


def test_split_failed_runs_the_items_again_one_by_one(
    held: Runner[Resource], gate: Gate, calls: Calls
) -> None:
    batcher = held.batcher(calls.refuse_odd, max_size=4, split_failed=True)
    futures = [batcher.submit(item) for item in (0, 1, 2, 4)]
    gate.open()
    assert [type(error) for error in errors(futures)] == [type(None), ValueError, *[type(None)] * 2]
    assert [futures[0].result(), futures[2].result(), futures[3].result()] == [0, 4, 8]
    assert calls.batches == [[0, 1, 2, 4], [0], [1], [2], [4]]
    assert calls.attempts == [1, 2, 2, 2, 2]


def test_an_item_alone_is_not_split(runners: Runners, calls: Calls) -> None:
    batcher = runners.start().batcher(calls.refuse_odd, max_size=4, split_failed=True)
    assert isinstance(batcher.submit(1).exception(LONG_TIMEOUT), ValueError)
    assert calls.batches == [[1]]


def test_a_call_on_a_bad_resource_is_not_split_but_made_again_as_a_whole(
    runners: Runners, gate: Gate, calls: Calls
) -> None:
    runner = runners.start(check_health=is_healthy)
    runner.submit(gate.hold)
    gate.wait_for()
    batcher = runner.batcher(calls.break_on_first, max_size=4, split_failed=True)
    futures = [batcher.submit(item) for item in range(3)]
    gate.open()
    assert results(futures) == [0, 2, 4]
    assert calls.batches == [[0, 1, 2]] * 2
    assert (calls.resources, calls.attempts) == ([0, 1], [1, 2])
    assert runner.metrics().total_tasks_retried == 3


def test_the_whole_call_is_made_again_whatever_its_classes(
    runners: Runners, gate: Gate, calls: Calls
) -> None:
    runner = runners.start(check_health=is_healthy)
    runner.submit(gate.hold)
    gate.wait_for()
    batcher = runner.batcher(calls.break_on_first, max_size=4)
    futures = [batcher.options(priority=priority).submit(priority) for priority in Priority]
    gate.open()
    assert results(futures) == [0, 2, 4]
    assert [sorted(batch) for batch in calls.batches] == [[0, 1, 2]] * 2


def test_items_that_must_not_run_twice_get_the_error_of_a_bad_resource(
    runners: Runners, gate: Gate, calls: Calls
) -> None:
    runner = runners.start(check_health=is_healthy)
    runner.submit(gate.hold)
    gate.wait_for()
    batcher = runner.options(once=True).batcher(calls.break_on_first, max_size=4)
    futures = [batcher.submit(item) for item in range(3)]
    futures.append(batcher.options(name="same").submit(3))
    gate.open()
    assert [type(error) for error in errors(futures)] == [Broken] * 4
    assert calls.batches == [[0, 1, 2, 3]]
    assert runner.batcher(calls.double, max_size=1).queue_task(1) == 2
    assert calls.resources == [0, 1]


def test_retries_end_with_max_retries(runners: Runners, gate: Gate) -> None:
    def fail(_resource: Resource, _items: list[int]) -> list[int]:
        raise Broken

    runner = runners.start(check_health=is_healthy, max_retries=2)
    runner.submit(gate.hold)
    gate.wait_for()
    batcher = runner.batcher(fail, max_size=4)
    futures = [batcher.submit(item) for item in range(2)]
    gate.open()
    for error in errors(futures):
        assert isinstance(error, Broken)
        assert error.__notes__ == ["tasker gave up after 3 attempts, each on another resource"]
    assert runner.metrics().total_tasks_retried == 4


def test_is_broken_is_asked_once_for_a_call(runners: Runners, gate: Gate) -> None:
    asked: list[BaseException] = []

    def is_broken(_resource: Resource, error: BaseException) -> bool:
        asked.append(error)
        return False

    def fail(_resource: Resource, _items: list[int]) -> list[int]:
        raise LookupError

    runner = runners.start(is_broken=is_broken)
    runner.submit(gate.hold)
    gate.wait_for()
    batcher = runner.batcher(fail, max_size=4)
    futures = [batcher.submit(item) for item in range(3)]
    gate.open()
    assert [type(error) for error in errors(futures)] == [LookupError] * 3
    assert len(asked) == 1


def test_an_item_that_is_told_to_give_up_is_not_tried_again(
    runners: Runners, gate: Gate, calls: Calls
) -> None:
    def break_down(resource: Resource, items: list[int]) -> list[int]:
        calls.double(resource, items)
        if resource.number == 0:
            gate.hold()
            raise Broken
        return items

    runner = runners.start(check_health=is_healthy)
    batcher = runner.batcher(break_down, max_size=2, max_wait=LONG_WAIT)
    futures = [batcher.submit(item) for item in range(2)]
    gate.wait_for()
    assert futures[0].request_cancel()
    gate.open()
    assert isinstance(futures[0].exception(LONG_TIMEOUT), Broken)
    assert futures[1].result(LONG_TIMEOUT) == 1
    assert calls.batches == [[0, 1], [1]]


# ---- giving up


def test_an_item_cancelled_before_the_call_is_left_out(
    held: Runner[Resource], gate: Gate, calls: Calls
) -> None:
    batcher = held.batcher(calls.double, max_size=4)
    futures = [batcher.submit(item) for item in range(4)]
    assert futures[0].cancel()
    assert futures[2].cancel()
    gate.open()
    assert results([futures[1], futures[3]]) == [2, 6]
    assert calls.batches == [[1, 3]]
    assert held.metrics().total_tasks_cancelled == 2


def test_an_item_whose_limit_passes_before_the_call_is_left_out(
    held: Runner[Resource], gate: Gate, calls: Calls
) -> None:
    batcher = held.batcher(calls.double, max_size=4)
    late = batcher.options(timeout=0.001).submit(0)
    future = batcher.submit(1)
    assert isinstance(late.exception(LONG_TIMEOUT), TaskTimeout)
    gate.open()
    assert future.result(LONG_TIMEOUT) == 2
    assert calls.batches == [[1]]


def test_one_items_limit_passes_while_the_others_run_on(runners: Runners, gate: Gate) -> None:
    def run(_resource: Resource, items: list[int]) -> list[int]:
        gate.hold()
        return items

    runner = runners.start()
    batcher = runner.batcher(run, max_size=2, max_wait=LONG_WAIT)
    futures = [batcher.options(timeout=MOMENT).submit(0), batcher.submit(1)]
    gate.wait_for()
    assert isinstance(futures[0].exception(LONG_TIMEOUT), TaskTimeout)
    assert not futures[1].done()
    assert runner.stats().overdue_tasks == 1
    gate.open()
    assert futures[1].result(LONG_TIMEOUT) == 1
    eventually(lambda: runner.stats().overdue_tasks == 0)
    assert runner.metrics().total_tasks_timed_out == 1


def test_the_context_is_cancelled_when_all_items_are(runners: Runners, gate: Gate) -> None:
    cancelled: list[bool] = []

    def run(_resource: Resource, items: list[int]) -> list[int]:
        context = current_context()
        gate.hold()
        cancelled.append(context.cancelled)
        context.wait(LONG_TIMEOUT)
        cancelled.append(context.cancelled)
        context.check()
        return items

    batcher = runners.start().batcher(run, max_size=2, max_wait=LONG_WAIT)
    futures = [batcher.submit(item) for item in range(2)]
    gate.wait_for()
    futures[0].request_cancel()
    gate.open()
    eventually(lambda: cancelled)
    futures[1].request_cancel("enough")
    for error in errors(futures):
        assert isinstance(error, TaskCancelled)
        assert str(error) == "enough"
    assert cancelled == [False, True]


def test_an_outcome_given_by_hand_counts_as_giving_up(runners: Runners, gate: Gate) -> None:
    def run(_resource: Resource, items: list[int]) -> list[int]:
        gate.hold()
        assert current_context().wait(LONG_TIMEOUT)
        return items

    batcher = runners.start().batcher(run, max_size=2, max_wait=LONG_WAIT)
    futures = [batcher.submit(item) for item in range(2)]
    gate.wait_for()
    futures[0].set_result(7)
    futures[1].request_cancel()
    gate.open()
    assert results(futures) == [7, 1]


def test_on_cancel_ends_a_call_that_all_gave_up(runners: Runners, gate: Gate) -> None:
    interrupted = threading.Event()

    def run(_resource: Resource, items: list[int]) -> list[int]:
        gate.hold()
        assert interrupted.wait(LONG_TIMEOUT)
        return items

    runner = runners.start(on_cancel=lambda _: interrupted.set())
    batcher = runner.batcher(run, max_size=2, max_wait=LONG_WAIT)
    futures = [batcher.options(timeout=MOMENT).submit(item) for item in range(2)]
    gate.wait_for()
    gate.open()
    assert [type(error) for error in errors(futures)] == [TaskTimeout] * 2
    assert interrupted.wait(LONG_TIMEOUT)


def test_a_worker_is_overdue_when_all_its_items_are(runners: Runners) -> None:
    gate, other = Gate(), Gate()

    def run(_resource: Resource, items: list[int]) -> list[int]:
        gate.hold()
        return items

    runner = runners.start(max_worker_count=2)
    batcher = runner.batcher(run, max_size=2, max_wait=LONG_WAIT)
    futures = [batcher.options(timeout=limit).submit(1) for limit in (MOMENT, MOMENT * 2)]
    errors(futures)
    # A substitute comes, since the call of the overdue items goes on.
    runner.submit(other.hold)
    other.wait_for()
    gate.open()
    other.open()


def test_kill_hands_back_what_never_ran_and_it_can_be_submitted_again(
    runners: Runners, gate: Gate, calls: Calls
) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    batcher = runner.batcher(calls.double, max_size=4, max_wait=LONG_WAIT, key=lambda x: x % 2)
    named = batcher.options(name="third", priority=Priority.HIGH, timeout=LONG_TIMEOUT)
    futures = [batcher.submit(0), batcher.submit(2), named.submit(4)]
    killed = Call(runner.kill)
    eventually(lambda: runner.state == "killed")
    assert [type(error) for error in errors(futures)] == [TaskCancelled] * 3
    gate.open()
    dropped = killed.result()
    assert [task.args for task in dropped] == [(4,), (0,), (2,)]
    assert (dropped[0].name, dropped[0].priority) == ("third", Priority.HIGH)
    other = runners.start()
    barred = Gate()
    other.submit(barred.hold)
    barred.wait_for()
    again = [task.submit_to(other) for task in dropped]
    barred.open()
    assert results(again) == [8, 0, 4]
    assert calls.batches == [[4, 0, 2]]


def test_a_dropped_item_is_also_a_task_by_itself(
    held: Runner[Resource], gate: Gate, calls: Calls
) -> None:
    held.batcher(calls.double, max_size=4).submit(3)
    (dropped,) = held.cancel_queued()
    gate.open()
    assert held.queue_task(dropped.fn, *dropped.args) == 6
    assert "double" in repr(dropped.fn)


def test_cancel_queued_takes_items_that_wait_for_more(runners: Runners, calls: Calls) -> None:
    runner = runners.start()
    batcher = runner.batcher(calls.double, max_size=4, max_wait=LONG_WAIT)
    futures = [batcher.submit(item) for item in range(3)]
    dropped = runner.cancel_queued("not now")
    assert [task.args for task in dropped] == [(0,), (1,), (2,)]
    assert [type(error) for error in errors(futures)] == [TaskCancelled] * 3
    assert batcher.options(priority=Priority.HIGH).queue_task(5) == 10
    assert calls.batches == [[5]]


def test_kill_tells_a_running_call_to_give_up(runners: Runners, gate: Gate) -> None:
    def run(_resource: Resource, items: list[int]) -> list[int]:
        gate.hold()
        assert current_context().wait(LONG_TIMEOUT)
        return items

    runner = runners.start()
    batcher = runner.batcher(run, max_size=2, max_wait=LONG_WAIT)
    futures = [batcher.submit(item) for item in range(2)]
    gate.wait_for()
    gate.open()
    runner.kill(timeout=LONG_TIMEOUT)
    assert results(futures) == [0, 1]


# ---- what a call sees and counts


def test_the_function_has_a_context_of_its_own(held: Runner[Resource], gate: Gate) -> None:
    variable = contextvars.ContextVar("variable", default="none")
    seen: list[str] = []

    def look(_resource: Resource, items: list[int]) -> list[int]:
        seen.append(variable.get())
        variable.set("the call's")
        return items

    batcher = held.batcher(look, max_size=2)
    variable.set("the submitter's")
    futures = [batcher.submit(item) for item in range(4)]
    gate.open()
    results(futures)
    assert seen == ["none", "none"]


def test_a_call_counts_each_item_and_wears_the_resource_once(
    runners: Runners, gate: Gate, calls: Calls
) -> None:
    runner = runners.start(max_tasks_per_resource=2)
    runner.submit(gate.hold)
    gate.wait_for()
    batcher = runner.batcher(calls.double, max_size=4)
    futures = [batcher.submit(item) for item in range(12)]
    assert runner.stats().queued_tasks == 12
    gate.open()
    results(futures)
    eventually(lambda: runner.stats().running_tasks == 0)
    metrics = runner.metrics()
    assert (metrics.total_tasks_arrived, metrics.total_tasks_completed) == (13, 13)
    assert calls.resources == [0, 1, 1]
    name = next(name for name in metrics.by_task if name.endswith("double"))
    assert metrics.by_task[name].completed == 12
    assert metrics.execution.count == 13


def test_max_queue_size_counts_items(runners: Runners, gate: Gate, calls: Calls) -> None:
    runner = runners.start(max_queue_size=2, when_full="raise")
    runner.submit(gate.hold)
    gate.wait_for()
    batcher = runner.batcher(calls.double, max_size=8, max_wait=LONG_WAIT)
    futures = [batcher.submit(item) for item in range(2)]
    with pytest.raises(QueueFull, match="max_queue_size=2"):
        batcher.submit(2)
    gate.open()
    assert wait(futures, MOMENT).done == set()
    runner.stop(timeout=LONG_TIMEOUT)
    assert results(futures) == [0, 2]


def test_a_bound_of_one_item_lets_one_in_after_the_other(runners: Runners, calls: Calls) -> None:
    batcher = runners.start(max_queue_size=1).batcher(calls.double, max_size=8)
    assert sorted(call.result() for call in at_once(8, lambda: batcher.queue_task(1))) == [2] * 8
    assert max(map(len, calls.batches)) <= 2


def test_one_task_of_a_call_is_shown_for_its_worker(runners: Runners, gate: Gate) -> None:
    def hold(_resource: Resource, items: list[int]) -> list[int]:
        gate.hold()
        return items

    runner = runners.start()
    batcher = runner.batcher(hold, max_size=2, max_wait=LONG_WAIT).options(name="both")
    futures = [batcher.submit(item) for item in range(2)]
    gate.wait_for()
    (worker,) = runner.workers()
    assert worker.task is not None
    assert worker.task.name == "both"
    assert runner.stats().running_tasks == 2
    gate.open()
    results(futures)


def test_events_tell_of_each_item(runners: Runners, calls: Calls) -> None:
    told: list[tuple[str, int, int]] = []
    runner = runners.start(
        on_event=lambda event: told.append((event.kind, event.task_id, event.attempt))
    )
    batcher = runner.batcher(calls.double, max_size=2, max_wait=LONG_WAIT)
    results([batcher.submit(item) for item in range(2)])
    runner.stop(timeout=LONG_TIMEOUT)
    assert sorted(told) == [
        ("arrived", 1, 0),
        ("arrived", 2, 0),
        ("completed", 1, 1),
        ("completed", 2, 1),
    ]


def test_a_worker_that_waits_for_an_item_runs_it_itself(runners: Runners, calls: Calls) -> None:
    runner = runners.start()
    batcher = runner.batcher(calls.double, max_size=9, max_wait=LONG_WAIT)
    left = batcher.submit(1)

    def ask(_resource: Resource) -> int:
        return batcher.queue_task(2) + batcher.submit(3).result()

    assert runner.queue_task(ask) == 10
    assert calls.batches == [[2], [3]]
    assert batcher.options(priority=Priority.HIGH).queue_task(4) == 8
    assert left.result(LONG_TIMEOUT) == 2
    assert calls.batches[2:] == [[4, 1]]


def test_asubmit_gives_coroutines_their_results(runners: Runners, calls: Calls) -> None:
    batcher = runners.start().batcher(calls.double, max_size=8, max_wait=LONG_WAIT)

    async def ask() -> list[int]:
        return await asyncio.gather(*(batcher.asubmit(item) for item in range(8)))

    assert asyncio.run(ask()) == [2 * item for item in range(8)]
    assert calls.batches == [list(range(8))]


def test_a_cancelled_coroutine_leaves_its_item_out(runners: Runners, calls: Calls) -> None:
    batcher = runners.start().batcher(calls.double, max_size=8, max_wait=LONG_WAIT)

    async def ask() -> int:
        promise = batcher.asubmit(1)
        promise.cancel()
        await asyncio.sleep(0)
        return await batcher.options(priority=Priority.HIGH).asubmit(2)

    assert asyncio.run(ask()) == 4
    assert calls.batches == [[2]]


def test_asubmit_waits_for_room_without_blocking_the_loop(
    runners: Runners, gate: Gate, calls: Calls
) -> None:
    runner = runners.start(max_queue_size=1)
    runner.submit(gate.hold)
    gate.wait_for()
    batcher = runner.batcher(calls.double, max_size=8)

    async def ask() -> list[int]:
        promises = [batcher.asubmit(item) for item in range(4)]
        gate.open()
        return await asyncio.gather(*promises)

    assert asyncio.run(ask()) == [0, 2, 4, 6]


# ---- map


def test_map_makes_full_calls_and_gives_the_results_in_order(
    runners: Runners, calls: Calls
) -> None:
    batcher = runners.start().batcher(calls.double, max_size=4, max_wait=LONG_WAIT)
    assert list(batcher.map(range(10))) == [2 * item for item in range(10)]
    assert calls.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_map_reads_no_further_ahead_than_it_may(runners: Runners, calls: Calls) -> None:
    batcher = runners.start().batcher(calls.double, max_size=4)
    with batcher.map(itertools.count(), buffersize=3) as results:
        assert list(itertools.islice(results, 10)) == [2 * item for item in range(10)]
    assert max(map(len, calls.batches)) <= 3


def test_map_gives_results_as_they_come(runners: Runners, calls: Calls) -> None:
    batcher = runners.start(worker_count=2).batcher(calls.double, max_size=4)
    assert sorted(batcher.map(range(100), ordered=False)) == [2 * item for item in range(100)]
    assert sum(map(len, calls.batches)) == 100


def test_map_counts_items_and_wears_the_resource_once_a_call(
    runners: Runners, calls: Calls
) -> None:
    runner = runners.start(max_tasks_per_resource=2)
    assert len(list(runner.batcher(calls.double, max_size=4).map(range(16)))) == 16
    metrics = runner.metrics()
    assert (metrics.total_tasks_arrived, metrics.total_tasks_completed) == (16, 16)
    assert calls.resources == [0, 0, 1, 1]


def test_an_exception_among_the_results_ends_a_map_at_its_place(runners: Runners) -> None:
    def judge(_resource: Resource, items: list[int]) -> list[int | Exception]:
        return [KeyError(item) if item == 2 else item for item in items]

    runner = runners.start()
    results = runner.batcher(judge, max_size=4).map(range(4))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError) as caught:
        next(results)
    assert caught.value.__notes__ == ["tasker: raised for the item at index 2"]
    assert list(results) == []
    assert (runner.metrics().total_tasks_completed, runner.metrics().total_tasks_failed) == (3, 1)


def test_an_error_of_the_function_ends_a_map(runners: Runners, calls: Calls) -> None:
    batcher = runners.start().batcher(calls.refuse_odd, max_size=4)
    with pytest.raises(ValueError, match="1 is odd"):
        list(batcher.map(range(4)))
    assert calls.batches == [[0, 1, 2, 3]]


def test_split_failed_holds_for_a_map(runners: Runners, calls: Calls) -> None:
    batcher = runners.start().batcher(calls.refuse_odd, max_size=4, split_failed=True)
    results = batcher.map([0, 2, 3, 4])
    assert [next(results), next(results)] == [0, 4]
    with pytest.raises(ValueError, match="3 is odd"):
        next(results)
    assert calls.batches[:2] == [[0, 2, 3, 4], [0]]


def test_a_call_of_a_map_on_a_bad_resource_is_made_again_as_a_whole(
    runners: Runners, calls: Calls
) -> None:
    runner = runners.start(check_health=is_healthy)
    batcher = runner.batcher(calls.break_on_first, max_size=4)
    assert list(batcher.map(range(4))) == [0, 2, 4, 6]
    assert calls.batches == [[0, 1, 2, 3]] * 2
    assert (calls.resources, calls.attempts) == ([0, 1], [1, 2])


@pytest.mark.parametrize("options", [{"timeout": LONG_TIMEOUT}, {}], ids=["limit", "key"])
def test_items_of_a_map_with_a_limit_or_a_key_meet_others(
    held: Runner[Resource], gate: Gate, calls: Calls, options: dict[str, Any]
) -> None:
    key = None if options else lambda item: item % 2
    batcher = held.batcher(calls.double, max_size=2, key=key).options(**options)
    results = batcher.map(range(4))
    gate.open()
    assert list(results) == [0, 2, 4, 6]
    assert calls.batches == ([[0, 1], [2, 3]] if options else [[0, 2], [1, 3]])


def test_a_key_that_raises_ends_a_map_at_its_place(runners: Runners, calls: Calls) -> None:
    batcher = runners.start().batcher(calls.double, max_size=2, key=lambda item: 1 // (2 - item))
    results = batcher.map(range(4))
    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_a_map_tells_a_running_call(runners: Runners, gate: Gate) -> None:
    told = threading.Event()

    def wait_for_it(_resource: Resource, items: list[int]) -> list[int]:
        gate.hold()
        if current_context().wait(LONG_TIMEOUT):
            told.set()
        return items

    runner = runners.start()
    results = runner.batcher(wait_for_it, max_size=2).map(range(8))
    gate.wait_for()
    gate.open()
    runner.kill(timeout=LONG_TIMEOUT)
    assert told.is_set()
    results.close()


def test_kill_hands_back_items_of_a_map_that_can_be_submitted_again(
    held: Runner[Resource], runners: Runners, gate: Gate, calls: Calls
) -> None:
    mapped = held.batcher(calls.double, max_size=2).map(range(4))
    dropped = [task for task in held.cancel_queued() if task.args]
    assert [task.args for task in dropped] == [(0,), (1,), (2,), (3,)]
    with pytest.raises(TaskCancelled):
        next(mapped)
    gate.open()
    other = runners.start()
    assert sorted(results([task.submit_to(other) for task in dropped])) == [0, 2, 4, 6]


def test_amap_gives_results_to_coroutines(runners: Runners, calls: Calls) -> None:
    batcher = runners.start().batcher(calls.double, max_size=4)

    async def ask() -> list[int]:
        return [result async for result in batcher.amap(range(10))]

    assert asyncio.run(ask()) == [2 * item for item in range(10)]
    assert max(map(len, calls.batches)) <= 4


def test_wrong_arguments_of_a_map_are_refused(runners: Runners, calls: Calls) -> None:
    batcher = runners.start().batcher(calls.double, max_size=4)
    for method in (batcher.map, batcher.amap):
        with pytest.raises(ConfigError, match="buffersize"):
            method([], buffersize=0)
        with pytest.raises(ConfigError, match="ordered"):
            method([], ordered=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        batcher.map(7)  # type: ignore[arg-type]


# ---- making one


def test_a_function_that_a_call_would_not_run_is_refused(runners: Runners) -> None:
    runner = runners.start()

    async def coroutine(_resource: Resource, items: list[int]) -> list[int]:
        return items

    for fn in (coroutine, 7):
        with pytest.raises(TypeError, match="a task must be"):
            runner.batcher(fn, max_size=2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_size", 0),
        ("max_size", 2.5),
        ("max_wait", -1),
        ("max_wait", float("nan")),
        ("key", 7),
        ("split_failed", 1),
    ],
)
def test_wrong_settings_name_the_field_and_the_value(
    runners: Runners, calls: Calls, field: str, value: object
) -> None:
    settings: dict[str, Any] = {"max_size": 2, field: value}
    with pytest.raises(ConfigError, match=f"{field} must be .*, got {value}"):
        runners.start().batcher(calls.double, **settings)


def test_split_failed_is_refused_where_items_run_once(runners: Runners, calls: Calls) -> None:
    once = runners.start().options(once=True)
    with pytest.raises(ConfigError, match="split_failed"):
        once.batcher(calls.double, max_size=2, split_failed=True)


def test_a_view_gives_its_options_to_its_batchers(runners: Runners, gate: Gate) -> None:
    def name(_resource: Resource, items: list[int]) -> list[str]:
        return [current_context().task_name] * len(items)

    view = runners.start().options(name="of the view")
    batcher = view.batcher(name, max_size=2)
    assert batcher.queue_task(1) == "of the view"
    assert batcher.options(name="its own").queue_task(1) == "its own"
    assert isinstance(batcher, Batcher)
    assert repr(batcher).endswith("': of the view>")


# ---- ends


def test_many_threads_get_each_its_own_result(runners: Runners, calls: Calls) -> None:
    runner = runners.start(worker_count=3)
    batcher = runner.batcher(calls.double, max_size=16, max_wait=0.001)

    def client() -> bool:
        return all(batcher.queue_task(item) == 2 * item for item in range(50))

    assert all(call.result() for call in at_once(8, client))
    assert sum(map(len, calls.batches)) == 400
    assert max(map(len, calls.batches)) <= 16


def test_threads_that_stop_waiting_keep_no_other_from_its_result(
    runners: Runners, calls: Calls
) -> None:
    runner = runners.start(worker_count=1)
    batcher = runner.batcher(calls.double, max_size=24, max_wait=0.002)

    def client() -> int:
        missed = 0
        for item in range(60):
            future = batcher.submit(item)
            try:
                # About as long as a call takes to be made.
                result = future.result(timeout=0.0001 * (item % 40))
            except TimeoutError:
                missed += 1
                result = future.result()
            assert result == 2 * item
        return missed

    assert sum(call.result() for call in at_once(24, client)) > 0
    assert sum(map(len, calls.batches)) == 24 * 60


def test_a_thread_that_computes_keeps_no_other_from_its_result(
    runners: Runners, calls: Calls
) -> None:
    runner = runners.start(worker_count=1)
    batcher = runner.batcher(calls.double, max_size=16, max_wait=LONG_WAIT)
    back: list[int] = []

    def client() -> int:
        result = batcher.queue_task(1)
        back.append(result)
        for _ in endless():
            if len(back) == 16:
                break
        return result

    assert [call.result() for call in at_once(16, client)] == [2] * 16


def test_cancelled_items_are_let_go(held: Runner[Resource], gate: Gate, calls: Calls) -> None:
    class Item:
        alive = 0

        def __init__(self) -> None:
            Item.alive += 1

        def __del__(self) -> None:
            Item.alive -= 1

    batcher: Batcher[Item, int] = held.batcher(lambda _, items: [0 for _ in items], max_size=4)
    futures = [batcher.submit(Item()) for _ in range(100)]
    assert all(future.cancel() for future in futures)
    del futures
    eventually(lambda: Item.alive == 0)
    gate.open()
    assert batcher.queue_task(Item()) == 0


def test_what_ends_while_it_waits_for_more_is_let_go(runners: Runners) -> None:
    class Result:
        pass

    def make(_resource: Resource, items: list[int]) -> list[Result]:
        return [Result() for _ in items]

    batcher = runners.start().batcher(make, max_size=1_000, max_wait=LONG_WAIT)
    futures = [batcher.submit(item) for item in range(100)]
    things: list[weakref.ref[Any]] = [weakref.ref(future) for future in futures]
    assert all(future.cancel() for future in futures)
    del futures
    # A worker that waits for an item runs it itself.
    things.append(batcher.runner.queue_task(lambda _: weakref.ref(batcher.queue_task(0))))
    eventually(lambda: not any(thing() for thing in things))
    assert batcher.runner.stats().queued_tasks == 0


def test_a_batcher_whose_items_went_to_another_runner_is_let_go(
    runners: Runners, held: Runner[Resource], gate: Gate
) -> None:
    class Double:
        def __call__(self, _resource: Resource, items: list[int]) -> list[int]:
            return [2 * item for item in items]

    double = Double()
    batcher = held.batcher(double, max_size=4)
    for item in range(4):
        batcher.submit(item)
    dropped = held.cancel_queued()
    other = runners.start()
    assert results([task.submit_to(other) for task in dropped]) == [0, 2, 4, 6]
    things = [weakref.ref(double)]
    del double, batcher, dropped
    gate.open()

    def is_let_go() -> bool:
        gc.collect()
        return things[0]() is None

    eventually(is_let_go)
    assert other.queue_task(lambda resource: resource.number) >= 0


def test_a_batcher_that_is_dropped_leaves_its_items_to_the_runner(
    held: Runner[Resource], gate: Gate, calls: Calls
) -> None:
    future = held.batcher(calls.double, max_size=4).submit(2)
    gate.open()
    assert future.result(LONG_TIMEOUT) == 4


def test_items_that_wait_for_more_fail_fast_too(runners: Runners, calls: Calls) -> None:
    is_down = threading.Event()

    def create() -> Resource:
        if is_down.is_set():
            raise ConnectionError
        return runners.factory.create()

    def break_down(_resource: Resource) -> None:
        is_down.set()
        raise Broken

    runner = runners.start(
        on_create=create,
        check_health=is_healthy,
        max_retries=0,
        fail_fast_after=MOMENT,
        logger=None,
    )
    batcher = runner.batcher(calls.double, max_size=9, max_wait=LONG_WAIT)
    future = batcher.submit(1)
    assert isinstance(runner.submit(break_down).exception(LONG_TIMEOUT), Broken)
    assert isinstance(future.exception(LONG_TIMEOUT), ResourceCreationError)
    assert isinstance(batcher.submit(2).exception(LONG_TIMEOUT), ResourceCreationError)
    is_down.clear()


def test_an_error_that_nobody_asked_for_is_logged(runners: Runners, log: LogCapture) -> None:
    def fail(_resource: Resource, _items: list[int]) -> list[int]:
        raise LookupError

    runner = runners.start()
    batcher = runner.batcher(fail, max_size=2)
    batcher.submit(1)
    runner.stop(timeout=LONG_TIMEOUT)
    (record,) = log.take()
    assert "failed and nobody looked" in record.getMessage()
