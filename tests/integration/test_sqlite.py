"""SQLite as it comes: a connection refuses every thread but the one that made it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tasker import Config, Runner
from tests.native.support import LONG_TIMEOUT, Call, Runners

WORKERS = 4


class File:
    """A database file, and runners on it."""

    def __init__(self, path: Path, runners: Runners) -> None:
        self.path = path
        self._runners = runners
        with closing(self.connect()) as db:
            db.execute("create table entries (key integer primary key, thread integer)")

    def connect(self) -> sqlite3.Connection:
        # The time that a writer waits for the others: SQLite's `busy_timeout`.
        return sqlite3.connect(self.path, timeout=LONG_TIMEOUT)

    def start(self, **fields: Any) -> Runner[sqlite3.Connection]:
        fields = {
            "on_create": self.connect,
            "on_destroy": sqlite3.Connection.close,
            "worker_count": WORKERS,
            "check_health": is_healthy,
            **fields,
        }
        return self._runners.keep(Runner(Config(**fields)))

    def entries(self) -> list[int]:
        with closing(self.connect()) as db:
            return [key for (key,) in db.execute("select key from entries order by key")]


@pytest.fixture
def file(tmp_path: Path, runners: Runners) -> File:
    return File(tmp_path / "app.db", runners)


def is_healthy(error: BaseException) -> bool:
    # Of a closed connection; an OperationalError is the statement's fault.
    return not isinstance(error, sqlite3.ProgrammingError)


def enter(db: sqlite3.Connection, key: int) -> int:
    """A task: writes a row, in a transaction. Returns its thread."""
    with db:
        db.execute("insert into entries values (?, ?)", (key, threading.get_ident()))
    return threading.get_ident()


def count(db: sqlite3.Connection) -> int:
    (rows,) = db.execute("select count(*) from entries").fetchone()
    assert isinstance(rows, int)
    return rows


def test_the_thread_check_is_on(file: File) -> None:
    runner = file.start()
    leaked = runner.queue_task(lambda db: db)
    with pytest.raises(sqlite3.ProgrammingError, match="created in a thread"):
        count(leaked)


def test_writers_of_one_file_take_turns(file: File) -> None:
    runner = file.start()
    futures = [runner.submit(enter, key) for key in range(200)]
    threads = {future.result(LONG_TIMEOUT) for future in futures}
    assert threading.get_ident() not in threads
    assert file.entries() == list(range(200))
    assert runner.metrics().total_tasks_retried == 0


def test_queued_and_immediate_writers_mix(file: File) -> None:
    runner = file.start(worker_count=2, resource_pool_size=2)
    calls = [Call(runner.run_task, enter, key) for key in range(20)]
    futures = [runner.submit(enter, key) for key in range(20, 60)]
    threads = {call.result() for call in calls} | {
        future.result(LONG_TIMEOUT) for future in futures
    }
    assert threading.get_ident() not in threads
    assert file.entries() == list(range(60))


@pytest.mark.parametrize("verb", [Runner.queue_task, Runner.run_task])
def test_a_closed_connection_is_replaced(file: File, verb: Callable[..., Any]) -> None:
    runner = file.start(worker_count=1, resource_pool_size=1)
    verb(runner, sqlite3.Connection.close)
    verb(runner, enter, 1)
    assert file.entries() == [1]
    assert runner.metrics().total_tasks_retried == 1


def test_a_once_task_reports_the_closed_connection(file: File) -> None:
    runner = file.start(worker_count=1)
    runner.queue_task(sqlite3.Connection.close)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        runner.queue_task_once(enter, 1)
    runner.queue_task_once(enter, 2)
    assert file.entries() == [2]


def test_a_wrong_statement_costs_no_connection(file: File) -> None:
    runner = file.start(worker_count=1)
    before = runner.queue_task(id)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        runner.queue_task(lambda db: db.execute("select * from nowhere"))
    assert runner.queue_task(id) == before


def test_reset_ends_the_transaction_that_a_task_left_open(file: File) -> None:
    runner = file.start(worker_count=1, reset=sqlite3.Connection.rollback)
    runner.queue_task(lambda db: db.execute("insert into entries values (1, 1)"))
    assert not runner.queue_task(lambda db: db.in_transaction)
    assert file.entries() == []


def test_a_context_manager_opens_and_closes_each_connection(file: File, runners: Runners) -> None:
    opened: list[int] = []
    closed: list[int] = []

    class Watched(sqlite3.Connection):
        def close(self) -> None:
            super().close()
            closed.append(id(self))

    def connect() -> closing[Watched]:
        db = sqlite3.connect(file.path, factory=Watched)
        opened.append(id(db))
        return closing(db)

    config = Config.from_context_manager(
        connect, worker_count=WORKERS, resource_pool_size=1, check_health=is_healthy
    )
    runner = runners.keep(Runner(config))
    runner.queue_task(enter, 1)
    runner.run_task(enter, 2)
    # Behind the back of the context manager, which leaves all the same.
    runner.queue_task(sqlite3.Connection.close)
    assert list(runner.map(enter, range(3, 40)))
    runner.stop(LONG_TIMEOUT)
    assert len(opened) >= WORKERS + 1
    assert sorted(closed) == sorted(opened)


def test_a_caller_may_use_a_connection_that_may_change_threads(file: File) -> None:
    runner = file.start(
        on_create=lambda: sqlite3.connect(file.path, check_same_thread=False),
        thread_bound=False,
    )
    assert runner.run_task(enter, 1) == threading.get_ident()
    assert runner.run_task(count) == 1
