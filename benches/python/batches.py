"""What batched calls give, and what they cost, against the same work without a batcher.

    python -m benches.python.batches

All contestants take turns, in another order each round; a figure is the median of the rounds.
*Closed loop*: so many clients each wait for their item before they submit the next, and one worker
has a model that takes 1 ms and 10 µs an item, without the interpreter. A perfect batcher would have
nothing between one full call of that model and the next. *Lone call*: one client. *No-ops*: items
of full calls, each with its future or by `map`, against tasks of `submit`.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import threading
import time
from collections.abc import Callable

from benches.python.measure import noop
from tasker import Batcher, Config, Future, Runner

CLIENTS = 64
ROUNDS = 9
MAX_WAIT = 0.002

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


def main() -> None:
    runs: dict[str, Callable[[], object]] = {
        "perfect": lambda: perfect(20_000),
        "lone queue_task": lambda: lone(False, 5_000),
        "lone batcher.queue_task": lambda: lone(True, 5_000),
        "no-ops by submit": lambda: bulk(False, 100_000),
        "no-ops by batcher.submit": lambda: bulk(True, 100_000),
        "no-ops by batcher.map": lambda: mapped(100_000),
    }
    for who in ("threads", "coroutines"):
        for wait in (0.0, MAX_WAIT):
            name = f"{CLIENTS} {who}, max_wait={wait}"
            is_asyncio = who == "coroutines"
            runs[name] = lambda w=wait, a=is_asyncio: closed_loop(w, 20_000, a)  # type: ignore[misc]
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
    rates = {name: statistics.median(rounds) for name, rounds in figures.items()}
    rivals = {
        "lone batcher.queue_task": "lone queue_task",
        "no-ops by batcher.submit": "no-ops by submit",
        "no-ops by batcher.map": "no-ops by submit",
        **dict.fromkeys(sizes, "perfect"),
    }
    print(f"{'':32}{'a second':>12}{'against':>10}{'mean size':>12}")
    for name, rate in rates.items():
        against = f"{rate / rates[rivals[name]]:.2f}" if name in rivals else ""
        size = f"{statistics.median(sizes[name]):.1f}" if name in sizes else ""
        print(f"{name:32}{rate:12,.0f}{against:>10}{size:>12}")


if __name__ == "__main__":
    main()
