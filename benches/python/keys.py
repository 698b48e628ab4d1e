"""What keys cost, and how often a task finds its key.

    python -m benches.python.keys               # prints the table
    python -m benches.python.keys --write-docs  # into docs/performance.md

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

import argparse
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
BEGIN = "<!-- keys: begin, written by benches/python/keys.py -->"
END = "<!-- keys: end -->"
HEAD = ("", "without keys", "with keys", "ratio", "of processor time", "hits")

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


def compare(name: str, load: Load, keys: Sequence[int]) -> tuple[list[str], float, float]:
    """Gives the line of a load, its ratio of processor time, and that time without keys."""
    taken: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
    for number in range(ROUNDS):
        for with_keys in (False, True) if number % 2 else (True, False):
            taken[with_keys].append(measure(load, keys, with_keys=with_keys))
    (without, base, _), (with_, busy, hits) = (
        [statistics.median(column) for column in zip(*taken[each], strict=True)]
        for each in (False, True)
    )
    ratio = busy / base
    line = [name, f"{without:.3f} s", f"{with_:.3f} s", f"{with_ / without:.2f}"]
    return [*line, f"{ratio:.2f}", f"{hits:.0%}"], ratio, base


def compare_serial(keys: Sequence[int]) -> tuple[list[str], float]:
    """Gives the line of the queued tasks in order, and how many times as long executors take."""
    taken: dict[Callable[[Sequence[int]], float], list[float]] = {}
    for number in range(ROUNDS):
        ways = (measure_serial, measure_executors)
        for way in ways if number % 2 else reversed(ways):
            taken.setdefault(way, []).append(way(keys))
    runner, executors = (
        statistics.median(taken[way]) for way in (measure_serial, measure_executors)
    )
    gain = executors / runner
    line = ["*serial*, beside executors", f"{executors:.3f} s", f"{runner:.3f} s"]
    return [*line, f"1/{gain:.0f}", "", ""], gain


def main() -> None:
    """Measures every load."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--write-docs", action="store_true", help=f"put the table into {report.PAGE.name}"
    )
    options = parser.parse_args()
    where, begin = setting.describe(), setting.ProcessorTime.so_far()
    choice = random.Random(1)
    keys = [choice.randrange(KEYS) for _ in range(TASKS)]
    lines, ratios, bases = [], [], []
    for name, load in LOADS.items():
        line, ratio, base = compare(name, load, keys)
        lines.append(line)
        ratios.append(ratio)
        bases.append(base)
    calls = statistics.median(measure_calls(keys) for _ in range(ROUNDS)) / bases[0]
    line, gain = compare_serial(keys)
    lines.append(line)
    end = setting.ProcessorTime.so_far()
    where["Method"] = f"median of {ROUNDS} rounds, in which all take turns"
    if begin and end:
        share = end.share_of_others_since(begin)
        where["Others"] = f"{share:.0%} of all processor time went to other processes"
    note = (
        f"The calls of the key function alone are {calls:.0%} of the processor time of *queued*\n"
        "without keys."
    )
    text = f"{report.setting_list(where)}\n\n{report.table(HEAD, lines)}\n\n{note}"
    print(text, flush=True)
    if options.write_docs:
        report.put_between(BEGIN, END, text)
    assert gain >= LEAST, f"executors take less than {LEAST:.0f} times as long"
    assert ratios[0] <= MOST, f"keys cost more than {MOST:.0%} of that without"


if __name__ == "__main__":
    main()
