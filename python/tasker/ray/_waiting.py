"""What waits in the driver: by class and in order, and with room for so many."""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from tasker._priority import Priority

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tasker.ray._task import Task


class Waiting:
    """The tasks that no actor has. All methods are called under its lock.

    Args:
        bound: How many tasks may wait that have not begun, with actors or here; `None`: any number.
    """

    def __init__(self, bound: int | None) -> None:
        # Destructors submit tasks, even in the middle of a submit.
        self.lock = threading.RLock()
        self.has_room = threading.Condition(self.lock)
        self.suspects: deque[Task] = deque()
        """Tasks that were with an actor which was lost."""
        self.direct: deque[Task] = deque()
        """Tasks that go past the queue."""
        self._lanes: dict[Priority, deque[Task]] = {
            priority: deque() for priority in reversed(Priority)
        }
        self._overflow: deque[Task] = deque()
        """Tasks of coroutines, which wait for room without a thread."""
        self.bound = bound
        self._unbegun = 0
        self._due: list[tuple[float, int, Task]] = []

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be sent."""
        return not (self.suspects or self.direct or self._overflow or len(self))

    @property
    def is_full(self) -> bool:
        """Whether the next task has to wait for room."""
        return self.bound is not None and self._unbegun >= self.bound

    def add(self, task: Task) -> None:
        """Takes a new task."""
        if self.bound is not None:
            task.is_counted = True
            self._unbegun += 1
        self._lanes[task.options.priority].append(task)
        self._add_limit(task)

    def add_direct(self, task: Task) -> None:
        """Takes a new task that goes past the queue."""
        self.direct.append(task)
        self._add_limit(task)

    def add_for_room(self, task: Task) -> None:
        """Takes a task that is accepted when there is room."""
        self._overflow.append(task)
        self._add_limit(task)

    def _add_limit(self, task: Task) -> None:
        if (due := task.due) is not None:
            heapq.heappush(self._due, (due, task.number, task))

    def put_back(self, tasks: Iterable[Task]) -> None:
        """Takes tasks back that have not begun: to the front, in the order of their numbers."""
        for task in sorted(tasks, key=lambda task: task.number, reverse=True):
            task.is_taken = False
            self._add_limit(task)
            if task.is_direct:
                self.direct.appendleft(task)
            else:
                self._lanes[task.options.priority].appendleft(task)

    def take_out(self, task: Task) -> bool:
        """Takes a task out that its holder ends; `False`: it waits no more."""
        waits = not task.is_taken
        task.is_taken = True
        return waits

    def claim(self, task: Task) -> bool:
        """Takes a task out for its outcome; `False`: its holder has ended it."""
        return task.future.running() or self.take_out(task)

    def take_direct(self) -> Task:
        """Gives the next task that goes past the queue."""
        task = self.direct.popleft()
        task.is_taken = True
        return task

    def put_first(self, tasks: list[Task]) -> None:
        """Takes tasks of a lost actor: each goes to the next one alone, before all others."""
        self.suspects.extendleft(reversed(tasks))
        for task in tasks:
            self._add_limit(task)

    def take(self, most: int) -> list[Task]:
        """Gives the tasks whose turn it is, the higher classes first.

        Those that were settled by hand are among them, to be counted.
        """
        taken: list[Task] = []
        for lane in self._lanes.values():
            while lane and len(taken) < most:
                task = lane.popleft()
                if _has_a_turn(task):
                    task.is_taken = True
                    taken.append(task)
        return taken

    def take_suspect(self) -> Task | None:
        """Gives the next task that may have brought down an actor."""
        while self.suspects:
            task = self.suspects.popleft()
            if not task.future.done():
                return task
        return None

    def take_all(self) -> list[Task]:
        """Gives all tasks, the higher classes first; their holders may still end them."""
        taken = [task for task in (*self.suspects, *self.direct) if not task.future.done()]
        for lane in self._lanes.values():
            taken += [task for task in lane if _has_a_turn(task)]
            lane.clear()
        taken += self.take_for_room()
        self.suspects.clear()
        self.direct.clear()
        return taken

    def take_for_room(self) -> list[Task]:
        """Gives the tasks of coroutines that there is no room for, ever."""
        overflow, self._overflow = self._overflow, deque()
        return [task for task in overflow if not task.future.done()]

    def begun(self, task: Task) -> list[Task]:
        """Takes note of a task that waits no more; gives the tasks that this has let in."""
        if not task.is_counted:
            return []
        task.is_counted = False
        self._unbegun -= 1
        self.has_room.notify()
        let_in: list[Task] = []
        while self._overflow and not self.is_full:
            waiting = self._overflow.popleft()
            if not (waiting.is_taken or waiting.future.done()):
                self.add(waiting)
                let_in.append(waiting)
        return let_in

    def overdue(self) -> list[Task]:
        """Gives the tasks whose limit has passed since the last call, wherever they are."""
        now = time.monotonic()
        taken: list[Task] = []
        while self._due and (self._due[0][0] <= now or self._due[0][2].future.done()):
            task = heapq.heappop(self._due)[2]
            if not task.future.done() and self.claim(task):
                taken.append(task)
        return taken

    def next_limit(self) -> float | None:
        """When the next limit passes."""
        return self._due[0][0] if self._due else None

    def queued(self) -> dict[str, int]:
        """How many wait, by class."""
        return {
            priority.name.lower(): sum(not task.future.done() for task in lane)
            for priority, lane in self._lanes.items()
        }

    def each(self) -> Iterator[Task]:
        """Gives those that have not begun."""
        for lane in self._lanes.values():
            yield from (task for task in lane if not task.future.done())


def _has_a_turn(task: Task) -> bool:
    return not task.is_taken and (not task.future.done() or task.future.is_settled_by_hand)
