"""The registry of the runners that are alive in this process."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

from tasker._tasker import _once

if TYPE_CHECKING:
    from tasker._watchable import Watchable

_numbers = count()
_started: dict[int, weakref.ref[Watchable]] = {}
"""Oldest first, those whose workers are in other processes too.

Each change is one step of the dictionary, so it needs no lock.
"""
_watchers: list[Callable[[Any], object]] = []
"""Integrations that show each runner that starts."""


@_once
def alive() -> list[Watchable]:
    """The registered runners that have not stopped, oldest first."""
    # A copy first: a runner that the collector finds meanwhile takes itself out.
    known = [reference() for reference in list(_started.values())]
    return [each for each in known if each is not None and each.state != "stopped"]


@_once
def register(runner: Watchable) -> None:
    """Has `runners` list a runner as long as it lives.

    Args:
        runner: One that has started.
    """
    number = next(_numbers)

    def forget(_reference: object) -> None:
        _started.pop(number, None)

    _started[number] = weakref.ref(runner, forget)
    for watcher in tuple(_watchers):
        watcher(runner)


@_once
def watch(watcher: Callable[[Any], object]) -> None:
    """Has *watcher* called with each runner that starts from now on, in the thread that makes it.

    Args:
        watcher: It must not raise.
    """
    _watchers.append(watcher)


@_once
def unwatch(watcher: Callable[[Any], object]) -> None:
    """Takes back what `watch` was given; has no effect on what it was not.

    Args:
        watcher: The same.
    """
    if watcher in _watchers:
        _watchers.remove(watcher)


@_once
def clear() -> None:
    """Lists none of those made so far: in a child process they are the parent's."""
    _started.clear()
