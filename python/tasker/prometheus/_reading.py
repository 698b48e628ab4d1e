"""What a scrape reads of a runner, all of it before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasker._errors import RunnerBroken

if TYPE_CHECKING:
    from tasker._finding import Finding
    from tasker._stats import Histograms, Metrics, Stats
    from tasker._watchable import Watchable
    from tasker._workers import WorkerInfo


@dataclass(frozen=True, slots=True)
class Reading:
    """The figures of a runner at one moment."""

    metrics: Metrics
    histograms: Histograms
    stats: Stats
    workers: tuple[WorkerInfo, ...]
    findings: tuple[Finding, ...]


def read(
    runner: Watchable, wait_edges: Sequence[float], run_edges: Sequence[float]
) -> Reading | None:
    """Reads a runner; `None` for one that has nothing to show.

    That is one that has stopped, or stops meanwhile: its gauges are zero then, which would look
    like workers that died. And one that was inherited through a fork, or failed inside: whoever
    uses it is told, and the others are to be seen all the same.
    """
    try:
        metrics, histograms = runner._histograms(wait_edges, run_edges)
        stats, workers, findings = runner.stats(), runner.workers(), runner.diagnose()
    except RunnerBroken:
        return None
    if runner.state == "stopped":
        return None
    return Reading(metrics, histograms, stats, workers, findings)
