"""The recipes for interrupting a running task: what a driver does ends, its resource is usable."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tasker import Runner, TaskTimeout, current_context
from tests.integration import requirements
from tests.native.support import LONG_TIMEOUT, Runners, eventually

if TYPE_CHECKING:
    from tests.integration.postgresql import Server

LIMIT = 0.3
LONG = "with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n"


def start(runners: Runners, **fields: Any) -> Runner[Any]:
    """Starts a runner of one worker whose resources are a driver's."""
    return runners.keep(Runner(runners.config(**{"on_destroy": None, "logger": None, **fields})))


def interrupted(runner: Runner[Any], task: Callable[[Any], object]) -> list[BaseException]:
    """Has a task without end interrupted by its time limit; its worker is free at once then.

    Returns:
        What the driver raised, if anything.
    """
    raised: list[BaseException] = []

    def noted(resource: Any) -> None:
        try:
            task(resource)
        except Exception as error:
            raised.append(error)
            raise

    begin = time.monotonic()
    with pytest.raises(TaskTimeout):
        runner.options(timeout=LIMIT).queue_task(noted)
    runner.queue_task(lambda _: None)
    assert time.monotonic() - begin < LONG_TIMEOUT
    return raised


def test_sqlite3(runners: Runners) -> None:
    runner = start(
        runners,
        on_create=lambda: sqlite3.connect(":memory:"),
        on_destroy=sqlite3.Connection.close,
        on_cancel=sqlite3.Connection.interrupt,
    )
    [error] = interrupted(runner, lambda db: db.execute(LONG).fetchone())
    assert isinstance(error, sqlite3.OperationalError)
    assert runner.queue_task(lambda db: db.execute("select 1").fetchone()) == (1,)


def test_apsw(runners: Runners) -> None:
    apsw: Any = requirements.library("apsw")
    runner = start(
        runners,
        on_create=lambda: apsw.Connection(":memory:"),
        on_destroy=apsw.Connection.close,
        on_cancel=apsw.Connection.interrupt,
    )
    [error] = interrupted(runner, lambda db: db.execute(LONG).fetchall())
    assert isinstance(error, apsw.InterruptError)
    assert runner.queue_task(lambda db: db.execute("select 1").fetchall()) == [(1,)]


def test_duckdb(runners: Runners) -> None:
    duckdb: Any = requirements.library("duckdb")
    runner = start(
        runners,
        on_create=lambda: duckdb.connect(":memory:"),
        on_destroy=duckdb.DuckDBPyConnection.close,
        on_cancel=duckdb.DuckDBPyConnection.interrupt,
    )
    query = "select sum(sin(a.range) * b.range) from range(10000000) a, range(1000000) b"
    [error] = interrupted(runner, lambda db: db.execute(query).fetchall())
    assert isinstance(error, duckdb.InterruptException)
    assert runner.queue_task(lambda db: db.execute("select 1").fetchall()) == [(1,)]


