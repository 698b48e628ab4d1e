"""What a notebook shows of runners and figures, without any library, and of `tasker.live`."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tasker import Metrics, QueueFull, Runner, RunnerBroken, Stats
from tests.native.support import Gate, Runners
from tests.recipes.conftest import need_modules
from tests.sight.support import HOSTILE, metrics, stats, task_metrics

MOST_ROWS = 100


class Page(HTMLParser):
    """Reads a page, and refuses what is not closed, runs, or loads something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.rows = 0
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {"div", "strong", "table", "caption", "thead", "tbody", "tr", "th", "td"}
        assert {name for name, _ in attrs} <= {"style"}
        # The colours are those of the page that it is in, be it light or dark.
        assert not any(re.search(r"color|background|url", value or "") for _, value in attrs)
        self.rows += tag == "tr"
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def shown(thing: Any) -> tuple[str, Page]:
    bundle = thing._repr_mimebundle_(include=None, exclude=None)
    assert set(bundle) == {"text/plain", "text/html"}
    text, page = bundle["text/plain"], Page(bundle["text/html"])
    assert page.rows < MOST_ROWS
    assert len(text.splitlines()) < MOST_ROWS
    return text, page


def rows_of(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_runner_shows_how_it_does(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2, name="db")
    runner.queue_task(lambda _resource: None)
    held = runner.options(name="held").submit(gate.hold)
    gate.wait_for()
    text, page = shown(runner)
    assert text.startswith("Runner db: running\n")
    assert {"held", "busy", "idle", "db-worker-1", "execution"} <= set(page.texts)
    assert ["workers", "2"] in rows_of(text)
    assert ["completed", "1"] in rows_of(text)
    gate.open()
    held.result()


def test_all_ways_to_end_are_shown(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=1, name="db")
    text, _ = shown(runner)
    assert ["timed", "out", "0"] in rows_of(text)
    assert not {"cancelled", "dropped"} & set(text.split())
    held = runner.submit(gate.hold)
    gate.wait_for()
    assert runner.options(timeout=0).submit(gate.hold).exception()
    assert runner.submit(gate.hold).cancel()
    runner.submit(gate.hold)
    runner.cancel_queued()
    text, _ = shown(runner)
    assert ["timed", "out", "1"] in rows_of(text)
    assert ["cancelled", "1"] in rows_of(text)
    assert ["dropped", "1"] in rows_of(text)
    gate.open()
    held.result()


def test_a_runner_shows_what_is_wrong_with_it(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_queue_size=1, when_full="raise")
    futures = [runner.submit(gate.hold)]
    gate.wait_for()
    futures.append(runner.submit(gate.hold))
    with pytest.raises(QueueFull):
        runner.submit(gate.hold)
    text, _ = shown(runner)
    assert "warning: queue full: 1 task refused in the last minute" in text
    gate.open()


def test_a_stopped_runner_shows_its_totals(runners: Runners) -> None:
    runner = runners.start(name="db")
    runner.queue_task(lambda _resource: None)
    runner.stop()
    text, _ = shown(runner)
    assert text.startswith("Runner db: stopped\n")
    assert ["completed", "1"] in rows_of(text)


def test_a_broken_runner_shows_its_name(runners: Runners, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_runner: object) -> Stats:
        raise RunnerBroken

    runner = runners.start()
    with monkeypatch.context() as patched:
        patched.setattr(Runner, "stats", broken)
        assert runner._repr_mimebundle_() == {"text/plain": repr(runner)}


def full() -> Metrics:
    names = {HOSTILE + str(number): number for number in range(201)}
    return metrics(
        by_task={name: task_metrics(number, 0.5, 1) for name, number in names.items()},
        errors=names,
        total_tasks_completed=1_234_567,
        success_rate=0.123456,
    )


def test_figures_show_their_names_and_values() -> None:
    text, page = shown(full())
    assert ["total_tasks_completed", "1,234,567"] in rows_of(text)
    assert ["success_rate", "0.1235"] in rows_of(text)
    assert "by_task" in page.texts
    text, _ = shown(stats(queued_tasks=7, oldest_wait=1.5))
    assert ["queued_tasks", "7"] in rows_of(text)
    assert ["oldest_wait", "1.5"] in rows_of(text)


def test_hostile_names_are_escaped_and_cut() -> None:
    text, page = shown(full())
    # `Page` refuses a tag that is none of ours.
    cut = [one for one in page.texts if "<script>" in one]
    assert len(cut) == 40
    assert all(len(one) <= 80 and one.isprintable() for one in cut)
    assert all(line.isprintable() for line in text.splitlines())


def test_a_runner_with_much_to_show_shows_the_greatest(runners: Runners) -> None:
    def fail(_resource: object) -> None:
        raise type(f"Error{'x' * 300}", (Exception,), {})

    runner = runners.start(worker_count=30, name=HOSTILE)
    for number in range(60):
        runner.options(name=f"<b>{number}" + "n" * 100).submit(fail).exception()
    text, _ = shown(runner)
    assert "workers, and 10 more" in text
    assert "tasks, and 40 more names" in text


def test_what_shows_it_is_loaded_with_the_first_look_only() -> None:
    program = """
import sys, tasker
config = tasker.Config(on_create=object, worker_count=1)
with tasker.Runner(config) as runner:
    runner.queue_task(lambda resource: None)
    runner.stats(), runner.metrics(), repr(runner)
print([name for name in sys.modules if name in {"html", "tasker._notebook", "tasker._overview"}])
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert said.stdout == "[]\n", said.stderr


CELLS = [
    """
from tasker import Config, Runner
from tasker.live import Live

runner = Runner(Config(on_create=dict, worker_count=2, name="notebook"))
""",
    "runner",
    "runner.stats()",
    "runner.metrics()",
    """
with Live(runner):
    print(runner.queue_task(lambda cache: "worked"))
""",
    "live = Live(runner, refresh_per_second=20); live.start()",
    "runner.stop()",
    "live.stop()",
]


@pytest.mark.timeout(150)
def test_a_notebook_shows_tables_and_frames(tmp_path: Path) -> None:
    need_modules("nbclient", "ipykernel", "rich")
    # Without their types: the checkers run without them.
    nbclient = importlib.import_module("nbclient")
    v4 = importlib.import_module("nbformat").v4

    notebook = v4.new_notebook(cells=[v4.new_code_cell(text) for text in CELLS])
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=60, resources=place).execute()
    _, runner, gauges, totals, block, started, *_ = [cell.outputs for cell in notebook.cells]
    for outputs, title in ((runner, "Runner notebook"), (gauges, "Stats"), (totals, "Metrics")):
        (output,) = outputs
        assert output.data["text/plain"].startswith(title)
        assert Page(output.data["text/html"]).rows < MOST_ROWS
    # One frame stands in the place of all; what is printed has its own.
    frame, *printed = sorted(block, key=lambda output: str(output.output_type))
    # The kernel may send a line in two parts.
    assert "".join(output.text for output in printed) == "worked\n"
    assert "notebook  running" in frame.data["text/plain"]
    assert "<script" not in frame.data["text/html"]
    assert "color" in frame.data["text/html"]
    assert "background" not in frame.data["text/html"]
    # It was started in one cell, drew in it while others ran, and ended in the last.
    (frame,) = started
    assert "notebook  stopped  1 completed" in frame.data["text/plain"]
