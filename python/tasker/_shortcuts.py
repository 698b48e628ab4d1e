"""The verbs that are `queue_task` with options, for runners written in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from tasker._priority import Priority
from tasker._public import publish_methods

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
P = ParamSpec("P")


class QueuesTasks(Protocol[R_co]):
    """What a view is asked for here."""

    def queue_task(
        self, fn: Callable[Concatenate[R_co, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Queues a task, waits for it and returns its result."""
        ...


class ShortcutsMixin(Generic[R]):
    """The methods that make a view for one task, for a runner."""

    if TYPE_CHECKING:

        def options(self, *, priority: Priority = ..., once: bool = ...) -> QueuesTasks[R]: ...

    def queue_task_with_priority(
        self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Does what `queue_task` does, in the class `Priority.HIGH`."""
        return self.options(priority=Priority.HIGH).queue_task(fn, *args, **kwargs)

    def queue_task_once(
        self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Does what `queue_task` does, and enters the function at most once."""
        return self.options(once=True).queue_task(fn, *args, **kwargs)

    def queue_task_with_priority_once(
        self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Does what `queue_task` does, in the class `Priority.HIGH` and at most once."""
        return self.options(priority=Priority.HIGH, once=True).queue_task(fn, *args, **kwargs)


publish_methods("Runner", ShortcutsMixin)
