"""What is measured: each function runs one workload once, on one contestant."""

import asyncio
import math
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path

from benches.python.contestants import Lender, Mapper, Pool, Resource

ROOT = Path(__file__).parents[2]
ROWS = 1_000
TICK = 0.001

Figures = dict[str, float]
"""What one run gives, by name; the name is empty where there is only one figure."""

Place = Callable[[], AbstractContextManager[None]]
"""What is entered before any thread is started, to say where threads may run."""

now = time.perf_counter


def noop(_resource: object = None) -> None:
    """A task that costs nothing, so that all the time is the pool's."""


def bulk(pool: type[Pool], workers: int, tasks: int) -> Figures:
    with pool(workers) as opened:
        submit, wait = opened.submit, opened.wait
        wait(submit(noop))
        begin = now()
        tickets = [submit(noop) for _ in range(tasks)]
        for ticket in tickets:
            wait(ticket)
        return {"": tasks / (now() - begin)}


def round_trip(pool: type[Pool], workers: int, tasks: int, place: Place) -> Figures:
    times = []
    with place(), pool(workers) as opened:
        submit, wait = opened.submit, opened.wait
        wait(submit(noop))
        for _ in range(tasks):
            begin = now()
            wait(submit(noop))
            times.append((now() - begin) * 1e6)
    return {
        "p50": percentile(times, 50),
        "p99": percentile(times, 99),
        "p99.9": percentile(times, 99.9),
    }


