"""A task as it was submitted."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from tasker._public import publish
from tasker._retry import Retry, Unset
from tasker._tasker import _once

if TYPE_CHECKING:
    from tasker._future import Future
    from tasker._priority import Priority
    from tasker._protocol import TaskRunner


class RunnerWithOptions(Protocol):
    """A runner, or a double of one: what has `options`."""

    def options(
        self,
        *,
        priority: "Priority",
        once: bool,
        timeout: float | None,
        name: str | None,
        retry: "Retry | Unset | None",
        key: Callable[..., Hashable] | None,
        serial: bool,
    ) -> "TaskRunner[Any]":
        """Makes a view whose tasks have the given options."""
        ...


@runtime_checkable
class TakesItems(Protocol):
    """A view that takes items of batchers of other runners."""

    def _submit_item(self, settings: Any, item: Any) -> "Future[Any]": ...


# Compared by identity: arguments need not be comparable, and equal tasks are still two tasks.
@_once
@dataclass(frozen=True, slots=True, eq=False)
class SubmittedTask:
    """A task with its options, as `InlineRunner.submitted` lists it.

    Attributes:
        fn: The task function.
        args: Its positional arguments, without the resource.
        kwargs: Its keyword arguments.
        priority: The class it was submitted in.
        once: Whether it must not be entered twice.
        timeout: Its time limit in seconds as it was submitted, or `None`.
        name: The name given with `options`, or `None`.
        retry: The `Retry` given with `options`; `None`: it is not tried again after an error of its
            own. `Unset.UNSET`: as the config of its runner says.
        key: The function given with `options` that is asked for the keys of tasks, or `None`.
        serial: Whether tasks of its key run one after the other.

    Example:
        >>> from tasker import Config
        >>> from tasker.testing import InlineRunner
        >>> with InlineRunner(Config(on_create=dict, worker_count=1)) as runner:
        ...     runner.options(name="size").queue_task(len)
        ...     [(task.name, task.fn) for task in runner.submitted]
        0
        [('size', <built-in function len>)]
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    priority: "Priority"
    once: bool
    timeout: float | None
    name: str | None
    retry: "Retry | Unset | None" = Unset.UNSET
    key: Callable[..., Hashable] | None = None
    serial: bool = False

    def submit_to(self, runner: RunnerWithOptions) -> "Future[Any]":
        """Submits the task again, with the options it had; its time limit starts anew.

        An item of a batcher goes to one of *runner* with the same settings.

        Args:
            runner: A runner whose resources fit the task function.

        Returns:
            A new future.

        Raises:
            RunnerStopped: *runner* does not accept tasks.
            QueueFull: *runner* has no room for it.
        """
        view = runner.options(
            priority=self.priority,
            once=self.once,
            timeout=self.timeout,
            name=self.name,
            retry=self.retry,
            key=self.key,
            serial=self.serial,
        )
        settings = getattr(self.fn, "_batch_settings", None)
        if settings is not None and isinstance(view, TakesItems):
            return view._submit_item(settings, *self.args)
        return view.submit(self.fn, *self.args, **self.kwargs)


publish(globals(), ["SubmittedTask"])
