"""The comparison with other pools runs, and shows what it measured where it should."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benches.python import comparison, growth, overview, report
from benches.python.contestants import POOLS
from tasker import _tasker

pytestmark = pytest.mark.skipif(_tasker._debug_build, reason="measures optimised builds only")

ROOT = Path(__file__).parents[2]
UNOPTIMISED = """
import runpy
from tasker import _tasker
_tasker._debug_build = True
runpy.run_module("benches.python.compare", run_name="__main__")
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, cwd=ROOT, timeout=50, capture_output=True, text=True)


def test_a_quick_run_measures_every_workload_on_every_contestant(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    result = run("-m", "benches.python.compare", "--quick", "--json", str(file))
    assert (result.returncode, result.stderr) == (0, "")
    figures = json.loads(file.read_text("utf-8"))
    assert {"Machine", "Python", "tasker", "Method"} <= figures["setting"].keys()
    workloads = comparison.all_workloads(scale=1, pinned=False)
    competing = {each.name: {one.name for one in each.contestants} for each in workloads}
    measured = {(row["workload"], row["case"]) for row in figures["rows"]}
    assert measured == {(each.name, case) for each in workloads for case in each.cases}
    for row in figures["rows"]:
        assert row["rounds"].keys() == competing[row["workload"]]
        assert row["medians"] == {name: value for name, [value] in row["rounds"].items()}
        assert row["ratios"].keys() == row["rounds"].keys() - {"tasker"}
        assert min(row["medians"].values()) > 0


def test_a_quick_run_measures_how_threads_scale() -> None:
    result = run("-m", "benches.python.without_gil", "--quick")
    assert (result.returncode, result.stderr) == (0, "")
    rows = [line for line in result.stdout.splitlines() if " k/s " in line]
    assert [row.split(",")[0] for row in rows] == ["computing", "run_task", "bulk", "bulk", "bulk"]
    assert all(" x" in row for row in rows)


def test_growth_is_measured_on_every_contestant_up_to_a_size(tmp_path: Path) -> None:
    file = tmp_path / "growth.json"
    only = ("--only", "workers", "--only", "stop", "--most", "4", "--rounds", "1")
    result = run("-m", "benches.python.growth", *only, "--json", str(file))
    assert (result.returncode, result.stderr) == (0, "")
    _, measured = growth.read(file)
    assert measured.keys() == {"workers", "stop"}
    for curve in growth.CURVES:
        if curve.name in measured:
            points = measured[curve.name]
            assert points.keys() == curve.most.keys()
            assert all(sizes.keys() == {1, 4} for sizes in points.values())


def test_growth_is_the_ratio_of_medians_and_unknown_where_a_curve_ends_before() -> None:
    goal = growth.Goal("waiting", large=100, small=10, most=1.0, text="")
    points: growth.Points = {"tasker": {10: [2.0, 1.0, 9.0], 100: [3.0]}, "by hand": {10: [1.0]}}
    assert growth.growth_of(points, "tasker", goal) == 1.5
    assert growth.growth_of(points, "by hand", goal) is None


def test_the_overview_shows_each_rival_and_marks_the_better_ones() -> None:
    line = overview.Line("map", {"by hand": [0.5, 0.75, 2.0], "list(map)": [2.0]})
    assert line.cells() == ["map", "", "**0.75 x** (0.5 to 2)", "list(map) 2 x"]


def test_the_overview_takes_the_ratios_of_each_round(tmp_path: Path) -> None:
    rounds = {"tasker": [2.0, 4.0], "by hand": [4.0, 4.0]}
    row = {"workload": "Memory", "case": "1 worker", "figure": "", "rounds": rounds}
    file = tmp_path / "compare.json"
    rows = [{**row, "more_is_better": False}, {**row, "more_is_better": True}]
    file.write_text(json.dumps({"setting": {}, "rows": rows}), "utf-8")
    _, lines = overview.compared(file)
    assert [line.ratios for line in lines] == [{"by hand": [2.0, 1.0]}, {"by hand": [0.5, 1.0]}]


def test_an_unoptimised_build_is_refused() -> None:
    result = run("-c", UNOPTIMISED)
    assert result.returncode == 1
    assert "unoptimised" in result.stderr
    assert result.stdout == ""


def test_documented_figures_come_from_a_whole_run() -> None:
    result = run("-m", "benches.python.compare", "--quick", "--write-docs")
    assert result.returncode == 2
    assert "--write-docs wants the whole run" in result.stderr


def test_figures_replace_those_between_the_marks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", "utf-8")
    monkeypatch.setattr(report, "PAGE", page)
    unit = comparison.Unit("tasks/s", more_is_better=True)
    workload = comparison.Workload("Bulk", "Many tasks.", unit, POOLS, {})
    rounds = {"ThreadPoolExecutor": [70_000.0], "by hand": [5e5], "tasker": [2e6, 3e6, 2.8e6]}
    row = comparison.Row(workload, "1 worker", "", rounds)
    report.write_page({"Python": "3.11"}, [row])
    assert page.read_text("utf-8").splitlines() == [
        "before",
        report.BEGIN,
        "",
        "- Python: 3.11",
        "",
        "### Bulk",
        "",
        "Many tasks.",
        "",
        "| tasks/s, more is better | ThreadPoolExecutor | by hand | tasker "
        "| against ThreadPoolExecutor | against by hand |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| 1 worker | 70 k (70 k to 70 k) | 500 k (500 k to 500 k) | 2.8 M (2 M to 3 M) "
        "| 40 x | 5.6 x |",
        "",
        report.END,
        "after",
    ]


def test_a_ratio_above_one_is_better_whichever_way_the_figure_points() -> None:
    workload = comparison.Workload("Memory", "", comparison.Unit("bytes"), POOLS, {})
    row = comparison.Row(workload, "1 worker", "", {"tasker": [250.0], "by hand": [500.0]})
    assert row.ratio("tasker", "by hand") == 2
    assert row.ratio("by hand", "tasker") == 0.5
