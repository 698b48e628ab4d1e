"""Begins the page on performance: one picture and one table, of what others measured.

    python -m benches.python.compare --json compare.json
    python -m benches.python.growth --json growth.json
    python -m benches.python.overview compare.json growth.json --write-docs

Every row is there, also those in which a rival is better. Growth is compared with growth: how many
times as much the large costs a contestant as the small.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benches.python import growth, report
from benches.python.contestants import HandWrittenPool, StandardPool, TaskerPool

BEGIN = "<!-- overview: begin, written by benches/python/overview.py -->"
END = "<!-- overview: end -->"
US = TaskerPool.name
COLUMNS = (StandardPool.name, HandWrittenPool.name)


@dataclass(frozen=True)
class Line:
    """What each contestant reached in a row, and how many times as good ours is."""

    text: str
    unit: str
    reached: dict[str, float]
    ratios: dict[str, float]

    def cell(self, name: str) -> str:
        """What a rival reached, and the ratio; in bold where it is better."""
        ratio = f"{report.significant(self.ratios[name], 2)} x"
        value = report.short(self.reached[name])
        return f"{value}, **{ratio}**" if self.ratios[name] < 1 else f"{value}, {ratio}"

    def cells(self) -> list[str]:
        """The line of the table."""
        others = [name for name in self.ratios if name not in COLUMNS]
        return [
            self.text,
            self.unit,
            report.short(self.reached[US]),
            *(self.cell(name) if name in self.ratios else "" for name in COLUMNS),
            "; ".join(f"{name} {self.cell(name)}" for name in others),
        ]


def compared(file: Path) -> tuple[dict[str, str], list[Line]]:
    """The setting and the lines of what the comparison kept."""
    kept = json.loads(file.read_text("utf-8"))
    lines = []
    for row in kept["rows"]:
        figure = f", {row['figure']}" if row["figure"] else ""
        text = f"{row['workload']}: {row['case']}{figure}"
        lines.append(Line(text, row["unit"], row["medians"], row["ratios"]))
    return kept["setting"], lines


def grown(file: Path) -> Iterator[Line]:
    """The lines of what the growth bench kept."""
    _, measured = growth.read(file)
    for goal in growth.GOALS:
        points = measured[goal.curve]
        each = {name: growth.growth_of(points, name, goal) for name in points}
        reached = {name: it for name, it in each.items() if it is not None}
        ratios = {name: it / reached[US] for name, it in reached.items() if name != US}
        yield Line(f"Growth: {goal.text}", "times as much", reached, ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("compare", type=Path, help="what compare.py --json wrote")
    parser.add_argument("growth", type=Path, help="what growth.py --json wrote")
    parser.add_argument(
        "--write-docs", action="store_true", help=f"picture and table for {report.PAGE.name}"
    )
    options = parser.parse_args()
    where, lines = compared(options.compare)
    lines += grown(options.growth)
    head = ["row", "unit", US, *COLUMNS, "others"]
    table = report.table(head, (line.cells() for line in lines))
    text = f"{report.setting_list(where)}\n\n{table}"
    print(text)
    lost = sum(ratio < 1 for line in lines for ratio in line.ratios.values())
    print(f"\n{lost} of {sum(len(line.ratios) for line in lines)} comparisons are lost")
    if options.write_docs:
        # The one part that wants matplotlib.
        from benches.python import plots  # noqa: PLC0415

        plots.draw_ratios({line.text: line.ratios for line in lines if line.ratios})
        report.put_between(BEGIN, END, text)


if __name__ == "__main__":
    main()
