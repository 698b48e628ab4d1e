"""What the programs of these tests have at hand."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tasker import Config

__all__ = [
    "address_space",
    "config",
    "ends_in_a_child",
    "eventually",
    "forked",
    "import_again",
    "interrupted",
    "say",
    "signalled",
    "wait_until_blocked",
]

LONG_TIMEOUT = 20.0


def say(*things: object, sep: str = " ") -> None:
    """Prints a line, whole, from any thread, even while the interpreter exits."""
    os.write(1, f"{sep.join(map(str, things))}\n".encode())


def config(worker_count: int = 1, **fields: Any) -> Config[Any]:
    """A config whose resources are no matter."""
    return Config(**{"on_create": object, "worker_count": worker_count, **fields})


def eventually(predicate: Callable[[], object]) -> None:
    """Waits for what has no event of its own."""
    end = time.monotonic() + LONG_TIMEOUT
    while not predicate():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)


def import_again(how: str) -> Any:
    """Has the package imported once more; returns the one that was there before.

    Args:
        how: `purged` from `sys.modules`, `reloaded`, or `reloaded whole`, with all parts.
    """
    package = sys.modules["tasker"]
    parts = [name for name in sys.modules if name.partition(".")[0] == "tasker"]
    match how:
        case "purged":
            before = package
            for name in parts:
                del sys.modules[name]
        case _:
            # Reloaded, a module is the same and has other contents.
            before = type(package)("tasker")
            vars(before).update(vars(package))
            reloaded = sorted(parts, reverse=True) if how == "reloaded whole" else ["tasker"]
            for name in reloaded:
                importlib.reload(sys.modules[name])
    importlib.import_module("tasker")
    return before


@contextlib.contextmanager
def signalled(number: int, after: threading.Event | None = None) -> Iterator[list[float]]:
    """Sends this process a signal as soon as the main thread blocks, and notes when.

    Args:
        number: The signal.
        after: Set when the main thread has come so far that it is to block next.
    """
    sent: list[float] = []

    def send() -> None:
        if after:
            after.wait(LONG_TIMEOUT)
        wait_until_blocked(threading.main_thread())
        sent.append(time.monotonic())
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent
    finally:
        thread.join()


def interrupted(call: Callable[[], object], after: threading.Event | None = None) -> str:
    """Makes a call, and presses Ctrl-C when it blocks.

    Args:
        call: What is interrupted.
        after: As of `signalled`.

    Returns:
        What came of it: `"at once"` if the call was interrupted in no time.
    """
    with signalled(signal.SIGINT, after) as sent:
        try:
            return f"returned {call()!r}"
        except KeyboardInterrupt:
            took = time.monotonic() - sent[0]
    # One that is not interrupted would go on for much longer than this.
    return "at once" if took < 0.5 else f"after {took:.1f} s"


@contextlib.contextmanager
def address_space(room: int) -> Iterator[None]:
    """Leaves this process so many bytes of address space beyond what it has, for a while."""
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    former = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, former)


def ends_in_a_child(how: str) -> int:
    """Forks, and goes on in the parent alone, with the status of the child when that has ended.

    Args:
        how: In the child, `return` returns, `raise` raises and `exit` exits with status 5.
    """
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if how == "raise":
        raise ZeroDivisionError
    if how == "exit":
        sys.exit(5)
    return 0


def forked(child: Callable[[], object]) -> int:
    """Makes a call in a forked child, and waits for it.

    Returns:
        The child's exit status: 0 if the call returned in time.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            faulthandler.dump_traceback_later(LONG_TIMEOUT, exit=True)
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
    end = time.monotonic() + LONG_TIMEOUT
    while looks < 20:
        assert time.monotonic() < end, "the thread does not block"
        time.sleep(0.001)
        looks = looks + 1 if _sleeps(thread) else 0


def _sleeps(thread: threading.Thread) -> bool:
    if sys.platform != "linux":
        return True
    stat = Path(f"/proc/self/task/{thread.native_id}/stat").read_text(encoding="utf-8")
    return stat.rpartition(")")[2].split()[0] == "S"
