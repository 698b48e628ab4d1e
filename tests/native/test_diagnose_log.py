"""What a runner logs of what is wrong with it: what has held for long enough, once."""

from __future__ import annotations

import logging
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tasker import Config, QueueFull, Runner, ThreadPoolExecutor, _log, _looks
from tasker._findings import Snapshot
from tests.native.support import (
    LONG_TIMEOUT,
    MOMENT,
    Gate,
    LogCapture,
    Runners,
    eventually,
    runner_threads,
)

OVERDUE = "1 task past its limit"


class Looks:
    """Knows of each look for the log, and what it was to log."""

    def __init__(self) -> None:
        self.due: list[list[tuple[str, str]]] = []

    def wait_for(self, more: int) -> None:
        """Waits until the keeper has looked so many times more."""
        wanted = len(self.due) + more
        eventually(lambda: len(self.due) >= wanted)


@pytest.fixture
def looks(log: LogCapture, monkeypatch: pytest.MonkeyPatch) -> Looks:
    """Looks every few milliseconds, and logs what was seen at two looks."""
    # Whose own interval this one replaces.
    del log
    book, to_log = Looks(), _looks.Memory.to_log

    def noted(memory: _looks.Memory, now: Snapshot) -> list[tuple[str, str]]:
        due = to_log(memory, now)
        book.due.append(due)
        return due

    monkeypatch.setattr(_looks.Memory, "to_log", noted)
    monkeypatch.setattr(_log, "INTERVAL", 0.002)
    monkeypatch.setattr(_looks, "HELD", 0.001)
    # However late the next look may be.
    monkeypatch.setattr(_looks, "CLEAR", 3600.0)
    return book


def overrun(runner: Runner[Any], gate: Gate) -> None:
    """Has a task run past its limit until the gate is open."""
    future = runner.options(timeout=0.2).submit(gate.hold)
    gate.wait_for()
    future.exception(LONG_TIMEOUT)


def roomy(runners: Runners, **fields: Any) -> Runner[Any]:
    return runners.start(max_worker_count=2, name="db", **fields)


def test_what_has_held_is_logged_once(
    looks: Looks, runners: Runners, gate: Gate, log: LogCapture
) -> None:
    runner = roomy(runners)
    overrun(runner, gate)
    (record,) = log.take()
    assert (record.levelno, record.getMessage()) == (logging.WARNING, f"db: {OVERDUE}")
    looks.wait_for(5)
    assert log.rest() == []


def test_what_was_clear_for_long_is_logged_anew(
    looks: Looks, runners: Runners, log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_looks, "CLEAR", 0.3)
    runner = roomy(runners)
    for _ in range(2):
        gate = Gate()
        overrun(runner, gate)
        (record,) = log.take()
        assert record.getMessage() == f"db: {OVERDUE}"
        gate.open()
        eventually(lambda: runner.stats().overdue_tasks == 0)
        held = Gate()
        future = runner.submit(held.hold)
        looks.wait_for(2)
        eventually(partial(was_clear, runner, looks_now(runner)))
        looks.wait_for(2)
        held.open()
        future.result(LONG_TIMEOUT)


def was_clear(runner: Runner[Any], since: float) -> bool:
    """Whether what was gone since then is logged anew when it comes again."""
    return looks_now(runner) - since > _looks.CLEAR


def looks_now(runner: Runner[Any]) -> float:
    """The time of the runner's own clock."""
    return runner._snapshot().at


def test_a_worse_finding_is_logged_at_its_level(
    looks: Looks, runners: Runners, gate: Gate, log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        _looks.Memory, "to_log", lambda *_: [("critical", "a"), ("warning", "b"), ("info", "c")]
    )
    logging.getLogger("tasker").setLevel(logging.INFO)
    try:
        runner = roomy(runners)
        runner.submit(gate.hold)
        records = log.take(3)
    finally:
        logging.getLogger("tasker").setLevel(logging.NOTSET)
        gate.open()
    assert [(record.levelno, record.getMessage()) for record in records[:3]] == [
        (logging.CRITICAL, "db: a"),
        (logging.WARNING, "db: b"),
        (logging.INFO, "db: c"),
    ]
    runner.stop(LONG_TIMEOUT)
    log.rest()


def test_it_goes_to_the_logger_of_the_config(looks: Looks, runners: Runners, gate: Gate) -> None:
    book = LogCapture()
    logger = logging.getLogger("elsewhere")
    logger.addHandler(book)
    logger.propagate = False
    try:
        overrun(roomy(runners, logger=logger), gate)
        (record,) = book.take()
    finally:
        logger.removeHandler(book)
    assert record.getMessage() == f"db: {OVERDUE}"


def test_without_a_logger_nobody_looks_and_there_is_no_thread_for_it(
    looks: Looks, runners: Runners, gate: Gate
) -> None:
    runner = runners.start(logger=None, name="db")
    runner.submit(gate.hold)
    gate.wait_for()
    assert [thread.name for thread in runner_threads("db")] == ["db-worker-1"]
    assert looks.due == []


