"""Outcomes: each is counted, and given to the future of its task."""

from __future__ import annotations

import contextlib
from concurrent.futures import InvalidStateError
from typing import TYPE_CHECKING, Any

from tasker import _tasker
from tasker._errors import (
    ResourceCreationError,
    ResourceLost,
    ResultNotPicklable,
    RunnerStopped,
    TaskCancelled,
    TaskTimeout,
)
from tasker.ray._counters import Counters
from tasker.ray._pickling import PackedError, loads, shown_error, unpack_error
from tasker.ray._unlooked import UnlookedError

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable

    from tasker._dropped import DroppedTask
    from tasker.ray._task import Task
    from tasker.ray._waiting import Waiting
    from tasker.ray._wire import Attempt

KILLED = "the runner was killed before the task started"


class Outcomes:
    """Settles tasks, in whatever thread: callbacks run there, and no lock is held.

    Args:
        name: Of the runner.
        logger: Of its config.
        waiting: Where room is made for others.
        most_losses: How many actors a task may be lost with, and still be sent to another.
        wake: Has the driver's thread look for what to send.
    """

    def __init__(
        self,
        name: str,
        logger: logging.Logger | None,
        waiting: Waiting,
        most_losses: int,
        wake: Callable[[], object],
    ) -> None:
        self.counters = Counters()
        self._name = name
        self._logger = logger
        self._most_losses = most_losses
        self._waiting = waiting
        self._wake = wake
        self._dropped: list[Task] = []

    def settle(
        self,
        task: Task,
        what: str,
        attempts: Iterable[Attempt] = (),
        *,
        value: object = None,
        error: BaseException | None = None,
    ) -> None:
        """Gives a task its outcome.

        Args:
            task: Whose it is.
            what: By the end of the name of a total of `Metrics`.
            attempts: Those that its actor made.
            value: The result.
            error: What it ended with instead.
        """
        waited = max(task.sent - task.submitted, 0.0)
        name = None if error is None else _tasker._error_name(error)
        with self._waiting.lock:
            self.begun(task)
            self.counters.ended(what, task.name, task.options.priority, waited, attempts, name)
        future = task.future
        future._task = None
        # It is done where a holder of the future has settled it by hand.
        with contextlib.suppress(InvalidStateError):
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

    def claim(self, task: Task) -> bool:
        """Whether the outcome of a task that waited is for us to give, and not its holder's."""
        with self._waiting.lock:
            return self._waiting.claim(task)

    def begun(self, task: Task) -> None:
        """Takes note of a task that waits no more, under the lock: others may come in."""
        if let_in := self._waiting.begun(task):
            self.counters.arrived(len(let_in))
            self._wake()

    def count_settled_by_hand(self, task: Task) -> None:
        """Counts a task that a holder of its future has settled before it was sent."""
        if task.future.is_settled_by_hand:
            self.cancelled(task)

    def cancelled(self, task: Task) -> None:
        """Counts a task that its holder has ended before it was sent."""
        with self._waiting.lock:
            self.begun(task)
            self.counters.ended("cancelled", task.name, task.options.priority, 0.0, (), None)
        task.future._task = None

    def succeed(self, ends: list[tuple[Task, bytes, list[Attempt]]]) -> None:
        """Gives tasks what their functions returned, all that came in one reply."""
        done: list[tuple[Task, list[Attempt]]] = []
        values: list[Any] = []
        for task, packed, attempts in ends:
            try:
                values.append(loads(packed))
            # What its class does must not end the driver's thread.
            except BaseException as reason:
                why = shown_error(reason)
                text = f"the result of task {task.name} cannot be made in the driver: {why}"
                error = ResultNotPicklable(text)
                error.__cause__ = reason
                self.settle(task, "failed", attempts, error=error)
            else:
                done.append((task, attempts))
        with self._waiting.lock:
            for task, _ in done:
                if task.is_counted:
                    self.begun(task)
            self.counters.completed(done)
        for (task, _), value in zip(done, values, strict=True):
            future = task.future
            future._task = None
            try:
                future.set_result(value)
            except InvalidStateError:
                continue  # settled by hand, by a holder of the future

    def fail(
        self, task: Task, packed: PackedError, attempts: list[Attempt], *, is_killed: bool
    ) -> None:
        """Gives a task the error that its actor sent."""
        error = unpack_error(packed)
        prefix = f"task {task.name} did not "
        is_own = type(error) is TaskTimeout and task.limit is not None
        if is_own and str(error).startswith(prefix):
            # The actor speaks of the time that was left when it got the task.
            verb = str(error).removeprefix(prefix).split(" ", 1)[0]
            timeout = task.timed_out(verb, error.__cause__)
            self.settle(task, "timed_out", attempts, error=timeout)
        elif isinstance(error, ResourceCreationError) and not attempts:
            self.settle(task, "dropped", error=error)
        else:
            # After a kill or `request_cancel` an error is what was asked for.
            is_asked_for = is_killed or task.is_cancel_requested or isinstance(error, TaskCancelled)
            if self._logger is not None and not (is_asked_for or task.future.done()):
                task.future.warn_of(UnlookedError(self._logger, self._name, task.name, error))
            self.settle(task, "failed", attempts, error=error)

    def may_be_sent_again(self, task: Task) -> bool:
        """Whether a task whose actor was lost may begin on another one."""
        return not task.options.once and task.losses <= self._most_losses

    def lose(self, task: Task, cause: BaseException | None) -> None:
        """Fails a task that is not run again, though its actor was lost."""
        text = f"task {task.name} may have begun on an actor that was lost"
        if not task.options.once and task.losses > self._most_losses:
            text = f"every actor that task {task.name} was sent to was lost, {task.losses} in all"
        error = ResourceLost(text)
        error.__cause__ = cause
        self.settle(task, "failed", error=error)

    def refuse(self, task: Task) -> None:
        """Fails the task of a coroutine for which there was no room in time."""
        future = task.future
        if self.claim(task) and future.set_running_or_notify_cancel():
            future._task = None
            with self._waiting.lock:
                self.counters.refused(1, is_full=False)
            future.set_exception(RunnerStopped(_tasker._STOPPED))

    def drop(self, tasks: Iterable[Task], reason: str) -> list[DroppedTask]:
        """Fails what never began, and makes of it what is handed back."""
        return _handed_back(self._drop(tasks, reason))

    def drop_for_kill(self, tasks: Iterable[Task]) -> None:
        """Fails what never began, and keeps it for `take_dropped`."""
        dropped = self._drop(tasks, KILLED)
        with self._waiting.lock:
            self._dropped += dropped

    def take_dropped(self) -> list[DroppedTask]:
        """Gives what a kill has dropped, to one caller."""
        with self._waiting.lock:
            dropped, self._dropped = self._dropped, []
        return _handed_back(dropped)

    def _drop(self, tasks: Iterable[Task], reason: str) -> list[Task]:
        dropped: list[Task] = []
        for task in tasks:
            if task.has_begun:
                self.lose(task, None)
            elif task.future.done():
                self.count_settled_by_hand(task)
            elif self.claim(task):
                dropped.append(task)
                self.settle(task, "dropped", error=TaskCancelled(reason))
        return dropped


def _handed_back(tasks: list[Task]) -> list[DroppedTask]:
    """Makes what users get: the higher classes first, each in its order."""
    tasks = sorted(tasks, key=lambda task: (-task.options.priority, task.number))
    return [task.dropped() for task in tasks]
