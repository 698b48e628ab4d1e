"""What it costs to wait for a retry with a worker, and without one.

    python -m benches.python.retries

First the time until all is done: tasks of 5 ms on 4 workers, of which one in four fails twice and
is tried again 0.25 s later. By hand, in the task, a loop that sleeps on the worker; a `Retry` of
the same pause. The least there is: the slowest task alone, or all attempts on 4 workers. The
contestants take turns. Then the memory of tasks that are paused, beside their exceptions.
"""

from __future__ import annotations

import contextlib
import gc
import math
import statistics
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasker import Config, Retry, Runner, current_context

TASKS, WORKERS, ATTEMPT, PAUSE, FAILURES = 200, 4, 0.005, 0.25, 2
ROUNDS = 5
PAUSED = 100_000
PAGE = 4096


class Busy(Exception):
    """The service asks to come back later."""


def attempt(number: int, tries: int) -> None:
    """One call of the service, which one task in four has to make three times."""
    time.sleep(ATTEMPT)
    if number % 4 == 0 and tries <= FAILURES:
        raise Busy(number)


def by_hand(_resource: object, number: int) -> None:
    for tries in range(1, FAILURES + 2):
        try:
            return attempt(number, tries)
        except Busy:
            time.sleep(PAUSE)
    raise AssertionError


def by_retry(_resource: object, number: int) -> None:
    attempt(number, current_context().attempt)


def seconds(function: Callable[[Any, int], None], retry: Retry | None) -> float:
    config: Config[Any] = Config(on_create=dict, worker_count=WORKERS, retry=retry)
    with Runner(config) as runner:
        began = time.perf_counter()
        for _ in runner.map(function, range(TASKS), ordered=False, buffersize=TASKS):
            pass
        return time.perf_counter() - began


def resident() -> int:
    """Bytes of this process that are in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE


def fail(_resource: object) -> None:
    raise Busy


def raised() -> BaseException:
    """An exception as a paused task keeps it: its frames have no variables any more."""
    try:
        fail(None)
    except Busy as error:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            with contextlib.suppress(RuntimeError):
                frame.clear()
        return error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
    raise AssertionError


def bytes_for_each() -> tuple[float, int]:
    """The memory of a paused task beside its exception, and the threads that all of them take."""
    before = resident()
    errors = [raised() for _ in range(PAUSED)]
    for_errors = resident() - before
    del errors
    retry = Retry(on=lambda _: 3600.0)
    config: Config[Any] = Config(on_create=dict, worker_count=WORKERS, retry=retry)
    with Runner(config) as runner:
        runner.queue_task(bool)
        before, threads = resident(), threading.active_count()
        for _ in range(PAUSED):
            runner.submit(fail)
        while runner.stats().paused_tasks < PAUSED:
            time.sleep(0.01)
        grown, more = resident() - before, threading.active_count() - threads
        runner.kill()
    return (grown - for_errors) / PAUSED, more


def main() -> None:
    contestants: dict[str, Callable[[], float]] = {
        "sleeping on the worker": lambda: seconds(by_hand, None),
        "Retry": lambda: seconds(by_retry, Retry(on=lambda _: PAUSE)),
    }
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, run in contestants.items():
            taken[name].append(run())
    attempts = TASKS + TASKS // 4 * FAILURES
    least = max(ATTEMPT + FAILURES * (PAUSE + ATTEMPT), math.ceil(attempts / WORKERS) * ATTEMPT)
    print(f"{'the least there is':24}{least:8.2f} s")
    for name, times in taken.items():
        print(f"{name:24}{statistics.median(times):8.2f} s  ({min(times):.2f} to {max(times):.2f})")
    each, threads = bytes_for_each()
    print(
        f"{PAUSED} paused tasks: {each:.0f} bytes each beside the exception, {threads} threads more"
    )


if __name__ == "__main__":
    main()
