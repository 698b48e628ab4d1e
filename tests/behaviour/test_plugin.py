"""The fixtures of the plug-in, in test runs of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tasker.testing import plugin

pytest_plugins = ["pytester"]

CONFTEST = 'pytest_plugins = ["tasker.testing.plugin"]\n'
AUTOUSE = (
    CONFTEST
    + """
import pytest

@pytest.fixture(autouse=True)
def watch_runners(no_runner_leaks):
    pass
"""
)


def run(pytester: pytest.Pytester, conftest: str, tests: str) -> pytest.RunResult:
    pytester.makeconftest(conftest)
    pytester.makepyfile(tests)
    return pytester.runpytest_subprocess("-p", "no:randomly", "-W", "error")


def test_nothing_is_imported_until_a_fixture_is_used() -> None:
    program = (
        "import sys, tasker, pytest\n"
        "before = set(sys.modules)\n"
        "import tasker.testing.plugin\n"
        "new = set(sys.modules) - before\n"
        "ours = {name for name in new if name.startswith('tasker')}\n"
        "assert ours == {'tasker.testing', 'tasker.testing.plugin'}, ours\n"
        "assert {name.partition('.')[0] for name in new - ours} <= sys.stdlib_module_names\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert Path(plugin.__file__).name == "plugin.py"


def test_inline_runner_is_a_factory_that_stops_what_it_made(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        CONFTEST,
        """
        from tasker import Config
        made, destroyed = [], []

        def test_it_makes_runners(inline_runner):
            config = Config(on_create=object, on_destroy=destroyed.append, worker_count=1)
            made.append(inline_runner(config))
            made.append(inline_runner(config, manual=True))
            assert made[0].submit(lambda resource: 7).result() == 7
            assert not made[1].submit(made.append).done()

        def test_they_have_stopped():
            assert [runner.state for runner in made[:2]] == ["stopped", "stopped"]
            assert len(destroyed) == 2
        """,
    )
    result.assert_outcomes(passed=2)


LEAKS = """
    import pytest
    from tasker import Config, Runner

    runners = []

    @pytest.fixture(scope="module")
    def shared():
        with Runner(Config(on_create=object, worker_count=1, name="shared")) as runner:
            yield runner

    {mark}
    def test_leak(shared):
        runner = Runner(Config(on_create=object, worker_count=1, name="pg"))
        runners.append(runner)

    {mark}
    def test_no_leak(shared):
        with Runner(Config(on_create=object, worker_count=1)) as runner:
            assert runner.queue_task(lambda resource: 7) == 7
        shared.queue_task(lambda resource: 7)

    def teardown_module():
        runners[0].stop()
"""


@pytest.mark.parametrize(
    ("conftest", "mark"),
    [(AUTOUSE, ""), (CONFTEST, '@pytest.mark.usefixtures("no_runner_leaks")')],
    ids=["autouse", "usefixtures"],
)
def test_a_runner_that_is_left_behind_fails_its_test_alone(
    pytester: pytest.Pytester, conftest: str, mark: str
) -> None:
    result = run(pytester, conftest, LEAKS.format(mark=mark))
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*the test left runners behind: 'pg' is running, with 0 tasks waiting"]
    )


def test_without_the_plugin_there_are_no_fixtures(pytester: pytest.Pytester) -> None:
    result = run(pytester, "", "def test(inline_runner): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'inline_runner' not found"])
