"""What `options` takes, of every kind of runner."""

from __future__ import annotations

from typing import NamedTuple

from tasker._checks import check_deadline, check_name, check_priority, check_type
from tasker._priority import Priority


class Options(NamedTuple):
    """What a view fixes for its tasks."""

    priority: Priority = Priority.NORMAL
    once: bool = False
    timeout: float | None = None
    name: str | None = None


def check_options(
    priority: Priority, once: bool, timeout: float | None, name: str | None
) -> Options:
    """Checks the options of a view.

    Args:
        priority: The class of its tasks.
        once: Whether their functions are entered at most once.
        timeout: Their time limit in seconds, or `None`.
        name: Their name, or `None`.

    Returns:
        The options, as they are used from then on.

    Raises:
        ConfigError: One has a wrong type or value.
    """
    priority = check_priority("priority", priority)
    check_type("once", once, bool)
    timeout = check_deadline("timeout", timeout)
    return Options(priority, once, timeout, check_name("name", name, optional=True))
