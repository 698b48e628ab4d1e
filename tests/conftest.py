"""For all tests: runners that end with their test, a gate, the log, and what may not be skipped."""

import gc
import logging
import sys
from collections.abc import Iterator

import pytest

from tasker import _looks
from tests.native.support import Gate, LogCapture, Runners
from tests.required import (
    pytest_configure,
    pytest_make_collect_report,
    pytest_runtest_makereport,
)

__all__ = ["pytest_configure", "pytest_make_collect_report", "pytest_runtest_makereport"]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[LogCapture]:
    """What the package logs, from WARNING up. A record that the test does not take fails it."""
    # On a slow machine a test may keep a runner waiting for long enough to be told of.
    monkeypatch.setattr(_looks, "INTERVAL", 3600.0)
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
