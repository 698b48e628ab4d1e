"""Compares `RayRunner` with what one calls by hand on Ray, in one run.

Run it in the root of a clone, on a quiet machine, with a release build and the extra `ray`:

    python -m benches.python.ray                # in the terminal
    python -m benches.python.ray --write-docs   # into docs/ray.md

In every round each contestant has a turn; the figures are medians of the rounds, and ratios to the
anchors of the same rounds. Ratios travel to other machines, absolute figures do not.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from benches.python import setting
from tasker import Config, Runner, current_context
from tasker.ray import RayRunner

ray: Any = import_module("ray")
ActorPool: Any = import_module("ray.util").ActorPool
cloudpickle: Any = ray.cloudpickle

PAGE = Path("docs/ray.md")
BEGIN = "<!-- figures: begin, written by benches/python/ray.py -->"
END = "<!-- figures: end -->"
ACTORS = 2

Resource = dict[str, int]
Times = dict[str, list[float]]


def noop(_resource: object) -> None:
    pass


def noop_of(_resource: object, _item: int) -> None:
    pass


def nap(_resource: object, _item: int) -> None:
    time.sleep(0.01)


def until_cancelled(_resource: object) -> float:
    current_context().wait()
    return time.time()


class ByHand:
    """What one writes without a runner: an actor that owns a resource."""

    def __init__(self) -> None:
        self.resource: dict[str, int] = {}

    def noop(self) -> None:
        """The least that a call can be."""

    def call(self, packed: bytes) -> Any:
        """Takes a task function."""
        return cloudpickle.loads(packed)(self.resource)

    def call_each(self, packed: bytes, items: list[int]) -> list[Any]:
        """Takes it for many items."""
        fn = cloudpickle.loads(packed)
        return [fn(self.resource, item) for item in items]


def rate(count: int, run: Callable[[], object]) -> float:
    """Calls per second."""
    begin = time.perf_counter()
    run()
    return count / (time.perf_counter() - begin)


def p50(run: Callable[[], object], times: int = 60) -> float:
    """The median of single calls, in milliseconds."""
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        run()
        found.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(found)


def own_memory(process: int) -> float:
    """What a process has for itself, in MB."""
    total = 0
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean", "Private_Dirty")):
            total += int(line.split()[1])
    return total / 1024


def measure_calls(times: Times, rounds: int, scale: float) -> None:
    """No-op tasks and round trips, on two actors of one worker."""
    count = int(1000 * scale)
    actors = [ray.remote(ByHand).remote() for _ in range(ACTORS)]
    packed, packed_of = cloudpickle.dumps(noop), cloudpickle.dumps(noop_of)
    ray.get([each.noop.remote() for each in actors])

    def bare() -> None:
        ray.get([actors[n % ACTORS].noop.remote() for n in range(count)])

    def pool() -> None:
        for _ in ActorPool(actors).map_unordered(lambda a, _: a.call.remote(packed), range(count)):
            pass

    def lists(size: int = 64) -> None:
        parts = [range(n, n + size) for n in range(0, 20 * count, size)]
        ray.get(
            [
                actors[n % ACTORS].call_each.remote(packed_of, list(part))
                for n, part in enumerate(parts)
            ]
        )

    config: Config[Resource] = Config(on_create=dict, worker_count=1)
    with RayRunner(config, actors=ACTORS) as runner:

        def submit() -> None:
            for future in [runner.submit(noop) for _ in range(20 * count)]:
                future.result()

        def submit_many() -> None:
            for future in runner.submit_many(noop_of, range(20 * count)):
                future.result()

        def map_all() -> None:
            for _ in runner.map(noop_of, range(20 * count)):
                pass

        contestants: list[tuple[str, Callable[[], float]]] = [
            ("bare", lambda: rate(count, bare)),
            ("pool", lambda: rate(count, pool)),
            ("lists", lambda: rate(20 * count, lists)),
            ("submit", lambda: rate(20 * count, submit)),
            ("submit_many", lambda: rate(20 * count, submit_many)),
            ("map", lambda: rate(20 * count, map_all)),
            ("trip_bare", lambda: p50(lambda: ray.get(actors[0].noop.remote()))),
            ("trip_call", lambda: p50(lambda: ray.get(actors[0].call.remote(packed)))),
            ("trip", lambda: p50(lambda: runner.queue_task(noop))),
            ("cancel", lambda: cancel_time(runner)),
        ]
        map_all()  # the first run finds how far ahead to send
        for turn in range(rounds):
            for name, run in contestants[turn:] + contestants[:turn]:
                times.setdefault(name, []).append(run())
    for each in actors:
        ray.kill(each)


def cancel_time(runner: RayRunner[Any]) -> float:
    """From `request_cancel` to the moment at which the task knows, in milliseconds."""
    found = []
    for _ in range(10):
        future = runner.submit(until_cancelled)
        while not any(worker.state == "busy" for worker in runner.workers()):
            pass
        begin = time.time()
        future.request_cancel()
        found.append((future.result() - begin) * 1e3)
    return statistics.median(found)


def measure_naps(times: Times, rounds: int, scale: float) -> None:
    """Tasks of 10 ms, on two actors of eight workers and on a local runner of sixteen."""
    count = int(3000 * scale)
    local: Config[Resource] = Config(on_create=dict, worker_count=16)
    each: Config[Resource] = Config(on_create=dict, worker_count=8)
    with Runner(local) as here, RayRunner(each, actors=ACTORS) as there:

        def run(runner: Any) -> float:
            futures = partial(runner.submit_many, nap, range(count))
            return rate(count, lambda: [future.result() for future in futures()])

        run(there)
        for _ in range(rounds):
            times.setdefault("naps_local", []).append(run(here))
            times.setdefault("naps", []).append(run(there))


def measure_size(times: Times, rounds: int) -> None:
    """Memory and start of eight workers on a node: in one actor, and in eight."""
    for name, actors, workers in (("one", 1, 8), ("eight", 8, 1)) * rounds:
        begin = time.perf_counter()
        config: Config[Resource] = Config(on_create=dict, worker_count=workers)
        options = {"num_cpus": 0}
        with RayRunner(config, actors=actors, actor_options=options) as runner:
            times.setdefault(f"start_{name}", []).append(time.perf_counter() - begin)
            memory = [own_memory(each.process) for each in runner.actors()]
            times.setdefault(f"memory_{name}", []).append(sum(memory))


def table(times: Times) -> str:
    """Writes the figures beside their targets."""
    found = {name: statistics.median(each) for name, each in times.items()}
    pool, bare = found["pool"], found["bare"]
    rows = [
        (
            "no-op tasks by `submit`",
            f"{found['submit']:,.0f}/s",
            f"{found['submit'] / pool:.0f}x `ActorPool` ({pool:,.0f}/s), "
            f"{found['submit'] / bare:.0f}x bare calls ({bare:,.0f}/s)",
            "≥ 10x, ≥ 3x",
        ),
        (
            "`submit_many`",
            f"{found['submit_many']:,.0f}/s",
            f"{found['submit_many'] / pool:.0f}x `ActorPool`; lists of 64 by hand "
            f"{found['lists'] / pool:.0f}x",
            "≥ 50x",
        ),
        ("`map`", f"{found['map']:,.0f}/s", f"{found['map'] / pool:.0f}x `ActorPool`", "≥ 50x"),
        (
            "one task, idle, p50",
            f"{found['trip']:.2f} ms",
            f"{found['trip'] / found['trip_call']:.2f}x a call with a function "
            f"({found['trip_call']:.2f} ms), bare {found['trip_bare']:.2f} ms",
            "≤ 1.3x",
        ),
        (
            "tasks of 10 ms, 2x 8 workers",
            f"{found['naps']:,.0f}/s",
            f"{found['naps'] / found['naps_local']:.0%} of a local `Runner` of 16 "
            f"({found['naps_local']:,.0f}/s)",
            "≥ 90 %",
        ),
        (
            "cancel of a running task",
            f"{found['cancel']:.1f} ms",
            f"{found['cancel'] / found['trip_bare']:.1f}x a bare call",
            "≤ 5x",
        ),
        (
            "memory of 8 workers on a node",
            f"{found['memory_one']:.0f} MB",
            f"{found['memory_one'] / found['memory_eight']:.0%} of 8 actors "
            f"({found['memory_eight']:.0f} MB)",
            "≤ ¼",
        ),
        (
            "their start",
            f"{found['start_one']:.1f} s",
            f"{found['start_one'] / found['start_eight']:.0%} of 8 actors "
            f"({found['start_eight']:.1f} s)",
            "≤ ¼",
        ),
    ]
    lines = ["| what | figure | beside it | target |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def main() -> None:
    """Measures, and writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="few tasks, to see that it runs")
    parser.add_argument("--write-docs", action="store_true", help=f"put the table into {PAGE}")
    options = parser.parse_args()
    scale, rounds = (0.1, 1) if options.quick else (1.0, options.rounds)
    # Else its processes would come after this one, by a niceness of 15.
    os.environ.setdefault("RAY_worker_niceness", "0")
    ray.init(num_cpus=ACTORS + 2, include_dashboard=False, log_to_driver=False)
    times: Times = {}
    measure_calls(times, rounds, scale)
    measure_naps(times, rounds, scale)
    measure_size(times, rounds)
    ray.shutdown()
    where = ", ".join(f"{name}: {value}" for name, value in setting.describe().items())
    text = f"{table(times)}\n\nRay {ray.__version__}, {rounds} rounds. {where}."
    print(text)
    if options.write_docs:
        page = PAGE.read_text("utf-8")
        before, rest = page.split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
