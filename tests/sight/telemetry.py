"""An SDK of OpenTelemetry in memory; whoever imports this is skipped where it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, Metric
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span

from tests.native.support import eventually

RUNNER = "tasker.runner.name"


class Telemetry:
    """What an application would have set up, and what has come of it."""

    def __init__(self, **settings: Any) -> None:
        """Sets it up.

        Args:
            **settings: Of the tracer provider.
        """
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self._finished = InMemorySpanExporter()
        self.tracers = TracerProvider(**settings)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._finished))

    @property
    def providers(self) -> dict[str, Any]:
        """For `instrument`."""
        return {"meter_provider": self.meters, "tracer_provider": self.tracers}

    @contextmanager
    def request(self, name: str = "request") -> Iterator[Span]:
        """A span of the application."""
        with self.tracers.get_tracer("application").start_as_current_span(name) as span:
            yield span

    def metrics(self) -> dict[str, Metric]:
        """Collects all metrics, by name."""
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def spans(self, name: str, count: int = 1) -> list[ReadableSpan]:
        """Waits until so many spans of this name have ended, and gives them in that order."""
        eventually(lambda: len(self._ended(name)) >= count)
        ended = self._ended(name)
        assert len(ended) == count, ended
        return ended

    def span(self, name: str) -> ReadableSpan:
        """Waits for the one span of this name."""
        return self.spans(name)[0]

    def ended(self) -> list[str]:
        """The names of all spans that have ended, of functions without where these are."""
        return [_short(span.name) for span in self._finished.get_finished_spans()]

    def _ended(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._finished.get_finished_spans() if _short(span.name) == name]


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def values(metric: Metric, attribute: str | None = None, runner: str = "db") -> dict[str, float]:
    """The figures of a runner in a metric, by one attribute beside its name."""
    found: dict[str, float] = {}
    for point in metric.data.data_points:
        attributes = dict(point.attributes or {})
        names = [
            attributes.pop(RUNNER, None),
            attributes.pop("db.client.connection.pool.name", None),
        ]
        if runner in names:
            key = str(attributes.pop(attribute)) if attribute else ""
            assert attributes == {}
            assert key not in found
            found[key] = getattr(point, "value", 0.0)
    return found


def value(metric: Metric, runner: str = "db") -> float:
    """The one figure of a runner in a metric."""
    return values(metric, runner=runner)[""]


def histograms(metric: Metric, attribute: str | None = None) -> dict[str, HistogramDataPoint]:
    """The histograms of a metric, by one attribute beside the name of the runner."""
    found: dict[str, HistogramDataPoint] = {}
    for point in metric.data.data_points:
        assert isinstance(point, HistogramDataPoint)
        found[str((point.attributes or {})[attribute]) if attribute else ""] = point
    return found


def up_to(point: HistogramDataPoint) -> dict[float, int]:
    """How many samples are no greater than each edge of a histogram."""
    upto, total = {}, 0
    for edge, count in zip(point.explicit_bounds, point.bucket_counts, strict=False):
        total += count
        upto[edge] = total
    return upto


def parent(span: ReadableSpan) -> int | None:
    """The number of the parent of a span."""
    return None if span.parent is None else span.parent.span_id


def number(span: ReadableSpan | Span) -> int:
    """The number of a span."""
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """The attributes of a span."""
    return dict(span.attributes or {})
