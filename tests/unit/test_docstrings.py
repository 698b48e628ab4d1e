"""Docstrings are there, their examples run, and stub, native module and reference say the same."""

import ast
import dataclasses
import doctest
import importlib
import inspect
import pkgutil
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tasker
from scripts import reference
from tasker import _tasker
from tests.unit.public import is_there, public

STUB = Path(_tasker.__file__ or "").with_name("_tasker.pyi")
PROPERTIES = (property, classmethod, staticmethod, types.GetSetDescriptorType)
DOCUMENTED = (ast.ClassDef, ast.FunctionDef)
MODULES = sorted(module.name for module in pkgutil.walk_packages(tasker.__path__, "tasker."))
PUBLIC = {f"{module}.{name}": value for module, name, value in public()}
NATIVE = {
    name: value
    for name, value in vars(_tasker).items()
    if not name.startswith("_") and callable(value)
}


def examples_of(name: str, thing: object) -> list[doctest.DocTest]:
    # Without a module: a class says that it is of the package, where doctest would look in vain.
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(thing, name, module=False, globs={name: thing})
    return [examples for examples in found if examples.examples]


# ---- examples


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_run(name: str) -> None:
    if not is_there(name):
        pytest.skip(f"no library for {name} in this environment")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_examples_of_a_public_class_run(path: str) -> None:
    for examples in examples_of(path.rsplit(".", 1)[1], PUBLIC[path]):
        assert doctest.DocTestRunner().run(examples).failed == 0


@pytest.mark.parametrize("name", sorted(NATIVE))
def test_examples_of_a_native_class_run(name: str) -> None:
    for examples in examples_of(name, NATIVE[name]):
        assert doctest.DocTestRunner().run(examples).failed == 0


def test_examples_of_public_classes_are_found() -> None:
    names = {examples.name for examples in examples_of("Runner", tasker.Runner)}
    assert {"Runner", "Runner.options", "Runner.executor", "Runner.start"} <= names


def test_examples_of_native_classes_are_found() -> None:
    names = {
        examples.name for name, value in NATIVE.items() for examples in examples_of(name, value)
    }
    runner = {f"Runner.{verb}" for verb in ("submit", "asubmit", "queue_task", "run_task", "stop")}
    assert {*runner, "Context.on_signals", "Executor.submit", "current_context"} <= names


def test_examples_of_the_stub_run() -> None:
    nodes = ast.walk(ast.parse(STUB.read_text("utf-8")))
    texts = [ast.get_docstring(node) for node in nodes if isinstance(node, DOCUMENTED)]
    examples = doctest.DocTestParser().get_doctest(
        "\n\n".join(filter(None, texts)), {}, STUB.name, str(STUB), 0
    )
    assert examples.examples
    assert doctest.DocTestRunner().run(examples).failed == 0


# ---- the stub and the native module


def documented(body: list[ast.stmt], owner: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Gives path, docstring in the stub and docstring at run time of what the stub documents."""
    for node in body:
        if not isinstance(node, DOCUMENTED):
            continue
        native = getattr(owner, node.name)
        in_stub = ast.get_docstring(node)
        # A native class is documented as a whole, its construction included.
        if in_stub and node.name not in {"__init__", "__new__"}:
            yield f"{path}{node.name}", in_stub, inspect.getdoc(native) or ""
        if isinstance(node, ast.ClassDef):
            yield from documented(node.body, native, f"{path}{node.name}.")


def test_stub_and_native_module_say_the_same() -> None:
    module = ast.parse(STUB.read_text("utf-8"))
    found = list(documented(module.body, _tasker))
    assert {"Runner", "Runner.submit", "Runner.state", "current_context"} <= {
        one[0] for one in found
    }
    assert {path: stub for path, stub, _ in found} == {path: said for path, _, said in found}
    assert inspect.getdoc(_tasker) == ast.get_docstring(module)


# ---- what is public


def members_of(kind: type) -> Iterator[tuple[str, object]]:
    """Gives the public methods and properties that the package defines."""
    fields = getattr(kind, "__dataclass_fields__", ())
    for base in kind.__mro__:
        if base.__module__.split(".")[0] != "tasker":
            continue
        for name, value in vars(base).items():
            # A name that another pool has only says what is meant here: `hasattr` denies it.
            if name.startswith("_") or name in fields or not hasattr(kind, name):
                continue
            if isinstance(value, PROPERTIES) or inspect.isroutine(value):
                yield name, value


@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_all_that_is_public_has_a_docstring(path: str) -> None:
    assert inspect.getdoc(PUBLIC[path])
    if isinstance(PUBLIC[path], type):
        assert [name for name, value in members_of(PUBLIC[path]) if not inspect.getdoc(value)] == []


CALLS_OF_A_RUNNER = [
    "submit",
    "asubmit",
    "submit_many",
    "queue_task",
    "run_task",
    "map",
    "amap",
    "stop",
    "kill",
    "astop",
    "akill",
    "cancel_queued",
    "renew",
    "resize",
    "stats",
    "metrics",
    "workers",
]


@pytest.mark.parametrize("name", CALLS_OF_A_RUNNER)
def test_what_a_broken_runner_refuses_says_so(name: str) -> None:
    _, _, errors = (inspect.getdoc(getattr(tasker.Runner, name)) or "").partition("\nRaises:\n")
    assert "    RunnerBroken: " in errors


@pytest.mark.parametrize("path", sorted(PUBLIC))
def test_every_error_that_a_docstring_lists_exists(path: str) -> None:
    kind = PUBLIC[path]
    members = [value for _, value in members_of(kind)] if isinstance(kind, type) else []
    for text in map(inspect.getdoc, [kind, *members]):
        raises = re.search(r"^Raises:\n((?: .*\n?|\n)*)", text or "", re.MULTILINE)
        for error in re.findall(r"^ {4}([\w.]+): ", raises[1] if raises else "", re.MULTILINE):
            *modules, name = error.split(".")
            home = importlib.import_module(".".join(modules) or "builtins")
            assert hasattr(tasker, error) or issubclass(getattr(home, name), BaseException), error


# ---- the reference


def test_the_reference_says_what_the_docstrings_say() -> None:
    page = reference.PAGE.read_text("utf-8")
    assert page == reference.render(page), "run `python scripts/reference.py`"


def test_the_reference_tells_of_all_that_is_public() -> None:
    page = reference.PAGE.read_text("utf-8")
    assert set(PUBLIC) <= set(re.findall(r"^<!-- (tasker[\w.]*) -->$", page, re.MULTILINE))
    headings = set(re.findall(r"^### `(.*)` (?:method|attribute)$", page, re.MULTILINE))
    for path, kind in PUBLIC.items():
        name = path.rsplit(".", 1)[1]
        bases = set(PUBLIC.values()) - {kind}
        for member, value in members_of(kind) if isinstance(kind, type) else ():
            is_told_of_a_base = any(
                isinstance(base, type) and vars(base).get(member) is value for base in bases
            )
            assert is_told_of_a_base or f"{name}.{member}" in headings, f"{path}.{member}"


DATACLASSES = [path for path, kind in PUBLIC.items() if dataclasses.is_dataclass(kind)]


@pytest.mark.parametrize("path", DATACLASSES)
def test_every_field_is_told_of(path: str) -> None:
    text = reference.part(path, {})
    inherited = getattr(PUBLIC[path].__base__, "__dataclass_fields__", ())
    for field in dataclasses.fields(PUBLIC[path]):
        assert f"\n- `{field.name}: " in text or field.name in inherited, field.name
