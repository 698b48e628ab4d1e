"""A load whose figures are known, for tests that compare what a runner shows of itself.

    with known_load(name="db") as load:
        told = load.runner.metrics()            # or a scrape, an export, a page, of load.runner
        assert told.total_tasks_completed == load.count("completed")
        assert told.execution.total == near(sum(load.spans()), STALL)
        assert_percentile(told.wait.p95, load.waits(), 0.95)
        assert_up_to(count, load.waits(Priority.LOW), 0.25)     # of a bucket up to 0.25 s
        assert_between(lambda: load.runner.stats().oldest_wait, load.oldest_wait)

Inside the block everything that was submitted has ended, but for one task on each worker, which is
held (`HELD`), and a queue behind them whose sizes and age are known (`QUEUED`, `oldest_wait`): the
totals stand still, and the gauges do but for ages and shares. The truth is taken by the tasks
themselves: each notes when it was submitted, when its function began and when it ended.

Service times are fixed and slept, so that no task waits for the interpreter while it runs. One task
in a hundred fails: `Wrong` is an error of its own; `Lost` breaks its resource, and the task runs
again on the next. So each figure has a truth within 4 %, or one sample: `near`, `assert_percentile`
and `assert_up_to` say so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from tasker import Config, Future, Priority, Runner, Timing
from tests.native.support import LONG_TIMEOUT, Gate

WORKERS = 2
TASKS = 300
CREATION_TIME = 0.02
"""Seconds for which each resource is being made."""
KINDS = {
    "slow": (Priority.LOW, 0.02),
    "steady": (Priority.NORMAL, 0.005),
    "quick": (Priority.HIGH, 0.002),
}
"""Priority and service time in seconds of the tasks, by their name."""
QUEUED = {"low": 2, "normal": 3, "high": 1}
"""What waits behind the held tasks, by priority."""
HELD = "held"
"""The name of the tasks that run now, one on each worker."""
TOLERANCE = 0.04
"""By what share a figure may be off."""
MOMENT = 0.002
"""Seconds that may pass between a note of the load and the same note of the runner."""
STALL = 0.05
"""Seconds that pass there once in a while, on a machine that has more to do than processors.

