"""The one place where log records are written, for native code to call."""

from __future__ import annotations

import contextlib
import logging

INTERVAL = 10.0
"""Seconds between two looks at what is wrong with a runner, while tasks are under way. Read as it
starts."""
_DEFAULT = logging.getLogger("tasker")


def write(
    logger: logging.Logger | None,
    level: int,
    text: str,
    worker: str | None,
    error: BaseException | None,
) -> None:
    """Writes one record; an error of the logging itself is dropped.

    Args:
        logger: Where to; `None` is the logger `tasker`.
        level: A level of the `logging` module.
        text: The message.
        worker: The worker it is about, as the record's attribute `worker`.
        error: The exception it is about.
    """
    with contextlib.suppress(BaseException):
        target = logger or _DEFAULT
        if target.isEnabledFor(level):
            exc_info = (type(error), error, error.__traceback__) if error is not None else None
            target.log(level, "%s", text, exc_info=exc_info, extra={"worker": worker})
