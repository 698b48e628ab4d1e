"""Uses every public name as the type checkers must understand it; checked, never run."""

import asyncio
import concurrent.futures
import logging
import queue
import signal
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, TypeVar, assert_type

from opentelemetry.metrics import get_meter_provider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricExporter
from opentelemetry.trace import get_tracer_provider
from prometheus_client import REGISTRY, Metric
from rich.console import Console
from starlette.routing import Mount
from starlette.types import ASGIApp

import tasker
from tasker import (
    Batcher,
    CancelHandle,
    Config,
    ConfigError,
    Context,
    DroppedTask,
    Finding,
    Future,
    Metrics,
    Priority,
    QueueFull,
    ResourceCreationError,
    ResourceLost,
    ResultNotPicklable,
    Results,
    Runner,
    RunnerBroken,
    RunnerExecutor,
    RunnerStopped,
    RunningTask,
    Starting,
    Stats,
    StopTimeout,
    SubmittedTask,
    Submitter,
    TaskCancelled,
    TaskContext,
    TaskerError,
    TaskEvent,
    TaskMetrics,
    TaskNotPicklable,
    TaskRunner,
    TaskTimeout,
    ThreadPoolExecutor,
    Timing,
    WorkerInfo,
    current_context,
    runners,
)
from tasker.dashboard import Serving, asgi_app, serve
from tasker.live import Live
from tasker.opentelemetry import Instrumentation, exporting, instrument
from tasker.prometheus import RUN_BUCKETS, RunnerCollector
from tasker.ray import ActorInfo, RayExecutor, RayRunner, RaySubmitter
from tasker.testing import InlineBatcher, InlineRunner, InlineSubmitter
from tasker.testing.plugin import InlineRunnerFactory

assert_type(tasker.__version__, str)


# --- Config: the resource type is that of on_create ---


class Client:
    def __init__(self) -> None:
        self.open = True

    def get(self, path: str, *, retries: int = 0) -> bytes:
        return f"{path} {retries}".encode()

    def close(self) -> None:
        self.open = False

    @classmethod
    def make(cls) -> "Client":
        return cls()


def tell(event: TaskEvent) -> None:
    kind: Literal[
        "arrived",
        "completed",
        "failed",
        "retried",
        "refused",
        "cancelled",
        "dropped",
        "timed_out",
    ] = event.kind
    print(kind)
    assert_type(event.runner, str)
    assert_type(event.task_id, int)
    assert_type(event.name, str)
    assert_type(event.priority, Priority)
    assert_type(event.attempt, int)
    assert_type(event.worker, str | None)
    assert_type(event.submitted, float)
    assert_type(event.started, float | None)
    assert_type(event.ended, float | None)
    assert_type(event.error, BaseException | None)


def connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:")


assert_type(Config(on_create=connect, worker_count=1), Config[sqlite3.Connection])
assert_type(Config(on_create=Client, worker_count=1), Config[Client])
assert_type(Config[Client](on_create=Client, worker_count=1), Config[Client])
assert_type(Config(on_create=Client.make, worker_count=1), Config[Client])
assert_type(
    Config(
        on_create=lambda: sqlite3.connect("app.db"),
        on_destroy=sqlite3.Connection.close,
        worker_count=4,
    ),
    Config[sqlite3.Connection],
)

config = Config(
    on_create=connect,
    on_destroy=sqlite3.Connection.close,
    worker_count=2,
    context=Context(),
    check_health=lambda error: not isinstance(error, sqlite3.OperationalError),
    max_worker_count=4,
    burst_interval=1,
    max_retries=0,
    resource_pool_size=1,
    logger=logging.getLogger("app"),
    max_queue_size=100,
    when_full="raise",
    task_timeout=2.5,
    validate=None,
    validate_after_idle=30,
    reset=sqlite3.Connection.rollback,
    on_cancel=sqlite3.Connection.interrupt,
    on_event=tell,
    max_tasks_per_resource=None,
    max_resource_age=None,
    idle_timeout=10,
    thread_bound=False,
    copy_contextvars=False,
    name="app",
)
assert_type(config, Config[sqlite3.Connection])


