"""The package dropped from `sys.modules` and imported again, or reloaded: one set of classes."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any

import pytest

from tasker import Priority, QueueFull, Runner, RunningTask, StopTimeout
from tests.lifecycle.child import config, forked, import_again, say
from tests.lifecycle.support import posix_only, run

AGAIN = ["purged", "reloaded", "reloaded whole"]


@pytest.mark.parametrize("how", AGAIN)
def test_runners_of_before_and_after_work_and_their_errors_are_caught(how: str) -> None:
    def program() -> None:
        old = Runner(config(1, max_queue_size=1, when_full="raise"))
        old_package = import_again(sys.argv[1])
        import tasker as new

        again = new.Runner(
            new.Config(on_create=object, worker_count=1, when_full="raise", max_queue_size=1)
        )
        for runner in (old, again):
            gate, entered = threading.Event(), threading.Event()

            def hold(_: object, gate: Any = gate, entered: Any = entered) -> Any:
                entered.set()
                return gate.wait(20)

            running = runner.submit(hold)
            entered.wait()
            queued = runner.submit(lambda _: 1)
            for package in (old_package, new):
                with contextlib.suppress(package.QueueFull):
                    runner.submit(lambda _: 1)
                    say("accepted")
            for package in (old_package, new):
                with contextlib.suppress(package.StopTimeout):
                    runner.stop(0)
                    say("stopped")
                with contextlib.suppress(package.RunnerStopped):
                    runner.submit(id)
                    say("accepted")
                assert isinstance(running, package.Future)
                assert isinstance(runner.stats(), package.Stats)
                assert isinstance(runner.metrics(), package.Metrics)
            with contextlib.suppress(new.StopTimeout):
                try:
                    runner.kill(0)
                except old_package.StopTimeout as late:
                    (task,), (dropped,) = late.running, late.dropped
                    assert isinstance(task, old_package.RunningTask)
                    assert isinstance(task, new.RunningTask)
                    assert isinstance(dropped, old_package.DroppedTask)
                    assert isinstance(dropped, new.DroppedTask)
                    assert isinstance(dropped.priority, new.Priority)
                    raise
            gate.set()
            say(running.result(20), type(queued.exception(20)) is new.TaskCancelled)
            runner.kill()
        for package in (old_package, new):
            with contextlib.suppress(package.ConfigError):
                new.Config(on_create=object, worker_count=0)
                say("taken")

    assert run(program, how) == ["True True", "True True"]


@pytest.mark.parametrize("how", AGAIN)
def test_a_config_of_before_is_one_of_after(how: str) -> None:
    def program() -> None:
        before = config(1)
        import_again(sys.argv[1])
        import tasker as new

        with new.Runner(before) as runner:
            say(runner.queue_task(lambda _: 7))
        with Runner(new.Config(on_create=object, worker_count=1)) as runner:
            say(runner.queue_task(lambda _: 8))

    assert run(program, how) == ["7", "8"]


@pytest.mark.parametrize("how", AGAIN)
def test_what_was_made_before_can_be_pickled_after(how: str) -> None:
    def program() -> None:
        import pickle

        with Runner(config(1)) as runner:
            stats = runner.stats()
        things = [
            stats,
            QueueFull("full"),
            StopTimeout("late", [RunningTask("a", 1.0, "w")]),
            Priority.HIGH,
        ]
        import_again(sys.argv[1])
        for thing in things:
            copy = pickle.loads(pickle.dumps(thing))  # noqa: S301
            assert type(copy) is type(thing), thing
        say("done")

    assert run(program, how) == ["done"]


@pytest.mark.parametrize("how", AGAIN)
def test_coroutines_go_on(how: str) -> None:
    def program() -> None:
        import asyncio

        async def ask(package: Any) -> None:
            async with package.Runner.start(package.Config(on_create=object, worker_count=1)) as r:
                say(await r.asubmit(lambda _: 7), [n async for n in r.amap(lambda _, n: n, [1, 2])])

        import tasker as old

        asyncio.run(ask(old))
        import_again(sys.argv[1])
        import tasker as new

        for package in (old, new):
            asyncio.run(ask(package))

    assert run(program, how) == ["7 [1, 2]"] * 3


@pytest.mark.parametrize("how", AGAIN)
def test_runners_of_before_and_after_are_ended_once_at_exit(how: str) -> None:
    def program() -> None:
        hooks: list[object] = []
        register = threading._register_atexit  # type: ignore[attr-defined]
        threading._register_atexit = hooks.append  # type: ignore[attr-defined]
        old = Runner(config(1, on_destroy=lambda _: say("destroyed")))
        import_again(sys.argv[1])
        import tasker as new

        threading._register_atexit = register  # type: ignore[attr-defined]
        say(hooks)
        again = new.Runner(old.config)
        for runner in (old, again):
            runner.submit(lambda _: say("ran"))

    lines = run(program, how)
    assert lines[0] == "[]"
    assert sorted(lines[1:]) == ["destroyed", "destroyed", "ran", "ran"]


@posix_only
@pytest.mark.parametrize("how", AGAIN)
def test_a_fork_leaves_runners_of_before_and_after_behind(how: str) -> None:
    def program() -> None:
        old = Runner(config(1))
        old_package = import_again(sys.argv[1])
        import tasker as new

        again = new.Runner(old.config)

        def child() -> None:
            for runner in (old, again):
                for package in (old_package, new):
                    with contextlib.suppress(package.RunnerBroken):
                        runner.submit(id)
                        say("accepted")

        say(forked(child))
        say([runner.queue_task(lambda _: 7) for runner in (old, again)])

    assert run(program, how, options=("-W", "ignore::DeprecationWarning")) == ["0", "[7, 7]"]
