"""What the package index shows of the project leads somewhere."""

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
REPOSITORY: str = PROJECT["urls"]["Repository"]
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]


def prose(page: str) -> str:
    """Returns a page without its code, in which what looks like a link is none."""
    text = (ROOT / page).read_text("utf-8")
    return re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)


def links(text: str) -> list[str]:
    """Returns the targets of the inline links of a page and of its definitions."""
    return [*re.findall(r"\]\(([^)]*)\)", text), *re.findall(r"(?m)^\[[^\]]+\]: (\S+)", text)]


def test_no_link_of_the_readme_is_relative() -> None:
    targets = links(prose("README.md"))
    assert len(targets) > 10
    assert [target for target in targets if not target.startswith("https://")] == []


def test_every_link_of_the_readme_is_defined_and_used() -> None:
    text = prose("README.md")
    defined = re.findall(r"(?m)^\[([^\]]+)\]: ", text)
    used = re.findall(r"\[([^\]]+)\](?![:(])", text)
    assert set(defined) == set(used)
    assert len(defined) == len(set(defined))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_into_the_repository_names_a_file_of_it(page: str) -> None:
    prefix = f"{REPOSITORY}/blob/main/"
    inside = [target for target in links(prose(page)) if target.startswith(prefix)]
    paths = [target.removeprefix(prefix).partition("#")[0] for target in inside]
    assert [path for path in paths if not (ROOT / path).is_file()] == []


def test_every_address_of_the_project_is_in_its_repository() -> None:
    prefix = f"{REPOSITORY}/blob/main/"
    assert {url for url in PROJECT["urls"].values() if not url.startswith(REPOSITORY)} == set()
    files = [url for url in PROJECT["urls"].values() if url.startswith(prefix)]
    assert [url for url in files if not (ROOT / url.removeprefix(prefix)).is_file()] == []
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text("utf-8"))["package"]
    assert cargo["repository"] == REPOSITORY


def test_the_wheel_says_what_pyproject_says() -> None:
    installed = metadata(PROJECT["name"])
    urls = dict(line.split(", ", 1) for line in installed.get_all("Project-URL") or [])
    assert urls == PROJECT["urls"]
    assert installed["Author"] == ", ".join(author["name"] for author in PROJECT["authors"])
    assert installed.get_all("Classifier") == PROJECT["classifiers"]
    assert installed["License-Expression"] == PROJECT["license"]
