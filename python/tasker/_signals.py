"""A cancellation token that signals cancel."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

    from tasker._tasker import Context


@contextmanager
def on_signals(cls: type[Context], signals: tuple[int, ...]) -> Generator[Context]:
    """Gives a context that the first of *signals* cancels; see `Context.on_signals`.

    Args:
        cls: The class of the context.
        signals: Signals to listen to, at least one.

    Raises:
        ValueError: No signal was given, this is not the main thread, or a signal's handler was not
            installed from Python, so that it could not be put back.
        OSError: A signal cannot be handled, such as `SIGKILL`.
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