def is_broken(db: sqlite3.Connection, error: BaseException) -> bool:
    return db.in_transaction and isinstance(error, sqlite3.OperationalError)


assert_type(
    Config(on_create=connect, worker_count=1, is_broken=is_broken), Config[sqlite3.Connection]
)
assert_type(
    Config(
        on_create=connect,
        worker_count=1,
        is_broken=lambda db, error: db.in_transaction and isinstance(error, OSError),
    ),
    Config[sqlite3.Connection],
)
assert_type(config.worker_count, int)
assert_type(config.max_worker_count, int | None)
assert_type(config.logger, logging.Logger | None)
assert_type(config.when_full, Literal["block", "raise"])
assert_type(config.on_create(), sqlite3.Connection)
assert_type(replace(config, worker_count=3), Config[sqlite3.Connection])


@contextmanager
def session() -> Iterator[Client]:
    yield Client()


class Database:
    def __enter__(self) -> sqlite3.Connection:
        return connect()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


assert_type(Config.from_context_manager(session, worker_count=1), Config[Client])
assert_type(
    Config.from_context_manager(Database, worker_count=1, max_queue_size=10),
    Config[sqlite3.Connection],
)
assert_type(
    Config.from_context_manager(lambda: closing(Client()), worker_count=1, name="clients"),
    Config[Client],
)


# --- Runner: the result type is that of the task function ---


def count(conn: sqlite3.Connection, table: str, *, limit: int = 0) -> int:
    return len(conn.execute(f"select * from {table} limit {limit}").fetchall())


def nothing(conn: sqlite3.Connection) -> None:
    conn.commit()


T = TypeVar("T")


def first(conn: sqlite3.Connection, item: T) -> T:
    return item


class Job:
    def run(self, conn: sqlite3.Connection, times: int) -> str:
        return str(conn.total_changes * times)


runner = Runner(config, timeout=5)
assert_type(runner, Runner[sqlite3.Connection])
assert_type(Runner(Config(on_create=Client, worker_count=1)), Runner[Client])

with runner as entered:
    assert_type(entered, Runner[sqlite3.Connection])

assert_type(runner.submit(count, "users"), Future[int])
assert_type(runner.submit(count, "users", limit=1), Future[int])
assert_type(runner.submit(count, table="users"), Future[int])
assert_type(runner.submit(nothing), Future[None])
assert_type(runner.submit(first, "item"), Future[str])
assert_type(runner.submit(Job().run, 2), Future[str])
assert_type(runner.submit(lambda conn: conn.total_changes), Future[int])
assert_type(runner.submit(sqlite3.Connection.execute, "select 1"), Future[sqlite3.Cursor])
assert_type(runner.submit(sqlite3.Connection.commit), Future[None])

# What a lambda's parameters are comes from the arguments.
assert_type(runner.submit(lambda conn, number: number + conn.total_changes, 3), Future[int])
assert_type(runner.submit(lambda _, name, times: name * times, "a", 2), Future[str])
assert_type(runner.queue_task(lambda _, number: number / 2, 3), float)
assert_type(runner.run_task(lambda _, name: name.encode(), "a"), bytes)
assert_type(
    runner.submit(lambda conn: (conn.total_changes, count(conn, "a"))), Future[tuple[int, int]]
)

assert_type(runner.queue_task(count, "users"), int)
assert_type(runner.queue_task_with_priority(count, "users"), int)
assert_type(runner.queue_task_once(count, "users"), int)
assert_type(runner.queue_task_with_priority_once(count, "users", limit=1), int)
assert_type(runner.run_task(count, "users"), int)
assert_type(runner.run_task(Job().run, 2), str)
assert_type(runner.run_task(lambda conn: conn.in_transaction), bool)

clients = Runner(Config.from_context_manager(session, worker_count=1))
assert_type(clients.queue_task(Client.get, "/", retries=1), bytes)
assert_type(clients.submit(lambda client: client.get("/")), Future[bytes])

