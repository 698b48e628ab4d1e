"""`TASKER_REQUIRE`: where a test that skips itself fails, so that none is left out in silence.

It names folders of `tests/`, with commas between them, or is `all`. A test there may be skipped for
one of the reasons in `INEVITABLE` alone.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

VARIABLE = "TASKER_REQUIRE"
HERE = Path(__file__).parent
ALL = "all"

INEVITABLE = frozenset(
    {
        # Of another system.
        "Windows has no kill() for its own signals",
        "asks the system for another process's memory",
        "fork and signals of POSIX",
        "fork of POSIX",
        "looks into /proc",
        "needs a timer that sends signals",
        "no PostgreSQL: its start and stop are written for POSIX",
        "reads /proc",
        "signals and fork of POSIX",
        "signals are raised as POSIX has them",
        "signals of POSIX",
        # Of another version or build of Python.
        "3.12 does not fork then",
        "counts what dies late there",
        "no stack is read where threads run on",
        "objects get their memory elsewhere on this build of Python",
        "sys.monitoring came with Python 3.12",
        "the runner dies on the thread that made it",
        "this build of Python has the GIL",
    }
)
"""Why a test may be skipped all the same: nothing that one could install would change it."""


def required() -> set[str]:
    """Names the folders in which no test may be skipped."""
    return {name.strip() for name in os.environ.get(VARIABLE, "").split(",")} - {""}


def pytest_configure() -> None:
    """Refuses a name that would require nothing.

    Raises:
        pytest.UsageError: There is no such folder.
    """
    unknown = {name for name in required() - {ALL} if not (HERE / name).is_dir()}
    if unknown:
        raise pytest.UsageError(f"{VARIABLE}: no folder of tests/ is named {sorted(unknown)}")


# First to be called, hence last to see the report: pytest itself makes an expected failure a skip.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Has a test that skips itself fail where it is required."""
    report = yield
    demand(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Has a file that skips itself fail where it is required."""
    report = yield
    demand(report)
    return report


def demand(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turns a skip into a failure that gives its reason."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    names = required()
    if ALL not in names and names.isdisjoint(Path(report.nodeid.partition("::")[0]).parts):
        return
    assert isinstance(report.longrepr, tuple)
    reason = report.longrepr[2].removeprefix("Skipped: ")
    if reason not in INEVITABLE:
        report.outcome = "failed"
        report.longrepr = f"{VARIABLE} is set, and this would be skipped: {reason}"
