"""The picture of a trace: what the example writes can be drawn, and the pages show such a one."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="no matplotlib in this environment")

ROOT = Path(__file__).parents[2]
WORKERS = [f"web-worker-{number}" for number in range(1, 5)]
MOST_BYTES = 60_000


def test_the_trace_of_the_example_can_be_drawn(tmp_path: Path) -> None:
    trace, picture = tmp_path / "trace.json", tmp_path / "trace.svg"
    example = [sys.executable, str(ROOT / "examples" / "trace_tasks.py"), str(trace)]
    subprocess.run(example, check=True, capture_output=True)
    script = runpy.run_path(str(ROOT / "scripts" / "trace_picture.py"))
    script["main"](str(trace), str(picture))
    for drawn in (picture, ROOT / "docs" / "images" / "trace.svg"):
        text = drawn.read_text("utf-8")
        assert [name for name in [*WORKERS, "completed", "failed"] if name not in text] == []
        assert len(text) < MOST_BYTES
