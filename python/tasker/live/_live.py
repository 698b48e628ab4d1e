"""`Live`: draws runners on a thread of its own until it is stopped."""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Self

from rich import get_console

from tasker._checks import check_watchable, wrong
from tasker._sight.watch import Watch
from tasker.live._screens import screen_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rich.console import Console

    from tasker._watchable import Watchable
    from tasker.live._screens import Screen

PATIENCE = 5.0
"""Seconds for which `stop` waits for the last frame: a terminal may have stopped taking text."""
MOST_PER_SECOND = 20.0
_log = logging.getLogger("tasker")


class Live:
    """Shows runners while a block runs, as `rich.live.Live` shows what it is given.

    In a terminal it is redrawn in place, below what is printed meanwhile; in a notebook, below the
    cell; elsewhere, in a file or a pipe, a plain line for each runner is written every 10 s, and at
    the end. Shown are the runner's state, what `Runner.diagnose` finds, the last 5 minutes as
    curves, the workers, the tasks by name, the errors by type and the reasons for which resources
    were replaced; never arguments, results, messages or resources. What a narrow or low terminal
    has no room for is left out.

    It reads the figures when it draws, on a thread of its own, and keeps no runner alive. Nothing
    is drawn while the process is in the background of its terminal. Its own errors are logged, end
    the display, and never reach the program. It may be used again when it has been stopped; `start`
    and `stop` may be called from any thread.

    Args:
        *runners: Whom to show. None: all that are alive, also those that are made later, and the
            last that have stopped.
        refresh_per_second: Frames a second, more than 0, at most 20. A frame takes some
            milliseconds.
        console: Where to. `None`: rich's own, `rich.get_console()`.

    Raises:
        ConfigError: One of *runners* is no `Runner`, or *refresh_per_second* no such number.

    Example:
        >>> from tasker import Config, Runner
        >>> from tasker.live import Live
        >>> from rich.console import Console
        >>> import io
        >>> page = io.StringIO()
        >>> with Runner(Config(on_create=dict, worker_count=2, name="db")) as runner:
        ...     with Live(runner, console=Console(file=page, width=60)):
        ...         results = list(runner.map(lambda cache, n: n, range(10)))
        >>> "db running: workers 2/2" in page.getvalue()
        True
    """

    def __init__(
        self,
        *runners: Watchable,
        refresh_per_second: float = 2,
        console: Console | None = None,
    ) -> None:
        check_watchable(runners)
        self._every = 1.0 / _check_rate(refresh_per_second)
        self._console = console
        self._watch = Watch(*runners)
        self._lock = threading.RLock()
        """Held to start and to stop, never while drawing; a signal handler may do it in between."""
        self._drawing: _Drawing | None = None

    def start(self) -> None:
        """Begins to show; has no effect when it does already."""
        with self._lock:
            if self._drawing is None:
                console = get_console() if self._console is None else self._console
                drawing = _Drawing(self._watch, screen_for(console, self._every))
                # A signal handler may have started meanwhile. None comes between these two lines.
                if self._drawing is None:
                    self._drawing = drawing
                    # Where the program does not stop it, the interpreter would end while it draws.
                    atexit.register(self.stop)
                    drawing.begin()

    def stop(self) -> None:
        """Draws a last frame, which stays, and ends; has no effect when it has ended.

        It waits for that frame, 5 s at most.
        """
        with self._lock:
            # Taken first: a signal handler that stops in between must find nothing to end.
            drawing, self._drawing = self._drawing, None
            if drawing is not None:
                try:
                    drawing.end()
                except BaseException:
                    # Ctrl-C, say: no other reference to it is left.
                    drawing.end()
                    raise
        if drawing is not None:
            atexit.unregister(self.stop)
            drawing.wait()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            # Ctrl-C, say: the block is not entered, so nothing else would stop it.
            self.stop()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class _Drawing:
    """One time of showing, from a start to its stop."""

    def __init__(self, watch: Watch, screen: Screen) -> None:
        self._watch = watch
        self._screen = screen
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tasker-live", daemon=True)

    def begin(self) -> None:
        """Takes the screen, and has the thread draw on it."""

        def begin() -> None:
            # A signal handler may have ended it before.
            if not self._ended.is_set():
                self._screen.open()
                self._thread.start()

        self._safely(begin)

    def end(self) -> None:
        """Has the thread draw the last frame and give back the screen, soon."""
        self._ended.set()

    def wait(self) -> None:
        """Waits until that is done."""
        # A Ctrl-C that ends this wait leaves the rest to the thread.
        if self._thread.ident is not None:
            self._thread.join(PATIENCE)

    def _run(self) -> None:
        if self._safely(self._draw):
            self._safely(self._screen.close)

    def _draw(self) -> None:
        self._show()
        while not self._ended.wait(self._screen.every):
            self._show()
        self._show()

    def _show(self) -> None:
        if self._screen.is_seen():
            self._screen.show(self._watch.views())

    def _safely(self, step: Callable[[], None]) -> bool:
        """Takes a step; where it fails, the display is off, and the log says why."""
        try:
            step()
        # What rich raises where a pipe is gone is an exit.
        except (Exception, SystemExit) as error:
            # The screen first: the record may go to the same one.
            with contextlib.suppress(Exception, SystemExit):
                self._screen.close()
            _log.error("the live view has failed and is off", exc_info=error)
            return False
        except KeyboardInterrupt:
            # No thread has begun, which would give it back.
            with contextlib.suppress(Exception, SystemExit):
                self._screen.close()
            raise
        return True


def _check_rate(number: object) -> float:
    if isinstance(number, int | float) and 0 < number <= MOST_PER_SECOND:
        return number
    raise wrong("refresh_per_second", "a number above 0 and at most 20", number)
