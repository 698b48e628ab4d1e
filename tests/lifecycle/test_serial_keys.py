"""Tasks that run in order by key, at the end of the interpreter and in a child process."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Any

from tasker import Runner, RunnerBroken
from tests.lifecycle.child import config, forked, say
from tests.lifecycle.support import posix_only, run

# From 3.12 on the interpreter warns of every fork with threads.
QUIETLY = ("-W", "ignore::DeprecationWarning")


def test_the_exit_runs_every_line_to_its_end() -> None:
    def program() -> None:
        runner = Runner(config())
        view = runner.options(key=lambda key, _: key, serial=True)
        entered, go_on = threading.Event(), threading.Event()

        def note(_: object, key: str, number: int) -> None:
            entered.set()
            go_on.wait()
            say(key, number)

        for number in range(3):
            view.submit(note, "acme", number)
        entered.wait()
        say("exiting")
        go_on.set()

    assert run(program) == ["exiting", "acme 0", "acme 1", "acme 2"]


@posix_only
def test_a_view_is_dead_in_a_child_and_what_its_parent_submitted_goes_on() -> None:
    def program() -> None:
        runner = Runner(config())
        view = runner.options(key=lambda: "acme", serial=True)
        entered, go_on = threading.Event(), threading.Event()

        def hold(_: object) -> None:
            entered.set()
            go_on.wait()

        tasks: list[Any] = [view.submit(hold), view.submit(lambda _: "the next one")]
        entered.wait()

        def child() -> None:
            with contextlib.suppress(RunnerBroken):
                view.submit(hold)
                say("went through")
            tasks.clear()

        say(forked(child))
        go_on.set()
        say(tasks[1].result())

    assert run(program, options=QUIETLY) == ["0", "the next one"]


@posix_only
def test_a_task_that_forks_leaves_its_line_in_the_parent_alone() -> None:
    def program() -> None:
        runner = Runner(config())
        view = runner.options(key=lambda: "acme", serial=True)
        forks = view.submit(lambda _: forked(lambda: None))
        after = view.submit(lambda _: "the next one")
        say(forks.result(), after.result())

    assert run(program, options=QUIETLY) == ["0 the next one"]


@posix_only
def test_a_comparison_may_fork() -> None:
    def program() -> None:
        class Key:
            def __hash__(self) -> int:
                return 7

            def __eq__(self, other: object) -> bool:
                processes.append(os.fork())
                return True

        processes: list[int] = []
        runner = Runner(config())
        view = runner.options(key=Key, serial=True)
        entered, go_on = threading.Event(), threading.Event()

        def hold(_: object) -> None:
            entered.set()
            go_on.wait()

        view.submit(hold)
        entered.wait()
        try:
            after = view.submit(lambda _: "the next one")
        except RunnerBroken:
            os._exit(5)
        go_on.set()
        say(os.waitstatus_to_exitcode(os.waitpid(processes[0], 0)[1]), after.result())

    assert run(program, options=QUIETLY) == ["5 the next one"]
