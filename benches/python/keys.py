"""What keys cost, and how often a task finds its key.

    python -m benches.python.keys

Three loads, with the same tasks in each round, with keys and without, taking turns:

- *queued*: all tasks are submitted and then waited for, which keeps the workers busy. A key costs
  the call of its function, its hash and a look. The limit is a share of the processor time
  without, as what else the machine does is in the other; what the calls of the function alone
  take of that is shown beside.
- *one client*: a thread waits for each task before it submits the next.
- *two clients*: two threads do, each task takes a moment without the interpreter, and half of the
  workers are free.

A hit is a task that began on the worker which had its key last.

Then *serial*: the queued tasks run in order by key, beside a dictionary of executors with one
thread for each key, which is what keeps an order by hand.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from benches.python import report, setting
from tasker import Config, Runner, TaskRunner

TASKS, KEYS, WORKERS, ROUNDS = 100_000, 1_000, 4, 7
WAITED_FOR, MOMENT = 4_000, 0.0002
"""How many tasks the clients wait for in all, and how long those take that take a moment."""
MOST = 1.3
"""What the tasks with keys may take at most, by the processor time of those without."""
LEAST = 5.0
"""How many times as long the executors are to take at least as tasks in order by key."""

Load = Callable[[TaskRunner[object], Sequence[int]], None]


def noop(_resource: object, _key: int) -> None:
    """A task that does nothing."""


def rest(_resource: object, _key: int) -> None:
    """A task that waits."""
    time.sleep(MOMENT)


def queued(runner: TaskRunner[object], keys: Sequence[int]) -> None:
    futures = [runner.submit(noop, key) for key in keys]
    for future in futures:
        future.result()


def one_client(runner: TaskRunner[object], keys: Sequence[int]) -> None:
    for key in keys[:WAITED_FOR]:
        runner.queue_task(noop, key)


def two_clients(runner: TaskRunner[object], keys: Sequence[int]) -> None:
    def client(start: int) -> None:
        for key in keys[start:WAITED_FOR:2]:
            runner.queue_task(rest, key)

    clients = [threading.Thread(target=client, args=(start,)) for start in range(2)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()


LOADS: dict[str, Load] = {
    "queued": queued,
    "one client": one_client,
    "two clients": two_clients,
}


def itself(key: int) -> int:
    """Gives a task its key."""
    return key


def measure(load: Load, keys: Sequence[int], *, with_keys: bool) -> tuple[float, float, float]:
    """Gives the seconds that a load takes on a new runner, of the processor too, and the hits."""
    config = Config(on_create=object, worker_count=WORKERS)
    with Runner(config) as runner:
        view = runner.options(key=itself if with_keys else None)
        # Every key has a home when the clock starts.
        for key in range(KEYS):
            view.queue_task(noop, key)
        before = runner.metrics()
        begin, busy = time.perf_counter(), time.process_time()
        load(view, keys)
        seconds, busy = time.perf_counter() - begin, time.process_time() - busy
        after = runner.metrics()
    hits = after.total_key_hits - before.total_key_hits
    tasks = hits + after.total_key_misses - before.total_key_misses
    return seconds, busy, hits / tasks if tasks else 0.0


def measure_calls(keys: Sequence[int]) -> float:
    """Gives the seconds of the processor that the calls of the key function alone take."""
    begin = time.process_time()
    for _ in map(itself, keys):
        pass
    return time.process_time() - begin


def measure_serial(keys: Sequence[int]) -> float:
    """Gives the seconds that the queued tasks take in order by key on a new runner."""
    with Runner(Config(on_create=object, worker_count=WORKERS)) as runner:
        view = runner.options(key=itself, serial=True)
        view.queue_task(noop, 0)
        begin = time.perf_counter()
        queued(view, keys)
        return time.perf_counter() - begin


def measure_executors(keys: Sequence[int]) -> float:
    """Gives the seconds that they take on an executor with one thread for each key."""
    executors: dict[int, ThreadPoolExecutor] = {}
    begin = time.perf_counter()
    futures = []
    for key in keys:
        if (executor := executors.get(key)) is None:
            executor = executors[key] = ThreadPoolExecutor(1)
        futures.append(executor.submit(noop, None, key))
    for future in futures:
        future.result()
    seconds = time.perf_counter() - begin
    for executor in executors.values():
        executor.shutdown()
    return seconds


def compare_serial(keys: Sequence[int]) -> float:
    """Gives how many times as long the executors take."""
    taken: dict[Callable[[Sequence[int]], float], list[float]] = {}
    for number in range(ROUNDS):
        ways = (measure_serial, measure_executors)
        for way in ways if number % 2 else reversed(ways):
            taken.setdefault(way, []).append(way(keys))
    runner, executors = (
        statistics.median(taken[way]) for way in (measure_serial, measure_executors)
    )
    print(f"\n{'':14}{'executors':>12}{'runner':>12}{'ratio':>8}")
    print(f"{'serial':14}{executors:10.3f} s{runner:10.3f} s{executors / runner:8.2f}", flush=True)
    return executors / runner


def main() -> None:
    """Measures every load."""
    print(report.setting_list(setting.describe()), flush=True)
    choice = random.Random(1)
    keys = [choice.randrange(KEYS) for _ in range(TASKS)]
    print(f"\n{'':14}{'without':>12}{'with':>12}{'ratio':>8}{'processor':>12}{'hits':>8}")
    ratios: dict[str, float] = {}
    calls = 0.0
    for name, load in LOADS.items():
        taken: dict[bool, list[float]] = {False: [], True: []}
        busy: dict[bool, list[float]] = {False: [], True: []}
        shares = []
        for number in range(ROUNDS):
            for with_keys in (False, True) if number % 2 else (True, False):
                seconds, of_processor, share = measure(load, keys, with_keys=with_keys)
                taken[with_keys].append(seconds)
                busy[with_keys].append(of_processor)
                if with_keys:
                    shares.append(share)
        without, with_ = (statistics.median(taken[each]) for each in (False, True))
        base, busier = (statistics.median(busy[each]) for each in (False, True))
        ratios[name] = busier / base
        hits = statistics.median(shares)
        row = f"{name:14}{without:10.3f} s{with_:10.3f} s{with_ / without:8.2f}"
        print(f"{row}{ratios[name]:12.2f}{hits:8.0%}", flush=True)
        if load is queued:
            calls = statistics.median(measure_calls(keys) for _ in range(ROUNDS)) / base
    print(f"\nThe calls of the key function alone are {calls:.0%} of the processor time of queued.")
    gain = compare_serial(keys)
    assert gain >= LEAST, f"executors take less than {LEAST:.0f} times as long"
    assert ratios["queued"] <= MOST, f"keys cost more than {MOST:.0%} of that without"


if __name__ == "__main__":
    main()
