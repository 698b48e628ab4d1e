"""Draws the views of runners as lines for a screen of some width and height."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from rich.text import Text

from tasker._sight import words
from tasker._sight.endings import Ending, ended, out
from tasker.live._curves import curves
from tasker.live._grid import Cell, fitted, flow
from tasker.live._tables import tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasker._sight.view import CountView, FoundView, View

MOST_FOUND = 3
LEAST = 5
"""Lines below which a runner is not worth showing."""
COLOURS = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
STATES = {"running": "green", "stopping": "yellow", "killed": "yellow"}
OVER = "stopped", "broken"


def frame(views: Sequence[View], width: int, height: int) -> list[Text]:
    """Draws all runners below each other.

    Args:
        views: Of the runners.
        width: Cells that a line has at most.
        height: How many lines there are at most.
    """
    if not views:
        return [_line("no runner is alive", "dim")]
    shown = min(len(views), max(height // LEAST, 1))
    left_out = len(views) - shown
    room = height - (1 if left_out else 0)
    lines: list[Text] = []
    for at, view in enumerate(views[:shown]):
        if at:
            lines.append(_line("", ""))
        # What one does not need is for those after it.
        lines += _runner(view, width, (room - len(lines)) // (shown - at))
    if left_out:
        lines.append(_line(f"and {left_out} more runners", "dim"))
    return lines[:height]


def _runner(view: View, width: int, height: int) -> list[Text]:
    """Draws one runner: what is worth most stands first, and the tables take the room left."""
    lines = flow(_header(view), width, 2)
    if view.state not in OVER:
        lines += [*_findings(view, width), *curves(view, width)]
    replaced = [one for one in view.replaced if one.count]
    # Of one that is over they stand above.
    totals = [] if view.state in OVER else flow(_totals(view), width, 2)[:2]
    counted = [
        *totals,
        *_counts("errors", view.errors, view.errors_left_out, width),
        *_counts("replaced", replaced, 0, width),
    ]
    room = height - len(lines) - len(counted)
    return [*lines, *tables(view, width, room), *counted][:height]


def _header(view: View) -> list[Cell]:
    """Says who it is, and how it is doing."""
    cells = [Cell(view.name, "bold"), Cell(view.state, STATES.get(view.state, "bold red"))]
    if view.state in OVER:
        return [*cells, *map(_ending, ended(view))]
    most = f", max {words.count(view.workers_max)}" if view.workers_max > view.workers_base else ""
    is_short = view.workers_alive < view.workers_base
    is_full = view.queue_limit is not None and view.queued >= view.queue_limit
    cells += [
        Cell(
            f"workers {words.among(view.workers_alive, view.workers_base)}{most}",
            "yellow" if is_short else "",
        ),
        Cell(f"waiting {words.among(view.queued, view.queue_limit)}", "yellow" if is_full else ""),
        Cell(f"in {words.rate(view.rates.accepted)}"),
        Cell(f"out {words.rate(out(view))}"),
    ]
    if view.error_share:
        cells.append(Cell(f"errors {words.share(view.error_share)}", "red"))
    return [
        *cells,
        Cell(f"watched for {words.duration(view.watched_for)}", "dim"),
        Cell("without the GIL" if view.free_threaded else "with the GIL", "dim"),
    ]


def _totals(view: View) -> list[Cell]:
    """Says what became of all that was accepted."""
    accepted = Cell(f"{words.count(view.accepted)} accepted")
    return [Cell("totals", "dim"), accepted, *map(_ending, ended(view))]


def _ending(ending: Ending) -> Cell:
    return Cell(ending.text, "red" if ending.is_error and ending.number else "")


def _findings(view: View, width: int) -> list[Text]:
    """Says in words what is not well."""
    if not view.findings:
        return [_line("no findings", "green")]
    lines = [line for found in view.findings[:MOST_FOUND] for line in _finding(found, width)]
    more = len(view.findings) - MOST_FOUND
    return [*lines, _line(f"and {more} more findings", "dim")] if more > 0 else lines


def _finding(found: FoundView, width: int) -> list[Text]:
    """Says one thing that is not well, on two lines at most."""
    texts = textwrap.wrap(found.text, max(width - 2, 10), max_lines=2, placeholder=" …")
    return [
        _line(("  " if at else "! ") + fitted(text, width - 2), COLOURS[found.severity])
        for at, text in enumerate(texts or [found.code])
    ]


def _counts(title: str, kinds: Sequence[CountView], left_out: int, width: int) -> list[Text]:
    """Says how often each of some kinds has happened, on two lines at most."""
    if not kinds:
        return []
    cells = [Cell(title, "dim")]
    for kind in kinds:
        seen = "" if kind.last_seen is None else f", {words.duration(kind.last_seen)} ago"
        cells.append(Cell(f"{kind.name} {words.count(kind.count)}{seen}"))
    lines = flow(cells, width, 2)
    if left_out or len(lines) > 2:
        lines = lines[:2]
        lines[-1].append(" …", "dim")
        lines[-1].truncate(width)
    return lines


def _line(text: str, style: str) -> Text:
    return Text(text, style, no_wrap=True, end="")
