"""A task that an `InlineRunner` has accepted, and its future."""

from __future__ import annotations

import contextvars
import os.path
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from tasker import _tasker
from tasker._checks import standard_deadline
from tasker._future import Future
from tasker._submitted import SubmittedTask
from tasker._texts import plain

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

T = TypeVar("T")

HERE = os.path.dirname(__file__)


class TaskOwner(Protocol):
    """What runs a task: told when its future is waited for, cancelled or settled by hand."""

    def _check_thread(self) -> None: ...
    def _run_until_done(self, task: InlineTask) -> None: ...
    def _cancelled(self, task: InlineTask) -> Callable[[], None]: ...
    def _cancel_requested(self, task: InlineTask) -> None: ...
    def _settled_by_hand(
        self, task: InlineTask, error: BaseException | None
    ) -> Callable[[], None]: ...


class InlineFuture(Future[T]):
    """A future whose wait has the task run, since no other thread would run it."""

    _owner: TaskOwner | None = None
    _task: InlineTask | None = None

    def assign(self, owner: TaskOwner, task: InlineTask) -> None:
        """Notes whose task this is the future of.

        Args:
            owner: Runs it.
            task: What it runs.
        """
        self._owner, self._task = owner, task

    def forget_task(self) -> None:
        """Forgets its task, which is done."""
        self._owner = self._task = None

    def cancel(self) -> bool:
        tell = self._take_from_queue()
        cancelled = super().cancel()
        tell()
        return cancelled

    def request_cancel(self, reason: str | None = None) -> bool:
        tell = self._take_from_queue()
        owner, task = self._owner_and_task()
        requested = super().request_cancel(reason)
        tell()
        if requested and owner and task:
            owner._cancel_requested(task)
        return requested

    def set_result(self, result: T) -> None:
        tell = self._count_by_hand(None)
        super().set_result(result)
        tell()

    def set_exception(self, exception: BaseException | None) -> None:
        tell = self._count_by_hand(exception)
        super().set_exception(exception)
        tell()

    def result(self, timeout: float | None = None) -> T:
        self._run_first(timeout)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._run_first(timeout)
        return super().exception(timeout)

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override] # pyright: ignore[reportIncompatibleVariableOverride]
        # `wait` and `as_completed` of the standard library ask for it first, and then wait.
        if not self.running():
            self._run_first(None)
        return super()._condition

    def _take_from_queue(self) -> Callable[[], None]:
        """Takes a task out that is about to be settled by hand: its callbacks find it counted.

        Returns:
            What tells of it, to be called when it is settled.
        """
        owner, task = self._owner_and_task()
        if owner and task and not (self.running() or self.done()):
            return owner._cancelled(task)
        return _tell_nothing

    def _count_by_hand(self, error: BaseException | None) -> Callable[[], None]:
        """Has a task counted that is about to be settled by hand, before its callbacks look."""
        tell = self._take_from_queue()
        owner, task = self._owner_and_task()
        if owner and task and not self.done():
            return owner._settled_by_hand(task, error)
        return tell

    def _owner_and_task(self) -> tuple[TaskOwner | None, InlineTask | None]:
        """Whose it is and what, if its task is not done; raises in another thread."""
        if self._owner is not None:
            self._owner._check_thread()
        return self._owner, self._task

    def _run_first(self, timeout: float | None) -> None:
        if self._owner is None or self._task is None or self.done():
            return
        limit = standard_deadline(timeout)
        if limit is None or limit > 0:
            self._owner._run_until_done(self._task)


def _tell_nothing() -> None:
    pass


class InlineKey(NamedTuple):
    """The key of a task."""

    number: int = 0
    """Its number; 0: the task has none."""
    line: deque[InlineTask] | None = None
    """The tasks of the key, if they run in order."""


NO_KEY = InlineKey()


# Compared by identity, like what was submitted.
@dataclass(slots=True, eq=False)
class InlineTask:
    """A task under way."""

    call: SubmittedTask
    future: InlineFuture[Any]
    context: contextvars.Context | None
    """The submitter's variables; `None`: it runs in the runner's own."""
    since: float
    """When it began to wait: at first when it was submitted."""
    limit: float | None
    due: float | None
    key: InlineKey = NO_KEY
    number: int = 0
    """Its number in the runner; 0: it was not accepted."""
    by_call: int = 0
    """The call of `on_event` that submitted it; 0: another caller."""
    submitted: float = field(default_factory=time.monotonic)
    attempts: int = 0
    begun: float = 0.0
    """When its last attempt began."""
    last_error: BaseException | None = None
    failures: int = 0
    """How often it failed on a good resource."""
    failed_first: float = 0.0
    """When it did first."""
    too_long: float | None = None
    """The pause in seconds that its time limit leaves no room for."""
    is_cancel_requested: bool = False
    """It was asked to give up."""
    is_interrupted: bool = False
    """`on_cancel` was called for the attempt under way."""
    parts: list[InlineTask] = field(default_factory=list)
    """Of a call for many items: their tasks."""
    shown: str | None = None
    """Of a call for many items: the name of the first."""
    together: InlineTask | None = None
    """Of an item that is tried again: what it runs together with others of."""

    @property
    def name(self) -> str:
        """Its name, for people."""
        if self.shown is not None:
            return self.shown
        if self.call.name is not None:
            return plain(self.call.name)
        return _tasker._task_name(self.call.fn)

    @property
    def is_overdue(self) -> bool:
        """Whether its time limit has passed."""
        return self.due is not None and time.monotonic() >= self.due


def storable(error: BaseException) -> BaseException:
    """Makes of an error of a task what its future may hold.

    Args:
        error: What was raised; the frames of this package leave its traceback.
    """
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(HERE):
        traceback = traceback.tb_next
    error.__traceback__ = traceback
    if not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError("task raised StopIteration")
    wrapped.__cause__ = error
    return wrapped
