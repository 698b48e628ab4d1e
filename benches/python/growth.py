"""How the cost of a task grows with what there is of everything, beside the rivals.

    python -m benches.python.growth                   # prints the figures
    python -m benches.python.growth --write-docs      # and draws them for docs/performance.md
    python -m benches.python.growth --json FILE       # and keeps what each round gave

Each point is measured in a process of its own, as what an earlier one left of memory would be
measured too, and in every round the contestants take turns. A curve ends where one more point
would take a rival minutes or all memory.

The *bound* of a stop is what bare threads take, with no pool at all: each sleeps on a lock of its
own, wakes the next one and ends.
"""

from __future__ import annotations

import argparse
import contextvars
import json
import statistics
import subprocess
import sys
import threading
import time
from _thread import allocate_lock
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benches.python import measure, report, setting
from benches.python.contestants import POOLS, HandWrittenPool, Pool, StandardPool, TaskerPool
from tasker import Config, Runner

ROUNDS = 5
BULK, ROUND_TRIPS, WORKERS = 50_000, 8_000, 4
ENOUGH = 0.2
"""Seconds for which a process measures a point again and again, where once takes less."""
PROCESSES = 5
"""How many measure a point in a round, where one measures it once and it takes a moment."""
MANY, ROUNDS_OF_MANY = 1_000_000, 3
"""From so many tasks on a point is measured in so many rounds alone."""
BEGIN = "<!-- growth: begin, written by benches/python/growth.py -->"
END = "<!-- growth: end -->"
STANDARD, BY_HAND, US, BARE = (
    StandardPool.name,
    HandWrittenPool.name,
    TaskerPool.name,
    "bare threads",
)
NAMES = (STANDARD, BY_HAND, BARE, US)

now = time.perf_counter
noop = measure.noop
Points = dict[str, dict[int, list[float]]]
"""By contestant and size: what each round gave."""


@dataclass(frozen=True)
class Curve:
    """What grows, what is measured, and up to where each contestant goes."""

    name: str
    size: str
    figure: str
    run: Callable[[str, int], float]
    sizes: Sequence[int]
    most: dict[str, int]
    once: bool = False
    """A process measures no more than once: what was freed before would be memory at hand, which
    the large sizes do not find."""


@dataclass(frozen=True)
class Goal:
    """How many times as much the large is to cost as the small, at most."""

    curve: str
    large: int
    small: int
    most: float
    text: str


def pool_named(name: str) -> type[Pool]:
    return next(pool for pool in POOLS if pool.name == name)


def waiting(name: str, tasks: int) -> float:
    """Queues tasks behind one that blocks the only worker, then waits for them all."""
    blocked, gate = threading.Event(), threading.Event()

    def block(_resource: object = None) -> None:
        blocked.set()
        gate.wait()

    with pool_named(name)(1) as opened:
        submit, wait = opened.submit, opened.wait
        submit(block)
        blocked.wait()
        begin = now()
        tickets = [submit(noop) for _ in range(tasks)]
        gate.set()
        for ticket in tickets:
            wait(ticket)
        return (now() - begin) / tasks * 1e9


def bulk(name: str, workers: int) -> float:
    """Lets all workers come up first: the standard pool starts them as tasks come."""
    meeting = threading.Barrier(workers)

    def meet(_resource: object = None) -> None:
        meeting.wait()

    with pool_named(name)(workers) as opened:
        submit, wait = opened.submit, opened.wait
        for ticket in [submit(meet) for _ in range(workers)]:
            wait(ticket)
        begin = now()
        for ticket in [submit(noop) for _ in range(BULK)]:
            wait(ticket)
        return (now() - begin) / BULK * 1e9


def stop(name: str, workers: int) -> float:
    if name == BARE:
        return stop_bare_threads(workers)
    return measure.start_stop(pool_named(name), workers)["stop"] / workers * 1e3


