"""Draws a trace of `examples/trace_tasks.py`: a row for each worker, and a bar for each task.

    python scripts/trace_picture.py trace.json [PICTURE]

Without PICTURE it is the one that the pages show, `docs/images/trace.svg`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.patches import Patch

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SHOWN = 0.1
"""Seconds from the start on: with more, the bars are too narrow to be told apart."""
COLOURS = {"completed": "#5b9bd5", "failed": "#d1423f"}
"""By the kind of event. Failed ones are hatched, too, for who does not tell the colours apart."""
HATCHES = {"completed": "", "failed": "////"}
SETTINGS: Any = {
    "font.size": 9,
    "font.family": "sans-serif",
    # Text stays text, and the same trace gives the same picture.
    "svg.fonttype": "none",
    "svg.hashsalt": "tasker",
    "hatch.linewidth": 0.6,
}


def draw(trace: dict[str, Any], target: Path) -> None:
    """Draws the beginning of a trace.

    Args:
        trace: In the format of Chrome.
        target: Where to.
    """
    events = trace["traceEvents"]
    names = {each["tid"]: each["args"]["name"] for each in events if each["ph"] == "M"}
    slices = [each for each in events if each["ph"] == "X"]
    begin = min(each["ts"] for each in slices)
    with mpl.rc_context(SETTINGS):
        figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1.1), layout="constrained")
        for each in slices:
            start, length = (each["ts"] - begin) / 1e3, each["dur"] / 1e3
            if start > SHOWN * 1e3:
                continue
            kind = each["cat"]
            style: dict[str, Any] = {"color": COLOURS[kind], "hatch": HATCHES[kind]}
            axes.barh(each["tid"], length, 0.7, start, edgecolor="white", linewidth=0.7, **style)
        axes.set_yticks(list(names), list(names.values()))
        axes.invert_yaxis()
        axes.set_xlim(0, SHOWN * 1e3)
        axes.set_xlabel("milliseconds since the first task began")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(left=False)
        keys = [
            Patch(facecolor=colour, edgecolor="white", hatch=HATCHES[kind], label=kind)
            for kind, colour in COLOURS.items()
        ]
        figure.legend(handles=keys, loc="outside upper right", ncols=2, frameon=False)
        figure.savefig(target, metadata={"Date": None})
        plt.close(figure)


def main(source: str, target: str | None = None) -> None:
    """Draws a file."""
    path = Path(target) if target else IMAGES / "trace.svg"
    draw(json.loads(Path(source).read_text("utf-8")), path)
    print(path, f"{path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(*sys.argv[1:3])
