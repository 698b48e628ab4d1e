"""Wrong uses, one a line: type checkers must report every line marked so, and no other line."""

import sqlite3

from tasker import (
    Batcher,
    Config,
    Context,
    Future,
    Priority,
    Results,
    Runner,
    Stats,
    TaskRunner,
    ThreadPoolExecutor,
    current_context,
)
from tasker.dashboard import asgi_app, serve
from tasker.live import Live
from tasker.opentelemetry import exporting, instrument
from tasker.prometheus import RunnerCollector
from tasker.testing import InlineRunner


class Client:
    def get(self, path: str, *, retries: int = 0) -> bytes:
        return f"{path} {retries}".encode()


def connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:")


def close_client(client: Client) -> None: ...


def count(conn: sqlite3.Connection, table: str, *, limit: int = 0) -> int:
    return len(conn.execute(f"select * from {table} limit {limit}").fetchall())


def lengths(conn: sqlite3.Connection, words: list[str]) -> list[int]:
    return [len(word) for word in words if conn.in_transaction]


def copy(conn: sqlite3.Connection, source: str, target: bytes) -> float:
    return conn.total_changes / len(source + target.decode())


class Job:
    def run(self, conn: sqlite3.Connection, times: int) -> str:
        return str(conn.total_changes * times)


config = Config(on_create=connect, worker_count=1)
runner = Runner(config)
urgent = runner.options(priority=Priority.HIGH)
batcher = runner.batcher(lengths, max_size=8)

# Config: fields
Config(on_create=connect)  # error
Config(worker_count=1)  # error
Config(on_create=connect, worker_count="1")  # error
Config(on_create=connect(), worker_count=1)  # error
Config(on_create=len, worker_count=1)  # error
Config(connect, worker_count=1)  # error
Config(on_create=connect, worker_count=1, workers=2)  # error
Config(on_create=connect, worker_count=1, when_full="wait")  # error
Config(on_create=connect, worker_count=1, name=7)  # error
Config(on_create=connect, worker_count=1, burst_interval=None)  # error
Config(on_create=connect, worker_count=1, context="parent")  # error
Config(on_create=connect, worker_count=1, logger="tasker")  # error
Config(on_create=connect, worker_count=1, check_health=lambda: True)  # error
Config(on_create=connect, worker_count=1, check_health=lambda db, error: True)  # error
Config(on_create=connect, worker_count=1, is_broken=lambda error: True)  # error
Config(on_create=connect, worker_count=1, is_broken=lambda db, error: db.closed)  # error
config.worker_count = 2  # error

# Config: hooks for another resource
config_of_clients: Config[Client] = Config(on_create=connect, worker_count=1)  # error
Config[sqlite3.Connection](on_create=connect, on_destroy=close_client, worker_count=1)  # error
Config[sqlite3.Connection](on_create=connect, reset=Client.get, worker_count=1)  # error
Config[sqlite3.Connection](on_create=connect, on_cancel=Client.get, worker_count=1)  # error
Config[sqlite3.Connection](on_create=connect, on_event=Client.get, worker_count=1)  # error

# Config.from_context_manager
Config.from_context_manager(Client, worker_count=1)  # error
Config.from_context_manager(connect)  # error
Config.from_context_manager(connect, worker_count=1, on_create=connect)  # error
Config.from_context_manager(connect, worker_count=1, max_retries="3")  # error

# Runner
Runner(connect)  # error
Runner(config, 5)  # error
Runner(config, timeout="5")  # error
Runner(config, workers=1)  # error
runner_of_clients: Runner[Client] = Runner(config)  # error
runner.state = "stopped"  # error
runner.config = config  # error
runner.stop("now")  # error
runner.kill(wait=True)  # error
runner.cancel_queued(3)  # error
fast.cancel_queued()  # error
never = runner.state == "closed"  # error

# A wrong argument
runner.submit(count, 1)  # error
runner.submit(count, "users", limit="1")  # error
runner.submit(count("users"))  # error
runner.submit(Job().run, "2")  # error
runner.queue_task(count, b"users")  # error
runner.queue_task_with_priority(count, 1)  # error
runner.queue_task_once(count, 1)  # error
runner.queue_task_with_priority_once(count, 1)  # error
runner.run_task(count, 1)  # error
urgent.submit(count, 1)  # error
urgent.queue_task(count, 1)  # error
urgent.run_task(count, 1)  # error

