"""Context variables: tasks see their submitter's, workers nobody's."""

from __future__ import annotations

import contextvars
import decimal
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tasker import Config, Runner
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Gate,
    Resource,
    Runners,
    eventually,
    is_healthy,
)

variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable", default="nobody's")


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    token = variable.set("nobody's")
    yield
    variable.reset(token)


def value(_resource: object) -> Any:
    return variable.get()


VERBS: list[Callable[[Runner[Resource]], Any]] = [
    lambda runner: runner.submit(value).result(LONG_TIMEOUT),
    lambda runner: runner.queue_task(value),
    lambda runner: runner.queue_task_with_priority(value),
    lambda runner: runner.queue_task_once(value),
    lambda runner: runner.run_task(value),
    lambda runner: runner.options(name="view").queue_task(value),
    lambda runner: next(runner.map(lambda resource, _: value(resource), [1])),
]


@pytest.mark.parametrize("thread_bound", [True, False])
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_carries_the_callers_variables(
    runners: Runners, verb: Callable[[Runner[Resource]], Any], thread_bound: bool
) -> None:
    runner = runners.start(thread_bound=thread_bound)
    variable.set("caller's")
    assert verb(runner) == "caller's"


def test_they_are_those_of_the_submit(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    variable.set("before")
    future = runner.submit(value)
    variable.set("after")
    gate.open()
    assert future.result(LONG_TIMEOUT) == "before"


def set_and_get(_resource: object) -> list[Any]:
    seen = variable.get()
    variable.set("task's")
    return [seen, variable.get()]


@pytest.mark.parametrize("thread_bound", [True, False])
def test_what_a_task_sets_nobody_else_sees(runners: Runners, thread_bound: bool) -> None:
    runner = runners.start(thread_bound=thread_bound)
    for call in (runner.queue_task, runner.run_task):
        assert call(set_and_get) == ["nobody's", "task's"]
        assert call(set_and_get) == ["nobody's", "task's"]
    assert variable.get() == "nobody's"


def test_each_item_of_a_map_has_its_own_copy(runners: Runners) -> None:
    results = runners.start().map(lambda resource, _: set_and_get(resource), range(5))
    assert list(results) == [["nobody's", "task's"]] * 5


def test_each_attempt_has_its_own_copy(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy)
    seen: list[Any] = []

    def flaky(_resource: Resource) -> None:
        seen.append(variable.get())
        variable.set("an earlier attempt's")
        if len(seen) < 3:
            raise Broken

    variable.set("caller's")
    runner.queue_task(flaky)
    assert seen == ["caller's"] * 3


def test_a_task_inside_a_task_inherits_from_it(runners: Runners) -> None:
    runner = runners.start()

    def outer(_resource: Resource) -> tuple[Any, Any, Any]:
        variable.set("outer's")
        inner = runner.queue_task(set_and_get)
        return inner, runner.run_task(value), variable.get()

    assert runner.queue_task(outer) == (["outer's", "task's"], "outer's", "outer's")


def test_a_callback_sees_the_context_of_no_task(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    variable.set("caller's")
    seen: list[Any] = []
    future = runner.submit(gate.hold)
    future.add_done_callback(lambda _: seen.append(variable.get()))
    gate.open()
    eventually(lambda: seen)
    assert seen == ["nobody's"]


def test_hooks_run_in_an_empty_context(runners: Runners) -> None:
    seen: list[int] = []

    def look(*_anything: object) -> None:
        seen.append(len(contextvars.copy_context()))

    def check(_error: BaseException) -> bool:
        look()
        return False

    def fail(_resource: object) -> None:
        raise Broken

    variable.set("caller's")
    runner = runners.keep(
        Runner(
            Config(
                on_create=look,
                on_destroy=look,
                check_health=check,
                max_retries=0,
                worker_count=1,
                resource_pool_size=1,
            )
        )
    )
    with pytest.raises(Broken):
        runner.queue_task(fail)
    with pytest.raises(Broken):
        runner.run_task(fail)
    runner.stop(LONG_TIMEOUT)
    assert len(seen) >= 8
    assert set(seen) == {0}


def test_variables_of_on_create_are_not_seen_by_tasks(runners: Runners) -> None:
    def create() -> Resource:
        variable.set("worker's")
        return runners.factory.create()

    assert runners.start(on_create=create).queue_task(value) == "nobody's"


def test_without_copying_tasks_share_the_workers_own_context(runners: Runners) -> None:
    def create() -> Resource:
        variable.set("worker's")
        decimal.getcontext().prec = 3
        return runners.factory.create()

    runner = runners.start(on_create=create, copy_contextvars=False)
    variable.set("caller's")
    assert runner.queue_task(value) == "worker's"
    assert runner.queue_task(lambda _: decimal.Decimal(1) / 3) == decimal.Decimal("0.333")
    assert runner.queue_task(set_and_get) == ["worker's", "task's"]
    assert runner.queue_task(value) == "task's"


@pytest.mark.parametrize("copying", [True, False])
def test_a_task_that_fails_leaves_its_context(runners: Runners, copying: bool) -> None:
    def fail(_resource: Resource) -> None:
        variable.set("task's")
        raise ValueError

    runner = runners.start(copy_contextvars=copying)
    with pytest.raises(ValueError, match=r"^$"):
        runner.queue_task(fail)
    assert runner.queue_task(value) == ("nobody's" if copying else "task's")


def test_what_a_task_leaves_in_an_empty_context_no_other_task_finds(runners: Runners) -> None:
    runner = runners.start()
    submit_from_nowhere = contextvars.Context().run
    seen = [submit_from_nowhere(runner.queue_task, set_and_get) for _ in range(3)]
    assert seen == [["nobody's", "task's"]] * 3


def test_a_token_of_an_empty_context_fits_the_context_of_no_other_task(runners: Runners) -> None:
    runner = runners.start()

    def leave_no_trace_but_a_token(_resource: Resource) -> contextvars.Token[Any]:
        first = variable.set("first")
        second = variable.set("second")
        variable.reset(first)
        return second

    def reset(_resource: Resource, token: contextvars.Token[Any]) -> None:
        variable.reset(token)

    submit_from_nowhere = contextvars.Context().run
    token = submit_from_nowhere(runner.queue_task, leave_no_trace_but_a_token)
    with pytest.raises(ValueError, match="different Context"):
        submit_from_nowhere(runner.queue_task, reset, token)


def test_a_task_that_does_not_leave_a_context_harms_no_other_task(runners: Runners) -> None:
    ctypes = pytest.importorskip("ctypes")
    runner = runners.start()

    def enter(_resource: Resource) -> None:
        entered = contextvars.Context()
        ctypes.pythonapi.PyContext_Enter(ctypes.py_object(entered))

    submit_from_nowhere = contextvars.Context().run
    submit_from_nowhere(runner.queue_task, enter)
    assert [submit_from_nowhere(runner.queue_task, value) for _ in range(3)] == ["nobody's"] * 3


class Session:
    """Something of one user, which must not outlive the request."""


def test_no_worker_keeps_the_variables_of_a_submitter(runners: Runners) -> None:
    runner = runners.start(worker_count=2, check_health=is_healthy, max_retries=1)

    def fail(_resource: Resource) -> None:
        raise Broken

    def request() -> weakref.ref[Session]:
        session = Session()
        variable.set(session)
        futures = [runner.submit(value) for _ in range(5)]
        assert runner.run_task(value) is session
        assert all(future.result(LONG_TIMEOUT) is session for future in futures)
        runner.submit(fail).exception(LONG_TIMEOUT)
        return weakref.ref(session)

    ref = contextvars.Context().run(request)
    eventually(lambda: gc.collect() is not None and ref() is None)
