"""Where frames go: a terminal, a notebook, or plain lines where neither is."""

from __future__ import annotations

import importlib
import io
import os
import sys
import weakref
from typing import TYPE_CHECKING, Any, Protocol

import rich.live
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.segment import Segment, Segments
from rich.terminal_theme import TerminalTheme

from tasker.live._frame import frame
from tasker.live._plain import plain_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from tasker._sight.view import View

PLAIN_EVERY = 10.0
"""Seconds between plain lines: these stay, and nobody reads two a second."""
NOTEBOOK_WIDTH, NOTEBOOK_HEIGHT = 100, 60
OURS, ASCII = "▁▂▃▄▅▆▇━─…µ", "_.-=+*#=-~u"
"""Our own characters, and what stands for them where a terminal cannot write them."""
_GREY = (118, 118, 118)
THEME = TerminalTheme(
    _GREY,
    _GREY,
    [
        (0, 0, 0),
        (218, 54, 51),
        (30, 130, 60),
        (150, 110, 0),
        (50, 110, 220),
        (180, 70, 170),
        (0, 128, 140),
        _GREY,
    ],
)
"""Colours for a notebook that may be light or dark: as far from white as from black."""
HTML = '<pre style="line-height: 1.25; white-space: pre; overflow-x: auto">{code}</pre>'


class Screen(Protocol):
    """Where frames go."""

    every: float
    """Seconds from one frame to the next."""

    def open(self) -> None:
        """Takes what it needs of the terminal."""

    def is_seen(self) -> bool:
        """Tells whether a frame would be seen now."""
        ...

    def show(self, views: Sequence[View]) -> None:
        """Shows a frame in the place of the one before."""

    def close(self) -> None:
        """Gives back what it took; the last frame stays."""


def screen_for(console: Console, every: float) -> Screen:
    """Finds out what a console writes to.

    Args:
        console: The console.
        every: Seconds from one frame to the next, where frames replace each other.
    """
    if console.is_jupyter:
        return NotebookScreen(every)
    if console.is_terminal and not console.is_dumb_terminal:
        return TerminalScreen(console, every)
    return PlainScreen(console)


class TerminalScreen:
    """Draws over the frame before; what is printed meanwhile goes above it."""

    def __init__(self, console: Console, every: float) -> None:
        self.every = every
        self._console = console
        self._live = rich.live.Live(console=console, auto_refresh=False, vertical_overflow="crop")

    def open(self) -> None:
        """Begins to catch what is printed."""
        self._live.start()
        _open.add(self)
        # It has hidden the cursor, and a process that is killed could not show it again.
        self._console.show_cursor(True)

    def is_seen(self) -> bool:
        """Tells whether the process is in the foreground of its terminal."""
        return not self._console.quiet and _is_in_foreground(self._console)

    def show(self, views: Sequence[View]) -> None:
        """Shows a frame."""
        console = self._console
        lines = frame(views, console.width, console.height - 1)
        # As segments it cannot fail any more where it is drawn again: in the user's `print`.
        segments = [segment for line in lines for segment in _rendered(line, console)]
        self._live.update(Segments(segments[:-1]), refresh=True)

    def close(self) -> None:
        """Leaves the last frame where it is."""
        self._live.stop()
        _open.discard(self)


_open: weakref.WeakSet[TerminalScreen] = weakref.WeakSet()


def _let_go_in_child() -> None:
    """Has a forked child print as ever: nobody draws there, and a lock may be held for good."""
    for name in ("stdout", "stderr"):
        file = getattr(sys, name)
        if _open and isinstance(file, FileProxy):
            setattr(sys, name, file.rich_proxied_file)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)


class NotebookScreen:
    """Replaces the output of the cell, in colours for a light and a dark page."""

    def __init__(self, every: float) -> None:
        self.every = every
        self._handle: Any = None

    def open(self) -> None:
        """Takes its place below the cell that runs."""
        # Where there is a notebook there is IPython.
        notebook: Any = importlib.import_module("IPython.display")
        self._handle = notebook.display({"text/plain": ""}, raw=True, display_id=True)

    def is_seen(self) -> bool:
        """Tells nothing: who looks at a notebook is not known."""
        return True

    def show(self, views: Sequence[View]) -> None:
        """Shows a frame."""
        console = Console(
            file=io.StringIO(),
            record=True,
            width=NOTEBOOK_WIDTH,
            force_jupyter=False,
            force_terminal=True,
            color_system="standard",
            legacy_windows=False,
        )
        for line in frame(views, NOTEBOOK_WIDTH, NOTEBOOK_HEIGHT):
            console.print(line, end="\n")
        page = console.export_html(theme=THEME, inline_styles=True, code_format=HTML, clear=False)
        self._handle.update({"text/html": page, "text/plain": console.export_text()}, raw=True)

    def close(self) -> None:
        """Has nothing to give back."""


class PlainScreen:
    """Writes a line for each runner now and then."""

    def __init__(self, console: Console) -> None:
        self.every = PLAIN_EVERY
        self._console = console

    def open(self) -> None:
        """Needs nothing."""

    def is_seen(self) -> bool:
        """Tells whether anything is written at all."""
        return not self._console.quiet

    def show(self, views: Sequence[View]) -> None:
        """Writes the lines."""
        for view in views:
            line = writable(plain_line(view), self._console.encoding)
            # Not by `print` of the console: were the pipe gone, that would turn off the program's
            # own output and exit.
            self._console.file.write(f"{line}\n")
        self._console.file.flush()

    def close(self) -> None:
        """Has nothing to give back."""


def _rendered(line: Text, console: Console) -> list[Segment]:
    """Makes segments of a line that the terminal can write."""
    segments = [
        segment._replace(text=writable(segment.text, console.encoding))
        for segment in line.render(console)
    ]
    return [*segments, Segment.line()]


def writable(text: str, encoding: str) -> str:
    """Replaces the characters that an encoding does not have.

    Example:
        >>> writable("▁▂ ü", "ascii"), writable("▁▂ ü", "utf-8")
        ('_. ?', '▁▂ ü')
    """
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        ours = text.translate(str.maketrans(OURS, ASCII))
        return ours.encode(encoding, "replace").decode(encoding)
    return text


def _is_in_foreground(console: Console) -> bool:
    """Tells whether the terminal is with this process now; where that is not known, it is."""
    try:
        return os.tcgetpgrp(console.file.fileno()) == os.getpgrp()
    except (AttributeError, OSError, ValueError):
        # Of Windows, of another session, and of what is no file.
        return True
