"""Draws the pictures of `docs/images`: what `tasker.live` shows of runners that never were.

    python scripts/pictures.py [FOLDER]

They are the same each time. All states in all widths go into FOLDER when one is given.
"""

from __future__ import annotations

import io
import math
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tasker._sight.view import (
    CountView,
    FoundView,
    Point,
    Quantiles,
    Rates,
    TaskView,
    View,
    WorkerView,
)
from tasker.live._frame import frame

IMAGES = Path(__file__).parents[1] / "docs" / "images"
NARROW, MIDDLE, WIDE = 60, 88, 170
HEIGHT = 40
COMMITTED = {"busy": MIDDLE, "overloaded": MIDDLE, "stuck": MIDDLE}
"""The pictures that the pages show, and how wide they are."""
NOW = 1_700_000_000.0


def wave(at: int, size: float) -> float:
    """A figure of a second that goes up and down without being regular."""
    return size * (1 + 0.2 * math.sin(at / 17) + 0.12 * math.sin(at / 5.3) + 0.08 * math.sin(at))


def series(
    rate: float,
    *,
    queued: float = 0,
    growing: bool = False,
    failed: float = 0,
    timed_out: float = 0,
) -> list[Point]:
    """The last 5 minutes of a runner."""
    points = []
    for second in range(300):
        waiting = queued * second / 300 if growing else wave(second, queued)
        points.append(
            Point(
                time=NOW - 299 + second,
                accepted=wave(second, rate * (1.4 if growing else 1)),
                completed=wave(second + 1, rate),
                failed=failed * (second > 200),
                timed_out=timed_out * (second > 230),
                queued=round(waiting),
                running=8 if rate else 0,
                oldest_wait=waiting / max(rate, 1),
                wait=None,
                execution=None,
                attach_share=0.0,
                busy_share=0.9 if rate else 0.0,
            )
        )
    return points


def worker(number: int, **figures: object) -> WorkerView:
    """A worker of the crawler that is idle, where nothing else is said."""
    idle = WorkerView(
        name=f"crawler-worker-{number}",
        kind="base",
        state="idle",
        task=None,
        task_age=None,
        overdue=False,
        tasks_done=4200 + 37 * number,
        busy_share=0.0,
        resource_generation=1,
        resource_age=1520.0 + number / 10,
    )
    return replace(idle, **figures)  # type: ignore[arg-type]


def busy(number: int) -> WorkerView:
    """A worker with a task."""
    task = "parse" if number % 3 == 0 else "fetch"
    age, share = 0.013 * number, 0.97 - 0.02 * number
    return worker(number, state="busy", task=task, task_age=age, busy_share=share)


TASKS = (
    TaskView("fetch", 31_204, 12, 14, 1388.0, 0.0444, 0.12, 118.2, 117.4, 115.9),
    TaskView("parse", 30_990, 0, 0, 402.0, 0.013, 0.031, 117.6, 117.1, 115.8),
    TaskView("robots.txt", 412, 3, 3, 20.6, 0.05, 0.21, 1.4, 1.6, 1.5),
)
NONE = dict.fromkeys(("unhealthy", "reset", "invalid", "age", "tasks", "renewed"), 0)


def replaced(**counts: int) -> tuple[CountView, ...]:
    """Resources given up, by reason."""
    return tuple(CountView(name, n, 0, None) for name, n in {**NONE, **counts}.items())


