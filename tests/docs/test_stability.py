"""The page on stability lists what is public, and no Python that is not tested."""

from __future__ import annotations

import ast
import re
import tomllib

import tasker
from scripts.reference import MODULES, names, tree_of
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "stability.md").read_text("utf-8")
PLUGIN = "tasker.testing.plugin"


def listed() -> dict[str, list[str]]:
    """Gives the names that the page lists, by module."""
    found: dict[str, list[str]] = {}
    for module, cell in re.findall(r"(?m)^\| `(tasker[.\w]*)`[^|]* \| (`.*`) \|$", PAGE):
        found.setdefault(module, []).extend(re.findall(r"`(\w+)`", cell))
    return found


def test_the_list_is_what_the_package_exports() -> None:
    assert sorted(listed()["tasker"]) == sorted(tasker.__all__)


def test_the_lists_of_the_other_modules_are_what_they_export() -> None:
    others = {module: sorted(found) for module, found in listed().items() if module != "tasker"}
    del others[PLUGIN]
    assert others == {module: sorted(names(module)) for module in MODULES if module != "tasker"}


def test_the_fixtures_are_those_of_the_plugin() -> None:
    kinds = ast.ClassDef | ast.FunctionDef
    defined = [node.name for node in tree_of(PLUGIN).body if isinstance(node, kinds)]
    assert sorted(listed()[PLUGIN]) == sorted(name for name in defined if not name.startswith("_"))


def test_what_is_experimental_is_what_says_so() -> None:
    said = re.findall(r"(?m)^\| `(tasker[.\w]*)` \(experimental\)", PAGE)
    assert said == [module for module in MODULES if "experimental" in summary(module)]


def summary(module: str) -> str:
    """Gives what the reference says of a module before its first part."""
    reference = (ROOT / "docs" / "reference.md").read_text("utf-8")
    _, _, below = reference.partition(f"\n## `{module}`\n")
    return below.partition("\n### ")[0]


def test_the_pythons_are_those_that_the_project_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = re.findall(r"Python :: (3\.\d+)\b", "\n".join(project["classifiers"]))
    said = re.search(
        r"(?m)^CPython (.*?), and the free-threaded builds of (.*?)\.\s", PAGE, re.DOTALL
    )
    assert said
    assert re.findall(r"3\.\d+", said[1]) == declared
    release = (ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8")
    built = re.search(r"(?m)^  PYTHONS: (.*)$", release)
    assert built
    both = [
        *re.findall(r"3\.\d+", said[1]),
        *(f"{free}t" for free in re.findall(r"3\.\d+", said[2])),
    ]
    assert sorted(built[1].split()) == sorted(both)
