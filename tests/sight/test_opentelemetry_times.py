"""Histograms of OpenTelemetry: recorded attempt by attempt, or given to an exporter ready-made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tasker import ConfigError, Priority, Runner
from tests.native.support import LONG_TIMEOUT, Gate, Runners, eventually
from tests.sight.known_load import KnownLoad, assert_up_to, known_load, near
from tests.sight.telemetry import RUNNER, Telemetry, histograms, number, up_to

from opentelemetry.sdk.metrics import Histogram, MeterProvider  # isort: skip
from opentelemetry.sdk.metrics.export import (  # isort: skip
    AggregationTemporality,
    ConsoleMetricExporter,
    HistogramDataPoint,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from tasker.opentelemetry import exporting, instrument  # isort: skip
from tasker.opentelemetry._names import RUN_EDGES, WAIT_EDGES  # isort: skip

Collect = Callable[[], dict[str, Any]]
"""Collects metrics, by name."""
PRIORITY = "tasker.task.priority"


class Exporter(MetricExporter):
    """Keeps what was exported last."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.metrics: dict[str, Any] = {}
        self.scopes: list[str] = []
        self.calls: list[str] = []

    def export(self, metrics_data: MetricsData, *_args: Any, **_options: Any) -> MetricExportResult:
        scopes = metrics_data.resource_metrics[0].scope_metrics
        self.scopes = [scope.scope.name for scope in scopes]
        self.metrics = {metric.name: metric for scope in scopes for metric in scope.metrics}
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        self.calls.append("flush")
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_options: Any) -> None:
        self.calls.append("shutdown")


@contextmanager
def exported(*runners: Runner[Any], exporter: Exporter | None = None) -> Iterator[Collect]:
    """Has metrics exported on request, with the histograms of runners."""
    exporter = exporter or Exporter()
    reader = PeriodicExportingMetricReader(
        exporting(exporter, *runners), export_interval_millis=float("inf")
    )
    meters = MeterProvider([reader])

    def collect() -> dict[str, Any]:
        exporter.metrics = {}
        reader.collect()
        return exporter.metrics

    with instrument(*runners, meter_provider=meters):
        yield collect
    meters.shutdown()


def check_times(load: KnownLoad, found: dict[str, Any]) -> None:
    """Asserts that the histograms of waiting and running are those of the load."""
    run = histograms(found["tasker.task.run_time"])[""]
    assert run.sum == near(sum(load.spans()))
    assert tuple(run.explicit_bounds) == RUN_EDGES
    for edge, count in up_to(run).items():
        assert_up_to(count, load.spans(), edge)
    waits = histograms(found["tasker.task.wait_time"], PRIORITY)
    for priority in Priority:
        of_it = waits[priority.name.lower()]
        assert of_it.sum == near(sum(load.waits(priority)))
        assert tuple(of_it.explicit_bounds) == WAIT_EDGES
        for edge, count in up_to(of_it).items():
            assert_up_to(count, load.waits(priority), edge)


class TestExporting:
    def test_histograms_are_those_of_a_known_load(self) -> None:
        with known_load(name="db") as load, exported(load.runner) as collect:
            found = collect()
            check_times(load, found)
            creation = histograms(found["tasker.resource.create_time"])[""]
            assert creation.sum == near(sum(load.creations))
            attach = histograms(found["tasker.worker.attach_time"])[""]
            assert attach.count == load.runner.metrics().attach.count > 0

    def test_they_are_cumulative_and_whole(self, runners: Runners) -> None:
        runner = runners.start(name="db")
        with exported(runner) as collect:
            runner.queue_task(lambda _: None)
            first = collect()
            runner.queue_task(lambda _: None)
            eventually(lambda: runner.metrics().execution.count == 2)
            second = collect()
        points = [histograms(each["tasker.task.run_time"])[""] for each in (first, second)]
        assert [point.count for point in points] == [1, 2]
        assert points[0].start_time_unix_nano == points[1].start_time_unix_nano
        assert points[0].time_unix_nano < points[1].time_unix_nano
        for name in ("tasker.task.run_time", "tasker.task.wait_time", "tasker.worker.attach_time"):
            data = second[name].data
            assert data.aggregation_temporality is AggregationTemporality.CUMULATIVE
            assert second[name].unit == "s"
            for point in data.data_points:
                assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
                assert sum(point.bucket_counts) == point.count
                assert point.attributes[RUNNER] == "db"

    def test_a_runner_that_stops_disappears_and_a_later_one_is_there(
        self, runners: Runners
    ) -> None:
        def shown() -> set[str]:
            metric = collect().get("tasker.task.run_time")
            points = metric.data.data_points if metric else []
            return {point.attributes[RUNNER] for point in points}

        with exported() as collect:
            first = runners.start(name="first")
            assert shown() == {"first"}
            runners.start(name="second")
            first.stop()
            assert shown() == {"second"}

    def test_one_of_the_name_of_another_starts_later(self, runners: Runners) -> None:
        def started() -> int:
            return histograms(collect()["tasker.task.run_time"])[""].start_time_unix_nano

        with exported() as collect:
            first = runners.start(name="db")
            before = started()
            first.stop()
            runners.start(name="db")
            assert started() > before

    def test_it_is_an_exporter_like_the_one_it_wraps(self, runners: Runners) -> None:
        exporter = Exporter(preferred_temporality={Histogram: AggregationTemporality.CUMULATIVE})
        wrapped = exporting(exporter, runners.start())
        assert wrapped._preferred_temporality is exporter._preferred_temporality
        assert wrapped.force_flush()
        wrapped.shutdown()
        assert exporter.calls == ["flush", "shutdown"]

    def test_metrics_of_the_application_go_out_unchanged(self, runners: Runners) -> None:
        exporter = Exporter()
        reader = PeriodicExportingMetricReader(
            exporting(exporter, runners.start()), export_interval_millis=float("inf")
        )
        meters = MeterProvider([reader])
        meters.get_meter("application").create_counter("orders").add(3)
        reader.collect()
        meters.shutdown()
        assert exporter.scopes == ["application", "tasker"]
        assert exporter.metrics["orders"].data.data_points[0].value == 3

    def test_an_exporter_that_wants_differences_is_refused(self) -> None:
        exporter = ConsoleMetricExporter(
            preferred_temporality={Histogram: AggregationTemporality.DELTA}
        )
        with pytest.raises(ValueError, match="use instrument\\(record_times=True\\)"):
            exporting(exporter)

    def test_what_is_no_runner_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"runners\[0\] must be a Runner, got 1"):
            exporting(Exporter(), 1)  # type: ignore[arg-type]


