"""Log records on their way from an actor to the logger of its runner."""

from __future__ import annotations

import logging
from collections.abc import Callable

from tasker import _log
from tasker.ray._pickling import PackedError, pack_error, unpack_error

Record = tuple[int, str, str | None, PackedError | None]
"""The level, the text, the worker that it is about, and the error."""


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
        error = record.exc_info[1] if record.exc_info else None
        packed = None if error is None else pack_error(None, error)
        worker: str | None = getattr(record, "worker", None)
        self._send((record.levelno, record.getMessage(), worker, packed))


def forwarding_logger(level: int, send: Callable[[Record], object]) -> logging.Logger:
    """Makes the logger of the runner in an actor; no other part of the process has it."""
    logger = logging.Logger("tasker", level)
    logger.addHandler(Forwarder(send))
    return logger


def write(logger: logging.Logger | None, actor: str, record: Record) -> None:
    """Writes a record in the driver.

    Args:
        logger: Of the config.
        actor: Where it comes from.
        record: What a `Forwarder` handed over.
    """
    if logger is not None:
        level, text, worker, packed = record
        error = None if packed is None else unpack_error(packed)
        _log.write(logger, level, f"{actor}: {text}", worker, error)
