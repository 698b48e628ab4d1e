"""Everything the documentation shows is true: its code runs, and prints what it says it prints.

A page is one program: its ```python blocks are run in order, in a process of their own, and each
`#>` comment is a line of the expected output. Blocks marked `no-run` are only compiled.
"""

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN, COMPILE = "```python", "```python no-run"
FENCES = {RUN, COMPILE, "```sh", "```text", "```go", "```"}


def pages_with(fence: str) -> list[Path]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in pages if fence in page.read_text("utf-8").splitlines()]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def code_in(page: Path, fence: str) -> str:
    """Returns the page with all but its code blanked, so that line numbers stay true."""
    lines, inside = [], False
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("```"):
            assert line in FENCES, f"{name_of(page)}: unknown kind of block {line!r}"
            inside = line == fence
            lines.append("")
        else:
            lines.append(line if inside else "")
    return "\n".join(lines)


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "default", *arguments]
    return subprocess.run(command, cwd=cwd, timeout=120, capture_output=True, text=True)


@pytest.mark.parametrize("page", pages_with(RUN), ids=name_of)
def test_page_prints_what_it_says(page: Path, tmp_path: Path) -> None:
    script = tmp_path / f"{page.stem}.md.py"
    script.write_text(code_in(page, RUN), "utf-8")
    result = run(script, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == re.findall(r"#> (.*)", script.read_text("utf-8"))


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
            headings = re.findall(r"^#+ (.*)", linked.read_text("utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings}
            assert not anchor or anchor in anchors, f"{name_of(page)}: no {target}#{anchor}"


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
