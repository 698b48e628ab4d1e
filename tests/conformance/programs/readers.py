"""Gives each thread a database of its own, waits in several ways, and leaves the rest undone."""

import concurrent.futures
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

local = threading.local()
opened: list[sqlite3.Connection] = []
done: list[int] = []


def connect(rows: int) -> None:
    """Fills a database for this thread."""
    local.database = sqlite3.connect(":memory:", check_same_thread=False)
    opened.append(local.database)
    local.database.execute("create table numbers (n integer)")
    local.database.executemany("insert into numbers values (?)", ((n,) for n in range(rows)))


def count_above(limit: int) -> int:
    """Asks this thread's database."""
    [(count,)] = local.database.execute("select count(*) from numbers where n > ?", (limit,))
    return int(count)


def note(future: concurrent.futures.Future[int]) -> None:
    """Notes a result as soon as it is there."""
    done.append(future.result())


executor = ThreadPoolExecutor(2, "reader", initializer=connect, initargs=(1000,))
futures = [executor.submit(count_above, limit) for limit in range(0, 1000, 100)]
futures[0].add_done_callback(note)
first = concurrent.futures.wait(futures, 30, concurrent.futures.FIRST_COMPLETED)
print("some are done:", bool(first.done))
print("counts:", [future.result(timeout=30) for future in futures], "noted:", done)
print("named:", executor.submit(lambda: threading.current_thread().name[:7]).result())

release = threading.Event()
busy = [executor.submit(release.wait) for _ in range(2)]
waiting = [executor.submit(count_above, 0) for _ in range(5)]
print("cancelled:", waiting[0].cancel(), waiting[0].done(), busy[0].done())
executor.shutdown(wait=False, cancel_futures=True)
release.set()
try:
    waiting[4].result(timeout=30)
except concurrent.futures.CancelledError:
    print("left undone:", sum(future.cancelled() for future in waiting))
try:
    executor.submit(count_above, 0)
except RuntimeError as error:
    print(error)
executor.shutdown()
for database in opened:
    database.close()
