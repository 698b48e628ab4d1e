"""Names of runners on Ray: no two runners that are alive in a process have the same."""

from __future__ import annotations

import logging

from tasker import _tasker
from tasker._texts import plain


def claim(wanted: str | None, logger: logging.Logger | None) -> str:
    """Gives a name that no other runner has: *wanted*, that with a number, or `ray-1` and so on.

    Args:
        wanted: The name of the config.
        logger: Told where another one has the name.
    """
    name = _tasker._take_name(wanted, "ray")
    if wanted is not None and name != plain(wanted) and logger is not None:
        logger.info("%s: the name %s is taken by another runner", name, plain(wanted))
    return name


def release(name: str) -> None:
    """Makes a name free again."""
    _tasker._free_name(name)
