"""Indexes the source of the standard library in two actors of Ray, and searches both at once.

Each actor keeps a shard: a database with every second file. A search asks both and merges the
answers by rank. In the middle the process of one actor is killed: its runner makes another one,
which opens the same database, and repeats what was lost, so that no file is missing. The program
checks its own work, and ends with status 1 when it does not hold every file exactly once.

Run it in the root of a clone, with the extra `ray`: `python -m examples.index_stdlib_on_ray`.
"""

import argparse
import heapq
import os
import signal
import sqlite3
import sys
import tempfile
import time
from concurrent.futures import as_completed
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import ray

from examples.index_stdlib import (
    SEARCHES,
    connect,
    create_index,
    find_sources,
    index_file,
    read_index,
)
from tasker import Config, Priority
from tasker.ray import RayRunner

SHARDS = 2

Shard = RayRunner[sqlite3.Connection]
Found = tuple[float, str]
"""The rank of a file, of which the lowest is the best, and its name."""


def start_shard(database: Path) -> Shard:
    """Makes an empty database and an actor for it, with two connections."""
    create_index(database)
    config = Config(
        on_create=partial(connect, database),
        on_destroy=sqlite3.Connection.close,
        worker_count=2,
    )
    return RayRunner(config, actors=1)


def search_shard(connection: sqlite3.Connection, words: str) -> list[Found]:
    """Returns the three best files of a shard."""
    query = "select rank, path from sources where sources match ? order by rank limit 3"
    return connection.execute(query, (words,)).fetchall()


def search(shards: list[Shard], words: str) -> str:
    """Asks all shards at once, past the files that wait; returns the three best of all."""
    asked = [shard.options(priority=Priority.HIGH).submit(search_shard, words) for shard in shards]
    best = heapq.nsmallest(3, (found for future in asked for found in future.result()))
    return ", ".join(path for _, path in best) or "nothing"


def index(shards: list[Shard], sources: list[Path]) -> list[str]:
    """Deals the sources out; kills an actor in the middle and searches meanwhile."""
    futures = [
        shards[number % SHARDS].submit(index_file, number, path)
        for number, path in enumerate(sources)
    ]
    names = []
    for future in as_completed(futures):
        names.append(future.result())
        if len(names) == len(sources) // 4:
            asked = time.perf_counter()
            answer = search(shards, "abstract base class")
            milliseconds = (time.perf_counter() - asked) * 1000
            waiting = sum(shard.stats().queued_tasks for shard in shards)
            print(f"      searched in {milliseconds:.0f} ms, {waiting} tasks waiting: {answer}")
        if len(names) == len(sources) // 2:
            (actor,) = shards[0].actors()
            os.kill(actor.process, signal.SIGKILL)
            print(f"      killed the process of {actor.name}")
        if len(names) % 250 == 0 or len(names) == len(sources):
            print(f"{len(names):5} of {len(sources)} files")
    return names


def main() -> int:
    """Builds the index, reports what was done and returns the exit status."""
    options = argparse.ArgumentParser(description="Index the standard library's source on Ray.")
    options.add_argument("--limit", type=int, help="take only the first LIMIT files")
    sources = find_sources()[: options.parse_args().limit]
    ray.init(num_cpus=SHARDS, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        shards = [
            stack.enter_context(start_shard(Path(folder, f"{number}.db")))
            for number in range(SHARDS)
        ]
        started = time.perf_counter()
        read = index(shards, sources)
        seconds = time.perf_counter() - started
        parts = [shard.queue_task(read_index)[0] for shard in shards]
        for words in SEARCHES:
            print(f"{words}: {search(shards, words)}")
    ray.shutdown()

    indexed = sorted(name for part in parts for name in part)
    sizes = " and ".join(str(len(part)) for part in parts)
    print(f"files {len(indexed)}, in shards of {sizes}, {seconds:.1f} s")
    complete = len(read) == len(sources) and sorted(read) == indexed
    print("every file is in the index once:", "yes" if complete else "NO")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
