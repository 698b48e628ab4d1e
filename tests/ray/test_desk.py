"""What works in an actor, looked at from inside: here it works in the process of the test."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tasker import Future, Priority, ResultNotPicklable
from tasker._options import Options
from tasker.ray import _desk
from tasker.ray._desk import Desk
from tasker.ray._kinds import Kinds
from tasker.ray._pickling import dumps, loads, pack_fields, unpack_error
from tasker.ray._wire import Outcome, Reply, Settings, TaskItem
from tests.ray.functions import Resource, same


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(_desk, "place", lambda: ("actor", "node"))
    desk = Desk()
    fields = {"on_create": dict, "worker_count": 1, "name": "desk"}
    opened = desk.open(
        Settings(config=pack_fields("the config", fields), contextvars=(), log_level=None)
    )
    assert opened.error is None
    yield desk
    desk.shut_down()


CALLS = itertools.count(1)


def push(desk: Desk, fn: Callable[..., Any], *calls: tuple[Any, ...]) -> None:
    """Has tasks run, numbered from 1."""
    kind = Kinds().get(fn, Options())
    tasks: list[TaskItem] = [
        (n, 1, None, dumps((args, {})), None, False) for n, args in enumerate(calls, 1)
    ]
    desk.push([(1, kind.packed)], tasks, [])


def outcomes(desk: Desk, count: int) -> list[Outcome]:
    """Pulls until so many are there."""
    found: list[Outcome] = []
    while len(found) < count:
        found += desk.pull(next(CALLS), None).outcomes
    return found


GATE = threading.Event()


def hold(_resource: Resource) -> None:
    assert GATE.wait(60)


def test_a_start_is_told_again_where_its_reply_was_not_stored(desk: Desk) -> None:
    GATE.clear()
    push(desk, hold, ())
    call = next(CALLS)
    assert desk.pull(call, None).started == [1]
    assert desk.pull(next(CALLS), call).started == [1]
    GATE.set()


class EndsFirst:
    """A future whose task ends right before it is cancelled."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def running(self) -> bool:
        return False

    def cancel(self) -> bool:
        GATE.set()
        self._future.exception(timeout=60)
        return self._future.cancel()


def test_a_task_that_ends_while_it_is_recalled_has_its_outcome(desk: Desk) -> None:
    GATE.clear()
    push(desk, hold, ())
    (task,) = desk._tasks.values()
    assert task.future is not None
    task.future = EndsFirst(task.future)  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue]
    assert desk.recall(1) == []
    ((number, what, _, _),) = outcomes(desk, 1)
    assert (number, what) == (1, "value")


def test_a_reply_that_was_not_stored_is_given_again_with_all_that_it_told(desk: Desk) -> None:
    push(desk, same, (1,), (2,))
    desk.renew(7)
    told: list[Reply] = []
    call = 0
    while not any(reply.notes for reply in told):
        call = next(CALLS)
        told.append(desk.pull(call, None))
    again = desk.pull(next(CALLS), call)
    assert again.notes == told[-1].notes == [("renewed", (7, 1))]
    assert again.outcomes == told[-1].outcomes


class Large(Exception):
    pass


def fail_largely(_resource: Resource) -> None:
    raise Large(bytes(2**21))


def test_an_error_that_is_too_large_for_the_store_fails_its_task_alone(desk: Desk) -> None:
    push(desk, fail_largely, ())
    reply, call = Reply([], [], 0.0, []), 0
    while not reply.outcomes:
        call = next(CALLS)
        reply = desk.pull(call, None)
    assert type(unpack_error(reply.outcomes[0][2])) is Large
    ((_, what, packed, _),) = desk.pull(next(CALLS), call).outcomes
    error = unpack_error(packed)
    assert what == "error"
    assert isinstance(error, ResultNotPicklable)
    assert "an error of 2" in str(error)


def test_kinds_are_forgotten_when_the_driver_says_so(desk: Desk) -> None:
    push(desk, same, (1,))
    desk.push([], [(2, 1, None, dumps(((2,), {})), None, False)], [1])
    assert [loads(each[2]) for each in outcomes(desk, 2)] == [1, 2]
    assert desk._kinds == {}


def grow(resource: Resource) -> list[int]:
    numbers: list[int] = resource.setdefault("numbers", [])
    numbers.append(len(numbers))
    return numbers


def test_a_result_is_a_copy_of_the_moment_of_its_task(desk: Desk) -> None:
    push(desk, grow, *[()] * 500)
    found = outcomes(desk, 500)
    assert [len(loads(each[2])) for each in found] == list(range(1, 501))


def test_destructors_may_submit_in_the_middle_of_a_submit() -> None:
    kinds = Kinds()
    over = threading.Event()

    def nest() -> None:
        with kinds._lock:  # as in a destructor that the collector calls there
            kinds.get(same, Options(priority=Priority.HIGH))
        over.set()

    threading.Thread(target=nest, daemon=True).start()
    assert over.wait(60)


def test_a_config_that_the_actor_cannot_make_is_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_desk, "place", lambda: ("actor", "node"))
    desk = Desk()
    opened = desk.open(Settings(config=b"no pickle", contextvars=(), log_level=None))
    assert opened.error is not None
    desk.shut_down()  # there is nothing to shut down
