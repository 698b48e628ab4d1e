"""How long the import takes, beside that of the standard thread pool.

    python -m benches.python.import_time [--write-docs]

Each program runs in an interpreter of its own, in turns, and reads the clock before and after. With
valgrind also the instructions are counted, less those of an interpreter that does nothing.
"""

from __future__ import annotations

import statistics
import sys

from benches.python import callgrind, measure, report
from benches.python.contestants import StandardPool, TaskerPool

ROUNDS = 41
MOST = 1.8
"""How many times as long a config and a runner may take as the standard thread pool."""
BEGIN = "<!-- import: begin, written by benches/python/import_time.py -->"
END = "<!-- import: end -->"

STANDARD, FIRST_CONFIG = StandardPool.program, TaskerPool.program
PROGRAMS = (STANDARD, FIRST_CONFIG, "import tasker")
# The order of names in a set, which the interpreter draws anew each time, moves the count.
FIXED = {"PYTHONHASHSEED": "0"}


def instructions(program: str) -> int:
    """Counts the instructions of an interpreter that runs a program, its start and end included."""
    return sum(callgrind.run(program, (), FIXED).by_library.values())


def lines() -> list[list[str]]:
    """Measures all programs; a row for each, and the first is what the others are compared with."""
    times: dict[str, list[float]] = {program: [] for program in PROGRAMS}
    for program in PROGRAMS:
        measure.import_seconds(program)  # nobody pays here for what the disk has not read yet
    for _ in range(ROUNDS):
        for program, taken in times.items():
            taken.append(measure.import_seconds(program))
    medians = {program: statistics.median(taken) for program, taken in times.items()}
    rows = [
        [f"`{program}`", f"{median * 1e3:.1f} ms", f"{median / medians[STANDARD]:.2f} x"]
        for program, median in medians.items()
    ]
    if callgrind.is_available():
        start = instructions("pass")
        counts = [instructions(program) - start for program in PROGRAMS]
        for row, count in zip(rows, counts, strict=True):
            row += [f"{count / 1e6:.0f} M", f"{count / counts[0]:.2f} x"]
    return rows


def main() -> None:
    rows = lines()
    head = ["a fresh process", "time", "against the first", "instructions", "against the first"]
    text = report.table(head[: len(rows[0])], rows)
    sys.stdout.write(f"{text}\n")
    if "--write-docs" in sys.argv:
        report.put_between(BEGIN, END, text)
    ratio = float(rows[1][2].removesuffix(" x"))
    if ratio > MOST:
        sys.exit(f"a config and a runner took {ratio} times as long, and may take {MOST} times")


if __name__ == "__main__":
    main()
