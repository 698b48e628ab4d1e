"""`ThreadPoolExecutor` at the exit of the interpreter and in a forked child."""

from __future__ import annotations

import atexit
import contextlib
import threading
import time
from collections.abc import Callable

from tasker import Runner, RunnerBroken, ThreadPoolExecutor
from tests.lifecycle.child import config, forked, interrupted, say
from tests.lifecycle.support import posix_only, run


def test_what_was_submitted_is_finished_before_the_interpreter_exits() -> None:
    def program() -> None:
        def task(number: int) -> None:
            time.sleep(0.001)
            say(number)

        executor = ThreadPoolExecutor(2, finalizer=lambda: say("end"))
        executor.map(task, range(20))
        closed = ThreadPoolExecutor(1)
        closed.map(task, range(20, 40))
        closed.shutdown(wait=False)
        say("exiting")

    output = run(program)
    assert sorted(output) == sorted([*map(str, range(40)), "exiting", "end", "end"])


def test_at_exit_a_pool_refuses_in_the_standards_words() -> None:
    def program() -> None:
        def refused(submit: Callable[[], object]) -> None:
            try:
                submit()
            except RuntimeError as error:
                say(type(error).__name__, error)

        executor = ThreadPoolExecutor(1)
        executor.submit(int).result()
        # Both run after the hook that ends all pools.
        atexit.register(lambda: refused(lambda: executor.submit(int)))
        atexit.register(lambda: refused(lambda: ThreadPoolExecutor(1).submit(int)))

    text = "RuntimeError cannot schedule new futures after interpreter shutdown"
    assert run(program) == [text, text]


def test_a_task_that_submits_while_the_interpreter_exits_is_refused() -> None:
    def program() -> None:
        def task() -> None:
            with contextlib.suppress(RuntimeError):
                while True:
                    executor.submit(int)
                    time.sleep(0.001)
            say("refused")

        executor = ThreadPoolExecutor(1)
        executor.submit(task)

    assert run(program) == ["refused"]


@posix_only
def test_in_a_child_an_inherited_pool_is_broken_and_a_new_one_works() -> None:
    def program() -> None:
        from concurrent.futures.thread import BrokenThreadPool

        def child() -> None:
            began = time.monotonic()
            try:
                executor.submit(int)
            except BrokenThreadPool as error:
                say(error)
            executor.shutdown()
            executor.shutdown(cancel_futures=True)
            assert executor._work_queue.qsize() == 0
            with ThreadPoolExecutor(2) as new:
                say(new.submit(pow, 2, 3).result())
            assert time.monotonic() - began < 5

        with ThreadPoolExecutor(2) as executor:
            running = threading.Event()
            executor.submit(running.wait)
            executor.submit(int).result()
            say(forked(child))
            running.set()
            say(executor.submit(pow, 3, 2).result())

    output = run(program, options=("-W", "ignore::DeprecationWarning"))
    text = "this executor belongs to the process that was forked; make a new one in the child"
    assert output == [text, "8", "0", "9"]


@posix_only
def test_in_a_child_the_executor_of_an_inherited_runner_is_dead_and_holds_nobody_up() -> None:
    def program() -> None:
        def child() -> None:
            try:
                executor.submit(int)
            except RunnerBroken:
                say("refused")
            executor.shutdown()

        with Runner(config()) as runner:
            executor, release = runner.executor(), threading.Event()
            executor.submit(release.wait)
            say(forked(child))
            release.set()
            executor.shutdown()

    output = run(program, options=("-W", "ignore::DeprecationWarning"))
    assert output == ["refused", "0"]


@posix_only
def test_a_fork_while_calls_are_made_and_waited_for_holds_up_nobody_in_the_child() -> None:
    def program() -> None:
        def child() -> None:
            try:
                executor.submit(int)
            except RunnerBroken:
                say("refused")
            executor.shutdown()

        with Runner(config(2, max_queue_size=100)) as runner:
            executor, closed, release = runner.executor(), runner.executor(), threading.Event()
            closed.submit(release.wait)
            waiter = threading.Thread(target=closed.shutdown)
            waiter.start()
            over = threading.Event()

            def call() -> None:
                while not over.is_set():
                    executor.submit(int)

            caller = threading.Thread(target=call)
            caller.start()
            for _ in range(20):
                say(forked(child))
            over.set()
            release.set()
            caller.join()
            waiter.join()

    output = run(program, options=("-W", "ignore::DeprecationWarning"))
    assert output == ["refused", "0"] * 20


@posix_only
def test_a_task_that_forks_inside_a_pool_returns_in_the_parent_alone() -> None:
    def program() -> None:
        def fork() -> str:
            return str(forked(lambda: say("child")))

        with ThreadPoolExecutor(1) as executor:
            say(executor.submit(fork).result())
            say(executor.submit(pow, 3, 2).result())

    output = run(program, options=("-W", "ignore::DeprecationWarning"))
    assert output == ["child", "0", "9"]


@posix_only
def test_ctrl_c_ends_the_wait_of_a_shutdown() -> None:
    def program() -> None:
        executor = ThreadPoolExecutor(1)
        release = threading.Event()
        executor.submit(release.wait)
        say(interrupted(executor.shutdown))
        release.set()
        executor.shutdown()

    assert run(program) == ["at once"]
