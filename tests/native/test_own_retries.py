"""`Retry`: a task that pauses waits without a worker, for as long as it has to and no longer."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import gc
import sys
import threading
import time
import weakref
from typing import Any

import pytest

from tasker import (
    Future,
    Priority,
    QueueFull,
    ResourceCreationError,
    Results,
    Retry,
    Runner,
    TaskEvent,
    TaskTimeout,
    current_context,
)
from tasker._retry import _tracebacks
from tests.native.support import (
    LONG_TIMEOUT,
    MOMENT,
    Broken,
    Call,
    Gate,
    Resource,
    Runners,
    eventually,
    is_healthy,
)


class Busy(Exception):
    """The resource is fine, and the call would work a moment later."""


FOR_EVER = Retry(on=lambda _error: 3600.0)
"""No test waits for its pause to end by itself."""


def busy_once(_resource: object) -> int:
    context = current_context()
    if context.attempt == 1:
        raise Busy
    return context.attempt


def always_busy(_resource: object) -> None:
    raise Busy(current_context().attempt)


def paused(runner: Runner[Resource], count: int = 1) -> None:
    eventually(lambda: runner.stats().paused_tasks == count)


def test_a_paused_task_holds_no_worker(runners: Runners) -> None:
    runner = runners.start(retry=FOR_EVER)
    future = runner.submit(busy_once)
    paused(runner)
    assert future.running()
    assert runner.queue_task(lambda resource: resource.number) == 0
    stats = runner.stats()
    assert (stats.queued_tasks, stats.running_tasks, stats.oldest_wait) == (0, 0, 0.0)
    runner.stop()
    assert future.result(0) == 2


def test_a_pause_is_as_long_as_on_says(runners: Runners) -> None:
    runner = runners.start()
    begun: list[float] = []

    def work(_resource: object) -> None:
        begun.append(time.monotonic())
        if len(begun) == 1:
            raise Busy

    # Longer than `max_wait`, as a server says it.
    runner.options(retry=Retry(on=lambda _: 0.2, max_wait=0.01)).queue_task(work)
    assert begun[1] - begun[0] >= 0.2


def test_looking_at_a_task_that_is_back_and_waits_leaves_it_there(
    runners: Runners, gate: Gate
) -> None:
    runner, second = runners.start(retry=Retry(on=Busy, wait=0)), Gate()

    def work(_resource: object) -> int:
        gate.hold()
        return busy_once(_resource)

    future = runner.submit(work)
    gate.wait_for()
    held = runner.submit(second.hold)
    gate.open()
    second.wait_for()
    eventually(lambda: runner.stats().queued_tasks == 1)
    eventually(lambda: runner.stats().oldest_wait > 0)
    second.open()
    assert held.result(LONG_TIMEOUT) is None
    assert future.result(LONG_TIMEOUT) == 2


def test_a_stop_cuts_pauses_short_and_gives_that_outcome(runners: Runners) -> None:
    runner = runners.start(worker_count=2, retry=FOR_EVER)
    works = [runner.submit(busy_once) for _ in range(20)]
    fails = [runner.submit(always_busy) for _ in range(20)]
    paused(runner, 40)
    runner.stop(timeout=LONG_TIMEOUT)
    assert [future.result(0) for future in works] == [2] * 20
    assert [str(future.exception(0)) for future in fails] == ["2"] * 20


def test_a_kill_gives_the_last_error_and_hands_nothing_back(runners: Runners) -> None:
    runner = runners.start(retry=FOR_EVER)
    future = runner.submit(always_busy)
    paused(runner)
    assert runner.kill(timeout=LONG_TIMEOUT) == []
    assert str(future.exception(0)) == "1"
    assert runner.metrics().total_tasks_failed == 1


def test_a_kill_of_a_paused_task_whose_future_is_gone_logs_nothing(runners: Runners) -> None:
    runner = runners.start(retry=FOR_EVER)
    runner.submit(always_busy)
    paused(runner)
    runner.kill(timeout=LONG_TIMEOUT)
    # The fixture fails the test for a record that is left.


def test_cancel_queued_gives_the_last_error_too(runners: Runners) -> None:
    runner = runners.start(retry=FOR_EVER)
    future = runner.submit(always_busy)
    paused(runner)
    assert runner.cancel_queued() == []
    assert str(future.exception(0)) == "1"


def test_request_cancel_ends_a_pause_and_cancel_does_not(runners: Runners) -> None:
    runner = runners.start(retry=FOR_EVER)
    future = runner.submit(always_busy)
    paused(runner)
    assert not future.cancel()
    assert runner.stats().paused_tasks == 1
    assert future.request_cancel()
    assert str(future.exception(0)) == "1"
    paused(runner, 0)


def test_a_result_set_by_hand_ends_a_pause(runners: Runners) -> None:
    runner = runners.start(retry=FOR_EVER)
    future: Any = runner.submit(always_busy)
    paused(runner)
    future.set_result("by hand")
    assert future.result(0) == "by hand"
    paused(runner, 0)


def test_a_task_asked_to_give_up_is_not_tried_again(runners: Runners, gate: Gate) -> None:
    runner = runners.start(retry=Retry(on=Busy, wait=0))
    future = runner.submit(gate.hold_then_raise, Busy())
    gate.wait_for()
    future.request_cancel()
    gate.open()
    assert type(future.exception(LONG_TIMEOUT)) is Busy
    assert runner.metrics().total_tasks_retried == 0


@pytest.mark.parametrize("inside", [False, True])
def test_a_task_asked_to_give_up_while_on_is_asked_does_not_pause(
    runners: Runners, gate: Gate, *, inside: bool
) -> None:
    def on(_error: Exception) -> float:
        gate.hold()
        return 3600.0

    runner = runners.start()
    view = runner.options(retry=Retry(on=on))
    futures: list[Future[None]] = []

    def submit(_resource: object) -> None:
        futures.append(view.submit(always_busy))

    def outer(_resource: object) -> None:
        submit(_resource)
        futures[0].exception()

    runner.submit(outer if inside else submit)
    gate.wait_for()
    futures[0].request_cancel()
    gate.open()
    assert str(futures[0].exception(LONG_TIMEOUT)) == "1"
    metrics = runner.metrics()
    assert (metrics.total_tasks_retried, runner.stats().paused_tasks) == (0, 0)


def test_what_is_paused_counts_against_the_bound(runners: Runners) -> None:
    runner = runners.start(max_queue_size=1, when_full="raise", retry=FOR_EVER)
    future = runner.submit(always_busy)
    paused(runner)
    with pytest.raises(QueueFull):
        runner.submit(always_busy)
    future.request_cancel()
    assert runner.submit(lambda _: 7).result(LONG_TIMEOUT) == 7


def test_a_submitter_waits_for_the_room_of_what_is_paused(runners: Runners) -> None:
    runner = runners.start(max_queue_size=1, retry=FOR_EVER)
    future = runner.submit(always_busy)
    paused(runner)
    submits = Call(runner.submit, lambda _: 7)
    submits.wait_until_blocked()
    future.request_cancel()
    submitted = submits.result()
    runner.stop(timeout=LONG_TIMEOUT)
    assert submitted.result(0) == 7


def test_a_map_does_not_flood_the_memory_while_the_service_is_dead(runners: Runners) -> None:
    runner = runners.start(max_queue_size=4, worker_count=2, retry=FOR_EVER)
    read: list[int] = []

    def items() -> Any:
        for item in range(10_000):
            read.append(item)
            yield item

    def fail(_resource: object, _item: int) -> None:
        raise Busy

    results = runner.map(fail, items())
    reads = Call(next, results)
    eventually(lambda: runner.stats().paused_tasks >= 4)
    time.sleep(MOMENT)
    assert len(read) < 100
    runner.kill(timeout=LONG_TIMEOUT)
    assert type(reads.error()) is Busy


@pytest.mark.parametrize("thread_bound", [True, False])
def test_the_caller_of_run_task_waits_and_its_resource_does_not(
    runners: Runners, *, thread_bound: bool
) -> None:
    runner = runners.start(thread_bound=thread_bound, resource_pool_size=1, retry=FOR_EVER)
    waits = Call(runner.run_task, busy_once)
    paused(runner)
    assert runner.options(retry=None).run_task(lambda resource: resource.number) in {0, 1}
    runner.stop(timeout=LONG_TIMEOUT)
    assert waits.result() == 2


@pytest.mark.parametrize("thread_bound", [True, False])
def test_a_kill_ends_the_pause_of_run_task(runners: Runners, *, thread_bound: bool) -> None:
    runner = runners.start(thread_bound=thread_bound, retry=FOR_EVER)
    waits = Call(runner.run_task, always_busy)
    paused(runner)
    runner.kill(timeout=LONG_TIMEOUT)
    assert str(waits.error()) == "1"


@pytest.mark.parametrize("thread_bound", [True, False])
def test_a_stop_ends_the_pause_of_a_run_task_inside_a_task(
    runners: Runners, *, thread_bound: bool
) -> None:
    runner = runners.start(thread_bound=thread_bound, resource_pool_size=1, retry=FOR_EVER)
    future = runner.submit(lambda _: runner.run_task(busy_once))
    paused(runner)
    runner.stop(timeout=LONG_TIMEOUT)
    assert future.result(0) == 2


@pytest.mark.parametrize("thread_bound", [True, False])
def test_a_pause_inside_a_task_is_not_that_of_the_task(
    runners: Runners, *, thread_bound: bool
) -> None:
    retry = Retry(on=Busy, wait=0)
    runner = runners.start(thread_bound=thread_bound, check_health=is_healthy, retry=retry)

    def work(_resource: object) -> int:
        tries = runner.run_task(busy_once)
        if current_context().attempt == 1:
            raise Broken
        return tries

    call = Call(runner.run_task, work)
    assert call.result() == 2


def test_an_interrupt_ends_the_pause_of_run_task_with_the_last_error(runners: Runners) -> None:
    errors: list[object] = []

    def note(event: TaskEvent) -> None:
        if event.kind == "failed":
            errors.append(type(event.error))

    runner = runners.start(thread_bound=False, retry=FOR_EVER, on_event=note)

    def interrupt() -> None:
        paused(runner)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        runner.run_task(always_busy)
    thread.join()
    assert errors == [Busy]
    paused(runner, 0)


def test_a_temporary_worker_does_not_stay_for_a_pause(runners: Runners) -> None:
    runner = runners.start(resource_pool_size=0, retry=FOR_EVER)
    waits = Call(runner.run_task, busy_once)
    paused(runner)
    eventually(lambda: len(runners.factory.alive) == 1)
    runner.stop(timeout=LONG_TIMEOUT)
    assert waits.result() == 2


def test_a_time_limit_leaves_a_pause_its_room(runners: Runners) -> None:
    runner = runners.start(retry=FOR_EVER)
    future = runner.options(timeout=2 * LONG_TIMEOUT).submit(always_busy)
    error = future.exception(LONG_TIMEOUT)
    assert type(error) is Busy
    assert "its time limit leaves no room" in error.__notes__[0]
    assert runner.metrics().total_tasks_timed_out == 0


@pytest.mark.parametrize("again", ["waits", "runs"])
def test_a_time_limit_leaves_the_error_of_the_attempt_before(
    runners: Runners, gate: Gate, again: str
) -> None:
    runner = runners.start(worker_count=1, retry=Retry(on=Busy, wait=0.0))

    def busy_then_held(resource: Resource) -> None:
        if current_context().attempt > 1:
            gate.hold(resource)
        if again == "waits":
            runner.options(priority=Priority.HIGH).submit(gate.hold)
        raise Busy

    future = runner.options(timeout=0.5).submit(busy_then_held)
    gate.wait_for()
    error = future.exception(LONG_TIMEOUT)
    assert type(error) is TaskTimeout
    assert error.__cause__ is None
    assert type(error.__context__) is Busy
    gate.open()


def test_a_stop_from_within_the_asked_function_ends_the_task(runners: Runners) -> None:
    runner = runners.start()

    def on(_error: Exception) -> float:
        runner.stop()
        return 3600.0

    future = runner.options(retry=Retry(on=on)).submit(always_busy)
    assert str(future.exception(LONG_TIMEOUT)) == "1"


def test_without_a_resource_at_the_end_a_paused_task_says_why(runners: Runners) -> None:
    made: list[int] = []

    def create() -> Resource:
        if made:
            raise ConnectionRefusedError("away")
        made.append(1)
        return runners.factory.create()

    runner = runners.start(on_create=create, check_health=is_healthy, max_retries=0, logger=None)
    future = runner.options(retry=FOR_EVER).submit(busy_once)
    paused(runner)
    with pytest.raises(Broken):
        runner.queue_task(lambda _: (_ for _ in ()).throw(Broken))
    eventually(lambda: runner.stats().creation_failing_for > 0)
    runner.stop(timeout=LONG_TIMEOUT)
    error = future.exception(0)
    assert isinstance(error, ResourceCreationError)
    assert isinstance(error.__cause__, ConnectionRefusedError)


def test_a_view_whose_function_leads_back_to_it_is_collected(runners: Runners) -> None:
    runner = runners.start()

    class Client:
        def __init__(self) -> None:
            self.view = runner.options(retry=Retry(on=self.again, wait=0))

        def again(self, error: Exception) -> bool:
            return isinstance(error, Busy)

    client = Client()
    assert client.view.queue_task(busy_once) == 2
    seen = weakref.ref(client)
    del client
    eventually(lambda: gc.collect() is not None and seen() is None)


def test_a_runner_whose_retry_leads_back_to_it_is_collected_and_ends(runners: Runners) -> None:
    class Client:
        def __init__(self) -> None:
            self.runner = Runner(runners.config(retry=Retry(on=self.again, wait=0)))

        def again(self, error: Exception) -> bool:
            return isinstance(error, Busy)

    client = Client()
    assert client.runner.queue_task(busy_once) == 2
    seen = weakref.ref(client)
    del client
    with pytest.warns(ResourceWarning):
        eventually(lambda: gc.collect() is not None and seen() is None)
    eventually(lambda: runners.factory.alive == [])


def test_nothing_of_a_task_that_was_tried_again_is_kept(runners: Runners) -> None:
    class Thing:
        pass

    runner = runners.start(retry=Retry(on=Busy, wait=0))
    alive: list[weakref.ref[object]] = []

    def work(_resource: object, thing: Thing) -> None:
        local = Thing()
        error = Busy()
        alive.extend([weakref.ref(thing), weakref.ref(local), weakref.ref(error)])
        if current_context().attempt < 3:
            raise error

    future = runner.submit(work, Thing())
    assert future.result(LONG_TIMEOUT) is None
    del work
    eventually(lambda: gc.collect() is not None and all(ref() is None for ref in alive))


def test_thousands_of_paused_tasks_take_no_thread(
    runners: Runners,
) -> None:
    runner = runners.start(worker_count=2, retry=FOR_EVER)
    threads = threading.active_count()
    futures = [runner.submit(always_busy) for _ in range(2_000)]
    paused(runner, 2_000)
    assert threading.active_count() <= threads + 1
    runner.kill(timeout=LONG_TIMEOUT)
    assert all(type(future.exception(0)) is Busy for future in futures)


def test_closing_a_map_ends_the_pauses_of_its_items(runners: Runners) -> None:
    runner = runners.start(worker_count=2, retry=FOR_EVER)

    def fail(_resource: object, _item: int) -> None:
        raise Busy

    results = runner.map(fail, range(4), buffersize=4)
    paused(runner, 4)
    results.close()
    assert runner.stats().paused_tasks == 0
    assert runner.metrics().total_tasks_failed == 4


@pytest.mark.parametrize("verb", ["submit", "map", "batcher"])
def test_cancel_queued_ends_the_pause_that_a_task_sits_out_for_another(
    runners: Runners, verb: str
) -> None:
    def fail(_resource: object, _item: Any) -> list[int]:
        raise Busy

    def outer(_resource: object) -> object:
        view = runner.options(retry=FOR_EVER)
        if verb == "submit":
            return view.submit(fail, 1).result()
        if verb == "map":
            return next(view.map(fail, [1]))
        return view.batcher(fail, max_size=2).queue_task(1)

    runner = runners.start()
    future = runner.submit(outer)
    paused(runner, 1)
    assert runner.cancel_queued() == []
    assert isinstance(future.exception(LONG_TIMEOUT), Busy)


@pytest.mark.parametrize("how", ["items", "calls", "tasks"])
def test_an_item_that_runs_while_its_map_is_closed_is_not_paused(
    runners: Runners, gate: Gate, how: str
) -> None:
    entered: list[object] = []

    def fail(_resource: object, items: object) -> list[int]:
        entered.append(items)
        gate.hold()
        raise Busy

    runner = runners.start(retry=FOR_EVER)
    results: Results[Any]
    if how == "items":
        results = runner.map(fail, "ab")
    else:
        # With a key they are tasks by themselves.
        key = len if how == "tasks" else None
        results = runner.batcher(fail, max_size=2, max_wait=3600, key=key).map("ab")
    gate.wait_for()
    results.close()
    gate.open()
    eventually(lambda: runner.stats().running_tasks == 0)
    runner.stop(timeout=LONG_TIMEOUT)
    assert entered == ["a" if how == "items" else ["a", "b"]]
    assert runner.metrics().total_tasks_retried == 0


def test_closing_an_amap_ends_the_pauses_of_its_items(runners: Runners) -> None:
    def fail(_resource: object, _item: int) -> None:
        raise Busy

    async def main() -> None:
        async with Runner.start(runners.config(retry=FOR_EVER)) as runner:
            results = runner.amap(fail, range(4), buffersize=4)
            reads = asyncio.ensure_future(anext(results))
            await asyncio.to_thread(paused, runner, 4)
            reads.cancel()
            await asyncio.wait([reads])
            await results.aclose()
            assert runner.stats().paused_tasks == 0

    asyncio.run(main())


def test_an_exception_that_all_tasks_raise_costs_no_more_with_each() -> None:
    shared = Busy()
    for _ in range(3 * sys.getrecursionlimit()):
        with contextlib.suppress(Busy):
            raise shared
    assert len(list(_tracebacks(shared))) == sys.getrecursionlimit()


def test_asubmit_waits_for_the_retry(runners: Runners) -> None:
    async def main() -> int:
        async with Runner.start(runners.config(retry=Retry(on=Busy, wait=0))) as runner:
            return await runner.asubmit(busy_once)

    assert asyncio.run(main()) == 2
