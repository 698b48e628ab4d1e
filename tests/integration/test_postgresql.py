"""Nothing is lost when a real server cuts connections, restarts, or stays away.

The resource is a connection of psycopg. A task that may be retried writes its row so that twice is
as good as once; a once-task just writes it, and a second row would show.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.requirements import missing

if reason := missing():
    pytest.skip(reason, allow_module_level=True)

import psycopg
from psycopg.pq import TransactionStatus

from tasker import (
    Config,
    Future,
    ResourceCreationError,
    Runner,
    StopTimeout,
    TaskCancelled,
    TaskTimeout,
    current_context,
)
from tests.integration.postgresql import Connection, Mode, Server
from tests.lifecycle.child import say
from tests.lifecycle.support import run
from tests.native.support import LONG_TIMEOUT, Call, LogCapture, Runners, eventually, worker_threads

WORKERS = 4
PROMPT = 5.0
"""Seconds, on a busy machine, for what has nothing to wait for."""
RECOVERY = 2.0
"""Seconds from the return of the server to the first task that succeeds."""


def is_broken(db: Connection, _error: BaseException) -> bool:
    return db.closed or db.broken


class Pool:
    """Starts the runners of one test on the server."""

    def __init__(self, server: Server, runners: Runners) -> None:
        self.server = server
        self.attempts: list[float] = []
        """When connections were asked for."""
        self._runners = runners

    def start(self, **fields: Any) -> Runner[Connection]:
        """Starts a runner with `WORKERS` workers, or as *fields* of the config say."""
        return self._runners.keep(Runner(self.config(**fields)))

    def config(self, **fields: Any) -> Config[Connection]:
        """A config with connections that are replaced when they fail."""
        fields = {
            "on_create": self.connect,
            "on_destroy": psycopg.Connection.close,
            "worker_count": WORKERS,
            "is_broken": is_broken,
            **fields,
        }
        return Config(**fields)

    def connect(self) -> Connection:
        self.attempts.append(time.monotonic())
        return self.server.connect()

    def is_whole(self) -> bool:
        """Whether `WORKERS` connections are there."""
        return len(self.server.backends()) == WORKERS


@pytest.fixture
def database(server: Server) -> Iterator[Server]:
    """The server, running, with empty tables; the test has to leave no connection behind."""
    if not server.is_running:
        server.start()
    server.ask("drop table if exists entries, debits")
    server.ask("create table entries (key integer primary key)")
    server.ask("create table debits (key integer)")
    yield server
    if server.is_running:
        eventually(lambda: not server.backends())


@pytest.fixture
def pool(database: Server, runners: Runners) -> Pool:
    return Pool(database, runners)


def enter(db: Connection, key: int, pause: float = 0.0) -> float:
    """An ordinary task; returns when it was done."""
    statement = "insert into entries select %s from pg_sleep(%s) on conflict do nothing"
    db.execute(statement, [key, pause])
    return time.monotonic()


def entries(server: Server) -> list[int]:
    return [key for (key,) in server.ask("select key from entries order by key")]


class Debits:
    """Once-tasks, and what became of them."""

    def __init__(self) -> None:
        self._entered: list[int] = []

    def debit(self, db: Connection, key: int, pause: float = 0.0) -> None:
        self._entered.append(key)
        db.execute("insert into debits select %s from pg_sleep(%s)", [key, pause])

    def check(self, server: Server, futures: list[Future[None]]) -> int:
        """Holds outcomes, calls and rows against each other; returns how many tasks failed."""
        errors = [future.exception(LONG_TIMEOUT) for future in futures]
        assert sorted(self._entered) == list(range(len(futures)))
        rows = Counter(key for (key,) in server.ask("select key from debits"))
        for key, error in enumerate(errors):
            if error is None:
                assert rows[key] == 1, f"{key} succeeded"
            else:
                assert isinstance(error, psycopg.OperationalError)
                assert rows[key] <= 1, f"{key} failed"
        return sum(error is not None for error in errors)


def backend(db: Connection) -> int:
    """A task: asks for the process number of the server's end."""
    row = db.execute("select pg_backend_pid()").fetchone()
    assert row is not None
    return int(row[0])


