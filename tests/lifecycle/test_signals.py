"""Signals: stopping from a handler, and contexts that a signal cancels."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time

import pytest

from tasker import Context, Runner, RunnerStopped, current_context
from tests.lifecycle.child import config, eventually, say, signalled
from tests.lifecycle.support import posix_only, run

pytestmark = posix_only


@pytest.mark.parametrize("where", ["idle", "result", "submit", "stop"])
def test_a_handler_may_stop_the_runner_that_the_main_thread_waits_for(where: str) -> None:
    def program() -> None:
        free, entered = threading.Event(), threading.Event()
        runner = Runner(config(max_queue_size=1, on_destroy=lambda _: say("destroyed")))

        def hold(_: object) -> None:
            entered.set()
            assert free.wait(20)

        def handle(_number: int, _frame: object) -> None:
            free.set()
            runner.stop()
            say("stopped")

        signal.signal(signal.SIGTERM, handle)
        running = runner.submit(hold)
        assert entered.wait(20)
        queued = runner.submit(lambda _: say("queued"))
        with contextlib.suppress(RunnerStopped), signalled(signal.SIGTERM):
            match sys.argv[1]:
                case "idle":
                    eventually(lambda: runner.state == "stopped")
                case "result":
                    running.result()
                case "submit":
                    runner.submit(id)
                case "stop":
                    runner.stop()
        assert running.done()
        assert queued.done()
        say(runner.state)

    assert run(program, where) == ["queued", "destroyed", "stopped", "stopped"]


def test_a_handler_may_kill_the_runner_that_it_stops() -> None:
    def program() -> None:
        entered = threading.Event()
        runner = Runner(config())

        def patient(_: object) -> None:
            context = current_context()
            entered.set()
            say(context.wait(20), context.reason)

        signal.signal(signal.SIGTERM, lambda *_: say(len(runner.kill())))
        runner.submit(patient)
        runner.submit(id)
        assert entered.wait(20)
        with signalled(signal.SIGTERM):
            runner.stop()
        say(runner.state)

    assert run(program) == ["True the runner was killed", "1", "stopped"]


def test_a_signal_cancels_a_context_and_so_stops_a_runner_gracefully() -> None:
    def program() -> None:
        with Context.on_signals(signal.SIGTERM, signal.SIGINT) as context:
            runner = Runner(config(context=context))
            futures = [runner.submit(lambda _: time.sleep(0.005)) for _ in range(20)]
            with signalled(signal.SIGTERM):
                say(context.wait(20), context.reason)
            runner.stop()
            say({future.exception() for future in futures}, runner.state)
        say(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)

    assert run(program) == ["True signal 15 (Terminated)", "{None} stopped", "True"]


def test_a_signal_ends_a_wait_for_results_by_its_context_alone() -> None:
    def program() -> None:
        with Context.on_signals(signal.SIGINT) as context, Runner(config()) as runner:

            def serve(_: object) -> str:
                return f"served until {context.wait(20)}"

            future = runner.submit(serve)
            with signalled(signal.SIGINT):
                say(future.result())

    assert run(program) == ["served until True"]


def test_a_second_signal_goes_to_the_former_handler() -> None:
    def program() -> None:
        signal.signal(signal.SIGTERM, lambda *_: say("former handler"))
        with Context.on_signals(signal.SIGTERM) as context:
            os.kill(os.getpid(), signal.SIGTERM)
            say(context.cancelled)
            os.kill(os.getpid(), signal.SIGTERM)

    assert run(program) == ["True", "former handler"]


def test_a_handler_that_exits_again_turns_the_exit_into_a_kill() -> None:
    def program() -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        runner = Runner(config())

        def serve(_: object) -> None:
            eventually(lambda: runner.state == "stopping")
            os.kill(os.getpid(), signal.SIGTERM)
            say(current_context().wait(20))

        runner.submit(serve)
        os.kill(os.getpid(), signal.SIGTERM)

    assert run(program) == ["True"]


def test_a_signal_reaches_a_context_while_the_interpreter_exits() -> None:
    def program() -> None:
        context = Context.on_signals(signal.SIGTERM)
        stopping = context.__enter__()
        runner = Runner(config())

        def serve(_: object) -> None:
            eventually(lambda: runner.state == "stopping")
            os.kill(os.getpid(), signal.SIGTERM)
            say(stopping.wait(20))

        runner.submit(serve)

    assert run(program) == ["True"]
