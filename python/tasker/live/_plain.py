"""A runner on one line of plain text, for logs and pipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasker._sight import words
from tasker._sight.endings import ended, out

if TYPE_CHECKING:
    from tasker._sight.view import View


def plain_line(view: View) -> str:
    """Says how a runner is doing.

    Args:
        view: Of the runner.
    """
    totals = ", ".join(ending.text for ending in ended(view))
    if view.state in {"stopped", "broken"}:
        return f"{view.name} {view.state}: {totals}"
    oldest = f" (oldest {words.duration(view.oldest_wait)})" if view.oldest_wait else ""
    said = [
        f"workers {words.among(view.workers_alive, view.workers_base)}",
        f"running {words.count(view.running)}",
        f"waiting {words.among(view.queued, view.queue_limit)}{oldest}",
        f"in {words.rate(view.rates.accepted)}",
        f"out {words.rate(out(view))}",
        totals,
        *[found.text for found in view.findings[:1]],
    ]
    return f"{view.name} {view.state}: {', '.join(said)}"
