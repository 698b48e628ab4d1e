"""Those who hand tasks in: some threads, and a coroutine."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from tasker import Priority, QueueFull, RunnerStopped
from tests.stress.hostile import Key
from tests.stress.scene import Scene, Task, outcome

LIMITS = (0.0, 0.0005, 0.002, 0.01)
LINES = 3
"""Keys of one producer whose tasks run in order."""
LATE = 40
"""So many steps a producer goes on when the runner takes no tasks any more."""

_renewals = itertools.count()


class Giver:
    """Hands tasks to a runner, one thing after another, as its dice say."""

    def __init__(self, scene: Scene, number: int) -> None:
        self.scene, self.plan, self.runner = scene, scene.plan, scene.runner
        self.number = number
        self.dice = random.Random((scene.plan.seed << 8) + number)
        self.share = self.plan.tasks // (self.plan.producers + self.plan.has_loop)
        self.late = 0
        self.batcher = self.runner.batcher(
            scene.batch,
            max_size=self.plan.batch_size,
            max_wait=self.plan.batch_wait,
            split_failed=self.plan.splits,
            key=None if number % 2 else (lambda task: Key(task.number % 2)),
        )

    def of_a_view(self) -> tuple[Any, dict[str, Any]]:
        """Some view of the runner, and what its tasks are asked to be."""
        plan, dice = self.plan, self.dice
        limited, once = dice.random() < plan.limited, dice.random() < plan.once
        priority = dice.choice(tuple(Priority))
        timeout = dice.choice(LIMITS) if limited else None
        view = self.runner.options(priority=priority, timeout=timeout, once=once)
        return view, {"once": once, "limited": limited}

    def of_the_batcher(self) -> tuple[Any, dict[str, Any]]:
        limited = self.dice.random() < self.plan.limited
        priority = self.dice.choice(tuple(Priority))
        timeout = self.dice.choice(LIMITS) if limited else None
        view = self.batcher.options(priority=priority, timeout=timeout)
        return view, {"limited": limited, "batched": True}

    def after_a_step(self) -> bool:
        """Ends the runner when it is time; tells whether to go on."""
        scene, plan = self.scene, self.plan
        if plan.end_after is not None and scene.latest >= plan.end_after:
            scene.end_it()
        if self.runner.state != "running":
            scene.notice_a_kill()
            self.late += 1
        if self.dice.random() < plan.changes:
            with suppress(RunnerStopped):
                self.change()
        return self.late < LATE

    def change(self) -> None:
        """Resizes or renews, or drops what waits."""
        scene, dice = self.scene, self.dice
        chance = dice.random()
        if chance < 0.4:
            workers = dice.randint(1, 4)
            self.runner.resize(worker_count=workers, max_worker_count=workers + self.plan.spare)
        elif chance < 0.8:
            number = next(_renewals)
            scene.note(("renewal asked", number))
            self.runner.renew().add_done_callback(partial(renewed, scene, number))
        else:
            scene.hand_back(self.runner.cancel_queued("not needed"))

    def read(
        self, read: list[Task], count: int, verb: str, asked: dict[str, Any]
    ) -> Iterator[Task]:
        """The input of a map: notes each item when it is read."""
        for _ in range(count):
            read.append(self.scene.task(verb, self.dice, streams=True, **asked))
            yield read[-1]

    def took(self, read: list[Task], place: int, result: Any, ordered: bool) -> None:
        """Notes a result of a map; of one without order its number tells whose it is."""
        number = read[place].number if ordered else getattr(result, "number", result)
        if not isinstance(result, BaseException):
            self.scene.end(number, result)
        elif type(number) is int:
            self.gave_up(number, result)

    def gave_up(self, number: int, error: BaseException) -> None:
        """Notes how an item of a map failed, unless it is the map that was ended."""
        how = outcome(error, number)
        if how not in ("dropped", "cancelled", "refused"):
            self.scene.note(("ended", number, how))

    def ended_by(self, read: list[Task], place: int, error: BaseException, ordered: bool) -> None:
        """Notes the item whose error has ended a map."""
        if isinstance(error, (RunnerStopped, QueueFull)):
            self.scene.note(("turned away",))
        number = getattr(error, "number", None)
        if ordered and place < len(read):
            number = read[place].number
        if type(number) is int:
            self.gave_up(number, error)


def renewed(scene: Scene, number: int, future: Any) -> None:
    if not future.cancelled() and future.exception() is None:
        scene.note(("renewal done", number, future.result()))


class Thread(Giver):
    """Uses all verbs that block or give a future."""

    def __init__(self, scene: Scene, number: int) -> None:
        super().__init__(scene, number)
        self.pending: list[tuple[Any, int]] = []
        self.executor = self.runner.executor()
        self.lines = [
            (line, self.runner.options(key=partial(_same, line), serial=True, priority=priority))
            for line in ((number, each) for each in range(LINES))
            for priority in Priority
        ]
        self.keys = self.runner.options(key=lambda task: Key(task.number % 5))
        verbs: dict[Callable[[], int], int] = {
            self.submit: 30,
            self.submit_many: 6,
            self.queue_task: 5,
            self.run_task: 4,
            self.map: 4,
            self.in_order: 12,
            self.many_in_order: 2,
            self.by_key: 6,
            self.call: 6,
            self.calls: 2,
            self.item: 12,
            self.items: 3,
            self.look: 1,
        }
        self.verbs, self.weights = list(verbs), list(itertools.accumulate(verbs.values()))

    def produce(self) -> None:
        """Does so until it has asked for its share of the tasks."""
        asked = 0
        while asked < self.share:
            asked += self.dice.choices(self.verbs, cum_weights=self.weights)[0]()
            if self.dice.random() < self.plan.cancelled:
                self.cancel()
            del self.pending[:-100]
            if not self.after_a_step():
                return

    def submit(self) -> int:
        view, asked = self.of_a_view()
        return self.hand_in(view, "submit", asked)

    def hand_in(self, view: Any, verb: str, asked: dict[str, Any]) -> int:
        handed_in = self.scene.submit(view, verb, self.dice, **asked)
        if handed_in is not None:
            self.pending.append(handed_in)
        return 1

    def many(self, view: Any, verb: str, asked: dict[str, Any]) -> int:
        tasks = [self.scene.task(verb, self.dice, **asked) for _ in range(self.dice.randint(1, 30))]
        try:
            futures = view.submit_many(self.scene.work, tasks)
        except RunnerStopped:
            # The call is refused once, for all of them.
            for task in tasks:
                self.scene.note(("refused", task.number, "with others"))
            self.scene.note(("turned away",))
        else:
            for task, future in zip(tasks, futures, strict=True):
                self.scene.follow(future, task.number)
                self.pending.append((future, task.number))
        return len(tasks)

    def submit_many(self) -> int:
        view, asked = self.of_a_view()
        return self.many(view, "submit_many", asked)

    def queue_task(self) -> int:
        view, asked = self.of_a_view()
        verb = self.dice.choice(("", "", "with_priority", "once", "with_priority_once"))
        if verb:
            call = getattr(self.runner, f"queue_task_{verb}")
            asked = {"once": verb.endswith("once")}
        else:
            call = view.queue_task
        self.scene.block(call, f"queue_task_{verb}", self.dice, **asked)
        return 1

    def run_task(self) -> int:
        view, asked = self.of_a_view()
        self.scene.block(view.run_task, "run_task", self.dice, **asked)
        return 1

    def in_order(self) -> int:
        line, view = self.dice.choice(self.lines)
        return self.hand_in(view, "submit in order", {"line": line})

    def many_in_order(self) -> int:
        line, view = self.dice.choice(self.lines)
        return self.many(view, "submit_many in order", {"line": line})

    def by_key(self) -> int:
        return self.hand_in(self.keys, "submit by key", {})

    def call(self) -> int:
        return self.hand_in(self.executor, "executor.submit", {})

    def item(self) -> int:
        view, asked = self.of_the_batcher()
        if self.dice.random() < 0.1:
            self.scene.block(view.queue_task, "batcher.queue_task", self.dice, **asked)
            return 1
        return self.hand_in(view, "batcher.submit", asked)

    # ---- results of many

    def map(self) -> int:
        view, asked = self.of_a_view()
        ordered = self.dice.random() < 0.7
        options: dict[str, Any] = {"return_exceptions": self.dice.random() < 0.5}
        options["buffersize"] = self.dice.choice((None, 1, 5))
        view_map = partial(view.map, self.scene.work, ordered=ordered, **options)
        return self.take(view_map, "map", asked, ordered)

    def items(self) -> int:
        view, asked = self.of_the_batcher()
        ordered = self.dice.random() < 0.7
        return self.take(partial(view.map, ordered=ordered), "batcher.map", asked, ordered)

    def calls(self) -> int:
        work = partial(self.scene.work, None)
        return self.take(partial(self.executor.map, work), "executor.map", {}, ordered=True)

    def take(
        self, call: Callable[[Any], Any], verb: str, asked: dict[str, Any], ordered: bool
    ) -> int:
        """Reads the results of a map, or some of them."""
        read: list[Task] = []
        count = self.dice.randint(0, 40)
        most = count if self.dice.random() < 0.8 else self.dice.randint(0, count)
        place = 0
        try:
            for result in call(self.read(read, count, verb, asked)):
                self.took(read, place, result, ordered)
                place += 1
                if place > most:
                    break
        except BaseException as error:
            self.ended_by(read, place, error, ordered)
        return len(read)

    # ---- the rest

    def look(self) -> int:
        self.runner.stats()
        self.runner.metrics()
        self.runner.workers(stacks=True)
        self.runner.diagnose()
        return 0

    def cancel(self) -> None:
        """Cancels a task, or waits for it."""
        if not self.pending:
            return
        future, number = self.pending.pop(self.dice.randrange(len(self.pending)))
        chance = self.dice.random()
        if chance < 0.6:
            if future.cancel():
                self.scene.note(("withdrawn", number))
        elif chance < 0.8:
            self.scene.note(("told", number))
            future.request_cancel("not needed")
        else:
            with suppress(BaseException):
                future.result()


class Coroutine(Giver):
    """Uses the verbs for asyncio."""

    async def produce(self) -> None:
        """Does so until it has asked for its share of the tasks."""
        asked = 0
        while asked < self.share:
            chance = self.dice.random()
            if chance < 0.4:
                view, kind = self.of_a_view()
                call = partial(view.asubmit, self.scene.work)
                asked += await self.gather(call, "asubmit", kind)
            elif chance < 0.6:
                view, kind = self.of_the_batcher()
                asked += await self.gather(view.asubmit, "batcher.asubmit", kind)
            else:
                asked += await self.take(chance < 0.8)
            if not self.after_a_step():
                return

    async def gather(self, call: Callable[[Task], Any], verb: str, asked: dict[str, Any]) -> int:
        """Submits some, cancels some of them, and waits for all."""
        futures = []
        count = self.dice.randint(1, 30)
        for _ in range(count):
            task = self.scene.task(verb, self.dice, **asked)
            try:
                future = call(task)
            except (RunnerStopped, QueueFull) as error:
                self.scene.note(("refused", task.number, type(error).__name__))
                continue
            self.scene.follow(future, task.number)
            futures.append(future)
            if self.dice.random() < self.plan.cancelled:
                self.scene.note(("told", task.number))
                self.dice.choice(futures).cancel()
        await asyncio.gather(*futures, return_exceptions=True)
        return count

    async def take(self, is_batched: bool) -> int:
        """Reads the results of an `amap`, or some of them."""
        ordered = self.dice.random() < 0.7
        read: list[Task] = []
        count = self.dice.randint(0, 40)
        most = count if self.dice.random() < 0.8 else self.dice.randint(0, count)
        if is_batched:
            view, asked = self.of_the_batcher()
            results = view.amap(self.read(read, count, "batcher.amap", asked), ordered=ordered)
        else:
            view, asked = self.of_a_view()
            items = self.read(read, count, "amap", asked)
            results = view.amap(self.scene.work, items, ordered=ordered)
        place = 0
        try:
            async for result in results:
                self.took(read, place, result, ordered)
                place += 1
                if place > most:
                    break
        except BaseException as error:
            self.ended_by(read, place, error, ordered)
        finally:
            await results.aclose()
        return len(read)


def _same(line: Any, _task: Task) -> Any:
    return line


def produce(scene: Scene, number: int) -> None:
    """What a producer's thread runs."""
    Thread(scene, number).produce()


def produce_in_a_loop(scene: Scene, number: int) -> None:
    """What the thread runs that has a loop."""
    asyncio.run(Coroutine(scene, number).produce())
