"""A program whose `stop` and `kill` run out of time, under garbage that lets go of the GIL.

    python late_stops.py [COUNT]       # 2,000 if not given

Each call has to raise `StopTimeout` in time, with the line at which the task is, while finalizers
that close files, log and sleep run in the collector, on any thread, and while other threads begin
and end. It prints `done`, the number of calls, and the seconds that the longest of them took.
"""

import gc
import logging
import os
import sys
import sysconfig
import threading
import time
from typing import ClassVar

from tasker import Config, Runner, StopTimeout

LIMIT = 0.0005
"""Seconds that a call may wait."""
PARALLEL = 4
"""How many threads call."""
SOON = 20.0
"""Seconds in which a call has to be back on a machine that has other things to do."""

MOST = 2_000
"""How much garbage may lie about."""

HAS_STACKS = not sysconfig.get_config_var("Py_GIL_DISABLED")


class Garbage:
    """Ends in the collector, and lets other threads run when it does."""

    alive: ClassVar[set[int]] = set()

    def __init__(self, number: int) -> None:
        self.own = self
        self.number = number
        self.file = os.open(os.devnull, os.O_RDONLY) if number % 30 == 0 else None
        self.alive.add(id(self))

    def __del__(self) -> None:
        self.alive.discard(id(self))
        if self.file is not None:
            os.close(self.file)
        elif self.number % 3 == 1:
            logging.getLogger("garbage").warning("gone")
        else:
            time.sleep(0)


def litter(over: threading.Event) -> None:
    number = 0
    while not over.is_set():
        # While one collection waits in a finalizer there is no other, and garbage piles up.
        if len(Garbage.alive) > MOST:
            time.sleep(0.001)
            continue
        for _ in range(20):
            Garbage(number)
            number += 1
        thread = threading.Thread(target=Garbage, args=(number,))
        thread.start()
        thread.join()


class Calls:
    """What the calling threads have done."""

    def __init__(self) -> None:
        self.count = 0
        self.longest = 0.0
        self.lock = threading.Lock()

    def late(self, runner: Runner[object], kills: bool) -> None:
        """Makes one call that runs out of time."""
        began = time.monotonic()
        try:
            (runner.kill if kills else runner.stop)(LIMIT)
        except StopTimeout as late:
            (task,) = late.running
            assert any("hold" in call for call in task.stack) or not HAS_STACKS, task
        else:
            message = "it did not run out of time"
            raise AssertionError(message)
        with self.lock:
            self.count += 1
            self.longest = max(self.longest, time.monotonic() - began)

    def make(self, count: int) -> None:
        """Makes so many calls, on runners of its own."""
        for number in range(0, count, 5):
            free, entered = threading.Event(), threading.Event()

            def hold(_: object, free: threading.Event, entered: threading.Event) -> None:
                entered.set()
                while not free.wait(0.001):
                    if len(Garbage.alive) < MOST:
                        Garbage(1)

            runner = Runner(Config(on_create=object, worker_count=3, thread_bound=number % 2 == 0))
            if number % 2:
                caller = threading.Thread(target=runner.run_task, args=(hold, free, entered))
                caller.start()
            else:
                caller = None
                runner.submit(hold, free, entered)
            entered.wait()
            for call in range(min(5, count - number)):
                self.late(runner, kills=call > 2)
            free.set()
            runner.kill()
            if caller is not None:
                caller.join()


def main(count: int) -> None:
    """Makes so many calls in all."""
    log = logging.getLogger("garbage")
    log.addHandler(logging.StreamHandler(open(os.devnull, "w")))  # noqa: SIM115
    log.propagate = False
    # The collector comes up in any allocation, of native code too up to 3.11.
    gc.set_threshold(50)
    over = threading.Event()
    litterers = [threading.Thread(target=litter, args=(over,)) for _ in range(2)]
    calls = Calls()
    callers = [
        threading.Thread(target=calls.make, args=(count // PARALLEL,)) for _ in range(PARALLEL)
    ]
    for thread in (*litterers, *callers):
        thread.start()
    for caller in callers:
        caller.join()
    over.set()
    for litterer in litterers:
        litterer.join()
    assert calls.count == count // PARALLEL * PARALLEL, calls.count
    assert calls.longest < SOON, calls.longest
    print(f"done {calls.count} {calls.longest:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 2_000)
