"""Everything the documentation shows is true: its code runs, and prints what it says it prints.

A page is one program: its ```python blocks are run in order, in a process of their own, and each
`#>` comment is a line of the expected output. Blocks marked `no-run` are only compiled.
"""

import json
import re
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.pages import COMPILE, ROOT, RUN, check, code_in, name_of, run
from tests.recipes.conftest import need_modules

README, RECIPES = ROOT / "README.md", ROOT / "docs" / "recipes"
OF_A_SERVER = [
    README,
    ROOT / "docs" / "coming-from-psycopg-pool.md",
    ROOT / "docs" / "ray.md",
    ROOT / "docs" / "how-to" / "all-cores.md",
]
"""These and the recipes are run in `tests/recipes` and `tests/ray`, with what they need."""
LIBRARIES = {
    "docs/coming-from-joblib.md": ["joblib"],
    "docs/how-to/opentelemetry.md": ["opentelemetry", "opentelemetry.sdk"],
    "docs/how-to/prometheus.md": ["prometheus_client"],
    "docs/how-to/reading-the-figures.md": ["matplotlib"],
    "docs/how-to/readiness-and-liveness.md": ["starlette", "httpx"],
    "docs/how-to/watching-in-the-terminal.md": ["rich"],
    "docs/how-to/watching-in-the-browser.md": ["metaflow_extensions", "starlette", "httpx"],
}
"""What pages of extras need."""


def pages_with(fence: str) -> list[Path]:
    pages = [README, *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in pages if fence in page.read_text("utf-8").splitlines()]


def without_servers(pages: list[Path]) -> list[Path]:
    return [page for page in pages if page not in OF_A_SERVER and RECIPES not in page.parents]


@pytest.mark.parametrize("page", without_servers(pages_with(RUN)), ids=name_of)
def test_page_prints_what_it_says(page: Path, tmp_path: Path) -> None:
    need_modules(*LIBRARIES.get(name_of(page), []))
    check(page, tmp_path)


@pytest.mark.parametrize("page", pages_with(COMPILE), ids=name_of)
def test_page_shows_valid_code(page: Path) -> None:
    compile(code_in(page, COMPILE), name_of(page), "exec")


def test_links_lead_to_pages_and_headings() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests" / "README.md"]:
        # What looks like a link in code is none.
        text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
            linked = page.parent / target if target else page
            assert linked.is_file(), f"{name_of(page)} links to {target}, which is not there"
            # Pictures have none.
            text = linked.read_text("utf-8") if anchor else ""
            headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings}
            assert not anchor or anchor in anchors, f"{name_of(page)}: no {target}#{anchor}"


def test_every_page_is_listed_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    targets = re.findall(r"\]\(([^):#]+)", index.read_text("utf-8"))
    linked = {(index.parent / target).resolve() for target in targets}
    pages = {page.resolve() for page in (ROOT / "docs").rglob("*.md")} - {index.resolve()}
    assert sorted(map(name_of, pages - linked)) == []


def test_no_page_shows_what_a_merge_left_behind() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        markers = re.findall(r"^(?:<{7}|>{7}) .*", page.read_text("utf-8"), re.MULTILINE)
        assert markers == [], name_of(page)


def test_standard_library_is_indexed_without_losing_a_file(tmp_path: Path) -> None:
    program, database = ROOT / "examples" / "index_stdlib.py", tmp_path / "index.db"
    result = run(program, "--limit", "60", "--database", database, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    assert "files 60," in result.stdout
    assert "NO" not in result.stdout
    with closing(sqlite3.connect(database)) as connection:
        found = connection.execute("select count(distinct path) from sources").fetchone()
    assert found == (60,)


def test_example_fails_when_no_connection_was_replaced(tmp_path: Path) -> None:
    result = run(ROOT / "examples" / "index_stdlib.py", "--limit", "0", cwd=tmp_path)
    assert result.returncode == 1
    assert "the closed connection was replaced: NO" in result.stdout


def test_tenants_with_keys_have_their_databases_open_more_often(tmp_path: Path) -> None:
    result = run(ROOT / "examples" / "database_per_tenant.py", "1000", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    without, opened, hits = map(
        int, re.findall(r"(\d+) (?:databases|queries where)", result.stdout)
    )
    assert opened < without / 2
    assert hits > 500


def test_trace_has_a_slice_for_each_task_in_the_row_of_its_worker(tmp_path: Path) -> None:
    result = run(ROOT / "examples" / "trace_tasks.py", "all.json", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    events = json.loads((tmp_path / "all.json").read_text("utf-8"))["traceEvents"]
    rows = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    assert set(rows.values()) <= {f"web-worker-{number}" for number in range(1, 5)}
    slices = [event for event in events if event["ph"] == "X"]
    assert sorted(each["args"]["task"] for each in slices) == list(range(1, 101))
    assert {each["cat"] for each in slices} == {"completed", "failed"}
    # What one worker does it does one after the other.
    by_row = sorted(slices, key=lambda each: (each["tid"], each["ts"]))
    for before, after in pairwise(by_row):
        if before["tid"] == after["tid"]:
            assert before["ts"] + before["dur"] <= after["ts"] + 1
    assert all(each["dur"] > 0 and each["tid"] in rows and each["pid"] == 1 for each in slices)


def test_rows_served_in_batches_get_what_the_model_says_of_each(tmp_path: Path) -> None:
    need_modules("sklearn")
    result = run(ROOT / "examples" / "classify_in_batches.py", "64", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, ""), result.stdout
    calls = re.search(r"^(\d+) calls of", result.stdout, re.MULTILINE)
    assert calls is not None, result.stdout
    assert 2 <= int(calls[1]) < 64
    assert "NO" not in result.stdout