assert_type(runner.config, Config[sqlite3.Connection])
assert_type(runner.name, str)
assert_type(runner.state, Literal["running", "stopping", "killed", "stopped"])
assert_type(runner.stop(), None)
assert_type(runner.stop(timeout=1), None)
assert_type(runner.stop(1.5), None)
assert_type(runner.renew(), Future[int])
assert_type(runner.resize(worker_count=2), None)
assert_type(runner.resize(worker_count=2, max_worker_count=4), None)
assert_type(runner.worker_count, int)
assert_type(runner.max_worker_count, int)
assert_type(runner.cancel_queued(), list[DroppedTask])
assert_type(runner.cancel_queued(reason="not needed any more"), list[DroppedTask])
assert_type(runner.kill(timeout=None), list[DroppedTask])


# --- options ---

urgent = runner.options(priority=Priority.HIGH, once=True, timeout=1, name="urgent")
assert_type(urgent.submit(lambda _, number: number + 1, 3), Future[int])
assert_type(urgent, Submitter[sqlite3.Connection])
assert_type(urgent.submit(count, "users"), Future[int])
assert_type(urgent.queue_task(count, "users"), int)
assert_type(urgent.run_task(Job().run, 2), str)
assert_type(urgent.map(count, ["users"]), Results[int])
assert_type(urgent.runner, Runner[sqlite3.Connection])
assert_type(urgent.config, Config[sqlite3.Connection])
assert_type(runner.options(timeout=None, name=None), Submitter[sqlite3.Connection])


# --- batcher ---


def lengths(conn: sqlite3.Connection, words: list[str]) -> list[int]:
    raise NotImplementedError


def some(conn: sqlite3.Connection, words: list[str]) -> list[int | Exception]:
    raise NotImplementedError


def each(conn: sqlite3.Connection, words: list[str]) -> Iterator[float]:
    raise NotImplementedError


batcher = runner.batcher(lengths, max_size=8)
assert_type(batcher, Batcher[str, int])
assert_type(runner.batcher(some, max_size=8, max_wait=1), Batcher[str, int])
assert_type(runner.batcher(each, max_size=8, split_failed=True), Batcher[str, float])
assert_type(urgent.batcher(lengths, max_size=8, key=lambda word: word[0]), Batcher[str, int])
assert_type(batcher.submit("a"), Future[int])
assert_type(batcher.asubmit("a"), asyncio.Future[int])
assert_type(batcher.queue_task("a"), int)
assert_type(batcher.map(["a"], buffersize=4, ordered=False), Results[int])
assert_type(batcher.amap(["a"]), AsyncGenerator[int, None])
assert_type(batcher.options(priority=Priority.LOW, timeout=1, name="b"), Batcher[str, int])


def tenant_of(tenant: str, *, sql: str = "") -> tuple[str, int]:
    return tenant, len(sql)


assert_type(runner.options(key=tenant_of).submit(count, "users"), Future[int])
assert_type(runner.options(key=lambda tenant, *_: tenant), Submitter[sqlite3.Connection])
assert_type(runner.options(key=None), Submitter[sqlite3.Connection])
assert_type(runner.options(key=tenant_of, serial=True), Submitter[sqlite3.Connection])


# --- submit_many ---
assert_type(runner.submit_many(count, ["users", "orders"]), list[Future[int]])
assert_type(urgent.submit_many(count, (name for name in "ab")), list[Future[int]])

# --- map ---


def copy(conn: sqlite3.Connection, source: str, target: bytes) -> float:
    return conn.total_changes / len(source + target.decode())


def join(conn: sqlite3.Connection, a: str, b: bytes, c: int) -> str:
    return f"{conn}{a}{b!r}{c}"


def total(conn: sqlite3.Connection, *numbers: int) -> int:
    return sum(numbers, conn.total_changes)


