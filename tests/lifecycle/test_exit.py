"""The interpreter exits with live runners: in order, and without a word on standard error."""

from __future__ import annotations

import atexit
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from tasker import Config, Future, Runner, RunnerStopped
from tests.lifecycle.child import config, eventually, say
from tests.lifecycle.support import LIMIT, ROOT, run

BUSY_EXITS = str(ROOT / "tests" / "lifecycle" / "busy_exits.py")


def busy_exits() -> list[str]:
    command = [sys.executable, BUSY_EXITS]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize("name", busy_exits())
def test_a_busy_interpreter_exits_in_silence(name: str) -> None:
    command = [sys.executable, BUSY_EXITS, name, "300000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "exiting\n", "")


# ---- a runner that nobody stopped


def test_queued_work_is_finished_and_every_resource_destroyed_on_its_own_thread() -> None:
    def program() -> None:
        def destroy(made_on: int) -> None:
            say("destroyed", made_on == threading.get_ident())

        def task(_: object, number: int) -> None:
            time.sleep(0.001)
            say("task", number)

        runner = Runner(Config(on_create=threading.get_ident, on_destroy=destroy, worker_count=2))
        for number in range(50):
            runner.submit(task, number)
        say("exiting")

    tasks = [f"task {number}" for number in range(50)]
    assert sorted(run(program)) == sorted(["exiting", *tasks, *["destroyed True"] * 2])


def test_a_reserved_resource_is_destroyed_too() -> None:
    def program() -> None:
        runner = Runner(config(on_destroy=lambda _: say("destroyed"), resource_pool_size=2))
        assert runner.run_task(lambda _: 7) == 7

    assert run(program) == ["destroyed"] * 3


def test_threads_that_wait_get_their_results() -> None:
    def program() -> None:
        runner = Runner(config(2))
        submitted, received = threading.Event(), threading.Event()

        def task(_: object) -> str:
            eventually(lambda: runner.state == "stopping")
            return "result"

        def wait() -> None:
            future = runner.submit(task)
            submitted.set()
            say(future.result())
            received.set()

        threading.Thread(target=wait, daemon=True).start()
        submitted.wait()
        # Nobody waits for a daemon thread at exit, but for this task.
        runner.submit(lambda _: received.wait())

    assert run(program) == ["result"]


def test_what_a_map_has_queued_is_finished() -> None:
    def program() -> None:
        def task(_: object, number: int) -> int:
            time.sleep(0.001)
            say("item", number)
            return number

        runner = Runner(config(2))
        results = runner.map(task, range(100), buffersize=20)
        assert next(results) == 0
        say("exiting")

    output = run(program)
    items = sorted(int(line.split()[1]) for line in output if line != "exiting")
    assert len(items) >= 20
    assert items == list(range(len(items)))


def test_a_thread_that_maps_while_the_interpreter_exits_is_told() -> None:
    def program() -> None:
        runner = Runner(config(2))
        begun = threading.Event()

        def read() -> None:
            try:
                for count, _ in enumerate(runner.map(lambda _, n: n, iter(int, 1))):
                    if count == 1000:
                        begun.set()
            except RunnerStopped:
                say("told")

        threading.Thread(target=read).start()
        begun.wait()

    assert run(program) == ["told"]


def test_plain_threads_may_go_on_after_the_main_thread_has_ended() -> None:
    def program() -> None:
        def work() -> None:
            eventually(lambda: not threading.main_thread().is_alive())
            say("main thread ended")
            try:
                Runner(config())
            except RunnerStopped:
                say("no new runner")

        threading.Thread(target=work).start()

    assert run(program) == ["main thread ended", "no new runner"]


def test_tasks_that_wait_for_a_retry_are_retried() -> None:
    def program() -> None:
        attempts: list[int] = []
        runner = Runner(config(check_health=lambda _: False))

        def task(_: object) -> str:
            eventually(lambda: runner.state == "stopping")
            attempts.append(1)
            if len(attempts) < 3:
                raise OSError
            return "served"

        runner.submit(task).add_done_callback(lambda future: say(future.result()))

    assert run(program) == ["served"]


# ---- what comes after the hook


def test_after_the_hook_every_call_is_refused() -> None:
    def program() -> None:
        kept: list[Runner[object]] = []

        def late() -> None:
            calls: dict[str, Callable[[], object]] = {
                "submit": lambda: kept[0].submit(id),
                "queue_task": lambda: kept[0].queue_task(id),
                "run_task": lambda: kept[0].run_task(id),
                "options": lambda: kept[0].options(timeout=1).submit(id),
                "Runner": lambda: Runner(config()),
            }
            for name, call in calls.items():
                try:
                    call()
                except RunnerStopped as error:
                    say(name, str(error).startswith("cannot schedule new futures after shutdown"))
            kept[0].stop()
            kept[0].kill()
            say(kept[0].state, kept[0].stats().active_workers)

        atexit.register(late)
        kept.append(Runner(config()))

    assert run(program) == [
        "submit True",
        "queue_task True",
        "run_task True",
        "options True",
        "Runner True",
        "stopped 0",
    ]


def test_a_destructor_may_end_its_runner_at_the_very_end() -> None:
    def program() -> None:
        class Late:
            def __init__(self) -> None:
                self.runner = Runner(config())
                self.cancelled = Future[None]()
                self.cancelled.cancel()
                self.say = say

            def __del__(self) -> None:
                self.say(self.runner.kill(), self.runner.stop(), self.runner.state)
                self.say(self.runner.stats().active_workers, self.runner.metrics().max_wait_time)
                try:
                    self.cancelled.result()
                except BaseException as error:
                    self.say(type(error).__name__)

        sys.modules["late"] = Late()  # type: ignore[assignment]

    assert run(program) == ["[] None stopped", "0 0.0", "CancelledError"]


@pytest.mark.parametrize("before", ["used", "unused"])
def test_a_destructor_that_submits_at_the_very_end_is_refused(before: str) -> None:
    def program() -> None:
        class Late:
            def __init__(self) -> None:
                self.runner = Runner(config())
                if sys.argv[1] == "used":
                    self.runner.queue_task(id)
                # Everything else is gone when this is.
                self.refused, self.say = RunnerStopped, say
                self.own = self

            def __del__(self) -> None:
                try:
                    self.runner.submit(id)
                except self.refused:
                    self.say("refused")

        sys.modules["late"] = Late()  # type: ignore[assignment]

    assert run(program, before) == ["refused"]


@pytest.mark.parametrize("verb", ["submit", "queue_task", "run_task", "stats", "map"])
def test_daemon_threads_that_go_on_calling_do_no_harm(verb: str) -> None:
    def program() -> None:
        verb = sys.argv[1]
        runner = Runner(config(2, max_queue_size=50))
        calls: dict[str, Callable[[], object]] = {
            "submit": lambda: runner.submit(id),
            "queue_task": lambda: runner.queue_task(id),
            "run_task": lambda: runner.run_task(id),
            "stats": runner.stats,
            "map": lambda: list(runner.map(lambda _, n: n, range(3))),
        }
        begun = threading.Semaphore(0)

        def go_on() -> None:
            begun.release()
            while True:
                with contextlib.suppress(RunnerStopped):
                    calls[verb]()

        for _ in range(3):
            threading.Thread(target=go_on, daemon=True).start()
        for _ in range(3):
            begun.acquire()
        sys.modules["kept"] = [[n] for n in range(300_000)]  # type: ignore[assignment]

    assert run(program, verb) == []
