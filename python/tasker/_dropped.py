"""What is left of a task that never ran."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasker._tasker import _once

if TYPE_CHECKING:
    from tasker._future import Future
    from tasker._priority import Priority
    from tasker._runner import Runner


# Compared by identity: arguments need not be comparable, and equal tasks are still two tasks.
@_once
@dataclass(frozen=True, slots=True, eq=False)
class DroppedTask:
    """A task that `Runner.kill` dropped before it ever started.

    Its future has failed with `TaskCancelled`; `submit_to` gives it to another runner.

    Attributes:
        fn: The task function.
        args: Its positional arguments, without the resource.
        kwargs: Its keyword arguments.
        priority: The class it waited in.
        once: Whether it must not be entered twice.
        timeout: Its time limit in seconds as it was submitted, or `None`.
        name: The name given with `options`, or `None`.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    priority: "Priority"
    once: bool
    timeout: float | None
    name: str | None

    def submit_to(self, runner: "Runner[Any]") -> "Future[Any]":
        """Submits the task again, with the options it had; its time limit starts anew.

        Args:
            runner: A runner whose resources fit the task function.

        Returns:
            A new future.

        Raises:
            RunnerStopped: *runner* does not accept tasks.
            QueueFull: *runner* has no room for it.
        """
        view = runner.options(
            priority=self.priority, once=self.once, timeout=self.timeout, name=self.name
        )
        return view.submit(self.fn, *self.args, **self.kwargs)


@_once
def without_resource(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a task function of a function that wants no resource.

    Args:
        fn: What an executor of a runner was given.
    """

    def call(_resource: object, /, *args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return call