def test_psycopg(runners: Runners, request: pytest.FixtureRequest) -> None:
    if reason := requirements.missing():
        pytest.skip(reason)
    import psycopg

    server: Server = request.getfixturevalue("server")
    if not server.is_running:
        server.start()
    runner = start(
        runners,
        on_create=server.connect_for_transactions,
        on_destroy=psycopg.Connection.close,
        on_cancel=psycopg.Connection.cancel_safe,
        reset=psycopg.Connection.rollback,
    )
    pid = runner.queue_task(lambda db: db.info.backend_pid)
    [error] = interrupted(runner, lambda db: db.execute("select pg_sleep(60)"))
    assert isinstance(error, psycopg.errors.QueryCanceled)
    # The very connection, and no other: it is as good as before.
    assert runner.queue_task(lambda db: db.execute("select pg_backend_pid()").fetchone()) == (pid,)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[dict[str, Any]]:
    """A MariaDB server of the tests' own: how to connect with it."""
    programs = [shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") for name in PROGRAMS]
    requirements.library("pymysql")
    install, daemon = programs
    if install is None or daemon is None:
        pytest.skip("no MariaDB (Debian package mariadb-server)")
    with tempfile.TemporaryDirectory(prefix="tasker-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        options = (
            [f"--datadir={home}/data", "--user=mysql"]
            if os.geteuid() == 0
            else [f"--datadir={home}/data"]
        )
        if os.geteuid() == 0:
            shutil.chown(home, "mysql")
        subprocess.run(
            [install, "--no-defaults", *options, "--auth-root-authentication-method=normal"],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=120,
        )
        socket = f"{home}/socket"
        server = subprocess.Popen(
            [daemon, "--no-defaults", *options, f"--socket={socket}", "--skip-networking"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # It is there once the server listens.
        eventually(Path(socket).exists)
        yield {"unix_socket": socket, "user": "root", "connect_timeout": 5}
        server.terminate()
        server.wait(LONG_TIMEOUT)


PROGRAMS = ("mariadb-install-db", "mariadbd")


def test_pymysql(runners: Runners, mariadb: dict[str, Any]) -> None:
    pymysql: Any = requirements.library("pymysql")

    def kill_query(connection: Any) -> None:
        other = pymysql.connect(**mariadb)
        with other, other.cursor() as cursor:
            cursor.execute(f"kill query {connection.thread_id()}")

    def query(connection: Any, text: str) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(text)
            return cursor.fetchone()

    runner = start(
        runners,
        on_create=lambda: pymysql.connect(**mariadb),
        on_destroy=pymysql.connections.Connection.close,
        on_cancel=kill_query,
        reset=pymysql.connections.Connection.rollback,
    )
    [number] = runner.queue_task(query, "select connection_id()")
    [error] = interrupted(runner, lambda connection: query(connection, "select sleep(60)"))
    assert isinstance(error, pymysql.OperationalError)
    assert error.args[0] == 1317
    assert runner.queue_task(query, "select connection_id()") == (number,)


def test_z3(runners: Runners) -> None:
    z3: Any = requirements.library("z3")

    def pigeons() -> Any:
        """Makes a problem that is far too hard, in a context of its own."""
        context, holes = z3.Context(), 13
        solver = z3.Solver(ctx=context)
        at = [[z3.Bool(f"{p} {h}", context) for h in range(holes)] for p in range(holes + 1)]
        for one in at:
            solver.add(z3.Or(one))
        for hole in zip(*at, strict=True):
            for index, one in enumerate(hole):
                solver.add([z3.Not(z3.And(one, other)) for other in hole[:index]])
        return solver

    answers: list[str] = []
    # It is forgotten if it comes between two calls of z3, so the task is one call.
    runner = start(runners, on_create=pigeons, on_cancel=lambda solver: solver.ctx.interrupt())
    assert interrupted(runner, lambda solver: answers.append(str(solver.check()))) == []
    assert answers == ["unknown"]
    runner.queue_task(lambda solver: solver.reset())
    assert str(runner.queue_task(lambda solver: solver.check())) == "sat"


def test_onnxruntime(runners: Runners) -> None:
    onnxruntime: Any = requirements.library("onnxruntime")
    onnx: Any = requirements.library("onnx")
    numpy: Any = requirements.library("numpy")
    helper, kinds = onnx.helper, onnx.TensorProto

    def count() -> Any:
        """Makes a model that counts up to its input, one by one."""
        value = helper.make_tensor_value_info
        body = helper.make_graph(
            [
                helper.make_node("Identity", ["go"], ["go_on"]),
                helper.make_node("Add", ["sum", "one"], ["more"]),
            ],
            "body",
            [
                value("i", kinds.INT64, []),
                value("go", kinds.BOOL, []),
                value("sum", kinds.FLOAT, [1]),
            ],
            [value("go_on", kinds.BOOL, []), value("more", kinds.FLOAT, [1])],
            [helper.make_tensor("one", kinds.FLOAT, [1], [1.0])],
        )
        loop = helper.make_node("Loop", ["most", "always", "zero"], ["total"], body=body)
        graph = helper.make_graph(
            [loop],
            "count",
            [value("most", kinds.INT64, [])],
            [value("total", kinds.FLOAT, [1])],
            [
                helper.make_tensor("always", kinds.BOOL, [], [True]),
                helper.make_tensor("zero", kinds.FLOAT, [1], [0.0]),
            ],
        )
        opset = [helper.make_opsetid("", 13)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)
        return onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )

    def run(session: Any, most: int) -> float:
        options = onnxruntime.RunOptions()

        def terminate() -> None:
            options.terminate = True

        with current_context().on_cancel(terminate):
            [total] = session.run(None, {"most": numpy.array(most, numpy.int64)}, options)
        return float(total[0])

    runner = start(runners, on_create=count)
    assert len(interrupted(runner, lambda session: run(session, 2**62))) == 1
    assert runner.queue_task(run, 5) == 5.0
