"""Runs CPython's own tests of thread pools and of asyncio's use of them on another executor.

    python -m tests.conformance.suite futures|asyncio MODULE:CLASS [PATTERN ...]

The tests are imported from the running interpreter's package `test`, or from the folder in which
Debian's package `libpythonX.Y-testsuite` puts them. Before that the class takes the place of
`concurrent.futures.ThreadPoolExecutor` in this process, and in the interpreters that the tests
start. No test is left out but those of other kinds of pools; a pattern picks tests by their names.

The exit status is 0 when all passed, 1 when one failed, and `NO_SUITE` when there are no tests.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.thread
import faulthandler
import importlib
import sys
import unittest
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Generic in its stub alone.
    TextTestResult = unittest.TextTestResult[Any]
else:
    TextTestResult = unittest.TextTestResult

NO_SUITE = 4
"""The exit status when this interpreter has no tests, nor Debian a package of them installed."""
HANG = 60.0
"""Seconds after which a test is taken to hang: all stacks are shown, and the process ends."""

FUTURES = ("test_thread_pool", "test_shutdown", "test_wait", "test_as_completed", "test_init")
ASYNCIO = ("test_threads", "test_futures", "test_events", "test_base_events", "test_tasks")
ASYNCIO_NAMES = ("ToThread", "RunCoroutineThreadsafe", "executor", "wrap_future")
"""What the names of asyncio's tests that concern executors contain."""

PREPARE = """
import sys
sys.path[:] = {path!r}
import concurrent.futures.thread, test
test.__path__.append("/usr/lib/python{version}/test")
from {module} import {name}
concurrent.futures.ThreadPoolExecutor = concurrent.futures.thread.ThreadPoolExecutor = {name}
"""

"""What this process runs first, and so do the interpreters that the tests start."""


class Result(TextTestResult):
    """Ends the process when a test hangs."""

    def startTest(self, test: unittest.TestCase) -> None:
        """Begins to watch a test."""
        faulthandler.dump_traceback_later(HANG, exit=True)
        super().startTest(test)

    def stopTest(self, test: unittest.TestCase) -> None:
        """Ceases to watch it."""
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()


def main(what: str, executor: str, *patterns: str) -> int:
    """Runs the tests and prints what unittest prints.

    Args:
        what: `futures` or `asyncio`.
        executor: The class under test, as `module:class`.
        *patterns: Parts of names, one of which a test's name has to contain.

    Returns:
        The exit status.
    """
    module, _, name = executor.partition(":")
    version = ".".join(map(str, sys.version_info[:2]))
    prepare = PREPARE.format(path=sys.path, version=version, module=module, name=name)
    try:
        exec(prepare, {})  # noqa: S102 - our own text
        prepare_scripts(prepare)
        if what == "futures":
            tests = list(futures_tests())
        else:
            tests, patterns = list(asyncio_tests()), patterns or ASYNCIO_NAMES
    except ModuleNotFoundError as missing:
        print(f"no tests: {missing}")
        return NO_SUITE
    suite = unittest.TestSuite(test for test in tests if matches(test, patterns))
    if suite.countTestCases() == 0:
        print("no test has such a name")
        return 1
    runner = unittest.TextTestRunner(resultclass=Result, verbosity=2, stream=sys.stdout)
    return 0 if runner.run(suite).wasSuccessful() else 1


def prepare_scripts(prepare: str) -> None:
    """Has the interpreters that tests start to run a script prepared like this one."""
    helper: Any = importlib.import_module("test.support.script_helper")
    run = helper.assert_python_ok

    def assert_python_ok(*arguments: str, **environment: str) -> Any:
        *options, script = arguments
        assert options[-1] == "-c"
        return run(*options, f"{prepare}\n{script}", **environment)

    helper.assert_python_ok = assert_python_ok


def futures_tests() -> Iterator[unittest.TestCase]:
    """The tests of pools of threads, and of futures."""
    whole = importlib.import_module("test.test_concurrent_futures")
    if hasattr(whole, "__path__"):
        names = [f"{whole.__name__}.{name}" for name in (*FUTURES, "test_future")]
        modules = [importlib.import_module(name) for name in names]
    else:
        modules = [whole]  # until 3.11
    for cls in test_classes(modules):
        executor = getattr(cls, "executor_type", None)
        if executor is concurrent.futures.ThreadPoolExecutor or cls.__name__ == "FutureTests":
            yield from tests_of(cls)


def asyncio_tests() -> Iterator[unittest.TestCase]:
    """The tests of asyncio in which executors occur, and others of the same files."""
    modules = [importlib.import_module(f"test.test_asyncio.{name}") for name in ASYNCIO]
    for cls in test_classes(modules):
        yield from tests_of(cls)


def test_classes(modules: Sequence[ModuleType]) -> Iterator[type[unittest.TestCase]]:
    """The classes of tests that modules define."""
    for module in modules:
        for cls in vars(module).values():
            is_test = isinstance(cls, type) and issubclass(cls, unittest.TestCase)
            if is_test and cls.__module__ == module.__name__:
                yield cls


def tests_of(cls: type[unittest.TestCase]) -> Iterator[unittest.TestCase]:
    """The tests of a class."""
    return map(cls, unittest.TestLoader().getTestCaseNames(cls))


def matches(test: unittest.TestCase, patterns: Sequence[str]) -> bool:
    """Whether a test's name contains one of the patterns, if there are any."""
    return not patterns or any(pattern in test.id() for pattern in patterns)


if __name__ == "__main__":
    sys.path[0] = str(Path(sys.path[0]).resolve())
    sys.exit(main(*sys.argv[1:]))
