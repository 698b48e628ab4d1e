"""Runners on Ray for the suite: what tests share with actors, and which tests cannot hold there.

A test shares lists and events with its tasks and hooks. Those of a `RayRunner` are in another
process, so it shares files with them instead.
"""

from __future__ import annotations

import fcntl
import itertools
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from tasker import Config
from tests.behaviour.support import AnyRunner, Bench
from tests.native.support import Factory, Gate, Resource, check_ended

PATIENCE = 120.0
"""Seconds that something on Ray may take: an actor is a process, which has to start."""

VARIABLES = ["tests.behaviour.test_verbs.variable", "tests.behaviour.test_map.variable"]
"""The context variables of the suite, which travel as they are named."""


class Notes:
    """A list in a file, for processes to write to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def append(self, item: object) -> None:
        """Writes an item behind the others, whoever else does."""
        line = pickle.dumps(item).hex() + "\n"
        with self._path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(line)

    def _read(self) -> list[Any]:
        lines = self._path.read_text().splitlines()
        return [pickle.loads(bytes.fromhex(line)) for line in lines]  # noqa: S301 - its own

    def count(self, item: object) -> int:
        return self._read().count(item)

    def __len__(self) -> int:
        return len(self._read())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._read())

    def __getitem__(self, place: Any) -> Any:
        return self._read()[place]

    def __eq__(self, other: object) -> bool:
        return self._read() == list(cast("list[Any]", other))

    __hash__ = None  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return repr(self._read())


class Flag:
    """An event in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def set(self) -> None:
        self._path.touch()

    def clear(self) -> None:
        self._path.unlink()

    def is_set(self) -> bool:
        return self._path.exists()

    def wait(self, timeout: float) -> bool:
        end = time.monotonic() + timeout
        while not self.is_set():
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        return True


class GateOfFiles(Gate):
    """Holds tasks in other processes."""

    def __init__(self, opened: Flag, arrivals: Notes) -> None:
        self._opened = opened
        self._book = arrivals
        self._awaited = 0

    def hold(self, *_anything: object) -> None:
        self._book.append(None)
        assert self._opened.wait(PATIENCE), "nobody opened the gate"

    def wait_for(self, arrivals: int = 1) -> None:
        self._awaited += arrivals
        end = time.monotonic() + PATIENCE
        while len(self._book) < self._awaited:
            assert time.monotonic() < end, "nobody came"
            time.sleep(0.005)

    def open(self) -> None:
        self._opened.set()


class NumberedResource(Resource):
    """A resource that is known by its number: each process has its own copy."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Resource) and self.number == other.number

    __hash__ = None  # type: ignore[assignment] # pyright: ignore[reportAssignmentType]


class FactoryOfFiles(Factory):
    """Makes resources in other processes."""

    def __init__(self, made: Notes, destroyed: Notes) -> None:
        self._made = made
        self._destroyed = destroyed

    def create(self) -> Resource:
        # The tests have one worker at a time where numbers matter.
        resource = NumberedResource(len(self._made))
        self._made.append((resource.number, resource.thread))
        return resource

    def destroy(self, resource: Resource) -> None:  # type: ignore[override]
        self._destroyed.append((resource.number, threading.get_ident()))

    @property
    def made(self) -> list[Resource]:  # type: ignore[override]
        """What was made, with the threads where it was destroyed."""
        destroyed = list(self._destroyed)
        return [
            Resource(number, thread, [where for which, where in destroyed if which == number])
            for number, thread in self._made
        ]


class RayBench(Bench):
    """Starts runners on Ray, of one actor with one worker, and ends them; see `Bench`."""

    def __init__(self, folder: Path) -> None:
        self.is_inline = False
        self._folder = folder
        self._numbers = itertools.count()
        self._on_ray: list[Any] = []
        self.factory = FactoryOfFiles(self._notes(), self._notes())
        self._gate = GateOfFiles(self.event(), self._notes())

    def _path(self) -> Path:
        return self._folder / str(next(self._numbers))

    def _notes(self) -> Notes:
        return Notes(self._path())

    def notes(self) -> list[Any]:
        return cast("list[Any]", self._notes())

    def event(self) -> Any:
        return Flag(self._path())

    def is_same(self, found: object, error: BaseException) -> bool:
        return type(found) is type(error) and cast("Any", found).args == error.args

    def start(self, **fields: Any) -> AnyRunner:
        return self._start({}, fields)

    def start_held(self, **fields: Any) -> tuple[AnyRunner, Callable[[], object]]:
        # What is with an actor has left the queue of the driver: nothing but the held task is.
        runner = self._start({"max_out": 1}, fields)
        runner.submit(self._gate.hold)
        self._gate.wait_for()
        # The driver hears of the start some moments after it.
        waiting = cast("Any", runner)._engine().dispatcher.waiting
        self.eventually(lambda: waiting._unbegun == 0)
        return runner, self._gate.open

    def _start(self, settings: dict[str, Any], fields: dict[str, Any]) -> AnyRunner:
        from tasker.ray import RayRunner

        if fields.get("copy_contextvars", True):
            settings["contextvars"] = VARIABLES
        fields = {
            "on_create": self.factory.create,
            "on_destroy": self.factory.destroy,
            "worker_count": 1,
            **fields,
        }
        runner = RayRunner(Config(**fields), actors=1, **settings)
        self._on_ray.append(runner)
        return cast("AnyRunner", runner)

    def eventually(self, predicate: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not predicate():
            assert time.monotonic() < end, "it never came true"
            time.sleep(0.01)

    def end(self) -> None:
        self._gate.open()
        for runner in self._on_ray:
            runner.kill(timeout=PATIENCE)
        for runner in self._on_ray:
            check_ended(runner)
        self.factory.check()
