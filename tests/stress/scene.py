"""Plays a plan on a runner, and writes its history."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import itertools
import random
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from tasker import (
    Config,
    Context,
    QueueFull,
    ResourceCreationError,
    Retry,
    Runner,
    RunnerStopped,
    StopTimeout,
    TaskCancelled,
    TaskTimeout,
    current_context,
)
from tests.native.support import eventually, runner_threads
from tests.stress.history import Asked, Entry, History
from tests.stress.hostile import (
    Again,
    Broken,
    HostileError,
    Junk,
    Quit,
    TaskError,
    Value,
    hostile_logger,
)
from tests.stress.plan import Plan

PATIENCE = 60.0
"""Seconds after which a call that has to return is taken for one that never will."""


Producer = Callable[["Scene", int], None]
"""Hands tasks in, on a thread of its own, which has a number."""


class Resource:
    """What a worker owns."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class Task:
    """A task: the argument of its function, and what its attempts do."""

    __slots__ = ("junk", "moods", "number")

    def __init__(self, number: int, moods: random.Random, junk: Junk | None) -> None:
        self.number = number
        self.moods = moods
        self.junk = junk


def outcome(error: BaseException | None, number: int) -> str:
    """How a task ended, by what its caller got instead of a value."""
    own = getattr(error, "number", None)
    if own is None and isinstance(error, RuntimeError):
        own = getattr(error.__cause__, "number", None)
    if own is not None:
        # In this order: the error of a whole call equals everything.
        return "own" if own == number else f"the error of task {own}" if own else "a hook's"
    # In this order: some are subclasses of others.
    for kind, how in (
        (TaskTimeout, "timed out"),
        (TaskCancelled, "dropped"),
        (concurrent.futures.CancelledError, "cancelled"),
        (ResourceCreationError, "no resource"),
        (RunnerStopped, "refused"),
        (QueueFull, "refused"),
    ):
        if isinstance(error, kind):
            return how
    return type(error).__name__


