"""fork: in the child an inherited runner is dead and nothing of it touched; a new one works."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tasker import (
    Context,
    Future,
    QueueFull,
    Runner,
    RunnerBroken,
    ThreadPoolExecutor,
    current_context,
    runners,
)
from tests.lifecycle.child import config, ends_in_a_child, eventually, forked, say
from tests.lifecycle.support import posix_only, run, run_aloud

pytestmark = posix_only

# From 3.12 on the interpreter warns of every fork with threads.
QUIETLY = ("-W", "ignore::DeprecationWarning")


def test_every_call_on_an_inherited_runner_is_refused_at_once() -> None:
    def program() -> None:
        runner = Runner(config(max_queue_size=5))

        def child() -> None:
            view = runner.options(timeout=5)
            calls: dict[str, Callable[[], object]] = {
                "submit": lambda: runner.submit(id),
                "queue_task": lambda: runner.queue_task(id),
                "run_task": lambda: runner.run_task(id),
                "options": lambda: view.submit(id),
                "map": lambda: list(runner.map(lambda _, n: n, range(3))),
                "stop": runner.stop,
                "kill": runner.kill,
                "stats": runner.stats,
                "metrics": runner.metrics,
                "workers": runner.workers,
                "resize": lambda: runner.resize(worker_count=2),
                "renew": runner.renew,
            }
            began = time.monotonic()
            for name, call in calls.items():
                with contextlib.suppress(RunnerBroken):
                    call()
                    say(name, "went through")
            assert time.monotonic() - began < 5
            assert repr(runner)

        say(forked(child))
        say(runner.queue_task(lambda _: "the parent's works"))

    assert run(program, options=QUIETLY) == ["0", "the parent's works"]


def test_an_inherited_renewal_keeps_nobody_waiting() -> None:
    def program() -> None:
        runner = Runner(config())
        entered, gate = threading.Event(), threading.Event()

        def hold(_resource: object) -> None:
            entered.set()
            gate.wait()

        runner.submit(hold)
        entered.wait()
        renewal = runner.renew()

        def child() -> None:
            try:
                renewal.result()
            except RunnerBroken:
                say("broken", runner.worker_count)

        say(forked(child))
        gate.set()
        say(renewal.result())
        runner.stop()

    assert run(program, options=QUIETLY) == ["broken 1", "0", "1"]


@pytest.mark.parametrize("call", ["result", "exception", "result(1)", "cancel", "callback", "repr"])
def test_inherited_futures_keep_nobody_waiting(call: str) -> None:
    def program() -> None:
        free, entered = threading.Event(), threading.Event()
        runner = Runner(config())

        def hold(_: object) -> None:
            entered.set()
            free.wait()

        running = runner.options(timeout=20).submit(hold)
        entered.wait()
        queued = runner.options(timeout=20).submit(id)
        done: list[object] = []

        def child() -> None:
            for future in (running, queued):
                match sys.argv[1]:
                    case "result" | "exception" as name:
                        with contextlib.suppress(RunnerBroken):
                            getattr(future, name)()
                            say("went through")
                    case "result(1)":
                        with contextlib.suppress(RunnerBroken):
                            future.result(timeout=1)
                            say("went through")
                    case "cancel":
                        assert future.cancel() == (future is queued)
                    case "callback":
                        future.add_done_callback(done.append)
                    case _:
                        assert repr(future)

        say(forked(child))
        free.set()
        say(running.result(), queued.cancelled(), done)

    assert run(program, call, options=QUIETLY) == ["0", "None False []"]


def test_a_lent_call_in_a_child_shows_the_number_of_the_childs_thread() -> None:
    def program() -> None:
        def shown(runner: Runner[Any]) -> list[int | None]:
            return runner.run_task(lambda _: [worker.native_id for worker in runner.workers()])

        runner = Runner(config(resource_pool_size=1, thread_bound=False))
        assert threading.get_native_id() in shown(runner)

        def child() -> None:
            with Runner(config(resource_pool_size=1, thread_bound=False)) as own:
                assert threading.get_native_id() in shown(own)

        say(forked(child))

    assert run(program, options=QUIETLY) == ["0"]


def test_an_inherited_map_keeps_nobody_waiting_and_its_items_run_once() -> None:
    def program() -> None:
        runner = Runner(config(2))
        ran: list[int] = []
        statuses: list[int] = []

        def task(_: object, number: int) -> int:
            if number == 5:
                statuses.append(forked(lambda: None))
            ran.append(number)
            return number

        say(list(runner.map(task, range(10))) == list(range(10)), sorted(ran), statuses)
        free = threading.Event()
        results = runner.map(lambda _, __: free.wait(20), range(8))

        def child() -> None:
            with contextlib.suppress(RunnerBroken):
                next(results)
                say("went through")
            results.close()

        say(forked(child))
        free.set()
        say(list(results))
        runner.stop()

    numbers = str(list(range(10)))
    expected = [f"True {numbers} [0]", "0", str([True] * 8)]
    assert run(program, options=QUIETLY) == expected


def test_a_finished_future_keeps_its_result() -> None:
    def program() -> None:
        runner = Runner(config())
        future = runner.submit(lambda _: 7)
        future.result()
        say(forked(lambda: say(future.result())))

    assert run(program, options=QUIETLY) == ["7", "0"]


def test_nothing_of_the_parents_is_touched() -> None:
    def program() -> None:
        parent = os.getpid()

        class Resource:
            def __del__(self) -> None:
                if os.getpid() != parent:
                    say("dropped in the child")

        def destroy(_: Resource) -> None:
            if os.getpid() != parent:
                say("destroyed in the child")

        context = Context()
        runner = Runner(config(2, on_create=Resource, on_destroy=destroy, context=context))
        runner.run_task(id)
        kept = [runner]

        def child() -> None:
            context.cancel()
            kept.clear()
            globals().pop("runner")
            gc.collect()

        say(forked(child))
        say(kept[0].state)

    assert run(program, options=QUIETLY) == ["0", "running"]


@pytest.mark.parametrize("way_out", ["exit", "_exit"])
def test_a_new_runner_works_in_the_child(way_out: str) -> None:
    def program() -> None:
        runner = Runner(config(2))
        runner.queue_task(id)
        pid = os.fork()
        if pid == 0:
            second = Runner(config(2, on_destroy=lambda _: say("destroyed")))
            say(second.queue_task(lambda _: "from the child"))
            say(second.run_task(lambda _: "at once"))
            if sys.argv[1] == "_exit":
                second.stop()
                os._exit(0)
            sys.exit()
        say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    expected = ["from the child", "at once", "destroyed", "destroyed", "destroyed", "0"]
    assert run(program, way_out, options=QUIETLY) == expected


def test_the_child_of_a_with_block_gets_out_of_it() -> None:
    def program() -> None:
        with contextlib.suppress(SystemExit, RunnerBroken), Runner(config()) as runner:
            runner.queue_task(id)
            pid = os.fork()
            if pid == 0:
                sys.exit(3)
            say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            say(runner.queue_task(lambda _: "the parent's works"))
        if pid == 0:
            os._exit(5)

    assert run(program, options=QUIETLY) == ["5", "the parent's works"]


def test_forks_under_load() -> None:
    def program() -> None:
        import logging

        # Each task that outlives its limit is a warning, and here some do on a slow machine.
        logging.getLogger("tasker").setLevel(logging.ERROR)
        context = Context()
        runner = Runner(config(4, max_queue_size=100, resource_pool_size=1, context=context))
        over = threading.Event()

        def feed() -> None:
            while not over.is_set():
                futures: list[Future[object]] = []
                for _ in range(20):
                    with contextlib.suppress(QueueFull):
                        futures.append(brief.submit(lambda _: time.sleep(1e-4)))
                    futures.append(runner.submit(lambda _: runner.stats()))
                futures.pop().cancel()
                futures[0].exception()
                runner.run_task(id)

        brief = runner.options(timeout=0.002)
        feeders = [threading.Thread(target=feed) for _ in range(4)]
        for feeder in feeders:
            feeder.start()

        def child() -> None:
            future = runner_future
            with contextlib.suppress(RunnerBroken):
                runner.submit(id)
                say("accepted")
            with contextlib.suppress(RunnerBroken):
                future.exception()
            future.cancel()
            context.cancel()
            with Runner(config(2)) as second:
                assert second.queue_task(lambda _: 7) == 7

        runner_future: Future[object] = runner.submit(id)
        statuses = set()
        for _ in range(30):
            # Its limit is to pass, in the queue or while it runs; while it waits for room the other
            # producers decide.
            with contextlib.suppress(QueueFull):
                runner_future = runner.options(timeout=0.01).submit(lambda _: time.sleep(0.001))
            statuses.add(forked(child))
        over.set()
        for feeder in feeders:
            feeder.join()
        runner.stop()
        say(statuses, runner.state)

    assert run(program, options=QUIETLY) == ["{0} stopped"]


def test_a_task_that_forks() -> None:
    def program() -> None:
        parent = os.getpid()
        runner = Runner(config(on_destroy=lambda _: say("destroyed", os.getpid() == parent)))

        def task(_: object) -> int:
            def child() -> None:
                assert not current_context().cancelled
                with contextlib.suppress(RunnerBroken):
                    runner.queue_task(id)
                    say("went through")
                with Runner(config()) as second:
                    assert second.queue_task(lambda _: 7) == 7

            return forked(child)

        say(runner.queue_task(task))
        say(runner.queue_task(lambda _: "the parent's works"))

    assert run(program, options=QUIETLY) == ["0", "the parent's works", "destroyed True"]


def test_a_task_that_forks_and_returns_in_the_child_too() -> None:
    def program() -> None:
        parent = os.getpid()

        def destroy(_: object) -> None:
            say("destroyed", os.getpid() == parent)

        runner = Runner(config(on_destroy=destroy))

        def task(_: object) -> int:
            return os.fork()

        pid = runner.queue_task(task)
        say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        say(runner.queue_task(lambda _: "the parent's works"))

    assert run(program, options=QUIETLY) == ["0", "the parent's works", "destroyed True"]


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="3.12 does not fork then")
def test_a_child_forked_while_the_parent_exits_may_make_a_runner() -> None:
    def program() -> None:
        def task(_: object) -> None:
            eventually(lambda: runner.state == "stopping")

            def child() -> None:
                with Runner(config()) as second:
                    assert second.queue_task(lambda _: 7) == 7

            say(forked(child))

        runner = Runner(config())
        runner.submit(task)

    assert run(program, options=QUIETLY) == ["0"]


ENDS = {"return": 0, "raise": 1, "exit": 5}
"""How a function may end in the child that it has forked, and the status that comes of it."""


@pytest.mark.parametrize(("end", "status"), ENDS.items())
@pytest.mark.parametrize("verb", ["submit", "queue_task", "run_task", "map", "pool", "limited"])
def test_a_child_forked_in_a_task_ends_as_the_task_does_there(
    verb: str, end: str, status: int
) -> None:
    def program() -> None:
        parent = os.getpid()

        def task(*_: object) -> int:
            return ends_in_a_child(sys.argv[2])

        def answer(future: Any) -> None:
            say("callback", os.getpid() == parent)

        pool = ThreadPoolExecutor(1)
        runner = Runner(config(on_destroy=lambda _: say("destroyed", os.getpid() == parent)))
        match sys.argv[1]:
            case "submit" | "limited":
                view = runner.options(timeout=20 if sys.argv[1] == "limited" else None)
                future = view.submit(task)
                for _ in range(2):
                    future.add_done_callback(answer)
                result = future.result()
            case "map":
                (result,) = runner.map(task, [1])
            case "pool":
                result = pool.submit(task).result()
            case verb:
                result = getattr(runner, verb)(task)
        say(result)
        say(runner.queue_task(lambda _: "the parent's works"))

    output, errors = run_aloud(program, verb, end, options=QUIETLY)
    callbacks = [line for line in output if line.startswith("callback")]
    assert callbacks in ([], ["callback True"] * 2)
    assert str(status) in output
    assert output.count("the parent's works") == 1
    destroyed = [line for line in output if line.startswith("destroyed")]
    assert set(destroyed) == {"destroyed True"}
    assert ("ZeroDivisionError" in errors) == (end == "raise")


@pytest.mark.parametrize(("end", "status"), ENDS.items())
@pytest.mark.parametrize(
    "hook",
    [
        *("on_create", "on_destroy", "validate", "reset", "is_broken", "on_cancel"),
        *("initializer", "callback", "context callback"),
    ],
)
def test_a_child_forked_in_a_hook_ends_as_the_hook_does_there(
    hook: str, end: str, status: int
) -> None:
    def program() -> None:
        parent = os.getpid()
        name = sys.argv[1]
        statuses: list[int] = []

        def fork(*_: object) -> bool:
            if not statuses:
                statuses.append(ends_in_a_child(sys.argv[2]))
            return name != "is_broken"

        def fail(_: object) -> None:
            raise OSError

        def cancel_and_wait(_: object) -> None:
            current_context().cancel()
            eventually(lambda: statuses)

        fields: dict[str, Any] = {"validate_after_idle": 0.0} if name == "validate" else {}
        if name == "initializer":
            with ThreadPoolExecutor(1, initializer=fork) as pool:
                pool.submit(id, 7).result()
        elif name == "context callback":
            context = Context()
            with context.on_cancel(fork):
                context.cancel()
                eventually(lambda: statuses)
        else:
            if name != "callback":
                fields[name] = fork
            with Runner(config(**fields)) as runner:
                free = threading.Event()
                runner.submit(fail if name == "is_broken" else id).exception()
                if name == "on_cancel":
                    runner.submit(cancel_and_wait).exception()
                future = runner.submit(lambda _: free.wait(20))
                future.add_done_callback(fork if name == "callback" else id)
                future.add_done_callback(lambda _: say("later", os.getpid() == parent))
                free.set()
        say(statuses)

    output, errors = run_aloud(program, hook, end, options=QUIETLY)
    has_task = hook not in ("initializer", "context callback")
    assert output == [*(["later True"] if has_task else []), f"[{status}]"]
    assert ("ZeroDivisionError" in errors) == (end == "raise")


@pytest.mark.parametrize("lent", ["lent", ""])
def test_a_child_forked_in_a_task_inside_another_goes_on_there(lent: str) -> None:
    def program() -> None:
        parent = os.getpid()
        runner = Runner(config())
        other = Runner(config(thread_bound=False))

        def inner(_: object) -> int:
            return os.fork()

        def outer(_: object) -> int:
            pid = other.run_task(inner) if sys.argv[1] else runner.queue_task(inner)
            if os.getpid() != parent:
                sys.exit(9)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        say(runner.queue_task(outer))

    assert run(program, lent, options=QUIETLY) == ["9"]


@pytest.mark.parametrize(("end", "status"), {"return": 3, "raise": 4, "exit": 5}.items())
def test_a_child_forked_in_a_lent_task_goes_on_in_the_caller(end: str, status: int) -> None:
    def program() -> None:
        runner = Runner(config(thread_bound=False))
        pids: list[int] = []

        def task(_: object) -> str:
            pids.append(os.fork())
            if pids[0] == 0 and sys.argv[1] == "raise":
                raise OSError
            if pids[0] == 0 and sys.argv[1] == "exit":
                sys.exit(5)
            return "returned"

        try:
            assert runner.run_task(task) == "returned"
        except OSError:
            os._exit(4)
        if pids[0] == 0:
            os._exit(3)
        say(os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]))
        pids[:] = [1]
        say(runner.run_task(lambda _: "the parent's works"))

    assert run(program, end, options=QUIETLY) == [str(status), "the parent's works"]


def test_a_child_forked_in_a_task_stops_the_runners_that_it_made() -> None:
    def program() -> None:
        runner = Runner(config())
        made = []

        def task(_: object) -> int:
            pid = os.fork()
            if pid == 0:
                made.append(Runner(config(on_destroy=lambda _: say("destroyed"))))
                made[0].submit(lambda _: say("ran"))
                return 0
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        say(runner.queue_task(task))

    assert run(program, options=QUIETLY) == ["ran", "destroyed", "0"]


def test_a_child_forked_in_a_callback_of_the_keeper_ends_there() -> None:
    def program() -> None:
        import logging

        logging.getLogger("tasker").setLevel(logging.ERROR)
        runner = Runner(config())
        free = threading.Event()
        statuses: list[int] = []

        def fork(_: object) -> None:
            statuses.append(ends_in_a_child("exit"))

        late = runner.options(timeout=0.05).submit(lambda _: free.wait(20))
        late.add_done_callback(fork)
        eventually(lambda: statuses)
        free.set()
        say(statuses)

    assert run(program, options=QUIETLY) == ["[5]"]


def test_the_child_lists_its_own_runners_alone() -> None:
    def program() -> None:
        runner = Runner(config())

        def child() -> None:
            assert runners() == ()
            with Runner(config()) as own:
                assert runners() == (own,)
            assert runners() == ()

        say(forked(child))
        assert runners() == (runner,)
        runner.stop()
        say(len(runners()))

    assert run(program, options=QUIETLY) == ["0", "0"]


def test_the_child_has_all_names_to_give() -> None:
    def program() -> None:
        with Runner(config(name="app")) as parent:

            def child() -> None:
                assert runners() == ()
                with Runner(config(name="app")) as runner:
                    say(runner.name)

            assert forked(child) == 0
            say(parent.name)

    assert run(program, options=QUIETLY) == ["app", "app"]
