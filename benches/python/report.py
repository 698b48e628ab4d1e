"""How figures are shown: as Markdown for the terminal and the documentation, and as JSON."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from benches.python.comparison import Row, Workload
from benches.python.contestants import TaskerPool

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN = "<!-- figures: begin, written by benches/python/compare.py -->"
END = "<!-- figures: end -->"

US = TaskerPool.name


def as_json(setting: dict[str, str], rows: Iterable[Row]) -> dict[str, Any]:
    """Everything that was measured, round by round."""
    return {
        "setting": setting,
        "rows": [
            {
                "workload": row.workload.name,
                "case": row.case,
                "figure": row.figure,
                "unit": row.workload.unit.name,
                "more_is_better": row.workload.unit.more_is_better,
                "rounds": row.rounds,
                "medians": {name: row.median(name) for name in row.rounds},
                "ratios": {name: row.ratio(US, name) for name in row.rounds if name != US},
            }
            for row in rows
        ],
    }


def put_between(begin: str, end: str, text: str) -> None:
    """Replaces what stands between two marks in the page on performance."""
    before, found, rest = PAGE.read_text("utf-8").partition(begin)
    _, found_too, after = rest.partition(end)
    if not found or not found_too:
        raise ValueError(f"{PAGE.name} lacks the marks {begin} and {end}")
    PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", "utf-8")


def write_page(setting: dict[str, str], rows: Iterable[Row]) -> None:
    """Puts the figures into the page on performance."""
    parts = [setting_list(setting)]
    for workload, group in groupby(rows, attrgetter("workload")):
        parts.append(section(workload, group))
    put_between(BEGIN, END, "\n\n".join(parts))


def setting_list(setting: dict[str, str]) -> str:
    return "\n".join(f"- {key}: {text}" for key, text in setting.items())


def section(workload: Workload, rows: Iterable[Row]) -> str:
    """A workload under its heading: what is done, and who reached what."""
    aim = "more" if workload.unit.more_is_better else "less"
    others = [contestant.name for contestant in workload.contestants if contestant.name != US]
    head = [f"{workload.unit.name}, {aim} is better", *others, US]
    head += [f"against {name}" for name in others]
    lines = [
        [
            f"{row.case}, {row.figure}" if row.figure else row.case,
            *(reached(row, name) for name in (*others, US)),
            *(against(row, name) for name in others),
        ]
        for row in rows
    ]
    return f"### {workload.name}\n\n{workload.description}\n\n{table(head, lines)}"


def reached(row: Row, contestant: str) -> str:
    lowest, highest = min(row.rounds[contestant]), max(row.rounds[contestant])
    return f"{short(row.median(contestant))} ({short(lowest)} to {short(highest)})"


def against(row: Row, other: str) -> str:
    return f"{significant(row.ratio(US, other), 2)} x"


def short(value: float) -> str:
    """Three significant digits, with k for thousands and M for millions."""
    if value >= 1e6:
        return f"{significant(value / 1e6, 3)} M"
    if value >= 1e4:
        return f"{significant(value / 1e3, 3)} k"
    return significant(value, 3)


def significant(value: float, digits: int) -> str:
    return f"{float(f'{value:.{digits}g}'):g}"


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Markdown, with all columns but the first aligned to the right."""
    marks = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, marks, *lines))
