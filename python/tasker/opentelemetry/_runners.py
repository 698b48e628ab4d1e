"""Which runners are instrumented where nobody says which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasker import _tasker
from tasker._runner import runners

if TYPE_CHECKING:
    from tasker._runner import Runner


def can_be_observed(runner: object) -> bool:
    """Whether a runner runs its tasks in this process, which one on Ray does not."""
    return isinstance(runner, _tasker.Runner)


def all_runners() -> list[Runner[Any]]:
    """Gives those of the process that can be observed."""
    return [runner for runner in runners() if can_be_observed(runner)]
