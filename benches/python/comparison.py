"""What is compared with what, and the rounds in which it happens."""

import gc
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benches.python import measure
from benches.python.contestants import LENDERS, MAPPERS, POOLS, Contestant


@dataclass(frozen=True)
class Unit:
    """What a figure counts, and which way is better."""

    name: str
    more_is_better: bool = False


@dataclass(frozen=True)
class Workload:
    """One kind of work, its cases by name, and those who compete in it."""

    name: str
    description: str
    unit: Unit
    contestants: tuple[type[Contestant], ...]
    cases: Mapping[str, Callable[[Any], measure.Figures]]
    least_rounds: int = 1
    """It takes so many where others take fewer, as its figures vary more."""


@dataclass(frozen=True)
class Row:
    """One figure of one case: what each contestant reached in each round."""

    workload: Workload
    case: str
    figure: str
    rounds: dict[str, list[float]]

    def median(self, contestant: str) -> float:
        """What the contestant reached in the middle one of its rounds."""
        return statistics.median(self.rounds[contestant])

    def ratio(self, contestant: str, other: str) -> float:
        """How many times as good the one's median is as the other's."""
        one, two = self.median(contestant), self.median(other)
        return one / two if self.workload.unit.more_is_better else two / one


def all_workloads(scale: float, pinned: bool) -> list[Workload]:
    """Lists what can be measured on this system.

    Args:
        scale: What the numbers of tasks are multiplied by.
        pinned: Whether everything runs on one core anyway.
    """
    many, some, few = (max(round(count * scale), 64) for count in (100_000, 20_000, 5_000))
    places: dict[str, measure.Place] = {"": nullcontext}
    if sys.platform == "linux" and not pinned:
        places[", one core"] = measure.on_one_core
    workloads = [
        Workload(
            "Bulk",
            f"One thread submits {many:,} tasks that do nothing, then waits for all of them.",
            Unit("tasks/s", more_is_better=True),
            POOLS,
            {
                "1 worker": partial(measure.bulk, workers=1, tasks=many),
                "4 workers": partial(measure.bulk, workers=4, tasks=many),
                "32 workers": partial(measure.bulk, workers=32, tasks=many),
            },
        ),
        Workload(
            "Round trip",
            f"One thread submits a task that does nothing and waits for it, {some:,} times.",
            Unit("µs"),
            POOLS,
            {
                f"{workers}{place}": partial(
                    measure.round_trip, workers=count, tasks=some, place=places[place]
                )
                for place in places
                for workers, count in (("1 worker", 1), ("4 workers", 4))
            },
        ),
        Workload(
            "Producers",
            f"Eight threads do the same with one pool, together {4 * some:,} times.",
            Unit("tasks/s", more_is_better=True),
            POOLS,
            {
                "2 workers": partial(measure.producers, threads=8, workers=2, tasks=4 * some),
                "8 workers": partial(measure.producers, threads=8, workers=8, tasks=4 * some),
            },
        ),
        Workload(
            "asyncio",
            f"A coroutine submits {some:,} tasks that do nothing, and gathers them a thousand at a "
            "time. With ThreadPoolExecutor that is `run_in_executor`; by hand, one call of "
            "`call_soon_threadsafe` for each task; with tasker, `asubmit`.",
            Unit("tasks/s", more_is_better=True),
            POOLS,
            {"4 workers": partial(measure.gathered, workers=4, tasks=some)},
        ),
        Workload(
            "One await after another",
            f"A coroutine does the same, but awaits each of {few:,} tasks before the next one.",
            Unit("µs"),
            POOLS,
            {"4 workers": partial(measure.awaited, workers=4, tasks=few)},
        ),
        Workload(
            "map",
            f"A function that returns its item is called for {many:,} items: by the pool's `map`, "
            "by `map` of `multiprocessing.pool.ThreadPool`, which takes items in chunks, and by "
            "`list(map())` in the caller's thread, without any pool.",
            Unit("items/s", more_is_better=True),
            MAPPERS,
            {"4 workers": partial(measure.mapped, workers=4, items=many)},
        ),
        Workload(
            "Sleep",
            f"One thread submits {few // 5 * 2:,} tasks that sleep a millisecond, then waits for "
            "all of them; the figure is the time in units of the least that the workers can take.",
            Unit("of the ideal"),
            POOLS,
            {
                "64 workers": partial(
                    measure.sleeping, workers=64, tasks=few // 5 * 2, seconds=0.001
                )
            },
        ),
        Workload(
            "SQLite",
            f"One thread submits {some:,} selects of one row by its key, then waits for all of "
            "them. Each worker owns a connection to the same file.",
            Unit("selects/s", more_is_better=True),
            POOLS,
            {
                "1 worker": partial(measure.sqlite, workers=1, tasks=some),
                "4 workers": partial(measure.sqlite, workers=4, tasks=some),
            },
        ),
        Workload(
            "run_task",
            "One thread calls a function that does nothing with a free resource, on the "
            f"spot, {3 * many:,} times. By hand, that is a queue of resources; with tasker, "
            "`run_task` and `thread_bound=False`. By hand there are no time limits.",
            Unit("calls/s", more_is_better=True),
            LENDERS,
            {
                "4 resources": partial(
                    measure.run_here, resources=4, calls=3 * many, limited=False
                ),
                "4 resources, with a time limit": partial(
                    measure.run_here, resources=4, calls=3 * many, limited=True
                ),
            },
        ),
        Workload(
            "Lateness",
            f"The workers run {few:,} tasks of about 0.1 ms of pure Python code. The main "
            "thread is due once in each millisecond meanwhile; the figures are how late it was.",
            Unit("ms"),
            POOLS,
            {"2 workers": partial(measure.lateness, workers=2, tasks=few, seconds=100e-6)},
            least_rounds=15,
        ),
        Workload(
            "Start and stop",
            "From nothing until every worker is inside a task at the same time; then from idle "
            "workers until all threads are gone.",
            Unit("ms"),
            POOLS,
            {"64 workers": partial(measure.start_stop, workers=64)},
        ),
        Workload(
            "Import",
            "A fresh process imports what it needs to make a pool, and tasker's first `Config`.",
            Unit("ms"),
            POOLS,
            {"fresh process": measure.imported},
            least_rounds=15,
        ),
    ]
    if Path("/proc/self/statm").exists():
        # Fewer would find room in what the process has already.
        waiting = max(many, 10_000)
        workloads.append(
            Workload(
                "Memory",
                f"How a fresh process grows for each of {waiting:,} tasks that wait behind a "
                "blocked worker. What `submit` returned is included.",
                Unit("bytes"),
                POOLS,
                {"1 worker": partial(measure.memory, tasks=waiting)},
            )
        )
    return workloads


def compare(workload: Workload, rounds: int) -> Iterator[Row]:
    """Measures all contestants in every round, each time in another order; one round stays one."""
    for case, run in workload.cases.items():
        reached: dict[str, dict[str, list[float]]] = {}
        for number in range(rounds if rounds == 1 else max(rounds, workload.least_rounds)):
            shift = number % len(workload.contestants)
            order = workload.contestants[shift:] + workload.contestants[:shift]
            for contestant in order:
                gc.collect()
                for figure, value in run(contestant).items():
                    values = reached.setdefault(figure, {})
                    values.setdefault(contestant.name, []).append(value)
        for figure, values in reached.items():
            yield Row(workload, case, figure, values)
