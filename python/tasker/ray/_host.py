"""The actor: which calls it takes, and on which of its threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasker.ray._cluster import group
from tasker.ray._desk import Desk
from tasker.ray._pickling import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasker._stats import Histograms, Metrics, Stats
    from tasker._workers import WorkerInfo
    from tasker.ray._wire import Opened, Settings


class Host:
    """Hands each call to its `Desk`.

    A class of its own, for Ray puts something around each method of an actor's class, which would
    be around each task too. What there is much of comes and goes as bytes, in one argument: Ray
    would pack each argument and each element of a list by itself.
    """

    def __init__(self) -> None:
        self._desk = Desk()

    @group("control")
    def open(self, settings: Settings) -> Opened:
        return self._desk.open(settings)

    @group("control")
    def recall(self, most: int) -> list[int]:
        return self._desk.recall(most)

    @group("control")
    def figures(
        self, wait_edges: Sequence[float], run_edges: Sequence[float], stacks: bool
    ) -> tuple[Metrics, Histograms, Stats, tuple[WorkerInfo, ...]]:
        return self._desk.figures(wait_edges, run_edges, stacks)

    @group("control")
    def renew(self, token: int) -> None:
        self._desk.renew(token)

    # What is told of tasks comes after them, and the end after all, so it goes the same way.

    @group("push")
    def cancel(self, asked: int, number: int, reason: str | None) -> None:
        self._desk.wait_for_asks(asked)
        self._desk.cancel(number, reason)

    @group("push")
    def stop(self, asked: int) -> None:
        self._desk.wait_for_asks(asked)
        self._desk.stop()

    @group("push")
    def kill(self, asked: int) -> None:
        self._desk.wait_for_asks(asked)
        self._desk.kill()

    @group("push")
    def push(self, packed: bytes) -> None:
        asked, *sent = loads(packed)
        self._desk.wait_for_asks(asked)
        self._desk.push(*sent)

    @group("pull")
    def ask(self, packed: bytes) -> bytes:
        return dumps(self._desk.ask(*loads(packed)))

    @group("pull")
    def pull(self, call: int, failed: int | None) -> bytes:
        return dumps(self._desk.pull(call, failed))

    def __ray_shutdown__(self) -> None:
        self._desk.shut_down()
