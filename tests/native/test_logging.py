"""What nobody receives is logged: once, with the worker's name, without harm from the logging."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from tasker import Config, Future, Runner
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Gate,
    LogCapture,
    Resource,
    Runners,
    break_down,
    eventually,
    is_healthy,
    worker_threads,
)


def fail(_anything: object) -> None:
    raise ArithmeticError


class Unloggable(logging.Logger):
    """A logger that raises."""

    calls = 0

    def isEnabledFor(self, level: int) -> bool:
        del level
        self.calls += 1
        raise KeyboardInterrupt


def trouble(**fields: Any) -> None:
    """Has every hook fail once."""
    config = Config(
        on_create=object,
        on_destroy=fail,
        check_health=fail,  # type: ignore[arg-type]
        worker_count=1,
        **fields,
    )
    gate = Gate()
    with Runner(config) as runner:
        future = runner.submit(gate.hold)
        future.add_done_callback(fail)
        gate.open()
        with pytest.raises(Broken):
            runner.queue_task(break_down)
        runner.queue_task(lambda _: "on another resource")


def test_a_failing_hook_is_logged_with_error_and_worker(log: LogCapture) -> None:
    trouble()
    records = log.take(4)
    assert [record.getMessage() for record in records] == [
        "tasker-1-worker-1: a done-callback failed",
        "tasker-1-worker-1: check_health failed",
        "tasker-1-worker-1: on_destroy failed",
        "tasker-1-worker-1: on_destroy failed",
    ]
    for record in records:
        assert record.name == "tasker"
        assert record.levelno == logging.ERROR
        assert record.worker == record.threadName == "tasker-1-worker-1"  # type: ignore[attr-defined]
        assert record.exc_info
        assert record.exc_info[0] is ArithmeticError
        assert record.exc_info[2] is not None


def test_another_logger_gets_it_instead(log: LogCapture) -> None:
    mine, book = logging.Logger("mine"), LogCapture()
    mine.addHandler(book)
    trouble(logger=mine)
    assert len(book.rest()) == 4
    assert log.rest() == []


def test_no_logger_means_silence(log: LogCapture, capfd: pytest.CaptureFixture[str]) -> None:
    trouble(logger=None)
    assert log.rest() == []
    assert capfd.readouterr() == ("", "")


def test_logging_that_raises_harms_nobody(log: LogCapture) -> None:
    logger = Unloggable("broken")
    trouble(logger=logger)
    assert logger.calls == 4
    assert log.rest() == []


def test_logging_that_raises_does_not_cost_a_worker(runners: Runners, log: LogCapture) -> None:
    class Raising(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            raise SystemExit

    logger = logging.Logger("broken")
    logger.addHandler(Raising())
    runner = runners.start(logger=logger, check_health=fail)
    for _ in range(3):
        with pytest.raises(Broken):
            runner.queue_task(break_down)
    assert runner.queue_task(lambda _: "alive") == "alive"
    assert log.rest() == []


def test_a_handler_may_use_the_runner(runners: Runners, log: LogCapture) -> None:
    class Curious(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            seen.append((runner.stats().base_workers, runner.submit(lambda _: None)))

    seen: list[tuple[int, Future[None]]] = []
    logger = logging.Logger("curious")
    logger.addHandler(Curious())
    runner = runners.start(logger=logger, check_health=fail)
    with pytest.raises(Broken):
        runner.queue_task(break_down)
    ((workers, future),) = seen
    assert workers == 1
    assert future.result(LONG_TIMEOUT) is None
    assert log.rest() == []


def test_an_error_of_a_task_is_not_logged(runners: Runners, log: LogCapture) -> None:
    runner = runners.start(check_health=is_healthy, max_retries=1)
    with pytest.raises(Broken):
        runner.queue_task(break_down)
    assert log.rest() == []


def test_an_outage_is_one_record_at_its_beginning_and_one_at_its_end(runners: Runners) -> None:
    logger, book, up = logging.Logger("mine"), LogCapture(), threading.Event()
    logger.addHandler(book)
    failures: list[int] = []

    def create() -> Resource:
        if len(runners.factory.made) >= 2 and not up.is_set():
            failures.append(1)
            raise ConnectionRefusedError("db down")
        return runners.factory.create()

    runner = runners.start(
        worker_count=2, on_create=create, check_health=is_healthy, max_retries=0, logger=logger
    )
    futures = [runner.submit(break_down) for _ in range(2)]
    assert all(isinstance(future.exception(LONG_TIMEOUT), Broken) for future in futures)
    eventually(lambda: len(failures) >= 3)
    up.set()
    assert runner.queue_task(lambda _: "back") == "back"
    eventually(lambda: len(runners.factory.alive) == 2)
    began, over = book.take(2)
    assert (began.levelname, over.levelname) == ("WARNING", "INFO")
    assert "cannot be created" in began.getMessage()
    assert began.exc_info
    assert isinstance(began.exc_info[1], ConnectionRefusedError)
    assert "can be created again" in over.getMessage()
    assert over.exc_info is None
    assert began.worker in {thread.name for thread in worker_threads()}  # type: ignore[attr-defined]
