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


class Hooks:
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
        self._home = contextvars.Context()
        self._is_home: list[bool] = []

    def call(self, hook: Callable[[], T]) -> T:
        """Calls a hook.

        Args:
            hook: What to call.
        """
        return self.at_home(partial(_tasker._call_outside_tasks, hook))

    def at_home(self, function: Callable[[], T]) -> T:
        """Calls a function in the runner's own context variables.

        Args:
            function: What to call.
        """
        if self._is_home and self._is_home[-1]:
            return function()
        # A context cannot be entered twice.
        home = self._home.copy() if any(self._is_home) else self._home
        return self._within(home, function, is_home=True)

    def away(self, context: contextvars.Context, function: Callable[[], T]) -> T:
        """Calls a function in the context variables of a task.

        Args:
            context: These.
            function: What to call.
        """
        return self._within(context, function, is_home=False)

    def failed(self, what: str, fault: BaseException) -> None:
        """Logs that a hook failed.

        Args:
            what: Which.
            fault: What it raised.
        """
        self._say(logging.ERROR, f"{self.worker}: {what} failed", fault)

    def warn(self, text: str, fault: BaseException | None) -> None:
        """Logs what the runner makes the best of.

        Args:
            text: The message.
            fault: The exception it is about.
        """
        self._say(logging.WARNING, f"{self._runner}: {text}", fault)

    def _say(self, level: int, text: str, fault: BaseException | None) -> None:
        if self._logger is not None:
            _log.write(self._logger, level, text, self.worker, fault)

    def _within(
        self, context: contextvars.Context, function: Callable[[], T], *, is_home: bool
    ) -> T:
        self._is_home.append(is_home)
        try:
            return context.run(function)
        finally:
            self._is_home.pop()
