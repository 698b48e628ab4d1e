"""The last 5 minutes as sparklines, each with the figures of now behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from tasker._sight import words
from tasker.live._grid import GAP, Cell, flow
from tasker.live._sparkline import sparkline

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasker._sight.view import Point, Quantiles, View

SPANS = {30.0: "30 s", 60.0: "1 min", 300.0: "5 min"}
"""Seconds that a sparkline stands for: the shortest that is watched already, or the longest."""
LABEL = 11
"""Cells of what stands before a sparkline, the gap included."""
LEAST, MOST = 16, 40
MIDDLE = 80
"""Cells from which on there is room for all quantiles."""
"""Cells of a sparkline."""


def curves(view: View, width: int) -> list[Text]:
    """Draws what is accepted, completed, failed and timed out, waits and runs.

    Args:
        view: Of the runner.
        width: Cells that a line has at most.
    """
    span = next((span for span in SPANS if view.watched_for <= span), max(SPANS))
    spark = min(max(width // 4, LEAST), MOST)
    # What is accepted, completed, failed and timed out is drawn to one scale.
    most = max((point.accepted for point in view.series), default=0.0)

    def curve(
        label: str, style: str, figure: Callable[[Point], float], *said: str, highest: float = 0.0
    ) -> Text:
        series = [(view.time - point.time, figure(point)) for point in view.series]
        line = Text(label.ljust(LABEL), "", no_wrap=True, end="")
        line.append(sparkline(series, span, spark, highest), style)
        cells = [Cell(text) for text in said if text]
        figures = flow(cells, max(width - LABEL - spark - GAP, 1))
        # Those behind the first are worth less, and are left out where there is no room.
        line.append(" " * GAP).append(figures[0])
        line.truncate(width)
        return line

    def events(label: str, style: str, figure: Callable[[Point], float], *said: str) -> Text:
        return curve(label, style, figure, *said, highest=most)

    rates, last = view.rates, f"(curves: {SPANS[span]})"
    lines = [
        events("accepted", "cyan", lambda at: at.accepted, words.rate(rates.accepted), last),
        events("completed", "green", lambda at: at.completed, words.rate(rates.completed)),
    ]
    if any(point.failed for point in view.series):
        lines.append(events("failed", "red", lambda at: at.failed, words.rate(rates.failed)))
    if any(point.timed_out for point in view.series):
        late = words.rate(rates.timed_out)
        lines.append(events("timed out", "magenta", lambda at: at.timed_out, late))
    oldest = f"oldest {words.duration(view.oldest_wait)}" if view.oldest_wait else ""
    waiting, running = words.count(view.queued), words.count(view.running)
    busy = f"busy {words.share(view.busy_share)}"
    lines += [
        curve(
            "waiting", "yellow", lambda at: at.queued, waiting, oldest, *_spread(view.wait, width)
        ),
        *_by_priority(view, width),
        curve(
            "running", "blue", lambda at: at.running, running, busy, *_spread(view.execution, width)
        ),
    ]
    # Of workers that hardly work it says nothing.
    if view.attach_share >= 0.01 and view.busy_share >= 0.05:
        said = f"waiting for the interpreter {words.share(view.attach_share)}"
        lines += flow([Cell(" " * (LABEL - GAP)), Cell(said, "dim")], width, LABEL)[:1]
    return lines


def _spread(times: Quantiles | None, width: int) -> list[str]:
    """Gives the quantiles, where there is little room the most useful alone."""
    if times is None:
        return []
    named = [("p50", times.p50), ("p95", times.p95), ("p99", times.p99)]
    shown = named if width >= MIDDLE else named[1:2]
    return [f"{name} {words.duration(seconds)}" for name, seconds in shown]


def _by_priority(view: View, width: int) -> list[Text]:
    """Says how long the classes waited, where there were several."""
    known = [(name, times) for name, times in view.wait_by_priority.items() if times is not None]
    if len(known) < 2:
        return []
    cells = [Cell(f"{name} p95 {words.duration(times.p95)}", "dim") for name, times in known]
    lines = flow([Cell(" " * (LABEL - GAP)), *reversed(cells)], width, LABEL)
    return lines[:1]
