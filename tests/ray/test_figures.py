"""Figures of a runner on Ray: those of its actors together, and what the driver counts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from tasker import ConfigError, Runner
from tests.ray.conftest import Make
from tests.ray.functions import Resource, eventually, fail, square, touch_and_wait


def test_totals_count_each_task_once(make: Make) -> None:
    runner = make(actors=2)
    for each in runner.submit_many(square, range(100)):
        each.result(timeout=60)
    error = runner.options(name="bad").submit(fail, KeyError("k")).exception(timeout=60)
    assert isinstance(error, KeyError)
    metrics = runner.metrics()
    assert metrics.total_tasks_arrived == 101
    assert metrics.total_tasks_completed == 100
    assert metrics.total_tasks_failed == 1
    assert metrics.execution.count == metrics.wait.count == 101
    assert metrics.by_task["bad"].failed == 1
    assert metrics.by_task["square"].completed == 100
    assert metrics.errors == {"KeyError": 1}
    assert metrics.creation.count == 2
    assert 0 < metrics.execution.min <= metrics.execution.p50 <= metrics.execution.max


def test_gauges_tell_of_all_actors_and_of_what_waits(make: Make, tmp_path: Path) -> None:
    runner, mark = make(actors=2, worker_count=2), tmp_path / "mark"
    assert runner.stats().base_workers == runner.worker_count == runner.max_worker_count == 4
    view = runner.options(name="hold")
    futures = [view.submit(touch_and_wait, mark) for _ in range(20)]
    eventually(lambda: runner.stats().running_tasks == 4)
    assert runner.stats().queued_tasks == 16
    assert runner.stats().oldest_wait > 0
    busy = [each for each in runner.workers(stacks=True) if each.state == "busy"]
    assert {each.task.name for each in busy if each.task} == {"hold"}
    assert {each.name.rsplit("-worker", 1)[0] for each in busy} == {
        each.name for each in runner.actors()
    }
    assert sum(each.tasks for each in runner.actors()) >= 4
    for each in futures:
        each.request_cancel()


def test_diagnose_tells_of_busy_workers(make: Make, tmp_path: Path) -> None:
    runner, mark = make(), tmp_path / "mark"
    futures = [runner.submit(touch_and_wait, mark) for _ in range(5)]
    eventually(lambda: any(each.code == "all_busy" for each in runner.diagnose()))
    for each in futures:
        each.request_cancel()


def test_hooks_that_fail_in_an_actor_are_logged_by_the_driver(make: Make, caplog: Any) -> None:
    def go(_resource: Resource) -> None:
        raise OSError("disk full")

    logger = logging.getLogger("tests.ray")
    with caplog.at_level(logging.INFO, "tests.ray"):
        runner = make(on_destroy=go, logger=logger, name="db")
        runner.stop()
    (record,) = [each for each in caplog.records if each.exc_info]
    assert record.getMessage().startswith("db-actor-1: ")
    assert record.worker.startswith("db-actor-1")
    error = record.exc_info[1]
    assert (type(error), error.args) == (OSError, ("disk full",))
    assert "in go" in "".join(error.__notes__)


def test_names_are_unique_among_runners(make: Make) -> None:
    with Runner(_config("db")):
        assert make(name="db", logger=None).name == "db-2"
    first = make()
    assert make().name != first.name
    assert first.name.startswith("ray-")


def _config(name: str) -> Any:
    from tasker import Config

    return Config(on_create=dict, worker_count=1, name=name)


def test_events_are_told_in_the_actor(make: Make, tmp_path: Path) -> None:
    book = tmp_path / "book"

    def tell(event: Any) -> None:
        with book.open("a") as file:
            file.write(f"{event.kind} {event.name}\n")

    runner = make(on_event=tell)
    runner.queue_task(square, 2)
    runner.stop()
    # A quick worker has told of the end before the arrival is told.
    assert sorted(book.read_text().splitlines()) == ["arrived square", "completed square"]


def test_wrong_arguments_are_named(make: Make) -> None:
    runner: Any = make()
    with pytest.raises(ConfigError, match="stacks"):
        runner.workers(stacks=1)
    with pytest.raises(ConfigError, match="actors"):
        runner.resize(actors=0)
