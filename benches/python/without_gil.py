"""How threads scale without the GIL, and how bulk tasks fare against the other pools there.

    python3.14t -m benches.python.without_gil

A task of pure Python on two workers against one, calls of `run_task` from two threads against one,
all with the same function, and tasks that do nothing, on a few and on several workers. What is
compared with each other takes turns.
"""

import argparse
import statistics
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial

from benches.python import measure, setting
from benches.python.contestants import POOLS, StandardPool, TaskerLender, TaskerPool

COMPUTING = 50e-6
"""How long a task of pure Python takes, in seconds."""
BULK_WORKERS = (1, 4, 8)

Rounds = dict[str, list[float]]
"""What each of those that take turns reached in each round, in tasks a second."""


def computing(workers: int, tasks: int) -> float:
    """Has the workers compute."""
    task = measure.computation(COMPUTING)
    with TaskerPool(workers) as pool:
        pool.wait(pool.submit(task))
        begin = measure.now()
        tickets = [pool.submit(task) for _ in range(tasks)]
        for ticket in tickets:
            pool.wait(ticket)
        return tasks / (measure.now() - begin)


def lent(threads: int, calls: int) -> float:
    """Has so many threads call the same function on resources of one runner."""
    with TaskerLender(2) as lender:
        gate = threading.Barrier(threads + 1)

        def call_often() -> None:
            call, function = lender.call, measure.noop
            call(function)
            gate.wait()
            for _ in range(calls):
                call(function)

        started = [threading.Thread(target=call_often) for _ in range(threads)]
        for thread in started:
            thread.start()
        gate.wait()
        begin = measure.now()
        for thread in started:
            thread.join()
        return threads * calls / (measure.now() - begin)


def take_turns(runs: Mapping[str, Callable[[], float]], rounds: int) -> Rounds:
    """Runs each once in every round, each time another one first."""
    names = list(runs)
    reached: Rounds = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            reached[name].append(runs[name]())
    return reached


def scaling(run: Callable[[int], float], rounds: int) -> tuple[str, float]:
    """How much more two reach than one, and what each of them reached."""
    reached = take_turns({"1": partial(run, 1), "2": partial(run, 2)}, rounds)
    one, two = (statistics.median(reached[name]) for name in ("1", "2"))
    return f"{one / 1e3:7.1f} {two / 1e3:7.1f}", two / one


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="few tasks, to see that it runs")
    parser.add_argument("--only", choices=("computing", "lent", "bulk"), help="default: all")
    options = parser.parse_args()
    scale, rounds = (100, 1) if options.quick else (1, options.rounds)
    print(*(f"{name}: {value}" for name, value in setting.describe().items()), sep="\n")
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        print("With the GIL these figures say how well threads take turns.")
    wanted = (options.only,) if options.only else ("computing", "lent", "bulk")
    if "computing" in wanted:
        figures, ratio = scaling(partial(computing, tasks=10_000 // scale), rounds)
        print(f"computing, 1 and 2 workers    {figures} k/s  {ratio:5.2f} x")
    if "lent" in wanted:
        figures, ratio = scaling(partial(lent, calls=300_000 // scale), rounds)
        print(f"run_task, 1 and 2 threads     {figures} k/s  {ratio:5.2f} x")
    if "bulk" in wanted:
        for workers in BULK_WORKERS:
            run = {pool.name: partial(_bulk, pool, workers, 100_000 // scale) for pool in POOLS}
            reached = take_turns(run, rounds)
            medians = {name: statistics.median(values) for name, values in reached.items()}
            ours = medians.pop(TaskerPool.name)
            ratios = [f"{ours / rate:5.2f} x {name}" for name, rate in medians.items()]
            print(f"bulk, {workers} workers  {ours / 1e3:7.1f} k/s ", *ratios, flush=True)


def _bulk(pool: type, workers: int, tasks: int) -> float:
    # The standard pool is so slow here that a tenth of the tasks tells as much.
    tasks = max(tasks // 10, 64) if pool is StandardPool else tasks
    return measure.bulk(pool, workers, tasks)[""]


if __name__ == "__main__":
    main()
