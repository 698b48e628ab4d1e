"""Log records on their way from an actor to the logger of its runner."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

_FORMATTER = logging.Formatter()

Record = tuple[int, str]
"""The level, and the text with its traceback."""


class Forwarder(logging.Handler):
    """Hands records over instead of writing them.

    Args:
        send: Takes each. May be called from any thread.
    """

    def __init__(self, send: Callable[[Record], object]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Makes text of a record, since what it refers to may not be picklable."""
        self._send((record.levelno, _FORMATTER.format(record)))


def forwarding_logger(level: int, send: Callable[[Record], object]) -> logging.Logger:
    """Makes the logger of the runner in an actor; no other part of the process has it."""
    logger = logging.Logger("tasker", level)
    logger.addHandler(Forwarder(send))
    return logger


def write(logger: logging.Logger | None, actor: str, record: Any) -> None:
    """Writes a record in the driver.

    Args:
        logger: Of the config.
        actor: Where it comes from.
        record: What a `Forwarder` handed over.
    """
    if logger is not None:
        level, text = record
        logger.log(level, "%s: %s", actor, text)
