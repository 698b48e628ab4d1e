"""`on_event` where a process forks, gets a signal, or takes an object apart."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tasker import Future, Runner, RunnerBroken, TaskEvent
from tests.lifecycle.child import config, ends_in_a_child, eventually, forked, say
from tests.lifecycle.support import posix_only, run

# From 3.12 on the interpreter warns of every fork with threads.
QUIETLY = ("-W", "ignore::DeprecationWarning")


@pytest.mark.parametrize(
    "verb",
    [
        "submit",
        "queue_task",
        "run_task",
        "submit_many",
        "map",
        "cancel",
        "cancel_queued",
        "refused",
    ],
)
@pytest.mark.parametrize("how", ["signal", "raise"])
def test_ctrl_c_in_the_hook_is_raised_by_the_call_under_way(verb: str, how: str) -> None:
    def program() -> None:
        armed: list[str] = []
        free = threading.Event()
        main = threading.get_ident()

        def hook(event: TaskEvent) -> None:
            if armed and threading.get_ident() == main:
                armed.pop()
                if sys.argv[2] == "raise":
                    raise KeyboardInterrupt
                signal.raise_signal(signal.SIGINT)

        runner = Runner(config(on_event=hook, thread_bound=False))
        calls: dict[str, Callable[[Future[Any]], object]] = {
            "submit": lambda _: runner.submit(id),
            "queue_task": lambda _: runner.queue_task(lambda _: free.wait(20)),
            "run_task": lambda _: runner.run_task(id),
            "submit_many": lambda _: runner.submit_many(lambda _, n: n, range(5)),
            "map": lambda _: list(runner.map(lambda _, n: n, range(5))),
            "cancel": lambda future: future.cancel(),
            "cancel_queued": lambda _: runner.cancel_queued(),
            "refused": lambda _: runner.options(timeout=5).submit(id),
        }
        held = threading.Event()

        def hold(_: object) -> None:
            held.set()
            free.wait(20)

        runner.submit(hold)
        held.wait()
        waiting = runner.submit(id)
        if sys.argv[1] == "refused":
            free.set()
            runner.stop()
        if sys.argv[1] == "map":
            free.set()
        armed.append("now")
        try:
            calls[sys.argv[1]](waiting)
            say("went through")
        except KeyboardInterrupt:
            say("interrupted")
        free.set()
        runner.stop()
        metrics = runner.metrics()
        say(metrics.total_tasks_arrived >= 2, armed)

    assert run(program, verb, how) == ["interrupted", "True []"]


@pytest.mark.parametrize("kind", ["Runner", "InlineRunner"])
@pytest.mark.parametrize("handler", ["ignored", "default", "own"])
def test_an_interrupt_in_the_hook_asks_no_signal_handler(kind: str, handler: str) -> None:
    def program() -> None:
        from tasker.testing import InlineRunner

        kind, handler = sys.argv[1:]
        handled: list[int] = []

        def handle(number: int, _frame: object) -> None:
            handled.append(number)
            raise KeyboardInterrupt

        chosen: Any = {"ignored": signal.SIG_IGN, "default": signal.SIG_DFL, "own": handle}
        signal.signal(signal.SIGINT, chosen[handler])

        def hook(event: TaskEvent) -> None:
            if event.kind == "arrived" and event.task_id == 1:
                if handler == "own":
                    signal.raise_signal(signal.SIGINT)
                raise KeyboardInterrupt("of the hook")

        runner: Any = (Runner if kind == "Runner" else InlineRunner)(config(on_event=hook))
        try:
            runner.submit(id)
            say("went through")
        except KeyboardInterrupt as interrupt:
            say("interrupted", *interrupt.args)
        runner.stop()
        say(len(handled), runner.metrics().total_tasks_completed)

    own = handler == "own"
    expected = ["interrupted" if own else "interrupted of the hook", f"{int(own)} 1"]
    assert run(program, kind, handler) == expected


def test_a_future_is_cancelled_in_a_signal_handler() -> None:
    def program() -> None:
        kinds: list[str] = []
        free, held = threading.Event(), threading.Event()
        runner = Runner(config(on_event=lambda event: kinds.append(event.kind)))

        def hold(_: object) -> None:
            held.set()
            free.wait(20)

        runner.submit(hold)
        held.wait()
        waiting = runner.submit(id)

        def handle(_number: int, _frame: object) -> None:
            say(waiting.cancel())

        signal.signal(signal.SIGINT, handle)
        signal.raise_signal(signal.SIGINT)
        say(kinds[-1])
        free.set()
        runner.stop()
        say(sorted(kinds))

    told = str(["arrived", "arrived", "cancelled", "completed"])
    assert run(program) == ["True", "cancelled", told]


def test_a_future_is_cancelled_in_a_finalizer_while_an_error_is_raised() -> None:
    def program() -> None:
        kinds: list[str] = []
        free, held = threading.Event(), threading.Event()

        def hook(event: TaskEvent) -> None:
            kinds.append(event.kind)
            if event.kind == "cancelled":
                with contextlib.suppress(LookupError):
                    raise LookupError

        runner = Runner(config(on_event=hook))

        def hold(_: object) -> None:
            held.set()
            free.wait(20)

        class Owner:
            def __init__(self) -> None:
                self.future = runner.submit(id)

            def __del__(self) -> None:
                self.future.cancel()

        def fail() -> None:
            owner = Owner()
            raise ArithmeticError(str(owner.future.done()))

        runner.submit(hold)
        held.wait()
        try:
            fail()
        except ArithmeticError as error:
            say(error)
        gc.collect()
        eventually(lambda: kinds[-1] == "cancelled")
        results = runner.map(lambda _, n: n, range(3), buffersize=3)
        del results
        gc.collect()
        say(kinds.count("cancelled"))
        free.set()
        runner.stop()

    assert run(program) == ["False", "4"]


@posix_only
@pytest.mark.parametrize(
    ("kind", "verb"),
    [
        ("arrived", "submit"),
        ("arrived", "run_task"),
        ("arrived", "on loan"),
        ("arrived", "inside"),
        ("completed", "submit"),
        ("completed", "on loan"),
        ("completed", "map"),
        ("cancelled", "cancel"),
    ],
)
def test_a_hook_may_fork(kind: str, verb: str) -> None:
    def program() -> None:
        kind, verb = sys.argv[1:]
        parent = os.getpid()
        statuses: list[int] = []
        told_in_children: list[str] = []

        def hook(event: TaskEvent) -> None:
            if os.getpid() != parent:
                told_in_children.append(event.kind)
                say("told in a child")
            if event.kind == kind and event.task_id == (2 if verb in {"inside", "cancel"} else 1):
                statuses.append(ends_in_a_child("return"))

        runner = Runner(config(on_event=hook, thread_bound=verb != "on loan"))
        free, held = threading.Event(), threading.Event()

        def hold(_: object) -> None:
            held.set()
            free.wait(20)

        try:
            match verb:
                case "submit":
                    runner.submit(id)
                case "cancel":
                    runner.submit(hold)
                    held.wait()
                    say(runner.submit(id).cancel())
                    free.set()
                case "map":
                    list(runner.map(lambda _, n: n, range(5)))
                case "inside":

                    def run_another(_: object) -> None:
                        with contextlib.suppress(RunnerBroken):
                            runner.run_task(id)

                    runner.queue_task(run_another)
                case _:
                    runner.run_task(id)
        except RunnerBroken:
            assert os.getpid() != parent
        if os.getpid() != parent:
            # On the caller's own thread the child goes on, without a runner.
            os._exit(0)
        runner.stop()
        say(statuses, told_in_children)

    lines = run(program, kind, verb, options=QUIETLY)
    assert lines == (["True"] * 2 if verb == "cancel" else []) + ["[0] []"]


@posix_only
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_hook_may_fork_when_a_runner_that_ends_refuses_what_waits(end: str) -> None:
    def program() -> None:
        import asyncio

        parent = os.getpid()
        statuses: list[int] = []
        free, held = threading.Event(), threading.Event()

        def hook(event: TaskEvent) -> None:
            if os.getpid() != parent:
                say("told in a child")
            if event.kind == "refused":
                statuses.append(ends_in_a_child("return"))
                # In the child the lock of the event may be held by a thread that is not there.
                if os.getpid() == parent:
                    free.set()

        runner = Runner(config(on_event=hook, max_queue_size=1))

        def hold(_: object) -> None:
            held.set()
            free.wait(20)

        runner.submit(hold)
        held.wait()
        runner.submit(id)

        async def main() -> None:
            waiting = [runner.asubmit(id) for _ in range(2)]
            getattr(runner, sys.argv[1])()
            if os.getpid() != parent:
                os._exit(0)
            refusals = await asyncio.gather(*waiting, return_exceptions=True)
            say(*(type(refusal).__name__ for refusal in refusals))

        asyncio.run(main())
        say(statuses)

    lines = run(program, end, options=QUIETLY)
    assert lines == ["RunnerStopped RunnerStopped", "[0, 0]"]


@posix_only
def test_a_child_tells_nothing_of_the_tasks_of_its_parent() -> None:
    def program() -> None:
        parent = os.getpid()

        def hook(_event: TaskEvent) -> None:
            if os.getpid() != parent:
                say("told in a child")

        runner = Runner(config(on_event=hook, thread_bound=False))
        free, held = threading.Event(), threading.Event()

        def hold(_: object) -> None:
            held.set()
            free.wait(20)

        runner.submit(hold)
        held.wait()
        waiting = runner.submit(id)

        def child() -> None:
            waiting.cancel()
            with contextlib.suppress(RunnerBroken):
                runner.submit(id)

        say(forked(child), runner.run_task(lambda _: forked(lambda: None)))
        free.set()
        runner.stop()

    assert run(program, options=QUIETLY) == ["0 0"]
