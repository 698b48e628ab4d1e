"""What a runner tells of itself at one moment, taken in one go."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tasker._sight.quantiles import EDGES

if TYPE_CHECKING:
    from tasker._finding import Finding
    from tasker._stats import Histograms, Metrics, Stats
    from tasker._watchable import Watchable
    from tasker._workers import WorkerInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The raw figures of a runner; only its `View` is for others."""

    moment: float
    """When they were taken, in seconds that never go back."""
    time: float
    """The same in seconds since 1970."""
    name: str
    state: Literal["running", "stopping", "killed", "stopped"]
    worker_count: int
    max_worker_count: int
    queue_limit: int | None
    stats: Stats
    metrics: Metrics
    histograms: Histograms
    """With `EDGES` for both kinds."""
    workers: tuple[WorkerInfo, ...]
    findings: tuple[Finding, ...]


def read(runner: Watchable) -> Reading:
    """Asks a runner; it takes about a millisecond, five with 1,000 workers.

    Raises:
        RunnerBroken: The runner was inherited through a fork, or failed inside.
    """
    # First: what it tells after it has stopped is zero.
    state = runner.state
    metrics, histograms = runner._histograms(EDGES, EDGES)
    return Reading(
        moment=time.monotonic(),
        time=time.time(),
        name=runner.name,
        state=state,
        worker_count=runner.worker_count,
        max_worker_count=runner.max_worker_count,
        queue_limit=runner.config.max_queue_size,
        stats=runner.stats(),
        metrics=metrics,
        histograms=histograms,
        workers=runner.workers(),
        findings=runner.diagnose(),
    )
