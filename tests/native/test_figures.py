"""Figures: gauges of this moment and totals since the start, which always add up."""

from __future__ import annotations

import dataclasses
import math
import random
import threading
import time

import pytest

from tasker import Metrics, Priority, QueueFull, Runner, RunnerStopped, Stats, TaskTimeout
from tests.native.support import (
    FREE_THREADED,
    LONG_TIMEOUT,
    NOTHING,
    OVERDUE,
    Broken,
    Call,
    Gate,
    LogCapture,
    Resource,
    Runners,
    at_once,
    break_down,
    eventually,
    finished_tasks,
    is_healthy,
)


def test_a_new_runner_has_workers_and_nothing_else(runners: Runners) -> None:
    stats = runners.start(worker_count=3).stats()
    assert isinstance(stats, Stats)
    gauges = dataclasses.asdict(stats)
    assert {name for name, value in gauges.items() if value} >= {"base_workers", "active_workers"}
    assert all(value == 3 for name, value in gauges.items() if name.endswith("_workers") and value)


def test_a_stopped_runner_has_nothing(runners: Runners) -> None:
    runner = runners.start(worker_count=3, resource_pool_size=2)
    runner.run_task(lambda _: None)
    runner.stop(LONG_TIMEOUT)
    assert runner.stats() == NOTHING


def test_metrics_without_a_task_are_all_zero(runners: Runners) -> None:
    metrics = runners.start().metrics()
    assert isinstance(metrics, Metrics)
    figures = dataclasses.asdict(metrics)
    # A worker has come up, with a resource.
    for figure in ("average_attach_time", "attach", "creation"):
        figures.pop(figure)
    for nested in ("execution", "wait", "by_task", "errors", "replaced"):
        assert set(figures.pop(nested).values()) <= {0}
    assert set(figures.values()) == {0}


