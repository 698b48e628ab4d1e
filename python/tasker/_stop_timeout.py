"""What `stop` and `kill` raise when their time is up: `StopTimeout`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasker._errors import TaskerError
from tasker._public import publish
from tasker._tasker import _once

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tasker._dropped import DroppedTask
    from tasker._running_task import RunningTask


@_once
class StopTimeout(TaskerError, TimeoutError):
    """`stop` or `kill` ran out of time; the shutdown goes on, and `kill` still works.

    Attributes:
        running: The tasks that held it up. The text names them, and the workers that have not
            ended without one, in a hook.
        dropped: What never ran and never will, as `kill` would have returned it; empty after
            `stop`.
    """

    running: tuple[RunningTask, ...]
    dropped: list[DroppedTask]

    def __init__(
        self,
        message: str,
        running: Iterable[RunningTask] = (),
        dropped: Iterable[DroppedTask] = (),
    ) -> None:
        # The message alone goes into `args`: pickling calls the class with these and then
        # restores the attributes, in subclasses as well.
        super().__init__(message)
        self.running = tuple(running)
        self.dropped = list(dropped)

    def __str__(self) -> str:
        message = super().__str__()
        if not self.running:
            return message
        return f"{message}; still running: {', '.join(map(str, self.running))}"


publish(globals(), ["StopTimeout"])