def backend_after_a_cut(db: Connection) -> int:
    """A task that has its connection cut while it uses it, but for retries."""
    if current_context().attempt == 1:
        db.execute("select pg_terminate_backend(pg_backend_pid())")
    return backend(db)


def take_outages(log: LogCapture) -> list[str]:
    """Takes what was logged about connections that cannot be made; nothing else may be there."""
    texts = [record.getMessage() for record in log.rest()]
    assert all(re.match(r"tasker-\d+: resources can", text) for text in texts), texts
    return texts


# Cut connections.


def test_cut_connections_cost_no_task(pool: Pool) -> None:
    runner = pool.start()
    futures = [runner.submit(enter, key, 0.01) for key in range(200)]
    for key in (30, 80, 130):
        futures[key].result(LONG_TIMEOUT)
        pool.server.terminate_backends()
        assert runner.stats().base_workers == WORKERS
    for future in futures:
        future.result(LONG_TIMEOUT)
    assert entries(pool.server) == list(range(200))
    assert runner.metrics().total_tasks_retried >= WORKERS
    assert runner.stats().base_workers == WORKERS
    eventually(pool.is_whole)


def test_once_tasks_report_what_cut_them_off(pool: Pool) -> None:
    runner, debits = pool.start(), Debits()
    futures = [runner.options(once=True).submit(debits.debit, key, 0.01) for key in range(200)]
    for key in (30, 80, 130):
        futures[key].exception(LONG_TIMEOUT)
        pool.server.terminate_backends()
    assert debits.check(pool.server, futures) >= WORKERS
    assert runner.metrics().total_tasks_retried == 0
    assert runner.stats().base_workers == WORKERS
    eventually(pool.is_whole)


@pytest.mark.parametrize("thread_bound", [True, False])
def test_run_task_gets_over_a_cut_connection(pool: Pool, thread_bound: bool) -> None:
    runner = pool.start(worker_count=1, resource_pool_size=1, thread_bound=thread_bound)
    is_here = runner.run_task(lambda _: threading.get_ident()) == threading.get_ident()
    assert is_here != thread_bound
    before = pool.server.backends()
    pool.server.terminate_backends()
    while_idle = runner.run_task(backend)
    while_busy = runner.run_task(backend_after_a_cut)
    assert len(before | {while_idle, while_busy}) == len(before) + 2
    with pytest.raises(psycopg.OperationalError):
        runner.options(once=True).run_task(backend_after_a_cut)
    assert runner.run_task(backend) not in before
    eventually(lambda: runner.stats().available_resources == 1)


@pytest.mark.parametrize("thread_bound", [True, False])
def test_run_task_from_many_threads_gets_over_cut_connections(
    pool: Pool, thread_bound: bool
) -> None:
    runner = pool.start(worker_count=1, resource_pool_size=2, thread_bound=thread_bound)
    calls = [Call(runner.run_task, enter, key, 0.02) for key in range(20)]
    eventually(lambda: len(entries(pool.server)) >= 4)
    pool.server.terminate_backends()
    for call in calls:
        call.result()
    assert entries(pool.server) == list(range(20))
    assert runner.metrics().total_tasks_retried >= 1


# Restarts and outages.


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_in_the_middle_of_work(
    pool: Pool, log: LogCapture, note: Callable[[str], None], mode: Mode
) -> None:
    runner, debits = pool.start(), Debits()
    ordinary: list[Future[float]] = []
    once: list[Future[None]] = []
    for key in range(300):
        ordinary.append(runner.submit(enter, key, 0.005))
        once.append(runner.options(once=True).submit(debits.debit, key, 0.005))
    ordinary[100].result(LONG_TIMEOUT)
    pool.server.stop(mode)
    gone_at = time.monotonic()
    pool.server.start()
    done = [future.result(LONG_TIMEOUT) for future in ordinary]
    failed = debits.check(pool.server, once)
    assert entries(pool.server) == list(range(300))
    assert runner.metrics().total_tasks_failed == failed
    assert runner.stats().base_workers == WORKERS
    eventually(pool.is_whole)
    recovery = recovered(done, gone_at, pool.server)
    note(f"first success {recovery:.2f} s after the server was back, {failed} of 600 tasks failed")
    assert recovery < RECOVERY
    take_outages(log)


