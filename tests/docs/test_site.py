"""The site has every page in its navigation, every name in its inventory, and no dead link."""

from __future__ import annotations

import tomllib
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import tasker
from scripts import site
from scripts.inventory import inventory
from tests.docs.pages import ROOT


def listed(navigation: object) -> Iterator[str]:
    """Gives the pages of a list that names them in groups."""
    if isinstance(navigation, str):
        yield navigation
    elif isinstance(navigation, list):
        for part in navigation:
            yield from listed(part)
    elif isinstance(navigation, dict):
        yield from listed(list(navigation.values()))


def test_navigation_has_every_page_once() -> None:
    settings = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]
    docs = ROOT / "docs"
    pages = sorted(page.relative_to(docs).as_posix() for page in docs.rglob("*.md"))
    assert sorted(listed(settings["nav"])) == pages


def test_every_public_name_is_in_the_inventory() -> None:
    *_, packed = inventory().split(b"\n", 4)
    lines = zlib.decompress(packed).decode().splitlines()
    roles = {name: role for name, role, *_ in map(str.split, lines)}
    assert len(roles) == len(lines)
    public = {f"tasker.{name}" for name in tasker.__all__} - {"tasker.__version__"}
    assert public - set(roles) == set()
    assert roles["tasker.Runner"] == "py:class"
    assert roles["tasker.Runner.submit"] == "py:method"
    assert roles["tasker.Runner.state"] == "py:attribute"
    assert roles["tasker.current_context"] == "py:function"
    assert roles["tasker.testing"] == "py:module"


@pytest.mark.parametrize(
    "link",
    [
        "other/#gone",
        "#gone",
        "gone/",
        "gone.png",
        "../outside/",
        f"{site.ADDRESS}gone/",
        f"{site.SOURCES}gone.py",
    ],
)
def test_a_link_that_leads_nowhere_is_reported(link: str, tmp_path: Path) -> None:
    built, sources = tmp_path / "site", tmp_path / "sources"
    (built / "other").mkdir(parents=True)
    sources.mkdir()
    (sources / "there.py").touch()
    (built / "there.png").touch()
    fine = [
        "other/",
        "other/#part",
        "there.png",
        f"{site.SOURCES}there.py#L1",
        "https://else.org/gone",
    ]
    links = "".join(f'<a href="{each}"></a>' for each in [*fine, link])
    (built / "index.html").write_text(links, "utf-8")
    (built / "other" / "index.html").write_text(
        '<h2 id="part"></h2><img src="../there.png">', "utf-8"
    )
    assert list(site.dead_links(built, sources)) == [f"index.html: {link}"]
