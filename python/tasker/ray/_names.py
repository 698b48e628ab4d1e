"""Names of runners on Ray: no two that are alive in a process have the same."""

from __future__ import annotations

import logging
import threading
from itertools import count

from tasker._registry import alive

_lock = threading.Lock()
_taken: set[str] = set()


def claim(wanted: str | None, logger: logging.Logger | None) -> str:
    """Gives a name that no other runner has: *wanted*, that with a number, or `ray-1` and so on.

    Args:
        wanted: The name of the config.
        logger: Told where another one has the name.
    """
    with _lock:
        taken = _taken | {runner.name for runner in alive()}
        name = wanted or "ray-1"
        for number in count(2):
            if name not in taken:
                break
            name = f"{wanted or 'ray'}-{number}"
        _taken.add(name)
    if wanted is not None and name != wanted and logger is not None:
        logger.info("another runner is called %r: this one is %r", wanted, name)
    return name


def release(name: str) -> None:
    """Makes a name free again."""
    with _lock:
        _taken.discard(name)
