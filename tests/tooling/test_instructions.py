"""The anatomy of a task names functions that there are: none that were renamed or moved."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benches.python.instructions import STAGES

SOURCE = Path(__file__).parents[2] / "src"
NAMES = sorted({name for pair in STAGES.values() for names in pair for name in names})


def functions() -> Iterator[tuple[str, str]]:
    """Every function of the source, with what it is in: the head of its `impl`, or its module."""
    item = re.compile(r"^impl\b(?P<head>[^{;]*)|^(?P<end>\})|\bfn (?P<name>\w+)", re.MULTILINE)
    for path in SOURCE.rglob("*.rs"):
        module = path.parent.name if path.stem == "mod" else path.stem
        owner = module
        for found in item.finditer(path.read_text(encoding="utf-8")):
            if found["name"]:
                yield owner, found["name"]
            else:
                owner = found["head"] or module


DEFINED = sorted(set(functions()))


def is_defined(symbol: str) -> bool:
    path, _, function = symbol.rpartition("::")
    # PyO3 makes a function of each method that Python sees.
    function = re.sub(r"^__pymethod_(\w+)__$", r"\1", function)
    owner = re.findall(r"[A-Za-z]\w+", path)[-1]
    return any(name == function and owner in re.findall(r"\w+", of) for of, name in DEFINED)


@pytest.mark.parametrize("symbol", [name for name in NAMES if "::" in name])
def test_every_function_of_the_anatomy_is_defined(symbol: str) -> None:
    assert is_defined(symbol)


@pytest.mark.parametrize(
    "symbol", ["future::Future>::draft", "Engine<H>::submitted", "submit::leave", "Nobody::submit"]
)
def test_a_function_that_was_renamed_or_moved_is_noticed(symbol: str) -> None:
    assert not is_defined(symbol)
