"""The same job three ways. What is counted as its lines stands between the marks.

Each fetches the pages with `WORKERS` threads, in the same order, stores every page in one index,
and answers an urgent request meanwhile.
"""

from __future__ import annotations

import inspect
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING

from tasker import Config, Priority, Runner
from tasker._demo.job import NETWORK, TIME_LIMIT, WORKERS, Index, Page, fetch

if TYPE_CHECKING:
    from tasker._demo.job import CrawlJob


def with_tasker(job: CrawlJob) -> None:
    """With two runners, one that owns connections and one that owns the index."""
    # begin
    pages = Config(
        on_create=job.connect,
        on_destroy=HTTPConnection.close,
        is_broken=lambda _connection, error: isinstance(error, NETWORK),
        worker_count=WORKERS,
    )
    index = Config(on_create=job.open_index, on_destroy=Index.close, worker_count=1)
    with Runner(index) as store, Runner(pages) as crawl:
        urgent = crawl.options(priority=Priority.HIGH)
        job.meanwhile(lambda number: urgent.queue_task(fetch, number))
        for page in crawl.map(fetch, job.numbers, ordered=False):
            store.submit(Index.add, page)
    # end


def with_a_pool(job: CrawlJob) -> None:
    """With the standard pool, as its documentation would have you write it."""
    # begin
    local = threading.local()

    def open_connection() -> None:
        local.connection = job.connect()

    def load(number: int) -> Page:
        return fetch(local.connection, number)

    pool = ThreadPoolExecutor(WORKERS, initializer=open_connection)
    with closing(job.open_index()) as index, pool as crawl:
        job.meanwhile(lambda number: crawl.submit(load, number).result())
        futures = {crawl.submit(load, number): number for number in job.numbers}
        for future in as_completed(futures):
            try:
                page = future.result()
            except Exception as error:
                job.failed(futures[future], error)
            else:
                index.add(page)
    # end


def with_care(job: CrawlJob) -> None:
    """With standard pools, written so that nothing is lost."""
    # begin
    local = threading.local()
    opened: set[HTTPConnection] = set()
    lock = threading.Lock()

    def connection() -> HTTPConnection:
        mine: HTTPConnection | None = getattr(local, "connection", None)
        if mine is None:
            mine = local.connection = job.connect()
            with lock:
                opened.add(mine)
        return mine

    def discard() -> None:
        broken: HTTPConnection | None = getattr(local, "connection", None)
        if broken is not None:
            local.connection = None
            broken.close()
            with lock:
                opened.discard(broken)

    def load(number: int) -> Page:
        give_up = time.monotonic() + TIME_LIMIT
        pause = 0.05
        while True:
            try:
                return fetch(connection(), number)
            except NETWORK:
                discard()
                if time.monotonic() > give_up:
                    raise
                time.sleep(random.uniform(0, pause))
                pause = min(2 * pause, 1.0)

    # The queue of the first is long when an urgent request comes: that one needs a pool of its own.
    crawl, urgent = ThreadPoolExecutor(WORKERS), ThreadPoolExecutor(1)
    index = job.open_index()
    try:
        with crawl, urgent:
            job.meanwhile(lambda number: urgent.submit(load, number).result())
            for future in as_completed([crawl.submit(load, number) for number in job.numbers]):
                index.add(future.result())
    finally:
        for each in opened:
            each.close()
        index.close()
    # end


CONTESTANTS = {
    "ThreadPoolExecutor": with_a_pool,
    "the same, with care": with_care,
    "tasker": with_tasker,
}


def lines(contestant: object) -> int:
    """Counts a contestant's lines of code between the marks, without blank lines and comments."""
    assert callable(contestant)
    source = [line.strip() for line in inspect.getsource(contestant).splitlines()]
    body = source[source.index("# begin") : source.index("# end")]
    return sum(1 for line in body if line and not line.startswith("#"))
