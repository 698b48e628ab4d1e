"""The verbs that queue a task, and the options a task can have."""

from __future__ import annotations

import functools
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tasker import (
    Config,
    Future,
    Priority,
    Runner,
    RunnerStopped,
    Submitter,
    current_context,
)
from tests.native.support import LONG_TIMEOUT, Resource, Runners

VERBS = [
    "queue_task",
    "queue_task_with_priority",
    "queue_task_once",
    "queue_task_with_priority_once",
    "run_task",
]


def echo(resource: Resource, *args: Any, **kwargs: Any) -> tuple[Resource, Any, Any]:
    return resource, args, kwargs


def fail(_resource: Resource, error: Exception) -> None:
    raise error


def test_submit_gives_a_future_of_what_the_function_returns(runners: Runners) -> None:
    runner = runners.start()
    future = runner.submit(echo, 1, "two", three=3)
    assert type(future) is Future
    assert future.result(LONG_TIMEOUT) == (runners.factory.made[0], (1, "two"), {"three": 3})


@pytest.mark.parametrize("verb", VERBS)
def test_blocking_verbs_return_what_the_function_returns(runners: Runners, verb: str) -> None:
    call = getattr(runners.start(), verb)
    resource, args, kwargs = call(echo, 1, "two", three=3)
    assert isinstance(resource, Resource)
    assert (args, kwargs) == ((1, "two"), {"three": 3})


@pytest.mark.parametrize("verb", VERBS)
def test_blocking_verbs_raise_what_the_function_raises(runners: Runners, verb: str) -> None:
    error = KeyError("missing")
    with pytest.raises(KeyError) as raised:
        getattr(runners.start(), verb)(fail, error)
    assert raised.value is error


@pytest.mark.parametrize("verb", ["submit", *VERBS])
def test_the_function_is_positional_only(runners: Runners, verb: str) -> None:
    outcome = getattr(runners.start(), verb)(echo, fn=1, self=2, resource_=3)
    if isinstance(outcome, Future):
        outcome = outcome.result(LONG_TIMEOUT)
    assert outcome[2] == {"fn": 1, "self": 2, "resource_": 3}


