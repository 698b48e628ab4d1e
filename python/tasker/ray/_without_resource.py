"""What a standard executor is given: a function that takes no resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class WithoutResource:
    """A task that calls a function, and leaves the resource alone.

    Args:
        func: Called with the arguments of the task.
    """

    __slots__ = ("func",)

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def __call__(self, _resource: object, /, *args: Any, **kwargs: Any) -> Any:
        return self.func(*args, **kwargs)