IDLE = View(
    number=0,
    name="crawler",
    state="running",
    time=NOW,
    watched_for=1520.0,
    free_threaded=False,
    workers_alive=8,
    workers_base=8,
    workers_max=8,
    workers_starting=0,
    queued=0,
    queued_by_priority={"low": 0, "normal": 0, "high": 0},
    queue_limit=1000,
    oldest_wait=0.0,
    running=0,
    overdue=0,
    busy_share=0.0,
    creation_failing_for=0.0,
    accepted=0,
    completed=0,
    failed=0,
    timed_out=0,
    cancelled=0,
    dropped=0,
    refused=0,
    retried=0,
    rates=Rates(0, 0, 0, 0, 0, 0),
    error_share=None,
    wait=None,
    wait_by_priority={"low": None, "normal": None, "high": None},
    execution=None,
    attach_share=0.0,
    findings=(),
    workers=tuple(map(worker, range(1, 9))),
    workers_left_out=0,
    worker_states={"idle": 8},
    tasks=(),
    tasks_left_out=0,
    errors=(),
    errors_left_out=0,
    replaced=replaced(),
    series=tuple(series(0)),
)
HIGH, NORMAL = Quantiles(90, 0.0011, 0.004, 0.011), Quantiles(14_000, 0.012, 0.14, 0.31)
BUSY = replace(
    IDLE,
    queued=42,
    queued_by_priority={"low": 0, "normal": 41, "high": 1},
    oldest_wait=0.31,
    running=7,
    busy_share=0.91,
    accepted=62_700,
    completed=62_606,
    failed=15,
    timed_out=26,
    cancelled=4,
    rates=Rates(238.4, 237.2, 0.2, 0.4, 0.2, 0),
    error_share=0.0025,
    wait=NORMAL,
    wait_by_priority={"low": None, "normal": NORMAL, "high": HIGH},
    execution=Quantiles(14_090, 0.021, 0.11, 0.19),
    attach_share=0.04,
    workers=(*map(busy, range(1, 8)), worker(8, busy_share=0.81)),
    worker_states={"busy": 7, "idle": 1},
    tasks=TASKS,
    errors=(
        CountView("http.client.RemoteDisconnected", 12, 3, 8.0),
        CountView("TimeoutError", 3, 0, 190.0),
    ),
    replaced=replaced(unhealthy=12, age=16),
    series=tuple(series(236, queued=40, failed=0.2, timed_out=0.4)),
)
LATE = Quantiles(14_000, 3.1, 4.1, 4.2)
OVERLOADED = replace(
    BUSY,
    queued=1000,
    queued_by_priority={"low": 0, "normal": 1000, "high": 0},
    oldest_wait=4.2,
    running=8,
    busy_share=1.0,
    accepted=63_659,
    refused=2310,
    rates=Rates(238.4, 237.2, 0.2, 0.4, 0.2, 96.0),
    wait=LATE,
    wait_by_priority={"low": None, "normal": LATE, "high": None},
    findings=(
        FoundView(
            "queue_full",
            "warning",
            "queue full: 5760 tasks refused in the last minute",
            61.0,
        ),
        FoundView(
            "all_busy",
            "info",
            'all 8 workers busy, most of it in "fetch", oldest task waits 4.2 s',
            122.0,
        ),
    ),
    workers=tuple(map(busy, range(1, 9))),
    worker_states={"busy": 8},
    series=tuple(series(236, queued=1000, growing=True)),
)
STUCK = replace(
    BUSY,
    findings=(
        FoundView(
            "stuck_worker",
            "warning",
            'seems stuck: task "fetch" has run for 6 min on crawler-worker-3, where 99 % take at '
            "most 190 ms",
            362.0,
        ),
        FoundView("overdue", "warning", "1 task past its limit", 342.0),
    ),
    running=8,
    overdue=1,
    workers=tuple(
        worker(3, state="busy", task="fetch", task_age=372.0, overdue=True, busy_share=1.0)
        if number == 3
        else busy(number)
        for number in range(1, 9)
    ),
    worker_states={"busy": 8},
)
FAILING = replace(
    IDLE,
    queued=611,
    queued_by_priority={"low": 0, "normal": 611, "high": 0},
    oldest_wait=183.0,
    creation_failing_for=184.0,
    accepted=63_232,
    completed=62_606,
    failed=15,
    findings=(
        FoundView(
            "creation_failing",
            "critical",
            "creation has failed for 3 min: ConnectionRefusedError",
            184.0,
        ),
    ),
    workers=tuple(worker(number, state="equipping", resource_age=None) for number in range(1, 9)),
    worker_states={"equipping": 8},
    tasks=tuple(replace(task, rate_5s=0.0, rate_1min=0.0, rate_5min=31.0) for task in TASKS),
    replaced=replaced(unhealthy=20),
    series=tuple(series(0, queued=611, growing=True)),
)
PICTURES = {
    "idle": IDLE,
    "busy": BUSY,
    "overloaded": OVERLOADED,
    "stuck": STUCK,
    "failing": FAILING,
}


def draw(view: View, width: int, title: str) -> str:
    """Draws a view as rich exports it."""
    console = Console(
        file=io.StringIO(),
        record=True,
        width=width,
        height=HEIGHT,
        color_system="standard",
        force_terminal=True,
        legacy_windows=False,
    )
    for line in frame([view], width, HEIGHT):
        console.print(line, end="\n")
    return console.export_svg(title=title, unique_id=f"tasker-{title}")


def main(folder: str | None = None) -> None:
    """Writes the pictures."""
    IMAGES.mkdir(exist_ok=True)
    for name, width in COMMITTED.items():
        (IMAGES / f"live-{name}.svg").write_text(draw(PICTURES[name], width, name), "utf-8")
    if folder is not None:
        for name, view in PICTURES.items():
            for width in (NARROW, MIDDLE, WIDE):
                file = Path(folder, f"{name}-{width}.svg")
                file.write_text(draw(view, width, name), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:2])
