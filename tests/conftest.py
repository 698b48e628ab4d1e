"""For all tests: runners that end with their test, a gate, the log, and what may not be skipped."""

import gc
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tasker import _log
from tests.native.support import Gate, LogCapture, Runners
from tests.required import (
    pytest_configure,
    pytest_make_collect_report,
    pytest_runtest_makereport,
)

__all__ = ["pytest_configure", "pytest_make_collect_report", "pytest_runtest_makereport"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--ray`: tests/behaviour runs on a cluster, as `make ray` has it, and not in this process."""
    parser.addoption("--ray", action="store_true", help="run tests/behaviour with RayRunner alone")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """Ray itself, with two processors: one for all tests, for it takes long to start."""
    if importlib.util.find_spec("ray") is None and sys.version_info[:2] != (3, 11):
        pytest.skip("ray has no wheel for this Python, or is not installed")
    import ray

    # Else actors come after all that runs on the machine, by a niceness of 15.
    os.environ.setdefault("RAY_worker_niceness", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[LogCapture]:
    """What the package logs, from WARNING up. A record that the test does not take fails it."""
    # On a slow machine a test may keep a runner waiting for long enough to be told of.
    monkeypatch.setattr(_log, "INTERVAL", 3600.0)
    book = LogCapture()
    logger = logging.getLogger("tasker")
    logger.addHandler(book)
    logger.propagate = False
    yield book
    logger.propagate = True
    logger.removeHandler(book)
    assert [record.getMessage() for record in book.rest()] == []


@pytest.fixture
def runners(log: LogCapture) -> Iterator[Runners]:
    """Starts runners; what is left of them after the test fails it."""
    del log
    runners = Runners()
    yield runners
    runners.end()


@pytest.fixture
def gate(runners: Runners) -> Iterator[Gate]:
    """A gate that is open when the runners end."""
    del runners
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """The cyclic collector is off: what dies, dies by itself."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def fast_switch() -> Iterator[None]:
    """The interpreter switches threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
