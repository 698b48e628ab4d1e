"""Tasks that run in order by key: what a runner and its double promise alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from tasker import (
    ConfigError,
    DroppedTask,
    Priority,
    QueueFull,
    Retry,
    TaskCancelled,
    TaskTimeout,
)
from tests.behaviour.support import AnyRunner, Bench
from tests.native.support import LONG_TIMEOUT, Broken, Call, Resource, Runners, is_healthy

Event = tuple[str, int]


class Events:
    """A task function that notes the events of accounts, and views that run them in order."""

    def __init__(self, runner: AnyRunner) -> None:
        self.applied: list[Event] = []
        self.views = {
            priority: runner.options(key=lambda account, _: account, serial=True, priority=priority)
            for priority in Priority
        }
        self.runner = runner

    def apply(self, _resource: Resource, account: str, number: int) -> Event:
        self.applied.append((account, number))
        return account, number

    def submit(self, account: str, number: int, priority: Priority = Priority.NORMAL) -> Any:
        return self.views[priority].submit(self.apply, account, number)


def test_serial_needs_a_key_and_is_a_bool(bench: Bench) -> None:
    runner, one = bench.start(), cast("Any", 1)
    with pytest.raises(ConfigError, match=r"^serial=True needs a key: key=lambda"):
        runner.options(serial=True)
    with pytest.raises(ConfigError, match=r"^serial must be a bool, got 1"):
        runner.options(key=lambda: 1, serial=one)


def test_a_view_says_that_its_tasks_run_in_order(runners: Runners) -> None:
    view = runners.start().options(key=len, serial=True)
    assert repr(view).endswith(": key=len, serial=True>")


def test_run_task_takes_no_serial_key(bench: Bench) -> None:
    with pytest.raises(ConfigError, match=r"^run_task\(\) takes no key"):
        bench.start().options(key=lambda: 1, serial=True).run_task(lambda _: None)


def test_order_beats_priority_within_a_key(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    events = Events(runner)
    classes = [Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.LOW, Priority.NORMAL]
    tasks = [events.submit("acme", number, each) for number, each in enumerate(classes)]
    let_run()
    assert [task.result(LONG_TIMEOUT) for task in tasks] == [("acme", n) for n in range(5)]
    assert events.applied == [("acme", number) for number in range(5)]


def test_a_key_waits_in_the_highest_class_of_what_waits_in_it(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    events = Events(runner)
    tasks = [
        events.submit("slow", 0, Priority.NORMAL),
        events.submit("acme", 0, Priority.LOW),
        events.submit("acme", 1, Priority.HIGH),
        events.submit("acme", 2, Priority.LOW),
        events.submit("slow", 1, Priority.NORMAL),
    ]
    let_run()
    for task in tasks:
        task.result(LONG_TIMEOUT)
    order = [("acme", 0), ("acme", 1), ("slow", 0), ("slow", 1), ("acme", 2)]
    assert events.applied == order
    metrics = runner.metrics()
    assert metrics.total_tasks_completed == len(order) + (0 if bench.is_inline else 1)


async def awaited(events: Events) -> list[Event]:
    view = events.views[Priority.NORMAL]
    return list(await asyncio.gather(*(view.asubmit(events.apply, "a", n) for n in range(20))))


async def streamed(events: Events) -> list[Event]:
    view = events.views[Priority.NORMAL]
    return [event async for event in view.amap(events.apply, ["a"] * 20, range(20))]


VERBS: dict[str, Callable[[Events], object]] = {
    "queue_task": lambda it: [
        it.views[Priority.NORMAL].queue_task(it.apply, "a", n) for n in range(20)
    ],
    "submit": lambda it: [it.submit("a", n) for n in range(20)],
    "asubmit": lambda it: asyncio.run(awaited(it)),
    "map": lambda it: list(it.views[Priority.NORMAL].map(it.apply, ["a"] * 20, range(20))),
    "amap": lambda it: asyncio.run(streamed(it)),
    "unordered map": lambda it: list(
        it.views[Priority.NORMAL].map(it.apply, ["a"] * 20, range(20), ordered=False)
    ),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_every_verb_keeps_the_order(bench: Bench, verb: Callable[[Events], object]) -> None:
    fields = {} if bench.is_inline else {"worker_count": 3}
    runner = bench.start(**fields)
    events = Events(runner)
    verb(events)
    events.submit("a", 20).result(LONG_TIMEOUT)
    assert events.applied == [("a", number) for number in range(21)]


def test_submit_many_keeps_the_order_of_each_key(bench: Bench) -> None:
    applied: list[int] = []
    fields = {} if bench.is_inline else {"worker_count": 3}
    view = bench.start(**fields).options(key=lambda item: item % 3, serial=True)
    for task in view.submit_many(lambda _, item: applied.append(item), range(60)):
        task.result(LONG_TIMEOUT)
    for key in range(3):
        of_key = [item for item in applied if item % 3 == key]
        assert of_key == list(range(key, 60, 3))


def test_what_was_cancelled_is_skipped(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    events = Events(runner)
    tasks = [events.submit("acme", number) for number in range(6)]
    for number in (0, 2, 3, 5):
        assert tasks[number].cancel()
    let_run()
    for number in (1, 4):
        tasks[number].result(LONG_TIMEOUT)
    assert events.applied == [("acme", 1), ("acme", 4)]
    assert runner.metrics().total_tasks_cancelled == 4
    assert events.submit("acme", 6).result(LONG_TIMEOUT) == ("acme", 6)


def test_what_has_timed_out_is_skipped(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    events = Events(runner)
    view = runner.options(timeout=0, key=lambda account, _: account, serial=True)
    late = [view.submit(events.apply, "acme", n) for n in range(3)]
    last = events.submit("acme", 3)
    let_run()
    for task in late:
        with pytest.raises(TaskTimeout):
            task.result(LONG_TIMEOUT)
    assert last.result(LONG_TIMEOUT) == ("acme", 3)
    assert events.applied == [("acme", 3)]


def test_an_error_ends_a_task_and_not_its_key(bench: Bench) -> None:
    view = bench.start().options(key=lambda *_args: "acme", serial=True)
    failed = view.submit(lambda _: 1 // 0)
    assert view.submit(lambda _: 7).result(LONG_TIMEOUT) == 7
    with pytest.raises(ZeroDivisionError):
        failed.result(LONG_TIMEOUT)


@pytest.mark.parametrize("kind", ["resource", "own", "own at once"])
def test_a_retry_comes_before_what_was_submitted_later(bench: Bench, kind: str) -> None:
    wait = 0.0 if kind == "own at once" else 0.01
    runner = bench.start(check_health=is_healthy, retry=Retry(on=LookupError, wait=wait))
    error = Broken if kind == "resource" else LookupError
    entered: list[int] = []

    def apply(_resource: Resource, number: int) -> None:
        entered.append(number)
        if entered.count(number) < 3:
            raise error

    view = runner.options(key=lambda _: "acme", serial=True)
    for task in view.submit_many(apply, range(3)):
        task.result(LONG_TIMEOUT)
    assert entered == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_what_a_task_submits_of_its_key_comes_after_it(bench: Bench) -> None:
    runner = bench.start()
    events = Events(runner)
    later: list[Any] = []
    view = events.views[Priority.NORMAL]

    def apply(_resource: Resource, account: str, number: int) -> None:
        later.append(events.submit(account, number + 1))
        events.applied.append((account, number))

    view.submit(apply, "acme", 1).result(LONG_TIMEOUT)
    later[0].result(LONG_TIMEOUT)
    assert events.applied == [("acme", 1), ("acme", 2)]


BEHIND = "^a task must not wait without a limit for one that runs in order"


@pytest.mark.parametrize("bound", [None, 10])
def test_a_task_that_waits_for_a_later_one_of_its_key_is_told_so(
    bench: Bench, bound: int | None
) -> None:
    view = bench.start(max_queue_size=bound).options(key=lambda *_args: "acme", serial=True)
    outcome = view.submit(lambda _: view.queue_task(lambda _: 7))
    with pytest.raises(RuntimeError, match=BEHIND):
        outcome.result(LONG_TIMEOUT)


def test_a_task_that_reads_a_map_of_its_key_is_told_so(bench: Bench) -> None:
    view = bench.start().options(key=lambda *_args: "acme", serial=True)
    outcome = view.submit(lambda _: list(view.map(lambda _, item: item, [1, 2])))
    with pytest.raises(RuntimeError, match=BEHIND):
        outcome.result(LONG_TIMEOUT)


def test_a_task_may_wait_for_the_next_one_of_another_key(bench: Bench) -> None:
    view = bench.start().options(key=lambda key: key, serial=True)

    def inner(_resource: Resource, key: str) -> str:
        return key

    def outer(_resource: Resource, _key: str) -> list[str]:
        return [view.queue_task(inner, "globex"), *view.map(inner, ["globex", "initech"] * 3)]

    assert view.queue_task(outer, "acme") == ["globex"] + ["globex", "initech"] * 3


def test_what_cancel_queued_hands_back_runs_in_order_again(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    events = Events(runner)
    tasks = [
        events.submit(account, n, each)
        for n, each in enumerate(Priority)
        for account in ("acme", "globex")
    ]
    dropped = runner.cancel_queued()
    let_run()
    check_dropped(bench, events, dropped)
    for task in tasks:
        with pytest.raises(TaskCancelled):
            task.result(LONG_TIMEOUT)
    assert runner.metrics().total_tasks_dropped == 6
    assert events.submit("acme", 9).result(LONG_TIMEOUT) == ("acme", 9)


def test_what_kill_hands_back_runs_in_order_again(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    events = Events(runner)
    tasks = [
        events.submit(account, n, each)
        for n, each in enumerate(Priority)
        for account in ("acme", "globex")
    ]
    ending = Call(runner.kill) if not bench.is_inline else None
    dropped = runner.kill() if ending is None else []
    for task in tasks:
        with pytest.raises(TaskCancelled):
            task.result(LONG_TIMEOUT)
    let_run()
    check_dropped(bench, events, dropped if ending is None else ending.result())


def check_dropped(bench: Bench, events: Events, dropped: list[DroppedTask]) -> None:
    """What was dropped of each key is in its order, and is submitted with its key again."""
    assert all(task.serial and task.key is not None for task in dropped)
    other = bench.start()
    for future in [task.submit_to(other) for task in dropped]:
        future.result(LONG_TIMEOUT)
    for account in ("acme", "globex"):
        of_account = [event for event in events.applied if event[0] == account]
        assert of_account == [(account, number) for number in range(3)]
    assert other.metrics().total_key_misses == 2


def test_a_task_that_waits_behind_another_takes_room(bench: Bench) -> None:
    runner, let_run = bench.start_held(max_queue_size=3, when_full="raise")
    events = Events(runner)
    tasks = [events.submit("acme", number) for number in range(3)]
    with pytest.raises(QueueFull):
        events.submit("acme", 3)
    assert tasks[1].cancel()
    tasks.append(events.submit("acme", 4))
    let_run()
    for number in (0, 2, 3):
        tasks[number].result(LONG_TIMEOUT)
    assert events.applied == [("acme", 0), ("acme", 2), ("acme", 4)]


def test_the_longest_line_is_a_gauge(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    assert runner.stats().longest_line == 0
    events = Events(runner)
    tasks = [events.submit("acme", number) for number in range(5)]
    tasks += [events.submit("globex", number) for number in range(3)]
    assert runner.stats().longest_line == 5
    assert runner.stats().queued_tasks == 8
    assert runner.stats().oldest_wait > 0
    for number in (0, 2, 4):
        tasks[number].cancel()
    assert runner.stats().longest_line == 3
    let_run()
    for task in tasks:
        if not task.cancelled():
            task.result(LONG_TIMEOUT)
    bench.eventually(lambda: runner.stats().longest_line == 0)


class Account:
    """Equal to every account of its name, and of the same hash as every other."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Account) and self.name == other.name


def test_equal_keys_are_one_key_and_others_are_not_whatever_their_hashes(bench: Bench) -> None:
    runner, let_run = bench.start_held()
    view = runner.options(key=Account, serial=True)
    tasks = [view.submit(lambda _, name: name, name) for name in "abcabca"]
    assert runner.stats().longest_line == 3
    let_run()
    assert [task.result(LONG_TIMEOUT) for task in tasks] == list("abcabca")


def test_an_error_of_a_comparison_is_raised_and_nothing_is_queued(bench: Bench) -> None:
    class Odd:
        def __hash__(self) -> int:
            return 7

        def __eq__(self, other: object) -> bool:
            raise LookupError

    runner, let_run = bench.start_held()
    view = runner.options(key=Odd, serial=True)
    first = view.submit(lambda _: 1)
    queued = runner.stats().queued_tasks
    with pytest.raises(LookupError):
        view.submit(lambda _: 2)
    assert runner.stats().queued_tasks == queued
    let_run()
    assert first.result(LONG_TIMEOUT) == 1
    bench.eventually(lambda: runner.stats().longest_line == 0)
    assert view.submit(lambda _: 3).result(LONG_TIMEOUT) == 3
