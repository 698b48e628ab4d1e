"""`on_event` is told of every task: once for each time that a total counts it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import pickle
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import tasker
from tasker import (
    Config,
    ConfigError,
    Priority,
    QueueFull,
    ResourceCreationError,
    Runner,
    RunnerStopped,
    Submitter,
    TaskCancelled,
    TaskEvent,
    TaskTimeout,
)
from tests.native.support import (
    EVENT_KINDS,
    LONG_TIMEOUT,
    OVERDUE,
    Broken,
    Call,
    Gate,
    LogCapture,
    Resource,
    Runners,
    break_down,
    eventually,
    is_healthy,
)

CLOCKS_APART = 0.001
"""Seconds by which the runner's clock may be behind `time.monotonic`."""


class EventBook:
    """An `on_event` that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[TaskEvent] = []
        self.threads: list[int] = []

    def __call__(self, event: TaskEvent) -> None:
        self.events.append(event)
        self.threads.append(threading.get_ident())

    def of(self, kind: str) -> list[TaskEvent]:
        """The events of a kind."""
        return [event for event in self.events if event.kind == kind]

    def one(self, kind: str) -> TaskEvent:
        """Waits for the one event of a kind."""
        eventually(lambda: self.of(kind))
        (event,) = self.of(kind)
        return event


class Tally:
    """An `on_event` that only counts, exactly, on any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def __call__(self, event: TaskEvent) -> None:
        with self._lock:
            self._counts[event.kind] += 1

    def check(self, runner: Runner[Any]) -> None:
        """Every total of a runner that has ended is what was counted here."""
        metrics = runner.metrics()
        totals = {kind: getattr(metrics, f"total_tasks_{kind}") for kind in EVENT_KINDS}
        assert {kind: self._counts[kind] for kind in EVENT_KINDS} == totals


@pytest.fixture
def book() -> EventBook:
    """Keeps all events."""
    return EventBook()


def give(_resource: Resource, x: object = None) -> object:
    return x


def fail(_resource: Resource, *_anything: object) -> None:
    raise ArithmeticError


# ---- what an event says


def test_there_is_a_kind_for_each_total() -> None:
    fields = tasker.Metrics.__dataclass_fields__
    totals = [name for name in fields if name.startswith("total_tasks_")]
    # It counts some of the refused ones once more.
    totals.remove("total_tasks_refused_full")
    assert [f"total_tasks_{kind}" for kind in EVENT_KINDS] == totals


def test_a_task_arrives_and_completes(runners: Runners, book: EventBook) -> None:
    runner = runners.start(on_event=book, name="pg")
    before = time.monotonic()
    runner.options(name="load", priority=Priority.HIGH).submit(give).result()
    arrived, completed = book.one("arrived"), book.one("completed")
    assert before - CLOCKS_APART <= arrived.submitted == completed.submitted <= time.monotonic()
    for event in arrived, completed:
        assert (event.runner, event.task_id, event.name) == ("pg", 1, "load")
        assert event.priority is Priority.HIGH
        assert event.error is None
    assert (arrived.attempt, arrived.worker, arrived.started, arrived.ended) == (0,) + (None,) * 3
    assert (completed.attempt, completed.worker) == (1, "pg-worker-1")
    assert completed.started is not None
    assert completed.ended is not None
    assert completed.submitted <= completed.started <= completed.ended <= time.monotonic()


def test_each_failed_attempt_is_told_with_its_error(runners: Runners, book: EventBook) -> None:
    runner = runners.start(on_event=book, check_health=is_healthy, max_retries=1)
    future = runner.submit(break_down)
    error = future.exception()
    failed, retried = book.one("failed"), book.one("retried")
    assert (retried.attempt, failed.attempt) == (1, 2)
    assert failed.error is error
    assert isinstance(retried.error, Broken)
    assert None not in (retried.started, retried.ended, failed.started)


def test_a_task_that_times_out_while_it_runs(
    runners: Runners, gate: Gate, book: EventBook, log: LogCapture
) -> None:
    log.overlook(OVERDUE)
    runner = runners.start(on_event=book)
    future = runner.options(timeout=0.01).submit(gate.hold)
    with pytest.raises(TaskTimeout) as raised:
        future.result()
    event = book.one("timed_out")
    assert event.error is raised.value
    assert event.attempt == 1
    gate.open()


