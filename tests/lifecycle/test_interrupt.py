"""Ctrl-C: it ends every call that blocks the main thread, and the exit of the interpreter."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable

import pytest

from tasker import (
    Context,
    Future,
    Runner,
    TaskContext,
    current_context,
)
from tests.lifecycle.child import config, eventually, interrupted, say
from tests.lifecycle.support import posix_only, run, run_aloud
from tests.native.support import FREE_THREADED

pytestmark = posix_only


# ---- in a call


@pytest.mark.parametrize(
    "call",
    ["result", "exception", "queue_task", "run_task", "submit", "map", "stop", "kill", "wait"],
)
def test_it_ends_a_call_that_blocks_and_the_runner_serves_on(call: str) -> None:
    def program() -> None:
        free, entered = threading.Event(), threading.Event()
        runner = Runner(config(max_queue_size=1, resource_pool_size=1))

        def hold(_: object) -> str:
            entered.set()
            assert free.wait(20)
            return "held"

        running = runner.submit(hold)
        assert entered.wait(20)
        queued = runner.submit(lambda _: "queued")
        calls: dict[str, Callable[[], object]] = {
            "result": running.result,
            "exception": queued.exception,
            "queue_task": lambda: runner.options(timeout=20).queue_task(id),
            "run_task": lambda: runner.run_task(hold),
            "submit": lambda: runner.submit(id),
            "map": lambda: list(runner.map(lambda _, n: n, range(5))),
            "stop": runner.stop,
            "kill": runner.kill,
            "wait": Context().wait,
        }
        say(interrupted(calls[sys.argv[1]]))
        free.set()
        say(running.result())
        if sys.argv[1] not in ("stop", "kill"):
            say(queued.result())
            say(runner.queue_task(lambda _: "served"))
        runner.stop()
        say(runner.state, runner.stats().queued_tasks, runner.stats().running_tasks)

    served = [] if call in ("stop", "kill") else ["queued", "served"]
    assert run(program, call) == ["at once", "held", *served, "stopped 0 0"]


@pytest.mark.parametrize("thread_bound", ["bound", "on loan"])
def test_it_ends_a_run_task_that_waits_for_a_resource(thread_bound: str) -> None:
    def program() -> None:
        free, entered = threading.Event(), threading.Event()
        bound = sys.argv[1] == "bound"
        runner = Runner(config(resource_pool_size=1, thread_bound=bound))

        def hold(_: object) -> None:
            entered.set()
            assert free.wait(20)

        other = threading.Thread(target=runner.run_task, args=(hold,))
        other.start()
        assert entered.wait(20)
        say(interrupted(lambda: runner.run_task(lambda _: say("never run"))))
        free.set()
        other.join()
        say(runner.run_task(lambda _: "served"))
        runner.stop()

    assert run(program, thread_bound) == ["at once", "served"]


def test_it_cancels_the_task_that_the_call_was_for() -> None:
    def program() -> None:
        contexts: list[TaskContext] = []
        told = threading.Event()

        def task(_: object) -> None:
            contexts.append(current_context())
            if contexts[0].wait(20):
                told.set()

        with Runner(config()) as runner:
            say(interrupted(lambda: runner.queue_task(task)))
            say(told.wait(20), contexts[0].reason)

            ran = threading.Event()
            free = threading.Event()
            runner.submit(lambda _: free.wait(20))
            say(interrupted(lambda: runner.queue_task(lambda _: ran.set())))
            free.set()
            runner.queue_task(id)
            say(ran.is_set(), runner.metrics().total_tasks_cancelled)

    assert run(program) == [
        "at once",
        "True the call that waited for it was interrupted",
        "at once",
        "False 1",
    ]


def test_it_does_not_cancel_a_task_whose_result_others_may_want() -> None:
    def program() -> None:
        free = threading.Event()
        with Runner(config()) as runner:
            runner.submit(lambda _: free.wait(20))
            future = runner.submit(lambda _: 7)
            say(interrupted(future.result))
            free.set()
            say(future.result())

    assert run(program) == ["at once", "7"]


def test_it_ends_a_constructor_and_what_it_made_is_destroyed() -> None:
    def program() -> None:
        first, free = threading.Semaphore(1), threading.Event()
        destroyed = threading.Semaphore(0)

        def create() -> object:
            if not first.acquire(blocking=False):
                assert free.wait(20)
            return object()

        runner_config = config(3, on_create=create, on_destroy=lambda _: destroyed.release())
        say(interrupted(lambda: Runner(runner_config)))
        assert destroyed.acquire(timeout=20)
        # The creations that hung are finished and undone when they come back.
        free.set()
        assert destroyed.acquire(timeout=20)
        assert destroyed.acquire(timeout=20)
        eventually(lambda: threading.active_count() == 1)

    assert run(program) == ["at once"]


def test_it_kills_the_runner_when_it_leaves_the_with_block() -> None:
    def program() -> None:
        entered = threading.Event()

        def task(_: object) -> bool:
            entered.set()
            return current_context().wait(20)

        def block() -> None:
            with Runner(config()) as runner:
                futures.append(runner.submit(task))
                futures.append(runner.submit(task))
                entered.wait()
                futures[0].result()

        futures: list[Future[bool]] = []
        say(interrupted(block, after=entered))
        say(futures[0].result(), type(futures[1].exception()).__name__)

    assert run(program) == ["at once", "True TaskCancelled"]


def test_it_kills_a_runner_whose_with_block_waits_for_the_backlog() -> None:
    def program() -> None:
        submitted = threading.Event()

        def block() -> None:
            with Runner(config()) as runner:
                futures.append(runner.submit(lambda _: current_context().wait(20)))
                futures.append(runner.submit(lambda _: current_context().wait(20)))
                submitted.set()

        futures: list[Future[bool]] = []
        say(interrupted(block, after=submitted))
        say(futures[0].result(), type(futures[1].exception()).__name__)

    assert run(program) == ["at once", "True TaskCancelled"]


def test_it_is_never_raised_in_a_worker() -> None:
    def program() -> None:
        with Runner(config(2)) as runner:
            futures = [runner.submit(lambda _: time.sleep(0.01)) for _ in range(30)]
            pressed = 0
            while not all(future.done() for future in futures):
                pressed += 1
                with contextlib.suppress(KeyboardInterrupt):
                    os.kill(os.getpid(), signal.SIGINT)
                    futures[-1].exception()
            say({future.exception() for future in futures}, pressed > 1)

    assert run(program) == ["{None} True"]


# ---- at exit


def test_at_exit_it_turns_the_stop_into_a_kill() -> None:
    def program() -> None:
        runner = Runner(config(on_destroy=lambda _: say("destroyed")))

        def task(_: object) -> None:
            context = current_context()
            eventually(lambda: runner.state == "stopping")
            os.kill(os.getpid(), signal.SIGINT)
            say(context.wait(20), context.reason)

        runner.submit(task)
        queued = runner.submit(lambda _: say("never run"))
        queued.add_done_callback(lambda future: say(type(future.exception()).__name__))

    assert run(program) == ["TaskCancelled", "True the runner was killed", "destroyed"]


def test_at_exit_a_second_one_names_what_runs_and_gives_up() -> None:
    def program() -> None:
        def ignorant(_: object) -> None:
            eventually(lambda: web.state == mail.state == "stopping")
            os.kill(os.getpid(), signal.SIGINT)
            eventually(lambda: web.state == mail.state == "killed")
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(3600)

        web = Runner(config(name="web", on_destroy=lambda _: time.sleep(3600)))
        mail = Runner(config(name="mail"))
        mail.options(name="newsletter").submit(ignorant)

    output, errors = run_aloud(program)
    assert output == []
    header, *lines = errors.splitlines()
    assert header == "tasker: the interpreter exits, and leaves behind what still runs:"
    mail, web = sorted(lines)
    place = "" if FREE_THREADED else ", at File .*, in .*"
    assert re.fullmatch(rf"  a hook \(on web-worker-1{place}\)", web)
    assert re.fullmatch(rf'  "newsletter" \(\d\.\d s on mail-worker-1{place}\)', mail)


def test_at_exit_it_reaches_every_runner() -> None:
    def program() -> None:
        runners = [Runner(config(name=f"runner-{number}")) for number in range(3)]

        def task(_: object) -> None:
            eventually(lambda: all(runner.state == "stopping" for runner in runners))
            os.kill(os.getpid(), signal.SIGINT)
            current_context().wait(20)

        def patient(_: object) -> None:
            say(current_context().wait(20))

        for runner in runners[1:]:
            runner.submit(patient)
        runners[0].submit(task)

    assert run(program) == ["True", "True"]