class TestRecordedTimes:
    def test_each_attempt_is_recorded(self) -> None:
        telemetry = Telemetry()
        with (
            instrument(record_times=True, **telemetry.providers),
            known_load(name="db") as load,
        ):
            check_times(load, telemetry.metrics())

    @pytest.mark.parametrize(
        "runs",
        [
            lambda runner: list(runner.map(lambda _, n: n, range(5))),
            lambda runner: [
                future.result(LONG_TIMEOUT)
                for future in runner.submit_many(lambda _, n: n, range(5))
            ],
            lambda runner: [runner.run_task(lambda _: None) for _ in range(5)],
            lambda runner: list(runner.executor().map(abs, range(5))),
        ],
        ids=["map", "submit_many", "run_task", "executor"],
    )
    def test_so_are_those_of_every_verb(
        self, runners: Runners, runs: Callable[[Runner[Any]], object]
    ) -> None:
        telemetry = Telemetry()
        runner = runners.start(name="db")
        with instrument(runner, record_times=True, **telemetry.providers):
            runs(runner)
            metrics = telemetry.metrics()
        assert histograms(metrics["tasker.task.run_time"])[""].count == 5
        assert histograms(metrics["tasker.task.wait_time"], PRIORITY)["normal"].count == 5
        assert "tasker.resource.create_time" not in metrics

    def test_they_are_examples_of_spans(self, runners: Runners) -> None:
        telemetry = Telemetry()
        runner = runners.start(name="db")
        with (
            instrument(runner, spans=True, record_times=True, **telemetry.providers),
            telemetry.request(),
        ):
            runner.options(name="work").queue_task(lambda _: None)
            metrics = telemetry.metrics()
        (example,) = histograms(metrics["tasker.task.run_time"])[""].exemplars
        assert example.span_id == number(telemetry.span("work"))

    def test_they_have_the_names_of_connection_pools_where_asked_for(
        self, runners: Runners
    ) -> None:
        telemetry = Telemetry()
        runner = runners.start(name="db")
        with instrument(runner, record_times=True, as_connection_pool=True, **telemetry.providers):
            runner.queue_task(lambda _: None)
            metrics = telemetry.metrics()
        for name in ("db.client.connection.wait_time", "db.client.connection.use_time"):
            (point,) = metrics[name].data.data_points
            assert isinstance(point, HistogramDataPoint)
            assert (point.count, point.attributes) == (1, {"db.client.connection.pool.name": "db"})

    def test_an_end_in_the_middle_records_what_runs_and_no_more(
        self, runners: Runners, gate: Gate
    ) -> None:
        telemetry = Telemetry()
        runner = runners.start(name="db")
        instrumentation = instrument(runner, record_times=True, **telemetry.providers)
        running = runner.submit(gate.hold)
        gate.wait_for()
        instrumentation.uninstrument()
        gate.open()
        running.result(LONG_TIMEOUT)
        runner.queue_task(lambda _: None)
        assert histograms(telemetry.metrics()["tasker.task.run_time"])[""].count == 1
