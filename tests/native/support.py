"""What many tests need: gates that hold tasks, resources that keep book, threads, and patience."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import logging
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from tasker import Config, Metrics, Runner, Stats
from tasker.testing import InlineRunner

R = TypeVar("R")
T = TypeVar("T")

LONG_TIMEOUT = 20.0
"""Seconds after which something that has to happen is taken for something that never will."""
EVENT_KINDS = (
    "arrived",
    "completed",
    "failed",
    "retried",
    "refused",
    "cancelled",
    "dropped",
    "timed_out",
)
"""The kinds of `TaskEvent`, in the order of the totals of `Metrics`."""

MOMENT = 0.05
"""Seconds in which something that must not happen would have happened."""


OVERDUE = "outlived its time limit"
"""What the log says of a worker that waits for long."""

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
"""Whether this build of Python has no interpreter lock.

There, functions die in the collector alone, as does what a thread made that sleeps now; and figures
move on while they are read.
"""


def eventually(predicate: Callable[[], object]) -> None:
    """Waits for what has no event of its own."""
    end = time.monotonic() + LONG_TIMEOUT
    while not predicate():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)
        if FREE_THREADED:
            gc.collect()


class Gate:
    """Holds tasks until the test lets them pass, and knows when they have come."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._arrivals = threading.Semaphore(0)

    def hold(self, *_anything: object) -> None:
        """A task function: arrives, and stays until the gate is open."""
        self._arrivals.release()
        assert self._open.wait(LONG_TIMEOUT), "nobody opened the gate"

    def hold_then_return(self, _resource: object, result: T) -> T:
        """A task function: stays until the gate is open and returns *result*."""
        self.hold()
        return result

    def hold_then_raise(self, _resource: object, error: BaseException) -> None:
        """A task function: stays until the gate is open and raises *error*."""
        self.hold()
        raise error

    def wait_for(self, arrivals: int = 1) -> None:
        """Waits until so many more tasks have arrived."""
        for _ in range(arrivals):
            assert self._arrivals.acquire(timeout=LONG_TIMEOUT), "nobody came"

    def open(self) -> None:
        """Lets everybody pass, those still to come included."""
        self._open.set()


class Broken(Exception):
    """Says that the resource went bad; see `is_healthy`."""


def is_healthy(error: BaseException) -> bool:
    """A `check_health` for which `Broken` alone is the fault of the resource."""
    return not isinstance(error, Broken)


def break_down(_resource: object, *_anything: object) -> None:
    """A task function that finds its resource bad."""
    raise Broken


@dataclass(eq=False)
class Resource:
    """A resource that knows where it was made and how it ended."""

    number: int
    thread: int = field(default_factory=threading.get_ident)
    destroyed_on: list[int] = field(default_factory=list)


class Factory:
    """Makes resources and unmakes them, and remembers all."""

    def __init__(self) -> None:
        self.made: list[Resource] = []
        self._numbers = itertools.count()

    def create(self) -> Resource:
        resource = Resource(next(self._numbers))
        self.made.append(resource)
        return resource

    @staticmethod
    def destroy(resource: Resource) -> None:
        resource.destroyed_on.append(threading.get_ident())

    @property
    def alive(self) -> list[Resource]:
        """The resources that were made and not destroyed."""
        return [resource for resource in self.made if not resource.destroyed_on]

    def check(self) -> None:
        """Each was destroyed exactly once, on the thread that made it."""
        for resource in self.made:
            assert resource.destroyed_on == [resource.thread], resource


class Runners:
    """Starts the runners of one test; at its end checks that nothing of them is left."""

    def __init__(self) -> None:
        self.factory = Factory()
        self._started: list[Runner[Any]] = []

    def start(self, **fields: Any) -> Runner[Resource]:
        """Starts a runner with one worker, or as *fields* of the config say."""
        return self.keep(Runner(self.config(**fields)))

    def config(self, **fields: Any) -> Config[Resource]:
        """A config with resources of the factory."""
        fields = {
            "on_create": self.factory.create,
            "on_destroy": self.factory.destroy,
            "worker_count": 1,
            **fields,
        }
        return Config(**fields)

    def keep(self, runner: Runner[R]) -> Runner[R]:
        """Has a runner ended and checked as those of `start` are."""
        self._started.append(runner)
        return runner

    def end(self) -> None:
        """Ends all runners and checks what has to hold for each."""
        for runner in self._started:
            runner.kill(timeout=LONG_TIMEOUT)
        for runner in self._started:
            check_ended(runner)
        self.factory.check()


