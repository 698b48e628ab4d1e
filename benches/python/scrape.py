"""What a scrape costs, against recording each task with a histogram of the client.

    python -m benches.python.scrape

Processor time of this thread, in microseconds and in calls of `Histogram.observe` made in the same
run, without labels and with those by which one would record each task: what the collector does, and
the whole scrape, in which the client writes the lines.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from tasker import Config, Runner
from tasker.prometheus import WAIT_BUCKETS, RunnerCollector

OBSERVATIONS = 400
"""How many observations with labels the collector may cost at most."""
ROUNDS, IN_A_ROW = 10, 30
BARE, LABELLED = "observe", "labels.observe"


def costs(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median processor time of each call in seconds; they take turns, some in a row."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            for _ in range(IN_A_ROW):
                began = time.thread_time()
                call()
                taken[name].append(time.thread_time() - began)
    return {name: statistics.median(times) for name, times in taken.items()}


def observe(histogram: Histogram) -> None:
    for _ in range(OBSERVATIONS):
        histogram.observe(0.01)


def observe_by_label(histogram: Histogram) -> None:
    for _ in range(OBSERVATIONS):
        histogram.labels("db", "normal").observe(0.01)


def main() -> None:
    collector = RunnerCollector()
    registry = CollectorRegistry()
    registry.register(collector)
    bare = Histogram("bare", "", registry=None)
    labelled = Histogram(
        "labelled", "", ["runner", "priority"], buckets=WAIT_BUCKETS, registry=None
    )
    config: Config[Any] = Config(on_create=dict, worker_count=4, name="db", max_queue_size=100_000)
    with Runner(config) as runner:
        for future in [runner.submit(lambda _: None) for _ in range(10_000)]:
            future.result()
        found = costs(
            {
                BARE: partial(observe, bare),
                LABELLED: partial(observe_by_label, labelled),
                "the collector": lambda: list(collector.collect()),
                "a scrape as text": partial(generate_latest, registry),
                "a scrape as OpenMetrics": partial(generate_openmetrics, registry),
            }
        )
    units = {call: found.pop(call) / OBSERVATIONS for call in (BARE, LABELLED)}
    print(f"{'':24}{'µs':>8}", *(f"{call:>14}" for call in units))
    for name, seconds in (units | found).items():
        print(
            f"{name:24}{seconds * 1e6:8.1f}", *(f"{seconds / one:14.1f}" for one in units.values())
        )
    limit = OBSERVATIONS * units[LABELLED]
    assert found["the collector"] <= limit, f"more than {OBSERVATIONS} observations"


if __name__ == "__main__":
    main()