def test_a_standard_executor_does_not_look(looks: Looks) -> None:
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(abs, -1).result() == 1
        assert [name for name in thread_names() if name.endswith("-keeper")] == []
    assert looks.due == []


def thread_names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_a_look_that_fails_is_logged_and_the_next_one_comes(
    looks: Looks, runners: Runners, gate: Gate, log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fail_once(memory: _looks.Memory, now: Snapshot) -> list[tuple[str, str]]:
        if not failed.is_set():
            failed.set()
            raise MemoryError
        looks.due.append([])
        return []

    monkeypatch.setattr(_looks.Memory, "to_log", fail_once)
    runners.start(name="db").submit(gate.hold)
    (record,) = log.take()
    assert record.getMessage() == "db: a look at the runner failed"
    assert record.exc_info
    looks.wait_for(2)


def test_a_handler_may_do_anything(
    looks: Looks, runners: Runners, gate: Gate, log: LogCapture
) -> None:
    runner = roomy(runners)
    told: list[Any] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == f"db: {OVERDUE}":
                told.append([finding.text for finding in runner.diagnose()])
                gate.open()
                told.append(runner.submit(lambda _: 7).result(LONG_TIMEOUT))
                runner.stop()
                raise SystemExit

    handler = Handler()
    logger = logging.getLogger("tasker")
    logger.addHandler(handler)
    try:
        overrun(runner, gate)
        eventually(lambda: runner.state == "stopped")
    finally:
        logger.removeHandler(handler)
    assert told[0] == [OVERDUE]
    assert told[1] == 7
    assert [record.getMessage() for record in log.rest()] == [f"db: {OVERDUE}"]


def test_what_holds_a_stop_up_is_logged(
    looks: Looks, runners: Runners, gate: Gate, log: LogCapture
) -> None:
    runner = roomy(runners)
    runner.options(timeout=0.2).submit(gate.hold)
    gate.wait_for()
    with pytest.raises(TimeoutError):
        runner.stop(timeout=0.0)
    (record,) = log.take()
    assert record.getMessage() == f"db: {OVERDUE}"
    gate.open()


def test_a_hostile_name_stays_on_its_line(
    looks: Looks, runners: Runners, gate: Gate, log: LogCapture
) -> None:
    overrun(runners.start(max_worker_count=2, name="a\n\x1b[31m%s{}" + "b" * 500), gate)
    (record,) = log.take()
    assert record.getMessage().isprintable()
    assert "%s{}" in record.getMessage()


def test_many_runners_look_each_for_itself(
    looks: Looks, runners: Runners, gate: Gate, log: LogCapture
) -> None:
    many = [runners.start(max_worker_count=2, name=f"db{n}") for n in range(3)]
    for runner in many:
        overrun(runner, gate)
    eventually(lambda: sum(len(due) for due in looks.due) == 3)
    texts = [record.getMessage() for record in log.take(3)]
    assert sorted(texts) == [f"db{n}: {OVERDUE}" for n in range(3)]


def test_a_dropped_runner_is_looked_at_until_its_tasks_have_ended(
    looks: Looks, runners: Runners, gate: Gate, log: LogCapture
) -> None:
    runner: Runner[dict[str, int]] = Runner(
        Config(on_create=dict, worker_count=1, max_worker_count=2, name="lost")
    )
    overrun(runner, gate)
    with pytest.warns(ResourceWarning):
        del runner
    (record,) = log.take()
    assert record.getMessage() == f"lost: {OVERDUE}"
    gate.open()
    eventually(lambda: runner_threads("lost") == [])


@pytest.mark.skipif(sys.platform != "linux", reason="the system counts no switches of a thread")
def test_no_thread_of_a_runner_at_rest_wakes(looks: Looks, runners: Runners) -> None:
    runner = runners.start(name="db")

    def switches() -> dict[str, int]:
        found = {}
        for thread in runner_threads("db"):
            status = Path(f"/proc/self/task/{thread.native_id}/status").read_text("ascii")
            lines = dict(line.split(":", 1) for line in status.splitlines())
            found[thread.name] = int(lines["voluntary_ctxt_switches"])
        return found

    def is_at_rest() -> bool:
        before = switches()
        # The interval of the looks is a fraction of it.
        threading.Event().wait(MOMENT)
        return before == switches()

    assert set(switches()) == {"db-worker-1", "db-keeper"}
    eventually(is_at_rest)
    assert looks.due == []
    runner.queue_task(lambda _: None)
    # Once the second is over in which the task was, and for good.
    eventually(is_at_rest)
    assert all(is_at_rest() for _ in range(5))


def test_a_full_queue_is_logged_by_its_text(
    looks: Looks, runners: Runners, gate: Gate, log: LogCapture
) -> None:
    runner = runners.start(name="db", max_queue_size=1, when_full="raise")
    runner.submit(gate.hold)
    gate.wait_for()
    runner.submit(gate.hold)
    with pytest.raises(QueueFull):
        runner.submit(gate.hold)
    record = log.take()[0]
    assert record.getMessage() == "db: queue full: 1 task refused in the last minute"
