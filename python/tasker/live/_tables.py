"""The tables of workers and of tasks by name: below each other, or in a wide screen beside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from tasker._sight import words
from tasker._sight.telling import interest, most_telling
from tasker.live._grid import GAP, Cell, Column, beside, columns

if TYPE_CHECKING:
    from tasker._sight.view import TaskView, View, WorkerView

MIDDLE = 80
"""Cells from which on a table has all its columns."""
WHOLE = 81
"""Cells that a table takes with all its columns, where its figures are long."""
WIDE = 2 * WHOLE + GAP
"""Cells from which on the tables stand side by side: before, each would show less than below the
other. It does not go by the figures of the moment, with which the places would change."""
LEAST = 3
"""Lines below which a table is not worth showing."""
BAR = 10
"""Cells of the bar that shows a worker's busy share."""
STATES = {"starting": "cyan", "idle": "dim", "busy": "", "equipping": "yellow"}
LATE = "bold red"


def tables(view: View, width: int, height: int) -> list[Text]:
    """Draws the tables.

    Args:
        view: Of the runner.
        width: Cells that a line has at most.
        height: How many lines there are at most; where these are few, nothing is drawn.
    """
    if width >= WIDE:
        half = (width - GAP) // 2
        left = _workers(view, half, height)
        return beside(left, _tasks(view, width - half - GAP, height), half + GAP if left else 0)
    if height < 2 * LEAST:
        return _workers(view, width, height) or _tasks(view, width, height)
    workers = _needed(len(view.workers), view.workers_left_out)
    tasks = _needed(len(view.tasks), view.tasks_left_out)
    # Half for each, and what one does not need for the other.
    first = min(workers, max(height - tasks, height // 2))
    return [*_workers(view, width, first), *_tasks(view, width, height - first)]


def _needed(rows: int, left_out: int) -> int:
    """Tells how many lines a table has with all its rows."""
    return 1 + rows + (1 if left_out else 0) if rows else 0


def _fitting(rows: int, left_out: int, height: int) -> tuple[int, int]:
    """Tells how many rows there is room for, and how many are left out then."""
    if _needed(rows, left_out) <= height:
        return rows, left_out
    # Of a table that has its head and the line at its end alone nothing is to be seen.
    room = height - 2 if height >= LEAST else 0
    return room, left_out + rows - room


def _workers(view: View, width: int, height: int) -> list[Text]:
    rows, left_out = _fitting(len(view.workers), view.workers_left_out, height)
    if not rows:
        return []
    shown = most_telling(view.workers, rows, interest)
    heads = [
        Column("worker", least=10),
        Column("state"),
        Column("task", least=8),
        Column("age", right=True),
        Column("busy"),
    ]
    if width >= MIDDLE - GAP:
        heads += [Column("done", right=True), Column("resource", right=True)]
    cells = [_worker(worker, f"{view.name}-")[: len(heads)] for worker in shown]
    lines = columns(heads, cells, width)
    if left_out:
        others = view.worker_states.copy()
        for worker in shown:
            others[worker.state] -= 1
        states = ", ".join(f"{words.count(n)} {state}" for state, n in others.items() if n)
        lines.append(_more(f"and {words.count(left_out)} more: {states}", width))
    return lines


def _worker(worker: WorkerView, prefix: str) -> list[Cell]:
    late = LATE if worker.overdue else ""
    resource = "none"
    if worker.resource_age is not None:
        resource = f"{worker.resource_generation}, {words.duration(worker.resource_age)}"
    return [
        # The runner's name stands above already.
        Cell(worker.name.removeprefix(prefix)),
        Cell("overdue", LATE) if worker.overdue else Cell(worker.state, STATES[worker.state]),
        Cell(worker.task or "", late),
        Cell("" if worker.task_age is None else words.duration(worker.task_age), late),
        Cell(f"{_bar(worker.busy_share)} {words.share(worker.busy_share):>5}", "blue"),
        Cell(words.count(worker.tasks_done)),
        Cell(resource, "" if worker.resource_age is not None else "yellow"),
    ]


def _bar(share: float) -> str:
    full = round(min(max(share, 0.0), 1.0) * BAR)
    return "━" * full + "─" * (BAR - full)


def _tasks(view: View, width: int, height: int) -> list[Text]:
    rows, left_out = _fitting(len(view.tasks), view.tasks_left_out, height)
    if not rows:
        return []
    heads = [
        Column("task", least=12),
        Column("ended", right=True),
        Column("5 s", right=True),
        Column("mean", right=True),
        Column("failed", right=True),
    ]
    is_narrow = width < MIDDLE - GAP
    if not is_narrow:
        heads[3:3] = [Column("1 min", right=True), Column("5 min", right=True)]
        heads[6:6] = [Column("p95", right=True)]
        heads.append(Column("retried", right=True))
    lines = columns(heads, [_task(task, is_narrow) for task in view.tasks[:rows]], width)
    if left_out:
        lines.append(_more(f"and {words.count(left_out)} more names", width))
    return lines


def _task(task: TaskView, is_narrow: bool) -> list[Cell]:
    cells = [
        Cell(task.name),
        Cell(words.count(task.completed + task.failed)),
        Cell(words.rate(task.rate_5s)),
        Cell(words.rate(task.rate_1min)),
        Cell(words.rate(task.rate_5min)),
        Cell(words.duration(task.mean)),
        Cell(words.duration(task.p95)),
        Cell(words.count(task.failed), "red" if task.failed else "dim"),
        Cell(words.count(task.retried), "yellow" if task.retried else "dim"),
    ]
    return [cells[at] for at in (0, 1, 2, 5, 7)] if is_narrow else cells


def _more(text: str, width: int) -> Text:
    line = Text(text, "dim", no_wrap=True, end="")
    line.truncate(width)
    return line
