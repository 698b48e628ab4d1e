"""Metrics of OpenTelemetry: which there are, of which runners, and how often a runner is read."""

from __future__ import annotations

import gc
import itertools
import weakref
from typing import Any

import pytest

from tasker import Config, ConfigError, Priority, QueueFull, Runner
from tests.lifecycle.child import forked, say
from tests.lifecycle.support import posix_only, run
from tests.native.support import Broken, Gate, Runners, break_down, eventually, is_healthy
from tests.sight.known_load import HELD, QUEUED, WORKERS, assert_between, known_load
from tests.sight.telemetry import RUNNER, Telemetry, value, values

from tasker.opentelemetry import _reading, instrument  # isort: skip

STATES = ["starting", "idle", "busy", "equipping"]
PRIORITIES = ["low", "normal", "high"]
NAMES: dict[str, tuple[str, str, str | None, list[str]]] = {
    "tasker.worker.count": ("Sum", "{worker}", "tasker.worker.state", STATES),
    "tasker.worker.base": ("Sum", "{worker}", None, [""]),
    "tasker.worker.limit": ("Sum", "{worker}", None, [""]),
    "tasker.worker.starting": ("Sum", "{worker}", None, [""]),
    "tasker.worker.burst": ("Sum", "{worker}", None, [""]),
    "tasker.reserved.count": ("Sum", "{worker}", "tasker.worker.state", ["idle", "busy"]),
    "tasker.queue.size": ("Sum", "{task}", "tasker.task.priority", PRIORITIES),
    "tasker.queue.capacity": ("Sum", "{task}", None, [""]),
    "tasker.queue.oldest_age": ("Gauge", "s", None, [""]),
    "tasker.task.running": ("Sum", "{task}", None, [""]),
    "tasker.task.overdue": ("Sum", "{task}", None, [""]),
    "tasker.task.paused": ("Sum", "{task}", None, [""]),
    "tasker.task.longest_line": ("Gauge", "{task}", None, [""]),
    "tasker.task.accepted": ("Sum", "{task}", None, [""]),
    "tasker.task.settled": (
        "Sum",
        "{task}",
        "tasker.task.outcome",
        ["completed", "failed", "cancelled", "dropped", "timed_out"],
    ),
    "tasker.task.refused": ("Sum", "{task}", "tasker.refusal.reason", ["full", "stopped"]),
    "tasker.task.retried": ("Sum", "{task}", None, [""]),
    "tasker.task.keyed": ("Sum", "{task}", "tasker.key.result", ["hit", "miss"]),
    "tasker.resource.created": (
        "Sum",
        "{resource}",
        "tasker.resource.outcome",
        ["made", "failed"],
    ),
    "tasker.resource.replaced": (
        "Sum",
        "{resource}",
        "tasker.replacement.reason",
        ["unhealthy", "reset", "invalid", "age", "tasks", "renewed"],
    ),
}
"""Kind of data, unit, attribute beside the name of the runner, and its values."""
TOTALS = {name for name in NAMES if name.startswith(("tasker.task.", "tasker.resource."))} - {
    "tasker.task.running",
    "tasker.task.overdue",
    "tasker.task.paused",
    "tasker.task.longest_line",
}
POOL_NAMES = {
    "db.client.connection.count",
    "db.client.connection.max",
    "db.client.connection.pending_requests",
    "db.client.connection.timeouts",
}


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runners that are read, as often as they are."""
    seen: list[str] = []
    read = _reading.read

    def counted(runner: Runner[Any], *edges: Any) -> Any:
        seen.append(runner.name)
        return read(runner, *edges)

    monkeypatch.setattr(_reading, "read", counted)
    return seen


def test_all_are_there_with_their_units_and_attributes(
    runners: Runners, telemetry: Telemetry
) -> None:
    runner = runners.start(name="db", max_queue_size=5)
    with instrument(runner, **telemetry.providers):
        metrics = telemetry.metrics()
    assert set(metrics) == set(NAMES)
    for name, (kind, unit, attribute, keys) in NAMES.items():
        metric = metrics[name]
        assert (type(metric.data).__name__, metric.unit) == (kind, unit), name
        assert list(values(metric, attribute)) == keys, name
        assert str(metric.description).endswith("."), name
        assert getattr(metric.data, "is_monotonic", False) is (name in TOTALS), name


def test_gauges_tell_of_this_moment(runners: Runners, gate: Gate, telemetry: Telemetry) -> None:
    runner = runners.start(name="db", worker_count=1, max_worker_count=1, max_queue_size=9)
    with instrument(runner, **telemetry.providers):
        runner.submit(gate.hold)
        gate.wait_for()
        for priority, tasks in zip(Priority, (1, 2, 3), strict=True):
            for _ in range(tasks):
                runner.options(priority=priority).submit(gate.hold)
        metrics = telemetry.metrics()
    assert values(metrics["tasker.worker.count"], "tasker.worker.state") == {
        "starting": 0,
        "idle": 0,
        "busy": 1,
        "equipping": 0,
    }
    queued = values(metrics["tasker.queue.size"], "tasker.task.priority")
    expected = {
        priority.name.lower(): tasks for priority, tasks in zip(Priority, (1, 2, 3), strict=True)
    }
    assert queued == expected
    assert value(metrics["tasker.queue.capacity"]) == 9
    assert value(metrics["tasker.task.running"]) == 1
    assert value(metrics["tasker.queue.oldest_age"]) > 0
    assert value(metrics["tasker.worker.base"]) == 1


def test_an_unbounded_queue_has_no_capacity(runners: Runners, telemetry: Telemetry) -> None:
    with instrument(runners.start(), **telemetry.providers):
        assert "tasker.queue.capacity" not in telemetry.metrics()


def test_figures_are_those_of_a_known_load(telemetry: Telemetry) -> None:
    with known_load(name="db") as load, instrument(load.runner, **telemetry.providers):
        metrics = telemetry.metrics()
        settled = values(metrics["tasker.task.settled"], "tasker.task.outcome")
        assert settled == {
            "completed": load.count("completed"),
            "failed": load.count("failed"),
            "cancelled": 0,
            "dropped": 0,
            "timed_out": 0,
        }
        assert value(metrics["tasker.task.accepted"]) == load.accepted
        assert value(metrics["tasker.task.retried"]) == load.count("retried")
        assert value(metrics["tasker.task.running"]) == WORKERS
        assert values(metrics["tasker.queue.size"], "tasker.task.priority") == QUEUED
        created = values(metrics["tasker.resource.created"], "tasker.resource.outcome")
        assert created == {"made": len(load.creations), "failed": 0}
        replaced = values(metrics["tasker.resource.replaced"], "tasker.replacement.reason")
        assert replaced == load.replaced
        assert_between(
            lambda: value(telemetry.metrics()["tasker.queue.oldest_age"]), load.oldest_wait
        )
        assert HELD in {worker.task.name for worker in load.runner.workers() if worker.task}


def test_refusals_are_told_apart(runners: Runners, gate: Gate, telemetry: Telemetry) -> None:
    runner = runners.start(name="db", max_queue_size=1, when_full="raise")
    with instrument(runner, **telemetry.providers):
        runner.submit(gate.hold)
        gate.wait_for()
        runner.submit(gate.hold)
        with pytest.raises(QueueFull):
            runner.submit(gate.hold)
        refused = telemetry.metrics()["tasker.task.refused"]
    assert values(refused, "tasker.refusal.reason") == {"full": 1, "stopped": 0}


def test_a_collection_reads_each_runner_once(
    runners: Runners, telemetry: Telemetry, reads: list[str]
) -> None:
    one, other = runners.start(name="one"), runners.start(name="other")
    with instrument(one, other, as_connection_pool=True, **telemetry.providers):
        for _ in range(3):
            telemetry.metrics()
    assert reads == ["one", "other"] * 3


def test_nothing_is_read_between_collections(
    runners: Runners, telemetry: Telemetry, reads: list[str]
) -> None:
    runner = runners.start()
    with instrument(runner, **telemetry.providers):
        list(runner.map(lambda _, n: n, range(100)))
    assert reads == []


def test_instruments_that_are_asked_far_apart_get_snapshots_of_their_own(
    runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runners.start(name="db")
    collection = _reading.Collection(lambda: [(runner, False)])
    now = itertools.count(100.0, _reading.MAX_AGE / 2 + 0.01)
    monkeypatch.setattr("tasker.opentelemetry._reading.time.monotonic", lambda: next(now))
    first, second, third = (collection.readings(name)[0][0] for name in "abc")
    assert first is second
    assert third is not second


def test_a_runner_that_stops_disappears(telemetry: Telemetry, runners: Runners) -> None:
    stays, goes = runners.start(name="stays"), runners.start(name="goes")
    with instrument(stays, goes, **telemetry.providers):
        assert shown(telemetry) == {"stays", "goes"}
        goes.stop()
        assert shown(telemetry) == {"stays"}


def test_a_runner_that_stops_while_it_is_read_disappears(
    telemetry: Telemetry, runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runners.start(name="db")
    workers = type(runner).workers

    def stop(self: Runner[Any], **options: Any) -> Any:
        self.stop()
        return workers(self, **options)

    with instrument(runner, **telemetry.providers):
        monkeypatch.setattr(type(runner), "workers", stop)
        assert telemetry.metrics() == {}


def test_without_a_choice_all_runners_are_shown_and_those_made_later(
    telemetry: Telemetry, runners: Runners
) -> None:
    runners.start(name="before")
    with instrument(**telemetry.providers):
        assert shown(telemetry) == {"before"}
        runners.start(name="later")
        assert shown(telemetry) == {"before", "later"}


def test_a_choice_leaves_others_out(telemetry: Telemetry, runners: Runners) -> None:
    chosen, _ = runners.start(name="chosen"), runners.start(name="other")
    with instrument(chosen, **telemetry.providers):
        runners.start(name="later")
        assert shown(telemetry) == {"chosen"}


def test_an_end_in_the_middle_shows_nothing_more(runners: Runners, telemetry: Telemetry) -> None:
    runner = runners.start(name="db")
    instrumentation = instrument(runner, **telemetry.providers)
    assert telemetry.metrics() != {}
    instrumentation.uninstrument()
    instrumentation.uninstrument()
    assert telemetry.metrics() == {}
    # The API keeps the instruments that were made first.
    with instrument(runner, **telemetry.providers):
        assert shown(telemetry) == {"db"}


@pytest.mark.parametrize("first_is_of_all", [False, True])
@pytest.mark.parametrize("second_is_of_all", [False, True])
def test_a_runner_is_instrumented_once(
    runners: Runners, telemetry: Telemetry, first_is_of_all: bool, second_is_of_all: bool
) -> None:
    runner = runners.start(name="db")
    chosen: dict[bool, tuple[Runner[Any], ...]] = {True: (), False: (runner,)}
    with instrument(*chosen[first_is_of_all], **telemetry.providers):
        what = "all runners are" if first_is_of_all and second_is_of_all else "runner 'db' is"
        with pytest.raises(ValueError, match=f"{what} instrumented already: uninstrument"):
            instrument(*chosen[second_is_of_all], **telemetry.providers)
        assert shown(telemetry) == {"db"}


def test_several_may_show_different_runners(runners: Runners, telemetry: Telemetry) -> None:
    one, other = runners.start(name="one"), runners.start(name="other")
    with instrument(one, **telemetry.providers), instrument(other, **telemetry.providers):
        assert shown(telemetry) == {"one", "other"}
    assert shown(telemetry) == set()


def test_names_of_connection_pools_are_shown_where_asked_for(
    runners: Runners, gate: Gate, telemetry: Telemetry
) -> None:
    pool = runners.start(name="db", worker_count=2, max_worker_count=3)
    other = runners.start(name="other")
    pool.submit(gate.hold)
    gate.wait_for()
    with (
        instrument(pool, as_connection_pool=True, **telemetry.providers),
        instrument(other, **telemetry.providers),
    ):
        metrics = telemetry.metrics()
        assert shown(telemetry) == {"db", "other"}
    assert {name for name in metrics if name.startswith("db.")} == POOL_NAMES
    counts = values(metrics["db.client.connection.count"], "db.client.connection.state")
    assert counts == {"idle": 1, "used": 1}
    assert value(metrics["db.client.connection.max"]) == 3
    assert value(metrics["db.client.connection.pending_requests"]) == 0
    assert values(metrics["db.client.connection.timeouts"], runner="other") == {}


def test_it_keeps_no_runner_alive(telemetry: Telemetry, runners: Runners) -> None:
    runner: Runner[object] = Runner(Config(on_create=object, worker_count=1, name="gone"))
    seen = weakref.ref(runner)
    with instrument(runner, spans=True, record_times=True, **telemetry.providers):
        telemetry.metrics()
        runner.stop()
        del runner
        eventually(lambda: gc.collect() is not None and seen() is None)
        assert telemetry.metrics() == {}
    del runners


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ((object(),), {}),
        ((), {"spans": "all"}),
        ((), {"spans": 1}),
        ((), {"record_times": 1}),
        ((), {"record_exceptions": "yes"}),
        ((), {"as_connection_pool": None}),
    ],
)
def test_what_is_no_option_is_refused(given: tuple[Any, ...], options: dict[str, Any]) -> None:
    told = next(iter(options), r"runners\[0\] must be a Runner, got <object")
    with pytest.raises(ConfigError, match=told):
        instrument(*given, **options)


def test_retries_and_replacements_are_counted(runners: Runners, telemetry: Telemetry) -> None:
    runner = runners.start(name="db", check_health=is_healthy, max_retries=1)
    with instrument(runner, **telemetry.providers):
        with pytest.raises(Broken):
            runner.queue_task(break_down)
        eventually(
            lambda: (
                values(
                    telemetry.metrics()["tasker.resource.replaced"], "tasker.replacement.reason"
                )["unhealthy"]
                == 2
            )
        )
        assert value(telemetry.metrics()["tasker.task.retried"]) == 1


def test_instruments_may_be_made_before_the_sdk_is_set_up() -> None:
    def program() -> None:
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        from tasker.opentelemetry import instrument

        def shown() -> int:
            data = reader.get_metrics_data()
            found = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
            settled = [metric for metric in found if metric.name == "tasker.task.settled"]
            return sum(len(metric.data.data_points) for metric in settled)

        reader = InMemoryMetricReader()
        with Runner(Config(on_create=object, worker_count=1)):
            with instrument():
                provider = MeterProvider([reader])
                metrics.set_meter_provider(provider)
                say(shown())
            say(shown())
            with instrument():
                say(shown())
            with instrument(meter_provider=provider):
                say(shown())
        provider.shutdown()

    assert run(program) == ["5", "0", "5", "5"]


@posix_only
def test_a_forked_child_shows_none_of_its_parents_runners() -> None:
    def program() -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        from tasker.opentelemetry import instrument

        reader = InMemoryMetricReader()
        provider = MeterProvider([reader])

        def shown() -> set[object]:
            data = reader.get_metrics_data()
            return {
                (point.attributes or {})["tasker.runner.name"]
                for resource in (data.resource_metrics if data else [])
                for scope in resource.scope_metrics
                for metric in scope.metrics
                for point in metric.data.data_points
            }

        def child() -> None:
            say(shown())
            with Runner(Config(on_create=object, worker_count=1, name="child")):
                say(shown())
            instrumentation.uninstrument()

        parent = Runner(Config(on_create=object, worker_count=1, name="parent"))
        with parent, instrument(spans=True, meter_provider=provider) as instrumentation:
            say(shown())
            say(forked(child))
            say(shown())

    expected = ["{'parent'}", "set()", "{'child'}", "0", "{'parent'}"]
    assert run(program, options=("-W", "ignore::DeprecationWarning")) == expected


def shown(telemetry: Telemetry) -> set[str]:
    """The runners of a collection."""
    accepted = telemetry.metrics().get("tasker.task.accepted")
    points = accepted.data.data_points if accepted else []
    return {str((point.attributes or {})[RUNNER]) for point in points}
