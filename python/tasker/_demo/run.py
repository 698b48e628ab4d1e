"""Runs the demo's contestants one after the other, compares them, and checks what it says."""

from __future__ import annotations

import contextlib
import logging
import random
import sqlite3
import sys
import tempfile
import time
import warnings
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasker._demo.contestants import CONTESTANTS, lines
from tasker._demo.job import OUTAGE, WORKERS, CrawlJob, has_full_text, search, stored
from tasker._demo.server import DROP_EVERY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OURS = "tasker"
CAREFUL = "the same, with care"
SEARCHES = ("thread lock", "socket timeout", "directory path")


@dataclass(frozen=True)
class CrawlOutcome:
    """What became of one contestant; the names of the fields are the table's columns."""

    lost: int
    lines: int
    left_open: int
    urgent_wait: float
    seconds: float


def run(*, pages: int, seed: int | None) -> int:
    """Runs the demo.

    Args:
        pages: How many pages there are to fetch, at least 100.
        seed: Makes the order of the contestants repeatable. `None`: another one each time.

    Returns:
        The exit status: 0 when tasker lost nothing, and the comparison was a fair one.
    """
    if pages < DROP_EVERY:
        say(f"--pages must be at least {DROP_EVERY}, got {pages}")
        return 2
    say(
        f"{pages:,} pages from a local server, {WORKERS} threads. The server drops every "
        f"{DROP_EVERY}th request. After {pages // 2:,} pages it is killed, and started again "
        f"{OUTAGE:.0f} s later. After {pages // 4:,} an urgent request comes in.\n"
    )
    # The order is no contestant's advantage.
    order = random.Random(seed).sample(list(CONTESTANTS), len(CONTESTANTS))
    with tempfile.TemporaryDirectory(prefix="tasker-demo-") as folder:
        outcomes: dict[str, CrawlOutcome] = {}
        with what_is_logged():
            for name in order:
                say(f"  {name} ...")
                place = Path(folder, str(len(outcomes)))
                place.mkdir()
                outcomes[name] = measure(name, place, pages)
        say("")
        for line in table({name: outcomes[name] for name in CONTESTANTS}):
            say(line)
        ours = Path(folder, str(order.index(OURS)), "index.db")
        found = [(words, *search(ours, words)) for words in SEARCHES]
        with closing(sqlite3.connect(ours)) as connection:
            how = "" if has_full_text(connection) else " (no FTS5 in this SQLite: with LIKE)"
    say(f"\nthree searches in the index that tasker filled{how}:")
    for words, count, best in found:
        say(f"  {words:20} {count:5,} pages, best: {best}")
    return verdict(outcomes, found)


def measure(name: str, folder: Path, pages: int) -> CrawlOutcome:
    """Has one contestant do the job on a fresh server."""
    contestant: Callable[[CrawlJob], None] = CONTESTANTS[name]
    looked_at = live() if name == OURS else what_it_drops()
    with closing(CrawlJob(folder, pages)) as job:
        begin = time.monotonic()
        with looked_at:
            contestant(job)
        seconds = time.monotonic() - begin
        job.finish()
        wait = float("inf") if job.urgent_wait is None else job.urgent_wait
        lost = len(job.numbers) - stored(job.path)
        return CrawlOutcome(lost, lines(contestant), job.left_open(), wait, seconds)


def live() -> contextlib.AbstractContextManager[object]:
    """Shows the runners while they work: where there is a terminal, and what draws in it."""
    if not sys.stdout.isatty():
        return contextlib.nullcontext()
    try:
        # It needs a library that is no requirement of the package.
        from tasker.live import Live  # noqa: PLC0415
    except ModuleNotFoundError:
        return contextlib.nullcontext()
    return Live()


@contextlib.contextmanager
def what_it_drops() -> Iterator[None]:
    """Leaves warnings of sockets that were not closed unsaid: the table counts them.

    The standard pool as its documentation has it written closes no connection: which of them are
    still open when its threads end depends on what they were doing when the server was killed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


@contextlib.contextmanager
def what_is_logged() -> Iterator[None]:
    """Shows what the package and the standard pool log, a line each, and no tracebacks."""

    class LineHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(f"    log: {record.levelname} {record.getMessage()}")

    handler = LineHandler()
    loggers = [logging.getLogger(name) for name in ("tasker", "concurrent.futures")]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


def table(outcomes: dict[str, CrawlOutcome]) -> list[str]:
    """Draws the comparison; its last line is for honesty."""
    head = ["", "lost", "lines", "left open", "urgent wait", "seconds"]
    rows = [head]
    for name, outcome in outcomes.items():
        lost = outcome.urgent_wait == float("inf")
        wait = "never" if lost else f"{outcome.urgent_wait * 1000:,.0f} ms"
        figures = (outcome.lost, outcome.lines, outcome.left_open)
        rows.append([name, *(f"{n:,}" for n in figures), wait, f"{outcome.seconds:.0f}"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    drawn = [
        "   ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    return [*drawn, "", not_better(outcomes)]


def not_better(outcomes: dict[str, CrawlOutcome]) -> str:
    """Says in which columns another contestant did as well as ours."""
    ours = outcomes[OURS]
    others = [outcome for name, outcome in outcomes.items() if name != OURS]
    equal = []
    if any(other.left_open <= ours.left_open for other in others):
        equal.append("connections left open (CPython closes what a thread that ends had)")
    # A tenth of a second more or less is chance.
    if any(other.urgent_wait <= ours.urgent_wait + 0.1 for other in others):
        equal.append("the urgent wait (a second pool, with a connection of its own, does it too)")
    if any(round(other.seconds) <= round(ours.seconds) for other in others):
        equal.append("seconds (the server sets the pace, and what gives up is sooner done)")
    return f"what tasker does not do better here: {'; '.join(equal) or 'nothing'}"


def verdict(outcomes: dict[str, CrawlOutcome], found: list[tuple[str, int, str]]) -> int:
    """Says whether the demo has shown what it promises; the exit status."""
    ours, careful = outcomes[OURS], outcomes[CAREFUL]
    wrong = []
    if ours.lost:
        wrong.append(f"tasker lost {ours.lost} pages")
    if ours.left_open:
        wrong.append(f"tasker left {ours.left_open} connections open")
    if ours.urgent_wait == float("inf"):
        wrong.append("the urgent request was not answered")
    if careful.lost:
        wrong.append(f"the careful version lost {careful.lost} pages: no fair comparison")
    wrong += [f"nothing was found for {words!r}" for words, count, _ in found if not count]
    for line in wrong:
        say(f"WRONG: {line}")
    say("" if wrong else "\ntasker lost nothing.")
    return 1 if wrong else 0


def say(text: str) -> None:
    """Writes a line for the person who looks on."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
