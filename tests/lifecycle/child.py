"""What the programs of these tests have at hand."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasker import Config

__all__ = ["config", "eventually", "forked", "interrupted", "say", "wait_until_blocked"]

PATIENCE = 20.0


def say(*things: object) -> None:
    """Prints a line, whole, from any thread, even while the interpreter exits."""
    os.write(1, f"{' '.join(map(str, things))}\n".encode())


def config(worker_count: int = 1, **fields: Any) -> Config[Any]:
    """A config whose resources are no matter."""
    return Config(**{"on_create": object, "worker_count": worker_count, **fields})


def eventually(predicate: Callable[[], object]) -> None:
    """Waits for what has no event of its own."""
    end = time.monotonic() + PATIENCE
    while not predicate():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)


def interrupted(call: Callable[[], object]) -> str:
    """Makes a call on the main thread, and presses Ctrl-C when it blocks.

    Returns:
        What came of it: `"at once"` if the call was interrupted in no time.
    """
    pressed = [0.0]

    def press() -> None:
        wait_until_blocked(threading.main_thread())
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    try:
        return f"returned {call()!r}"
    except KeyboardInterrupt:
        took = time.monotonic() - pressed[-1]
        # One that is not interrupted would go on for much longer than this.
        return "at once" if took < 0.5 else f"after {took:.1f} s"


def forked(child: Callable[[], object]) -> int:
    """Makes a call in a forked child, and waits for it.

    Returns:
        The child's exit status: 0 if the call returned in time.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
            child()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def wait_until_blocked(thread: threading.Thread) -> None:
    """Waits until a thread sleeps, and stays asleep though nobody keeps it from the interpreter."""
    looks = 0
    end = time.monotonic() + PATIENCE
    while looks < 20:
        assert time.monotonic() < end, "the thread does not block"
        time.sleep(0.001)
        looks = looks + 1 if _sleeps(thread) else 0


def _sleeps(thread: threading.Thread) -> bool:
    if sys.platform != "linux":
        return True
    stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text(encoding="utf-8")
    return stat.rpartition(")")[2].split()[0] == "S"
