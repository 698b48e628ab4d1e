"""Fixtures for pytest, asked for with `pytest_plugins = ["tasker.testing.plugin"]`.

Nothing is imported from the rest of the package until a fixture is used.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

import pytest

if TYPE_CHECKING:
    from tasker import Config
    from tasker.testing import InlineRunner

R = TypeVar("R")


class InlineRunnerFactory(Protocol):
    """What `inline_runner` gives: makes an `InlineRunner` that the test need not end."""

    def __call__(self, config: Config[R], *, manual: bool = False) -> InlineRunner[R]:
        """Makes one.

        Args:
            config: As for `InlineRunner`.
            manual: As for `InlineRunner`.
        """
        ...


@pytest.fixture
def inline_runner() -> Iterator[InlineRunnerFactory]:
    """Makes `InlineRunner`s, and stops them when the test has ended, the last one first."""
    from contextlib import ExitStack  # noqa: PLC0415

    from tasker.testing import InlineRunner  # noqa: PLC0415

    with ExitStack() as ends:

        def make(config: Config[R], *, manual: bool = False) -> InlineRunner[R]:
            runner = InlineRunner(config, manual=manual)
            ends.callback(runner.stop)
            return runner

        yield make


@pytest.fixture
def no_runner_leaks() -> Iterator[None]:
    """Fails a test that leaves a `Runner` behind which was not there before.

    For `pytest.mark.usefixtures`, or for an `autouse` fixture of the project's own. A runner of a
    fixture with a wider scope is there before, and is no leak.
    """
    import gc  # noqa: PLC0415

    import tasker  # noqa: PLC0415

    # Weak: a runner must not outlive the test for being watched.
    before = weakref.WeakSet(tasker.runners())
    yield
    # One in a reference cycle may just wait for the collector, which says so with a warning.
    gc.collect()
    left = [
        f"{runner.name!r} is {runner.state}, with {runner.stats().queued_tasks} tasks waiting"
        for runner in tasker.runners()
        if runner not in before
    ]
    if left:
        pytest.fail(f"the test left runners behind: {'; '.join(left)}", pytrace=False)
