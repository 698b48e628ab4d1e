"""`on_event` is told the same by a runner and by its double."""

from __future__ import annotations

import contextlib
import contextvars

import pytest

from tasker import QueueFull, RunnerStopped, TaskEvent, TaskTimeout
from tests.behaviour.support import AnyRunner, Bench
from tests.native.support import EVENT_KINDS, Broken, LogCapture, Resource, break_down, is_healthy


def give(_resource: Resource, x: object = None) -> object:
    return x


def fail(_resource: Resource, _x: object = None) -> None:
    raise ArithmeticError


class EventBook:
    """An `on_event` that keeps what it is told, as far as that is no matter of threads."""

    def __init__(self) -> None:
        self.events: list[TaskEvent] = []

    def __call__(self, event: TaskEvent) -> None:
        self.events.append(event)

    def of(self, name: str) -> list[tuple[str, int, type | None]]:
        """What a task of a name has gone through. A worker may be quicker than its submitter."""
        events = [event for event in self.events if event.name == name]
        events.sort(key=lambda event: event.kind != "arrived")
        return [
            (event.kind, event.attempt, None if event.error is None else type(event.error))
            for event in events
        ]

    def check(self, runner: AnyRunner) -> None:
        """The totals are what was told."""
        metrics = runner.metrics()
        told: list[str] = [event.kind for event in self.events]
        for kind in EVENT_KINDS:
            assert told.count(kind) == getattr(metrics, f"total_tasks_{kind}"), kind


def test_each_outcome_is_told_in_its_place(bench: Bench) -> None:
    book = EventBook()
    runner = bench.start(on_event=book, check_health=is_healthy, max_retries=2)
    assert runner.options(name="given").queue_task(give, 5) == 5
    assert runner.options(name="run").run_task(give, 5) == 5
    with pytest.raises(ArithmeticError):
        runner.options(name="failed").queue_task(fail)
    with pytest.raises(Broken):
        runner.options(name="broken").queue_task(break_down)
    with pytest.raises(Broken):
        runner.options(name="once", once=True).queue_task(break_down)
    with pytest.raises(TaskTimeout):
        runner.options(name="late", timeout=1e-9).queue_task(give)
    assert list(runner.options(name="item").map(give, [1])) == [1]
    runner.stop()
    with pytest.raises(RunnerStopped):
        runner.options(name="refused").submit(give)
    arrived = ("arrived", 0, None)
    assert book.of("given") == book.of("run") == [arrived, ("completed", 1, None)]
    assert book.of("item") == [arrived, ("completed", 1, None)]
    assert book.of("failed") == [arrived, ("failed", 1, ArithmeticError)]
    retries = [("retried", 1, Broken), ("retried", 2, Broken), ("failed", 3, Broken)]
    assert book.of("broken") == [arrived, *retries]
    assert book.of("once") == [arrived, ("failed", 1, Broken)]
    assert book.of("late") == [arrived, ("timed_out", 0, TaskTimeout)]
    assert book.of("refused") == [("refused", 0, RunnerStopped)]
    assert sorted({event.task_id for event in book.events}) == list(range(8))
    book.check(runner)


def test_what_waits_is_told_when_it_ends_without_a_start(bench: Bench) -> None:
    book = EventBook()
    runner, go_on = bench.start_held(on_event=book, max_queue_size=3, when_full="raise")
    assert runner.options(name="cancelled").submit(give).cancel()
    assert runner.options(name="requested").submit(give).request_cancel()
    runner.options(name="by hand").submit(give).set_result(5)
    dropped = runner.options(name="dropped").submit_many(give, range(5))
    assert isinstance(dropped[4].exception(), QueueFull)
    runner.cancel_queued()
    go_on()
    runner.stop()
    for name in "cancelled", "requested", "by hand":
        assert book.of(name) == [("arrived", 0, None), ("cancelled", 0, None)]
    kinds = [kind for kind, _, _ in book.of("dropped")]
    assert kinds == ["arrived"] * 3 + ["refused"] * 2 + ["dropped"] * 3
    assert [event.error for event in book.events if event.kind == "dropped"] == [
        future.exception() for future in dropped[:3]
    ]
    book.check(runner)


