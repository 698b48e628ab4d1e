"""What an integration has to be that stands around the attempts of a runner, while it does.

One at a time, put there and taken away by `Runner._observe`. It is no second way for users: theirs
is `Config.on_event`, which tells what has happened, and cannot give a function the context that it
runs in.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from tasker._asyncio import Promise
    from tasker._future import Future
    from tasker._results import Results

T = TypeVar("T")

Item = tuple[Any, ...]
EndAttempt = Callable[[BaseException | None, bool], object]
"""Called when the function has ended: with what it raised, and whether its time limit is over."""
EndMany = Callable[["list[Future[Any]] | BaseException"], object]
"""Called with what was submitted, or with what the call raises."""


class Observer(Protocol):
    """Stands around attempts and around the calls that submit many tasks.

    The engine keeps it alive, and no collector sees that: it must not lead to its runner. What it
    raises in a worker is logged.
    """

    def begin(
        self,
        function: Callable[..., object],
        name: str,
        priority: int,
        attempt: int,
        waited: float,
        generation: int,
        own_context: bool,
    ) -> EndAttempt | None:
        """Called where an attempt begins, in the thread and context in which its function runs.

        Args:
            function: What is called.
            name: The name of the task.
            priority: The number of its class.
            attempt: 1 for the first.
            waited: Seconds in the queue.
            generation: How many resources the worker has made.
            own_context: Whether the context is a copy of the submitter's, and not the worker's.

        Returns:
            What is called right after the function, in the same context. `None`: nothing.
        """
        ...

    def begin_many(self, name: str) -> EndMany | None:
        """Called by `submit_many`, before it submits the first task.

        Args:
            name: The name of the tasks.

        Returns:
            What is called after the last, in the same thread and context. `None`: nothing.
        """
        ...

    def map(self, name: str, begin: Callable[[], Results[T]]) -> Results[T]:
        """Called by `map`.

        Args:
            name: The name of the tasks.
            begin: Begins the map.

        Returns:
            The results, as they are or in a wrapping.
        """
        ...

    def amap(
        self,
        name: str,
        asubmit: Callable[[Item], Promise[T]],
        begin: Callable[[Callable[[Item], Promise[T]]], AsyncGenerator[T, None]],
    ) -> AsyncGenerator[T, None]:
        """Called by `amap`.

        Args:
            name: The name of the tasks.
            asubmit: Submits the task for an item.
            begin: Begins the map over what submits.

        Returns:
            The results, as they are or in a wrapping.
        """
        ...
