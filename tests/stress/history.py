"""The history of a round: everything that was asked and everything that happened, in one order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tasker import Metrics

Kind = Literal[
    "asked",  # number, Asked: a caller is about to hand a task in
    "refused",  # number, why: the call raised, or the future says that it was never accepted
    "turned away",  # a call that is for many tasks was refused
    "ended",  # number, how: the caller got its outcome
    "withdrawn",  # number: a `cancel` said that the task is cancelled
    "told",  # number: a `request_cancel`, or a cancelled asyncio future, may have cancelled it
    "entered",  # number, attempt, resource, thread: its function begins
    "left",  # number, how, resource: its function is about to return or raise
    "handed back",  # number: a `kill` or `cancel_queued` returned it
    "made",  # resource, thread
    "destroyed",  # resource, thread: `on_destroy` begins
    "judged",  # resource: the runner was told that it is broken
    "interrupting",  # resource: `on_cancel` begins
    "interrupted",  # resource: `on_cancel` is over
    "renewal asked",  # number of the renewal
    "renewal done",  # number of the renewal, how many resources are gone
    "creation failed",  # `on_create` raised after the start
    "killed",  # somebody saw that the runner is killed
    "over",  # a `stop` or `kill` returned that had waited for the end
    "event",  # task id, kind: `on_event` was called
]
"""What an entry of the log is about, and what its other fields are."""

Entry = tuple[Any, ...]
"""A kind, and what belongs to it. A tuple and no class: there are millions."""

ENDS = {
    "value": "completed",
    "own": "failed",
    "cancelled": "cancelled",
    "dropped": "dropped",
    "timed out": "timed_out",
}
"""How a task may end for its caller, and the total of `metrics()` that counts it then."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a task was asked to be."""

    verb: str
    once: bool = False
    limited: bool = False
    line: Any = None
    """The key whose tasks run in the order in which they were asked for."""
    streams: bool = False
    """Its caller may go away before the outcome is there, as one who drops the results of a map."""
    batched: bool = False
    """It runs beside others in one call, maybe once more by itself."""


@dataclass
class History:
    """A round that is over: its log, and what the runner and the process tell of it then."""

    log: list[Entry]
    metrics: Metrics | None = None
    """`None`: there never was a runner, as it could not start."""
    max_retries: int = 0
    own_retries: int = 0
    """How many more attempts a task may have after errors of its own."""
    thread_bound: bool = True
    tells_all: bool = True
    """Whether `on_event` was called for each task: none was submitted while the hook was called."""
    judges: bool = True
    """Whether the log tells of which resource it was asked whether it is broken."""
    tries_again: bool = False
    """Whether an item may have been refused that was accepted later.

    `amap` looks for room first, which another thread may take before the item is there.
    """
    threads: list[str] = field(default_factory=list)
    """The threads of the runner that are alive after its end."""
    gauges: dict[str, float] = field(default_factory=dict)
    """What `stats()` says after the end, as far as it is not zero."""
    unfinished: list[str] = field(default_factory=list)
    """Calls that did not return within the patience of the round."""
