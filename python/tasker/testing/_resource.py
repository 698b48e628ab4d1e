"""The one resource of an `InlineRunner`: made, validated, reset, replaced, renewed, destroyed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tasker import _tasker
from tasker._errors import ResourceCreationError, RunnerStopped
from tasker._future import Future

if TYPE_CHECKING:
    from collections.abc import Generator

    from tasker._config import Config
    from tasker.testing._counters import InlineCounters
    from tasker.testing._hooks import HookCaller

R = TypeVar("R")

MAX_REFUSED_IN_A_ROW = 3
"""How many new resources in a row `validate` may refuse; a worker begins to pause then."""


class InlineRenewal(Future[int]):
    """What `InlineRunner.renew` gives: pending only inside the task that uses the resource."""

    def result(self, timeout: float | None = None) -> int:
        self._check_wait(timeout)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._check_wait(timeout)
        return super().exception(timeout)

    def __await__(self) -> Generator[Any, None, int]:
        self._check_wait(None)
        return super().__await__()

    def _check_wait(self, timeout: float | None) -> None:
        if timeout is None and not self.done():
            raise RuntimeError(_tasker._RENEWAL_WOULD_DEADLOCK)


@dataclass(slots=True, eq=False)
class _TrackedResource(Generic[R]):
    """A resource, with its age, its number of tasks and its last use."""

    resource: R
    generation: int
    made: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=time.monotonic)
    tasks: int = 0
    is_suspect: bool = False


class OwnedResource(Generic[R]):
    """Looks after a resource with the hooks of a config, in a worker's order."""

    def __init__(self, config: Config[R], hooks: HookCaller, counters: InlineCounters) -> None:
        """Has no resource yet.

        Args:
            config: Whose hooks and limits hold.
            hooks: Calls them.
            counters: Counts what is made and given up.
        """
        self.fault: BaseException | None = None
        """Why the last one could not be made."""
        self._config = config
        self._hooks = hooks
        self._counters = counters
        self._tracked: _TrackedResource[R] | None = None
        self.made = 0
        """How many were made so far."""
        self._generation = 0
        self._renewals: list[InlineRenewal] = []
        self._bad: str | None = None
        """Why it is to be replaced, if it is."""

    @property
    def exists(self) -> bool:
        """Whether there is one."""
        return self._tracked is not None

    @property
    def age(self) -> float | None:
        """Seconds since it was made; `None`: there is none."""
        return None if self._tracked is None else time.monotonic() - self._tracked.made

    def get(self) -> R:
        """Gives it.

        Raises:
            ResourceCreationError: There is none.
        """
        if self._tracked is None:
            message = "there is no resource, since on_create failed; the next task tries again"
            raise ResourceCreationError(message) from self.fault
        return self._tracked.resource

    def mark_bad(self, reason: str = "unhealthy") -> None:
        """Notes that it went bad: it is replaced when the task has ended.

        Args:
            reason: Why, of `REPLACEMENTS`. The first stays.
        """
        self._bad = self._bad or reason

    def mark_suspect(self) -> None:
        """Notes that an interrupted task may have left it bad: it is validated before the next."""
        if self._tracked is not None:
            self._tracked.is_suspect = True

    def interrupt(self) -> None:
        """Calls the hook for a cancelled task that is using it."""
        on_cancel, tracked = self._config.on_cancel, self._tracked
        if on_cancel is None or tracked is None:
            return
        self.mark_suspect()
        try:
            self._hooks.call(partial(on_cancel, tracked.resource))
        except KeyboardInterrupt:
            raise
        except BaseException as fault:
            self._hooks.failed("on_cancel", fault)

    @property
    def has_health_hook(self) -> bool:
        """Whether a hook is asked about the errors of tasks."""
        return self._config.is_broken is not None or self._config.check_health is not None

    def is_bad_after(self, error: BaseException) -> bool:
        """Asks a hook whether it is bad: whether the task may be tried again on another one.

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
            self.mark_bad()
            raise
        except BaseException as fault:
            self.mark_bad()
            self._hooks.failed("is_broken" if is_broken is not None else "check_health", fault)
            return False
        if is_bad:
            self.mark_bad()
        return is_bad

    def renew(self) -> InlineRenewal:
        """Makes it count as worn, however young it is; gives what is done when it is gone."""
        self._generation += 1
        renewal = InlineRenewal()
        if self._tracked is None:
            renewal.set_result(0)
        else:
            self._renewals.append(renewal)
        return renewal

    def close(self) -> None:
        """Destroys it at the end of its runner, which renews no more."""
        renewals, self._renewals = self._renewals, []
        for renewal in renewals:
            if not renewal.done():
                renewal.set_exception(RunnerStopped(_tasker._STOPPED))
        self.destroy()

    def make(self) -> bool:
        """Makes one if there is none: whether there is one."""
        if self._tracked is not None:
            return True
        begin = time.monotonic()
        try:
            resource = self._hooks.call(self._config.on_create)
        except KeyboardInterrupt:
            raise
        except BaseException as fault:
            self.fault = fault
            self._counters.creation_failed()
            return False
        self._counters.created(time.monotonic() - begin)
        self.fault = None
        self._bad = None
        self.made += 1
        self._tracked = _TrackedResource(resource, self._generation)
        return True

    def prepare(self, *, validates: bool, renews: bool) -> bool:
        """Makes sure of one that a task may use now: whether there is one.

        Args:
            validates: Whether one that was idle is validated.
            renews: Whether a worn one is renewed.
        """
        refused_in_a_row = 0
        is_renewed = False
        while self.make() and (tracked := self._tracked) is not None:
            if validates and not self._is_fit(tracked):
                refused_in_a_row = refused_in_a_row + 1 if tracked.tasks == 0 else 0
                is_hopeless = refused_in_a_row >= MAX_REFUSED_IN_A_ROW
                if is_hopeless:
                    self._counters.created_in_vain()
                else:
                    self._counters.replaced(self._bad or "invalid")
                self.destroy()
                if is_hopeless:
                    text = "validate refused a resource that was just made"
                    self.fault = ResourceCreationError(text)
                    return False
            elif renews and not is_renewed and (wear := self._wear(tracked)):
                # Once: a task that waits is not kept waiting by renewals.
                self._counters.replaced(wear)
                self.destroy()
                is_renewed = True
            else:
                return True
        return False

    def after_task(self, *, resets: bool) -> None:
        """Counts a task, and resets the resource.

        Args:
            resets: Whether `reset` is called.
        """
        tracked, reset = self._tracked, self._config.reset
        if tracked is None:
            return
        tracked.tasks += 1
        if resets and reset is not None and self._bad is None:
            try:
                self._hooks.call(partial(reset, tracked.resource))
            except KeyboardInterrupt:
                self.mark_bad()
                raise
            except BaseException as fault:
                self.mark_bad("reset")
                self._hooks.failed("reset", fault)
        tracked.used = time.monotonic()

    def replace_or_renew(self, *, renews: bool, needed: bool = True) -> None:
        """Replaces a bad one, and renews a worn one.

        Args:
            renews: Whether a worn one is renewed.
            needed: Whether another one is made in its place.
        """
        tracked = self._tracked
        if tracked is None:
            return
        reason = self._bad or (self._wear(tracked) if renews else None)
        if reason is None:
            return
        what = "renewed" if self._bad is None else "replaced"
        self._counters.replaced(reason)
        self.destroy()
        if needed and not self.make():
            text = f"the resource could not be {what}; the next task tries again"
            self._hooks.warn(text, self.fault)

    def destroy(self) -> None:
        """Destroys it, if there is one."""
        tracked, self._tracked = self._tracked, None
        if tracked is None:
            return
        renewals, self._renewals = self._renewals, []
        try:
            if self._config.on_destroy is not None:
                self._hooks.call(partial(self._config.on_destroy, tracked.resource))
        except KeyboardInterrupt:
            raise
        except BaseException as fault:
            self._hooks.failed("on_destroy", fault)
        finally:
            for renewal in renewals:
                if not renewal.done():
                    renewal.set_result(1)

    def _is_fit(self, tracked: _TrackedResource[R]) -> bool:
        """Validates one that was idle for long, or that a task may have left bad."""
        validate = self._config.validate
        idle = time.monotonic() - tracked.used
        rested = idle >= self._config.validate_after_idle
        if validate is None or not (rested or tracked.is_suspect):
            return True
        try:
            is_good = self._hooks.call(lambda: bool(validate(tracked.resource)))
        except KeyboardInterrupt:
            self.mark_bad()
            raise
        except BaseException as fault:
            self._hooks.failed("validate", fault)
            return False
        tracked.used = time.monotonic()
        tracked.is_suspect = False
        return is_good

    def _wear(self, tracked: _TrackedResource[R]) -> str | None:
        """Why a good one is to be renewed, if it has served long enough."""
        most, age = self._config.max_tasks_per_resource, self._config.max_resource_age
        if tracked.generation != self._generation:
            return "renewed"
        if most is not None and tracked.tasks >= most:
            return "tasks"
        if age is not None and time.monotonic() - tracked.made >= age:
            return "age"
        return None