assert_type(runner.map(count, ["users", "orders"]), Results[int])
assert_type(runner.map(count, (name for name in "ab"), buffersize=3), Results[int])
assert_type(runner.map(lambda conn, table: conn.execute(table), ["x"]), Results[sqlite3.Cursor])
assert_type(runner.map(count, ["users"], ordered=False), Results[int])
assert_type(runner.map(copy, ["a"], [b"b"]), Results[float])
assert_type(runner.map(join, ["a"], [b"b"], [1]), Results[str])
assert_type(runner.map(total, [1], [2], [3], [4]), Results[int])
assert_type(runner.map(count, ["users"], return_exceptions=False), Results[int])
assert_type(runner.map(count, ["users"], return_exceptions=True), Results[int | Exception])
assert_type(runner.map(count, ["users"], return_exceptions=bool(1)), Results[int | Exception])
assert_type(urgent.map(copy, ["a"], [b"b"], return_exceptions=True), Results[float | Exception])
assert_type(runner.map(join, ["a"], [b"b"], [1], return_exceptions=True), Results[str | Exception])
assert_type(runner.map(total, [1], [2], [3], [4], return_exceptions=True), Results[int | Exception])
assert_type(
    runner.map(lambda conn, table: conn.execute(table), ["x"], return_exceptions=True),
    Results[sqlite3.Cursor | Exception],
)
for outcome in runner.map(count, ["users"], ordered=False, return_exceptions=True):
    if not isinstance(outcome, Exception):
        assert_type(outcome, int)
assert_type(list(runner.map(count, ["users"])), list[int])
with runner.map(count, ["users"]) as results:
    assert_type(results, Results[int])
    assert_type(next(results), int)
    results.close()
for counted in runner.map(count, ["users"]):
    assert_type(counted, int)


# --- Future ---

future = runner.submit(count, "users")
as_standard: concurrent.futures.Future[int] = future
assert_type(future.result(), int)
assert_type(future.result(timeout=1), int)
assert_type(future.exception(), BaseException | None)
assert_type(future.cancel(), bool)
assert_type(future.request_cancel(), bool)
assert_type(future.request_cancel("no longer needed"), bool)
assert_type(future.done(), bool)
assert_type(future.running(), bool)
assert_type(future.cancelled(), bool)


def report(done: Future[int]) -> None:
    assert_type(done.result(), int)


def report_standard(done: concurrent.futures.Future[int]) -> None:
    assert_type(done.result(), int)


future.add_done_callback(report)
future.add_done_callback(report_standard)
assert_type(next(concurrent.futures.as_completed([future])).result(), int)
assert_type(concurrent.futures.wait([future]).done, set[concurrent.futures.Future[int]])


async def awaits() -> None:
    assert_type(await runner.submit(count, "users"), int)
    assert_type(await asyncio.wrap_future(runner.submit(count, "users")), int)
    assert_type(await asyncio.shield(runner.submit(count, "users")), int)
    assert_type(await asyncio.wait_for(runner.submit(count, "users"), 1), int)


# --- asyncio ---


async def tables() -> AsyncIterator[str]:
    yield "users"


async def asynchronous() -> None:
    assert_type(Runner.start(config), Starting[sqlite3.Connection])
    assert_type(await Runner.start(config, timeout=1), Runner[sqlite3.Connection])
    async with Runner.start(config) as started:
        assert_type(started, Runner[sqlite3.Connection])
    async with Runner(config) as entered:
        assert_type(entered, Runner[sqlite3.Connection])
    assert_type(runner.asubmit(count, "users"), asyncio.Future[int])
    assert_type(await runner.asubmit(count, "users", limit=1), int)
    assert_type(await runner.asubmit(Job().run, 2), str)
    assert_type(await runner.asubmit(lambda conn: conn.total_changes), int)
    assert_type(await runner.asubmit(sqlite3.Connection.execute, "select 1"), sqlite3.Cursor)
    assert_type(await urgent.asubmit(count, "users"), int)
    both = await asyncio.gather(runner.asubmit(count, "users"), runner.asubmit(Job().run, 2))
    assert_type(both, tuple[int, str])
    assert_type(await runner.astop(), None)
    assert_type(await runner.astop(timeout=1), None)
    assert_type(await runner.akill(1.5), list[DroppedTask])
    assert_type(runner.amap(count, ["users"]), AsyncGenerator[int, None])
    assert_type(runner.amap(count, tables(), buffersize=3), AsyncGenerator[int, None])
    assert_type(urgent.amap(copy, tables(), [b"b"], ordered=False), AsyncGenerator[float, None])
    assert_type(runner.amap(join, ["a"], [b"b"], [1]), AsyncGenerator[str, None])
    assert_type(runner.amap(total, [1], [2], [3], [4]), AsyncGenerator[int, None])
    assert_type(
        runner.amap(count, tables(), return_exceptions=True), AsyncGenerator[int | Exception, None]
    )
    assert_type(
        urgent.amap(copy, tables(), [b"b"], return_exceptions=bool(1)),
        AsyncGenerator[float | Exception, None],
    )
    async for counted in runner.amap(count, tables()):
        assert_type(counted, int)


