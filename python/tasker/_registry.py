"""The runners that are alive in this process."""

from __future__ import annotations

import weakref
from itertools import count
from typing import TYPE_CHECKING, Any

from tasker._tasker import _once

if TYPE_CHECKING:
    from tasker._runner import Runner

_numbers = count()
_started: dict[int, weakref.ref[Runner[Any]]] = {}
"""Oldest first. Each change is one step of the dictionary, so it needs no lock."""


@_once
def runners() -> tuple[Runner[Any], ...]:
    """Returns the runners that are alive in this process, oldest first.

    Alive is one whose constructor has returned and whose `state` is not `"stopped"` yet. None is
    kept alive by being listed, and none is listed in a child process that was forked from the one
    that made it. May be called from any thread.

    Example:
        >>> from tasker import Config, Runner, runners
        >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
        ...     runner in runners()
        True
        >>> runner in runners()
        False
    """
    # A copy first: a runner that the collector finds meanwhile takes itself out.
    known = [reference() for reference in list(_started.values())]
    return tuple(each for each in known if each is not None and each.state != "stopped")


@_once
def enlist(runner: Runner[Any]) -> None:
    """Has `runners` list a runner as long as it lives.

    Args:
        runner: One that has started.
    """
    number = next(_numbers)

    def forget(_reference: object) -> None:
        _started.pop(number, None)

    _started[number] = weakref.ref(runner, forget)


@_once
def forget_all() -> None:
    """Lists none of those made so far: in a child process they are the parent's."""
    _started.clear()
