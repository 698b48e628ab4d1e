"""A runner that is being started without blocking an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType

    from tasker._runner import Runner

R = TypeVar("R")


class Starting(Generic[R]):
    """What `Runner.start` returns: await it for the runner, or use it in `async with`.

    Nothing is started before. Each `await` starts a runner of its own.
    """

    def __init__(self, make: Callable[[], Runner[R]], name: str) -> None:
        """Made by `Runner.start` alone.

        Args:
            make: Makes the runner, which may take long.
            name: The name of the thread that calls it.
        """
        self._make = make
        self._name = name
        self._runner: Runner[R] | None = None

    def __await__(self) -> Generator[Any, None, Runner[R]]:
        """Makes the runner on a thread of its own.

        A cancelled start is abandoned: what has been made is destroyed, what is being made is
        destroyed when it is ready.
        """
        # Not at the top: see that module.
        from tasker._asyncio import start_runner  # noqa: PLC0415

        return start_runner(self._make, self._name).__await__()

    async def __aenter__(self) -> Runner[R]:
        self._runner = await self
        return self._runner

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.__aexit__(exc_type, exc, traceback)