@pytest.mark.parametrize("verb", ["submit", *VERBS])
@pytest.mark.parametrize("kwargs", [{}, {"three": 3}])
@pytest.mark.parametrize("args", [(), ((),), ({"a": 1},), (1, "two")])
def test_arguments_arrive_as_they_were_given(
    runners: Runners, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    outcome = getattr(runners.start(), verb)(echo, *args, **kwargs)
    if verb == "submit":
        outcome = outcome.result(LONG_TIMEOUT)
    assert outcome[1:] == (args, kwargs)


def test_keyword_arguments_are_the_callers_own(runners: Runners) -> None:
    options = {"colour": "red"}
    _, _, received = runners.start().queue_task(echo, **options)
    received["colour"] = "blue"
    assert options == {"colour": "red"}


@pytest.mark.parametrize("verb", ["submit", *VERBS])
@pytest.mark.parametrize("thing", [None, 7, "text", object()])
def test_what_cannot_be_called_is_refused_at_once(
    runners: Runners, verb: str, thing: object
) -> None:
    runner = runners.start()
    with pytest.raises(TypeError, match=f"must be callable, not {type(thing).__name__}"):
        getattr(runner, verb)(thing)
    assert runner.metrics().total_tasks_arrived == 0


@pytest.mark.parametrize("verb", ["submit", *VERBS])
def test_verbs_need_a_function(runners: Runners, verb: str) -> None:
    with pytest.raises(TypeError, match="fn"):
        getattr(runners.start(), verb)()


class Connection:
    def greet(self, name: str, *, polite: bool = False) -> str:
        return f"{'Dear' if polite else 'Hello'} {name}"


CALLABLES: list[tuple[Callable[..., Any], str]] = [
    (Connection.greet, "Hello you"),
    (lambda connection, name: connection.greet(name), "Hello you"),
    (functools.partial(Connection.greet, polite=True), "Dear you"),
]


@pytest.mark.parametrize(("function", "greeting"), CALLABLES)
def test_anything_callable_is_a_task(
    runners: Runners, function: Callable[..., Any], greeting: str
) -> None:
    runner = runners.keep(Runner(Config(on_create=Connection, worker_count=1)))
    assert runner.queue_task(function, "you") == greeting


def test_methods_of_builtin_resources_are_tasks(runners: Runners) -> None:
    config = Config(
        on_create=lambda: sqlite3.connect(":memory:"),
        on_destroy=sqlite3.Connection.close,
        worker_count=2,
    )
    runner = runners.keep(Runner(config))
    cursor = runner.submit(sqlite3.Connection.execute, "select 6 * ?", (7,)).result(LONG_TIMEOUT)
    assert isinstance(cursor, sqlite3.Cursor)
    rows = runner.run_task(lambda connection: connection.execute("select 1").fetchall())
    assert rows == [(1,)]


def test_wrong_arguments_are_the_tasks_own_error(runners: Runners) -> None:
    runner = runners.start()
    no_arguments: Callable[..., None] = lambda _resource: None  # noqa: E731
    future = runner.submit(no_arguments, "one too many")
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        future.result(LONG_TIMEOUT)


@pytest.mark.parametrize("verb", ["submit", *VERBS])
def test_a_stopped_runner_refuses_in_the_words_of_the_standard(runners: Runners, verb: str) -> None:
    runner = runners.start()
    runner.stop(LONG_TIMEOUT)
    with pytest.raises(
        RunnerStopped, match=r"^cannot schedule new futures after shutdown"
    ) as error:
        getattr(runner, verb)(echo)
    assert isinstance(error.value, RuntimeError)
    assert runner.metrics().total_tasks_refused == 1
    assert runner.metrics().total_tasks_arrived == 0


def test_views_have_the_verbs(runners: Runners) -> None:
    view = runners.start().options(name="echo")
    assert isinstance(view, Submitter)
    assert view.submit(echo, 1, a=2).result(LONG_TIMEOUT)[1:] == ((1,), {"a": 2})
    assert view.queue_task(echo, 1, a=2)[1:] == ((1,), {"a": 2})
    assert view.run_task(echo, 1, a=2)[1:] == ((1,), {"a": 2})
    assert list(view.map(lambda _, x: x + 1, [1, 2])) == [2, 3]


def test_a_view_knows_its_runner(runners: Runners) -> None:
    runner = runners.start()
    view = runner.options()
    assert view.runner is runner
    assert view.config is runner.config


def test_views_do_not_change_what_is_already_there(runners: Runners) -> None:
    runner = runners.start()
    first = runner.options(name="first", priority=Priority.HIGH)
    runner.options(name="second")

    def name(_resource: Resource) -> str:
        return current_context().task_name

    assert first.queue_task(name) == "first"
    assert runner.queue_task(name).endswith("<locals>.name")


def test_the_runner_shows_what_it_was_made_with(runners: Runners) -> None:
    config = runners.config(worker_count=3, name="app")
    runner = runners.keep(Runner(config))
    assert runner.config is config
    assert runner.name == "app"
    assert runner.state == "running"
    assert repr(runner) == "<Runner 'app' running, 3 workers>"


def test_a_runner_can_be_subclassed(runners: Runners) -> None:
    class Database(Runner[Resource]):
        def number(self) -> int:
            return self.queue_task(lambda resource: resource.number)

    database = Database(runners.config())
    runners.keep(database)
    assert database.number() == 0


def test_many_tasks_all_run_once(runners: Runners) -> None:
    runner = runners.start(worker_count=4)
    ran: list[int] = []
    futures = [runner.submit(lambda _, i: ran.append(i), i) for i in range(2000)]
    for future in futures:
        future.result(LONG_TIMEOUT)
    assert sorted(ran) == list(range(2000))


def test_idle_workers_all_take_part(runners: Runners) -> None:
    runner = runners.start(worker_count=8)
    barrier = threading.Barrier(8)
    futures = [runner.submit(lambda _: barrier.wait(LONG_TIMEOUT)) for _ in range(8)]
    assert sorted(future.result(LONG_TIMEOUT) for future in futures) == list(range(8))
