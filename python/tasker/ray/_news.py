"""What an actor has to tell its driver, and the threads that wait for it."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from tasker.ray._cluster import GROUPS
from tasker.ray._wire import size_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasker.ray._wire import Note, Outcome

START_DELAY = 0.005
"""Seconds for which the news of a start waits for that of the end, which is more often near."""
_MOST_BYTES = 64 * 2**20
"""Of results in one reply, from which on the rest waits for the next."""
_READERS = GROUPS["pull"]


class News:
    """Outcomes and notes for the next reply. For any thread; so many wait as Ray has for pulls.

    Args:
        has_begun: Whether there are tasks whose start is to be told.
    """

    def __init__(self, has_begun: Callable[[], bool]) -> None:
        self._has_begun = has_begun
        self._queue: SimpleQueue[Outcome | Note | None] = SimpleQueue()
        """`None` has a reader look for tasks that have begun."""
        self._patient: set[int] = set()
        """Readers that wait until they are told something."""
        self._brief: set[int] = set()
        """Readers that wait for a moment, and look then."""
        self._replies: deque[tuple[int, list[Outcome], list[Note]]] = deque(maxlen=_READERS)

    def put(self, news: Outcome | Note) -> None:
        """Adds something to tell."""
        self._queue.put(news)

    def close(self) -> None:
        """Lets every reader go; nothing is to be told after that."""
        for _ in range(_READERS):
            self._queue.put(("closed", None))

    def begun(self) -> None:
        """Says that a task has begun: a reader is to look after a moment."""
        if self._patient and not self._brief:
            self._queue.put(None)

    def take(self, call: int, *, is_soon: bool) -> tuple[list[Outcome], list[Note]]:
        """Waits for news, or until a task has run for a moment, and gives all there is.

        Args:
            call: The number of the driver's call, for `again`.
            is_soon: Whether a task begins just now.
        """
        outcomes: list[Outcome] = []
        notes: list[Note] = []
        size = 0
        news = self._wait(is_soon=is_soon)
        with contextlib.suppress(Empty):
            while True:
                if news is None:
                    pass
                elif len(news) == 2:
                    notes.append(news)
                    if news[0] == "closed":
                        break  # the next one is for another reader
                else:
                    outcomes.append(news)
                    size += size_of(news)
                    if size >= _MOST_BYTES:
                        break
                news = self._queue.get_nowait()
        self._replies.append((call, outcomes, notes))
        return outcomes, notes

    def again(self, call: int) -> tuple[list[Outcome], list[Note]]:
        """Gives what one of the last replies had.

        Raises:
            LookupError: That call has had none.
        """
        for number, outcomes, notes in list(self._replies):
            if number == call:
                return outcomes, notes
        message = f"call {call} has had no reply"
        raise LookupError(message)

    def _wait(self, *, is_soon: bool) -> Outcome | Note | None:
        """Waits for the first; `None`: there are tasks that have begun, and nothing else."""
        me = threading.get_ident()
        while True:
            # What begins from here on says so.
            self._patient.add(me)
            if not (is_soon or self._has_begun()):
                news = self._queue.get()
                self._patient.discard(me)
                if news is not None:
                    return news
                continue
            self._brief.add(me)
            self._patient.discard(me)
            try:
                news = self._queue.get(timeout=START_DELAY)
            except Empty:
                news = None
            self._brief.discard(me)
            if news is not None or self._has_begun():
                return news
            is_soon = False
