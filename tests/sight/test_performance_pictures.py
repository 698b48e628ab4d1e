"""The pictures of the page on performance: they name what they show, and are always alike."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="no matplotlib in this environment")

from benches.python import growth, plots

IMAGES = Path(__file__).parents[2] / "docs" / "images"
MOST_BYTES = 120_000


def few_points(curve: growth.Curve) -> growth.Points:
    return {
        name: {size: [float(size + 100), 200.0] for size in curve.sizes if size <= most}
        for name, most in curve.most.items()
    }


def test_a_plot_of_growth_names_every_contestant_and_what_grows(tmp_path: Path) -> None:
    drawn = plots.draw_growth([(each, few_points(each)) for each in growth.CURVES], tmp_path)
    names = [*growth.NAMES, *(each.size for each in growth.CURVES)]
    for picture in (drawn, IMAGES / "growth.svg"):
        text = picture.read_text("utf-8")
        assert [name for name in names if name not in text] == []
        assert len(text) < MOST_BYTES


def test_a_plot_of_ratios_names_every_row(tmp_path: Path) -> None:
    rows = {"Bulk: 1 worker": {"ThreadPoolExecutor": [30.0, 20.0]}, "map": {"list(map)": [0.9]}}
    text = plots.draw_ratios(rows, tmp_path).read_text("utf-8")
    assert [name for name in [*rows, "ThreadPoolExecutor"] if name not in text] == []
    assert len((IMAGES / "performance.svg").read_text("utf-8")) < MOST_BYTES


def test_the_same_figures_give_the_same_picture(tmp_path: Path) -> None:
    rows = {"Bulk: 1 worker": {"ThreadPoolExecutor": [30.0], "by hand": [4.0]}}
    texts = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        texts.append(plots.draw_ratios(rows, folder).read_bytes())
    assert texts[0] == texts[1]
