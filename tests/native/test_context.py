"""Contexts: a tree of cancellation tokens with deadlines, and the one of the running task."""

from __future__ import annotations

import gc
import math
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from tasker import ConfigError, Context, TaskCancelled, TaskContext, current_context
from tests.native.support import LONG_TIMEOUT, MOMENT, Call, Gate, Resource, Runners, at_once


def test_a_new_context_is_active_and_unlimited() -> None:
    context = Context()
    assert not context.cancelled
    assert (context.reason, context.deadline, context.remaining()) == (None, None, None)
    context.check()
    assert context.wait(0) is False
    assert repr(context) == "<Context active>"


@pytest.mark.parametrize("reason", [None, "enough", ""])
def test_a_cancel_is_seen_with_its_reason(reason: str | None) -> None:
    context = Context()
    context.cancel(reason)
    assert context.cancelled
    assert context.reason == reason
    assert context.wait()
    assert repr(context) == "<Context cancelled>"
    with pytest.raises(TaskCancelled) as raised:
        context.check()
    assert str(raised.value) == ("cancelled" if reason is None else reason)


def test_the_first_reason_stands() -> None:
    context = Context()
    context.cancel("first")
    context.cancel("second")
    assert context.reason == "first"


def test_cancelling_reaches_everything_below_and_nothing_above() -> None:
    root = Context()
    children = [root.child() for _ in range(3)]
    grandchild = children[0].child().child()
    children[0].cancel("branch")
    assert grandchild.cancelled
    assert grandchild.reason == "branch"
    assert [child.cancelled for child in children] == [True, False, False]
    assert not root.cancelled
    root.cancel("root")
    assert [child.reason for child in children] == ["branch", "root", "root"]


def test_a_child_of_a_cancelled_context_is_cancelled() -> None:
    root = Context()
    root.cancel("over")
    child = root.child(timeout=LONG_TIMEOUT)
    assert child.cancelled
    assert child.reason == "over"


def test_a_deadline_cancels_the_child_alone() -> None:
    root = Context()
    child = root.child(timeout=0.01)
    grandchild = child.child()
    assert grandchild.wait(LONG_TIMEOUT)
    assert child.cancelled
    assert not root.cancelled
    assert child.reason == grandchild.reason == "the deadline has passed"
    assert child.remaining() == 0
    with pytest.raises(TaskCancelled, match="the deadline has passed"):
        child.check()


def test_the_earlier_deadline_holds() -> None:
    parent = Context().child(timeout=5)
    assert parent.child(timeout=60).deadline == parent.deadline
    shorter = parent.child(timeout=1)
    assert shorter.deadline is not None
    assert parent.deadline is not None
    assert shorter.deadline < parent.deadline
    assert parent.child().deadline == parent.deadline


def test_the_deadline_is_on_the_monotonic_clock() -> None:
    before = time.monotonic()
    child = Context().child(timeout=10)
    after = time.monotonic()
    assert child.deadline is not None
    assert before + 10 - 0.01 <= child.deadline <= after + 10 + 0.01
    remaining = child.remaining()
    assert remaining is not None
    assert 0 < remaining <= 10


@pytest.mark.parametrize("timeout", [0, -1, -math.inf])
def test_a_limit_that_has_passed_cancels_at_once(timeout: float) -> None:
    child = Context().child(timeout=timeout)
    assert child.cancelled
    assert child.wait()


def test_a_limit_beyond_all_clocks_never_comes() -> None:
    for timeout in (math.inf, 1e300):
        child = Context().child(timeout=timeout)
        assert not child.cancelled
        assert child.wait(0) is False


def test_a_limit_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="nan"):
        Context().child(timeout=math.nan)
    with pytest.raises(ConfigError, match="timeout must be a number of seconds or None, got '1'"):
        Context().child(timeout="1")  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [0, -1, 0.02])
def test_a_wait_ends_in_time(timeout: float) -> None:
    began = time.monotonic()
    assert Context().wait(timeout) is False
    assert time.monotonic() - began >= timeout


def test_a_cancel_wakes_all_that_wait_below() -> None:
    root = Context()
    contexts = [root, root.child(), root.child(timeout=LONG_TIMEOUT).child()]
    calls = [Call(context.wait) for context in contexts for _ in range(2)]
    for call in calls:
        call.wait_until_blocked()
    root.cancel()
    assert [call.result() for call in calls] == [True] * 6


def test_a_wait_ends_at_the_deadline_above() -> None:
    assert Context().child(timeout=0.02).child().wait(LONG_TIMEOUT)


def test_a_parent_may_die_before_its_children() -> None:
    child = Context().child().child()
    gc.collect()
    assert not child.cancelled
    child.cancel()
    assert child.cancelled


def test_a_context_can_be_subclassed() -> None:
    class Session(Context):
        user = "nobody"

    session = Session()
    session.user = "me"
    session.cancel()
    assert (session.user, session.cancelled) == ("me", True)


@pytest.mark.stress
@pytest.mark.usefixtures("fast_switch")
def test_no_child_escapes_a_cancel_in_a_race() -> None:
    for _ in range(50):
        root = Context()
        children: list[Context] = []

        def grow(root: Context = root, children: list[Context] = children) -> None:
            children.extend(root.child().child() for _ in range(20))

        calls = at_once(3, grow)
        root.cancel("over")
        for call in calls:
            call.result()
        assert {child.reason for child in children} == {"over"}


