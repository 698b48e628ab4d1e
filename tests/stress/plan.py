"""What a seed decides of a round: the runner, how often which fault happens, and the end."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

ENDINGS = (
    "stop",
    "kill",
    "stop and kill",
    "two kills",
    "stop without patience",
    "context",
    "block",
    "task stops",
    "task kills",
    "callback stops",
    "callback kills",
    "astop",
    "akill",
)


@dataclass
class Plan:
    """One round. Chances are from 0 to 1."""

    seed: int
    tasks: int
    dice: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.dice = dice = random.Random(self.seed)
        self.producers = dice.randint(1, 3)
        self.has_loop = dice.random() < 0.5
        self.ending = dice.choice(ENDINGS)
        # Of those that do not end before, all tasks run.
        self.end_after = dice.randint(0, self.tasks) if dice.random() < 0.6 else None
        self.switch_interval = dice.choice((5e-3, 1e-4, 1e-6))
        # ---- how tasks end
        self.errors = dice.choice((0.0, 0.05, 0.3))
        self.broken = dice.choice((0.0, 0.01, 0.05))
        self.quits = dice.choice((0.0, 0.02))
        self.naps = dice.choice((0.0, 0.02, 0.1))
        self.nested = dice.choice((0.0, 0.05, 0.2))
        self.limited = dice.choice((0.0, 0.05, 0.3))
        self.once = dice.choice((0.0, 0.2))
        self.cancelled = dice.choice((0.0, 0.05, 0.3))
        # ---- what is hostile
        self.junk = dice.choice((0.0, 0.02, 0.1))
        self.hostile_values = dice.choice((0.0, 0.05))
        self.hostile_callbacks = dice.choice((0.0, 0.1))
        self.hostile_hooks = dice.choice((0.0, 0.05, 0.3))
        self.hostile_events = dice.choice((0.0, 0.1, 1.0))
        # ---- the runner
        self.start_fails = dice.random() < 0.03
        # Few: each costs a pause.
        self.creations_that_fail = dice.choice((0, 0, 1, 2))
        self.workers = dice.randint(1, 4)
        self.max_retries = dice.choice((0, 1, 3))
        self.has_is_broken = dice.random() < 0.8
        """And not `check_health`, which is not told the resource."""
        self.own_attempts = dice.choice((1, 2, 3))
        self.thread_bound = dice.random() < 0.6
        self.has_events = dice.random() < 0.6
        self.events_submit = self.has_events and dice.random() < 0.2
        self.room = dice.choice((None, None, 1, 20, 200))
        self.when_full = dice.choice(("block", "raise"))
        self.batch_size = dice.randint(1, 16)
        self.batch_wait = dice.choice((0.0, 0.0, 0.001))
        self.splits = dice.random() < 0.5
        self.spare = dice.randint(0, 2)
        self.changes = dice.choice((0.0, 0.01, 0.03))
        """How often it is resized, renewed, or loses what waits."""
        self.settings: dict[str, Any] = {
            "worker_count": self.workers,
            "max_worker_count": self.workers + self.spare,
            "burst_interval": dice.choice((0.1, 0.001)),
            "idle_timeout": dice.choice((30.0, 0.002, 0.0)),
            "max_retries": self.max_retries,
            "resource_pool_size": dice.choice((None, 0, 1, 2)),
            "max_queue_size": self.room,
            "when_full": self.when_full,
            "task_timeout": None,
            "validate_after_idle": dice.choice((30.0, 0.0)),
            "max_tasks_per_resource": dice.choice((None, None, 3, 100)),
            "max_resource_age": dice.choice((None, None, 0.01)),
            "fail_fast_after": dice.choice((None, None, 0.0)),
            "thread_bound": self.thread_bound,
            "copy_contextvars": dice.random() < 0.5,
        }

    @property
    def may_submit_anywhere(self) -> bool:
        """Whether no submit waits for room, on a thread that may have to make it."""
        return self.room is None or self.when_full == "raise"
