"""From views of runners to events for browsers: one reading a second for all who look."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, NamedTuple

from tasker._sight.watch import Watch

if TYPE_CHECKING:
    from tasker._sight.view import Point, Quantiles, View
    from tasker._watchable import Watchable


class Event(NamedTuple):
    """What one client is sent in one second."""

    body: bytes
    """The event as server-sent events have it."""
    number: int | None
    """The runner that it tells of; `None`: there is none."""
    until: float
    """The time of the newest point that the client has with it."""


class Events:
    """Reads the runners at most once a second, when somebody asks; safe for any thread.

    It needs no task and no thread of its own: the first client that wakes up in a second has the
    runners read, and the others of that second get the same bytes.

    Args:
        runners: As for `Watch`.
    """

    def __init__(self, *runners: Watchable) -> None:
        self._watch = Watch(*runners)
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._second: int | None = None
        self._views: dict[int, View] = {}
        self._made: dict[tuple[int | None, float], Event] = {}

    def at(self, second: int, number: int | None, since: float) -> Event:
        """Gives the event of a second.

        Args:
            second: Which one, of a clock that all clients have in common.
            number: Of the runner that the client looks at; one that is unknown: the first.
            since: The time of the newest point that the client has; 0.0: it has none.
        """
        # In a forked child the lock may be held by a thread that is not there.
        if self._process != os.getpid():
            self._process, self._lock = os.getpid(), threading.Lock()
        with self._lock:
            # A client that was held up may ask for a second that is over: it gets the newest.
            if self._second is None or second > self._second:
                self._second = second
                self._views = {view.number: view for view in self._watch.views()}
                self._made.clear()
            if number not in self._views:
                number = next(iter(self._views), None)
            key = number, since
            if key not in self._made:
                self._made[key] = self._make(number, since)
            return self._made[key]

    def _make(self, number: int | None, since: float) -> Event:
        view = None if number is None else self._views[number]
        # The first of all has rates over no time. Later it is one that has been left behind.
        points = [point for point in view.series[1:] if point.time > since] if view else []
        data = {
            "runners": [
                {"number": each.number, "name": each.name, "state": each.state}
                for each in self._views.values()
            ],
            "view": None if view is None else asdict(replace(view, series=())),
            "since": since,
            "points": [_row(point) for point in points],
        }
        # ASCII and on one line, so nothing in it ends the event.
        body = b"data: " + json.dumps(data, separators=(",", ":")).encode("ascii") + b"\n\n"
        return Event(body, number, points[-1].time if points else since)


def _row(point: Point) -> list[float | None]:
    # `page.js` has the same columns.
    figures = [
        point.accepted,
        point.completed,
        point.failed,
        point.timed_out,
        point.queued,
        point.running,
        point.oldest_wait,
        *_quantiles(point.wait),
        *_quantiles(point.execution),
    ]
    return [point.time, *(figure and float(f"{figure:.4g}") for figure in figures)]


def _quantiles(times: Quantiles | None) -> tuple[float | None, float | None, float | None]:
    return (times.p50, times.p95, times.p99) if times else (None, None, None)
