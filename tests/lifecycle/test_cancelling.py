"""Interrupting what runs while the process forks, is signalled or exits: nothing hangs."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from tasker import Context, Runner, StopTimeout, TaskTimeout, current_context
from tests.lifecycle.child import config, eventually, forked, interrupted, say
from tests.lifecycle.support import posix_only, run

QUIETLY = ("-W", "ignore::DeprecationWarning")


@posix_only
def test_a_child_calls_no_callback_of_its_parents_and_new_ones_of_its_own() -> None:
    def program() -> None:
        context = Context()
        handle = context.on_cancel(lambda: say("parent's in", os.getpid() == parent))
        parent = os.getpid()

        def child() -> None:
            own = threading.Event()
            with context.on_cancel(own.set):
                context.cancel()
                assert own.wait(20)
            handle.close()
            say("child's")
            with Runner(config(on_cancel=lambda _: own.clear())) as runner:
                try:
                    view = runner.options(timeout=0.05)
                    view.queue_task(lambda _: eventually(lambda: not own.is_set()))
                except TaskTimeout:
                    say("interrupted")

        say(forked(child))
        context.cancel()
        handle.close()

    lines = run(program, options=QUIETLY)
    assert lines in (
        ["child's", "interrupted", "0", "parent's in True"],
        ["child's", "interrupted", "0"],
    )


@posix_only
def test_a_task_that_forks_ends_in_the_child_with_callbacks_registered() -> None:
    def program() -> None:
        called = threading.Event()

        def task(_: object) -> str:
            context = current_context()
            context.on_cancel(called.set)
            with context.on_cancel(print):
                pid = os.fork()
                if pid == 0:
                    context.cancel()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
            return "parent"

        with Runner(config(on_cancel=lambda _: called.set())) as runner:
            say(runner.queue_task(task), called.is_set())

    assert run(program, options=QUIETLY) == ["parent False"]


def test_a_callback_that_hangs_outside_of_tasks_holds_up_no_exit() -> None:
    def program() -> None:
        called = threading.Event()

        def hang() -> None:
            called.set()
            threading.Event().wait()

        context = Context()
        context.on_cancel(hang)
        context.cancel()
        assert called.wait(20)
        say("out")

    assert run(program) == ["out"]


def test_one_that_hangs_in_a_killed_runner_holds_up_no_exit() -> None:
    def program() -> None:
        called = threading.Event()

        def hang(_: object) -> None:
            called.set()
            threading.Event().wait()

        runner = Runner(config(on_cancel=hang, logger=None))
        runner.submit(lambda _: called.wait(20))
        eventually(lambda: runner.stats().running_tasks)
        try:
            runner.kill(timeout=0.2)
        except StopTimeout:
            say("hangs")

    began = time.monotonic()
    assert run(program) == ["hangs"]
    assert time.monotonic() - began < 20


def test_what_is_registered_at_exit_holds_up_nothing() -> None:
    def program() -> None:
        contexts = [Context().child(timeout=60) for _ in range(3)]
        handles = [context.on_cancel(print) for context in contexts]
        runner = Runner(config(on_cancel=print))
        runner.submit(lambda _: current_context().on_cancel(print))
        say(len(handles))

    assert run(program) == ["3"]


@posix_only
def test_an_interrupt_ends_the_wait_for_a_call_under_way_and_its_worker_waits_on() -> None:
    def program() -> None:
        called, release = threading.Event(), threading.Event()

        def hook(worker: str) -> None:
            called.set()
            assert release.wait(20)
            say("interrupt", worker)

        settings = config(
            on_create=lambda: threading.current_thread().name,
            on_cancel=hook,
            on_destroy=lambda worker: say("destroy", worker),
            thread_bound=False,
            resource_pool_size=1,
            logger=None,
        )
        runner = Runner(settings)
        view = runner.options(timeout=0.05)

        def task(_: object) -> None:
            # Blocks nowhere, so that the interrupt comes into the wait after it.
            while not called.is_set():
                pass

        say(interrupted(lambda: view.run_task(task)))
        release.set()
        runner.stop()

    lines = run(program)
    assert lines[0] == "at once"
    [worker] = [words[1] for line in lines if (words := line.split())[0] == "interrupt"]
    assert lines.index(f"interrupt {worker}") < lines.index(f"destroy {worker}")


@posix_only
def test_an_interrupt_ends_the_close_of_a_handle_which_may_be_closed_again() -> None:
    def program() -> None:
        called, release = threading.Event(), threading.Event()

        def hang() -> None:
            called.set()
            assert release.wait(20)

        context = Context()
        handle = context.on_cancel(hang)
        context.cancel()
        assert called.wait(20)
        say(interrupted(handle.close))
        release.set()
        handle.close()
        say("closed")

    assert run(program) == ["at once", "closed"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_handler_that_cancels_while_a_thread_is_started_does_not_hang() -> None:
    def program() -> None:
        context, called = Context(), threading.Event()
        handle = context.on_cancel(called.set)
        signal.signal(signal.SIGUSR1, lambda *_: context.cancel())
        with getattr(threading, "_active_limbo_lock"):  # noqa: B009 # no public name
            signal.raise_signal(signal.SIGUSR1)
            say(context.cancelled)
        assert called.wait(20)
        handle.close()

    assert run(program) == ["True"]