# A missing argument
runner.submit()  # error
runner.submit(count)  # error
runner.submit(Job().run)  # error
runner.submit(sqlite3.Connection.execute)  # error
runner.queue_task(count)  # error
runner.queue_task_with_priority(count)  # error
runner.queue_task_once(count)  # error
runner.queue_task_with_priority_once(count)  # error
runner.run_task(count)  # error
urgent.submit(count)  # error

# A batcher
runner.batcher(lengths)  # error
runner.batcher(lengths, max_size="8")  # error
runner.batcher(count, max_size=8)  # error
runner.batcher(lengths, max_size=8, key=lambda word: [word])  # error
runner.batcher(close_client, max_size=8)  # error
batcher.submit(7)  # error
batcher.submit("a", "b")  # error
batcher.asubmit(b"a")  # error
batcher.queue_task()  # error
batcher.map([1])  # error
batcher.map(["a"], max_size=4)  # error
batcher.amap([b"a"])  # error
batcher.options(once=True)  # error
batcher.options(priority="high")  # error
wrong_batcher: Batcher[int, int] = batcher  # error

# One argument too many, an unknown keyword
runner.submit(count, "users", 1)  # error
runner.submit(count, "users", timeout=1)  # error
runner.submit(count, name="users")  # error
runner.submit(fn=count)  # error
runner.queue_task(count, "users", priority=Priority.HIGH)  # error
runner.run_task(count, "users", retries=1)  # error
urgent.queue_task(count, "users", retries=1)  # error

# A wrong resource
runner.submit(Client.get, "/")  # error
runner.submit(close_client)  # error
runner.submit(lambda conn: conn.no_such_method())  # error
runner.submit(lambda: 1)  # error
runner.queue_task(close_client)  # error
runner.run_task(close_client)  # error
urgent.submit(close_client)  # error
runner.map(Client.get, ["/"])  # error
runner.submit("count", "users")  # error

# A wrong result
future_of_text: Future[str] = runner.submit(count, "users")  # error
text: str = runner.queue_task(count, "users")  # error
text = runner.queue_task_with_priority(count, "users")  # error
text = runner.queue_task_once(count, "users")  # error
text = runner.queue_task_with_priority_once(count, "users")  # error
text = runner.run_task(count, "users")  # error
text = urgent.queue_task(count, "users")  # error
text = runner.submit(count, "users").result()  # error
text = runner.submit(lambda conn: conn.total_changes).result()  # error
texts: Results[str] = runner.map(count, ["users"])  # error
runner.submit(count, "users").add_done_callback(lambda text: text.upper())  # error

# options
runner.options(Priority.HIGH)  # error
runner.options(priority="high")  # error
runner.options(once="yes")  # error
runner.options(timeout="1")  # error
runner.options(key="acme")  # error
runner.options(key=list)  # error
runner.options(key=str, serial=1)  # error
runner.options(retries=1)  # error

# submit_many
runner.submit_many(count)  # error
runner.submit_many(count, [1])  # error
runner.submit_many(copy, ["a"])  # error
runner.submit_many(count, ["users"], ["orders"])  # error
counts: list[int] = runner.submit_many(count, ["users"])  # error

# map
runner.map(count)  # error
runner.map(count, [1])  # error
runner.map(count, 1)  # error
runner.map(copy, ["a"])  # error
runner.map(copy, ["a"], ["b"])  # error
runner.map(count, ["users"], buffersize="2")  # error
runner.map(count, ["users"], ordered=None)  # error
runner.map(count, ["users"], chunksize=2)  # error
runner.map(count, ["users"], return_exceptions=1)  # error
counts: Results[int] = runner.map(count, ["users"], return_exceptions=True)  # error
for counted in runner.map(count, ["users"]):
    counted.upper()  # error

# Future
future = runner.submit(count, "users")
future.result("1")  # error
future.request_cancel(1)  # error
future.set_result("1")  # error
future.add_done_callback(lambda: None)  # error

# Executors
ThreadPoolExecutor("4")  # error
ThreadPoolExecutor(4, finalizer=close_client)  # error
ThreadPoolExecutor(4, initializer=7)  # error
ThreadPoolExecutor(4, "name", None, (), print)  # error
pool = ThreadPoolExecutor(max_workers=4)
pool.submit(divmod, 1, "2")  # error
pool.submit(count, "users")  # error
pool.submit(len)  # error
text = pool.submit(len, "users").result()  # error
pool.map(len, ["users"], buffersize="2")  # error
pool.map(len, 7)  # error
pool.shutdown(True, True)  # error
runner.executor(4)  # error
runner.executor().submit(count, "users")  # error
text = runner.executor().submit(len, "users").result()  # error

