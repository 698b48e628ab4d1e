"""`TASKER_REQUIRE` lets no test go without being run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.required import INEVITABLE, VARIABLE

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
SKIPPED = "import pytest\n@pytest.mark.skipif(True, reason='no {0}')\ndef test_{0}() -> None: ...\n"


def run(pytester: pytest.Pytester, required: str, tests: dict[str, str]) -> pytest.RunResult:
    for path, text in tests.items():
        file = pytester.path / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, required)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        patch.delenv("PYTEST_ADDOPTS", raising=False)
        return pytester.runpytest_subprocess("-p", "tests.required")


def test_a_skip_fails_where_it_is_required_and_nowhere_else(pytester: pytest.Pytester) -> None:
    tests = {
        "integration/test_a.py": SKIPPED.format("server"),
        "meetings/test_b.py": SKIPPED.format("library"),
    }
    result = run(pytester, "integration, recipes", tests)
    result.assert_outcomes(errors=1, skipped=1)
    result.stdout.fnmatch_lines(["*TASKER_REQUIRE is set, and this would be skipped: no server"])
    run(pytester, "", tests).assert_outcomes(skipped=2)
    run(pytester, "all", tests).assert_outcomes(errors=2)


def test_a_skip_in_the_middle_and_one_of_a_whole_file_fail_too(pytester: pytest.Pytester) -> None:
    middle = "import pytest\ndef test_a() -> None: pytest.skip('no browser')\n"
    result = run(pytester, "all", {"test_a.py": middle})
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*this would be skipped: no browser"])
    whole = "import pytest\npytest.skip('no server', allow_module_level=True)\n"
    result = run(pytester, "all", {"test_a.py": whole})
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*this would be skipped: no server"])
    library = "import pytest\npytest.importorskip('no_such_library')\n"
    run(pytester, "all", {"test_a.py": library}).assert_outcomes(errors=1)


def test_what_no_installation_changes_may_be_skipped(pytester: pytest.Pytester) -> None:
    reason = "3.12 does not fork then"
    text = f"import pytest\n@pytest.mark.skip(reason={reason!r})\ndef test_a() -> None: ...\n"
    run(pytester, "all", {"test_a.py": text}).assert_outcomes(skipped=1)


def test_an_expected_failure_is_no_skip(pytester: pytest.Pytester) -> None:
    text = "import pytest\n@pytest.mark.xfail\ndef test_a() -> None: assert False\n"
    run(pytester, "all", {"test_a.py": text}).assert_outcomes(xfailed=1)


def test_a_name_that_requires_nothing_is_refused(pytester: pytest.Pytester) -> None:
    result = run(pytester, "postgres", {"test_a.py": "def test_a() -> None: ...\n"})
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no folder of tests/ is named*postgres*"])


def test_every_reason_on_the_list_is_given_by_a_test() -> None:
    others = [file for file in (ROOT / "tests").rglob("*.py") if file.name != "required.py"]
    texts = "".join(file.read_text("utf-8") for file in others if file != Path(__file__))
    # One is put together from two texts.
    parts = {part for reason in INEVITABLE for part in re.split(r"(?<=PostgreSQL: )", reason)}
    assert {part for part in parts if part.removesuffix(": ") not in texts} == set()
