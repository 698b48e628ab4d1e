"""A round from its seed to its faults."""

from __future__ import annotations

import faulthandler
import sys
from collections import Counter
from typing import NamedTuple

from tests.stress.checker import faults
from tests.stress.plan import Plan
from tests.stress.producers import produce, produce_in_a_loop
from tests.stress.scene import Scene


class Played(NamedTuple):
    """What came of a round."""

    asked: int
    """How many tasks were asked for."""
    faults: list[str]
    seen: Counter[str]
    """How often what happened."""


def play(seed: int, tasks: int) -> Played:
    """Plays a round of about so many tasks."""
    scene = Scene(Plan(seed, tasks))
    history = scene.play(produce, produce_in_a_loop)
    if history.unfinished:
        # What hangs is to be seen while it does.
        runner = scene.runner
        print(seed, scene.plan.ending, history.unfinished, runner.state, file=sys.__stderr__)
        print(runner.stats(), *runner.workers(), sep="\n", file=sys.__stderr__)
        faulthandler.dump_traceback(file=sys.__stderr__ or 2)
    seen: Counter[str] = Counter()
    for entry in history.log:
        kind = entry[0]
        seen[f"{kind} {entry[2]}" if kind in ("ended", "left", "event") else kind] += 1
    return Played(seen["asked"], faults(history), seen)