def stop_bare_threads(count: int) -> float:
    locks = [allocate_lock() for _ in range(count)]
    for lock in locks:
        lock.acquire()
    up = threading.Barrier(count + 1)

    def live(place: int) -> None:
        up.wait()
        locks[place].acquire()
        if place + 1 < count:
            locks[place + 1].release()

    threads = [threading.Thread(target=live, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    up.wait()
    begin = now()
    locks[0].release()
    for thread in threads:
        thread.join()
    return (now() - begin) / count * 1e6


def producers(name: str, threads: int) -> float:
    figures = measure.producers(pool_named(name), threads, WORKERS, ROUND_TRIPS)
    return 1e6 / figures[""]


def variables(name: str, count: int) -> float:
    """Sets context variables, which tasks see: with the rivals by a copy for each task."""
    for number in range(count):
        contextvars.ContextVar[int](f"variable_{number}").set(number)
    with pool_named(name)(WORKERS) as opened:
        submit, wait, copy = opened.submit, opened.wait, contextvars.copy_context
        wait(submit(noop))
        begin = now()
        if name == US:
            tickets = [submit(noop) for _ in range(BULK)]
        elif name == STANDARD:
            tickets = [submit(copy().run, noop) for _ in range(BULK)]
        else:
            # Its workers put the resource before the arguments.
            tickets = [submit(run_in, copy()) for _ in range(BULK)]
        for ticket in tickets:
            wait(ticket)
        return (now() - begin) / BULK * 1e9


def run_in(_resource: object, context: contextvars.Context) -> None:
    """A task for the pool by hand: what was submitted runs in a context that came along."""
    context.run(noop)


def keys(name: str, count: int) -> float:
    """Runs the tasks of each key in order; the rivals have a thread for each key for that."""
    wanted = [number % count for number in range(max(BULK, count))]
    run = {US: keys_of_runner, STANDARD: keys_of_executors, BY_HAND: keys_by_hand}[name]
    return run(wanted) / len(wanted) * 1e9


def keys_of_runner(wanted: Iterable[int]) -> float:
    with Runner(Config(on_create=object, worker_count=WORKERS)) as runner:
        submit = runner.options(key=itself, serial=True).submit
        submit(of_key, 0).result()
        begin = now()
        for future in [submit(of_key, key) for key in wanted]:
            future.result()
        return now() - begin


def keys_of_executors(wanted: Iterable[int]) -> float:
    with ExitStack() as opened:
        executors: defaultdict[int, ThreadPoolExecutor] = defaultdict(
            lambda: opened.enter_context(ThreadPoolExecutor(1))
        )
        begin = now()
        for future in [executors[key].submit(of_key, None, key) for key in wanted]:
            future.result()
        return now() - begin


def keys_by_hand(wanted: Iterable[int]) -> float:
    with ExitStack() as opened:
        pools: defaultdict[int, HandWrittenPool] = defaultdict(
            lambda: opened.enter_context(HandWrittenPool(1))
        )
        begin = now()
        for ticket in [pools[key].submit(of_key, key) for key in wanted]:
            HandWrittenPool.take(ticket)
        return now() - begin


def itself(key: int) -> int:
    """Gives a task its key."""
    return key


def of_key(_resource: object, _key: int) -> None:
    """A task that does nothing."""


CURVES = (
    Curve(
        "waiting",
        "tasks that wait",
        "ns for a task, submit to result",
        waiting,
        (10_000, 100_000, 1_000_000, 5_000_000, 10_000_000),
        {STANDARD: 1_000_000, BY_HAND: 10_000_000, US: 10_000_000},
        once=True,
    ),
    Curve(
        "workers",
        "workers",
        "ns for a task, submit to result",
        bulk,
        (1, 4, 16, 64, 256, 512, 2_000),
        {STANDARD: 2_000, BY_HAND: 2_000, US: 2_000},
    ),
    Curve(
        "stop",
        "idle workers",
        "µs for each worker, of a stop",
        stop,
        (1, 4, 16, 64, 256, 512, 2_000),
        {STANDARD: 2_000, BY_HAND: 2_000, BARE: 2_000, US: 2_000},
    ),
    Curve(
        "producers",
        "threads that submit and wait",
        "µs for a task, all together",
        producers,
        (1, 2, 4, 8, 16, 32, 64),
        {STANDARD: 64, BY_HAND: 64, US: 64},
    ),
    Curve(
        "variables",
        "context variables set",
        "ns for a task that sees them",
        variables,
        (0, 1, 4, 16, 64, 256, 1_024),
        {STANDARD: 1_024, BY_HAND: 1_024, US: 1_024},
    ),
    Curve(
        "keys",
        "keys, each in order",
        "ns for a task",
        keys,
        (1, 10, 100, 1_000, 10_000, 100_000),
        {STANDARD: 1_000, BY_HAND: 1_000, US: 100_000},
    ),
)

GOALS = (
    Goal("waiting", 5_000_000, 10_000, 1.0, "a task, 5 M waiting against 10 k"),
    Goal("waiting", 10_000_000, 10_000, 1.0, "a task, 10 M waiting against 10 k"),
    Goal("workers", 512, 4, 1.0, "a task, 512 workers against 4"),
    Goal("stop", 2_000, 64, 1.15, "a worker's stop, 2,000 idle against 64"),
)


def measure_here(curve: Curve, contestant: str, size: int) -> float:
    """Measures a point in this process."""
    taken: list[float] = []
    begin = now()
    while not taken or (now() - begin < ENOUGH and not curve.once):
        taken.append(curve.run(contestant, size))
    return statistics.median(taken)


def measure_apart(curve: Curve, contestant: str, size: int) -> float:
    """Measures a point in a process of its own, or in some where one measures a moment alone."""
    processes = PROCESSES if curve.once and size < MANY else 1
    return statistics.median(measure_in_child(curve, contestant, size) for _ in range(processes))


def measure_in_child(curve: Curve, contestant: str, size: int) -> float:
    point = [curve.name, contestant, str(size)]
    command = [sys.executable, "-m", "benches.python.growth", "--point", *point]
    child = subprocess.run(
        command, cwd=measure.ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=600
    )
    return float(child.stdout)


def measure_curve(curve: Curve, rounds: int, most: int) -> Points:
    """Measures all contestants at every size in every round, each time in another order."""
    points: Points = {name: {} for name in NAMES if name in curve.most}
    for number in range(rounds):
        for size in curve.sizes:
            if size > most or (size >= MANY and number >= ROUNDS_OF_MANY):
                continue
            who = [name for name in points if size <= curve.most[name]]
            shift = number % len(who)
            for name in who[shift:] + who[:shift]:
                points[name].setdefault(size, []).append(measure_apart(curve, name, size))
    return points


def median(points: Points, contestant: str, size: int) -> float | None:
    """What a contestant reached at a size; None where it was not measured."""
    values = points.get(contestant, {}).get(size)
    return statistics.median(values) if values else None


def growth_of(points: Points, contestant: str, goal: Goal) -> float | None:
    """How many times as much the large costs the contestant as the small."""
    large, small = (median(points, contestant, size) for size in (goal.large, goal.small))
    return large / small if large is not None and small is not None else None


def goal_lines(measured: dict[str, Points]) -> Iterator[list[str]]:
    for goal in GOALS:
        if goal.curve in measured:
            grown = (growth_of(measured[goal.curve], name, goal) for name in NAMES)
            yield [goal.text, *("" if it is None else f"{it:.2f}" for it in grown)]


def curve_table(curve: Curve, points: Points) -> str:
    """The figures of a curve, a line for each size."""
    names = list(points)
    sizes = sorted({size for sizes in points.values() for size in sizes})
    lines = []
    for size in sizes:
        values = (median(points, name, size) for name in names)
        lines.append([f"{size:,}", *("" if it is None else report.short(it) for it in values)])
    return report.table([f"{curve.size}: {curve.figure}", *names], lines)


def main() -> None:
    """Measures every curve, or the one point that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = [curve.name for curve in CURVES]
    parser.add_argument("--only", action="append", choices=names)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--most", type=int, default=10**9, help="leave out what is larger")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round's figures")
    parser.add_argument("--from-json", type=Path, metavar="FILE", help="measure nothing anew")
    parser.add_argument(
        "--write-docs", action="store_true", help=f"tables and plots for {report.PAGE.name}"
    )
    parser.add_argument("--point", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    curves = {curve.name: curve for curve in CURVES}
    if options.point:
        name, contestant, size = options.point
        print(measure_here(curves[name], contestant, int(size)))
        return
    if options.from_json:
        where, measured = read(options.from_json)
    else:
        where, begin = setting.describe(), setting.ProcessorTime.so_far()
        measured = {}
        for name in options.only or names:
            measured[name] = measure_curve(curves[name], options.rounds, options.most)
            print(curve_table(curves[name], measured[name]), end="\n\n", flush=True)
        end = setting.ProcessorTime.so_far()
        where["Method"] = (
            f"median of {options.rounds} rounds, of 3 from a million tasks on, in which all take "
            "turns; each point in a process of its own"
        )
        if begin and end:
            share = end.share_of_others_since(begin)
            where["Others"] = f"{share:.0%} of all processor time went to other processes"
    if options.json:
        kept: dict[str, Any] = {"setting": where, "curves": measured}
        options.json.write_text(json.dumps(kept, indent=1), "utf-8")
    text = [report.setting_list(where)]
    text.append(report.table(["times as much", *NAMES], goal_lines(measured)))
    text += [curve_table(curves[name], points) for name, points in measured.items()]
    print(text[1])
    if options.write_docs:
        # The one part that wants matplotlib.
        from benches.python import plots  # noqa: PLC0415

        plots.draw_growth([(curves[name], points) for name, points in measured.items()])
        report.put_between(BEGIN, END, "\n\n".join(text))


def read(file: Path) -> tuple[dict[str, str], dict[str, Points]]:
    """Reads what an earlier run kept: the setting, and the points of each curve."""
    kept = json.loads(file.read_text("utf-8"))
    measured = {
        curve: {
            name: {int(size): values for size, values in sizes.items()}
            for name, sizes in points.items()
        }
        for curve, points in kept["curves"].items()
    }
    return kept["setting"], measured


if __name__ == "__main__":
    main()
