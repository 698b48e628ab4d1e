"""What driver and actors say to each other: plain tuples, which pickle fastest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from tasker.ray._pickling import PackedError

Attempt = tuple[float, float]
"""Seconds that an attempt waited in the actor, and seconds that it took."""

KindItem = tuple[int, bytes]
"""A kind of task: its number, and what it is."""

TaskItem = tuple[int, int, float | None, bytes, bytes | None, bool]
"""A task: its number and that of its kind, seconds left, arguments, context, past the queue."""

Outcome = tuple[int, str, Any, list[Attempt]]
"""A task that is done: its number, what became of it, that in pickled form, its attempts.

What became of it is `value`, `error`, `cancelled` or `dropped`; then it never began.
"""


def size_of(outcome: Outcome) -> int:
    """The bytes of what a task returned or raised, without its causes."""
    payload = outcome[2]
    return len(payload.error if isinstance(payload, PackedError) else payload or b"")


Note = tuple[str, Any]
"""What is told besides: `log` a record, `renewed` a number and a count, `closed`."""


class Reply(NamedTuple):
    """What one pull brings."""

    started: list[int]
    """Tasks that have begun, and are not done yet."""
    outcomes: list[Outcome]
    idle: float
    """The share of the workers' time since the last reply in which they ran no task."""
    notes: list[Note]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an actor is made with."""

    config: bytes
    """The fields of the `Config`, pickled."""
    contextvars: tuple[str, ...]
    log_level: int | None
    """From which level on records are sent to the driver; `None`: none are."""


class Opened(NamedTuple):
    """How the start of an actor ended."""

    process: int
    node: str
    error: PackedError | None
