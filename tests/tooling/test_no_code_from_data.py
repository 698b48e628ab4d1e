"""The package makes no code of data: no pickle, no `eval`, no import by a name that was given.

`tasker.ray` carries tasks to other processes, by the pickler of Ray, and `tasker.testing` runs in
tests alone: both are left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "python" / "tasker"
LEFT_OUT = {"ray", "testing"}
FILES = sorted(
    file for file in PACKAGE.rglob("*.py") if file.relative_to(PACKAGE).parts[0] not in LEFT_OUT
)

MODULES = {
    "cloudpickle",
    "code",
    "codeop",
    "ctypes",
    "dill",
    "marshal",
    "pickle",
    "runpy",
    "shelve",
}
BUILTINS = {"eval", "exec", "compile", "__import__"}
IMPORTERS = {"import_module", "need"}
"""Functions that import by name: `need`, of `_extra.py`, is called with the names of libraries."""


def faults(source: str) -> Iterator[str]:
    """What in a file could run what it was given."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.stmt | ast.expr):
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        for name in names:
            if name.partition(".")[0] in MODULES:
                yield f"line {node.lineno} imports {name}"
        if isinstance(node, ast.Name) and node.id in BUILTINS:
            yield f"line {node.lineno} uses {node.id}"
        if isinstance(node, ast.Call) and called(node).lstrip("_") in IMPORTERS:
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
            if not all(is_constant(value) for value in values):
                yield f"line {node.lineno} imports by a name that it was given"


def is_constant(value: ast.expr) -> bool:
    """Whether it is a literal, or is written as the name of one or as an entry of a table."""
    if isinstance(value, ast.Subscript):
        value = value.value
    return isinstance(value, ast.Constant) or (isinstance(value, ast.Name) and value.id.isupper())


def called(call: ast.Call) -> str:
    """The last name of what is called."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_file_makes_code_of_data(file: Path) -> None:
    found = list(faults(file.read_text("utf-8")))
    # The importer itself.
    assert len(found) == (file.name == "_extra.py"), found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as p",
        "from marshal import loads",
        "import ctypes.util",
        "def run(text): return eval(text)",
        "run = exec",
        "__import__(name)",
        "import importlib\nimportlib.import_module(name)",
        "from importlib import import_module\nimport_module('tasker.' + name)",
        "from tasker._extra import need as _need\n_need('live', name)",
    ],
)
def test_what_does_is_found(source: str) -> None:
    assert len(list(faults(source))) == 1


def test_native_code_imports_and_evaluates_nothing_but_literals() -> None:
    call = re.compile(r"(?<!fn )\b(?:import|eval)\((?:py, )?(?:intern!\(py, )?(?=[^)])")
    odd = [
        f"{file.name}: {source[found.start() :].partition(')')[0]}"
        for file in sorted((ROOT / "src" / "binding").rglob("*.rs"))
        for source in [file.read_text("utf-8")]
        for found in call.finditer(source)
        if not re.match(r'c?"', source[found.end() :])
    ]
    # Of the one function that calls it with literals.
    assert odd == ["py_imports.rs: import(module"]
