"""What is public is named as users import it: in tracebacks, help, pickles and error messages."""

import dataclasses
import pickle
import pydoc
import traceback
import typing
from typing import Any

import pytest

import tasker
from tasker import Config, DroppedTask, Runner, RunningTask, SubmittedTask, ThreadPoolExecutor

PUBLIC = sorted(set(tasker.__all__) - {"__version__"})


@pytest.mark.parametrize("name", PUBLIC)
def test_classes_and_functions_are_of_the_package(name: str) -> None:
    thing = getattr(tasker, name)
    assert (thing.__module__, thing.__qualname__) == ("tasker", name)
    pickled = pickle.dumps(thing)
    assert b"tasker._" not in pickled
    assert pickle.loads(pickled) is thing  # noqa: S301 - our own bytes


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
    ],
)
def test_an_inherited_method_speaks_of_the_class_that_users_see(method: Any, name: str) -> None:
    assert (method.__module__, method.__qualname__) == ("tasker", name)
    with pytest.raises(TypeError, match=rf"^{name}\(\) "):
        method()
    assert pickle.loads(pickle.dumps(method)) is method  # noqa: S301 - our own bytes


def test_errors_and_tasks_can_be_pickled() -> None:
    error = tasker.StopTimeout("late", [RunningTask("fetch", 1.0, "pg-1")])
    pickled = pickle.dumps([error, tasker.Priority.HIGH, tasker.ConfigError("wrong")])
    assert b"tasker._" not in pickled
    copy, priority, _ = pickle.loads(pickled)  # noqa: S301 - our own bytes
    assert copy.running == error.running
    assert priority is tasker.Priority.HIGH


KINDS = [Config, DroppedTask, SubmittedTask, RunningTask, tasker.Stats, tasker.Metrics]


@pytest.mark.parametrize("kind", KINDS)
def test_annotations_of_fields_can_be_evaluated(kind: Any) -> None:
    hints = typing.get_type_hints(kind)
    assert set(hints) == {field.name for field in dataclasses.fields(kind)}
    assert not any(isinstance(hint, str) for hint in hints.values())
