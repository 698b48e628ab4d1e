"""Begins the page on performance: one picture and one table, of what others measured.

    python -m benches.python.compare --json compare.json
    python -m benches.python.growth --json growth.json
    python -m benches.python.overview compare.json growth.json --write-docs

Every row is there, also those in which a rival is better. A ratio is one of a round, in which all
took turns: what else the machine did met all of them. Growth is compared with growth: how many
times as much the large costs a contestant as the small.
"""

from __future__ import annotations

import argparse
import json
import statistics
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
    """How many times as good tasker is in a row as each rival, in each round."""

    text: str
    ratios: dict[str, list[float]]

    def cell(self, name: str) -> str:
        """The median and the range of the rounds; in bold where the rival is better."""
        middle = statistics.median(self.ratios[name])
        text = times(middle)
        lowest, highest = min(self.ratios[name]), max(self.ratios[name])
        spread = f" ({times(lowest)} to {times(highest)})" if len(self.ratios[name]) > 1 else ""
        return f"**{text} x**{spread}" if middle < 1 else f"{text} x{spread}"

    def cells(self) -> list[str]:
        """The line of the table."""
        others = [name for name in self.ratios if name not in COLUMNS]
        return [
            self.text,
            *(self.cell(name) if name in self.ratios else "" for name in COLUMNS),
            "; ".join(f"{name} {self.cell(name)}" for name in others),
        ]


def times(ratio: float) -> str:
    return report.significant(ratio, 2)


def compared(file: Path) -> tuple[dict[str, str], list[Line]]:
    """The setting and the lines of what the comparison kept."""
    kept = json.loads(file.read_text("utf-8"))
    lines = []
    for row in kept["rows"]:
        figure = f", {row['figure']}" if row["figure"] else ""
        rounds, more = row["rounds"], row["more_is_better"]
        ratios = {
            name: [
                ours / other if more else other / ours
                for ours, other in zip(rounds[US], theirs, strict=True)
            ]
            for name, theirs in rounds.items()
            if name != US
        }
        lines.append(Line(f"{row['workload']}: {row['case']}{figure}", ratios))
    return kept["setting"], lines


def grown(file: Path) -> Iterator[Line]:
    """The lines of what the growth bench kept: whose cost grows more."""
    _, measured = growth.read(file)
    for goal in growth.GOALS:
        points = measured[goal.curve]
        each = {name: growth.growth_of(points, name, goal) for name in points}
        ours = each.pop(US)
        if ours is not None:
            ratios = {name: [it / ours] for name, it in each.items() if it is not None}
            yield Line(f"Growth: {goal.text}, {times(ours)} x as much", ratios)


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
    where["Ratios"] = (
        "how many times as good tasker is, the median of what the rounds gave (lowest to highest)"
    )
    head = ["row", *(f"against {name}" for name in COLUMNS), "against others"]
    table = report.table(head, (line.cells() for line in lines))
    text = f"{report.setting_list(where)}\n\n{table}"
    print(text)
    every = [statistics.median(them) for line in lines for them in line.ratios.values()]
    print(f"\n{sum(ratio < 1 for ratio in every)} of {len(every)} comparisons are lost")
    if options.write_docs:
        # The one part that wants matplotlib.
        from benches.python import plots  # noqa: PLC0415

        plots.draw_ratios({line.text: line.ratios for line in lines if line.ratios})
        report.put_between(BEGIN, END, text)


if __name__ == "__main__":
    main()
