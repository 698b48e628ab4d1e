"""How far `map` and `amap` read ahead where a result takes milliseconds to come, and many come."""

from __future__ import annotations

import time

ITEMS_PER_WORKER = 2
"""So many are read ahead at first."""
WORK = 0.1
"""Seconds of work that are read ahead: some replies of an actor bring so much."""


LOT = 0.25
"""The part of them that is read in one go: many at a time cost each less."""


class TimedLookAhead:
    """Begins with what keeps the workers busy, and doubles while that is too little.

    It is when the consumer waits although all that is ahead takes but a moment.

    Args:
        limit: How many items may be ahead; `None`: as many as it takes.
        workers: Of all actors.
    """

    def __init__(self, limit: int | None, workers: int) -> None:
        self._is_fixed = limit is not None
        self._workers = workers
        self._size = limit or ITEMS_PER_WORKER * workers
        self._since = time.monotonic()
        self._taken = 0
        self._waited = False

    def follow(self, workers: int) -> None:
        if workers != self._workers and not self._is_fixed:
            self._size = max(self._size // self._workers, ITEMS_PER_WORKER) * workers
        self._workers = workers

    def room(self, ahead: int) -> int:
        room = self._size - ahead
        is_worth_it = self._is_fixed or room >= self._size * LOT
        return room if room > 0 and is_worth_it else 0

    def note_wait(self) -> None:
        self._waited = True

    def note_taken(self) -> None:
        self._taken += 1
        if self._taken < self._size:
            return
        now = time.monotonic()
        if self._waited and not self._is_fixed and now - self._since < WORK:
            self._size *= 2
        self._since, self._taken, self._waited = now, 0, False
