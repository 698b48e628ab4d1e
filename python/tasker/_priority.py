"""The classes of urgency a task can wait in."""

from __future__ import annotations

from enum import IntEnum

from tasker._public import publish
from tasker._tasker import _once


@_once
class Priority(IntEnum):
    """Which of the waiting tasks a free worker takes next.

    The order is strict: a worker takes the highest class that has a task waiting, and within a
    class the task that was submitted first. A steady stream of higher tasks therefore holds
    lower ones back for as long as it lasts.

    Example:
        >>> Priority.LOW < Priority.NORMAL < Priority.HIGH
        True
    """

    LOW = 0
    """Taken when nothing else waits."""
    NORMAL = 1
    """The class of `submit` and `queue_task`."""
    HIGH = 2
    """Taken before everything else."""


publish(globals(), ["Priority"])
