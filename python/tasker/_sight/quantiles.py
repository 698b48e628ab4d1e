"""Quantiles of what happened between two moments, from histograms that only grow."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from itertools import accumulate, chain

from tasker._sight.view import Quantiles

_GROWTH = 1.08
EDGES = tuple(1e-8 * _GROWTH**step for step in range(347))
"""Upper edges of the buckets, in seconds: from 10 nanoseconds to an hour."""


def counts_of(histogram: tuple[list[int], int, float]) -> array[int]:
    """Packs how many durations are no longer than each of `EDGES`, and how many there are.

    Args:
        histogram: As `Runner._histograms` gives it for `EDGES`.
    """
    upto, count, _ = histogram
    return array("Q", chain(upto, [count]))


def between(before: array[int], after: array[int]) -> Quantiles | None:
    """Tells how the durations were spread that came between two moments.

    Args:
        before: What `counts_of` gave at the first.
        after: What it gave at the second.

    Returns:
        The quantiles, by nearest rank and 4 % off at most; `None` when none came. What took more
        than an hour counts as an hour.
    """
    # Each count is read a moment after the one before it, so a difference may dip.
    grown = [max(new - old, 0) for old, new in zip(before, after, strict=True)]
    count = grown[-1]
    if count == 0:
        return None

    upto = list(accumulate(grown[:-1], max))

    def at(share: float) -> float:
        bucket = bisect_left(upto, share * count)
        if bucket == len(EDGES):
            return EDGES[-1]
        # The middle, as far from one edge as from the other.
        return EDGES[bucket] / math.sqrt(_GROWTH)

    return Quantiles(count, at(0.5), at(0.95), at(0.99))


def together(counts: list[array[int]]) -> array[int]:
    """Adds up histograms."""
    return array("Q", map(sum, zip(*counts, strict=True)))
