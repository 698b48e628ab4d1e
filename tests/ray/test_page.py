"""The pages on Ray run, and so do the examples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, RUN, code_in, run, said_in


@pytest.mark.parametrize("page", ["ray.md", "how-to/all-cores.md"])
def test_a_page_prints_what_it_says(page: str, tmp_path: Path) -> None:
    code = code_in(ROOT / "docs" / page, RUN)
    script = tmp_path / "page.py"
    script.write_text(code, "utf-8")
    # On standard error Ray speaks of itself.
    result = run(script, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == said_in(code)


def run_example(name: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"examples.{name}", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=230)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_two_shards_hold_every_file_once_though_an_actor_was_killed() -> None:
    printed = run_example("index_stdlib_on_ray", "--limit", "60")
    assert "killed the process of" in printed
    assert "files 60, in shards of 30 and 30" in printed


def test_a_model_in_two_actors_says_what_it_says_here() -> None:
    assert "20000 rows by 2 actors, as in this process: yes" in run_example("model_on_ray")
