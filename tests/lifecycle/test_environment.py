"""Where the process is not the usual one: few threads, sub-interpreters, gevent."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tasker import ResourceCreationError, Runner, current_context
from tests.lifecycle.child import address_space, config, eventually, say
from tests.lifecycle.support import linux_only, run


@linux_only
def test_a_constructor_that_gets_too_few_threads_leaves_none_behind() -> None:
    def program() -> None:
        made: list[object] = []

        def create() -> object:
            made.append(object())
            return made[-1]

        with address_space(200 * 2**20):
            try:
                Runner(config(2000, on_create=create, on_destroy=made.remove))
            except ResourceCreationError as error:
                say(type(error.__cause__).__name__, error)
            eventually(lambda: threading.active_count() == 1)
            say(len(made))
        with Runner(config(2)) as runner:
            say(runner.queue_task(lambda _: "works"))

    expected = ["RuntimeError a worker's thread could not be started", "0", "works"]
    assert run(program) == expected


@linux_only
def test_a_runner_lives_on_when_a_thread_is_refused_later() -> None:
    def program() -> None:
        runner = Runner(config(2, logger=None))
        with address_space(0):
            say(runner.run_task(lambda _: "on a base worker"))
            say(runner.queue_task(lambda _: "queued"))
            try:
                runner.options(timeout=5).queue_task(id)
            except RuntimeError as error:
                say(error)
        say(runner.run_task(lambda _: "on a worker of its own"))
        say(runner.options(timeout=5).queue_task(lambda _: "with a time limit"))
        runner.stop()
        say(runner.stats().queued_tasks, runner.metrics().total_tasks_arrived)

    assert run(program) == [
        "on a base worker",
        "queued",
        "can't start new thread",
        "on a worker of its own",
        "with a time limit",
        "0 4",
    ]


def test_a_sub_interpreter_cannot_import_the_package() -> None:
    def program() -> None:
        attempt = (
            "try:\n"
            "    import tasker\n"
            "except ImportError as error:\n"
            "    print('ImportError', 'interpreter' in str(error), flush=True)\n"
        )
        # Under a different name, and with a different interface, in each version.
        names = ["_interpreters", "_xxsubinterpreters"]
        module: Any = importlib.import_module(next(filter(importlib.util.find_spec, names)))
        interpreter = module.create()
        getattr(module, "exec", module.run_string)(interpreter, attempt)
        module.destroy(interpreter)
        with Runner(config()) as runner:
            say(runner.queue_task(lambda _: "the main interpreter's works"))

    assert run(program) == ["ImportError True", "the main interpreter's works"]


@pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed")
def test_workers_are_real_threads_under_gevent() -> None:
    def program() -> None:
        monkey: Any = importlib.import_module("gevent.monkey")
        monkey.patch_all()
        gevent: Any = importlib.import_module("gevent")
        thread_id: Callable[[], int] = monkey.get_original("threading", "get_ident")

        def is_own_thread(made_on: int) -> bool:
            return made_on == thread_id() != main

        main = thread_id()
        ticks: list[None] = []
        green = gevent.spawn(lambda: [ticks.append(gevent.sleep(0.001)) for _ in range(20)])
        runner = Runner(config(2, resource_pool_size=1, on_create=thread_id))
        say(runner.queue_task(is_own_thread))
        say(runner.run_task(is_own_thread))
        say(runner.options(timeout=5).queue_task(is_own_thread))
        green.join()
        say(len(ticks))
        runner.stop()
        say(runner.state)

    assert run(program) == ["True", "True", "True", "20", "stopped"]


@pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed")
def test_callbacks_run_on_real_threads_under_gevent() -> None:
    def program() -> None:
        monkey: Any = importlib.import_module("gevent.monkey")
        monkey.patch_all()
        thread_id: Callable[[], int] = monkey.get_original("threading", "get_ident")
        made_on: list[int] = []

        def task(_: object) -> bool:
            context = current_context()
            with context.on_cancel(lambda: made_on.append(thread_id())):
                context.cancel()
                eventually(lambda: made_on)
            return made_on[0] not in {thread_id(), main}

        main = thread_id()
        with Runner(config(on_cancel=print, logger=None)) as runner:
            say(runner.queue_task(task))

    assert run(program)[-1] == "True"