def test_a_task_that_never_starts(runners: Runners, gate: Gate, book: EventBook) -> None:
    runner = runners.start(on_event=book)
    runner.submit(gate.hold)
    gate.wait_for()
    assert runner.submit(give).cancel()
    dropped = runner.submit(give)
    runner.cancel_queued()
    with pytest.raises(TaskTimeout):
        runner.options(timeout=0.01).queue_task(give)
    assert book.one("cancelled").error is None
    assert book.one("dropped").error is dropped.exception()
    for kind in "cancelled", "dropped", "timed_out":
        event = book.one(kind)
        assert (event.attempt, event.worker, event.started) == (0, None, None)
        assert event.ended is not None
    gate.open()


def test_a_refusal_has_the_error_that_the_caller_got(
    runners: Runners, gate: Gate, book: EventBook
) -> None:
    runner = runners.start(on_event=book, max_queue_size=1, when_full="raise")
    runner.submit(gate.hold)
    gate.wait_for()
    runner.submit(give)
    calls: dict[type[Exception], Callable[[], object]] = {
        QueueFull: lambda: runner.options(priority=Priority.LOW, name="late").submit(give),
        RunnerStopped: lambda: runner.run_task(give),
    }
    for kind, call in calls.items():
        book.events.clear()
        if kind is RunnerStopped:
            gate.open()
            runner.stop()
            book.events.clear()
        with pytest.raises(kind) as raised:
            call()
        event = book.one("refused")
        assert event.error is raised.value
        assert (event.task_id, event.attempt, event.ended) == (0, 0, None)
        assert book.threads[-1] == threading.get_ident()
        if kind is QueueFull:
            assert (event.name, event.priority) == ("late", Priority.LOW)
        else:
            assert (event.name, event.priority) == ("give", Priority.NORMAL)


@pytest.mark.parametrize("limit", [None, 20.0], ids=["in batches", "as tasks"])
def test_every_item_of_a_map_is_told(
    runners: Runners, book: EventBook, limit: float | None
) -> None:
    runner = runners.start(on_event=book, worker_count=2, task_timeout=limit)
    assert list(runner.map(give, range(50))) == list(range(50))
    runner.stop()
    for kind in "arrived", "completed":
        assert sorted(event.task_id for event in book.of(kind)) == list(range(1, 51))
    for event in book.of("completed"):
        assert event.name == "give"
        assert event.worker
        assert event.started is not None
        assert event.ended is not None
        assert event.submitted <= event.started <= event.ended


def test_items_that_fail_are_retried_and_cancelled(runners: Runners, book: EventBook) -> None:
    runner = runners.start(on_event=book, check_health=is_healthy, max_retries=2)

    def work(_resource: Resource, item: int) -> int:
        if item == 3:
            raise Broken
        return item

    with pytest.raises(Broken):
        list(runner.map(work, range(200)))
    runner.stop()
    (failed,) = book.of("failed")
    assert (failed.task_id, failed.attempt) == (4, 3)
    assert [(event.task_id, event.attempt) for event in book.of("retried")] == [(4, 1), (4, 2)]
    ends = Counter(
        event.task_id for event in book.events if event.kind not in {"arrived", "retried"}
    )
    assert ends == Counter(event.task_id for event in book.of("arrived"))
    assert set(ends.values()) == {1}


def test_an_executor_over_a_runner_tells_of_its_tasks(runners: Runners, book: EventBook) -> None:
    runner = runners.start(on_event=book)
    executor = runner.executor()
    assert executor.submit(int, "5").result() == 5
    runner.stop()
    with pytest.raises(RuntimeError):
        executor.submit(int, "5")
    assert [event.kind for event in book.events if event.kind != "arrived"] == [
        "completed",
        "refused",
    ]
    assert book.one("arrived").name == "int"


