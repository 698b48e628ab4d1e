"""Resources are renewed after so many tasks, after so long, and all of them by `renew`."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tasker import Future, Runner, RunnerStopped
from tests.native.support import (
    LONG_TIMEOUT,
    Call,
    Gate,
    LogCapture,
    Resource,
    Runners,
    eventually,
)

EVERYWHERE = pytest.mark.parametrize("thread_bound", [True, False])


def number(resource: Resource) -> int:
    return resource.number


@EVERYWHERE
@pytest.mark.parametrize("verb", ["queue_task", "run_task"])
def test_a_resource_serves_no_more_than_its_number_of_tasks(
    runners: Runners, verb: str, thread_bound: bool
) -> None:
    runner = runners.start(max_tasks_per_resource=3, thread_bound=thread_bound)
    used = [getattr(runner, verb)(number) for _ in range(9)]
    assert [used.count(each) for each in dict.fromkeys(used)] == [3, 3, 3]


def test_one_task_for_each_resource(runners: Runners) -> None:
    runner = runners.start(max_tasks_per_resource=1)
    futures = [runner.submit(number) for _ in range(10)]
    assert [future.result(LONG_TIMEOUT) for future in futures] == list(range(10))


def test_a_renewed_resource_was_destroyed_once_on_its_thread(runners: Runners) -> None:
    runner = runners.start(worker_count=2, max_tasks_per_resource=2)
    for future in [runner.submit(number) for _ in range(40)]:
        future.result(LONG_TIMEOUT)
    runner.stop(LONG_TIMEOUT)
    assert len(runners.factory.made) > 2
    runners.factory.check()


@EVERYWHERE
@pytest.mark.parametrize("verb", ["queue_task", "run_task"])
def test_a_resource_is_renewed_when_it_is_old(
    runners: Runners, verb: str, thread_bound: bool
) -> None:
    runner = runners.start(max_resource_age=0.02, thread_bound=thread_bound)
    call = getattr(runner, verb)
    first = call(number)
    eventually(lambda: call(number) != first)


def test_a_young_resource_is_left_alone(runners: Runners) -> None:
    runner = runners.start(max_resource_age=LONG_TIMEOUT * 10)
    assert {runner.queue_task(number) for _ in range(20)} == {0}


def test_an_idle_resource_is_not_renewed_for_its_age_alone_before_it_is_used(
    runners: Runners,
) -> None:
    """Whenever it happens, the task finds a fresh one."""
    runner = runners.start(max_resource_age=0.01)
    eventually(lambda: runner.queue_task(number) > 3)
    assert len(runners.factory.alive) == 1


@pytest.mark.parametrize("fields", [{}, {"max_worker_count": 4}], ids=["full", "spare"])
def test_renewing_renews_every_resource_by_itself(runners: Runners, fields: dict[str, int]) -> None:
    runner = runners.start(worker_count=3, resource_pool_size=2, **fields)
    before = set(runners.factory.alive)
    assert len(before) == 5
    assert runner.renew().result(LONG_TIMEOUT) == 5
    assert before.isdisjoint(runners.factory.alive)
    eventually(lambda: len(runners.factory.alive) == 5)


def test_renewing_renews_resources_to_lend_though_no_call_asks_for_them(runners: Runners) -> None:
    runner = runners.start(resource_pool_size=2, thread_bound=False)
    before = set(runners.factory.alive)
    assert runner.renew().result(LONG_TIMEOUT) == 3
    assert before.isdisjoint(runners.factory.alive)
    assert runner.run_task(number) > 2


def test_a_resource_on_loan_is_renewed_when_it_comes_back(runners: Runners, gate: Gate) -> None:
    runner = runners.start(resource_pool_size=1, thread_bound=False)
    call = Call(runner.run_task, gate.hold_then_return, 7)
    gate.wait_for()
    renewal = runner.renew()
    eventually(lambda: len(runners.factory.made) == 3)
    assert not renewal.done()
    gate.open()
    assert call.result() == 7
    assert renewal.result(LONG_TIMEOUT) == 2


def test_renewing_keeps_serving(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    over = threading.Event()

    def client() -> int:
        done = 0
        while not over.is_set():
            runner.queue_task(number)
            done += 1
        return done

    calls = [Call(client) for _ in range(2)]

    def renew() -> None:
        # The creation of the last begins after the renewal before is over.
        eventually(lambda: len(runners.factory.alive) == 2)
        before = set(runners.factory.alive)
        assert runner.renew().result(LONG_TIMEOUT) >= 2
        assert before.isdisjoint(runners.factory.alive)

    for _ in range(5):
        renew()
    over.set()
    assert all(call.result() > 0 for call in calls)
    assert runner.metrics().total_tasks_failed == 0
    assert runner.stats().base_workers == 2


def test_one_resource_at_a_time_is_renewed(runners: Runners, gate: Gate) -> None:
    def create() -> Resource:
        if len(runners.factory.made) >= 3:
            gate.hold()
        return runners.factory.create()

    runner = runners.start(worker_count=3, on_create=create)
    runner.renew()
    gate.wait_for()
    assert len(runners.factory.alive) == 2
    assert [runner.queue_task(number) for _ in range(5)]
    gate.open()
    eventually(lambda: len(runners.factory.made) == 6)
    eventually(lambda: [each.number for each in runners.factory.alive] == [3, 4, 5])


def test_a_running_task_keeps_its_resource(runners: Runners, gate: Gate) -> None:
    def hold(resource: Resource) -> list[int]:
        gate.hold()
        return list(resource.destroyed_on)

    runner = runners.start()
    future = runner.submit(hold)
    gate.wait_for()
    runner.renew()
    gate.open()
    assert future.result(LONG_TIMEOUT) == []
    assert runner.queue_task(number) == 1


def test_a_task_may_renew_the_resources_of_its_own_runner(runners: Runners) -> None:
    runner = runners.start()
    runner.queue_task(lambda _: runner.renew())
    eventually(lambda: runner.queue_task(number) == 1)


def test_a_stopped_runner_renews_nothing(runners: Runners) -> None:
    runner = runners.start()
    runner.stop(LONG_TIMEOUT)
    with pytest.raises(RunnerStopped):
        runner.renew()
    assert len(runners.factory.made) == 1


# ---- the future


def test_renewals_that_overlap_renew_no_resource_twice(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    tasks = [runner.submit(gate.hold) for _ in range(2)]
    gate.wait_for(2)
    renewals = [runner.renew() for _ in range(5)]
    assert not any(renewal.done() for renewal in renewals)
    gate.open()
    assert [renewal.result(LONG_TIMEOUT) for renewal in renewals] == [2] * 5
    for task in tasks:
        task.result(LONG_TIMEOUT)
    eventually(lambda: len(runners.factory.alive) == 2)
    assert len(runners.factory.made) == 4


def test_a_later_renewal_waits_for_what_an_earlier_one_has_made(runners: Runners) -> None:
    runner = runners.start()
    for _ in range(5):
        # Its creation begins after the renewal before it is over.
        eventually(lambda: len(runners.factory.alive) == 1)
        assert runner.renew().result(LONG_TIMEOUT) == 1
    assert runner.queue_task(number) == 5


def test_a_resource_that_was_being_made_at_the_call_is_renewed_too(
    runners: Runners, gate: Gate
) -> None:
    """What it was made with may have been changed while it was made."""

    def create() -> Resource:
        if runners.factory.made:
            gate.hold()
        return runners.factory.create()

    runner = runners.start(on_create=create)
    first = runner.renew()
    gate.wait_for()
    second = runner.renew()
    # The old one is destroyed before the new one is made.
    assert first.result(LONG_TIMEOUT) == 1
    assert not second.done()
    gate.open()
    assert second.result(LONG_TIMEOUT) == 1
    assert runner.queue_task(number) == 2


def test_a_renewal_of_a_runner_that_cannot_make_resources_is_done_when_it_can(
    runners: Runners, log: LogCapture
) -> None:
    fails = threading.Event()

    def create() -> Resource:
        if fails.is_set():
            raise ConnectionError("down")
        return runners.factory.create()

    runner = runners.start(worker_count=2, on_create=create)
    fails.set()
    renewal = runner.renew()
    log.take()
    # The other one serves.
    assert not renewal.done()
    assert runner.queue_task(number) in {0, 1}
    fails.clear()
    assert renewal.result(LONG_TIMEOUT) == 2


def test_cancelling_ends_the_waiting_and_not_the_renewal(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    task = runner.submit(gate.hold)
    gate.wait_for()
    renewals = [runner.renew() for _ in range(3)]
    assert renewals[0].cancel()
    assert renewals[1].request_cancel("not needed")
    assert [renewal.cancelled() for renewal in renewals] == [True, True, False]
    gate.open()
    assert renewals[2].result(LONG_TIMEOUT) == 1
    assert task.result(LONG_TIMEOUT) is None
    assert runner.queue_task(number) == 1
    metrics = runner.metrics()
    assert (metrics.total_tasks_arrived, metrics.total_tasks_cancelled) == (2, 0)


def test_a_renewal_that_is_settled_by_hand_counts_as_no_task(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    renewal = runner.renew()
    renewal.set_result(7)
    assert (renewal.result(), runner.stats().queued_tasks) == (7, 0)
    gate.open()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_renewal_fails_when_its_runner_ends_before(
    runners: Runners, gate: Gate, end: str
) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    renewal = runner.renew()
    call = Call(getattr(runner, end), LONG_TIMEOUT)
    eventually(lambda: runner.state != "running")
    gate.open()
    with pytest.raises(RunnerStopped):
        renewal.result(LONG_TIMEOUT)
    call.result()


def test_its_callbacks_are_called(runners: Runners) -> None:
    runner = runners.start()
    called = threading.Event()
    runner.renew().add_done_callback(lambda renewal: renewal.result() == 1 and called.set())
    assert called.wait(LONG_TIMEOUT)


@EVERYWHERE
@pytest.mark.parametrize("verb", ["queue_task", "run_task"])
def test_a_task_that_waits_for_it_would_wait_for_itself(
    runners: Runners, verb: str, thread_bound: bool
) -> None:
    runner = runners.start(thread_bound=thread_bound)

    def renew(_resource: Resource) -> tuple[str, bool]:
        renewal = runner.renew()
        with pytest.raises(TimeoutError):
            renewal.result(0.0)
        with pytest.raises(RuntimeError, match="the renewal of its resources") as raised:
            renewal.result()
        return str(raised.value), renewal.done()

    text, is_done = getattr(runner, verb)(renew)
    assert "must not wait without a limit" in text
    assert not is_done


@EVERYWHERE
@pytest.mark.parametrize("verb", ["queue_task", "run_task"])
def test_a_loop_that_a_task_runs_must_not_wait_for_it_either(
    runners: Runners, verb: str, thread_bound: bool
) -> None:
    runner, other = runners.start(thread_bound=thread_bound), runners.start()

    async def renew() -> str:
        assert await other.renew() == 1
        renewal = runner.renew()
        with pytest.raises(RuntimeError, match="must not wait without a limit") as raised:
            await renewal
        return str(raised.value)

    text = getattr(runner, verb)(lambda _: asyncio.run(renew()))
    assert "the renewal of its resources" in text


def test_a_hook_may_renew(runners: Runners) -> None:
    renewals: list[Future[int]] = []
    box: list[Runner[Resource]] = []

    def destroy(resource: Resource) -> None:
        if box and not renewals:
            renewals.append(box[0].renew())
        runners.factory.destroy(resource)

    runner = runners.start(worker_count=2, on_destroy=destroy)
    box.append(runner)
    assert runner.renew().result(LONG_TIMEOUT) == 2
    assert renewals[0].result(LONG_TIMEOUT) >= 2


def test_a_renewal_can_be_awaited(runners: Runners) -> None:
    runner = runners.start(worker_count=2)

    async def renew() -> list[int]:
        renewals = [runner.renew() for _ in range(2)]
        return [await renewal for renewal in renewals]

    assert asyncio.run(renew()) == [2, 2]


def test_an_awaited_renewal_that_is_cancelled_goes_on(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()

    async def renew() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(runner.renew(), 0.01)

    asyncio.run(renew())
    gate.open()
    eventually(lambda: runner.queue_task(number) == 1)


def test_a_lowered_number_of_workers_counts_as_renewed(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=3)
    for _ in range(3):
        runner.submit(gate.hold)
    gate.wait_for(3)
    renewal = runner.renew()
    runner.resize(worker_count=1)
    gate.open()
    assert renewal.result(LONG_TIMEOUT) == 3
    assert runner.queue_task(number) == 3
