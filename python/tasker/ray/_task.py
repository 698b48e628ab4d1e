"""A task of a `RayRunner` as the driver knows it, and its future."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tasker import _tasker
from tasker._checks import standard_deadline
from tasker._dropped import DroppedTask
from tasker._errors import TaskTimeout
from tasker._future import Future
from tasker._options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tasker.ray._kinds import Kind
    from tasker.ray._unlooked import UnlookedError

T = TypeVar("T")


class TaskOwner(Protocol):
    """What is told when a holder of a future gives its task up."""

    def give_up(self, task: Task) -> bool:
        """Counts a task as cancelled that waits; `False`: it was sent."""
        ...

    def request_cancel(self, task: Task, reason: str | None) -> None:
        """Has a task cancelled that was sent."""

    def is_here(self) -> bool:
        """Whether this is the thread that would bring the outcome."""
        ...

    def check_process(self) -> None:
        """Raises `RunnerBroken` in a child process, where no outcome arrives."""


class RayFuture(Future[T]):
    """A future of a task that waits in the driver, or is with an actor."""

    _task: Task | None = None
    """Whose outcome it is; forgotten when it is there."""
    _unlooked: UnlookedError | None = None
    """What tells of its error if nobody asks for it."""
    _is_looked_at = False

    def look(self) -> None:
        """Takes note that somebody asks for the outcome, or has it told."""
        self._is_looked_at = True
        if (unlooked := self._unlooked) is not None:
            unlooked.is_settled = True
            self._unlooked = None

    def warn_of(self, error: UnlookedError) -> None:
        """Has an error told of that is about to be the outcome, if nobody asks for it."""
        self._unlooked = error
        if self._is_looked_at:
            self.look()

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        self.look()
        super().add_done_callback(fn)

    def __await__(self) -> Generator[Any, None, T]:
        self.look()
        return super().__await__()

    @property
    def is_settled_by_hand(self) -> bool:
        """Whether a holder gave it an outcome: nobody is told of that."""
        return self._task is not None and self.done() and not self.cancelled()

    def cancel(self) -> bool:
        task = self._task
        # First: its callbacks find it counted.
        if task is None or self.done() or (not self.running() and task.owner.give_up(task)):
            return super().cancel()
        return self.cancelled()

    def request_cancel(self, reason: str | None = None) -> bool:
        if self.cancel():
            return True
        task = self._task
        if self.done() or task is None:
            return False
        task.owner.request_cancel(task, reason)
        return True

    def _abandon(self) -> None:
        self.cancel()

    def result(self, timeout: float | None = None) -> T:
        self._check_wait(timeout)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._check_wait(timeout)
        return super().exception(timeout)

    def _check_wait(self, timeout: float | None) -> None:
        """Raises where only this thread could bring what is waited for."""
        self.look()
        task = self._task
        if task is None or self.done():
            return
        task.owner.check_process()
        if standard_deadline(timeout) is None and task.owner.is_here():
            raise RuntimeError(_tasker._WOULD_DEADLOCK)


# Compared by identity, like what was submitted.
@dataclass(slots=True, eq=False)
class Task:
    """A task under way."""

    owner: TaskOwner
    number: int
    kind: Kind
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    payload: bytes
    """The arguments as they were at the submit."""
    carried: bytes | None
    options: Options
    limit: float | None
    future: RayFuture[Any]
    submitted: float
    is_direct: bool
    """It goes past the queue."""
    sent: float = 0.0
    has_begun: bool = False
    """An actor has said so, or was lost when it may have."""
    is_counted: bool = False
    """It takes a place of `max_queue_size`."""
    is_taken: bool = False
    """It waits no more: it is sent, or was ended where it waited."""
    is_cancel_requested: bool = False
    reason: str | None = None
    losses: int = 0
    """How many actors were lost that had it."""

    @property
    def name(self) -> str:
        """Its name, for people."""
        return self.kind.name

    @property
    def due(self) -> float | None:
        """When its time limit passes."""
        return None if self.limit is None else self.submitted + self.limit

    def left(self, now: float) -> float | None:
        """The seconds that an actor may give it: more than none, for it takes no others."""
        return None if self.limit is None else max(self.submitted + self.limit - now, 1e-6)

    def timed_out(self, verb: str, cause: BaseException | None = None) -> TaskTimeout:
        """Makes the error for a limit that has passed."""
        message = f"task {self.name} did not {verb} within its time limit of {self.limit:g} s"
        error = TaskTimeout(message)
        error.__cause__ = cause
        return error

    def dropped(self) -> DroppedTask:
        """Makes what `kill` hands back."""
        return DroppedTask(self.kind.fn, self.args, self.kwargs, *self.options)
