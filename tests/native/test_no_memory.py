"""`run_task` where memory runs out: the call fails, and nothing of it is kept or counted."""

from __future__ import annotations

import contextvars
import itertools
import sysconfig
from collections.abc import Callable
from typing import Any

import pytest

from tasker import Runner
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    Gate,
    LogCapture,
    Resource,
    Runners,
    eventually,
)

memory: Any = pytest.importorskip("_testcapi", reason="no way to have the interpreter run out")

pytestmark = [
    pytest.mark.usefixtures("no_collector"),
    pytest.mark.skipif(
        bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        reason="objects get their memory elsewhere on this build of Python",
    ),
]

# More requests for memory than there are between the error of a task and its outcome.
NOTED = 60

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


@pytest.fixture(autouse=True)
def contexts() -> list[contextvars.Context]:
    """More contexts than the interpreter keeps in store, so that another one needs memory."""
    variable.set("set")
    return [contextvars.copy_context() for _ in range(300)]


def ignore(_resource: object) -> None:
    """A task function with a name that is there: that of a builtin is made when it is asked for."""


def fails_at(nth: int, call: Callable[[], object]) -> bool:
    """Whether a call fails when its n-th request for memory does."""
    memory.set_nomemory(nth, nth + 1)
    try:
        call()
    except (MemoryError, SystemError):
        # Python 3.12 finds a frame missing in functions that were traced before.
        return True
    finally:
        memory.remove_mem_hooks()
    return False


def failures(runner: Runner[Resource], contexts: list[contextvars.Context]) -> int:
    """How many requests for memory there are in a call. Each of them fails once."""

    def call() -> None:
        runner.run_task(ignore)

    for nth in itertools.count():
        # One may have come back.
        contexts.extend(contextvars.copy_context() for _ in range(4))
        if not fails_at(nth, call):
            return nth
        stats = runner.stats()
        assert (stats.queued_tasks, stats.running_tasks) == (0, 0)
    raise AssertionError


@pytest.mark.parametrize("hooks", [{}, {"check_health": lambda _: True}], ids=["plain", "judged"])
@pytest.mark.parametrize("thread_bound", [True, False], ids=["bound", "on loan"])
def test_a_call_that_fails_leaves_nothing_behind(
    runners: Runners,
    contexts: list[contextvars.Context],
    thread_bound: bool,
    hooks: dict[str, Any],
) -> None:
    def failures_where(copy_contextvars: bool) -> int:
        runner = runners.start(
            resource_pool_size=1,
            thread_bound=thread_bound,
            copy_contextvars=copy_contextvars,
            **hooks,
        )
        runner.run_task(ignore)
        failed = failures(runner, contexts)
        seen = runner.run_task(lambda _: variable.get("not set"))
        assert (seen == "set") is (copy_contextvars or not thread_bound)
        if not thread_bound:
            assert runner.stats().available_resources == 1
        runner.stop(LONG_TIMEOUT)
        return failed

    # The copy of the context is one of the requests.
    assert failures_where(copy_contextvars=True) > failures_where(copy_contextvars=False)


def test_a_call_that_fails_before_it_seeks_a_resource_is_not_counted(
    runners: Runners, gate: Gate, contexts: list[contextvars.Context]
) -> None:
    runner = runners.start(resource_pool_size=1, thread_bound=False)
    holder = Call(runner.run_task, gate.hold)
    gate.wait_for()
    # Leaves a future that can be used again: the copy of the context is the first request.
    runners.start(resource_pool_size=1, thread_bound=False).run_task(ignore)
    contexts.extend(contextvars.copy_context() for _ in range(4))
    assert fails_at(0, lambda: runner.run_task(ignore))
    assert runner.stats().queued_tasks == 0
    gate.open()
    holder.result()
    assert runner.run_task(lambda _: variable.get()) == "set"
    runner.stop(LONG_TIMEOUT)


def test_an_error_is_not_taken_for_unseen_where_no_note_of_it_could_be_made(
    runners: Runners, log: LogCapture
) -> None:
    runner = runners.start()

    def fail(_resource: Resource, nth: int) -> None:
        memory.set_nomemory(nth, nth + 1)
        raise Broken

    def look(nth: int) -> None:
        future = runner.submit(fail, nth)
        try:
            eventually(future.done)
        except MemoryError:
            # The request that failed was one of this thread's.
            eventually(future.done)
        finally:
            memory.remove_mem_hooks()
        assert isinstance(future.exception(), (Broken, MemoryError, SystemError))

    for nth in range(NOTED):
        look(nth)
    runner.queue_task(id)
    assert [record.getMessage() for record in log.rest()] == []