def check_ended(runner: Runner[Any] | InlineRunner[Any]) -> None:
    """Checks that a runner's books are closed and its threads gone."""
    assert runner.state == "stopped"
    assert runner.stats() == NOTHING
    metrics = runner.metrics()
    assert metrics.total_tasks_arrived == finished_tasks(metrics)
    assert runner_threads(runner.name) == []


NOTHING = Stats(**{field.name: 0 for field in dataclasses.fields(Stats)})
"""The gauges of a runner that has ended."""


def finished_tasks(metrics: Metrics) -> int:
    """How many of the accepted tasks have got their outcome."""
    return (
        metrics.total_tasks_completed
        + metrics.total_tasks_failed
        + metrics.total_tasks_cancelled
        + metrics.total_tasks_dropped
        + metrics.total_tasks_timed_out
    )


def runner_threads(name: str = "tasker") -> list[threading.Thread]:
    """The living threads of the runners of a name."""
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"{name}-")]


def worker_threads(name: str = "tasker") -> list[threading.Thread]:
    """Those among them that run tasks, or interrupt them."""
    return [thread for thread in runner_threads(name) if not thread.name.endswith("-keeper")]


class Call(Generic[T]):
    """A call on a thread of its own."""

    def __init__(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> None:
        self._results: list[T] = []
        self._errors: list[BaseException] = []

        def run() -> None:
            try:
                self._results.append(function(*args, **kwargs))
            except BaseException as error:
                self._errors.append(error)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether it has returned or raised."""
        return not self._thread.is_alive()

    def result(self) -> T:
        """Waits for the call, and returns what it returned or raises what it raised."""
        self._thread.join(LONG_TIMEOUT)
        assert self.is_over, "the call never returned"
        for error in self._errors:
            raise error
        return self._results[0]

    def error(self) -> BaseException:
        """Waits for the call, and returns what it raised."""
        self._thread.join(LONG_TIMEOUT)
        assert self.is_over, "the call never returned"
        assert self._errors, "the call raised nothing"
        return self._errors[0]

    def wait_until_blocked(self) -> None:
        """Waits until the call waits for something.

        A native wait has no mark of its own. What can be seen is that the thread stays where it is
        although nobody keeps the interpreter from it, and, on Linux, that it sleeps.
        """
        looks: list[object] = [object()]
        end = time.monotonic() + LONG_TIMEOUT
        while len(looks) < 10:
            assert not self.is_over, "the call did not wait"
            assert time.monotonic() < end, "the call goes on and on"
            time.sleep(0.001)
            frame = sys._current_frames().get(self._thread.ident or 0)
            place = (id(frame), frame.f_lasti) if frame and self._sleeps() else object()
            looks = [*looks, place] if place == looks[-1] else [place]

    def _sleeps(self) -> bool:
        if sys.platform != "linux":
            return True
        stat = Path(f"/proc/self/task/{self._thread.native_id}/stat").read_text(encoding="utf-8")
        return stat.rpartition(")")[2].split()[0] == "S"


class LogCapture(logging.Handler):
    """Keeps what the package logs, for tests to take out; what none takes is an error."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[logging.LogRecord] = []
        self._overlooked: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not any(text in record.getMessage() for text in self._overlooked):
            self._records.append(record)

    def overlook(self, text: str) -> None:
        """Keeps no records with this text from now on: they depend on how long things take."""
        self._overlooked.append(text)

    def take(self, count: int = 1) -> list[logging.LogRecord]:
        """Waits until so many records are there, and hands them out."""
        eventually(lambda: len(self._records) >= count)
        return self.rest()

    def rest(self) -> list[logging.LogRecord]:
        """Hands out what is there."""
        records, self._records = self._records, []
        return records


def at_once(calls: int, function: Callable[[], T]) -> list[Call[T]]:
    """Makes so many calls on as many threads, and lets them go at the same time."""
    barrier = threading.Barrier(calls)

    def run() -> T:
        barrier.wait(LONG_TIMEOUT)
        return function()

    return [Call(run) for _ in range(calls)]


def endless() -> Iterator[None]:
    """Turns until `LONG_TIMEOUT` is used up, for a loop that ends by itself."""
    end = time.monotonic() + LONG_TIMEOUT
    while time.monotonic() < end:
        yield
    raise AssertionError("it never ended")
