"""Plays rounds until so many tasks were asked for.

python -m tests.stress --tasks 10000000 --seed 1
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import sys
import time
from collections import Counter

from tests.stress.play import play


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=100_000, help="tasks in all")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the first round; then one more each"
    )
    parser.add_argument("--size", type=int, default=3_000, help="tasks of a round, about")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="ends then")
    options = parser.parse_args()
    faulthandler.enable()
    # It tells of each error that no coroutine waited for.
    logging.getLogger("asyncio").disabled = True
    begin, seed, tasks, wrong = time.monotonic(), options.seed, 0, 0
    seen: Counter[str] = Counter()
    while tasks < options.tasks and time.monotonic() - begin < options.seconds:
        played = play(seed, options.size)
        for fault in played.faults[:20]:
            print(f"seed {seed}: {fault}", flush=True)
        wrong += bool(played.faults)
        tasks += played.asked
        seen += played.seen
        seed += 1
        if seed % 100 == 0:
            print(f"{tasks} tasks, seed {seed}, {wrong} rounds with a fault", flush=True)
    for kind, count in sorted(seen.items()):
        print(f"{count:>12,} {kind}")
    seconds, rounds = time.monotonic() - begin, seed - options.seed
    print(f"{tasks:,} tasks in {rounds:,} rounds and {seconds:.0f} s")
    print(f"{wrong} rounds with a fault, seeds {options.seed} to {seed - 1}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