@pytest.mark.parametrize("thread_bound", [True, False])
def test_run_task_is_told_on_every_way_that_it_takes(
    runners: Runners, book: EventBook, thread_bound: bool
) -> None:
    runner = runners.start(on_event=book, thread_bound=thread_bound)
    runner.run_task(give)
    runner.run_task(lambda _: runner.run_task(fail_in_vain))
    runner.stop()
    assert [event.task_id for event in book.of("arrived")] == [1, 2, 3]
    outcomes = [(e.task_id, e.kind) for e in book.events if e.kind != "arrived"]
    assert outcomes == [(1, "completed"), (3, "completed"), (2, "completed")]
    assert [event.kind for event in book.events if event.task_id == 3] == ["arrived", "completed"]


def fail_in_vain(_resource: Resource) -> None:
    with contextlib.suppress(ArithmeticError):
        fail(_resource)


def start_full(
    runners: Runners, gate: Gate, on_event: Callable[[TaskEvent], object]
) -> Runner[Resource]:
    """Starts a runner whose worker is held, and whose queue has no room left."""
    runner = runners.start(on_event=on_event, max_queue_size=1)
    runner.submit(gate.hold)
    gate.wait_for()
    runner.submit(give)
    return runner


def test_a_task_that_waited_for_room_has_arrived_when_it_ends(
    runners: Runners, gate: Gate, book: EventBook
) -> None:
    runner = start_full(runners, gate, book)

    async def main() -> None:
        let_in, cancelled = runner.asubmit(give, 3), runner.asubmit(give)
        cancelled.cancel()
        await asyncio.sleep(0)
        gate.open()
        assert await let_in == 3

    asyncio.run(main())
    runner.stop()
    assert len(book.of("arrived")) == len(book.of("completed")) == 3
    assert [event.kind for event in book.events if event.task_id == 3] == ["arrived", "completed"]
    assert book.of("cancelled") == []


@pytest.mark.parametrize("verb", ["submit", "queue_task", "map", "asubmit"])
def test_a_wait_for_room_is_over_when_a_task_counts_as_submitted(
    runners: Runners, gate: Gate, book: EventBook, verb: str
) -> None:
    async def asubmit(view: Submitter[Any]) -> object:
        return await view.asubmit(give)

    runner = runners.start(on_event=book, max_queue_size=1)
    runner.submit(gate.hold)
    gate.wait_for()
    first, view = runner.submit(give), runner.options(name="late")
    calls: dict[str, Callable[[], object]] = {
        "map": lambda: list(view.map(give, [1])),
        "asubmit": lambda: asyncio.run(asubmit(view)),
    }
    call = Call(calls.get(verb) or partial(getattr(view, verb), give))
    call.wait_until_blocked()
    there_was_room = time.monotonic()
    first.cancel()
    gate.open()
    call.result()
    runner.stop()
    late = [event for event in book.events if event.name == "late"]
    assert {event.kind for event in late} == {"arrived", "completed"}
    (submitted,) = {event.submitted for event in late}
    assert submitted >= there_was_room - CLOCKS_APART


def test_a_task_that_waits_for_room_is_refused_when_the_runner_stops(
    runners: Runners, gate: Gate, book: EventBook
) -> None:
    runner = start_full(runners, gate, book)

    async def main() -> float:
        waiting = runner.asubmit(give)
        before = time.monotonic()
        with contextlib.suppress(tasker.StopTimeout):
            runner.kill(timeout=0)
        with pytest.raises(RunnerStopped) as raised:
            await waiting
        assert book.one("refused").error is raised.value
        return before

    before = asyncio.run(main())
    gate.open()
    eventually(lambda: runner.state == "stopped")
    event = book.one("refused")
    assert (event.task_id, event.attempt, event.ended) == (0, 0, None)
    assert before - CLOCKS_APART <= event.submitted <= time.monotonic()
    assert len(book.of("arrived")) == 2


def test_tasks_without_a_resource_are_dropped_with_the_reason(
    runners: Runners, book: EventBook, log: LogCapture, gate: Gate
) -> None:
    made: list[Resource] = []

    def create() -> Resource:
        if made:
            raise OSError
        made.append(runners.factory.create())
        return made[0]

    runner = runners.start(on_create=create, on_event=book, check_health=is_healthy, max_retries=0)
    runner.submit(gate.hold)
    gate.wait_for()
    broken, waiting = runner.submit(break_down), runner.submit(give)
    gate.open()
    assert isinstance(broken.exception(), Broken)
    log.take()
    runner.stop()
    event = book.one("dropped")
    assert isinstance(event.error, ResourceCreationError)
    assert event.error is waiting.exception()
    log.rest()


