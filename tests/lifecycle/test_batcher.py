"""Items of a batcher at the end of the interpreter, and in a child process."""

from __future__ import annotations

import contextlib
import threading
import time

from tasker import Runner, RunnerBroken, StopTimeout
from tests.lifecycle.child import config, forked, say
from tests.lifecycle.support import posix_only, run

# From 3.12 on the interpreter warns of every fork with threads.
QUIETLY = ("-W", "ignore::DeprecationWarning")


def test_the_exit_waits_for_no_full_call_and_runs_what_is_there() -> None:
    def program() -> None:
        def note(_: object, items: list[int]) -> list[int]:
            say("items", items)
            return items

        runner = Runner(config())
        batcher = runner.batcher(note, max_size=9, max_wait=3_600)
        for item in range(3):
            batcher.submit(item)
        say("exiting")

    assert run(program) == ["exiting", "items [0, 1, 2]"]


def test_a_call_that_a_kill_left_behind_does_not_hold_up_the_exit() -> None:
    def program() -> None:
        entered = threading.Event()

        def run_on(_: object, items: list[int]) -> list[int]:
            entered.set()
            while True:
                time.sleep(0.001)

        runner = Runner(config())
        batcher = runner.batcher(run_on, max_size=2, max_wait=3_600)
        futures = [batcher.submit(item) for item in range(2)]
        entered.wait()
        with contextlib.suppress(StopTimeout):
            runner.kill(timeout=0.1)
        say("exiting", [future.running() for future in futures])

    assert run(program) == ["exiting [True, True]"]


@posix_only
def test_a_batcher_is_dead_in_a_child() -> None:
    def program() -> None:
        def give(_: object, items: list[int]) -> list[int]:
            return items

        runner = Runner(config())
        batcher = runner.batcher(give, max_size=2, max_wait=3_600)
        future = batcher.submit(1)

        def child() -> None:
            for call in (batcher.submit, batcher.queue_task, batcher.options(name="x").submit):
                with contextlib.suppress(RunnerBroken):
                    call(1)
                    say("went through")
            future.cancel()
            future.request_cancel()
            with Runner(config()) as own:
                say(own.batcher(give, max_size=2).queue_task(7))

        forked(child)
        say(batcher.submit(2).result(), future.result())
        runner.stop()

    assert run(program, options=QUIETLY) == ["7", "2 1"]
