"""What the import brings along: modules by name, since a time would be one of this machine."""

from __future__ import annotations

import os
import subprocess
import sys

HEAVY = {
    "ast",
    "asyncio",
    "dataclasses",
    "dis",
    "importlib.metadata",
    "inspect",
    "multiprocessing",
    "random",
    "socket",
    "subprocess",
}
"""They take long to import, and the standard thread pool of most versions does without."""

OWN = {
    "tasker",
    "tasker._adopter",
    "tasker._amap",
    "tasker._batcher",
    "tasker._block",
    "tasker._checks",
    "tasker._config",
    "tasker._errors",
    "tasker._hints",
    "tasker._lazy_dataclass",
    "tasker._lifecycle",
    "tasker._map",
    "tasker._options",
    "tasker._priority",
    "tasker._public",
    "tasker._registry",
    "tasker._results",
    "tasker._retry",
    "tasker._runner",
    "tasker._tasker",
    "tasker._texts",
    "tasker._threads",
}
FOR_TASKS = {"tasker._future", "tasker._log", "tasker._signals"}

IMPORT = "from tasker import Config, Runner; config = Config(on_create=object, worker_count=1)"
TASKS = """
with Runner(config) as runner:
    assert runner.submit(lambda _: 7).result() == 7
    assert list(runner.map(lambda _, number: number, [1, 2])) == [1, 2]
"""


def brought_by(program: str) -> set[str]:
    """Runs a program in an interpreter of its own, without what this environment adds to it."""
    text = f"import sys; before = set(sys.modules)\n{program}\nprint(*set(sys.modules) - before)"
    found = subprocess.run(
        [sys.executable, "-S", "-c", text],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=True,
        capture_output=True,
        text=True,
    )
    return set(found.stdout.split())


def heavy(modules: set[str]) -> set[str]:
    return modules & HEAVY - brought_by("import concurrent.futures.thread")


def own(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] == "tasker"}


def test_a_config_brings_no_heavy_module_and_no_more_of_the_package_than_it_needs() -> None:
    modules = brought_by(IMPORT)
    assert heavy(modules) == set()
    assert own(modules) == OWN


def test_a_runner_that_runs_tasks_and_stops_brings_no_heavy_module_either() -> None:
    modules = brought_by(f"{IMPORT}\n{TASKS}")
    assert heavy(modules) == set()
    assert own(modules) == OWN | FOR_TASKS


def test_what_is_public_is_imported_when_somebody_asks_for_it() -> None:
    assert own(brought_by(f"{IMPORT}\nfrom tasker import Stats")) == OWN | {"tasker._stats"}
