"""What the tests have actors do."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tasker import current_context

Resource = dict[str, Any]


def square(_resource: Resource, n: int) -> int:
    return n * n


def same(_resource: Resource, value: Any) -> Any:
    return value


def process(_resource: Resource) -> int:
    return os.getpid()


def fail(_resource: Resource, error: BaseException) -> None:
    raise error


def touch_and_wait(_resource: Resource, mark: Path) -> str | None:
    """Says by a file that it has begun, and waits to be cancelled."""
    mark.touch()
    context = current_context()
    context.wait()
    return context.reason


def append(_resource: Resource, path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(f"{text}\n")


def wait_for(_resource: Resource, gate: Path) -> None:
    """Waits until a file is there."""
    while not gate.exists():
        time.sleep(0.01)


def exit_hard(_resource: Resource, path: Path | None = None) -> None:
    """Ends its process; with a path, the first time alone."""
    if path is not None:
        if path.exists():
            return
        path.touch()
    os._exit(1)


def eventually(is_so: Any, seconds: float = 120.0) -> None:
    """Waits for a condition."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it never came so"
        time.sleep(0.01)