# ---- the object


def test_only_a_runner_makes_events() -> None:
    with pytest.raises(TypeError, match="on_event"):
        TaskEvent()
    assert TaskEvent.__module__ == "tasker"


def test_an_event_never_changes(runners: Runners, book: EventBook) -> None:
    runners.start(on_event=book, name="pg").queue_task(give)
    event = book.one("completed")
    text = "<TaskEvent 'completed' of runner 'pg': task 1 'give', attempt 1>"
    assert repr(event) == text
    for name in "kind", "error", "anything":
        with pytest.raises(AttributeError):
            setattr(event, name, None)
    with pytest.raises(TypeError):
        pickle.dumps(event)


@pytest.mark.parametrize("hook", [5, lambda: None, lambda _a, _b: None])
def test_a_hook_that_cannot_be_called_is_refused(hook: Any) -> None:
    with pytest.raises(ConfigError, match="on_event must be callable"):
        Config(on_create=object, worker_count=1, on_event=hook)


def test_the_collector_of_the_go_library_is_pointed_here() -> None:
    fields: dict[str, Any] = {"on_create": object, "worker_count": 1, "collector": print}
    with pytest.raises(TypeError, match="did you mean 'on_event'"):
        Config(**fields)


# ---- every total


class Argument:
    """An argument that leaves when nothing holds it."""


def mixed(runner: Runner[Resource], tasks: int) -> None:
    """Gives a runner so many tasks of all kinds."""
    for _ in range(tasks // 20):
        runner.submit(give)
        runner.submit(fail)
        runner.submit(break_down)
        runner.options(once=True).submit(break_down)
        runner.submit(give).cancel()
        runner.options(timeout=1e-9).submit(give)
        runner.submit_many(give, range(4))
        with contextlib.suppress(ArithmeticError):
            runner.run_task(fail)
        for _ in zip(range(9), runner.map(give, range(9)), strict=False):
            pass
    runner.cancel_queued()


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("thread_bound", [True, False])
def test_the_sums_are_the_totals_whatever_happens(
    runners: Runners, log: LogCapture, end: str, thread_bound: bool
) -> None:
    log.overlook("nobody looked")
    tally = Tally()
    runner = runners.start(
        on_event=tally,
        worker_count=3,
        check_health=is_healthy,
        max_retries=1,
        max_queue_size=50,
        thread_bound=thread_bound,
    )

    def submit() -> None:
        with contextlib.suppress(RunnerStopped, TaskCancelled, QueueFull):
            mixed(runner, 2_000)

    calls = [Call(submit) for _ in range(3)]
    eventually(lambda: runner.metrics().total_tasks_completed > 500)
    getattr(runner, end)()
    for call in calls:
        call.result()
    tally.check(runner)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_of_many_tasks_none_is_missed(runners: Runners, end: str) -> None:
    tally = Tally()
    runner = runners.start(on_event=tally, worker_count=2)
    results = runner.map(give, range(100_000))
    for _ in results:
        pass
    runner.submit_many(give, range(5_000))
    results = runner.map(give, range(20_000), buffersize=10_000)
    next(results)
    getattr(runner, end)()
    with contextlib.suppress(TaskCancelled, RunnerStopped):
        list(results)
    results.close()
    tally.check(runner)


# ---- what a hook may do


def test_a_hook_that_raises_is_logged_ever_more_rarely(runners: Runners, log: LogCapture) -> None:
    def hook(event: TaskEvent) -> None:
        if event.kind == "completed":
            raise LookupError(event.task_id)

    runner = runners.start(on_event=hook, name="pg")
    assert [runner.queue_task(give, n) for n in range(9)] == list(range(9))
    runner.stop()
    records = log.rest()
    counts = [f"pg: on_event failed, {n} times so far" for n in (1, 2, 4, 8)]
    assert [record.getMessage() for record in records] == counts
    for record in records:
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], LookupError)


