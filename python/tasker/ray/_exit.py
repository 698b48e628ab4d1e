"""What happens to runners on Ray that are alive when the interpreter exits."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasker.ray._dispatcher import Dispatcher

_alive: weakref.WeakSet[Dispatcher] = weakref.WeakSet()


def stop_at_exit(dispatcher: Dispatcher) -> None:
    """Has a runner stopped gracefully at exit, while Ray is still there, unless it has stopped.

    Plain atexit would be too late, as for every runner; Ray ends there.
    """
    _register()
    _alive.add(dispatcher)


@cache
def _register() -> None:
    threading._register_atexit(_stop_all)  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    if hasattr(os, "register_at_fork"):
        # In a child they are the parent's.
        os.register_at_fork(after_in_child=_alive.clear)


def _stop_all() -> None:
    # An exception would keep the interpreter from running its other exit hooks.
    with contextlib.suppress(BaseException):
        try:
            for dispatcher in list(_alive):
                dispatcher.begin_end("stopping")
            for dispatcher in list(_alive):
                dispatcher.over.wait()
        except (KeyboardInterrupt, SystemExit):
            for dispatcher in list(_alive):
                dispatcher.begin_end("killed")
            for dispatcher in list(_alive):
                dispatcher.over.wait()
