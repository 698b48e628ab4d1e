"""The page on Ray runs."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import ROOT, RUN, code_in, run, said_in


def test_the_page_prints_what_it_says(tmp_path: Path) -> None:
    code = code_in(ROOT / "docs" / "ray.md", RUN)
    script = tmp_path / "page.py"
    script.write_text(code, "utf-8")
    # On standard error Ray speaks of itself.
    result = run(script, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == said_in(code)