def test_snapshots_stay_as_they_were(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    stats, metrics = runner.stats(), runner.metrics()
    runner.submit(gate.hold)
    gate.wait_for()
    assert (stats.running_tasks, metrics.total_tasks_arrived) == (0, 0)
    assert runner.stats().running_tasks == 1


def test_what_waits_and_what_runs_is_counted(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    for _ in range(2):
        runner.submit(gate.hold)
    gate.wait_for(2)
    for priority in Priority:
        runner.options(priority=priority).submit(gate.hold)
    stats = runner.stats()
    assert (stats.running_tasks, stats.queued_tasks, stats.priority_tasks) == (2, 3, 1)


def test_a_task_is_counted_before_its_outcome_is_seen(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    for done in range(1, 100):
        runner.queue_task(lambda _: None)
        assert runner.metrics().total_tasks_completed == done
        assert runner.stats().running_tasks == 0


def test_each_end_is_counted_apart(runners: Runners) -> None:
    runner, gate = runners.start(max_queue_size=4, when_full="raise"), Gate()
    runner.queue_task(lambda _: None)
    runner.submit(break_down).exception(LONG_TIMEOUT)
    runner.submit(gate.hold)
    gate.wait_for()
    runner.submit(gate.hold).cancel()
    runner.options(timeout=0.001).submit(gate.hold).exception(LONG_TIMEOUT)
    for _ in range(4):
        runner.submit(gate.hold)
    with pytest.raises(QueueFull):
        runner.submit(gate.hold)
    kill = Call(runner.kill)
    eventually(lambda: runner.state == "killed")
    with pytest.raises(RunnerStopped):
        runner.submit(gate.hold)
    gate.open()
    kill.result()
    metrics = runner.metrics()
    assert metrics.total_tasks_arrived == 9
    assert metrics.total_tasks_completed == 2
    assert metrics.total_tasks_failed == 1
    assert metrics.total_tasks_cancelled == 1
    assert metrics.total_tasks_timed_out == 1
    assert metrics.total_tasks_dropped == 4
    assert metrics.total_tasks_refused == 2
    assert metrics.total_tasks_refused_full == 1
    assert metrics.total_tasks_retried == 0


def test_rates_of_success_and_failure_count_from_the_first_task_on(runners: Runners) -> None:
    runner = runners.start()
    for _ in range(3):
        runner.submit(break_down).exception(LONG_TIMEOUT)
    assert (runner.metrics().success_rate, runner.metrics().failure_rate) == (0, 1)
    runner.queue_task(lambda _: None)
    assert (runner.metrics().success_rate, runner.metrics().failure_rate) == (0.25, 0.75)


def test_a_failure_that_was_retried_with_success_is_none(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy)
    attempts: list[int] = []

    def flaky(_resource: Resource) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise Broken

    runner.queue_task(flaky)
    metrics = runner.metrics()
    assert metrics.total_tasks_arrived == 1
    assert metrics.total_tasks_retried == 1
    assert (metrics.total_tasks_completed, metrics.total_tasks_failed) == (1, 0)


@pytest.mark.timing
def test_times_are_those_of_the_tasks(runners: Runners) -> None:
    runner = runners.start()
    for pause in (0.001, 0.02, 0.04):
        runner.queue_task(lambda _, pause: time.sleep(pause), pause)
    metrics = runner.metrics()
    assert 0.001 <= metrics.min_execution_time < 0.02
    assert metrics.max_execution_time >= 0.04
    assert 0.02 <= metrics.average_execution_time <= metrics.max_execution_time
    assert 0.019 <= metrics.p50_execution_time < 0.04
    assert metrics.p50_execution_time <= metrics.p95_execution_time <= metrics.p99_execution_time
    assert metrics.p99_execution_time == pytest.approx(metrics.max_execution_time, rel=0.02)


@pytest.mark.timing
def test_waiting_counts_from_the_submit_to_the_start(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    future = runner.submit(lambda _: None)
    with pytest.raises(TimeoutError):
        future.result(0.03)
    gate.open()
    future.result(LONG_TIMEOUT)
    metrics = runner.metrics()
    assert 0.03 <= metrics.max_wait_time < LONG_TIMEOUT
    assert 0 <= metrics.min_wait_time < 0.03
    assert metrics.min_wait_time <= metrics.p50_wait_time <= metrics.max_wait_time * 1.01


def test_failed_tasks_have_times_too(runners: Runners) -> None:
    runner = runners.start()
    runner.submit(break_down).exception(LONG_TIMEOUT)
    eventually(lambda: runner.metrics().max_execution_time > 0)


def test_rates_see_what_happened_lately(runners: Runners) -> None:
    runner = runners.start()
    for future in [runner.submit(lambda _: None) for _ in range(200)]:
        future.result(LONG_TIMEOUT)
    metrics = runner.metrics()
    assert metrics.task_arrival_rate > 0
    assert metrics.task_completion_rate > 0
    assert math.isfinite(metrics.task_arrival_rate)


def test_only_tasks_that_return_are_completed(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(break_down).exception(LONG_TIMEOUT)
    runner.submit(gate.hold)
    gate.wait_for()
    assert runner.submit(gate.hold).cancel()
    assert runner.options(timeout=0).submit(gate.hold).exception(LONG_TIMEOUT)
    assert runner.metrics().task_arrival_rate > 0
    assert runner.metrics().task_completion_rate == 0
    gate.open()
    eventually(lambda: runner.metrics().task_completion_rate)
    assert runner.metrics().task_completion_rate < runner.metrics().task_arrival_rate


def test_figures_can_be_read_from_everywhere(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    seen: list[int] = []

    def look(*_anything: object) -> None:
        seen.append(runner.stats().active_workers)
        runner.metrics()

    future = runner.submit(gate.hold)
    future.add_done_callback(look)
    gate.open()
    runner.queue_task(look)
    eventually(lambda: len(seen) == 2)
    assert seen == [1, 1]


@pytest.mark.timing
@pytest.mark.parametrize("verb", ["map", "submit_many", "run_task"])
def test_a_worker_is_as_busy_as_it_was_at_any_moment(runners: Runners, verb: str) -> None:
    before_start = time.monotonic()
    runner = runners.start()
    started = time.monotonic()
    eventually(lambda: time.monotonic() - started >= 0.3)
    looks: list[tuple[float, float, float]] = []
    began = time.monotonic()

    def look(_resource: Resource, _item: object) -> None:
        time.sleep(0.01)
        before = time.monotonic()
        (worker,) = [worker for worker in runner.workers() if worker.task]
        looks.append((before, worker.busy_share, time.monotonic()))

    if verb == "run_task":
        runner.queue_task(lambda _: [runner.run_task(look, item) for item in range(20)])
    elif verb == "map":
        # As one batch.
        list(runner.map(look, range(20), buffersize=20))
    else:
        runner.submit_many(look, range(20))[-1].result(LONG_TIMEOUT)
    assert len(looks) == 20
    for before, share, after in looks:
        assert share <= (after - began) / (after - started) + 0.02
        assert share >= (before - began) / (before - before_start) - 0.1


@pytest.mark.stress
def test_a_task_that_was_not_entered_has_no_time(runners: Runners, log: LogCapture) -> None:
    log.overlook(OVERDUE)
    runner = runners.start(worker_count=2)
    entered: list[int] = []

    def task(_resource: Resource) -> None:
        entered.append(1)
        time.sleep(0.0005)

    views = [runner.options(name=f"{limit}", timeout=limit / 10_000) for limit in range(40)]
    for _ in range(25):
        futures = [view.submit(task) for view in views]
        for future in futures:
            future.exception(LONG_TIMEOUT)
    runner.stop(LONG_TIMEOUT)
    metrics = runner.metrics()
    assert metrics.total_tasks_timed_out > 0
    assert metrics.execution.count == metrics.wait.count == len(entered)
    assert sum(row.execution.count for row in metrics.by_task.values()) == len(entered)


@pytest.mark.timing
def test_reading_costs_the_same_after_many_tasks(runners: Runners) -> None:
    runner = runners.start(worker_count=2)

    def cost() -> float:
        def one() -> float:
            began = time.perf_counter()
            runner.metrics()
            return time.perf_counter() - began

        return min(one() for _ in range(50))

    def work(count: int) -> None:
        for future in [runner.submit(lambda _: None) for _ in range(count)]:
            future.result(LONG_TIMEOUT)

    work(100)
    before = cost()
    work(20_000)
    assert cost() < 5 * before + 0.001


class Load:
    """Clients that make every kind of task there is, until they are told to end."""

    def __init__(self, runner: Runner[Resource]) -> None:
        self.runner = runner
        self.over = threading.Event()

    def client(self) -> None:
        choose = random.Random(threading.get_ident())
        while not self.over.is_set():
            view = self.runner.options(
                priority=choose.choice(list(Priority)),
                once=choose.random() < 0.3,
                timeout=choose.choice([None, 0.0005, 1]),
            )
            try:
                if choose.random() < 0.2:
                    view.run_task(self.task, choose.random())
                    continue
                futures = [view.submit(self.task, choose.random()) for _ in range(5)]
            except (QueueFull, TaskTimeout, Broken, ValueError):
                continue
            if choose.random() < 0.3:
                futures[-1].cancel()
            for future in futures:
                eventually(future.done)

    def task(self, _resource: Resource, chance: float) -> None:
        if chance < 0.05:
            raise Broken
        if chance < 0.1:
            raise ValueError
        if chance < 0.2:
            time.sleep(chance / 100)
        if chance < 0.4:
            self.runner.run_task(lambda _: None)


@pytest.mark.stress
@pytest.mark.usefixtures("fast_switch")
@pytest.mark.parametrize("thread_bound", [True, False])
def test_the_books_balance_at_any_moment(
    runners: Runners, log: LogCapture, thread_bound: bool
) -> None:
    """What is accepted is waiting, running or finished; nothing is ever counted twice or missed.

    Between two readings the world moves on, so each is held against what came before and after it;
    a retry on its way back into the queue may be seen on both sides, one for each worker.
    """
    log.overlook("outlived its time limit")
    log.overlook("failed and nobody looked")
    runner = runners.start(
        worker_count=2,
        max_worker_count=3,
        max_queue_size=20,
        check_health=is_healthy,
        thread_bound=thread_bound,
    )
    load = Load(runner)
    clients = at_once(4, load.client)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        before, stats, after = runner.metrics(), runner.stats(), runner.metrics()
        assert min(dataclasses.astuple(stats)) >= 0
        assert before.total_tasks_arrived <= after.total_tasks_arrived
        assert finished_tasks(before) <= finished_tasks(after)
        assert finished_tasks(after) <= after.total_tasks_arrived
        accounted = stats.queued_tasks + stats.running_tasks - stats.overdue_tasks
        if not FREE_THREADED:
            assert before.total_tasks_arrived - finished_tasks(after) <= accounted
            assert accounted <= after.total_tasks_arrived - finished_tasks(before) + 5
        assert stats.priority_tasks <= 20 + 4
        assert stats.active_workers <= 3
    load.over.set()
    for client in clients:
        client.result()
    eventually(lambda: runner.stats().running_tasks == 0)
    assert runner.stats().queued_tasks == 0
    metrics = runner.metrics()
    assert metrics.total_tasks_arrived == finished_tasks(metrics)


@pytest.mark.stress
@pytest.mark.usefixtures("fast_switch")
def test_figures_and_tasks_never_wait_for_each_other(runners: Runners) -> None:
    runner = runners.start(worker_count=4)

    def noisy(_resource: Resource) -> int:
        runner.stats()
        runner.metrics()
        return len(threading.enumerate())

    def hammer() -> None:
        for _ in range(60):
            assert runner.queue_task(noisy) > 4
            runner.stats()
            runner.metrics()

    for call in at_once(6, hammer):
        call.result()
