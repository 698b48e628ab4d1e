"""Rounds of everything at once, each of which leaves a history without a fault.

`TASKER_STRESS=20` plays twenty times as many rounds; `TASKER_SEED=n` begins with another one. A
failure names the seed of its round, which `python -m tests.stress --seed n --size 500 --tasks 1`
plays again. A seed decides what is done, and not how threads meet: a fault may take some rounds to
return.
"""

from __future__ import annotations

import os

import pytest

from tests.stress.play import play

TASKS = 500
"""Tasks of a round, about."""
ROUNDS = 200 * int(os.environ.get("TASKER_STRESS", "1"))
STEP = 10
FIRST = int(os.environ.get("TASKER_SEED", "1"))


@pytest.mark.stress
@pytest.mark.parametrize("first", range(FIRST, FIRST + ROUNDS, STEP))
def test_nothing_is_wrong_in_the_history_of_a_round(first: int) -> None:
    for seed in range(first, first + STEP):
        found = play(seed, TASKS).faults
        assert found == [], f"with seed {seed}"
