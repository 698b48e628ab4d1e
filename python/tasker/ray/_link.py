"""One actor as the driver sees it: what is with it, and how much it may have."""

from __future__ import annotations

import time
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from tasker.ray import _cluster
from tasker.ray._kinds import MOST_KINDS
from tasker.ray._pickling import dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tasker._stats import Histograms, Metrics
    from tasker.ray._task import Task
    from tasker.ray._wire import KindItem, Settings, TaskItem

Figures = tuple["Metrics", "Histograms | None"]
"""What an actor told last."""
IDLE_SHARE = 0.05
"""Workers that are idle for more of their time get more tasks sent ahead."""
BUSY_SHARE = 0.01
"""Workers that are idle for less get a few less."""
GROWTH = 2.0
"""So many times the idle share more."""
DECAY = 0.99


class Link:
    """The driver's end of the calls to one actor. For the driver's thread alone.

    Args:
        name: Of the runner in the actor.
        handle: Of the actor.
        workers: How many it has.
        most: How many tasks may be with it.
        post: Puts something to do on the driver's list. May be called from any thread.
    """

    def __init__(
        self,
        name: str,
        handle: Any,
        workers: int,
        most: int,
        post: Callable[[Callable[[], object]], object],
    ) -> None:
        self.name = name
        self.handle = handle
        self.workers = workers
        self.out: dict[int, Task] = {}
        """Tasks that are with the actor, by number, in the order of their sending."""
        self.suspect: Task | None = None
        """The one task that is with it, where that may have brought down another actor."""
        self.created = time.monotonic()
        self.process = 0
        self.node = ""
        self.is_open = False
        self.is_closing = False
        """It gets no more tasks, and ends when those that it has are done."""
        self.is_killed = False
        self.is_recalling = False
        self.is_over = False
        """Its runner has stopped, and has told all."""
        self.last_figures: Figures | None = None
        """What it told last, for when it is gone."""
        self._most = most
        self._least = min(2 * workers, most)
        self.target: float = self._least
        """How many tasks may be with it now."""
        self._known: dict[int, None] = {}
        """Kinds that the actor has, the oldest first."""
        self._pushes: list[Any] = []
        self._post = post
        self._calls = count(1)
        self._standing: dict[int, bool] = {}
        """Calls that wait for news, by number; whether they are for news that was lost."""
        self._question: Any = None
        """What it has not answered yet, when it was last looked at."""
        self._questioned = 0.0
        self._asked = 0
        """How many tasks, or lots of them, were sent by such a call."""

    @property
    def room(self) -> int:
        """How many tasks it takes now."""
        return int(self.target) - len(self.out)

    def open(self, settings: Settings) -> Any:
        """Has the actor make its runner; gives what is waited for."""
        return _cluster.call(self.handle.open, settings)

    def listen(self, replied: Callable[[Link, int, Any], object]) -> None:
        """Begins to ask for what is new.

        Args:
            replied: Called by the driver's thread with the number of a call, and the future of the
                reply.
        """
        self._replied = replied
        self.pull()

    def send(self, tasks: list[Task]) -> None:
        """Sends tasks: to an actor that has none by a call that waits for news as well.

        So one call brings a task and its outcome, where nothing else goes on.

        Raises:
            Exception: Ray takes none of them: they are too large for its store, say.
        """
        now = time.monotonic()
        known = self._known
        kinds: dict[int, KindItem] = {}
        items: list[TaskItem] = []
        for task in tasks:
            kind = task.kind
            if kind.number not in known:
                kinds[kind.number] = (kind.number, kind.packed)
            items.append(
                (
                    task.number,
                    kind.number,
                    task.left(now),
                    task.payload,
                    task.carried,
                    task.is_direct,
                )
            )
        new = list(kinds.values())
        oldest = list(islice(known, max(len(known) + len(new) - MOST_KINDS, 0)))
        if self.out or len(self._standing) > 1:
            packed = dumps((self._asked, new, items, oldest))
            self._pushes.append(_cluster.call(self.handle.push, packed))
        else:
            call = next(self._calls)
            packed = dumps((call, new, items, oldest))
            self._stand(call, _cluster.call(self.handle.ask, packed))
            self._asked += 1
        for number in oldest:
            del known[number]
        known.update(dict.fromkeys(kinds))
        for task in tasks:
            task.sent = now
            self.out[task.number] = task

    def pull(self, failed: int | None = None) -> None:
        """Asks for what is new, unless a call waits for that.

        Args:
            failed: The number of a call whose reply was lost: for that one.
        """
        if failed is None and (self._standing or self.is_over):
            return
        call = next(self._calls)
        self._stand(
            call, _cluster.call(self.handle.pull, call, failed), is_again=failed is not None
        )

    @property
    def is_listening(self) -> bool:
        """Whether a call waits for news."""
        return bool(self._standing)

    def note_reply(self, call: int) -> bool:
        """Takes note of a reply; tells whether it was to bring one that was lost."""
        return self._standing.pop(call)

    def _stand(self, call: int, reference: Any, *, is_again: bool = False) -> None:
        self._standing[call] = is_again
        self._when_done(reference, partial(self._replied, self, call))

    def adapt(self, idle: float, *, has_waiting: bool) -> None:
        """Has more tasks sent ahead while workers wait for some, and less while none does.

        Args:
            idle: The share of their time in which workers ran nothing.
            has_waiting: Whether there was more to be sent.
        """
        if idle > IDLE_SHARE and has_waiting:
            self.target = min(self.target * (1.0 + GROWTH * idle), self._most)
        elif idle < BUSY_SHARE:
            self.target = max(self.target * DECAY, self._least)

    def recall(self, most: int, recalled: Callable[[Link, Any], object]) -> None:
        """Asks for tasks back that have not begun.

        Args:
            most: How many.
            recalled: Called by the driver's thread with the future of their numbers.
        """
        self.is_recalling = True
        self._when_done(_cluster.call(self.handle.recall, most), partial(recalled, self))

    def cancel(self, task: Task) -> None:
        """Has a task cancelled that it has."""
        _cluster.call(self.handle.cancel, self._asked, task.number, task.reason)

    def renew(self, token: int) -> None:
        """Has the resources renewed."""
        _cluster.call(self.handle.renew, token)

    def close(self, *, now: bool) -> None:
        """Has the runner stopped, or killed where it is to end *now*."""
        self.is_closing = True
        if now:
            self.is_killed = True
            _cluster.call(self.handle.kill, self._asked)
        else:
            _cluster.call(self.handle.stop, self._asked)

    def note_figures(self, metrics: Metrics, histograms: Histograms | None) -> None:
        """Keeps what it told; `None`: nobody asked for histograms."""
        if histograms is None and self.last_figures is not None:
            histograms = self.last_figures[1]
        self.last_figures = metrics, histograms

    def figures(
        self, wait_edges: Sequence[float], run_edges: Sequence[float], *, stacks: bool
    ) -> Any:
        """Asks for the figures; gives what is waited for. For any thread."""
        return _cluster.call(self.handle.figures, wait_edges, run_edges, stacks)

    def failed_push(self) -> Exception | None:
        """Finds a push that did not arrive, whose tasks no pull would bring back."""
        done = set(_cluster.done_of(self._pushes))
        self._pushes = [each for each in self._pushes if each not in done]
        for reference in done:
            try:
                _cluster.answer(reference)
            except Exception as error:
                return error
        return None

    def silent_for(self) -> float:
        """Asks whether it answers; gives the seconds for which it has not."""
        now = time.monotonic()
        if self._question is None or _cluster.done_of([self._question]):
            self._question, self._questioned = _cluster.call(self.handle.recall, 0), now
        return now - self._questioned

    def _when_done(self, reference: Any, call: Callable[[Any], object]) -> None:
        _cluster.when_done(reference, lambda future: self._post(partial(call, future)))
