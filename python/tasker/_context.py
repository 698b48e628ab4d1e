"""Cancellation tokens that signals can cancel."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from tasker import _tasker

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType


class Context(_tasker.Context):
    """A cancellation token in a tree: cancelling one cancels all below it.

    Given as `Config.context` it stops the runner gracefully when it is cancelled. Each task has
    a context of its own, which `current_context` returns. All methods may be called from any
    thread and from signal handlers.

    Example:
        >>> from tasker import Context
        >>> parent = Context()
        >>> child = parent.child(timeout=60)
        >>> parent.cancel("no longer needed")
        >>> child.cancelled, child.reason
        (True, 'no longer needed')
    """

    @classmethod
    @contextmanager
    def on_signals(cls, *signals: int) -> Generator[Self]:
        """Gives a context that the first of *signals* cancels.

        That first signal puts the former handlers back, so a second one does what it did before:
        Ctrl-C twice, say, begins a graceful stop and then interrupts it. Leaving the `with` block
        puts them back as well.

        Args:
            *signals: Signals to listen to, at least one.

        Raises:
            ValueError: No signal was given, this is not the main thread, or a signal's handler was
                not installed from Python, so that it could not be put back.
            OSError: A signal cannot be handled, such as `SIGKILL`.

        Example:
            >>> import signal
            >>> from tasker import Context
            >>> with Context.on_signals(signal.SIGTERM) as context:
            ...     signal.raise_signal(signal.SIGTERM)
            ...     context.cancelled
            True
        """
        if not signals:
            message = "on_signals() needs at least one signal"
            raise ValueError(message)
        former: dict[int, Any] = {number: signal.getsignal(number) for number in signals}
        if None in former.values():
            message = "a signal has a handler that was not installed from Python"
            raise ValueError(message)
        context = cls()

        def restore() -> None:
            for number, handler in former.items():
                signal.signal(number, handler)

        def handle(number: int, _frame: FrameType | None) -> None:
            restore()
            context.cancel(f"signal {number} ({signal.strsignal(number)})")

        try:
            for number in signals:
                signal.signal(number, handle)
            yield context
        finally:
            restore()
