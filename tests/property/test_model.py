"""A runner against a model of it: whatever is done in whatever order, both agree."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tasker import (
    Config,
    Future,
    Priority,
    QueueFull,
    Runner,
    RunnerStopped,
    TaskCancelled,
    current_context,
)
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    Factory,
    Resource,
    check_ended,
    eventually,
    is_healthy,
)

MAX_RETRIES = 2


@dataclass(eq=False)
class Task:
    """A task whose attempts each begin when a worker has it and end when the test says how."""

    priority: Priority
    once: bool
    attempts: int = 0
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    outcomes: queue.SimpleQueue[BaseException | None] = field(default_factory=queue.SimpleQueue)
    used: list[int] = field(default_factory=list)
    future: Future[Any] = field(default_factory=Future)

    def __call__(self, resource: Resource) -> Task:
        assert resource.number not in self.used
        self.used.append(resource.number)
        assert current_context().attempt == len(self.used)
        self.begun.release()
        error = self.outcomes.get(timeout=LONG_TIMEOUT)
        if error is not None:
            raise error
        return self


class RunnerModel(RuleBasedStateMachine):
    """The model: which tasks wait, in which order, which run, and how often what has happened.

    After each step it waits until the runner has done what it must do on its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.factory = Factory()
        self.waiting: list[Task] = []
        self.running: list[Task] = []
        self.ended: list[Task] = []
        self.counts = dict.fromkeys(
            ("arrived", "completed", "failed", "retried", "refused", "cancelled", "dropped"), 0
        )
        self.ending: Call[Any] | None = None
        self.dropped: list[Task] = []
        self.state = "running"

    @initialize(workers=st.integers(1, 2), room=st.none() | st.integers(1, 3))
    def start(self, workers: int, room: int | None) -> None:
        self.workers, self.room = workers, room
        self.runner = Runner(
            Config(
                on_create=self.factory.create,
                on_destroy=self.factory.destroy,
                check_health=is_healthy,
                max_retries=MAX_RETRIES,
                worker_count=workers,
                max_queue_size=room,
                when_full="raise",
            )
        )

    # ---- what the runner does on its own

    def staff(self) -> None:
        """Free workers take what waits: the highest class first, then the order of the queue."""
        while self.waiting and len(self.running) < self.workers:
            task = max(self.waiting, key=lambda task: task.priority)
            self.waiting.remove(task)
            self.running.append(task)
            task.attempts += 1
            assert task.begun.acquire(timeout=LONG_TIMEOUT), (
                "a free worker took another task, or none"
            )

    # ---- what is done to it

    @rule(priority=st.sampled_from(Priority), once=st.booleans(), key=st.none() | st.integers(1, 3))
    def submit(self, priority: Priority, once: bool, key: int | None) -> None:
        task = Task(priority, once)
        # A key changes nothing of what the model knows: which of the free workers it is.
        ask = None if key is None else lambda: key
        view = self.runner.options(priority=priority, once=once, key=ask)
        if self.state != "running":
            with pytest.raises(RunnerStopped):
                view.submit(task)
            self.counts["refused"] += 1
        elif self.room is not None and len(list(self.fresh())) >= self.room:
            # A retry takes no room.
            with pytest.raises(QueueFull):
                view.submit(task)
            self.counts["refused"] += 1
        else:
            task.future = view.submit(task)
            self.counts["arrived"] += 1
            self.waiting.append(task)
            self.staff()

    def pick(self, data: st.DataObject, tasks: list[Task]) -> Task:
        return tasks[data.draw(st.integers(0, len(tasks) - 1))]

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel_what_waits(self, data: st.DataObject) -> None:
        task = self.pick(data, self.waiting)
        cancelled = task.future.cancel()
        assert cancelled == task.future.cancelled() == (task.attempts == 0)
        if cancelled:
            self.waiting.remove(task)
            self.counts["cancelled"] += 1

    @precondition(lambda self: self.running or self.ended)
    @rule(data=st.data())
    def cancel_what_runs_or_ended(self, data: st.DataObject) -> None:
        task = self.pick(data, self.running + self.ended)
        assert not task.future.cancel()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        task = self.end_attempt(data)
        assert task.future.result(LONG_TIMEOUT) is task
        self.counts["completed"] += 1
        self.staff()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        error = ValueError()
        task = self.end_attempt(data, error)
        assert task.future.exception(LONG_TIMEOUT) is error
        self.counts["failed"] += 1
        self.staff()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def break_the_resource(self, data: st.DataObject) -> None:
        error = Broken()
        task = self.end_attempt(data, error)
        if self.state != "killed" and not task.once and task.attempts <= MAX_RETRIES:
            self.ended.remove(task)
            self.counts["retried"] += 1
            self.waiting.insert(0, task)
        else:
            assert task.future.exception(LONG_TIMEOUT) is error
            self.counts["failed"] += 1
        self.staff()

    def end_attempt(self, data: st.DataObject, error: BaseException | None = None) -> Task:
        task = self.pick(data, self.running)
        self.running.remove(task)
        self.ended.append(task)
        task.outcomes.put(error)
        return task

    @rule(workers=st.integers(1, 3), room=st.integers(0, 1))
    def resize(self, workers: int, room: int) -> None:
        if self.state != "running":
            with pytest.raises(RunnerStopped):
                self.runner.resize(worker_count=workers)
            return
        # Which of the busy workers is to leave the model cannot know.
        self.workers = max(workers, len(self.running))
        self.runner.resize(worker_count=self.workers, max_worker_count=self.workers + room)
        eventually(lambda: self.runner.stats().base_workers == self.workers)
        eventually(lambda: len(self.factory.alive) == self.workers)
        self.staff()

    @precondition(lambda self: self.state == "running")
    @rule()
    def renew(self) -> None:
        # The renewal before is over when the last old resource is gone; another is about to come.
        eventually(lambda: len(self.factory.alive) >= self.workers)
        renewal = self.runner.renew()
        if not self.running:
            assert renewal.result(LONG_TIMEOUT) >= self.workers

    @precondition(lambda self: self.state == "running")
    @rule()
    def stop(self) -> None:
        self.ending = Call(self.runner.stop)
        self.state = "stopping"
        eventually(lambda: self.runner.state in ("stopping", "stopped"))

    @precondition(lambda self: self.state in ("running", "stopping"))
    @rule()
    def kill(self) -> None:
        self.ending = Call(self.runner.kill)
        self.state = "killed"
        for task in self.waiting:
            expected = TaskCancelled if task.attempts == 0 else Broken
            assert isinstance(task.future.exception(LONG_TIMEOUT), expected)
        fresh = [task for task in self.waiting if task.attempts == 0]
        self.counts["dropped"] += len(fresh)
        self.counts["failed"] += len(self.waiting) - len(fresh)
        self.dropped = sorted(fresh, key=lambda task: -task.priority)
        self.waiting.clear()

    # ---- what has to hold after each step

    @invariant()
    def figures_agree(self) -> None:
        if not hasattr(self, "runner"):
            return
        eventually(lambda: self.runner.stats().running_tasks == len(self.running))
        stats, metrics = self.runner.stats(), self.runner.metrics()
        assert stats.queued_tasks == len(self.waiting)
        assert stats.priority_tasks == len(self.urgent())
        for name, count in self.counts.items():
            assert getattr(metrics, f"total_tasks_{name}") == count, name

    def urgent(self) -> list[Task]:
        return [task for task in self.waiting if task.priority is Priority.HIGH]

    @invariant()
    def futures_agree(self) -> None:
        assert not any(task.future.running() or task.future.done() for task in self.fresh())
        assert all(task.future.running() for task in self.running)
        assert all(task.future.done() for task in self.ended)

    def fresh(self) -> Iterator[Task]:
        return (task for task in self.waiting if task.attempts == 0)

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        while self.running:
            task = self.running.pop()
            task.outcomes.put(None)
            task.future.result(LONG_TIMEOUT)
            self.staff()
        self.runner.stop(LONG_TIMEOUT)
        if self.ending is not None:
            dropped = self.ending.result()
            if self.state == "killed":
                assert [task.fn for task in dropped] == self.dropped
        check_ended(self.runner)
        self.factory.check()


# Not shrunk: a run that fails takes seconds, and its steps can be read as they are.
RunnerModel.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
TestRunnerModel = RunnerModel.TestCase