# Context and figures
Context(1)  # error
Context().cancel(1)  # error
Context().child(1)  # error
Context().on_cancel(1)  # error
Context().cancelled = True  # error
Context.on_signals("SIGTERM")  # error
current_context().attempts  # error
runner.stats().queued  # error
runner.metrics().average_wait  # error
runner.stats().queued_tasks = 1  # error
Stats(queued_tasks=1)  # error


async def awaits() -> None:
    text: str = await runner.submit(count, "users")  # error


# asyncio
async def asynchronous() -> None:
    runner.asubmit()  # error
    runner.asubmit(count)  # error
    runner.asubmit(count, 1)  # error
    runner.asubmit(count, "users", limit="1")  # error
    runner.asubmit(count, "users", timeout=1)  # error
    runner.asubmit(Client.get, "/")  # error
    runner.asubmit(lambda conn: conn.no_such_method())  # error
    urgent.asubmit(count, 1)  # error
    runner.asubmit(count, "users").request_cancel()  # error
    text: str = await runner.asubmit(count, "users")  # error
    runner.amap(count)  # error
    runner.amap(count, [1])  # error
    runner.amap(count, ["users"], buffersize="3")  # error
    runner.amap(count, ["users"], ordered=None)  # error
    runner.amap(count, ["users"], return_exceptions="yes")  # error
    urgent.amap(copy, ["a"])  # error
    for number in runner.amap(count, ["users"]):  # error
        pass
    async for text in runner.amap(count, ["users"]):  # error
        pass
    Runner.start()  # error
    Runner.start(config, timeout="1")  # error
    Runner.start(config).submit(count, "users")  # error
    with Runner.start(config):  # error
        pass
    clients: Runner[Client] = await Runner.start(config)  # error
    await runner.astop("1")  # error
    dropped: list[int] = await runner.akill()  # error


# TaskRunner
def takes(runner: TaskRunner[sqlite3.Connection]) -> None:
    runner.submit(count)  # error
    runner.submit(count, 1)  # error
    runner.queue_task(Client.get, "/")  # error
    runner.run_task(count, b"users")  # error
    runner.submit_many(count, [1])  # error
    runner.map(count, [1])  # error
    runner.map(copy, ["a"])  # error
    runner.stop()  # error
    runner.stats()  # error
    text: str = runner.queue_task(count, "users")  # error


def takes_clients(runner: TaskRunner[Client]) -> None: ...


takes(config)  # error
takes(runner.executor())  # error
takes_clients(runner)  # error
takes_clients(urgent)  # error
takes_clients(InlineRunner(config))  # error

# InlineRunner
inline = InlineRunner(config)
InlineRunner(connect)  # error
InlineRunner(config, True)  # error
InlineRunner(config, timeout=5)  # error
InlineRunner.of(Client(), on_create=Client)  # error
InlineRunner.of(Client(), workers=2)  # error
InlineRunner[Client].of(Client(), reset=close_client, task_timeout="1")  # error
inline.submit(count, 1)  # error
inline.queue_task(close_client)  # error
inline.options(priority="high")  # error
inline.options(key="acme")  # error
inline.options().submit(count)  # error
inline.fail_next("broken")  # error
inline.fail_next(ValueError(), 2)  # error
inline.resource = connect()  # error
inline.run_next(2)  # error

# tasker.prometheus
RunnerCollector("db")  # error
RunnerCollector(runner, by_task="all")  # error
RunnerCollector(runner, wait_buckets=5)  # error
RunnerCollector([runner])  # error

# tasker.live
Live("db")  # error
Live(runner, 4)  # error
Live(refresh_per_second="2")  # error
Live(console="stdout")  # error

# tasker.dashboard
serve("db")  # error
serve(runner, 8100)  # error
serve(port="8100")  # error
asgi_app(runner, allowed_hosts=8100)  # error
asgi_app([runner])  # error

# tasker.opentelemetry
instrument("db")  # error
instrument([runner])  # error
instrument(runner, spans="all")  # error
instrument(runner, meter_provider=runner)  # error
instrument(runner, True)  # error
exporting(runner)  # error
