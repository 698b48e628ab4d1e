"""The documented rules tell connections that PostgreSQL has ended from those that serve on.

Each error is provoked on a real server; the rules are taken from the page as they stand there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.requirements import missing

if reason := missing():
    pytest.skip(reason, allow_module_level=True)

import psycopg

from tasker import Runner, current_context
from tests.integration.postgresql import Connection, Mode, Server
from tests.native.support import LONG_TIMEOUT, Gate, Runners, eventually

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "health-checks-and-retries.md"
RULES: dict[str, Any] = {}
exec(PAGE.read_text("utf-8").split("```python no-run\n")[1].split("```")[0], RULES)  # noqa: S102 - our own page

Task = Callable[[Connection, Server], object]


def statement_timeout(db: Connection, _server: Server) -> None:
    db.execute("set statement_timeout = '20ms'")
    db.execute("select pg_sleep(60)")


def lock_timeout(db: Connection, server: Server) -> None:
    with server.connect_for_transactions() as other:
        other.execute("lock table entries")
        db.execute("set lock_timeout = '20ms'")
        db.execute("select * from entries")


def lock_not_waited_for(db: Connection, server: Server) -> None:
    with server.connect_for_transactions() as other:
        other.execute("lock table entries")
        db.execute("lock table entries nowait")


def deadlock(db: Connection, server: Server) -> None:
    def cross() -> None:
        other.execute("update entries set key = -key where key = 1")

    with server.connect_for_transactions() as other:
        # The server ends the one that looks first; let that be the task.
        other.execute("set deadlock_timeout = '60s'")
        db.execute("set deadlock_timeout = '20ms'")
        db.execute("update entries set key = -key where key = 1")
        other.execute("update entries set key = -key where key = 2")
        waits = threading.Thread(target=cross)
        waits.start()
        try:
            eventually(lambda: server.ask("select 1 from pg_locks where not granted"))
            db.execute("update entries set key = -key where key = 2")
        finally:
            db.rollback()
            waits.join(LONG_TIMEOUT)
            other.rollback()


def serialisation_failure(db: Connection, server: Server) -> None:
    db.execute("set transaction isolation level serializable")
    db.execute("select * from entries")
    server.ask("update entries set key = -key")
    db.execute("update entries set key = -key")


def failed_transaction(db: Connection, _server: Server) -> None:
    with pytest.raises(psycopg.errors.SyntaxError):
        db.execute("selct 1")
    db.execute("select 1")


def cancelled_by_hand(db: Connection, server: Server) -> None:
    pid = db.info.backend_pid
    cancel = threading.Thread(
        target=lambda: eventually(
            lambda: server.ask(
                "select pg_cancel_backend(pid) from pg_stat_activity"
                f" where pid = {pid} and wait_event = 'PgSleep'"
            )
        )
    )
    cancel.start()
    try:
        db.execute("select pg_sleep(60)")
    finally:
        cancel.join(LONG_TIMEOUT)


def wrong_parameters(db: Connection, _server: Server) -> None:
    db.execute("select %s", [1, 2])


def closed_cursor(db: Connection, _server: Server) -> None:
    cursor = db.cursor()
    cursor.close()
    cursor.execute("select 1")


def fault_of_the_task(_db: Connection, _server: Server) -> None:
    raise LookupError


HEALTHY: list[Task] = [
    statement_timeout,
    lock_timeout,
    lock_not_waited_for,
    deadlock,
    serialisation_failure,
    failed_transaction,
    cancelled_by_hand,
    wrong_parameters,
    closed_cursor,
    fault_of_the_task,
]


def is_gone(db: Connection, server: Server) -> bool:
    return not server.ask(f"select 1 from pg_stat_activity where pid = {db.info.backend_pid}")


def idle_in_transaction(db: Connection, server: Server) -> None:
    db.execute("set idle_in_transaction_session_timeout = '20ms'")
    eventually(lambda: is_gone(db, server))
    db.execute("select 1")


def idle_session(db: Connection, server: Server) -> None:
    db.execute("set idle_session_timeout = '20ms'")
    db.commit()
    eventually(lambda: is_gone(db, server))
    db.execute("select 1")


def terminated_while_idle(db: Connection, server: Server) -> None:
    server.terminate_backends()
    eventually(lambda: is_gone(db, server))
    db.execute("select 1")


def terminated_while_busy(db: Connection, _server: Server) -> None:
    db.execute("select pg_terminate_backend(pg_backend_pid())")


def used_after_it_failed(db: Connection, server: Server) -> None:
    with pytest.raises(psycopg.Error):
        terminated_while_busy(db, server)
    db.execute("select 1")


def closed_by_the_task(db: Connection, _server: Server) -> None:
    with db:
        pass
    db.execute("select 1")


BROKEN: list[Task] = [
    idle_in_transaction,
    idle_session,
    terminated_while_idle,
    terminated_while_busy,
    used_after_it_failed,
    closed_by_the_task,
]


@pytest.fixture
def database(server: Server) -> Iterator[Server]:
    """The server, running, with two rows; the test has to leave no connection behind."""
    if not server.is_running:
        server.start()
    server.ask("drop table if exists entries")
    server.ask("create table entries (key integer)")
    server.ask("insert into entries values (1), (2)")
    yield server
    if not server.is_running:
        server.start()
    eventually(lambda: not server.backends())


class Trouble:
    """A task that meets an error at its first attempt."""

    def __init__(self, server: Server, task: Task) -> None:
        self.attempts: list[int] = []
        self._server = server
        self._task = task

    def __call__(self, db: Connection) -> None:
        self.attempts.append(db.info.backend_pid)
        if current_context().attempt == 1:
            self._task(db, self._server)


def connections(runners: Runners, server: Server, **judge: Any) -> Runner[Connection]:
    fields = {
        "on_create": server.connect_for_transactions,
        "on_destroy": psycopg.Connection.close,
        "reset": psycopg.Connection.rollback,
    }
    return runners.start(**{**fields, **judge})  # type: ignore[return-value]


JUDGES: dict[str, dict[str, Any]] = {
    "by the connection": {"is_broken": RULES["is_broken"]},
    "by SQLSTATE": {"is_broken": lambda _db, error: RULES["says_gone"](error)},
}


@pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES)
@pytest.mark.parametrize("task", HEALTHY, ids=lambda task: task.__name__)
def test_an_error_on_a_healthy_connection_repeats_nothing(
    database: Server, runners: Runners, judge: dict[str, Any], task: Task
) -> None:
    runner = connections(runners, database, **judge)
    trouble = Trouble(database, task)
    error = runner.submit(trouble).exception(LONG_TIMEOUT)
    assert isinstance(error, psycopg.Error | LookupError)
    assert runner.queue_task(lambda db: db.info.backend_pid) == trouble.attempts[0]
    assert len(trouble.attempts) == 1


@pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES)
@pytest.mark.parametrize("task", BROKEN, ids=lambda task: task.__name__)
def test_an_error_on_a_dead_connection_is_repeated_on_another(
    database: Server, runners: Runners, judge: dict[str, Any], task: Task
) -> None:
    runner = connections(runners, database, **judge)
    trouble = Trouble(database, task)
    runner.submit(trouble).result(LONG_TIMEOUT)
    first, second = trouble.attempts
    assert first != second
    assert runner.queue_task(lambda db: db.info.backend_pid) == second


@pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES)
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_of_the_server_costs_a_task_one_attempt(
    database: Server, runners: Runners, judge: dict[str, Any], mode: Mode
) -> None:
    gate = Gate()
    attempts: list[int] = []

    def ask(db: Connection) -> None:
        attempts.append(db.info.backend_pid)
        gate.hold()
        db.execute("select 1")

    runner = connections(runners, database, **judge)
    future = runner.submit(ask)
    gate.wait_for()
    # Here and not in a task: the server ends with the thread that started it.
    database.restart(mode)
    gate.open()
    future.result(LONG_TIMEOUT)
    first, second = attempts
    assert first != second


def test_a_transaction_block_leaves_the_connection_open(database: Server, runners: Runners) -> None:
    def fail(db: Connection) -> None:
        with db.transaction():
            raise LookupError

    runner = connections(runners, database, **JUDGES["by the connection"])
    before = runner.queue_task(lambda db: db.info.backend_pid)
    with pytest.raises(LookupError):
        runner.queue_task(fail)
    assert runner.queue_task(lambda db: db.info.backend_pid) == before
