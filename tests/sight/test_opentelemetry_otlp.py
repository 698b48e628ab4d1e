"""OTLP over HTTP: what a collector of OpenTelemetry gets of a runner, as bytes on the wire."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import tasker
from tasker.opentelemetry import exporting, instrument
from tests.native.support import Runners
from tests.sight.known_load import QUEUED, assert_up_to, known_load, near


class Receiver:
    """Takes what exporters send, by path."""

    def __init__(self) -> None:
        self.bodies: dict[str, list[bytes]] = {"/v1/metrics": [], "/v1/traces": []}
        received = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                received[self.path].append(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def metrics(self) -> dict[str, Any]:
        """The metrics of ours that came last, by name."""
        request = ExportMetricsServiceRequest.FromString(self.bodies["/v1/metrics"][-1])
        scopes = [
            scope
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            if scope.scope.name == "tasker"
        ]
        assert {scope.scope.version for scope in scopes} == {tasker.__version__}
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def spans(self) -> dict[str, Any]:
        """All spans, by name."""
        requests = map(ExportTraceServiceRequest.FromString, self.bodies["/v1/traces"])
        return {
            span.name: span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def plain(attributes: Any) -> dict[str, Any]:
    """Attributes as a dictionary."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def test_metrics_and_histograms_arrive(receiver: Receiver) -> None:
    exporter = OTLPMetricExporter(f"{receiver.url}/v1/metrics")
    with known_load(name="db") as load:
        reader = PeriodicExportingMetricReader(
            exporting(exporter, load.runner), export_interval_millis=float("inf")
        )
        meters = MeterProvider([reader])
        with instrument(load.runner, meter_provider=meters):
            assert meters.force_flush()
            metrics = receiver.metrics()
        meters.shutdown()

    queued = {
        plain(point.attributes)["tasker.task.priority"]: point.as_int
        for point in metrics["tasker.queue.size"].sum.data_points
    }
    assert queued == QUEUED
    assert not metrics["tasker.queue.size"].sum.is_monotonic
    settled = metrics["tasker.task.settled"].sum
    assert settled.is_monotonic
    outcomes = {
        plain(point.attributes)["tasker.task.outcome"]: point.as_int
        for point in settled.data_points
    }
    assert (outcomes["completed"], outcomes["failed"]) == (
        load.count("completed"),
        load.count("failed"),
    )
    run = metrics["tasker.task.run_time"].histogram
    assert metrics["tasker.task.run_time"].unit == "s"
    assert run.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    (point,) = run.data_points
    assert plain(point.attributes) == {"tasker.runner.name": "db"}
    assert point.sum == near(sum(load.spans()))
    assert point.max == near(max(load.spans()))
    upto = 0
    for edge, count in zip(point.explicit_bounds, point.bucket_counts, strict=False):
        upto += count
        assert_up_to(upto, load.spans(), edge)
    for waits in metrics["tasker.task.wait_time"].histogram.data_points:
        # Of one priority they are not known.
        assert not waits.HasField("min")
        assert not waits.HasField("max")


def test_spans_arrive(receiver: Receiver, runners: Runners) -> None:
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{receiver.url}/v1/traces")))
    runner = runners.start(name="db")
    with (
        instrument(runner, spans=True, tracer_provider=tracers),
        tracers.get_tracer("application").start_as_current_span("request"),
    ):
        runner.options(name="good").queue_task(lambda _: None)
        runner.options(name="bad").submit(lambda _: 1 // 0).exception()
        list(runner.options(name="whole").map(lambda _, n: n, range(10)))
    tracers.shutdown()
    spans = receiver.spans()
    assert set(spans) == {"request", "good", "bad", "whole"}
    for name in ("good", "bad", "whole"):
        span = spans[name]
        assert span.kind == Span.SpanKind.SPAN_KIND_INTERNAL
        assert span.parent_span_id == spans["request"].span_id
        assert span.trace_id == spans["request"].trace_id
        assert plain(span.attributes)["tasker.runner.name"] == "db"
    assert spans["bad"].status.code == Status.StatusCode.STATUS_CODE_ERROR
    assert spans["bad"].status.message == ""
    assert plain(spans["bad"].attributes)["error.type"] == "ZeroDivisionError"
    assert spans["good"].status.code == Status.StatusCode.STATUS_CODE_UNSET
