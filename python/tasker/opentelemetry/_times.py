"""Histograms that every attempt is recorded in, for those who cannot touch the exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasker.opentelemetry._names import (
    DESCRIPTIONS,
    POOL,
    POOL_USE,
    POOL_WAIT,
    PRIORITY,
    RUN,
    RUN_EDGES,
    RUNNER,
    WAIT,
    WAIT_EDGES,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, Meter


class Times:
    """Records how long attempts waited and ran.

    Args:
        meter: Where its instruments are made.
        as_connection_pool: Whether it records by the names for pools of connections too.
    """

    def __init__(self, meter: Meter, as_connection_pool: bool) -> None:
        self._wait = _histogram(meter, WAIT, WAIT_EDGES)
        self._run = _histogram(meter, RUN, RUN_EDGES)
        self._pool: tuple[Histogram, Histogram] | None = None
        if as_connection_pool:
            self._pool = (
                _histogram(meter, POOL_WAIT, WAIT_EDGES),
                _histogram(meter, POOL_USE, RUN_EDGES),
            )

    def record(self, runner: str, priority: str, waited: float, ran: float) -> None:
        """Records an attempt.

        Args:
            runner: The name of its runner.
            priority: What its class is called.
            waited: Seconds in the queue.
            ran: Seconds in the function.
        """
        self._wait.record(waited, {RUNNER: runner, PRIORITY: priority})
        self._run.record(ran, {RUNNER: runner})
        if self._pool is not None:
            wait, use = self._pool
            wait.record(waited, {POOL: runner})
            use.record(ran, {POOL: runner})


def _histogram(meter: Meter, name: str, edges: tuple[float, ...]) -> Histogram:
    return meter.create_histogram(
        name, "s", DESCRIPTIONS[name], explicit_bucket_boundaries_advisory=edges
    )
