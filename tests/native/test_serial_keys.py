"""Tasks that run in order by key, on several workers: one at a time, whatever happens to them."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

from tasker import (
    Priority,
    QueueFull,
    ResourceCreationError,
    Retry,
    Runner,
    StopTimeout,
    TaskCancelled,
    TaskTimeout,
)
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    Gate,
    LogCapture,
    Runners,
    at_once,
    eventually,
    is_healthy,
)


def key_of(key: object, *_more: object) -> object:
    return key


def in_order(runner: Runner[Any], **options: Any) -> Any:
    return runner.options(key=key_of, serial=True, **options)


def hold_then_break(_resource: object, _key: object, gate: Gate) -> None:
    gate.hold()
    raise Broken


class Applied:
    """Notes the events of accounts, and finds out when two of one account run at a time."""

    def __init__(self) -> None:
        self.inside: set[object] = set()
        self.of: dict[object, list[int]] = {}

    def __call__(self, _resource: object, account: object, number: int) -> int:
        assert account not in self.inside, "two of one key run at a time"
        self.inside.add(account)
        self.of.setdefault(account, []).append(number)
        self.inside.remove(account)
        return number


@pytest.mark.usefixtures("fast_switch")
def test_many_threads_and_many_keys(runners: Runners) -> None:
    runner, applied = runners.start(worker_count=4), Applied()
    view = in_order(runner)
    turns = threading.Lock()
    numbers = dict.fromkeys(range(5), 0)

    def client() -> list[Any]:
        tasks = []
        for turn in range(200):
            account = turn % 5
            with turns:
                # The order of the submits of an account is known.
                tasks.append(view.submit(applied, account, numbers[account]))
                numbers[account] += 1
        return tasks

    for call in at_once(4, client):
        for task in call.result():
            task.result(LONG_TIMEOUT)
    assert applied.of == {account: list(range(160)) for account in range(5)}
    eventually(lambda: runner.stats().longest_line == 0)


def test_keys_run_beside_each_other(runners: Runners, gate: Gate) -> None:
    view = in_order(runners.start(worker_count=3))
    tasks = [view.submit(lambda _, *_args: gate.hold(), key) for key in "abc" for _ in range(2)]
    gate.wait_for(3)
    assert [task.running() for task in tasks] == [True, False] * 3
    gate.open()
    for task in tasks:
        task.result(LONG_TIMEOUT)


def test_a_busy_key_holds_up_no_other(runners: Runners, gate: Gate) -> None:
    view = in_order(runners.start(worker_count=2))
    held = [view.submit(lambda _, _key: gate.hold(), "busy") for _ in range(100)]
    gate.wait_for()
    for number in range(50):
        assert view.queue_task(lambda _, _key, number: number, "rare", number) == number
    assert not held[0].done()
    gate.open()
    for task in held:
        task.result(LONG_TIMEOUT)


def test_a_key_stays_with_its_worker_while_that_is_free(runners: Runners) -> None:
    runner = runners.start(worker_count=4)
    view = in_order(runner)
    for task in [view.submit(lambda _, _key: None, "acme") for _ in range(400)]:
        task.result(LONG_TIMEOUT)
    assert runner.metrics().total_key_hits > 300


def test_the_end_of_a_task_brings_the_next_one_while_others_sleep(runners: Runners) -> None:
    runner = runners.start(worker_count=1, max_tasks_per_resource=1)
    view = in_order(runner)
    tasks = [view.submit(lambda _, _key, n: n, "acme", number) for number in range(20)]
    assert [task.result(LONG_TIMEOUT) for task in tasks] == list(range(20))


def test_a_worker_that_makes_another_resource_leaves_the_next_task_to_others(
    runners: Runners, gate: Gate
) -> None:
    factory, made = runners.factory, 0

    def create() -> Any:
        nonlocal made
        made += 1
        if made > 2:
            gate.hold()
        return factory.create()

    runner = runners.start(worker_count=2, on_create=create, check_health=is_healthy, max_retries=0)
    view = in_order(runner)
    held = Gate()

    broken = view.submit(hold_then_break, "acme", held)
    held.wait_for()
    after = view.submit(lambda _, _key: 7, "acme")
    held.open()
    assert isinstance(broken.exception(LONG_TIMEOUT), Broken)
    gate.wait_for()
    assert after.result(LONG_TIMEOUT) == 7
    gate.open()


@pytest.mark.parametrize("kind", ["resource", "pause"])
def test_a_retry_holds_its_key_until_it_is_over(runners: Runners, kind: str) -> None:
    retry = Retry(on=LookupError, wait=0.02)
    runner = runners.start(worker_count=3, check_health=is_healthy, retry=retry)
    view = in_order(runner)
    entered: list[int] = []

    def apply(_resource: object, _key: str, number: int) -> None:
        entered.append(number)
        if number % 2 == 0 and entered.count(number) < 3:
            raise Broken if kind == "resource" else LookupError

    for task in [view.submit(apply, "acme", number) for number in range(5)]:
        task.result(LONG_TIMEOUT)
    assert entered == [0, 0, 0, 1, 2, 2, 2, 3, 4, 4, 4]


def test_a_paused_task_holds_its_key_and_no_other(runners: Runners) -> None:
    runner = runners.start(retry=Retry(on=LookupError, wait=LONG_TIMEOUT * 10))
    view = in_order(runner)

    def fail(_resource: object, _key: str) -> None:
        raise LookupError

    paused = view.submit(fail, "acme")
    eventually(lambda: runner.stats().paused_tasks == 1)
    after = view.submit(lambda _, _key: 7, "acme")
    assert view.queue_task(lambda _, _key: 8, "globex") == 8
    assert not after.done()
    paused.request_cancel()
    assert after.result(LONG_TIMEOUT) == 7
    assert isinstance(paused.exception(LONG_TIMEOUT), LookupError)


def test_a_task_that_is_back_from_a_pause_waits_in_the_class_of_what_is_behind_it(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(retry=Retry(on=LookupError, wait=0.001))
    order: list[object] = []

    def fail_once(_resource: object, _key: str) -> None:
        order.append("retried")
        if len(order) == 1:
            raise LookupError

    first, second = Gate(), gate
    tasks = [
        runner.submit(first.hold),
        in_order(runner).submit(fail_once, "acme"),
        runner.submit(second.hold),
        runner.submit(lambda _: order.append("plain")),
    ]
    first.open()
    second.wait_for()
    eventually(lambda: runner.stats().queued_tasks == 2)
    urgent = in_order(runner, priority=Priority.HIGH)
    tasks.append(urgent.submit(lambda _, _key: order.append("urgent"), "acme"))
    second.open()
    for task in tasks:
        task.result(LONG_TIMEOUT)
    assert order == ["retried", "retried", "urgent", "plain"]


def test_a_retry_on_another_resource_waits_in_the_class_of_what_is_behind_it(
    runners: Runners, gate: Gate
) -> None:
    def create() -> Any:
        resource = runners.factory.create()
        if resource.number:
            gate.hold()
        return resource

    runner = runners.start(on_create=create, check_health=is_healthy)
    order: list[object] = []

    def fail_once(_resource: object, _key: str) -> None:
        order.append("retried")
        if len(order) == 1:
            raise Broken

    tasks = [in_order(runner, priority=Priority.LOW).submit(fail_once, "acme")]
    gate.wait_for()
    tasks.append(runner.submit(lambda _: order.append("plain")))
    urgent = in_order(runner, priority=Priority.HIGH)
    tasks.append(urgent.submit(lambda _, _key: order.append("urgent"), "acme"))
    gate.open()
    for task in tasks:
        task.result(LONG_TIMEOUT)
    assert order == ["retried", "retried", "urgent", "plain"]


def test_a_raised_head_that_fails_on_its_resource_leaves_no_second_entry(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(check_health=is_healthy)
    runner.submit(gate.hold)
    gate.wait_for()
    used: list[int] = []

    def break_twice(resource: Any, _key: str) -> None:
        used.append(resource.number)
        if len(used) < 3:
            raise Broken

    low, high = (in_order(runner, priority=each) for each in (Priority.LOW, Priority.HIGH))
    tasks = [low.submit(break_twice, "acme"), high.submit(lambda _, _key: None, "acme")]
    gate.open()
    for task in tasks:
        task.result(LONG_TIMEOUT)
    assert used == [0, 1, 2]
    assert runner.metrics().total_tasks_completed == 3


def test_an_overdue_function_holds_its_key_until_it_returns(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    view = in_order(runner)
    late = in_order(runner, timeout=0.01).submit(lambda _, _key: gate.hold(), "acme")
    gate.wait_for()
    after = view.submit(lambda _, _key: 7, "acme")
    assert isinstance(late.exception(LONG_TIMEOUT), TaskTimeout)
    eventually(lambda: runner.stats().overdue_tasks == 1)
    assert view.queue_task(lambda _, _key: 8, "globex") == 8
    assert not after.done()
    assert runner.stats().longest_line == 2
    gate.open()
    assert after.result(LONG_TIMEOUT) == 7


def test_a_task_that_times_out_behind_another_is_skipped(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    view = in_order(runner)
    held = view.submit(lambda _, _key: gate.hold(), "acme")
    gate.wait_for()
    late = in_order(runner, timeout=0.01).submit(lambda _, _key: pytest.fail("ran"), "acme")
    after = view.submit(lambda _, _key: 7, "acme")
    assert isinstance(late.exception(LONG_TIMEOUT), TaskTimeout)
    gate.open()
    assert after.result(LONG_TIMEOUT) == 7
    held.result(LONG_TIMEOUT)


def test_many_that_are_cancelled_behind_another_are_let_go_of(runners: Runners, gate: Gate) -> None:
    class Event:
        pass

    runner = runners.start(worker_count=1)
    view = in_order(runner)
    held = view.submit(lambda _, _key: gate.hold(), "acme")
    gate.wait_for()
    events = [Event() for _ in range(1_000)]
    alive = weakref.WeakSet(events)
    tasks = [view.submit(lambda _, _key, _event: None, "acme", event) for event in events]
    last = view.submit(lambda _, _key: 7, "acme")
    del events
    assert all(task.cancel() for task in tasks)
    eventually(lambda: gc.collect() >= 0 and not alive)
    assert runner.stats().longest_line == 2
    assert runner.stats().queued_tasks == 1
    gate.open()
    assert last.result(LONG_TIMEOUT) == 7
    held.result(LONG_TIMEOUT)


def test_stop_runs_every_line_to_its_end(runners: Runners, gate: Gate) -> None:
    runner, applied = runners.start(worker_count=3), Applied()
    view = in_order(runner)
    view.submit(lambda _, _key: gate.hold(), "a")
    gate.wait_for()
    tasks = [view.submit(applied, key, number) for number in range(50) for key in "ab"]
    ending = Call(runner.stop)
    gate.open()
    ending.result()
    assert [task.result(0) for task in tasks] == [number for number in range(50) for _ in "ab"]
    assert applied.of == {"a": list(range(50)), "b": list(range(50))}


def test_stop_skips_the_last_ones_if_they_are_cancelled(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=3)
    view = in_order(runner)
    view.submit(lambda _, _key: gate.hold(), "acme")
    gate.wait_for()
    tasks = [view.submit(lambda _, _key: None, "acme") for _ in range(5)]
    ending = Call(runner.stop)
    ending.wait_until_blocked()
    assert all(task.cancel() for task in tasks)
    gate.open()
    ending.result()


def test_kill_drops_what_waits_behind_a_task_that_runs(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    view = in_order(runner)
    held = view.submit(lambda _, _key: gate.hold(), "acme")
    gate.wait_for()
    tasks = [view.submit(lambda _, _key: pytest.fail("ran"), "acme") for _ in range(20)]
    with pytest.raises(StopTimeout) as raised:
        runner.kill(timeout=0)
    for task in tasks:
        with pytest.raises(TaskCancelled):
            task.result(0)
    gate.open()
    dropped = raised.value.dropped
    assert [(task.key, task.serial) for task in dropped] == [(key_of, True)] * 20
    held.result(LONG_TIMEOUT)


def test_what_waits_fails_when_no_resource_can_be_made_at_the_end(
    runners: Runners, gate: Gate, log: LogCapture
) -> None:
    log.overlook("created")

    def create() -> Any:
        if runners.factory.made:
            raise OSError
        return runners.factory.create()

    runner = runners.start(on_create=create, check_health=is_healthy, max_retries=0)
    view = in_order(runner)
    broken = view.submit(hold_then_break, "acme", gate)
    gate.wait_for()
    tasks = [view.submit(lambda _, _key: None, "acme") for _ in range(5)]
    ending = Call(runner.stop)
    ending.wait_until_blocked()
    gate.open()
    ending.result()
    assert isinstance(broken.exception(0), Broken)
    assert all(isinstance(task.exception(0), ResourceCreationError) for task in tasks)


@pytest.mark.parametrize("sizes", [(2, 2), (1, 3)])
def test_a_line_goes_on_as_workers_come_and_go(runners: Runners, sizes: tuple[int, int]) -> None:
    base, most = sizes
    runner, applied = runners.start(worker_count=base, max_worker_count=most), Applied()
    view = in_order(runner)
    tasks = [view.submit(applied, key, number) for number in range(200) for key in "abc"]
    renewal = runner.renew()
    runner.resize(worker_count=1, max_worker_count=1)
    tasks += [view.submit(applied, key, number) for number in range(200, 300) for key in "abc"]
    runner.resize(worker_count=3)
    for task in tasks:
        task.result(LONG_TIMEOUT)
    renewal.result(LONG_TIMEOUT)
    assert applied.of == {key: list(range(300)) for key in "abc"}


def test_tasks_wait_for_room_in_the_order_in_which_they_are_to_run(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(max_queue_size=1)
    order: list[int] = []
    views = [in_order(runner, priority=priority) for priority in Priority]

    async def submit() -> None:
        held = views[1].asubmit(lambda _, _key: gate.hold(), "acme")
        gate.wait_for()
        numbers = range(9)
        tasks = [
            views[n % 3].asubmit(lambda _, _key, n: order.append(n), "acme", n) for n in numbers
        ]
        tasks[4].cancel()
        gate.open()
        await asyncio.gather(held, *tasks, return_exceptions=True)

    asyncio.run(submit())
    assert order == [0, 1, 2, 3, 5, 6, 7, 8]
    eventually(lambda: runner.stats().longest_line == 0)


def test_a_task_that_is_refused_leaves_nothing_of_its_key(runners: Runners, gate: Gate) -> None:
    class Key:
        pass

    runner = runners.start(max_queue_size=1, when_full="raise")
    runner.submit(gate.hold)
    gate.wait_for()
    runner.submit(lambda _: None)
    gone = []
    view = in_order(runner)
    for _ in range(3):
        key = Key()
        gone.append(weakref.ref(key))
        with pytest.raises(QueueFull):
            view.submit(lambda _, _key: None, key)
        del key
    eventually(lambda: gc.collect() >= 0 and [key() for key in gone] == [None] * 3)
    gate.open()


def test_a_key_is_kept_as_long_as_it_has_tasks(runners: Runners, gate: Gate) -> None:
    class Key(str):
        __slots__ = ("__weakref__",)

    runner = runners.start()
    view = runner.options(key=lambda name: keys.pop(), serial=True)
    keys = [Key("acme"), Key("acme")]
    gone = [weakref.ref(key) for key in keys]
    held = view.submit(lambda _, _name: gate.hold(), "x")
    gate.wait_for()
    after = view.submit(lambda _, _name: 7, "x")
    # The first one stands for both.
    assert [key() is None for key in gone] == [True, False]
    assert not after.done()
    gate.open()
    held.result(LONG_TIMEOUT)
    assert after.result(LONG_TIMEOUT) == 7
    eventually(lambda: gone[1]() is None)


def test_a_comparison_may_do_anything(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=1)

    class Key:
        def __hash__(self) -> int:
            return 7

        def __eq__(self, other: object) -> bool:
            # The same table, and the same lines.
            assert plain.submit(lambda _, _key: 1, "plain")
            runner.stats()
            compared_in.add(threading.get_ident())
            return isinstance(other, Key)

    compared_in: set[int] = set()
    plain = in_order(runner)
    view = runner.options(key=Key, serial=True)
    view.submit(gate.hold)
    gate.wait_for()
    second = view.submit(lambda _: 2)
    assert runner.stats().longest_line == 2
    gate.open()
    assert second.result(LONG_TIMEOUT) == 2
    eventually(lambda: runner.stats().longest_line == 0)
    assert compared_in == {threading.get_ident()}


def test_the_wait_for_a_task_whose_predecessor_ends_elsewhere_is_no_deadlock(
    runners: Runners,
) -> None:
    runner = runners.start(worker_count=2)
    view = in_order(runner)

    def outer(_resource: object) -> list[int]:
        found: list[int] = []
        for turn in range(200):
            both = [view.submit(lambda _, _key, n: n, "acme", 2 * turn + n) for n in range(2)]
            found += [task.result() for task in both]
        return found

    assert runner.queue_task(outer) == list(range(400))


def test_a_wait_with_a_timeout_just_waits(runners: Runners) -> None:
    view = in_order(runners.start())

    def outer(_resource: object, _key: str) -> bool:
        later = view.submit(lambda _, _key: 7, "acme")
        with pytest.raises(TimeoutError):
            later.result(0.001)
        return bool(later.done())

    assert view.queue_task(outer, "acme") is False


def test_a_task_runs_the_next_one_of_another_key_on_its_own_resource(runners: Runners) -> None:
    view = in_order(runners.start())

    def outer(resource: object, _key: str) -> bool:
        first = view.submit(lambda used, _key: used, "globex")
        second = view.submit(lambda used, _key: used, "globex")
        return bool(first.result() is resource and second.result() is resource)

    assert view.queue_task(outer, "acme")


def test_a_key_is_not_freed_by_a_result_that_is_set_by_hand(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    view = in_order(runner)
    held = view.submit(lambda _, _key: gate.hold(), "acme")
    gate.wait_for()
    after = view.submit(lambda _, _key: 7, "acme")
    held.set_result(None)
    assert view.queue_task(lambda _, _key: 8, "globex") == 8
    assert not after.done()
    gate.open()
    assert after.result(LONG_TIMEOUT) == 7


def test_a_runner_that_fails_fast_answers_every_line(
    runners: Runners, gate: Gate, log: LogCapture
) -> None:
    log.overlook("created")

    def create() -> Any:
        if runners.factory.made:
            raise OSError
        return runners.factory.create()

    runner = runners.start(
        on_create=create, check_health=is_healthy, max_retries=0, fail_fast_after=0.01
    )
    view = in_order(runner)
    broken = view.submit(hold_then_break, "acme", gate)
    gate.wait_for()
    tasks = [view.submit(lambda _, _key: None, "acme") for _ in range(5)]
    gate.open()
    assert isinstance(broken.exception(LONG_TIMEOUT), Broken)
    for task in tasks:
        assert isinstance(task.exception(LONG_TIMEOUT), ResourceCreationError)