They make one sample longer, and with it the sum and the longest.
"""

End = Literal["completed", "failed", "retried"]


class Wrong(Exception):
    """The error of a task whose resource is as good as before."""


class Lost(Exception):
    """The error of a task whose resource went bad."""


@dataclass(frozen=True)
class Attempt:
    """An attempt of a task, by its own clock."""

    name: str
    priority: Priority
    waited: float
    """Seconds since it was submitted, or since its last attempt ended."""
    span: float
    """Seconds in the function."""
    end: End


@dataclass(eq=False)
class _Order:
    """A task to be."""

    name: str
    fails: type[Exception] | None
    since: float = field(default_factory=time.monotonic)
    attempts: int = 0


@dataclass(eq=False)
class KnownLoad:
    """What is true of a runner under the load; times are in seconds."""

    runner: Runner[object] = field(init=False)
    attempts: list[Attempt] = field(default_factory=list)
    """Those that have ended."""
    creations: list[float] = field(default_factory=list)
    """How long each resource took."""
    accepted: int = TASKS + WORKERS + sum(QUEUED.values())
    held_since: list[float] = field(default_factory=list)
    """When each held task began, by the monotonic clock."""
    queued_since: float = 0.0
    """When the oldest of those was submitted that wait now."""
    errors: dict[str, int] = field(
        default_factory=lambda: {f"{Wrong.__module__}.{Wrong.__qualname__}": 2}
    )
    replaced: dict[str, int] = field(
        default_factory=lambda: {
            "unhealthy": 1,
            "reset": 0,
            "invalid": 0,
            "age": 0,
            "tasks": 0,
            "renewed": 0,
        }
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _started: float = field(default_factory=time.monotonic)

    def count(self, end: End, name: str | None = None) -> int:
        """How many attempts ended so, of all tasks or those of a name."""
        return sum(one.end == end and name in {None, one.name} for one in self.attempts)

    def spans(self, name: str | None = None) -> list[float]:
        """How long attempts took, of all tasks or those of a name."""
        return [one.span for one in self.attempts if name in {None, one.name}]

    def waits(self, priority: Priority | None = None) -> list[float]:
        """How long attempts waited, of all priorities or of one."""
        return [one.waited for one in self.attempts if priority in {None, one.priority}]

    def oldest_wait(self) -> float:
        """For how long the oldest task waits by now."""
        return time.monotonic() - self.queued_since

    def age(self) -> float:
        """For how long the runner exists by now."""
        return time.monotonic() - self._started

    def busy_share(self) -> float:
        """The share of their lives in which the workers ran tasks by now."""
        now = time.monotonic()
        busy = sum(self.spans()) + sum(now - since for since in self.held_since)
        return busy / (WORKERS * (now - self._started))

    def create(self) -> object:
        """Makes a resource, which takes its time."""
        begin = time.monotonic()
        time.sleep(CREATION_TIME)
        with self._lock:
            self.creations.append(time.monotonic() - begin)
        return object()

    def serve(self, _resource: object, order: _Order) -> None:
        """A task function: takes its time, and fails where it is to."""
        begin = time.monotonic()
        time.sleep(KINDS[order.name][1])
        order.attempts += 1
        fault = order.fails if order.attempts == 1 else None
        end: End = "failed" if fault is Wrong else "retried" if fault else "completed"
        ended = time.monotonic()
        attempt = Attempt(order.name, KINDS[order.name][0], begin - order.since, ended - begin, end)
        order.since = ended
        with self._lock:
            self.attempts.append(attempt)
        if fault is not None:
            raise fault

    def run(self) -> None:
        """Submits all there is to do, and waits until it is done."""
        names = ("slow", *("steady", "quick", "quick", "steady") * 3, "steady", "quick")
        faults = {50: Lost, 150: Wrong, 250: Wrong}
        futures: list[Future[None]] = []
        for number in range(TASKS):
            name = names[number % len(names)]
            view = self.runner.options(name=name, priority=KINDS[name][0])
            futures.append(view.submit(self.serve, _Order(name, faults.get(number))))
        assert not wait(futures, LONG_TIMEOUT).not_done
        assert sum(future.exception() is not None for future in futures) == 2

    def hold(self, gate: Gate) -> None:
        """Keeps every worker busy, and lets a queue stand behind them."""

        def hold(_resource: object) -> None:
            with self._lock:
                self.held_since.append(time.monotonic())
            gate.hold()

        for _ in range(WORKERS):
            self.runner.options(name=HELD).submit(hold)
        gate.wait_for(WORKERS)
        self.queued_since = time.monotonic()
        for priority in Priority:
            view = self.runner.options(name="queued", priority=priority)
            for _ in range(QUEUED[priority.name.lower()]):
                view.submit(lambda _: None)


@contextmanager
def known_load(**fields: Any) -> Iterator[KnownLoad]:
    """Runs the load on a runner of its own, which is stopped at the end of the block.

    Args:
        **fields: Of its config, a name above all; not those on which the truth depends.
    """
    load, gate = KnownLoad(), Gate()
    config = Config(
        on_create=load.create,
        check_health=lambda error: not isinstance(error, Lost),
        worker_count=WORKERS,
        **fields,
    )
    with Runner(config) as load.runner:
        try:
            load.run()
            load.hold(gate)
            yield load
        finally:
            gate.open()


def near(truth: float, within: float = MOMENT) -> object:
    """What a figure is to equal: the truth, within 4 % or so many seconds."""
    return pytest.approx(truth, rel=TOLERANCE, abs=within)


def assert_timing(told: Timing, times: list[float]) -> None:
    """Asserts that durations come to what they are."""
    assert told.count == len(times)
    assert told.total == near(sum(times), STALL)
    assert told.mean == near(sum(times) / len(times), STALL / len(times))
    assert told.min == near(min(times))
    assert told.max == near(max(times), STALL)
    for percentile, quantile in ((told.p50, 0.5), (told.p95, 0.95), (told.p99, 0.99)):
        assert_percentile(percentile, times, quantile)


def assert_percentile(told: float, times: list[float], quantile: float) -> None:
    """Asserts that a percentile is right within 4 % or a moment, or is that of the next sample."""
    ordered = sorted(times)
    rank = -(-quantile * len(ordered) // 1) - 1
    least, most = ordered[max(int(rank) - 1, 0)], ordered[min(int(rank) + 1, len(ordered) - 1)]
    assert least * (1 - TOLERANCE) - MOMENT <= told <= most * (1 + TOLERANCE) + MOMENT


def assert_up_to(told: int, times: list[float], edge: float) -> None:
    """Asserts how many durations are no longer than an edge, within one, or 4 % of the edge."""
    least = sum(time <= edge * (1 - TOLERANCE) - MOMENT for time in times) - 1
    most = sum(time <= edge * (1 + TOLERANCE) + MOMENT for time in times) + 1
    assert least <= told <= most, f"{told} up to {edge}, not {least} to {most}"


def assert_between(look: Callable[[], float], truth: Callable[[], float]) -> None:
    """Asserts that a figure that moves on lies between the truths before and after the look."""
    before, told, after = truth(), look(), truth()
    least, most = sorted((before, after))
    assert least * (1 - TOLERANCE) - MOMENT <= told <= most * (1 + TOLERANCE) + MOMENT
