"""What a shutdown and `Runner.workers` tell of a task that runs."""

from __future__ import annotations

from dataclasses import dataclass

from tasker._public import publish
from tasker._tasker import _once
from tasker._texts import quoted


@_once
@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task that runs at this moment: when a shutdown ran out of time, or in a `WorkerInfo`.

    Attributes:
        name: The task's name: the one given with `options(name=...)`, else its function's.
        age: Seconds since it started.
        worker: Name of the worker it runs on.
        stack: Where it was at that moment, as `traceback.format_stack` gives it, the innermost
            call last, and at most the innermost 100. A task that `run_task` runs in its caller's
            thread is shown there. Empty when its thread is not known, had just left Python code, or
            cannot be looked at: on free-threaded builds of Python.
        attempt: Which attempt this is, from 1.
        overdue: Whether its time limit has passed.
    """

    name: str
    age: float
    worker: str
    stack: tuple[str, ...] = ()
    attempt: int = 1
    overdue: bool = False

    def __str__(self) -> str:
        where = ""
        if self.stack:
            where = f", at {self.stack[-1].strip().splitlines()[0]}"
        return f"{quoted(self.name)} ({self.age:.1f} s on {self.worker}{where})"


publish(globals(), ["RunningTask"])
