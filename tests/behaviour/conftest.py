"""The fixture that runs a test with a runner and with its double, or on Ray."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.behaviour import differs_on_ray
from tests.behaviour.support import Bench
from tests.native.support import Gate, LogCapture, Runners


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Has each test run with each kind of runner, or with `--ray` on Ray alone."""
    if "bench" in metafunc.fixturenames:
        kinds = ["RayRunner"] if metafunc.config.option.ray else ["Runner", "InlineRunner"]
        metafunc.parametrize("bench", kinds, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--ray`: leaves out what has no bench, and marks what cannot hold there."""
    if config.option.ray:
        items[:] = differs_on_ray.choose(items)


@pytest.fixture
def bench(request: pytest.FixtureRequest, log: LogCapture) -> Iterator[Bench]:
    """Starts runners of one kind."""
    bench: Bench
    if request.param == "RayRunner":
        from tests.behaviour.on_ray import RayBench

        request.getfixturevalue("cluster")
        bench = RayBench(request.getfixturevalue("tmp_path"))
    else:
        runners: Runners = request.getfixturevalue("runners")
        bench = Bench(request.param, runners, request.getfixturevalue("gate"))
    yield bench
    bench.end()
    del log


@pytest.fixture
def inline(runners: Runners, gate: Gate) -> Iterator[Bench]:
    """Starts doubles alone."""
    bench = Bench("InlineRunner", runners, gate)
    yield bench
    bench.end()
