"""Compares the ways to run pure-Python work on all cores of one machine.

Run it in the root of a clone, on a quiet machine, with a release build and the extra `ray`:

    python -m benches.python.all_cores
    python -m benches.python.all_cores --free-threaded python3.14t --write-docs

The other interpreter has to have the package, too: `PYTHONPATH` of `--free-threaded-path` goes to
it. In every round each contestant has a turn of some slices; its figure is the best slice of all,
which is the one that others on the machine have disturbed least.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benches.python import setting
from tasker import Config, Runner

PAGE = Path("docs/how-to/all-cores.md")
BEGIN = "<!-- figures: begin, written by benches/python/all_cores.py -->"
END = "<!-- figures: end -->"

CORES = os.cpu_count() or 1
SIZES = {"1 ms": 6_000, "30 ms": 180_000}
"""How many turns a task takes, by what that is about on the machine of the figures."""
SECONDS, SLICES = 2.0, 2
"""How long a plain loop works in a slice, and how many slices a turn has.

A slice is so long that threads have come to all cores in a small part of it.
"""

Map = Callable[[int, int], Iterable[object]]
"""Runs so many tasks of so many turns."""
Figures = dict[str, float]

now = time.perf_counter


def work(turns: int) -> int:
    """Pure Python that holds the GIL all the time."""
    value = 1
    for _ in range(turns):
        value = (value * 1_103_515_245 + 12_345) % 2_147_483_648
    return value


def work_on(_resource: object, turns: int) -> int:
    return work(turns)


def config(workers: int) -> Config[dict[str, int]]:
    return Config(on_create=dict, worker_count=workers)


def loop() -> tuple[None, Map]:
    return None, lambda count, turns: [work(turns) for _ in range(count)]


def threads() -> tuple[AbstractContextManager[Any], Map]:
    runner = Runner(config(CORES))
    return runner, lambda count, turns: runner.map(work_on, [turns] * count)


def actors() -> tuple[AbstractContextManager[Any], Map]:
    from tasker.ray import RayRunner  # noqa: PLC0415 - the other interpreter has no Ray

    runner = RayRunner(config(1), actors=CORES)
    return runner, lambda count, turns: runner.map(work_on, [turns] * count)


def processes(chunk: int = 1) -> tuple[AbstractContextManager[Any], Map]:
    # Ray and the runners before it have left threads, with which no process may be forked.
    pool = ProcessPoolExecutor(CORES, mp_context=get_context("forkserver"))
    return pool, lambda count, turns: pool.map(work, [turns] * count, chunksize=chunk)


LOOP, FREE = "a plain loop", "free-threaded: "

WITH_GIL: dict[str, Callable[[], tuple[AbstractContextManager[Any] | None, Map]]] = {
    LOOP: loop,
    "`Runner`, a worker for each core": threads,
    "`RayRunner`, an actor for each core": actors,
    "`ProcessPoolExecutor.map`": processes,
    "the same with `chunksize=8`": lambda: processes(8),
}
WITHOUT_GIL = dict(list(WITH_GIL.items())[:2])


def measure(name: str, *, is_quick: bool) -> Figures:
    """Runs one contestant once: the seconds until it is ready, and tasks in a second by size."""
    kinds = WITH_GIL[name]
    begin = now()
    block, run = kinds()
    assert len(list(run(CORES, 1))) == CORES
    found = {"start": now() - begin}
    for size, turns in SIZES.items():
        expected = work(turns)
        single = _seconds_of(turns)
        count = max(2 * CORES, int((0.1 if is_quick else SECONDS) / single))
        found[size] = 0.0
        for _ in range(1 if is_quick else SLICES):
            begin = now()
            results = list(run(count, turns))
            found[size] = max(found[size], count / (now() - begin))
            assert results == [expected] * count
    if block is not None:
        block.__exit__(None, None, None)
    return found


def _seconds_of(turns: int) -> float:
    begin = now()
    work(turns)
    return now() - begin


def measure_there(program: list[str], path: str, name: str, *, is_quick: bool) -> Figures:
    """Has another interpreter measure a contestant."""
    command = [*program, "-m", __spec__.name, "--only", name]
    environment = os.environ | {"PYTHONPATH": path}
    flags = ["--quick"] if is_quick else []
    done = subprocess.run(
        command + flags, check=True, capture_output=True, text=True, env=environment
    )
    found: Figures = json.loads(done.stdout)
    return found


def table(rounds: list[dict[str, Figures]]) -> str:
    """Writes the best of each, as a multiple of the plain loop of its interpreter."""
    lines = [
        "| | ready after | " + " | ".join(f"tasks of {size}" for size in SIZES) + " |",
        "|---|---|" + "---|" * len(SIZES),
    ]
    for name in rounds[0]:
        base = f"{FREE}{LOOP}" if name.startswith(FREE) else LOOP
        cells = [name, f"{statistics.median(each[name]['start'] for each in rounds):.2f} s"]
        for size in SIZES:
            rate, alone = (max(each[which][size] for each in rounds) for which in (name, base))
            cells.append(f"{rate / alone:.2f}x ({rate:,.0f}/s)")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measures, and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="few tasks, to see that it runs")
    parser.add_argument("--free-threaded", help="an interpreter without the GIL, with the package")
    parser.add_argument("--free-threaded-path", default="", help="the PYTHONPATH for it")
    parser.add_argument("--write-docs", action="store_true", help=f"put the table into {PAGE}")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, is_quick=options.quick)))
        return
    ray: Any = import_module("ray")
    # Else its processes would come after those of the others, by a niceness of 15.
    os.environ.setdefault("RAY_worker_niceness", "0")
    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    load = os.getloadavg()[0]
    rounds: list[dict[str, Figures]] = []
    for turn in range(1 if options.quick else options.rounds):
        names = list(WITH_GIL)
        found = {name: measure(name, is_quick=options.quick) for name in names[turn % 5 :]}
        found |= {name: measure(name, is_quick=options.quick) for name in names[: turn % 5]}
        if options.free_threaded:
            program, path = [options.free_threaded], options.free_threaded_path
            for name in WITHOUT_GIL:
                found[f"{FREE}{name}"] = measure_there(program, path, name, is_quick=options.quick)
        rounds.append({name: found[name] for name in [*names, *list(found)[len(names) :]]})
    ray.shutdown()
    facts = setting.describe()
    if options.free_threaded:
        command = [options.free_threaded, "-c", "import platform; print(platform.python_version())"]
        version = subprocess.run(command, check=True, capture_output=True, text=True)
        facts["Free-threaded"] = f"CPython {version.stdout.strip()}"
    facts["Load when it began"] = f"{load:.1f}"
    where = ". ".join(f"{name}: {value}" for name, value in facts.items())
    text = f"{table(rounds)}\n\nRay {ray.__version__}, {len(rounds)} rounds. {where}."
    print(text)
    if options.write_docs:
        page = PAGE.read_text("utf-8")
        start, rest = page.split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(f"{start}{BEGIN}\n\n{text}\n\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
