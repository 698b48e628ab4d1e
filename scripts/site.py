"""Builds the documentation as a site in `target/site`; a warning or a dead link is an error.

python -m scripts.site
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

from scripts.inventory import entries, inventory
from scripts.reference import ROOT

PROJECT = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]
SITE: Path = ROOT / PROJECT["site_dir"]
ADDRESS: str = PROJECT["site_url"]
SOURCES = "https://github.com/tasker-developers/tasker-rs/blob/main/"
"""Where links to files of the repository lead."""


@dataclass
class Page(HTMLParser):
    """What a page can be linked by, and what it links to."""

    anchors: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Prepares the parser."""
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes an element."""
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            if name in {"href", "src"} and value:
                self.links.add(value)


def read(file: Path) -> Page:
    """Parses a page."""
    page = Page()
    page.feed(file.read_text("utf-8"))
    return page


def file_of(url: str, site: Path, sources: Path) -> Path | None:
    """Finds the file that an address leads to; `None` for one of another site."""
    if url.startswith(SOURCES):
        return sources / unquote(url.removeprefix(SOURCES))
    if url.startswith(urljoin(ADDRESS, "/")):
        # Beside the site, on the same host, nothing is ours: no file has such a name.
        file = site / unquote(url.removeprefix(ADDRESS))
        return file / "index.html" if file.is_dir() else file
    return None


def dead_links(site: Path, sources: Path) -> Iterator[str]:
    """Gives each link of the pages to what is not there, as `page: link`.

    Args:
        site: The folder that becomes the site.
        sources: The repository.
    """
    pages = {file: read(file) for file in sorted(site.rglob("*.html"))}
    for file, page in pages.items():
        own = file.relative_to(site).as_posix()
        for link in sorted(page.links):
            url, fragment = urldefrag(urljoin(ADDRESS + own.removesuffix("index.html"), link))
            target = file_of(url, site, sources)
            if target is None:
                continue
            known = pages[target].anchors if target in pages else set[str]()
            if not target.is_file() or (fragment and target in pages and fragment not in known):
                yield f"{own}: {link}"


def main() -> int:
    """Builds and checks the site; returns the status of the process."""
    shutil.rmtree(SITE, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        return 1
    (SITE / "objects.inv").write_bytes(inventory())
    anchors = read(SITE / "reference" / "index.html").anchors
    faults = [
        *dead_links(SITE, ROOT),
        *(f"objects.inv: {entry.name}" for entry in entries() if entry.fragment not in anchors),
    ]
    for fault in faults:
        print(f"leads nowhere: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
