"""Runners on Ray are runners of the process: listed with the others, each under its own name."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import pytest

import tasker
from tasker import Config, Runner
from tests.ray.conftest import Make
from tests.ray.functions import Resource, eventually


def alive(*mine: Any) -> list[Any]:
    """Those among mine that are listed, in that order."""
    return [runner for runner in tasker.runners() if runner in mine]


def local(name: str) -> Runner[dict[str, Any]]:
    return Runner(Config(on_create=dict, worker_count=1, name=name))


def test_one_is_listed_among_the_others_by_age_until_it_has_stopped(make: Make) -> None:
    with local("before") as before:
        far = make()
        with local("after") as after:
            assert alive(far, before, after) == [before, far, after]
            far.stop()
            assert alive(far, before, after) == [before, after]


def test_one_is_listed_while_it_stops(make: Make) -> None:
    runner = make()
    runner._engine().dispatcher.begin_end("stopping")
    listed = alive(runner)
    assert listed == [runner] or runner.state == "stopped"
    runner.stop()
    assert alive(runner) == []


def test_listing_one_keeps_it_not_alive(cluster: Any) -> None:
    from tasker.ray import RayRunner

    del cluster
    config: Config[Resource] = Config(on_create=dict, worker_count=1, name="dropped")
    runner = RayRunner(config, actors=1)
    known, over = weakref.ref(runner), runner._engine().dispatcher.over
    assert runner in alive(runner)
    with pytest.warns(ResourceWarning):
        del runner
    gc.collect()
    assert known() is None
    assert "dropped" not in [each.name for each in tasker.runners()]
    assert over.wait(60)


def test_one_that_could_not_start_is_not_listed_and_leaves_its_name(make: Make) -> None:
    def create() -> None:
        raise ConnectionRefusedError

    before = tasker.runners()
    with pytest.raises(tasker.ResourceCreationError):
        make(on_create=create, name="never")
    assert tasker.runners() == before
    with local("never") as runner:
        assert runner.name == "never"


def test_a_local_runner_does_not_get_the_name_of_one_on_ray(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    far = make(name="db")
    with caplog.at_level(logging.INFO, "tasker"), local("db") as runner:
        assert runner.name == "db-2"
    assert "db-2: the name db is taken by another runner" in caplog.messages
    far.stop()
    with local("db") as runner:
        assert runner.name == "db"


def test_one_on_ray_does_not_get_the_name_of_a_local_runner(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with local("db"), caplog.at_level(logging.INFO, "tasker"):
        far = make(name="db")
        assert far.name == "db-2"
    assert "db-2: the name db is taken by another runner" in caplog.messages
    far.stop()
    assert make(name="db").name == "db"


def test_without_a_name_they_count_from_one(make: Make) -> None:
    with local("ray-1"):
        assert make().name == "ray-2"


def test_collectors_and_viewers_of_all_runners_show_one(make: Make) -> None:
    pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
    from prometheus_client import CollectorRegistry

    from tasker._sight.watch import Watch
    from tasker.prometheus import RunnerCollector

    runner = make(name="shown")
    registry = CollectorRegistry()
    registry.register(RunnerCollector())
    assert registry.get_sample_value("tasker_workers_base", {"runner": "shown"}) == 1
    watch = Watch()
    assert "shown" in [view.name for view in watch.views()]
    runner.stop()
    eventually(lambda: ("shown", "stopped") in [(v.name, v.state) for v in watch.views()])
    assert registry.get_sample_value("tasker_workers_base", {"runner": "shown"}) is None


def test_what_traces_all_runners_leaves_one_alone(make: Make) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry is not installed")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider

    from tasker.opentelemetry import instrument

    reader = InMemoryMetricReader()
    before = make(name="before")
    with (
        instrument(meter_provider=MeterProvider([reader]), tracer_provider=TracerProvider()),
        local("near"),
    ):
        after = make(name="after")
        data = reader.get_metrics_data()
    assert data is not None
    said = data.to_json()
    assert '"near"' in said
    assert f'"{before.name}"' not in said
    assert f'"{after.name}"' not in said
