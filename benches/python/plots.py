"""Draws the figures of the benchmarks for the page on performance, with matplotlib.

The same figures give the same picture, on any day. The background is the picture's own, so that it
can be read on a dark page, too.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from benches.python import report

if TYPE_CHECKING:
    from benches.python.growth import Curve, Points

IMAGES = report.PAGE.parent / "images"
LOOKS: dict[str, tuple[str, str]] = {
    "ThreadPoolExecutor": ("#c8553d", "s"),
    "by hand": ("#7a6f9b", "^"),
    "bare threads": ("#8a8a8a", "x"),
    "tasker": ("#1f77b4", "o"),
    "multiprocessing": ("#4c9f70", "D"),
    "list(map)": ("#b8860b", "v"),
}
"""Colour and mark of each contestant: who does not tell the colours apart has the marks."""
SETTINGS: Any = {
    "font.size": 9,
    "font.family": "sans-serif",
    "figure.facecolor": "white",
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # Text stays text, and the same figures give the same picture.
    "svg.fonttype": "none",
    "svg.hashsalt": "tasker",
}


def draw_growth(curves: Sequence[tuple[Curve, Points]], folder: Path = IMAGES) -> Path:
    """Draws a plot for each curve: what a task or a worker costs, over how many there are."""
    target = folder / "growth.svg"
    with mpl.rc_context(SETTINGS):
        rows = -(-len(curves) // 2)
        figure, grid = plt.subplots(
            rows, 2, figsize=(9, 2.75 * rows), layout="constrained", squeeze=False
        )
        labels: dict[str, Any] = {}
        for axes, (curve, points) in zip(grid.flat, curves, strict=False):
            for name, sizes in points.items():
                colour, mark = LOOKS[name]
                at = sorted(sizes)
                values = [statistics.median(sizes[size]) for size in at]
                (labels[name],) = axes.plot(at, values, color=colour, marker=mark, markersize=4)
            with_zero = 0 in curve.sizes
            axes.set_xscale(
                "symlog" if with_zero else "log", **({"linthresh": 1} if with_zero else {})
            )
            axes.set_yscale("log")
            axes.xaxis.set_major_locator(FixedLocator(list(curve.sizes)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: short(size)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
            axes.yaxis.set_minor_formatter(NullFormatter())
            # From a whole power of ten to another: a curve that is level is to look level.
            every = [value for sizes in points.values() for v in sizes.values() for value in v]
            axes.set_ylim(10 ** floor_log(min(every)), 10 ** (floor_log(max(every)) + 1))
            axes.set_xlabel(curve.size)
            axes.set_title(curve.figure, loc="left", fontsize=9)
        for axes in grid.flat[len(curves) :]:
            axes.set_axis_off()
        figure.legend(
            labels.values(), labels.keys(), loc="outside upper center", ncols=4, frameon=False
        )
        save(figure, target)
    return target


def draw_ratios(rows: Mapping[str, Mapping[str, Sequence[float]]], folder: Path = IMAGES) -> Path:
    """Draws how many times as good tasker is as each rival in each row: median and range."""
    target = folder / "performance.svg"
    with mpl.rc_context(SETTINGS):
        figure, axes = plt.subplots(figsize=(9, 0.235 * len(rows) + 1.1), layout="constrained")
        axes.axvline(1, color="#333333", linewidth=1.2)
        axes.axvspan(1e-3, 1, color="#f6e7e3", zorder=0)
        labels: dict[str, Any] = {}
        for place, ratios in enumerate(rows.values()):
            for name, rounds in ratios.items():
                colour, mark = LOOKS[name]
                middle = statistics.median(rounds)
                axes.hlines(place, min(rounds), max(rounds), color=colour, alpha=0.35, linewidth=2)
                labels[name] = axes.scatter(
                    middle, place, color=colour, marker=mark, s=26, zorder=3
                )
        axes.set_xscale("log")
        every = [ratio for ratios in rows.values() for them in ratios.values() for ratio in them]
        least = min(0.4, *every) * 0.8
        axes.set_xlim(least, max(every) * 1.25)
        ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if tick >= least]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} x"))
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(left=False)
        axes.set_xlabel("how many times as good tasker is; left of 1 the rival is better")
        figure.legend(
            labels.values(), labels.keys(), loc="outside upper center", ncols=4, frameon=False
        )
        save(figure, target)
    return target


def save(figure: Any, target: Path) -> None:
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


def floor_log(value: float) -> int:
    """The power of ten at or below a figure."""
    return int(f"{value:e}".partition("e")[2])


def short(value: float) -> str:
    """A figure on an axis."""
    for unit, factor in (("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:g}"
