"""A series as a line of blocks."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇"
"""Without the full one, which would run into the line above."""
EMPTY = " "


def sparkline(
    series: Sequence[tuple[float, float]], span: float, width: int, highest: float = 0.0
) -> str:
    """Draws the last seconds of a series, now at the right.

    Args:
        series: Seconds before now, and what was true from the one before it until then; the oldest
            first, and none of it negative.
        span: Seconds that the line stands for.
        width: Its characters.
        highest: What the highest block stands for, if nothing is higher.

    Returns:
        The line. Each character is the mean of what falls into its time, and a space is where
        nothing is known.

    Example:
        >>> sparkline([(4, 0), (3, 1), (2, 2), (1, 4), (0, 8)], 6, 6)
        '  ▂▃▄▇'
    """
    step = span / width
    weights, sums = [0.0] * width, [0.0] * width
    for (begin, _), (end, figure) in pairwise(series):
        # A point stands for the time since the one before it, which several characters may share.
        first, last = max(width - begin / step, 0.0), width - end / step
        for at in range(int(first), min(int(last) + 1, width)):
            part = min(last, at + 1) - max(first, at)
            if part > 0:
                weights[at] += part
                sums[at] += part * figure
    means = [
        total / weight if weight else None for total, weight in zip(sums, weights, strict=True)
    ]
    highest = max(highest, *(mean for mean in means if mean is not None), 0.0)
    return "".join(EMPTY if mean is None else _block(mean, highest) for mean in means)


def _block(figure: float, highest: float) -> str:
    if figure <= 0 or highest <= 0:
        return BLOCKS[0]
    # What is above zero can be told from it.
    return BLOCKS[max(1, round(figure / highest * (len(BLOCKS) - 1)))]