def gathered(pool: type[Pool], workers: int, tasks: int) -> Figures:
    """Has a coroutine gather its tasks in windows of a thousand."""
    window = 1_000

    async def gather(opened: Pool) -> float:
        asubmit = opened.asubmit
        await asubmit(noop)
        begin = now()
        for size in [window] * (tasks // window) + [tasks % window]:
            await asyncio.gather(*[asubmit(noop) for _ in range(size)])
        return tasks / (now() - begin)

    with pool(workers) as opened:
        return {"": asyncio.run(gather(opened))}


def awaited(pool: type[Pool], workers: int, tasks: int) -> Figures:
    """Has a coroutine await each task before it submits the next."""

    async def await_each(opened: Pool) -> list[float]:
        asubmit = opened.asubmit
        await asubmit(noop)
        times = []
        for _ in range(tasks):
            begin = now()
            await asubmit(noop)
            times.append((now() - begin) * 1e6)
        return times

    with pool(workers) as opened:
        return {"p50": percentile(asyncio.run(await_each(opened)), 50)}


def mapped(mapper: type[Mapper], workers: int, items: int) -> Figures:
    with mapper(workers) as opened:
        opened.map(range(workers))
        begin = now()
        results = opened.map(range(items))
        seconds = now() - begin
        assert results == list(range(items))
        return {"": items / seconds}


def sleeping(pool: type[Pool], workers: int, tasks: int, seconds: float) -> Figures:
    """Counts in the least time that so many workers can take for tasks that only sleep."""

    def rest(_resource: object = None) -> None:
        time.sleep(seconds)

    with pool(workers) as opened:
        submit, wait = opened.submit, opened.wait
        for ticket in [submit(rest) for _ in range(2 * workers)]:
            wait(ticket)
        begin = now()
        for ticket in [submit(rest) for _ in range(tasks)]:
            wait(ticket)
        return {"": (now() - begin) / (math.ceil(tasks / workers) * seconds)}


@contextmanager
def on_one_core() -> Iterator[None]:
    """Keeps this thread, and those that it starts, on one core; on Linux only."""
    assert sys.platform == "linux"
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def producers(pool: type[Pool], threads: int, workers: int, tasks: int) -> Figures:
    with pool(workers) as opened:
        submit, wait = opened.submit, opened.wait
        gate = threading.Barrier(threads + 1)

        def produce() -> None:
            gate.wait()
            for _ in range(tasks // threads):
                wait(submit(noop))

        started = [threading.Thread(target=produce) for _ in range(threads)]
        for thread in started:
            thread.start()
        begin = now()
        gate.wait()
        for thread in started:
            thread.join()
        return {"": tasks / (now() - begin)}


def sqlite(pool: type[Pool], workers: int, tasks: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder, "rows.db")
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("create table rows (id integer primary key, value text)")
            rows = ((key, f"row {key}") for key in range(ROWS))
            connection.executemany("insert into rows values (?, ?)", rows)
        # The standard pool cannot close a connection on the thread that opened it.
        connect = partial(sqlite3.connect, database, check_same_thread=False)
        with pool(workers, Resource(connect, sqlite3.Connection.close)) as opened:
            submit, wait = opened.submit, opened.wait
            wait(submit(select, 0))
            begin = now()
            tickets = [submit(select, number % ROWS) for number in range(tasks)]
            for ticket in tickets:
                wait(ticket)
            return {"": tasks / (now() - begin)}


def select(connection: sqlite3.Connection, key: int) -> object:
    """A task: reads one row."""
    return connection.execute("select value from rows where id = ?", (key,)).fetchone()


def run_here(lender: type[Lender], resources: int, calls: int, *, limited: bool) -> Figures:
    with lender(resources) as opened:
        call = opened.limited_call if limited else opened.call
        call(noop)
        begin = now()
        for _ in range(calls):
            call(noop)
        return {"": calls / (now() - begin)}


def lateness(pool: type[Pool], workers: int, tasks: int, seconds: float) -> Figures:
    """Lets the workers compute while the main thread is due once in each millisecond.

    Each millisecond counts, also one in which the thread could not run: a long hold-up is many late
    ticks, as it would be for whoever asks this thread something once in a millisecond.
    """
    compute = computation(seconds)
    filled, finished = threading.Event(), threading.Event()

    def hold(_resource: object = None) -> None:
        filled.wait()

    def finish(_resource: object = None) -> None:
        finished.set()

    late = []
    with pool(workers) as opened:
        queued = [*[hold] * workers, *[compute] * tasks, finish]
        tickets = [opened.submit(task) for task in queued]
        due = now() + TICK
        filled.set()
        running = True
        while running:
            time.sleep(max(due - now(), 0))
            # Asked before the clock, so that a hold-up until the end is counted.
            running = not finished.is_set()
            arrived = now()
            while due <= arrived:
                late.append((arrived - due) * 1e3)
                due += TICK
        for ticket in tickets:
            opened.wait(ticket)
    return {"p50": percentile(late, 50), "p99": percentile(late, 99), "worst": max(late)}


def computation(seconds: float) -> Callable[..., None]:
    """Makes a task of pure Python code that takes about so long."""

    def count(steps: int) -> None:
        while steps:
            steps -= 1

    def timed(steps: int) -> float:
        begin = now()
        count(steps)
        return now() - begin

    probe = 10_000
    steps = round(probe * seconds / min(timed(probe) for _ in range(20)))
    return lambda _resource=None: count(steps)


def start_stop(pool: type[Pool], workers: int) -> Figures:
    meeting = threading.Barrier(workers)

    def meet(_resource: object = None) -> None:
        meeting.wait()

    begin = now()
    with pool(workers) as opened:
        tickets = [opened.submit(meet) for _ in range(workers)]
        for ticket in tickets:
            opened.wait(ticket)
        started = now()
    return {"start": (started - begin) * 1e3, "stop": (now() - started) * 1e3}


def memory(pool: type[Pool], tasks: int) -> Figures:
    """Asks a fresh process, in which nothing was allocated and freed before."""
    child = subprocess.run(
        [sys.executable, "-m", "benches.python.memory", pool.name, str(tasks)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {"": float(child.stdout)}


def imported(pool: type[Pool]) -> Figures:
    return {"": import_seconds(pool.program) * 1e3}


def import_seconds(program: str) -> float:
    """Runs a program in an interpreter of its own, and gives what it took without the start."""
    timed = (
        f"import time\nbegin = time.perf_counter()\n{program}\nprint(time.perf_counter() - begin)\n"
    )
    command = [sys.executable, "-c", timed]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return float(answer.stdout)


def percentile(values: list[float], percent: float) -> float:
    """The smallest of the values that so many per cent of them do not exceed."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]
