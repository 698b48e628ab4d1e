"""What shows runners shows one on Ray, too."""

from __future__ import annotations

import io
import json
import os
import signal
import urllib.request
from typing import Any

import pytest

from tasker import ConfigError
from tests.ray.conftest import Make
from tests.ray.functions import eventually, square


def test_prometheus_scrapes_a_runner_on_ray(make: Make) -> None:
    pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
    from prometheus_client import CollectorRegistry

    from tasker.prometheus import RunnerCollector

    runner = make(actors=2, name="far")
    for each in runner.submit_many(square, range(50)):
        each.result(timeout=60)
    registry = CollectorRegistry()
    registry.register(RunnerCollector(runner, by_task=5))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"runner": "far", **labels})

    assert value("tasker_workers_base") == 2
    assert value("tasker_task_run_seconds_count") == 50
    assert value("tasker_resource_create_seconds_count") == 2
    name = "square"
    assert value("tasker_tasks_total", task=name, outcome="completed") == 50


def test_counters_do_not_shrink_when_an_actor_is_lost(make: Make) -> None:
    pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
    from prometheus_client import CollectorRegistry

    from tasker.prometheus import RunnerCollector

    runner = make(actors=2, name="shrinking")
    registry = CollectorRegistry()
    registry.register(RunnerCollector(runner))

    def created() -> float:
        name = "tasker_resource_create_seconds_count"
        return registry.get_sample_value(name, {"runner": "shrinking"}) or 0.0

    assert created() == 2
    assert runner.stats().base_workers == 2  # asks for no histograms
    lost, other = [each.process for each in runner.actors()]
    os.kill(lost, signal.SIGKILL)
    runner.submit_many(square, range(50))
    eventually(lambda: {each.process for each in runner.actors()} - {lost, other, 0})
    eventually(lambda: created() == 3)


def test_the_terminal_shows_a_runner_on_ray(make: Make) -> None:
    pytest.importorskip("rich", reason="rich is not installed")
    from rich.console import Console

    from tasker.live import Live

    text = io.StringIO()
    console = Console(file=text, width=120, height=50)
    with Live(make(name="far"), console=console):
        pass
    assert "far" in text.getvalue()


def test_the_browser_shows_a_runner_on_ray(make: Make) -> None:
    pytest.importorskip("metaflow_extensions", reason="the dashboard is not installed")
    from tasker.dashboard import serve

    runner = make(name="far")
    runner.queue_task(square, 2)
    with serve(runner) as page:
        events = urllib.request.urlopen(f"{page.url}events", timeout=60)  # noqa: S310 - http alone
        with events as answer:
            line = next(each for each in answer if each.startswith(b"data:"))
    assert "far" in json.dumps(json.loads(line.removeprefix(b"data:")))


def test_what_cannot_trace_a_runner_on_ray_refuses_it(make: Make) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry is not installed")
    from tasker.opentelemetry import instrument

    runner: Any = make()
    with pytest.raises(ConfigError, match="RayRunner"):
        instrument(runner)
