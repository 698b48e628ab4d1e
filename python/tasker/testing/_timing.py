"""What the durations that an `InlineRunner` keeps come to."""

from __future__ import annotations

from tasker._stats import Timing


def timing(times: list[float]) -> Timing:
    """Sums up durations, with percentiles by nearest rank, as the native ones are.

    Args:
        times: In seconds, in any order.
    """
    if not times:
        return Timing(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    ordered, total = sorted(times), sum(times)
    ranks = [-(-percent * len(ordered) // 100) - 1 for percent in (50, 95, 99)]
    p50, p95, p99 = (ordered[rank] for rank in ranks)
    return Timing(len(times), total, total / len(times), ordered[0], ordered[-1], p50, p95, p99)
