"""`tasker.ThreadPoolExecutor` passes CPython's own tests of its pool, and broken ones do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.suite import NO_SUITE
from tests.native.support import FREE_THREADED

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs CPython's tests in an interpreter of their own; skips where there are none."""
    command = [sys.executable, "-m", "tests.conformance.suite", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == NO_SUITE:
        package = f"libpython{sys.version_info[0]}.{sys.version_info[1]}-testsuite"
        reason = f"this interpreter came without its tests; Debian has them in {package}"
        pytest.skip(f"{done.stdout.strip()}: {reason}")
    return done


@pytest.mark.timeout(300)  # much of it is waiting, half a minute in all
@pytest.mark.parametrize("what", ["futures", "asyncio"])
def test_the_thread_pool_passes(what: str) -> None:
    done = run(what, "tasker:ThreadPoolExecutor")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    ("executor", "test"),
    [
        ("Silent", "test_map_exception"),
        ("Unstoppable", "test_cancel_futures"),
        ("Greedy", "test_run_after_shutdown"),
        ("Hoarder", "test_free_reference"),
        ("Lazy", "test_map_submits_without_iteration"),
        # Without the GIL that test is skipped.
        *([] if FREE_THREADED else [("Eager", "test_idle_thread_reuse")]),
        ("Nameless", "test_thread_names_default"),
        ("Hasty", "test_interpreter_shutdown"),
        ("Careless", "ThreadPoolFailingInitializerTest"),
    ],
)
def test_a_broken_pool_is_noticed(executor: str, test: str) -> None:
    healthy = run("futures", "tasker:ThreadPoolExecutor", test)
    assert healthy.returncode == 0, f"{healthy.stdout}\n{healthy.stderr}"
    broken = run("futures", f"tests.conformance.broken:{executor}", test)
    assert broken.returncode == 1, f"{broken.stdout}\n{broken.stderr}"
