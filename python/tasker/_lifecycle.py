"""What happens to live runners when the interpreter exits or the process forks."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - its exit hook, registered first, runs after ours
import contextlib
import logging
import os
import sys
import threading
from typing import NoReturn

from tasker import _registry, _tasker


def install_hooks() -> None:
    """Registers the hooks, once in a process; called when the package is imported."""
    if not _tasker._is_first_import():
        return
    # Plain atexit is too late: its hooks run after the interpreter has joined all threads.
    threading._register_atexit(end_all_runners)  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=_after_fork_in_child)


def _after_fork_in_child() -> None:
    _tasker._after_fork_in_child()
    _registry.clear()


def end_all_runners() -> None:
    """Stops every live runner gracefully, and waits for it.

    Ctrl-C turns the stop into a kill, as does a signal whose handler calls `sys.exit`. A second one
    gives up: what still runs is named on standard error and left behind. No exception gets out,
    since that would keep the interpreter from running its other exit hooks.
    """
    with contextlib.suppress(BaseException):
        try:
            try:
                _tasker._stop_all_at_exit()
            except (KeyboardInterrupt, SystemExit):
                _tasker._kill_all_at_exit()
        except (KeyboardInterrupt, SystemExit):
            _give_up()
        except BaseException:
            logging.getLogger("tasker").exception("the runners could not be stopped at exit")
            _give_up()


def end_child(error: BaseException | None) -> NoReturn:
    """Ends a child that was forked in a task or hook, which has ended in the child as well.

    It ends as a child of `multiprocessing` does: what the child has started is waited for, what it
    has written is flushed, and nothing of the parent's is cleaned up.

    Args:
        error: What the task or hook raised. It gives the status: 0 without one, that of a
            `SystemExit`, and 1 for any other, which is shown on standard error.
    """
    status = 1
    try:
        status = _status(error)
        threading._shutdown()  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]
    except BaseException as late:
        status = 1
        sys.excepthook(type(late), late, late.__traceback__)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(status)


def _status(error: BaseException | None) -> int:
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1


def _give_up() -> None:
    try:
        sys.stderr.write(f"{_tasker._exit_report()}\n")
    finally:
        _tasker._give_up_at_exit()
