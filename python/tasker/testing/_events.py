"""How an `InlineRunner` tells of its tasks, as a runner does."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

from tasker import _tasker

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasker.testing._hooks import HookCaller
    from tasker.testing._task import InlineTask


class EventTeller:
    """Calls `on_event` of a config."""

    def __init__(
        self, on_event: Callable[[_tasker.TaskEvent], object] | None, hooks: HookCaller, runner: str
    ) -> None:
        """Has told nothing yet.

        Args:
            on_event: What is called; `None`: nothing.
            hooks: Sets context variables and logs errors.
            runner: The name of the runner.
        """
        self._on_event = on_event
        self._hooks = hooks
        self._runner = runner
        self._failures = 0
        self._calls = itertools.count(1)
        self._under_way: list[int] = []

    @property
    def call(self) -> int:
        """The number of the call that is under way, the innermost; 0: none is."""
        return self._under_way[-1] if self._under_way else 0

    def tell(
        self,
        kind: str,
        task: InlineTask,
        *,
        ended: float | None = None,
        error: BaseException | None = None,
    ) -> None:
        """Tells what happened to a task.

        Args:
            kind: By the end of the name in `Metrics`.
            task: The task; without a number for a refusal.
            ended: When its attempt, or it, ended.
            error: What it ended with.
        """
        if self._on_event is None or task.by_call in self._under_way:
            return
        # Arrivals and refusals are told where the caller is.
        is_here = ended is None
        event = _tasker._event(
            kind,
            self._runner,
            task.number,
            task.name,
            task.call.priority,
            task.attempts,
            self._hooks.worker if task.attempts else None,
            task.submitted,
            task.begun if task.attempts else None,
            ended,
            error,
        )
        call = partial(_tasker._call_outside_tasks, partial(self._on_event, event))
        self._under_way.append(next(self._calls))
        try:
            if is_here:
                call()
            elif task.context is not None:
                self._hooks.in_task_context(task.context.copy(), call)
            else:
                self._hooks.in_own_context(call)
        except BaseException as fault:
            # Ctrl-C is raised as soon as the call that is under way returns.
            if isinstance(fault, KeyboardInterrupt) and _tasker._raise_later(fault):
                return
            self._failures += 1
            if self._failures.bit_count() == 1:
                self._hooks.event_failed(self._failures, fault)
        finally:
            self._under_way.pop()
