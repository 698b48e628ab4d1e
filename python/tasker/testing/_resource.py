"""The one resource of an `InlineRunner`: made, looked at, tidied up, replaced and destroyed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from tasker._errors import ResourceCreationError

if TYPE_CHECKING:
    from tasker._config import Config
    from tasker.testing._hooks import Hooks

R = TypeVar("R")

PATIENCE = 3
"""So many new resources in a row may be found bad, as before a worker begins to pause."""


@dataclass(slots=True, eq=False)
class _Holding(Generic[R]):
    """A resource, and what is known of it."""

    resource: R
    generation: int
    made: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=time.monotonic)
    tasks: int = 0
    is_doubtful: bool = False


class OwnedResource(Generic[R]):
    """Looks after a resource with the hooks of a config, in a worker's order."""

    def __init__(self, config: Config[R], hooks: Hooks) -> None:
        """Has no resource yet.

        Args:
            config: Whose hooks and limits hold.
            hooks: Calls them.
        """
        self.fault: BaseException | None = None
        """Why the last one could not be made."""
        self._config = config
        self._hooks = hooks
        self._holding: _Holding[R] | None = None
        self._generation = 0
        self._is_spoiled = False

    @property
    def is_there(self) -> bool:
        """Whether there is one."""
        return self._holding is not None

    def get(self) -> R:
        """Gives it.

        Raises:
            ResourceCreationError: There is none.
        """
        if self._holding is None:
            message = "the resource could not be replaced; the next task tries again"
            raise ResourceCreationError(message) from self.fault
        return self._holding.resource

    def spoil(self) -> None:
        """Says that it went bad: it is replaced when the task has ended."""
        self._is_spoiled = True

    def doubt(self) -> None:
        """Says that an interrupted task may have left it bad: it is validated before the next."""
        if self._holding is not None:
            self._holding.is_doubtful = True

    def interrupt(self) -> None:
        """Calls the hook for a cancelled task that is using it."""
        on_cancel, holding = self._config.on_cancel, self._holding
        if on_cancel is None or holding is None:
            return
        self.doubt()
        try:
            self._hooks.call(partial(on_cancel, holding.resource))
        except KeyboardInterrupt:
            raise
        except BaseException as fault:
            self._hooks.failed("on_cancel", fault)

    @property
    def has_judge(self) -> bool:
        """Whether a hook is asked about the errors of tasks."""
        return self._config.is_broken is not None or self._config.check_health is not None

    def judge(self, error: BaseException) -> bool:
        """Asks whether it is bad: whether the task may be tried again on another one.

        Args:
            error: What the task raised.
        """
        is_broken, check_health = self._config.is_broken, self._config.check_health
        resource = self.get()

        def ask() -> bool:
            if is_broken is not None:
                return bool(is_broken(resource, error))
            return check_health is not None and not check_health(error)

        try:
            is_bad = self._hooks.call(ask)
        except KeyboardInterrupt:
            self.spoil()
            raise
        except BaseException as fault:
            self.spoil()
            self._hooks.failed("is_broken" if is_broken is not None else "check_health", fault)
            return False
        if is_bad:
            self.spoil()
        return is_bad

    def recycle(self) -> None:
        """Says that it is to be renewed."""
        self._generation += 1

    def make(self) -> bool:
        """Makes one if there is none: whether there is one."""
        if self._holding is not None:
            return True
        try:
            resource = self._hooks.call(self._config.on_create)
        except KeyboardInterrupt:
            raise
        except BaseException as fault:
            self.fault = fault
            return False
        self.fault = None
        self._is_spoiled = False
        self._holding = _Holding(resource, self._generation)
        return True

    def prepare(self, *, looks: bool, renews: bool) -> bool:
        """Makes sure of one that a task may use now: whether there is one.

        Args:
            looks: Whether one that was idle is validated.
            renews: Whether a good one is replaced that has served long enough.
        """
        useless = 0
        is_renewed = False
        while self.make() and (holding := self._holding) is not None:
            if looks and not self._is_fit(holding):
                useless = useless + 1 if holding.tasks == 0 else 0
                self.destroy()
                if useless >= PATIENCE:
                    text = "validate refused a resource that was just made"
                    self.fault = ResourceCreationError(text)
                    return False
            elif renews and not is_renewed and self._is_worn(holding):
                # Once: a task that waits is not kept waiting by renewals.
                self.destroy()
                is_renewed = True
            else:
                return True
        return False

    def served(self, *, tidies: bool) -> None:
        """Tidies it up after a task.

        Args:
            tidies: Whether `reset` is called.
        """
        holding, reset = self._holding, self._config.reset
        if holding is None:
            return
        holding.tasks += 1
        if tidies and reset is not None and not self._is_spoiled:
            try:
                self._hooks.call(partial(reset, holding.resource))
            except KeyboardInterrupt:
                self.spoil()
                raise
            except BaseException as fault:
                self.spoil()
                self._hooks.failed("reset", fault)
        holding.used = time.monotonic()

    def renew_if_due(self, *, renews: bool, needed: bool = True) -> None:
        """Replaces one that is bad.

        Args:
            renews: Whether a good one is replaced too that has served long enough.
            needed: Whether another one is made in its place.
        """
        holding = self._holding
        if holding is None or not (self._is_spoiled or (renews and self._is_worn(holding))):
            return
        self.destroy()
        if needed and not self.make():
            text = "the resource could not be replaced; the next task tries again"
            self._hooks.warn(text, self.fault)

    def destroy(self) -> None:
        """Destroys it, if there is one."""
        holding, self._holding = self._holding, None
        if holding is None or self._config.on_destroy is None:
            return
        try:
            self._hooks.call(partial(self._config.on_destroy, holding.resource))
        except KeyboardInterrupt:
            raise
        except BaseException as fault:
            self._hooks.failed("on_destroy", fault)

    def _is_fit(self, holding: _Holding[R]) -> bool:
        """Looks at one that was idle for long."""
        validate = self._config.validate
        idle = time.monotonic() - holding.used
        rested = idle >= self._config.validate_after_idle
        if validate is None or not (rested or holding.is_doubtful):
            return True
        try:
            is_good = self._hooks.call(lambda: bool(validate(holding.resource)))
        except KeyboardInterrupt:
            self.spoil()
            raise
        except BaseException as fault:
            self._hooks.failed("validate", fault)
            return False
        holding.used = time.monotonic()
        holding.is_doubtful = False
        return is_good

    def _is_worn(self, holding: _Holding[R]) -> bool:
        """Whether a good one has served long enough."""
        most, age = self._config.max_tasks_per_resource, self._config.max_resource_age
        return (
            holding.generation != self._generation
            or (most is not None and holding.tasks >= most)
            or (age is not None and time.monotonic() - holding.made >= age)
        )
