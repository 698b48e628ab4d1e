"""The future of a task that runs in the thread that waits for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

from tasker._checks import standard_deadline
from tasker._future import Future

if TYPE_CHECKING:
    from tasker.testing._inline import InlineRunner
    from tasker.testing._task import Task

T = TypeVar("T")


class InlineFuture(Future[T]):
    """A future whose wait has the task run, since no other thread would run it."""

    _runner: InlineRunner[Any] | None = None
    _task: Task | None = None

    def belong(self, runner: InlineRunner[Any], task: Task) -> None:
        """Says whose task this is the future of.

        Args:
            runner: Runs it.
            task: What it runs.
        """
        self._runner, self._task = runner, task

    def let_go(self) -> None:
        """Forgets its task, which is done."""
        self._runner = self._task = None

    def cancel(self) -> bool:
        self._withdraw()
        return super().cancel()

    def request_cancel(self, reason: str | None = None) -> bool:
        self._withdraw()
        runner, task = self._here()
        requested = super().request_cancel(reason)
        if requested and runner and task:
            runner._told(task)
        return requested

    def set_result(self, result: T) -> None:
        self._withdraw()
        super().set_result(result)

    def set_exception(self, exception: BaseException | None) -> None:
        self._withdraw()
        super().set_exception(exception)

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

    def _withdraw(self) -> None:
        """Takes a task out that is about to be settled by hand: its callbacks find it counted."""
        runner, task = self._here()
        if runner and task and not (self.running() or self.done()):
            runner._cancelled(task)

    def _here(self) -> tuple[InlineRunner[Any] | None, Task | None]:
        """Whose it is and what, if its task is not done; raises in another thread."""
        if self._runner is not None:
            self._runner._check_thread()
        return self._runner, self._task

    def _run_first(self, timeout: float | None) -> None:
        if self._runner is None or self._task is None or self.done():
            return
        limit = standard_deadline(timeout)
        if limit is None or limit > 0:
            self._runner._run_until_done(self._task)
