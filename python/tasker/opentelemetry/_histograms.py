"""Histograms of runners as the SDK has them, and the exporter that adds them to what it exports."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    ScopeMetrics,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from tasker import _tasker
from tasker._runner import Runner
from tasker.opentelemetry._names import (
    ATTACH,
    CREATE,
    DESCRIPTIONS,
    PRIORITY,
    RUN,
    RUN_EDGES,
    RUNNER,
    SCOPE,
    WAIT,
    WAIT_EDGES,
)
from tasker.opentelemetry._reading import Reading, read
from tasker.opentelemetry._runners import all_runners

if TYPE_CHECKING:
    from tasker._stats import Timing

UNKNOWN = cast("float", None)
"""A least or greatest value that is not known: exporters leave it out, and types do not say so."""
Distribution = tuple[Sequence[float], Sequence[int], int, float]
"""Edges, how many are no greater than each, how many there are, and their sum."""


class WithHistograms(MetricExporter):
    """Exports what another exporter does, and the histograms of runners.

    Args:
        exporter: The other.
        runners: Which; none: all.

    Raises:
        ValueError: The other wants histograms as differences.
    """

    def __init__(self, exporter: MetricExporter, runners: Sequence[Runner[Any]]) -> None:
        # A reader looks for these here; an exporter has no other way to say them.
        temporality = exporter._preferred_temporality
        if (temporality or {}).get(sdk.Histogram) is AggregationTemporality.DELTA:
            message = (
                "the exporter wants histograms as differences, and those of runners are "
                "cumulative: use instrument(record_times=True)"
            )
            raise ValueError(message)
        super().__init__(temporality, exporter._preferred_aggregation)
        self._exporter = exporter
        self._histograms = Histograms(runners)

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Exports the metrics of a collection, and the histograms."""
        data = self._histograms.added_to(metrics_data)
        return self._exporter.export(data, timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Does what the other exporter does."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Does what the other exporter does."""
        self._exporter.shutdown(timeout_millis, **kwargs)


class Histograms:
    """The histograms of runners as the SDK has them.

    Args:
        runners: Which; none: all.
    """

    def __init__(self, runners: Sequence[Runner[Any]]) -> None:
        self._chosen = [weakref.ref(runner) for runner in runners]
        self._last = time.time_ns()
        self._started: weakref.WeakKeyDictionary[Runner[Any], int] = weakref.WeakKeyDictionary()

    def added_to(self, data: MetricsData) -> MetricsData:
        """Adds the histograms to the metrics of a collection, in the scope of the others of ours.

        Args:
            data: Of the collection. It is not changed.
        """
        if not data.resource_metrics:
            return data
        first, *others = data.resource_metrics
        ours = ScopeMetrics(InstrumentationScope(SCOPE, _tasker.__version__), [], "")
        scopes: list[ScopeMetrics] = []
        for scope in first.scope_metrics:
            # Not beside it: of two that are equal the exporter for OTLP sends one.
            if scope.scope == ours.scope:
                ours = scope
            else:
                scopes.append(scope)
        scopes.append(replace(ours, metrics=[*ours.metrics, *self._metrics(time.time_ns())]))
        return replace(data, resource_metrics=[replace(first, scope_metrics=scopes), *others])

    def _metrics(self, now: int) -> list[Metric]:
        found: dict[str, list[HistogramDataPoint]] = {}
        for runner in self._runners():
            # A runner that is new here started after the export before, and has no date of its own.
            started = self._started.setdefault(runner, self._last)
            reading = read(runner, WAIT_EDGES, RUN_EDGES)
            if reading is not None:
                for name, point in _points(reading, started, now):
                    found.setdefault(name, []).append(point)
        self._last = now
        return [
            Metric(
                name, DESCRIPTIONS[name], "s", Histogram(points, AggregationTemporality.CUMULATIVE)
            )
            for name, points in found.items()
        ]

    def _runners(self) -> Sequence[Runner[Any]]:
        if not self._chosen:
            return all_runners()
        found = (reference() for reference in self._chosen)
        return [runner for runner in found if runner is not None]


def _points(reading: Reading, started: int, now: int) -> Iterator[tuple[str, HistogramDataPoint]]:
    histograms, metrics = reading.histograms, reading.metrics

    def point(
        distribution: Distribution, timing: Timing | None = None, priority: str | None = None
    ) -> HistogramDataPoint:
        edges, upto, count, total = distribution
        # Each count is read a moment after the one before it, so a difference may dip.
        counts = [max(after - before, 0) for before, after in pairwise([0, *upto, count])]
        return HistogramDataPoint(
            attributes={RUNNER: reading.name} | ({PRIORITY: priority} if priority else {}),
            start_time_unix_nano=started,
            time_unix_nano=now,
            count=sum(counts),
            sum=total,
            bucket_counts=counts,
            explicit_bounds=edges,
            min=timing.min if timing is not None and count else UNKNOWN,
            max=timing.max if timing is not None and count else UNKNOWN,
        )

    for priority, distribution in histograms["wait"].items():
        yield WAIT, point((WAIT_EDGES, *distribution), priority=priority)
    yield RUN, point((RUN_EDGES, *histograms["execution"]), metrics.execution)
    yield CREATE, point((RUN_EDGES, *histograms["creation"]), metrics.creation)
    attach = metrics.attach
    yield ATTACH, point(((), (), attach.count, attach.total), attach)
