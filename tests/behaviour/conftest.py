"""The fixture that runs a test with a runner and with its double."""

from collections.abc import Iterator

import pytest

from tests.behaviour.support import Bench
from tests.native.support import Gate, Runners


@pytest.fixture(params=["Runner", "InlineRunner"])
def bench(request: pytest.FixtureRequest, runners: Runners, gate: Gate) -> Iterator[Bench]:
    """Starts runners, and their doubles in a second run of the test."""
    bench = Bench(request.param, runners, gate)
    yield bench
    bench.end()


@pytest.fixture
def inline(runners: Runners, gate: Gate) -> Iterator[Bench]:
    """Starts doubles alone."""
    bench = Bench("InlineRunner", runners, gate)
    yield bench
    bench.end()