own: Future[str] = Future()
own.set_running_or_notify_cancel()
own.set_result("done")
own.set_exception(ValueError())


# --- Executors ---


def run_any(executor: concurrent.futures.Executor) -> concurrent.futures.Future[int]:
    return executor.submit(len, "four")


with ThreadPoolExecutor(
    max_workers=4,
    thread_name_prefix="pool",
    initializer=print,
    initargs=("hello",),
    finalizer=Client().close,
) as pool:
    assert_type(pool, ThreadPoolExecutor)
    as_standard_pool: concurrent.futures.ThreadPoolExecutor = pool
    assert_type(pool.submit(divmod, 7, 2), Future[tuple[int, int]])
    assert_type(pool.map(len, ["a"], timeout=1.5, chunksize=2, buffersize=3), Iterator[int])
    pool.shutdown(wait=False, cancel_futures=True)
    run_any(pool)

view = runner.executor()
assert_type(view, RunnerExecutor)
assert_type(view.submit(len, "four"), Future[int])
assert_type(list(view.map(len, ["a"])), list[int])
view.shutdown()
run_any(view)


async def in_executor() -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(view)
    assert_type(await loop.run_in_executor(pool, len, "four"), int)
    assert_type(await pool.submit(len, "four"), int)


# --- Context ---

context = Context()
assert_type(context.cancelled, bool)
assert_type(context.reason, str | None)
assert_type(context.deadline, float | None)
assert_type(context.remaining(), float | None)
assert_type(context.wait(), bool)
assert_type(context.wait(timeout=0.5), bool)
assert_type(context.check(), None)
assert_type(context.cancel(), None)
assert_type(context.cancel("reason"), None)
child = context.child(timeout=1)
assert_type(child, Context)
Config(on_create=Client, worker_count=1, context=child)
with Context.on_signals(signal.SIGTERM, signal.SIGINT) as listening:
    assert_type(listening, Context)
assert_type(context.on_cancel(print), CancelHandle)
with context.on_cancel(lambda: 5) as handle:
    assert_type(handle, CancelHandle)
assert_type(handle.close(), None)

current = current_context()
assert_type(current, TaskContext)
as_context: Context = current
assert_type(current.attempt, int)
assert_type(current.worker_name, str)
assert_type(current.task_name, str)
assert_type(current.cancelled, bool)
assert_type(current.remaining(), float | None)


# --- Figures ---

