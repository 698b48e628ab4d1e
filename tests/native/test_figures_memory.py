"""The figures of a runner take less than a megabyte, however many names its tasks and errors have.

Rust's memory is seen by none of Python's tools: a process of its own is asked for its pages, before
many runners and after. What their threads take, and what the interpreter keeps for each of them, is
found by executors, which count nothing by name.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

RUNNERS = 10
TASKS = 10_000
PROGRAM = f"""
import gc
import sys
from pathlib import Path
from tasker import Config, Runner, ThreadPoolExecutor

TAIL = 200 * sys.argv[1]


def pages():
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def task_of(number):
    def task(_resource=None):
        if number % 100 == 0:
            raise type(f"{{number}} {{TAIL}}", (Exception,), {{}})

    task.__qualname__ = f"{{number}} {{TAIL}}"
    return task


def run(pool):
    for begin in range(0, {TASKS}, 100):
        numbers = range(begin, begin + 100)
        for future in [pool.submit(task_of(number)) for number in numbers]:
            future.exception()
    if isinstance(pool, Runner):
        metrics = pool.metrics()
        assert (len(metrics.by_task), len(metrics.errors)) == (201, 100)
    return pool


def runner():
    return Runner(Config(on_create=object, worker_count=1, logger=None))


def executor():
    return ThreadPoolExecutor(1)


def cost(make):
    before = pages()
    pools.extend(run(make()) for _ in range({RUNNERS}))
    return (pages() - before) // {RUNNERS}


# What the first of them needs once.
pools = [run(executor()), run(runner())]
without, whole = cost(executor), cost(runner)
print(whole - without)
for pool in pools:
    pool.__exit__(None, None, None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("character", "most"),
    # A character that is not printable takes ten that are.
    [pytest.param("n", 1_000_000, id="plain"), pytest.param("\U0010ffff", 1_500_000, id="escaped")],
)
def test_many_long_names_and_types_of_errors_take_little(character: str, most: int) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, character], capture_output=True, text=True, timeout=50
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert int(result.stdout) < most