def recovered(done: list[float], gone_at: float, server: Server) -> float:
    """Seconds from the return of the server to the first task that succeeded."""
    # The server may have served one before it was seen to be back.
    return max(0.0, min(end for end in done if end > gone_at) - server.ready_at)


def test_an_idle_pool_gets_over_a_restart(pool: Pool, log: LogCapture) -> None:
    runner = pool.start(worker_count=8)
    for _ in range(3):
        before = pool.server.backends()
        pool.server.restart()
        assert runner.queue_task(backend) not in before
    assert runner.metrics().total_tasks_failed == 0
    # The task meets one of the dead connections, whichever, and its retry none.
    assert runner.metrics().total_tasks_retried == 3
    take_outages(log)


@pytest.mark.parametrize("seconds", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_tasks_wait_while_the_server_is_down(
    pool: Pool,
    log: LogCapture,
    note: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
    seconds: float,
) -> None:
    caplog.set_level(logging.INFO, logger="tasker")
    runner = pool.start()
    pool.server.stop()
    gone_at = time.monotonic()
    waiting = [runner.submit(enter, key) for key in range(100)]
    began = log.take()
    impatient = runner.options(timeout=0.1)
    while time.monotonic() < gone_at + seconds:
        error = impatient.submit(backend).exception(LONG_TIMEOUT)
        assert isinstance(error, TaskTimeout)
        assert isinstance(error.__cause__, psycopg.OperationalError)
        assert runner.stats().base_workers == WORKERS
        assert runner.stats().queued_tasks == len(waiting)
    attempts = sum(when > gone_at for when in pool.attempts)
    pool.server.start()
    done = [future.result(LONG_TIMEOUT) for future in waiting]
    assert entries(pool.server) == list(range(100))
    eventually(pool.is_whole)
    recovery = recovered(done, gone_at, pool.server)
    note(
        f"{attempts} attempts to connect, first success {recovery:.2f} s after the server was back"
    )
    # Growing pauses: each worker tries at once, then all together less and less often.
    assert attempts < 10 + 2.5 * seconds
    # The longest pause may have begun just before.
    assert recovery < RECOVERY + 0.5
    over = log.take()
    levels = [record.levelno for record in [*began, *over]]
    assert levels == [logging.WARNING, logging.INFO]
    assert began[0].exc_info
    assert isinstance(began[0].exc_info[1], psycopg.OperationalError)


def test_a_start_without_the_server_fails_with_its_error(pool: Pool) -> None:
    pool.server.stop()
    with pytest.raises(ResourceCreationError) as caught:
        pool.start()
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)


def test_a_start_does_not_wait_for_a_server_that_hangs(pool: Pool) -> None:
    with pool.server.accepting_nobody():
        began = time.monotonic()
        with pytest.raises(ResourceCreationError, match="not all created"):
            Runner(pool.config(), timeout=0.2)
        assert time.monotonic() - began < PROMPT
    # What the server accepts now comes too late, and is closed by whoever asked for it.
    eventually(lambda: len(pool.attempts) == WORKERS and not worker_threads())


def test_a_server_that_hangs_holds_up_one_worker_and_no_end(pool: Pool) -> None:
    runner = pool.start()
    with pool.server.accepting_nobody():
        runner.submit(backend_after_a_cut)
        eventually(lambda: len(pool.attempts) > WORKERS)
        for key in range(50):
            runner.queue_task(enter, key)
        assert runner.stats().equipped_workers == WORKERS - 1
        began = time.monotonic()
        with pytest.raises(StopTimeout):
            runner.stop(timeout=0.2)
        assert time.monotonic() - began < PROMPT
    runner.stop(LONG_TIMEOUT)


