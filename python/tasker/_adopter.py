"""What items of a batcher share where they were submitted to another runner than its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasker._batching import BatchSettings

F = TypeVar("F")


class Adopter(Generic[F]):
    """One runner that takes items of other runners' batchers.

    Such items meet in it, whoever submits them. What they share for that is kept by the settings:
    for as long as the batcher is there, or one of its items, or until the runner is gone.
    """

    def __init__(self, make: Callable[[BatchSettings], F]) -> None:
        self._make = make

    def adopt(self, settings: BatchSettings) -> F:
        """Finds what items of a batcher with these settings share here.

        Args:
            settings: Those of another runner's batcher.

        Returns:
            The same for all of them.
        """
        if self not in settings.adopted:
            settings.adopted.setdefault(self, self._make(settings))
        found: F = settings.adopted[self]
        return found
