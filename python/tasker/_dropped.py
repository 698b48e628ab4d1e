"""What is left of a task that never ran."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasker._public import publish
from tasker._submitted import SubmittedTask
from tasker._tasker import _once


@_once
@dataclass(frozen=True, slots=True, eq=False)
class DroppedTask(SubmittedTask):
    """A task that `Runner.kill` or `Runner.cancel_queued` dropped before it ever started.

    Its future has failed with `TaskCancelled`; `submit_to` gives it to another runner. The
    attributes are those of `SubmittedTask`.
    """


@_once
def without_resource(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a task function of a function that wants no resource.

    Args:
        fn: What an executor of a runner was given.
    """

    def call(_resource: object, /, *args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return call


publish(globals(), ["DroppedTask"])
