"""Objects of a user who means no good: they raise, dawdle and call back wherever touched."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable


class HostileError(Exception):
    """Raised where nobody asked for it: by a finalizer, a comparison, a callback, a handler."""


class TaskError(Exception):
    """A task's own error. Its text cannot be had, nor can it be compared."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        raise HostileError

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        raise HostileError

    __hash__ = Exception.__hash__


class Again(TaskError):
    """An error after which the task is to be tried again, as a `Retry` says."""


class Broken(TaskError):
    """An error that says that the resource is broken."""


class Quit(SystemExit):
    """A task that wants to end the interpreter."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Value:
    """A result that cannot be compared and does not go in peace."""

    __hash__ = object.__hash__

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        raise HostileError

    def __bool__(self) -> bool:
        raise HostileError

    def __del__(self) -> None:
        raise HostileError


class Junk:
    """An argument whose finalizer does what it is told, on whatever thread it dies."""

    def __init__(self, farewell: Callable[[], object]) -> None:
        self.farewell = farewell

    def __del__(self) -> None:
        self.farewell()


class Key:
    """A key that lets other threads in whenever it is hashed or compared."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __hash__(self) -> int:
        time.sleep(0)
        return hash(self.value)

    def __eq__(self, other: object) -> bool:
        time.sleep(0)
        return isinstance(other, Key) and other.value == self.value


class Handler(logging.Handler):
    """What a logger hands its records to: it calls back, and raises at each third one."""

    def __init__(self, look: Callable[[], object]) -> None:
        super().__init__()
        self.look = look
        self.count = 0

    def handle(self, record: logging.LogRecord) -> bool:
        self.count += 1
        self.look()
        if self.count % 3 == 0:
            raise HostileError(record.msg)
        return True


def hostile_logger(look: Callable[[], object]) -> logging.Logger:
    """A logger that nobody else has, with such a handler."""
    logger = logging.Logger("stress")
    logger.addHandler(Handler(look))
    return logger
