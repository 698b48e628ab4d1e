"""How an `InlineRunner` calls hooks and tasks: in which context variables, in which task."""

from __future__ import annotations

import contextvars
import logging
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tasker import _log, _tasker

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class HookCaller:
    """Calls hooks as a worker's thread does, and logs what they raise."""

    def __init__(self, logger: logging.Logger | None, runner: str) -> None:
        """Makes an empty set of context variables, as a new thread has.

        Args:
            logger: Where errors go; `None`: nowhere.
            runner: The name of the runner.
        """
        self.worker = f"{runner}-inline"
        """The name of the worker that it stands for."""
        self._runner = runner
        self._logger = logger
        self._own_context = contextvars.Context()
        self._is_own: list[bool] = []

    def call(self, hook: Callable[[], T]) -> T:
        """Calls a hook.

        Args:
            hook: What to call.
        """
        return self.in_own_context(partial(_tasker._call_outside_tasks, hook))

    def in_own_context(self, function: Callable[[], T]) -> T:
        """Calls a function in the runner's own context variables.

        Args:
            function: What to call.
        """
        if self._is_own and self._is_own[-1]:
            return function()
        # A context cannot be entered twice.
        own = self._own_context.copy() if any(self._is_own) else self._own_context
        return self._within(own, function, is_own=True)

    def in_task_context(self, context: contextvars.Context, function: Callable[[], T]) -> T:
        """Calls a function in the context variables of a task.

        Args:
            context: These.
            function: What to call.
        """
        return self._within(context, function, is_own=False)

    def failed(self, what: str, fault: BaseException) -> None:
        """Logs that a hook failed.

        Args:
            what: Which.
            fault: What it raised.
        """
        self._log(logging.ERROR, f"{self.worker}: {what} failed", fault)

    def event_failed(self, times: int, fault: BaseException) -> None:
        """Logs that `on_event` failed.

        Args:
            times: How often by now.
            fault: What it raised.
        """
        text = f"{self._runner}: on_event failed, {times} times so far"
        self._log(logging.ERROR, text, fault)

    def warn(self, text: str, fault: BaseException | None) -> None:
        """Logs what the runner makes the best of.

        Args:
            text: The message.
            fault: The exception it is about.
        """
        self._log(logging.WARNING, f"{self._runner}: {text}", fault)

    def _log(self, level: int, text: str, fault: BaseException | None) -> None:
        if self._logger is not None:
            _log.write(self._logger, level, text, self.worker, fault)

    def _within(
        self, context: contextvars.Context, function: Callable[[], T], *, is_own: bool
    ) -> T:
        self._is_own.append(is_own)
        try:
            return context.run(function)
        finally:
            self._is_own.pop()
