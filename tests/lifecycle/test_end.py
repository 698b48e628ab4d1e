"""What is left of a runner once it has ended: nothing. And what becomes of one that is dropped."""

from __future__ import annotations

import gc
import os
import sys
import threading
import warnings
from pathlib import Path

import pytest

from tasker import Config, Future, Priority, Runner, StopTimeout
from tests.lifecycle.child import config, eventually, say
from tests.lifecycle.support import linux_only, run


@linux_only
@pytest.mark.parametrize("end", ["stop", "kill", "drop"])
def test_a_hundred_runners_leave_nothing_behind(end: str) -> None:
    def program() -> None:
        warnings.simplefilter("ignore", ResourceWarning)

        def use() -> None:
            runner = Runner(config(3, max_queue_size=50, resource_pool_size=1, task_timeout=60))
            futures = [runner.submit(lambda _, n: [n], n) for n in range(30)]
            futures[0].add_done_callback(lambda future: future.result())
            runner.options(priority=Priority.HIGH, timeout=20).queue_task(id)
            runner.run_task(id)
            assert list(runner.map(lambda _, n: n, range(20))) == list(range(20))
            if sys.argv[1] != "drop":
                getattr(runner, sys.argv[1])()

        def left() -> tuple[int, int, int]:
            eventually(lambda: len(os.listdir("/proc/self/task")) == 1)
            assert threading.active_count() == 1
            files = len(os.listdir("/proc/self/fd"))
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            return files, len(gc.get_objects()), pages

        for _ in range(20):
            use()
        before = left()
        for _ in range(100):
            use()
        after = left()
        more = [now - then for now, then in zip(after, before, strict=True)]
        say(more[0], abs(more[1]) < 50, more[2] < 500)

    assert run(program, end) == ["0 True True"]


@linux_only
def test_threads_have_their_names_in_python_and_in_the_system() -> None:
    def program() -> None:
        def names_in_system() -> set[str]:
            tasks = Path("/proc/self/task").iterdir()
            return {(task / "comm").read_text("utf-8").rstrip("\n") for task in tasks}

        def all_alike() -> bool:
            # There is room for 15 bytes.
            return {
                name.encode()[:15].decode(errors="ignore") for name in names
            } <= names_in_system()

        with Runner(config(2, name="Zürich-mails", resource_pool_size=1)) as runner:
            runner.options(timeout=20).queue_task(id)
            names = {thread.name for thread in threading.enumerate()} - {"MainThread"}
            # A thread takes its name after it has begun.
            eventually(all_alike)
            say(*sorted(names), sep="\n")

    assert run(program) == [
        "Zürich-mails-keeper",
        "Zürich-mails-reserved-3",
        "Zürich-mails-worker-1",
        "Zürich-mails-worker-2",
    ]


def test_a_dropped_runner_warns_and_ends_by_itself() -> None:
    def program() -> None:
        free = threading.Event()
        futures: list[Future[object]] = []

        def drop() -> None:
            runner = Runner(config(2, on_destroy=lambda _: say("destroyed")))
            futures.extend(runner.submit(lambda _: free.wait(20)) for _ in range(5))

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            drop()
        (warning,) = caught
        say(warning.category.__name__, warning.message)
        free.set()
        say({future.result() for future in futures})
        eventually(lambda: threading.active_count() == 1)

    warning, *rest = run(program)
    text = "<Runner 'tasker-1' running, 2 workers> was dropped without stop() or kill()"
    assert warning == f"ResourceWarning {text}"
    assert sorted(rest) == ["destroyed", "destroyed", "{True}"]


def test_a_runner_in_a_cycle_is_dropped_by_the_collector() -> None:
    def program() -> None:
        warnings.simplefilter("ignore", ResourceWarning)

        def drop() -> None:
            # The hooks of its config refer to it, as a method of its owner would.
            owner: dict[str, object] = {}
            owner["runner"] = Runner(
                Config(
                    on_create=lambda: len(owner),
                    on_destroy=lambda _: say("destroyed", len(owner)),
                    worker_count=1,
                )
            )

        drop()
        gc.collect()
        eventually(lambda: threading.active_count() == 1)

    assert run(program) == ["destroyed 1"]


def test_a_task_that_was_left_behind_may_still_end() -> None:
    def program() -> None:
        free, entered = threading.Event(), threading.Event()

        def hold(_: object) -> str:
            entered.set()
            free.wait(20)
            return "late"

        runner = Runner(config(on_destroy=lambda _: say("destroyed")))
        future = runner.submit(hold)
        entered.wait(20)
        try:
            runner.stop(timeout=0.01)
        except StopTimeout as error:
            say(error.running[0].worker, runner.state)
        free.set()
        runner.stop()
        say(future.result(), runner.state)

    assert run(program) == ["tasker-1-worker-1 stopping", "destroyed", "late stopped"]