def test_a_hook_that_blocks_keeps_no_outcome_back(
    runners: Runners, gate: Gate, book: EventBook
) -> None:
    def hook(event: TaskEvent) -> None:
        if event.kind == "completed" and event.task_id == 1:
            gate.hold()

    runner = runners.start(on_event=hook, worker_count=2)
    future = runner.submit(give, 5)
    gate.wait_for()
    assert future.result(timeout=LONG_TIMEOUT) == 5
    assert runner.queue_task(give, 6) == 6
    gate.open()


def test_what_a_hook_submits_is_counted_and_not_told_on_its_thread(
    runners: Runners, book: EventBook
) -> None:
    futures: list[tasker.Future[object]] = []

    def hook(event: TaskEvent) -> None:
        book(event)
        if event.kind == "failed":
            futures.append(runner.options(name="again").submit(give))
            assert runner.submit(give).cancel()

    runner = runners.start(on_event=hook)
    assert runner.submit(fail).exception()
    eventually(lambda: futures)
    futures[0].result()
    runner.stop()
    told = [(event.kind, event.name) for event in book.events]
    assert sorted(told) == [("arrived", "fail"), ("completed", "again"), ("failed", "fail")]
    metrics = runner.metrics()
    assert (metrics.total_tasks_arrived, metrics.total_tasks_cancelled) == (3, 1)


def test_two_runners_that_tell_each_other_come_to_an_end(runners: Runners) -> None:
    kinds: list[tuple[str, str]] = []
    pair: list[Runner[Resource]] = []

    def hook(event: TaskEvent) -> None:
        kinds.append((event.runner, event.kind))
        if event.kind == "arrived":
            pair[event.runner == "a"].submit(give)

    pair.extend(runners.start(on_event=hook, name=name) for name in "ab")
    pair[0].submit(give).result()
    eventually(lambda: not any(runner.stats().queued_tasks for runner in pair))
    for runner in pair:
        runner.stop()
    # What `b` is given in the hook of `a` is told, and what its hook gives `a` then is not.
    assert Counter(kinds)["a", "arrived"] == 1
    assert Counter(kinds)["b", "arrived"] == 1
    assert Counter(kinds)["a", "completed"] == 2


@pytest.mark.parametrize("kind", ["arrived", "completed"])
def test_a_hook_that_waits_for_the_task_it_is_told_of_hangs_nobody(
    runners: Runners, kind: str
) -> None:
    seen: list[object] = []
    futures: list[tasker.Future[object]] = []
    ready = threading.Event()

    def hook(event: TaskEvent) -> None:
        if event.kind != kind:
            return
        if kind == "completed":
            assert ready.wait(LONG_TIMEOUT)
            seen.append(futures[0].result())
            return
        try:
            seen.append(runner.queue_task(give, 5))
        except RuntimeError as refusal:
            seen.append(type(refusal))

    runner = runners.start(on_event=hook)
    futures.append(runner.submit(give, 5))
    ready.set()
    assert futures[0].result() == 5
    runner.stop()
    # A call that nobody may be left to serve is refused.
    assert seen == ([5] if kind == "completed" else [RuntimeError])


@pytest.mark.parametrize("kind", ["arrived", "completed", "failed", "retried", "cancelled"])
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_hook_may_end_the_runner(
    runners: Runners, gate: Gate, log: LogCapture, kind: str, end: str
) -> None:
    log.overlook("nobody looked")
    tally = Tally()

    def hook(event: TaskEvent) -> None:
        tally(event)
        if event.kind == kind:
            getattr(runner, end)()

    runner = runners.start(on_event=hook, check_health=is_healthy, max_retries=2)
    with contextlib.suppress(RunnerStopped):
        if kind == "cancelled":
            runner.submit(gate.hold)
            gate.wait_for()
            runner.submit(give).cancel()
        else:
            for task in give, fail, break_down, give:
                runner.submit(task)
    gate.open()
    eventually(lambda: runner.state == "stopped")
    runner.kill()
    tally.check(runner)


@pytest.mark.parametrize("thread_bound", [True, False])
def test_a_hook_may_end_the_runner_that_runs_its_callers_task(
    runners: Runners, thread_bound: bool
) -> None:
    tally = Tally()

    def hook(event: TaskEvent) -> None:
        tally(event)
        if event.kind == "arrived":
            runner.kill()

    runner = runners.start(on_event=hook, thread_bound=thread_bound)
    with pytest.raises(TaskCancelled):
        runner.run_task(give)
    runner.kill()
    tally.check(runner)


