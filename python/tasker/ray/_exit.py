"""What happens to runners on Ray that are alive when the interpreter exits."""

from __future__ import annotations

import contextlib
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasker.ray._dispatcher import Dispatcher

_alive: weakref.WeakSet[Dispatcher] = weakref.WeakSet()


def stop_at_exit(dispatcher: Dispatcher) -> None:
    """Has a runner stopped gracefully at exit, while Ray is still there, unless it has stopped.

    Plain atexit would be too late, as for every runner; Ray ends there.
    """
    if not _alive:
        threading._register_atexit(_stop_all)  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    _alive.add(dispatcher)


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
