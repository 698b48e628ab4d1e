"""Each runner of the process has a name of its own, which is free again when it has stopped."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from tasker import ResourceCreationError, Runner
from tests.native.support import (
    Call,
    Gate,
    LogCapture,
    Runners,
    at_once,
    eventually,
    runner_threads,
)


def thread_name(_resource: object) -> str:
    return threading.current_thread().name


def test_runners_without_a_name_are_numbered(runners: Runners) -> None:
    started = [runners.start() for _ in range(3)]
    assert [runner.name for runner in started] == ["tasker-1", "tasker-2", "tasker-3"]
    assert [runner.config.name for runner in started] == [None] * 3
    assert started[1].queue_task(thread_name) == "tasker-2-worker-1"


def test_a_name_that_is_taken_gets_a_number_and_one_record(
    runners: Runners, log: LogCapture
) -> None:
    logger = logging.getLogger("tasker")
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        first, second, third = [runners.start(name="app", logger=logger) for _ in range(3)]
        records = [(record.levelno, record.getMessage()) for record in log.take(2)]
    finally:
        logger.setLevel(level)
    assert [runner.name for runner in (first, second, third)] == ["app", "app-2", "app-3"]
    assert second.config.name == "app"
    assert records == [
        (logging.INFO, "app-2: the name app is taken by another runner"),
        (logging.INFO, "app-3: the name app is taken by another runner"),
    ]


def test_threads_texts_and_executors_use_the_name_that_results(runners: Runners) -> None:
    runners.start(name="app")
    runner = runners.start(name="app")
    assert runner.queue_task(thread_name) == "app-2-worker-1"
    assert repr(runner).startswith("<Runner 'app-2' running")
    executor: Any = runner.executor()
    assert executor._thread_name_prefix == "app-2"


@pytest.mark.parametrize("name", [None, "app"])
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_name_is_free_again_when_its_runner_has_stopped(
    runners: Runners, end: str, name: str | None
) -> None:
    first, second = runners.start(name=name), runners.start(name=name)
    getattr(first, end)()
    assert runners.start(name=name).name == first.name != second.name


def test_a_name_is_taken_until_the_last_task_of_its_runner_has_ended(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(name="app")
    runner.submit(gate.hold)
    gate.wait_for()
    stop = Call(runner.stop)
    eventually(lambda: runner.state == "stopping")
    assert runners.start(name="app").name == "app-2"
    gate.open()
    stop.result()
    assert runners.start(name="app").name == "app"


def test_a_name_is_taken_while_its_runner_starts(runners: Runners, gate: Gate) -> None:
    start = Call(lambda: runners.start(name="app", on_create=gate.hold, on_destroy=None))
    gate.wait_for()
    assert runners.start(name="app").name == "app-2"
    gate.open()
    assert start.result().name == "app"


def test_a_start_that_fails_leaves_its_name(runners: Runners) -> None:
    def fail() -> None:
        raise OSError

    with pytest.raises(ResourceCreationError):
        runners.start(name="app", on_create=fail)
    assert runners.start(name="app").name == "app"


def test_a_runner_that_was_dropped_leaves_its_name(runners: Runners) -> None:
    runner = Runner(runners.config(name="app"))
    with pytest.warns(ResourceWarning, match="app"):
        del runner
    eventually(lambda: not runner_threads("app"))
    assert runners.start(name="app").name == "app"


def test_runners_that_start_at_once_get_names_of_their_own(runners: Runners) -> None:
    calls = at_once(8, runners.start)
    assert {call.result().name for call in calls} == {f"tasker-{n}" for n in range(1, 9)}
