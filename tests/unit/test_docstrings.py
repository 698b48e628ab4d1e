"""Docstrings are true: their examples run, and stub and native module say the same."""

import ast
import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tasker
from tasker import _tasker

STUB = Path(_tasker.__file__ or "").with_name("_tasker.pyi")
DOCUMENTED = (ast.ClassDef, ast.FunctionDef)
MODULES = sorted(module.name for module in pkgutil.walk_packages(tasker.__path__, "tasker."))


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", sorted(set(tasker.__all__) - {"__version__"}))
def test_examples_of_a_public_class_run(name: str) -> None:
    # A class says that it is of the package, where its module's name keeps doctest from looking.
    finder = doctest.DocTestFinder()
    globs = {name: getattr(tasker, name)}
    for examples in finder.find(getattr(tasker, name), name, module=False, globs=globs):
        assert doctest.DocTestRunner().run(examples).failed == 0


def test_examples_of_public_classes_are_found() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(tasker.Runner, "Runner", module=False)
    names = {examples.name for examples in found if examples.examples}
    assert {"Runner", "Runner.options", "Runner.executor", "Runner.start"} <= names


def test_examples_of_the_stub_run() -> None:
    nodes = ast.walk(ast.parse(STUB.read_text("utf-8")))
    texts = [ast.get_docstring(node) for node in nodes if isinstance(node, DOCUMENTED)]
    examples = doctest.DocTestParser().get_doctest(
        "\n\n".join(filter(None, texts)), {}, STUB.name, str(STUB), 0
    )
    assert examples.examples
    assert doctest.DocTestRunner().run(examples).failed == 0


def documented(body: list[ast.stmt], owner: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Gives path, first line in the stub and first line at run time of what the stub documents."""
    for node in body:
        if not isinstance(node, DOCUMENTED):
            continue
        native = getattr(owner, node.name)
        in_stub = ast.get_docstring(node)
        # A native class is documented as a whole, its construction included.
        if in_stub and node.name not in {"__init__", "__new__"}:
            at_run_time = (native.__doc__ or "").strip()
            yield f"{path}{node.name}", in_stub.splitlines()[0], at_run_time.split("\n")[0]
        if isinstance(node, ast.ClassDef):
            yield from documented(node.body, native, f"{path}{node.name}.")


def test_stub_and_native_module_begin_with_the_same_words() -> None:
    found = list(documented(ast.parse(STUB.read_text("utf-8")).body, _tasker))
    assert found
    assert [(path, stub) for path, stub, _ in found] == [(path, said) for path, _, said in found]
