"""The views of several runners, of which some come and some stop while they are watched."""

from __future__ import annotations

import weakref
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Literal

from tasker._errors import RunnerBroken
from tasker._runner import runners
from tasker._sight.history import History
from tasker._sight.reading import read

if TYPE_CHECKING:
    from tasker._sight.view import View
    from tasker._watchable import Watchable

MOST_RUNNERS = 50
"""Runners that are watched at a time, where nobody said which."""
MOST_ENDED = 5
"""Of those that have stopped."""


class Watch:
    """Makes views of runners whenever it is asked for some.

    None of them is kept alive by being watched. Not for several threads at a time.

    Args:
        *runners: Whom to watch. None: the 50 oldest of `tasker.runners()` at each time, and the
            last 5 that have stopped.
    """

    def __init__(self, *runners: Watchable) -> None:
        self._given = bool(runners)
        self._numbers = count()
        self._watched: list[_Watched] = []
        for runner in runners:
            self._meet(runner)

    def views(self) -> tuple[View, ...]:
        """Returns a view of each runner, the oldest runner first, or in the order given.

        The state of one that failed inside, or was inherited through a fork, is `broken`. Such a
        one, and one that was collected, is shown as it was last; one without a view before is not.
        """
        if not self._given:
            self._meet_all()
        for watched in self._watched:
            watched.look()
        return tuple(one.view for one in self._watched if one.view is not None)

    def _meet(self, runner: Watchable) -> None:
        self._watched.append(_Watched(runner, next(self._numbers)))

    def _meet_all(self) -> None:
        """Begins to watch those that are new, and forgets what ended long ago."""
        over = [one for one in self._watched if one.is_over]
        forgotten = {one.number for one in over[:-MOST_ENDED]}
        self._watched = [one for one in self._watched if one.number not in forgotten]
        known = {id(one.runner()) for one in self._watched}
        room = MOST_RUNNERS + min(len(over), MOST_ENDED) - len(self._watched)
        new = [runner for runner in runners() if id(runner) not in known]
        for runner in new[:room]:
            self._meet(runner)


class _Watched:
    """A runner that is watched."""

    def __init__(self, runner: Watchable, number: int) -> None:
        self.number = number
        self.runner = weakref.ref(runner)
        self.view: View | None = None
        self.is_over = False
        """Whether nothing changes any more."""
        self._history = History(number)

    def look(self) -> None:
        """Takes a new view, as long as there is something to see."""
        if self.is_over:
            return
        runner = self.runner()
        if runner is None:
            self._end("stopped")
            return
        try:
            self.view = self._history.add(read(runner))
        except RunnerBroken:
            self._end("broken")
        else:
            self.is_over = self.view.state == "stopped"

    def _end(self, state: Literal["stopped", "broken"]) -> None:
        self.is_over = True
        if self.view is not None:
            nobody: dict[str, int] = {}
            self.view = replace(
                self.view,
                state=state,
                findings=(),
                workers=(),
                workers_left_out=0,
                worker_states=nobody,
            )
