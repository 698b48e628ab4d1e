"""The tree of errors, as drawn in the module's docstring, and their pickles."""

import concurrent.futures
import inspect
import pickle
import queue
import re
from typing import TypeVar

import pytest

import tasker
from tasker import (
    ConfigError,
    DroppedTask,
    Priority,
    QueueFull,
    ResourceCreationError,
    ResourceLost,
    ResultNotPicklable,
    RunnerBroken,
    RunnerStopped,
    RunningTask,
    StopTimeout,
    TaskCancelled,
    TaskerError,
    TaskNotPicklable,
    TaskTimeout,
    _errors,
)

E = TypeVar("E", bound=TaskerError)

STANDARD: dict[type[TaskerError], type[Exception]] = {
    ConfigError: ValueError,
    ResourceCreationError: RuntimeError,
    RunnerStopped: RuntimeError,
    RunnerBroken: RuntimeError,
    QueueFull: queue.Full,
    TaskTimeout: TimeoutError,
    StopTimeout: TimeoutError,
    TaskCancelled: concurrent.futures.CancelledError,
    TaskNotPicklable: TypeError,
    ResultNotPicklable: TypeError,
    ResourceLost: RuntimeError,
}


def public_errors() -> set[type[BaseException]]:
    members = (getattr(tasker, name) for name in tasker.__all__)
    return {each for each in members if inspect.isclass(each) and issubclass(each, BaseException)}


def test_every_error_has_its_place_in_the_tree() -> None:
    assert public_errors() == {TaskerError, *STANDARD}
    for error, standard in STANDARD.items():
        assert error.__bases__ == (TaskerError, standard)
    assert TaskerError.__bases__ == (Exception,)


def test_the_drawing_shows_every_error_and_what_else_it_is() -> None:
    qualified: dict[type[Exception], str] = {
        queue.Full: "queue.Full",
        concurrent.futures.CancelledError: "concurrent.futures.CancelledError",
    }
    drawn = dict(re.findall(r"── (\w+) +also an? ([\w.]+)$", _errors.__doc__ or "", re.MULTILINE))
    assert drawn == {
        error.__name__: qualified.get(standard, standard.__name__)
        for error, standard in STANDARD.items()
    }


def pickled(error: E) -> E:
    copy: E = pickle.loads(pickle.dumps(error))  # noqa: S301 - bytes of our own
    return copy


@pytest.mark.parametrize("error", [TaskerError, *STANDARD])
def test_errors_survive_pickling(error: type[TaskerError]) -> None:
    original = error("what went wrong")
    original.add_note("a note")
    copy = pickled(original)
    assert type(copy) is error
    assert str(copy) == "what went wrong"
    assert copy.__notes__ == ["a note"]


RUNNING = RunningTask("backup", 12.34, "app-worker-1")
DROPPED = DroppedTask(len, ("abc",), {}, Priority.HIGH, once=True, timeout=2.5, name="count")


def test_a_stop_timeout_survives_pickling_with_what_it_carries() -> None:
    copy = pickled(StopTimeout("too late", (RUNNING,), [DROPPED]))
    assert copy.running == (RUNNING,)
    (dropped,) = copy.dropped
    assert (dropped.fn, dropped.args, dropped.kwargs) == (len, ("abc",), {})
    assert (dropped.priority, dropped.once) == (Priority.HIGH, True)
    assert (dropped.timeout, dropped.name) == (2.5, "count")
    assert str(copy) == 'too late; still running: "backup" (12.3 s on app-worker-1)'


def test_a_stop_timeout_names_all_tasks_that_still_run() -> None:
    second = RunningTask("import", 0.0, "app-worker-2")
    error = StopTimeout("not stopped within 1 s", (RUNNING, second), [])
    assert str(error) == (
        "not stopped within 1 s; "
        'still running: "backup" (12.3 s on app-worker-1), "import" (0.0 s on app-worker-2)'
    )


def test_a_stop_timeout_without_running_tasks_says_no_more_than_its_message() -> None:
    error = StopTimeout("on_destroy still runs")
    assert (str(error), error.running, error.dropped) == ("on_destroy still runs", (), [])


def test_a_name_cannot_make_two_of_one_running_task() -> None:
    forged = RunningTask('a" (1.0 s on x), "b\n', 0.0, "app-worker-1")
    assert str(forged) == r'"a\" (1.0 s on x), \"b\n" (0.0 s on app-worker-1)'


def test_a_running_task_tells_where_it_is() -> None:
    call = '  File "app.py", line 7, in fetch\n    socket.recv()\n'
    task = RunningTask("fetch", 1.0, "app-worker-1", (call,))
    assert str(task) == '"fetch" (1.0 s on app-worker-1, at File "app.py", line 7, in fetch)'