finding = runner.diagnose()[0]
assert_type(runner.diagnose(), tuple[Finding, ...])
assert_type(finding.code, str)
assert_type(finding.severity, Literal["info", "warning", "critical"])
assert_type(finding.text, str)
assert_type(finding.since, float)
assert_type(finding.figures, dict[str, float])
worker = runner.workers(stacks=True)[0]
assert_type(runner.workers(), tuple[WorkerInfo, ...])
assert_type(worker.name, str)
assert_type(worker.native_id, int | None)
assert_type(worker.kind, Literal["base", "burst", "reserved", "temporary"])
assert_type(worker.state, Literal["starting", "idle", "busy", "equipping"])
assert_type(worker.task, RunningTask | None)
assert_type(worker.tasks_done, int)
assert_type(worker.busy_seconds, float)
assert_type(worker.busy_share, float)
assert_type(worker.resource_generation, int)
assert_type(worker.resource_age, float | None)
stats = runner.stats()
assert_type(stats, Stats)
assert_type(stats.base_workers, int)
assert_type(stats.active_workers, int)
assert_type(stats.burst_workers, int)
assert_type(stats.starting_workers, int)
assert_type(stats.queued_tasks, int)
assert_type(stats.priority_tasks, int)
assert_type(stats.oldest_wait, float)
assert_type(stats.running_tasks, int)
assert_type(stats.overdue_tasks, int)
assert_type(stats.available_resources, int)
assert_type(stats.busy_share, float)
assert_type(stats.creation_failing_for, float)
metrics = runner.metrics()
assert_type(metrics.wait, Timing)
assert_type(metrics.creation.count, int)
assert_type(metrics.creation.p99, float)
assert_type(metrics.by_task, dict[str, TaskMetrics])
assert_type(metrics.by_task["name"].execution, Timing)
assert_type(metrics.errors, dict[str, int])
assert_type(metrics.replaced, dict[str, int])
assert_type(metrics.total_creations_failed, int)
assert_type(metrics, Metrics)
assert_type(metrics.total_tasks_refused_full, int)
assert_type(metrics.average_execution_time, float)
assert_type(metrics.min_execution_time, float)
assert_type(metrics.max_execution_time, float)
assert_type(metrics.p50_execution_time, float)
assert_type(metrics.p95_execution_time, float)
assert_type(metrics.p99_execution_time, float)
assert_type(metrics.average_wait_time, float)
assert_type(metrics.min_wait_time, float)
assert_type(metrics.max_wait_time, float)
assert_type(metrics.p50_wait_time, float)
assert_type(metrics.p95_wait_time, float)
assert_type(metrics.p99_wait_time, float)
assert_type(metrics.average_attach_time, float)
assert_type(metrics.task_arrival_rate, float)
assert_type(metrics.task_completion_rate, float)
assert_type(metrics.success_rate, float)
assert_type(metrics.failure_rate, float)
assert_type(metrics.total_tasks_arrived, int)
assert_type(metrics.total_tasks_completed, int)
assert_type(metrics.total_tasks_failed, int)
assert_type(metrics.total_tasks_retried, int)
assert_type(metrics.total_tasks_refused, int)
assert_type(metrics.total_tasks_cancelled, int)
assert_type(metrics.total_tasks_dropped, int)
assert_type(metrics.total_tasks_timed_out, int)


# --- Errors: each is also the standard error that callers catch ---

as_tasker: list[type[TaskerError]] = [
    ConfigError,
    QueueFull,
    ResourceCreationError,
    ResourceLost,
    ResultNotPicklable,
    RunnerBroken,
    RunnerStopped,
    StopTimeout,
    TaskCancelled,
    TaskNotPicklable,
    TaskTimeout,
]
as_value: type[ValueError] = ConfigError
as_runtime: list[type[RuntimeError]] = [
    ResourceCreationError,
    ResourceLost,
    RunnerStopped,
    RunnerBroken,
]
as_type: list[type[TypeError]] = [TaskNotPicklable, ResultNotPicklable]
as_full: type[queue.Full] = QueueFull
as_timeout: list[type[TimeoutError]] = [TaskTimeout, StopTimeout]
as_cancelled: type[concurrent.futures.CancelledError] = TaskCancelled
try:
    runner.stop(timeout=1)
except StopTimeout as late:
    assert_type(late.running, tuple[RunningTask, ...])
    assert_type(late.running[0].name, str)
    assert_type(late.running[0].age, float)
    assert_type(late.running[0].worker, str)
    assert_type(late.dropped, list[DroppedTask])

