"""What batched calls give, and what they cost, against the same work without a batcher.

    python -m benches.python.batches               # a table for the terminal
    python -m benches.python.batches --write-docs  # into docs/performance.md

All contestants take turns, in another order each round; a figure is the median of the rounds.
*Closed loop*: so many clients each wait for their item before they submit the next, and one worker
has a model that takes 1 ms and 10 µs an item, without the interpreter. A perfect batcher would have
nothing between one full call of that model and the next. *By hand* there is no batcher at all, only
what no batcher can do without: each client puts its number into a list and waits, the last one
wakes the thread with the model, and that wakes the clients, all at once or two that wake the others
in turn. *Lone call*: one client. *No-ops*: items of full calls, each with its future or by `map`,
against tasks of `submit`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import threading
import time
from collections.abc import Callable

from benches.python import report, setting
from benches.python.measure import noop
from tasker import Batcher, Config, Future, Runner

CLIENTS = 64
ROUNDS = 9
MAX_WAIT = 0.002
PERFECT = "perfect"
BEGIN = "<!-- batches: begin, written by benches/python/batches.py -->"
END = "<!-- batches: end -->"

now = time.perf_counter


def model(sizes: list[int], items: list[int]) -> list[int]:
    """Takes its time without the interpreter."""
    sizes.append(len(items))
    time.sleep(0.001 + 0.00001 * len(items))
    return items


def noops(_resource: object, items: list[int]) -> list[int]:
    """Takes no time."""
    return items


def perfect(items: int) -> float:
    """Items a second of full calls, one after the other."""
    batch = list(range(CLIENTS))
    sizes: list[int] = []
    begin = now()
    while sum(sizes) < items:
        model(sizes, batch)
    return sum(sizes) / (now() - begin)


def closed_loop(max_wait: float, items: int, coroutines: bool) -> tuple[float, float]:
    """Items a second, and the mean size of a call, of clients that wait for each item."""
    each = items // CLIENTS
    with Runner(Config[list[int]](on_create=list, worker_count=1)) as runner:
        batcher = runner.batcher(model, max_size=CLIENTS, max_wait=max_wait)
        serve = serve_coroutines if coroutines else serve_threads
        serve(batcher, 4)
        sizes = runner.queue_task(lambda sizes: sizes)
        sizes.clear()
        seconds = serve(batcher, each)
    return each * CLIENTS / seconds, statistics.mean(sizes)


def threads_by_hand(items: int, woken_at_once: int) -> float:
    """Items a second where clients do nothing but wait; each that is woken wakes another."""
    each = items // CLIENTS
    waiting: list[int] = []
    # A lock that is held is what a thread of Python's waits for at the least cost.
    locks = [threading.Lock() for _ in range(CLIENTS)]
    full = threading.Lock()
    for lock in (*locks, full):
        lock.acquire()

    def client(number: int) -> None:
        for turn in range(each):
            if turn > 0 and number + woken_at_once < CLIENTS:
                locks[number + woken_at_once].release()
            waiting.append(number)
            if len(waiting) == CLIENTS:
                full.release()
            locks[number].acquire()
        if number + woken_at_once < CLIENTS:
            locks[number + woken_at_once].release()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    full.acquire()
    begin, sizes = now(), list[int]()
    for _ in range(each - 1):
        model(sizes, waiting)
        waiting.clear()
        for lock in locks[:woken_at_once]:
            lock.release()
        full.acquire()
    model(sizes, waiting)
    seconds = now() - begin
    for lock in locks[:woken_at_once]:
        lock.release()
    for thread in threads:
        thread.join()
    return each * CLIENTS / seconds


def coroutines_by_hand(items: int) -> float:
    """The same with coroutines: one call into their loop wakes all of them."""
    each = items // CLIENTS
    waiting: list[asyncio.Future[None]] = []
    full = threading.Semaphore(0)

    async def client(event_loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(each):
            future = event_loop.create_future()
            waiting.append(future)
            if len(waiting) == CLIENTS:
                full.release()
            await future

    def wake() -> None:
        woken = waiting.copy()
        waiting.clear()
        for future in woken:
            future.set_result(None)

    def serve(event_loop: asyncio.AbstractEventLoop) -> None:
        sizes: list[int] = []
        for _ in range(each):
            full.acquire()
            model(sizes, list(range(CLIENTS)))
            event_loop.call_soon_threadsafe(wake)

    async def clients() -> float:
        event_loop = asyncio.get_running_loop()
        server = threading.Thread(target=serve, args=(event_loop,))
        begin = now()
        server.start()
        await asyncio.gather(*(client(event_loop) for _ in range(CLIENTS)))
        seconds = now() - begin
        server.join()
        return seconds

    return each * CLIENTS / asyncio.run(clients())


def serve_threads(batcher: Batcher[int, int], each: int) -> float:
    barrier = threading.Barrier(CLIENTS + 1)

    def client() -> None:
        barrier.wait()
        for item in range(each):
            batcher.queue_task(item)

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    barrier.wait()
    begin = now()
    for thread in threads:
        thread.join()
    return now() - begin


def serve_coroutines(batcher: Batcher[int, int], each: int) -> float:
    async def client() -> None:
        for item in range(each):
            await batcher.asubmit(item)

    async def clients() -> float:
        begin = now()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return now() - begin

    return asyncio.run(clients())


def lone(batched: bool, calls: int) -> float:
    """Calls a second of one client."""
    with Runner(Config(on_create=object, worker_count=1)) as runner:
        batcher = runner.batcher(noops, max_size=CLIENTS)
        call: Callable[[], object]
        call = (lambda: batcher.queue_task(1)) if batched else (lambda: runner.queue_task(noop))
        call()
        begin = now()
        for _ in range(calls):
            call()
        return calls / (now() - begin)


def mapped(tasks: int) -> float:
    """No-ops a second by `map`."""
    with Runner(Config(on_create=object, worker_count=1)) as runner:
        batcher = runner.batcher(noops, max_size=CLIENTS)
        begin = now()
        for _ in batcher.map(range(tasks)):
            pass
        return tasks / (now() - begin)


def bulk(batched: bool, tasks: int) -> float:
    """No-ops a second that are submitted in one go."""
    with Runner(Config(on_create=object, worker_count=1)) as runner:
        batcher = runner.batcher(noops, max_size=CLIENTS)
        futures: list[Future[int]] | list[Future[None]]
        begin = now()
        if batched:
            futures = [batcher.submit(1) for _ in range(tasks)]
        else:
            futures = [runner.submit(noop) for _ in range(tasks)]
        for future in futures:
            future.result()
        return tasks / (now() - begin)


def contestants() -> dict[str, Callable[[], object]]:
    """What is measured, by what the table calls it."""
    runs: dict[str, Callable[[], object]] = {
        PERFECT: lambda: perfect(20_000),
        "64 threads by hand": lambda: threads_by_hand(20_000, CLIENTS),
        "64 threads by hand, woken in turn": lambda: threads_by_hand(20_000, 2),
    }
    for who in ("threads", "coroutines"):
        if who == "coroutines":
            runs["64 coroutines by hand"] = lambda: coroutines_by_hand(20_000)
        for wait in (MAX_WAIT, 0.0):
            name = f"64 {who}, `max_wait={wait}`"
            is_asyncio = who == "coroutines"
            runs[name] = lambda w=wait, a=is_asyncio: closed_loop(w, 20_000, a)  # type: ignore[misc]
    runs["lone `queue_task`"] = lambda: lone(False, 5_000)
    runs["lone `batcher.queue_task`"] = lambda: lone(True, 5_000)
    runs["no-ops by `submit`"] = lambda: bulk(False, 100_000)
    runs["no-ops by `batcher.submit`"] = lambda: bulk(True, 100_000)
    runs["no-ops by `batcher.map`"] = lambda: mapped(100_000)
    return runs


def rival_of(name: str) -> str | None:
    """What a contestant is compared with."""
    if name.startswith("64"):
        return PERFECT
    if name == "lone `batcher.queue_task`":
        return "lone `queue_task`"
    return "no-ops by `submit`" if name.startswith("no-ops by `batcher") else None


def measure() -> str:
    """Measures everything, and gives the table."""
    runs = contestants()
    figures: dict[str, list[float]] = {name: [] for name in runs}
    sizes: dict[str, list[float]] = {}
    order = list(runs)
    for _ in range(ROUNDS):
        random.shuffle(order)
        for name in order:
            figure = runs[name]()
            if isinstance(figure, tuple):
                figure, size = figure
                sizes.setdefault(name, []).append(size)
            assert isinstance(figure, float)
            figures[name].append(figure)
    lines = ["| | a second | against | | items a call |", "|---|---|---|---|---|"]
    for name, rounds in figures.items():
        rival = rival_of(name)
        ratios = [a / b for a, b in zip(rounds, figures[rival], strict=True)] if rival else []
        against = f"{statistics.median(ratios):.2f} | {rival}" if rival else "|"
        size = f"{statistics.median(sizes[name]):.0f}" if name in sizes else ""
        lines.append(f"| {name} | {statistics.median(rounds):,.0f} | {against} | {size} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--write-docs", action="store_true", help=f"put the table into {report.PAGE.name}"
    )
    options = parser.parse_args()
    where, begin = setting.describe(), setting.ProcessorTime.so_far()
    where["Method"] = f"median of {ROUNDS} rounds, in which all take turns; ratios are of one round"
    table = measure()
    end = setting.ProcessorTime.so_far()
    if begin and end:
        share = end.share_of_others_since(begin)
        where["Others"] = f"{share:.0%} of all processor time went to other processes"
    text = f"{report.setting_list(where)}\n\n{table}"
    print(text)
    if options.write_docs:
        report.put_between(BEGIN, END, text)


if __name__ == "__main__":
    main()