def test_stop_while_the_server_is_down(pool: Pool, log: LogCapture) -> None:
    runner = pool.start()
    pool.server.stop()
    futures = [runner.submit(backend) for _ in range(20)]
    log.take()
    began = time.monotonic()
    runner.stop(LONG_TIMEOUT)
    assert time.monotonic() - began < PROMPT
    errors = [future.exception(0) for future in futures]
    assert all(isinstance(error, ResourceCreationError) for error in errors)
    causes = [error.__cause__ for error in errors if error]
    assert all(isinstance(cause, psycopg.OperationalError) for cause in causes)
    take_outages(log)


def test_kill_while_the_server_is_down(pool: Pool, log: LogCapture) -> None:
    runner = pool.start()
    pool.server.stop()
    futures = [runner.submit(backend) for _ in range(20)]
    log.take()
    began = time.monotonic()
    dropped = runner.kill(LONG_TIMEOUT)
    assert time.monotonic() - began < PROMPT
    errors = [future.exception(0) for future in futures]
    assert sum(isinstance(error, TaskCancelled) for error in errors) == len(dropped) > 0
    check_tried(errors, TaskCancelled)
    take_outages(log)


def check_tried(errors: list[BaseException | None], untried: type[BaseException]) -> None:
    """Checks that tasks that had run, and waited for a retry, get what they ran into."""
    tried = [error for error in errors if not isinstance(error, untried)]
    assert 0 < len(tried) <= WORKERS
    assert all(isinstance(error, psycopg.OperationalError) for error in tried)


def test_exit_while_the_server_is_down(pool: Pool) -> None:
    def program() -> None:
        import psycopg

        def is_gone() -> bool:
            try:
                psycopg.connect(sys.argv[1]).close()
            except psycopg.OperationalError as error:
                return "refused" in str(error)
            return False

        runner = Runner(
            Config(
                on_create=lambda: psycopg.connect(sys.argv[1], autocommit=True),
                on_destroy=psycopg.Connection.close,
                worker_count=2,
                check_health=lambda error: not isinstance(error, psycopg.OperationalError),
                logger=None,
            )
        )
        runner.queue_task(lambda db: db.execute("insert into entries values (1)"))
        eventually(is_gone)
        for _ in range(5):
            future = runner.submit(lambda db: db.execute("select 1"))
            future.add_done_callback(lambda future: say(future.exception() is not None))
        say(time.monotonic())

    call = Call(run, program, pool.server.conninfo)
    eventually(lambda: entries(pool.server) == [1])
    pool.server.stop()
    at_the_end, *have_failed = call.result()
    assert time.monotonic() - float(at_the_end) < PROMPT
    assert have_failed == ["True"] * 5


@pytest.mark.timeout(120)
def test_ten_thousand_rows(pool: Pool, log: LogCapture, note: Callable[[str], None]) -> None:
    runner, debits = pool.start(), Debits()
    ordinary: list[Future[float]] = []
    once: list[Future[None]] = []
    for key in range(5_000):
        ordinary.append(runner.submit(enter, key))
        once.append(runner.options(once=True).submit(debits.debit, key))
    ordinary[1_000].result(LONG_TIMEOUT)
    pool.server.terminate_backends()
    ordinary[2_000].result(LONG_TIMEOUT)
    pool.server.stop()
    gone_at = time.monotonic()
    pool.server.start()
    ordinary[3_000].result(LONG_TIMEOUT)
    pool.server.terminate_backends()
    done = [future.result(LONG_TIMEOUT) for future in ordinary]
    failed = debits.check(pool.server, once)
    assert entries(pool.server) == list(range(5_000))
    figures = runner.metrics()
    assert figures.total_tasks_failed == failed
    assert figures.total_tasks_completed == 10_000 - failed
    recovery = recovered(done, gone_at, pool.server)
    rows = pool.server.ask("select (select count(*) from entries), (select count(*) from debits)")
    note(
        f"{rows[0][0]} + {rows[0][1]} rows, {figures.total_tasks_retried} retries, "
        f"{failed} once-tasks failed, first success {recovery:.2f} s after the server was back"
    )
    assert recovery < RECOVERY
    take_outages(log)


# Care.


def test_a_failed_transaction_stays_without_reset(pool: Pool) -> None:
    runner = pool.start(worker_count=1, on_create=pool.server.connect_for_transactions)
    assert isinstance(fail_in_transaction(runner), psycopg.errors.UndefinedTable)
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        runner.queue_task(backend)