class Scene:
    """One round: a runner with its hooks, and everything that is done to it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.log: list[Entry] = []
        self.note = self.log.append
        self.numbers = itertools.count(1)
        self.resources = itertools.count(1)
        self.context = Context()
        self.ending = threading.Lock()
        """Held by whoever ends the runner, and never given back."""
        self.helpers: list[threading.Thread] = []
        self.creations_to_fail = 0
        self.latest = 0
        """The number of a task that was asked for just now."""
        self.was_killed = False
        self.name = f"stress-{plan.seed}"
        self.runner: Runner[Resource]
        self.unfinished: list[str] = []

    # ---- the hooks

    def config(self) -> Config[Resource]:
        plan = self.plan
        hooks: dict[str, Any] = {
            "on_create": self.create,
            "on_destroy": self.destroy,
            "on_cancel": self.interrupt,
            "reset": self.reset,
            "validate": self.validate,
            "logger": hostile_logger(self.look),
            "context": self.context,
            "name": self.name,
        }
        if plan.has_is_broken:
            hooks["is_broken"] = self.is_broken
        else:
            hooks["check_health"] = self.check_health
        if plan.has_events:
            hooks["on_event"] = self.on_event
        if plan.own_attempts > 1:
            hooks["retry"] = Retry(on=Again, attempts=plan.own_attempts, wait=0.001)
        self.hook_dice = random.Random(~plan.seed)
        return Config(**hooks, **plan.settings)

    def misbehave(self) -> None:
        """Raises, now and then, what a hook must not raise."""
        if self.hook_dice.random() < self.plan.hostile_hooks:
            raise self.hook_dice.choice((HostileError, Quit))(0)

    def create(self) -> Resource:
        if self.creations_to_fail > 0:
            self.creations_to_fail -= 1
            self.note(("creation failed",))
            raise HostileError
        resource = Resource(next(self.resources))
        self.note(("made", resource.number, threading.get_ident()))
        return resource

    def destroy(self, resource: Resource) -> None:
        self.note(("destroyed", resource.number, threading.get_ident()))
        self.misbehave()

    def interrupt(self, resource: Resource) -> None:
        self.note(("interrupting", resource.number))
        try:
            self.misbehave()
        finally:
            self.note(("interrupted", resource.number))

    def reset(self, _resource: Resource) -> None:
        if self.hook_dice.random() < 0.01:
            self.misbehave()

    def validate(self, _resource: Resource) -> bool:
        if self.hook_dice.random() < 0.02:
            self.misbehave()
            return False
        return True

    def is_broken(self, resource: Resource, error: BaseException) -> bool:
        if isinstance(error, Broken):
            self.note(("judged", resource.number))
            self.misbehave()
            return True
        return False

    def check_health(self, error: BaseException) -> bool:
        return not isinstance(error, Broken)

    def on_event(self, event: Any) -> None:
        self.note(("event", event.task_id, event.kind))
        if self.hook_dice.random() < self.plan.hostile_events:
            if self.plan.events_submit and self.plan.may_submit_anywhere and event.task_id % 7 == 0:
                self.submit(self.runner, "in on_event", again=False)
            raise HostileError

    def look(self) -> None:
        """Asks a runner for all that it tells, from wherever it is called."""
        if runner := getattr(self, "runner", None):
            runner.stats()
            runner.workers()

    # ---- the tasks

    def task(self, verb: str, dice: random.Random, **asked: Any) -> Task:
        """A task that is about to be handed in."""
        junk = None
        if dice.random() < self.plan.junk:
            junk = Junk(self.farewell)
        number = next(self.numbers)
        # Its own dice: which attempt gets which number must not depend on other tasks.
        self.note(("asked", number, Asked(verb, **asked)))
        self.latest = number
        return Task(number, random.Random(number ^ self.plan.seed), junk)

    def farewell(self) -> None:
        """What a finalizer does, on whatever thread."""
        if self.plan.may_submit_anywhere:
            self.submit(self.runner, "in __del__", again=False)
        self.look()
        raise HostileError

    def work(self, resource: Resource | None, task: Task) -> Value | int:
        """The function of all tasks: enters the history, does what the dice say, and leaves it."""
        number, used = task.number, resource and resource.number
        attempt = current_context().attempt
        self.note(("entered", number, attempt, used, threading.get_ident()))
        plan, dice = self.plan, task.moods
        chance = dice.random()
        if chance < plan.nested:
            self.inside(dice)
        elif chance > 1 - plan.naps:
            current_context().wait(dice.random() * 0.002)
        how, error = self.mood(number, dice, resource is not None)
        self.note(("left", number, how, used))
        if error is not None:
            raise error
        return Value(number) if dice.random() < plan.hostile_values else number

    def mood(
        self, number: int, dice: random.Random, owns: bool
    ) -> tuple[str, BaseException | None]:
        """How an attempt ends."""
        plan, chance = self.plan, dice.random()
        if chance < plan.errors:
            return "own", Again(number) if dice.random() < 0.5 else TaskError(number)
        if owns and chance > 1 - plan.broken:
            return "broken", Broken(number)
        if 0.5 < chance < 0.5 + plan.quits:
            if dice.random() < 0.5:
                return "own", Quit(number)
            halt: Any = StopIteration()
            halt.number = number
            return "own", halt
        return "value", None

    def batch(self, resource: Resource, tasks: list[Task]) -> Iterator[Any]:
        """The function of the batcher: all enter, and each leaves with its own result."""
        attempt, thread = current_context().attempt, threading.get_ident()
        for task in tasks:
            self.note(("entered", task.number, attempt, resource.number, thread))
        dice = tasks[0].moods
        if dice.random() < self.plan.naps:
            current_context().wait(dice.random() * 0.002)
        how, error = self.mood(tasks[0].number, dice, owns=True)
        if error is not None and isinstance(error, Exception):
            # The error of the call is the error of each.
            shared: Any = Broken(0) if how == "broken" else TaskError(0)
            shared.number = _Any()
            for task in tasks:
                self.note(("left", task.number, how, resource.number))
            raise shared
        results: list[Any] = []
        for task in tasks:
            fails = task.moods.random() < self.plan.errors
            self.note(("left", task.number, "own" if fails else "value", resource.number))
            results.append(TaskError(task.number) if fails else task.number)
        yield from results

    def inside(self, dice: random.Random) -> None:
        """What a task does with its own runner."""
        if dice.random() < 0.5:
            self.block(self.runner.queue_task, "queue_task in a task", dice)
        else:
            handed_in = self.submit(self.runner, "submit in a task", dice, again=False)
            if handed_in is not None:
                with suppress(BaseException):
                    handed_in[0].result()

    # ---- how tasks are handed in

    def submit(
        self,
        view: Any,
        verb: str,
        dice: random.Random | None = None,
        again: bool = True,
        **asked: Any,
    ) -> tuple[Any, int] | None:
        """Submits a task; its outcome is noted by a callback."""
        dice = dice or random.Random(len(self.log))
        task = self.task(verb, dice, **asked)
        number = task.number
        try:
            if asked.get("batched"):
                future = view.submit(task)
            elif verb == "executor.submit":
                future = view.submit(self.work, None, task)
            else:
                future = view.submit(self.work, task)
        except (RunnerStopped, QueueFull) as error:
            self.note(("refused", number, type(error).__name__))
            return None
        self.follow(future, number, hostile=again and dice.random() < self.plan.hostile_callbacks)
        return future, number

    def follow(self, future: Any, number: int, hostile: bool = False) -> None:
        """Notes the outcome of a future when it comes."""

        def settled(future: Any) -> None:
            self.settle(number, future)
            if hostile:
                if self.plan.may_submit_anywhere:
                    self.submit(self.runner, "in a callback", again=False)
                raise HostileError

        future.add_done_callback(settled)

    def settle(self, number: int, future: Any) -> None:
        if future.cancelled():
            # An asyncio future says so as soon as it is asked to.
            is_ours = isinstance(future, asyncio.Future)
            self.note(("ended", number, "given up" if is_ours else "cancelled"))
            return
        error = future.exception()
        if error is None:
            self.end(number, future.result())
        else:
            self.fail(number, error)

    def end(self, number: int, value: Any) -> None:
        found = getattr(value, "number", value)
        how = "value" if found == number else f"the value of task {found}"
        self.note(("ended", number, how))

    def fail(self, number: int, error: BaseException) -> None:
        how = outcome(error, number)
        kind = "refused" if how == "refused" else "ended"
        self.note((kind, number, how))

    def block(
        self,
        call: Callable[..., Any],
        verb: str,
        dice: random.Random,
        **asked: Any,
    ) -> None:
        """Has a call wait for a task's outcome."""
        task = self.task(verb, dice, **asked)
        number = task.number
        try:
            value = call(task) if asked.get("batched") else call(self.work, task)
        except BaseException as error:
            self.fail(number, error)
        else:
            self.end(number, value)

    def hand_back(self, dropped: Any) -> None:
        for each in dropped:
            for task in (*each.args, *each.kwargs.values()):
                if isinstance(task, Task):
                    self.note(("handed back", task.number))

    # ---- the end

    def notice_a_kill(self) -> None:
        if not self.was_killed and self.runner.state == "killed":
            self.was_killed = True
            self.note(("killed",))

    def helper(self, call: Callable[[], object], name: str) -> threading.Thread:
        """Makes a call on a thread of its own, for which the round waits."""

        def run() -> None:
            try:
                call()
            except BaseException as error:
                self.unfinished.append(f"{name} ended with {type(error).__name__}, so that it")
                traceback.print_exc()

        thread = threading.Thread(target=run, name=f"stress: {name}", daemon=True)
        self.helpers.append(thread)
        thread.start()
        return thread

    def stop(self, timeout: float | None = None) -> None:
        with suppress(StopTimeout):
            self.runner.stop(timeout)
            if timeout is None:
                self.note(("over",))

    def kill(self, timeout: float | None = None) -> None:
        try:
            self.hand_back(self.runner.kill(timeout))
        except StopTimeout as error:
            self.hand_back(error.dropped)
        else:
            if timeout is None:
                self.note(("over",))

    def end_it(self) -> None:
        """Ends the runner once, in the way that the plan says."""
        if not self.ending.acquire(blocking=False):
            return
        runner, ending = self.runner, self.plan.ending
        if ending in ("stop", "kill"):
            self.helper(getattr(self, ending), ending)
        elif ending == "stop and kill":
            self.helper(self.stop, "stop")
            self.helper(self.kill, "kill")
        elif ending == "two kills":
            self.helper(self.kill, "kill")
            self.helper(lambda: self.kill(0.0), "kill without patience")
        elif ending == "stop without patience":
            self.helper(lambda: self.stop(0.0), "stop without patience")
            self.helper(self.kill, "kill")
        elif ending == "context":
            self.context.cancel("enough")
        elif ending == "block":
            self.helper(lambda: self.leave_the_block(runner), "block")
        elif ending.startswith(("task", "callback")):
            self.end_from_inside(ending)
        else:
            self.helper(lambda: asyncio.run(self.end_in_a_loop(ending)), ending)

    def leave_the_block(self, runner: Runner[Resource]) -> None:
        with runner:
            pass
        self.note(("over",))

    async def end_in_a_loop(self, ending: str) -> None:
        if ending == "astop":
            await self.runner.astop()
        else:
            self.hand_back(await self.runner.akill())
        self.note(("over",))

    def end_from_inside(self, ending: str) -> None:
        """Has a task, or a callback of one, end the runner that it is on."""
        dice = random.Random(self.plan.seed)

        def end(*_anything: object) -> None:
            if ending.endswith("kills"):
                self.hand_back(self.runner.kill())
            else:
                self.runner.stop()

        def function(resource: Resource, task: Task) -> int:
            attempt = current_context().attempt
            self.note(("entered", task.number, attempt, resource.number, threading.get_ident()))
            if ending.startswith("task"):
                end()
            self.note(("left", task.number, "value", resource.number))
            return task.number

        task = self.task("submit", dice)
        try:
            future = self.runner.submit(function, task)
        except (QueueFull, RunnerStopped) as error:
            self.note(("refused", task.number, type(error).__name__))
        else:
            self.follow(future, task.number)
            if ending.startswith("callback"):
                future.add_done_callback(end)

    # ---- a round

    def play(self, produce: Producer, loop: Producer) -> History:
        """Plays the round, with *produce* on some threads and *loop* on one more."""
        interval, hook = sys.getswitchinterval(), sys.unraisablehook
        sys.setswitchinterval(self.plan.switch_interval)
        # Finalizers are meant to raise here.
        sys.unraisablehook = lambda _unraisable: None
        try:
            if self.plan.start_fails:
                return self.fail_to_start()
            return self.play_it(produce, loop)
        finally:
            sys.setswitchinterval(interval)
            sys.unraisablehook = hook

    def fail_to_start(self) -> History:
        self.creations_to_fail = 1
        with suppress(ResourceCreationError):
            Runner(self.config())
            self.unfinished.append("a start without a resource")
        eventually(lambda: not runner_threads(self.name))
        return History(log=self.log)

    def play_it(self, produce: Producer, loop: Producer) -> History:
        plan = self.plan
        self.runner = Runner(self.config())
        self.creations_to_fail = plan.creations_that_fail
        producers = [
            self.helper(partial(produce, self, number), f"producer {number}")
            for number in range(plan.producers)
        ]
        if plan.has_loop:
            producers.append(self.helper(partial(loop, self, plan.producers), "loop"))
        self.wait_for(producers)
        self.end_it()
        self.wait_for(self.helpers)
        self.wait_for([self.helper(self.stop, "last stop")])
        if not self.unfinished:
            self.kill()
        return self.history()

    def wait_for(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            thread.join(PATIENCE)
            if thread.is_alive():
                self.unfinished.append(thread.name)

    def history(self) -> History:
        plan, runner = self.plan, self.runner
        # What is still held somewhere may hand in another task when it dies.
        gc.collect()
        stats = runner.stats()
        gauges = {name: getattr(stats, name) for name in stats.__slots__}
        return History(
            log=self.log,
            metrics=runner.metrics(),
            max_retries=plan.max_retries,
            own_retries=plan.own_attempts - 1,
            thread_bound=plan.thread_bound,
            tells_all=not (plan.events_submit or plan.junk),
            judges=plan.has_is_broken,
            tries_again=plan.has_loop and plan.room is not None and plan.when_full == "raise",
            threads=[thread.name for thread in runner_threads(runner.name)],
            gauges={name: gauge for name, gauge in gauges.items() if gauge},
            unfinished=self.unfinished,
        )


class _Any(int):
    """The number of an error that all items of a call share."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__