def test_stop_waits_for_the_hooks_that_its_workers_are_in(runners: Runners, gate: Gate) -> None:
    tally = Tally()

    def hook(event: TaskEvent) -> None:
        if event.kind == "completed":
            gate.hold()
        tally(event)

    runner = runners.start(on_event=hook, worker_count=4)
    runner.submit_many(give, range(40))
    gate.wait_for(4)
    stop = Call(runner.stop)
    stop.wait_until_blocked()
    gate.open()
    stop.result()
    tally.check(runner)


def wait_for_room(runner: Runner[Resource], tasks: int) -> Call[list[object]]:
    """Has so many tasks wait for room by themselves, in the event loop of another thread."""
    lined_up = threading.Event()

    async def main() -> list[object]:
        waiting = [runner.asubmit(give) for _ in range(tasks)]
        lined_up.set()
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    call = Call(lambda: asyncio.run(main()))
    assert lined_up.wait(LONG_TIMEOUT)
    return call


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_hook_that_blocks_at_a_refusal_holds_no_shutdown_up(
    runners: Runners, gate: Gate, end: str
) -> None:
    at_refusal = Gate()

    def hook(event: TaskEvent) -> None:
        if event.kind == "refused" and threading.get_ident() in enders:
            at_refusal.hold()

    def end_it() -> None:
        enders.append(threading.get_ident())
        getattr(runner, end)()

    enders: list[int] = []
    runner = runners.start(on_event=hook, max_queue_size=1)
    held = runner.submit(gate.hold)
    gate.wait_for()
    queued = runner.submit(give, 5)
    waiting = wait_for_room(runner, 2)
    call = Call(end_it)
    at_refusal.wait_for()
    with pytest.raises(RunnerStopped):
        runner.run_task(give)
    assert {type(error) for error in waiting.result()} == {RunnerStopped}
    gate.open()
    held.result(timeout=LONG_TIMEOUT)
    if end == "stop":
        assert queued.result(timeout=LONG_TIMEOUT) == 5
    else:
        assert isinstance(queued.exception(timeout=LONG_TIMEOUT), TaskCancelled)
    at_refusal.open()
    call.result()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_hook_may_kill_the_runner_at_each_of_many_refusals(
    runners: Runners, gate: Gate, end: str
) -> None:
    tally = Tally()

    def hook(event: TaskEvent) -> None:
        tally(event)
        if event.kind == "refused":
            runner.kill()

    runner = start_full(runners, gate, hook)
    waiting = wait_for_room(runner, 2_000)
    call = Call(getattr(runner, end))
    assert {type(error) for error in waiting.result()} == {RunnerStopped}
    gate.open()
    call.result()
    tally.check(runner)


@pytest.mark.parametrize("how", ["cancel_queued", "request_cancel", "kill"])
def test_a_task_waits_for_its_retry_while_the_hook_is_told_of_that(
    runners: Runners, gate: Gate, log: LogCapture, how: str
) -> None:
    log.overlook("nobody looked")

    def hook(event: TaskEvent) -> None:
        told.append(event.kind)
        if event.kind == "retried":
            gate.hold()

    told: list[str] = []
    runner = runners.start(on_event=hook, check_health=is_healthy, max_retries=1)
    future = runner.submit(break_down)
    gate.wait_for()
    stats = runner.stats()
    assert (stats.queued_tasks, stats.running_tasks) == (1, 0)
    match how:
        case "cancel_queued":
            runner.cancel_queued()
        case "request_cancel":
            future.request_cancel()
        case _:
            with contextlib.suppress(tasker.StopTimeout):
                runner.kill(timeout=0)
    assert isinstance(future.exception(timeout=LONG_TIMEOUT), Broken)
    gate.open()
    runner.stop()
    assert Counter(told) == {"arrived": 1, "retried": 1, "failed": 1}


