"""Every promise and every avoided defect that is written down has a test that exists."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["docs/reliability.md", "tests/README.md"]
HELD_BY = "Held by"


@cache
def known_tests() -> frozenset[str]:
    names = set[str]()
    for file in (ROOT / "tests").rglob("test_*.py"):
        names.update(re.findall(r"(?m)^ *(?:async )?def (test_\w+)", file.read_text("utf-8")))
    for file in [*(ROOT / "src").rglob("*.rs"), *(ROOT / "tests" / "rust").rglob("*.rs")]:
        names.update(re.findall(r"#\[test\]\s+(?:#.*\s+)*fn (\w+)", file.read_text("utf-8")))
    targets = re.findall(r"(?m)^(\w+):.*##", (ROOT / "Makefile").read_text("utf-8"))
    return frozenset(names.union(f"make {target}" for target in targets))


def rows(page: str) -> list[tuple[str, list[str]]]:
    """Returns what each row of the page's tables claims, and the names in its last column."""
    found, inside = [], False
    for line in (ROOT / page).read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[-1] == HELD_BY:
            inside = True
        elif inside and set(line) - set("|-"):
            found.append((cells[0], re.findall(r"`([^`]+)`", cells[-1])))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_claim_names_a_test_that_exists(page: str) -> None:
    claims = rows(page)
    assert len(claims) > 20
    assert [claim for claim, names in claims if not names] == []
    assert {name for _, names in claims for name in names} - known_tests() == set()


def test_no_claim_is_made_twice() -> None:
    for page in PAGES:
        claims = [claim for claim, _ in rows(page)]
        assert len(claims) == len(set(claims)), page