def test_reset_ends_what_a_task_left_open(pool: Pool) -> None:
    runner = pool.start(
        worker_count=1,
        on_create=pool.server.connect_for_transactions,
        reset=psycopg.Connection.rollback,
    )
    assert isinstance(fail_in_transaction(runner), psycopg.errors.UndefinedTable)
    assert runner.queue_task(transaction_status) is TransactionStatus.IDLE
    runner.queue_task(lambda db: db.execute("insert into entries values (1)"))
    assert runner.queue_task(transaction_status) is TransactionStatus.IDLE
    assert entries(pool.server) == []


def fail_in_transaction(runner: Runner[Connection]) -> BaseException | None:
    return runner.submit(lambda db: db.execute("select * from nowhere")).exception(LONG_TIMEOUT)


def transaction_status(db: Connection) -> TransactionStatus:
    return TransactionStatus(db.info.transaction_status)


def test_a_connection_that_cannot_be_reset_is_replaced(pool: Pool, log: LogCapture) -> None:
    runner = pool.start(
        worker_count=1,
        on_create=pool.server.connect_for_transactions,
        reset=psycopg.Connection.rollback,
    )
    before = runner.queue_task(backend)
    runner.queue_task(psycopg.Connection.close)
    assert runner.queue_task(backend) != before
    assert runner.metrics().total_tasks_retried == 0
    assert [record.exc_info and record.exc_info[0] for record in log.take()] == [
        psycopg.OperationalError
    ]


def answers(db: Connection) -> bool:
    """A `validate`."""
    return db.execute("select 1").fetchone() == (1,)


def test_validated_connections_serve_once_tasks_after_a_restart(
    pool: Pool, log: LogCapture
) -> None:
    runner = pool.start(validate=answers, validate_after_idle=0)
    for _ in range(WORKERS):
        before = pool.server.backends()
        pool.server.restart()
        assert runner.queue_task_once(backend) not in before
    assert runner.metrics().total_tasks_failed == 0
    log.rest()


def test_a_connection_serves_so_many_tasks(pool: Pool) -> None:
    runner = pool.start(worker_count=1, max_tasks_per_resource=5)
    served = Counter(runner.map(lambda db, _: backend(db), range(50)))
    assert set(served.values()) == {5}
    assert runner.metrics().total_tasks_failed == 0


def test_a_connection_gets_no_older(pool: Pool) -> None:
    runner = pool.start(max_resource_age=0.2)
    first = pool.server.backends()
    served: set[int] = set()

    def all_are_new() -> bool:
        served.update(runner.map(lambda db, _: backend(db), range(20)))
        return first.isdisjoint(pool.server.backends())

    eventually(all_are_new)
    assert runner.metrics().total_tasks_failed == 0


@pytest.mark.parametrize("is_busy", [True, False])
def test_renew_renews_every_connection_and_refuses_no_task(pool: Pool, is_busy: bool) -> None:
    counted = threading.Lock()
    alive: list[int] = [0]

    def note_alive(change: int) -> None:
        with counted:
            alive.append(alive[-1] + change)

    def create() -> Connection:
        db = pool.connect()
        note_alive(1)
        return db

    def destroy(db: Connection) -> None:
        note_alive(-1)
        db.close()

    runner = pool.start(on_create=create, on_destroy=destroy)
    before = pool.server.backends()
    counts_before = len(alive)
    over = threading.Event()

    def work() -> int:
        tasks = 0
        while is_busy and not over.is_set():
            runner.queue_task(enter, tasks, 0.002)
            tasks += 1
        return tasks

    callers = [Call(work) for _ in range(2 * WORKERS)]
    runner.renew()
    eventually(lambda: pool.is_whole() and before.isdisjoint(pool.server.backends()))
    over.set()
    tasks = sum(caller.result() for caller in callers)
    assert runner.metrics().total_tasks_completed == tasks
    assert len(pool.attempts) == 2 * WORKERS
    assert WORKERS - 1 <= min(alive[counts_before:]) <= max(alive) <= WORKERS + 1
