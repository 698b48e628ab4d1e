"""Errors that nobody collected, where a process ends or forks: one record, and no noise."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
from typing import Any

import pytest

from tasker import Config, Future, Runner
from tests.lifecycle.child import say
from tests.lifecycle.support import posix_only, run_aloud

LOST = "task 'boom' of 'tasker-1' failed and nobody looked"


@pytest.mark.parametrize("way", ["global", "cycle", "with", "drop", "running", "builtin"])
def test_an_error_that_is_left_at_exit_is_logged_once(way: str) -> None:
    def program() -> None:
        logging.basicConfig(format="%(message)s")
        gate = threading.Event()

        def boom(_: object) -> None:
            gate.wait()
            raise ValueError("left")

        runner = Runner(Config(on_create=object, worker_count=1))
        way = sys.argv[1]
        # A function without a frame leaves no traceback, which would lead to all global names.
        future = runner.submit(len if way == "builtin" else boom)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        if way != "running":
            gate.set()
            runner.stop()
        if way == "cycle":
            knot: list[object] = [future]
            knot.append(knot)
            del knot, future
        elif way == "with":
            with Runner(Config(on_create=object, worker_count=1)) as other:
                other.submit(lambda _: None)
        elif way == "drop":
            del future
        elif way == "running":
            threading.Timer(0.05, gate.set).start()
        say("exiting")

    output, errors = run_aloud(program, way)
    assert output == ["exiting"]
    assert errors.count("failed and nobody looked") == 1
    assert errors.count("TypeError: object" if way == "builtin" else "ValueError: left") == 1
    assert "Logging error" not in errors
    assert "Exception ignored" not in errors


@posix_only
@pytest.mark.parametrize("stopped", ["stopped", "running"])
def test_a_child_leaves_the_record_to_its_parent(stopped: str) -> None:
    def program() -> None:
        logging.basicConfig(format="%(message)s")

        def boom(_: object) -> None:
            raise ValueError("left")

        runner = Runner(Config(on_create=object, worker_count=1))
        futures: list[Future[Any]] = [runner.submit(boom), runner.submit(boom)]
        while not futures[1].done():
            time.sleep(0.001)
        if sys.argv[1] == "stopped":
            runner.stop()
        child = os.fork()
        if not child:
            # The second is asked for, the first is let go of.
            assert isinstance(futures[1].exception(), ValueError)
            futures.clear()
            gc.collect()
            say("child")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        sys.stderr.write("now the parent\n")
        futures.pop().exception()
        futures.clear()
        gc.collect()
        runner.stop()

    # The interpreter warns of a fork beside threads.
    output, errors = run_aloud(program, stopped, options=("-W", "ignore::DeprecationWarning"))
    assert output == ["child"]
    before, after = errors.split("now the parent\n")
    assert before == ""
    assert after.count("failed and nobody looked") == 1


@posix_only
def test_a_runner_of_the_child_logs_its_own() -> None:
    def program() -> None:
        logging.basicConfig(format="%(message)s")

        def boom(_: object) -> None:
            raise ValueError("left")

        child = os.fork()
        if not child:
            with Runner(Config(on_create=object, worker_count=1)) as runner:
                runner.submit(boom)
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0

    _, errors = run_aloud(program)
    assert errors.count("failed and nobody looked") == 1


def test_destructors_at_the_very_end_may_let_go_of_failed_tasks() -> None:
    def program() -> None:
        logging.basicConfig(format="%(message)s")

        def boom(_: object) -> None:
            raise ValueError("left")

        class Holder:
            def __init__(self, future: Future[Any]) -> None:
                self.future: Future[Any] | None = future

            def __del__(self) -> None:
                self.future = None

        with Runner(Config(on_create=object, worker_count=1)) as runner:
            sys.holder = Holder(runner.submit(boom))  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]

    _, errors = run_aloud(program)
    assert errors.count("failed and nobody looked") <= 1
    assert "Logging error" not in errors
    assert "Exception ignored" not in errors
