"""Prints the bytes that each of many waiting tasks takes in this process.

python -m benches.python.memory POOL TASKS
"""

import gc
import os
import sys
import threading
from pathlib import Path
from typing import Any

from benches.python.contestants import POOLS, Pool
from benches.python.measure import noop


def bytes_for_each(pool: type[Pool], tasks: int) -> float:
    """Queues tasks behind one that blocks the only worker, and looks at how the process grows."""
    blocked, gate = threading.Event(), threading.Event()

    def block(_resource: object = None) -> None:
        blocked.set()
        gate.wait()

    with pool(1) as opened:
        submit, wait = opened.submit, opened.wait
        first = submit(block)
        blocked.wait()
        tickets: list[Any] = [None] * tasks
        gc.collect()
        before = resident_bytes()
        for number in range(tasks):
            tickets[number] = submit(noop)
        growth = resident_bytes() - before
        gate.set()
        for ticket in (first, *tickets):
            wait(ticket)
    return growth / tasks


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    _, wanted, count = sys.argv
    print(bytes_for_each(next(pool for pool in POOLS if pool.name == wanted), int(count)))
