"""Processes with event loops: Ctrl-C, exit and fork while coroutines wait for tasks."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

from tasker import Runner, RunnerBroken, StopTimeout, current_context
from tests.lifecycle.child import config, forked, say, wait_until_blocked
from tests.lifecycle.support import posix_only, run

pytestmark = posix_only

# From 3.12 on the interpreter warns of every fork with threads.
QUIETLY = ("-W", "ignore::DeprecationWarning")


def test_ctrl_c_tells_a_task_that_a_coroutine_waits_for() -> None:
    def program() -> None:
        import asyncio

        runner = Runner(config())

        def listen(_: object) -> None:
            # A signal that comes just before the loop falls asleep would not wake it.
            wait_until_blocked(threading.main_thread())
            os.kill(os.getpid(), signal.SIGINT)
            say("told", current_context().wait(20))

        async def main() -> None:
            try:
                await runner.asubmit(listen)
            except asyncio.CancelledError:
                say("cancelled")
                raise

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            say("interrupted")
        runner.stop()

    assert sorted(run(program)) == ["cancelled", "interrupted", "told True"]


def test_ctrl_c_in_an_async_with_block_kills_the_runner() -> None:
    def program() -> None:
        import asyncio

        async def main() -> None:
            async with Runner.start(config(on_destroy=lambda _: say("destroyed"))) as runner:
                os.kill(os.getpid(), signal.SIGINT)
                await runner.asubmit(lambda _: current_context().wait(20))

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            say("interrupted")

    assert run(program) == ["destroyed", "interrupted"]


def test_tasks_of_a_loop_that_is_gone_are_finished_at_exit() -> None:
    def program() -> None:
        import asyncio

        runner = Runner(config(2, max_queue_size=3, on_destroy=lambda _: say("destroyed")))

        async def main() -> None:
            for number in range(20):
                runner.asubmit(lambda _, number: say("task", number), number)

        asyncio.run(main())
        # Those that still stand in line when the runner closes are refused.
        while runner.metrics().total_tasks_arrived < 20:
            pass

    tasks = [f"task {number}" for number in range(20)]
    assert sorted(run(program)) == sorted([*tasks, "destroyed", "destroyed"])


def test_an_end_that_nobody_waits_for_any_more_does_not_hold_the_exit_up() -> None:
    def program() -> None:
        import asyncio

        runner = Runner(config())
        entered = threading.Event()

        def hang(_: object) -> None:
            entered.set()
            threading.Event().wait()

        async def main() -> None:
            runner.submit(hang)
            await asyncio.to_thread(entered.wait)
            stopping = asyncio.create_task(runner.astop())
            await asyncio.sleep(0)
            stopping.cancel()
            await asyncio.wait([stopping])
            with contextlib.suppress(StopTimeout):
                await runner.akill(timeout=0)
            say("exiting", stopping.cancelled())

        asyncio.run(main())

    assert run(program) == ["exiting True"]


def test_in_a_forked_child_an_inherited_runner_refuses_coroutines() -> None:
    def program() -> None:
        import asyncio

        runner = Runner(config())
        free, entered = threading.Event(), threading.Event()

        def hold(_: object) -> None:
            entered.set()
            free.wait()

        running = runner.submit(hold)
        entered.wait()

        async def refused() -> None:
            try:
                runner.asubmit(lambda _: 7)
            except RunnerBroken:
                say("refused")
            try:
                await running
            except RunnerBroken:
                say("nobody will settle it")
            async with Runner.start(config()) as other:
                say(await other.asubmit(lambda _: "a new one works"))

        say(forked(lambda: asyncio.run(refused())))
        free.set()
        runner.stop()

    expected = ["refused", "nobody will settle it", "a new one works", "0"]
    assert run(program, options=QUIETLY) == expected
