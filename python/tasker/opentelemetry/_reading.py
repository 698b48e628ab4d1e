"""What a collection sees: one snapshot of each runner, however many instruments ask."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasker._errors import RunnerBroken

if TYPE_CHECKING:
    from tasker._runner import Runner
    from tasker._stats import Histograms, Metrics, Stats

MAX_AGE = 1.0
"""Seconds after which a snapshot is no part of a collection any more."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The figures of a runner, taken in one go."""

    name: str
    worker_count: int
    max_worker_count: int
    queue_limit: int | None
    stats: Stats
    metrics: Metrics
    histograms: Histograms
    workers: Counter[str]
    """Base and burst workers by what they do; they add up to those alive."""
    reserved: Counter[str]
    """Workers of `run_task`, in the same way."""


def read(
    runner: Runner[Any], wait_edges: Iterable[float] = (), run_edges: Iterable[float] = ()
) -> Reading | None:
    """Takes a snapshot.

    Args:
        runner: Any.
        wait_edges: Of the histograms of waiting.
        run_edges: Of the others.

    Returns:
        The snapshot; `None` of a runner that has stopped, and in a child process of one that is the
        parent's.
    """
    try:
        metrics, histograms = runner._histograms(tuple(wait_edges), tuple(run_edges))
        stats, infos = runner.stats(), runner.workers()
    except RunnerBroken:
        return None
    workers: Counter[str] = Counter(starting=0, idle=0, busy=0, equipping=0)
    reserved: Counter[str] = Counter(idle=0, busy=0)
    for info in infos:
        if info.kind in {"base", "burst"}:
            workers[info.state] += 1
        elif info.state in reserved:
            reserved[info.state] += 1
    # After it: the gauges of a runner that has stopped are zero, and no figures.
    if runner.state == "stopped":
        return None
    return Reading(
        name=runner.name,
        worker_count=runner.worker_count,
        max_worker_count=runner.max_worker_count,
        queue_limit=runner.config.max_queue_size,
        stats=stats,
        metrics=metrics,
        histograms=histograms,
        workers=workers,
        reserved=reserved,
    )


class Collection:
    """Tells the instruments of one meter what to show, from one snapshot for each collection.

    The API calls one instrument after the other and does not say where a collection begins. It does
    where an instrument asks that has been answered from the snapshot at hand, and where that is
    older than a second. Threads that collect at the same time may take a snapshot each: there is no
    lock, which a fork could leave locked.

    Args:
        shown: Gives the runners to be shown, and whether each is shown as a pool of connections
            too.
    """

    def __init__(self, shown: Callable[[], Iterable[tuple[Runner[Any], bool]]]) -> None:
        self._shown = shown
        self._round: tuple[float, set[str], list[tuple[Reading, bool]]]
        self._round = float("-inf"), set(), []

    def readings(self, instrument: str) -> list[tuple[Reading, bool]]:
        """Gives the snapshots of the collection that an instrument is asked in, as it was told.

        Args:
            instrument: Its name.
        """
        taken, answered, readings = self._round
        now = time.monotonic()
        if instrument in answered or now - taken > MAX_AGE:
            found = [(read(runner), is_pool) for runner, is_pool in self._shown()]
            readings = [(reading, is_pool) for reading, is_pool in found if reading is not None]
            taken, answered = now, set()
            self._round = taken, answered, readings
        answered.add(instrument)
        return readings