def test_a_kill_tells_before_it_returns(bench: Bench) -> None:
    book = EventBook()
    runner, go_on = bench.start_held(on_event=book)
    runner.submit_many(give, range(4))
    if bench.is_inline:
        assert len(runner.kill()) == 4
    else:
        with contextlib.suppress(TimeoutError):
            runner.kill(timeout=0)
    assert [kind for kind, _, _ in book.of("give")] == ["arrived"] * 4 + ["dropped"] * 4
    go_on() if not bench.is_inline else None
    bench.eventually(lambda: runner.state == "stopped")
    runner.kill()
    book.check(runner)


def test_what_a_hook_submits_is_not_told_on_its_thread(bench: Bench) -> None:
    book = EventBook()

    def hook(event: TaskEvent) -> None:
        book(event)
        if event.kind == "failed":
            runner.options(name="again").submit(give)
            assert runner.options(name="in vain").submit(give).cancel()

    runner = bench.start(on_event=hook)
    with pytest.raises(ArithmeticError):
        runner.queue_task(fail)
    bench.eventually(lambda: book.of("again"))
    runner.stop()
    assert book.of("again") == [("completed", 1, None)]
    assert book.of("in vain") == []
    assert runner.metrics().total_tasks_arrived == 3


def test_a_task_that_a_hook_must_not_wait_for_is_withdrawn(bench: Bench) -> None:
    book, texts = EventBook(), list[str]()

    def hook(event: TaskEvent) -> None:
        book(event)
        if (event.kind, event.name) == ("arrived", "outer"):
            with pytest.raises(RuntimeError) as raised:
                runner.options(name="inner").queue_task(give)
            texts.append(str(raised.value))

    runner, let_go = bench.start_held(on_event=hook)
    outer = runner.options(name="outer").submit(give, 7)
    assert "must not wait without a limit" in texts[-1]
    let_go()
    assert outer.result() == 7
    runner.stop()
    assert book.of("inner") == []
    metrics = runner.metrics()
    assert (metrics.total_tasks_cancelled, metrics.total_tasks_refused) == (1, 0)
    assert metrics.total_tasks_arrived == metrics.total_tasks_completed + 1


def test_a_hook_that_ends_the_runner_is_told_the_rest(bench: Bench) -> None:
    book = EventBook()

    def hook(event: TaskEvent) -> None:
        book(event)
        if event.kind == "retried":
            runner.kill()

    runner, go_on = bench.start_held(on_event=hook, check_health=is_healthy)
    future = runner.submit(break_down)
    runner.submit(give)
    go_on()
    assert isinstance(future.exception(), Broken)
    bench.eventually(lambda: runner.state == "stopped")
    runner.kill()
    assert [kind for kind, _, _ in book.of("break_down")] == ["arrived", "retried", "failed"]
    assert [kind for kind, _, _ in book.of("give")] == ["arrived", "dropped"]
    book.check(runner)


def test_a_hook_that_raises_is_logged_and_stays(bench: Bench, log: LogCapture) -> None:
    def hook(event: TaskEvent) -> None:
        if event.kind == "completed":
            raise LookupError

    runner = bench.start(on_event=hook)
    for _ in range(5):
        runner.queue_task(give)
    runner.stop()
    records = log.rest()
    assert len(records) == 3
    for record, times in zip(records, (1, 2, 4), strict=True):
        assert f"{runner.name}" in record.getMessage()
        assert f"on_event failed, {times} times so far" in record.getMessage()
        assert record.exc_info is not None
        assert record.exc_info[0] is LookupError


WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO", default="nobody")


def test_outcomes_are_told_in_the_submitters_variables(bench: Bench) -> None:
    seen: list[tuple[str, str]] = []

    def hook(event: TaskEvent) -> None:
        seen.append((event.kind, WHO.get()))
        if event.kind != "arrived":
            WHO.set("the hook")

    def main() -> None:
        WHO.set("the caller")
        runner.queue_task(lambda _: WHO.set("the task"))
        runner.run_task(lambda _: WHO.set("the task"))
        assert WHO.get() == "the caller"

    runner = bench.start(on_event=hook)
    contextvars.copy_context().run(main)
    runner.stop()
    assert sorted(seen) == [("arrived", "the caller")] * 2 + [("completed", "the caller")] * 2
