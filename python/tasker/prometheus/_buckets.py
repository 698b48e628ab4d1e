"""The upper edges of the buckets of histograms: which there are, and which may be given."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from tasker._checks import check_seconds, wrong

RUN_BUCKETS: tuple[float, ...] = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""For times in task functions and in `on_create`, in seconds; one without end is added."""
# A queue that is too long has a long tail, and clipping it would hide how bad an outage was.
WAIT_BUCKETS: tuple[float, ...] = (*RUN_BUCKETS, 120.0, 300.0, 600.0, 1800.0)
"""For times in the queue, in seconds; one without end is added."""


class Buckets:
    """The finite edges of a histogram, and all edges as the format writes them.

    Args:
        name: What they are given for.
        edges: Seconds, in increasing order; infinity may be the last.

    Raises:
        ConfigError: They are something else.
    """

    def __init__(self, name: str, edges: object) -> None:
        if not isinstance(edges, Iterable) or isinstance(edges, str | bytes):
            raise wrong(name, "a sequence of numbers of seconds", edges)
        given: tuple[Any, ...] = tuple(edges)
        checked = [
            float(check_seconds(f"{name}[{place}]", edge)) for place, edge in enumerate(given)
        ]
        if checked and checked[-1] == math.inf:
            del checked[-1]
        if not checked:
            raise wrong(name, "at least one finite number of seconds", given)
        for place in range(1, len(checked)):
            if checked[place] <= checked[place - 1]:
                raise wrong(f"{name}[{place}]", "more than the one before it", checked[place])
        if checked[-1] == math.inf:
            raise wrong(f"{name}[{len(checked) - 1}]", "finite", checked[-1])
        self.edges = tuple(checked)
        self._texts = [*map(floatToGoString, checked), "+Inf"]

    def fill(
        self, family: Metric, labels: dict[str, str], figures: tuple[list[int], int, float]
    ) -> None:
        """Adds a histogram to its family.

        The client's own `add_metric` makes the labels of each bucket from pairs; most series of a
        scrape are buckets, and this took half of the time that the collector needs.

        Args:
            family: Where it goes.
            labels: Those of all its series.
            figures: How many are no longer than each edge, how many there are, and their sum.
        """
        counts, count, total = figures
        name = f"{family.name}_bucket"
        family.samples.extend(
            Sample(name, {**labels, "le": text}, upto)
            for text, upto in zip(self._texts, [*counts, count], strict=True)
        )
        family.samples.append(Sample(f"{family.name}_count", labels, count))
        family.samples.append(Sample(f"{family.name}_sum", labels, total))