def test_outside_a_task_there_is_no_current_context() -> None:
    with pytest.raises(RuntimeError, match="no task of a runner runs on this thread"):
        current_context()


def test_a_task_has_a_context_of_its_own(runners: Runners) -> None:
    def look(_resource: Resource) -> tuple[type, bool, int, str, str]:
        context = current_context()
        assert context is current_context()
        assert isinstance(context, Context)
        return (
            type(context),
            context.cancelled,
            context.attempt,
            context.worker_name,
            threading.current_thread().name,
        )

    kind, cancelled, attempt, worker, thread = runners.start().queue_task(look)
    assert (kind, cancelled, attempt) == (TaskContext, False, 1)
    assert worker == thread == "tasker-1-worker-1"


def test_two_tasks_never_share_a_context(runners: Runners) -> None:
    runner = runners.start()
    contexts = [runner.queue_task(lambda _: current_context()) for _ in range(2)]
    assert contexts[0] is not contexts[1]


@pytest.mark.parametrize(("name", "shown"), [("load", "load"), (None, "task_with_a_name")])
def test_a_task_knows_its_name(runners: Runners, name: str | None, shown: str) -> None:
    def task_with_a_name(_resource: Resource) -> str:
        return current_context().task_name

    view = runners.start().options(name=name)
    assert view.queue_task(task_with_a_name).endswith(shown)


def test_a_function_without_a_name_shows_its_type(runners: Runners) -> None:
    class Task:
        def __call__(self, _resource: Resource) -> str:
            return current_context().task_name

    assert "Task" in runners.start().queue_task(Task())


def test_run_task_in_the_callers_thread_has_a_context_too(runners: Runners) -> None:
    runner = runners.start(thread_bound=False)
    assert runner.run_task(lambda _: current_context().attempt) == 1
    with pytest.raises(RuntimeError):
        current_context()


def test_threads_started_by_a_task_are_not_inside_it(runners: Runners) -> None:
    def start_a_thread(_resource: Resource) -> BaseException:
        return Call(current_context).error()

    assert isinstance(runners.start().queue_task(start_a_thread), RuntimeError)


def test_a_tasks_context_has_children(runners: Runners, gate: Gate) -> None:
    children: list[Context] = []

    def spread(_resource: Resource) -> None:
        children.append(current_context().child())
        gate.hold()

    future = runners.start().submit(spread)
    gate.wait_for()
    future.request_cancel("enough")
    assert children[0].reason == "enough"


def test_a_pause_of_a_task_ends_with_a_cancel(runners: Runners) -> None:
    started = threading.Event()

    def pause(_resource: Resource) -> bool:
        started.set()
        return current_context().wait(LONG_TIMEOUT)

    runner = runners.start()
    future = runner.submit(pause)
    assert started.wait(LONG_TIMEOUT)
    runner.kill(LONG_TIMEOUT)
    assert future.result(0) is True


def test_a_graceful_stop_leaves_the_contexts_of_tasks_alone(runners: Runners, gate: Gate) -> None:
    def look(_resource: Resource) -> bool:
        gate.hold()
        return current_context().cancelled or current_context().wait(MOMENT)

    runner = runners.start()
    futures = [runner.submit(look) for _ in range(2)]
    gate.wait_for()
    stop = Call(runner.stop)
    stop.wait_until_blocked()
    gate.open()
    stop.result()
    assert [future.result(0) for future in futures] == [False, False]


def test_the_context_of_a_finished_task_stays_as_it_was(runners: Runners) -> None:
    runner = runners.start()
    context = runner.queue_task(lambda _: current_context())
    runner.kill(LONG_TIMEOUT)
    assert not context.cancelled
    assert context.attempt == 1


def child_process(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=LONG_TIMEOUT,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no kill() for its own signals")
def test_a_signal_stops_a_runner_gracefully_and_a_second_one_has_its_usual_effect() -> None:
    done = child_process(
        """
        import os, signal
        from tasker import Config, Context, Runner

        def kill_me(_):
            os.kill(os.getpid(), signal.SIGTERM)

        with Context.on_signals(signal.SIGTERM) as context:
            runner = Runner(Config(on_create=object, worker_count=1, context=context))
            futures = [runner.submit(kill_me)] + [runner.submit(lambda _: 7) for _ in range(3)]
            assert context.wait(10)
            runner.stop(10)
            print([future.result() for future in futures[1:]], runner.state, flush=True)
            os.kill(os.getpid(), signal.SIGTERM)
        print("not reached")
        """
    )
    assert done.stdout == "[7, 7, 7] stopped\n"
    assert done.returncode == -signal.SIGTERM, done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no kill() for its own signals")
def test_a_signal_wakes_a_wait_of_the_main_thread_at_once() -> None:
    done = child_process(
        """
        import signal, threading, time
        from tasker import Context

        with Context.on_signals(signal.SIGINT) as context:
            main = threading.main_thread().ident
            threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()
            began = time.monotonic()
            print(context.wait(20), time.monotonic() - began < 10)
        """
    )
    assert done.stdout == "True True\n", done.stderr