for dropped in runner.kill():
    assert_type(dropped.priority, Priority)
    assert_type(dropped.once, bool)
    assert_type(dropped.timeout, float | None)
    assert_type(dropped.name, str | None)
    assert_type(dropped.args, tuple[Any, ...])
    dropped.fn(*dropped.args, **dropped.kwargs)
    dropped.submit_to(runner).result()


# --- TaskRunner: what a function takes ---


class Pooled(sqlite3.Connection):
    pass


def connect_pooled() -> Pooled:
    return Pooled(":memory:")


def takes(runner: TaskRunner[sqlite3.Connection]) -> int:
    assert_type(runner.submit(count, "users"), Future[int])
    assert_type(runner.queue_task(count, "users", limit=1), int)
    assert_type(runner.run_task(lambda conn: conn.total_changes), int)
    assert_type(runner.submit_many(count, ["users"]), list[Future[int]])
    assert_type(runner.map(count, ["users"]), Results[int])
    assert_type(runner.map(copy, ["a"], [b"b"], ordered=False), Results[float])
    assert_type(runner.map(join, ["a"], [b"b"], [1], buffersize=2), Results[str])
    assert_type(runner.map(total, [1], [2], [3], [4]), Results[int])
    assert_type(runner.map(count, ["users"], return_exceptions=True), Results[int | Exception])
    return runner.queue_task(count, "users")


async def takes_async(runner: TaskRunner[sqlite3.Connection]) -> None:
    assert_type(runner.asubmit(count, "users"), asyncio.Future[int])
    assert_type(runner.amap(count, ["users"]), AsyncGenerator[int, None])
    assert_type(runner.amap(copy, tables(), [b"b"]), AsyncGenerator[float, None])


def infers(runner: TaskRunner[T], fn: Callable[[T], int]) -> T:
    runner.queue_task(fn)
    raise NotImplementedError


inline = InlineRunner(config, manual=True)
takes(runner)
takes(urgent)
takes(inline)
takes(inline.options(name="inline"))
# Covariant: a runner of a class is one of its base class.
takes(Runner(Config(on_create=connect_pooled, worker_count=1)))
takes(InlineRunner.of(Pooled(":memory:")))
assert_type(infers(runner, lambda conn: conn.total_changes), sqlite3.Connection)
assert_type(infers(urgent, lambda conn: conn.total_changes), sqlite3.Connection)
assert_type(infers(inline, lambda conn: conn.total_changes), sqlite3.Connection)


# --- InlineRunner ---

assert_type(InlineRunner(Config(on_create=Client, worker_count=1)), InlineRunner[Client])
assert_type(InlineRunner.of(Client()), InlineRunner[Client])
assert_type(
    InlineRunner.of(Client(), manual=True, worker_count=2, reset=Client.close, task_timeout=1),
    InlineRunner[Client],
)
assert_type(inline.options(priority=Priority.HIGH), InlineSubmitter[sqlite3.Connection])
assert_type(inline.options(key=tenant_of), InlineSubmitter[sqlite3.Connection])
assert_type(inline.options(key=tenant_of, serial=True), InlineSubmitter[sqlite3.Connection])
assert_type(inline.options().runner, InlineRunner[sqlite3.Connection])
assert_type(inline.batcher(lengths, max_size=8), InlineBatcher[str, int])
assert_type(inline.options().batcher(lengths, max_size=8), InlineBatcher[str, int])
assert_type(inline.batcher(some, max_size=8).options(timeout=1).submit("a"), Future[int])
assert_type(inline.submit(count, "users"), Future[int])
assert_type(inline.queue_task(count, "users"), int)
assert_type(inline.queue_task_once(count, "users"), int)
assert_type(inline.queue_task_with_priority(count, "users"), int)
assert_type(inline.queue_task_with_priority_once(count, "users"), int)
assert_type(inline.run_task(lambda conn: conn.in_transaction), bool)
assert_type(inline.submit_many(count, ["users"]), list[Future[int]])
assert_type(inline.map(count, ["users"]), Results[int])
assert_type(inline.resource, sqlite3.Connection)
assert_type(inline.config, Config[sqlite3.Connection])
assert_type(inline.state, Literal["running", "stopping", "killed", "stopped"])
assert_type(inline.run_next(), bool)
assert_type(inline.run_all(), int)
assert_type(inline.fail_next(ConnectionResetError(), times=2), None)
assert_type(inline.submitted, list[SubmittedTask])
assert_type(inline.submitted[0].submit_to(inline), Future[Any])
assert_type(inline.submitted[0].submit_to(runner), Future[Any])
assert_type(inline.stop(), None)
assert_type(inline.kill(), list[DroppedTask])
assert_type(inline.renew(), Future[int])
assert_type(inline.resize(max_worker_count=4), None)
assert_type(inline.worker_count, int)
assert_type(inline.stats(), Stats)
assert_type(inline.metrics(), Metrics)
assert_type(inline.diagnose(), tuple[Finding, ...])
assert_type(inline.workers(stacks=True), tuple[WorkerInfo, ...])
as_submitted: SubmittedTask = inline.kill()[0]
with inline as entered_inline:
    assert_type(entered_inline, InlineRunner[sqlite3.Connection])


