"""A waiting task is one object of a fixed size and its entry in a lane, and takes no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tasker import Future
from tests.native.support import FREE_THREADED

ROOT = Path(__file__).parents[2]


def test_a_future_fits_into_a_block_of_128_bytes() -> None:
    """Interpreters hand out memory in steps of sixteen bytes or more."""
    assert sys.getsizeof(Future()) <= 128


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.skipif(FREE_THREADED, reason="the limit is for the allocator of the GIL's builds")
def test_a_waiting_task_takes_at_most_155_bytes() -> None:
    command = [sys.executable, "-m", "benches.python.memory", "tasker", "100000"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    assert float(printed) <= 155
