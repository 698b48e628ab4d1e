"""What is public is named as users import it: in tracebacks, help, pickles and error messages."""

import dataclasses
import enum
import importlib
import inspect
import pickle
import pydoc
import traceback
import types
import typing
from typing import Any

import pytest

import tasker
from tasker import Config, DroppedTask, Runner, RunningTask, SubmittedTask, ThreadPoolExecutor
from tasker.testing import InlineRunner
from tests.unit.public import public

PUBLIC = [(module, name) for module, name, _ in public()]


@pytest.mark.parametrize(("package", "name"), PUBLIC)
def test_classes_and_functions_are_of_the_package(package: str, name: str) -> None:
    thing = getattr(importlib.import_module(package), name)
    assert (thing.__module__, thing.__qualname__) == (package, name)
    pickled = pickle.dumps(thing)
    assert b"tasker._" not in pickled
    assert b"testing._" not in pickled
    assert pickle.loads(pickled) is thing  # noqa: S301 - our own bytes
    # An enumeration says its name alone.
    if isinstance(thing, type) and not issubclass(thing, enum.Enum):
        assert repr(thing) == f"<class '{package}.{name}'>"


@pytest.mark.parametrize(("package", "name"), PUBLIC)
def test_methods_are_of_the_package(package: str, name: str) -> None:
    thing = getattr(importlib.import_module(package), name)
    for member, value in vars(thing).items() if isinstance(thing, type) else ():
        function = getattr(value, "__func__", value)
        if inspect.isfunction(function) and function.__module__.split(".")[0] == "tasker":
            assert (function.__module__, function.__qualname__) == (package, f"{name}.{member}")
        if isinstance(value, types.MethodDescriptorType | types.GetSetDescriptorType):
            assert "tasker._" not in repr(value)


def test_a_traceback_names_the_package() -> None:
    with pytest.raises(tasker.ConfigError) as caught:
        Config(on_create=object, worker_count=0)
    last = traceback.format_exception_only(caught.value)[-1]
    assert last == "tasker.ConfigError: worker_count must be at least 1, got 0\n"


def test_help_names_the_package() -> None:
    assert pydoc.plain(pydoc.render_doc(Config)).startswith(
        "Python Library Documentation: class Config in module tasker\n"
    )


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (Runner.map, "Runner.map"),
        (Runner.amap, "Runner.amap"),
        (ThreadPoolExecutor.map, "ThreadPoolExecutor.map"),
        (Runner.options, "Runner.options"),
    ],
)
def test_an_inherited_method_speaks_of_the_class_that_users_see(method: Any, name: str) -> None:
    assert (method.__module__, method.__qualname__) == ("tasker", name)
    with pytest.raises(TypeError, match=rf"^{name}\(\) "):
        method()
    assert pickle.loads(pickle.dumps(method)) is method  # noqa: S301 - our own bytes


def figures() -> tuple[tasker.Stats, tasker.Metrics]:
    with InlineRunner.of("resource") as runner:
        return runner.stats(), runner.metrics()


def workers() -> tuple[tasker.WorkerInfo, ...]:
    with InlineRunner.of("resource") as runner:
        return runner.workers()


def is_error(name: str) -> bool:
    thing = getattr(tasker, name)
    return isinstance(thing, type) and issubclass(thing, Exception)


@pytest.mark.parametrize(
    "value",
    [
        *(getattr(tasker, name)("text") for name in tasker.__all__ if is_error(name)),
        *tasker.Priority,
        RunningTask("fetch", 1.0, "pg-1", ("line\n",)),
        RunningTask("fetch", 1.0, "pg-1", attempt=2, overdue=True),
        *workers(),
        tasker.Finding(code="overdue", severity="info", text="late", since=1.0, figures={}),
        Config(on_create=dict, worker_count=1),
        SubmittedTask(len, ((),), {}, tasker.Priority.LOW, True, 1.0, "name"),
        DroppedTask(len, ((),), {}, tasker.Priority.LOW, True, 1.0, "name"),
        *figures(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_survives_pickling_under_its_public_name(value: object) -> None:
    pickled = pickle.dumps(value)
    assert b"tasker._" not in pickled
    copy = pickle.loads(pickled)  # noqa: S301 - our own bytes
    assert type(copy) is type(value)
    # Tasks are compared by identity.
    assert repr(copy) == repr(value)
    assert repr(value).startswith((f"{type(value).__name__}(", "<Priority."))


def test_errors_and_tasks_can_be_pickled() -> None:
    error = tasker.StopTimeout("late", [RunningTask("fetch", 1.0, "pg-1")])
    pickled = pickle.dumps([error, tasker.Priority.HIGH, tasker.ConfigError("wrong")])
    assert b"tasker._" not in pickled
    copy, priority, _ = pickle.loads(pickled)  # noqa: S301 - our own bytes
    assert copy.running == error.running
    assert priority is tasker.Priority.HIGH


KINDS = [
    Config,
    DroppedTask,
    SubmittedTask,
    RunningTask,
    tasker.Stats,
    tasker.Metrics,
    tasker.WorkerInfo,
    tasker.Finding,
]


@pytest.mark.parametrize("kind", KINDS)
def test_annotations_of_fields_can_be_evaluated(kind: Any) -> None:
    hints = typing.get_type_hints(kind)
    assert set(hints) == {field.name for field in dataclasses.fields(kind)}
    assert not any(isinstance(hint, str) for hint in hints.values())
