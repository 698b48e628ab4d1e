"""A task that an `InlineRunner` has accepted."""

from __future__ import annotations

import contextvars
import os.path
import time
from dataclasses import dataclass
from typing import Any

from tasker import _tasker
from tasker._submitted import SubmittedTask
from tasker._texts import plain
from tasker.testing._future import InlineFuture

HERE = os.path.dirname(__file__)


# Compared by identity, like what was submitted.
@dataclass(slots=True, eq=False)
class Task:
    """A task under way."""

    call: SubmittedTask
    future: InlineFuture[Any]
    context: contextvars.Context | None
    """The submitter's variables; `None`: it runs in the runner's own."""
    since: float
    """When it began to wait."""
    limit: float | None
    due: float | None
    attempts: int = 0
    last_error: BaseException | None = None
    is_told: bool = False
    """It was asked to give up."""
    is_interrupted: bool = False
    """`on_cancel` was called for the attempt under way."""

    @property
    def name(self) -> str:
        """Its name, for people."""
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