async def inline_asynchronous() -> None:
    assert_type(await inline.asubmit(count, "users"), int)
    async with inline as entered:
        assert_type(entered, InlineRunner[sqlite3.Connection])
    await inline.astop()
    assert_type(await inline.akill(), list[DroppedTask])


assert_type(runners(), tuple[Runner[Any], ...])


def makes(inline_runner: InlineRunnerFactory) -> None:
    assert_type(inline_runner(config), InlineRunner[sqlite3.Connection])
    assert_type(inline_runner(config, manual=True), InlineRunner[sqlite3.Connection])
    simple: Callable[[Config[sqlite3.Connection]], InlineRunner[sqlite3.Connection]] = inline_runner
    takes(simple(config))


# --- tasker.prometheus ---

assert_type(RUN_BUCKETS, tuple[float, ...])
RunnerCollector()
collector = RunnerCollector(runner, by_task=50, wait_buckets=[1, 2.5], run_buckets=RUN_BUCKETS)
assert_type(collector.describe(), list[Metric])
assert_type(collector.collect(), Iterator[Metric])
REGISTRY.register(collector)


# --- tasker.live ---

with Live(runner, refresh_per_second=0.5, console=Console()) as live:
    assert_type(live, Live)
Live().start()


# --- tasker.dashboard ---

with serve(runner, port=8100) as page:
    assert_type(page, Serving)
    assert_type(page.url, str)
    assert_type(page.close(), None)
Mount("/tasker", asgi_app(runner, allowed_hosts=["example.org"]))
assert_type(asgi_app(), ASGIApp)


# --- tasker.opentelemetry ---

with instrument() as instrumentation:
    assert_type(instrumentation, Instrumentation)
    assert_type(instrumentation.uninstrument(), None)
instrument(
    runner,
    meter_provider=get_meter_provider(),
    tracer_provider=get_tracer_provider(),
    spans="each",
    record_times=True,
    record_exceptions=True,
    as_connection_pool=True,
)
assert_type(exporting(ConsoleMetricExporter(), runner), MetricExporter)


# --- tasker.ray: the verbs of a runner, on actors ---


def on_ray(runner: RayRunner[Client]) -> None:
    taking: TaskRunner[Client] = runner
    also: TaskRunner[Client] = runner.options(timeout=1)
    del taking, also
    assert_type(runner.options(once=True), RaySubmitter[Client])
    assert_type(runner.executor(), RayExecutor)
    assert_type(runner.executor().submit(pow, 2, 5), Future[int])
    assert_type(runner.submit(lambda client: 1), Future[int])
    assert_type(runner.queue_task(lambda client: "a"), str)
    assert_type(runner.actors(), tuple[ActorInfo, ...])
    assert_type(runner.stats(), Stats)
    assert_type(runner.kill(), list[DroppedTask])
    assert_type(runner.renew(), Future[int])