@pytest.mark.parametrize("kind", ["arrived", "retried"])
def test_a_call_on_a_loan_is_taken_back_while_the_hook_is_told_of_it(
    runners: Runners, gate: Gate, kind: str
) -> None:
    def hook(event: TaskEvent) -> None:
        if event.kind == kind:
            gate.hold()

    runner = runners.start(
        on_event=hook, thread_bound=False, check_health=is_healthy, max_retries=1
    )
    call = Call(runner.run_task, break_down)
    gate.wait_for()
    assert runner.stats().queued_tasks == 1
    assert (runner.stats().oldest_wait > 0) is (kind == "arrived")
    runner.cancel_queued()
    gate.open()
    assert isinstance(call.error(), TaskCancelled if kind == "arrived" else Broken)


def test_a_call_inside_a_task_is_taken_back_while_the_hook_is_told_of_it(
    runners: Runners, gate: Gate
) -> None:
    def hook(event: TaskEvent) -> None:
        if event.kind == "arrived" and event.name == "inner":
            gate.hold()

    runner = runners.start(on_event=hook)
    inner = runner.options(name="inner")
    outer = runner.submit(lambda _: inner.run_task(give))
    gate.wait_for()
    assert runner.stats().oldest_wait > 0
    runner.cancel_queued()
    gate.open()
    assert isinstance(outer.exception(), TaskCancelled)


# ---- context variables

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO", default="nobody")


def test_outcomes_are_told_in_the_submitters_variables(runners: Runners, log: LogCapture) -> None:
    seen: list[tuple[str, str]] = []

    def hook(event: TaskEvent) -> None:
        seen.append((event.kind, WHO.get()))
        if event.kind != "arrived":
            WHO.set("the hook")

    def work(_resource: Resource, *_item: object) -> None:
        WHO.set("the task")

    def main() -> None:
        WHO.set("the caller")
        runner.queue_task(work)
        runner.run_task(work)
        list(runner.map(work, range(2)))
        with pytest.raises(TaskTimeout):
            runner.options(timeout=1e-9).queue_task(work)
        runner.stop()
        with pytest.raises(RunnerStopped):
            runner.submit(work)

    runner = runners.start(on_event=hook)
    contextvars.copy_context().run(main)
    assert {who for _, who in seen} == {"the caller"}
    assert Counter(kind for kind, _ in seen)["completed"] == 4


def test_without_copies_outcomes_are_told_in_the_variables_of_their_thread(
    runners: Runners,
) -> None:
    seen: dict[str, str] = {}

    def create() -> Resource:
        WHO.set("the worker")
        return runners.factory.create()

    runner = runners.start(
        on_create=create,
        copy_contextvars=False,
        on_event=lambda event: seen.update({event.kind: WHO.get()}),
    )
    runner.submit(give).result()
    runner.stop()
    assert seen == {"arrived": "nobody", "completed": "the worker"}


# ---- what is kept alive


def test_an_event_keeps_nothing_of_the_task_but_its_error(
    runners: Runners, book: EventBook
) -> None:
    runner = runners.start(on_event=book)
    argument = Argument()
    kept = weakref.ref(argument)
    runner.submit(give, argument).result()
    assert runner.submit(fail, argument).exception()
    list(runner.map(give, [argument]))
    runner.stop()
    assert len(book.of("completed")) == 2
    error = book.one("failed").error
    assert isinstance(error, ArithmeticError)
    error.__traceback__ = None
    del argument
    gc.collect()
    assert kept() is None


def test_nothing_is_kept_after_the_call(runners: Runners) -> None:
    kept: list[weakref.ref[BaseException]] = []

    def hook(event: TaskEvent) -> None:
        if event.error is not None:
            kept.append(weakref.ref(event.error))

    runner = runners.start(on_event=hook)
    with pytest.raises(Broken):
        runner.queue_task(break_down)
    eventually(lambda: kept)
    gc.collect()
    eventually(lambda: kept[0]() is None)


def test_a_runner_and_a_hook_that_hold_each_other_are_collected() -> None:
    class Owner:
        def __init__(self) -> None:
            self.told = 0
            self.runner = Runner(Config(on_create=object, worker_count=1, on_event=self.hook))

        def hook(self, _event: TaskEvent) -> None:
            self.told += 1

    owner = Owner()
    owner.runner.queue_task(repr)
    kept = weakref.ref(owner)
    del owner
    with pytest.warns(ResourceWarning, match="without stop"):
        gc.collect()
    eventually(lambda: kept() is None)
