"""What a `RayRunner` and its views share: the settings, and what takes and runs tasks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, fields, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from tasker._config import Config
from tasker.ray._carried import Carrier
from tasker.ray._kinds import Kinds
from tasker.ray._pickling import pack_fields
from tasker.ray._wire import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasker.ray._dispatcher import Dispatcher
    from tasker.ray._fleet import Fleet

AT_THE_DRIVER = ("context", "logger", "max_queue_size", "when_full", "task_timeout")
"""Fields of `Config` that the actors do not get; they have a name of their own, too."""


@dataclass(slots=True, eq=False)
class Engine:
    """The parts of a runner. No part leads back to it, so that it is collected when dropped."""

    config: Config[Any]
    carrier: Carrier
    fleet: Fleet
    dispatcher: Dispatcher
    kinds: Kinds = field(default_factory=Kinds)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def most_workers(self) -> int:
        """Workers of all actors."""
        each = self.config.max_worker_count or self.config.worker_count
        return each * self.fleet.size

    def may_wait(self) -> bool:
        """Whether a submit from here may wait for room in a full queue."""
        if self.config.when_full == "raise":
            return False
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return True
        return False


def settings_of(config: Config[Any], name: str, carrier: Carrier) -> Settings:
    """Makes what an actor is made with.

    Args:
        config: Of the runner.
        name: Of the runner in the actor.
        carrier: Its context variables.

    Raises:
        TaskNotPicklable: A field cannot be sent to an actor; the text names it.
    """
    its = replace(config, name=name)
    given = {each.name: getattr(its, each.name) for each in fields(Config)}
    for field_name in AT_THE_DRIVER:
        del given[field_name]
    logger = config.logger
    return Settings(
        config=pack_fields("the config", given),
        contextvars=carrier.names,
        log_level=None if logger is None else logger.getEffectiveLevel(),
    )
