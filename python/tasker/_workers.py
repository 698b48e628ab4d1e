"""What `Runner.workers` tells of each worker."""

from dataclasses import dataclass
from typing import Literal

from tasker._public import publish
from tasker._running_task import RunningTask
from tasker._tasker import _once


@_once
@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """A worker at one moment, from `Runner.workers`.

    The states add up to the workers alive: *starting*, its thread or first resource is being made;
    *idle*, it has a resource and no task; *busy*, it runs a task, or the caller does that has its
    resource on loan; *equipping*, it is making another resource, or has let go of its last one.
    """

    name: str
    """The name of its thread."""
    native_id: int | None
    """The number of its thread, as `threading.get_native_id`, `top -H` and `py-spy` have it.

    While it has lent its resource to a caller of `run_task`: that of the caller's thread. `None`
    before the thread has come up.
    """
    kind: Literal["base", "burst", "reserved", "temporary"]
    """What it is there for.

    A *base* worker is always alive, a *burst* worker as long as there is much to do. A *reserved*
    worker serves `run_task` alone, and so does a *temporary* one, which leaves after its task.
    """
    state: Literal["starting", "idle", "busy", "equipping"]
    """What it does."""
    task: RunningTask | None
    """What it runs: the outermost task, where one runs inside another."""
    tasks_done: int
    """Attempts that have ended on it, whatever came of them."""
    busy_seconds: float
    """Seconds that these took."""
    busy_share: float
    """The share of the last minute, or of a younger worker's life, in which it ran tasks.

    From 0 to 1, what it runs now included; it may be off by a thirtieth.
    """
    resource_generation: int
    """How many resources it has made so far."""
    resource_age: float | None
    """Seconds since its resource was made; `None`: it has none now."""


publish(globals(), ["WorkerInfo"])
