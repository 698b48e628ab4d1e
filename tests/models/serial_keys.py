"""Every interleaving of tasks that run one after the other by key: a protocol, and what breaks it.

It came before the option by which tasks of a key run in order, `options(serial=True)`.

An explicit-state model, with no threads and no clock: each actor's next step is a function of the
shared state, and a breadth-first search takes them in every order. Actors are a submitter, the
workers, each with one resource, and one thread that calls stop or kill. Faults are choices as long
as their budget lasts: a task finds its resource bad, no resource can be made, a task outlives its
time limit, its caller cancels it.

A key that has tasks has a *line*: those of its tasks that were accepted and have not left, in the
order of their submission. The first one is its head, and only heads are in a lane. A step below is
one hold of the lock over the lines and the lanes:

- *submit* appends a task to the line of its key. A head is put into the lane; a task of a higher
  class than its head takes the head there along.
- a worker *takes* the head of the highest class, which was the first to come into it. Its line is
  held from then on, until its function has returned and nothing of the task is to come: by a retry,
  and by a function that outlived its limit, too.
- the task that *leaves* takes along those after it that have their outcome already. The next one is
  the head, in the highest class of all in the line. A line without tasks is forgotten.
- *cancel* and a time limit settle a task that waits. It stays in its line, but for a head in a
  lane, which leaves.
- *kill* settles all that waits, in every line.
- a worker *goes* when the runner is closing, the lanes are empty and no line has a task that waits,
  for such a task is in no lane.
- a task that *waits* for one that has never started runs it on the spot if that is the head of a
  line that is not held. Anything else raises, since the one before it may be the waiting task
  itself, or wait for its worker.

In every state: a task has one outcome at most; no two functions of a key run at a time; the tasks
of a key start in the order of their submission, each after the end of the one before; none starts
once a kill was called; no head starts while a line that is not held has a task of a higher class.
Where nothing can move any more: every caller was answered, and no task was given up that a worker
could have run; stop and kill have returned; every resource that was made was destroyed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

T = TypeVar("T")

RUNNING, STOPPING, KILLED = "running", "stopping", "killed"
MAX_STATES = 400_000


class Task(NamedTuple):
    """What the submitter submits."""

    key: str
    urgent: bool = False
    waits_for: int | None = None
    """The task that it waits for while it runs."""


class Line(NamedTuple):
    """A key that has tasks."""

    key: str
    tasks: tuple[int, ...]
    held: bool = False


class State(NamedTuple):
    """All that the actors share, and where each of them is."""

    mode: str
    submitted: int
    lines: tuple[Line, ...]
    lanes: tuple[tuple[int, ...], tuple[int, ...]]
    """The heads in the lower class, and in the higher one."""
    outcomes: tuple[str | None, ...]
    starts: tuple[int, ...]
    workers: tuple[tuple[object, ...], ...]
    closer: str
    faults: int
    creation_faults: int
    limits: int
    cancels: int
    resources: int
    bad: str | None


def put(items: tuple[T, ...], index: int, item: T) -> tuple[T, ...]:
    """A copy with another item."""
    return (*items[:index], item, *items[index + 1 :])


class Model:
    """The protocol. The rules that a variant breaks are methods of their own."""

    def __init__(
        self,
        *tasks: Task,
        workers: int = 2,
        closing: str | None = None,
        faults: int = 0,
        creation_faults: int = 0,
        limits: int = 0,
        cancels: int = 0,
    ) -> None:
        self.tasks = tasks
        self.worker_count = workers
        self.closing = closing
        self.budget = (faults, creation_faults, limits, cancels)

    def of(self, variant: type[Model]) -> Model:
        """The same with another protocol."""
        model = variant(*self.tasks, workers=self.worker_count, closing=self.closing)
        model.budget = self.budget
        return model

    # ---- the search

    def search(self) -> tuple[int, set[str]]:
        """How many states there are, and what is wrong in any of them."""
        count = len(self.tasks)
        first = State(
            RUNNING, 0, (), ((), ()), (None,) * count, (0,) * count,
            (("new",),) * self.worker_count, "idle", *self.budget, 0, None,
        )  # fmt: skip
        seen, todo, found = {first}, deque([first]), set[str]()
        while todo:
            state = todo.popleft()
            if state.bad:
                found.add(state.bad)
                continue
            following = list(self.steps(state))
            if not following:
                found.update(self.wrong_at_rest(state))
            for after in following:
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
            assert len(seen) <= MAX_STATES, "too many states"
        return len(seen), found

    def wrong_at_rest(self, s: State) -> Iterator[str]:
        """What must not be when nothing can move any more."""
        if any(outcome is None for outcome in s.outcomes[: s.submitted]):
            yield "a caller waits for ever"
        given_up = (
            one == "no worker" and not starts
            for one, starts in zip(s.outcomes, s.starts, strict=True)
        )
        if self.budget[1] < self.worker_count and any(given_up):
            yield "a task was given up although a worker could have run it"
        if self.closing and s.closer != "done":
            yield "stop or kill never returns"
        if self.closing and s.resources:
            yield "a resource was never destroyed"
        if not self.closing and s.lines:
            yield "a key without tasks is remembered"

    def steps(self, s: State) -> Iterator[State]:
        """What may happen next."""
        yield from self.submit(s)
        for worker in range(self.worker_count):
            yield from self.work(s, worker)
        if s.cancels:
            for task in range(s.submitted):
                if self.waits(s, task) and not s.starts[task]:
                    after = self.settle_waiting(s, task, "cancelled")
                    yield after._replace(cancels=s.cancels - 1)
        if s.limits:
            for task in range(s.submitted):
                if self.waits(s, task):
                    after = self.settle_waiting(s, task, "timed out")
                    yield after._replace(limits=s.limits - 1)
        if s.closer == "idle" and self.closing:
            after = s._replace(mode=self.closing, closer="waits")
            yield self.sweep(after) if self.closing == KILLED else after
        elif s.closer == "waits" and all(worker == ("gone",) for worker in s.workers):
            yield s._replace(closer="done")

    # ---- lines

    def line_of(self, s: State, task: int) -> Line | None:
        """The line of a task's key."""
        key = self.tasks[task].key
        return next((line for line in s.lines if line.key == key), None)

    def put_line(self, s: State, line: Line) -> State:
        """The state with this line in the place of the one of its key."""
        others = tuple(other for other in s.lines if other.key != line.key)
        lines = (*others, line) if line.tasks else others
        return s._replace(lines=tuple(sorted(lines)))

    def waits(self, s: State, task: int) -> bool:
        """Whether a task was accepted, has no outcome and is not running."""
        return task < s.submitted and s.outcomes[task] is None and not self.has_worker(s, task)

    def has_worker(self, s: State, task: int) -> bool:
        """Whether a worker is inside a task's function."""
        return any(task in worker[1:] for worker in s.workers)

    def class_of(self, line: Line, s: State) -> bool:
        """Whether a line is in the higher class: as one of its tasks that wait is."""
        return any(self.tasks[task].urgent and s.outcomes[task] is None for task in line.tasks)

    def queue_head(self, s: State, line: Line, *, front: bool = False) -> State:
        """Puts the head of a line into its lane, and takes it out of where it was."""
        head = line.tasks[0]
        lanes = [tuple(one for one in lane if one != head) for lane in s.lanes]
        urgent = self.class_of(line, s)
        lanes[urgent] = (head, *lanes[urgent]) if front else (*lanes[urgent], head)
        return s._replace(lanes=(lanes[0], lanes[1]))

    def leave(self, s: State, task: int) -> State:
        """A task has left: the next one of its line is its head."""
        line = self.line_of(s, task)
        assert line is not None
        rest = self.skip(s, line.tasks[1:])
        s = self.put_line(s, Line(line.key, rest))
        return self.queue_head(s, Line(line.key, rest)) if rest else s

    def skip(self, s: State, rest: tuple[int, ...]) -> tuple[int, ...]:
        """Those of a line that have no outcome yet."""
        return tuple(task for task in rest if s.outcomes[task] is None)

    def answer(self, s: State, task: int, outcome: str) -> State:
        """Gives a task its outcome."""
        if s.outcomes[task] is not None:
            return s._replace(bad="a task has two outcomes")
        return s._replace(outcomes=put(s.outcomes, task, outcome))

    def is_queued(self, s: State, task: int) -> bool:
        """Whether a task is a head in a lane."""
        return any(task in lane for lane in s.lanes)

    def unqueue(self, s: State, task: int) -> State:
        """Takes a head out of its lane."""
        first, second = (tuple(one for one in lane if one != task) for lane in s.lanes)
        return s._replace(lanes=(first, second))

    def settle_waiting(self, s: State, task: int, outcome: str) -> State:
        """A task that waits ends without a worker."""
        after = self.answer(s, task, outcome)
        if self.is_queued(s, task):
            return self.leave(self.unqueue(after, task), task)
        return after

    def sweep(self, s: State) -> State:
        """A kill settles all that waits."""
        for line in s.lines:
            for task in line.tasks:
                if self.waits(s, task):
                    s = self.answer(s, task, "killed")
            inside = tuple(task for task in line.tasks if self.has_worker(s, task))
            s = self.put_line(s, line._replace(tasks=inside))
        return s._replace(lanes=((), ()))

    # ---- the submitter

    def submit(self, s: State) -> Iterator[State]:
        """Submits the next task."""
        if s.submitted == len(self.tasks):
            return
        task = s.submitted
        after = s._replace(submitted=task + 1)
        if s.mode != RUNNING:
            yield self.answer(after, task, "refused")
            return
        line = self.line_of(s, task)
        if line is None:
            line = Line(self.tasks[task].key, (task,))
            yield self.queue_head(self.put_line(after, line), line)
            return
        was_urgent = self.class_of(line, s)
        line = line._replace(tasks=(*line.tasks, task))
        after = self.put_line(after, line)
        if self.is_queued(s, line.tasks[0]) and self.class_of(line, after) and not was_urgent:
            after = self.raise_head(after, line)
        yield after

    def raise_head(self, s: State, line: Line) -> State:
        """A more urgent task came into the line."""
        return self.queue_head(s, line)

    # ---- workers

    def work(self, s: State, worker: int) -> Iterator[State]:
        """What a worker may do next."""
        at = s.workers[worker]
        match at[0]:
            case "new":
                yield from self.make_resource(s, worker)
            case "idle":
                yield from self.take_or_go(s, worker)
            case "runs":
                yield from self.run(s, worker, *(int(str(task)) for task in at[1:]))
            case "overdue":
                task = int(str(at[1]))
                yield self.returned(self.move(s, worker, "idle"), task)

    def move(self, s: State, worker: int, *at: object) -> State:
        """The state with a worker elsewhere."""
        return s._replace(workers=put(s.workers, worker, at))

    def make_resource(self, s: State, worker: int) -> Iterator[State]:
        """Makes a resource, tries again, or gives up in a closing runner."""
        made = s._replace(resources=s.resources + 1)
        yield self.move(made, worker, "idle")
        if s.creation_faults:
            after = s._replace(creation_faults=s.creation_faults - 1)
            if s.mode == RUNNING:
                yield after
                return
            after = self.move(after, worker, "gone")
            if all(at == ("gone",) for at in after.workers):
                for task in range(s.submitted):
                    if self.waits(after, task):
                        after = self.answer(after, task, "no worker")
                after = after._replace(lines=(), lanes=((), ()))
            yield after

    def take_or_go(self, s: State, worker: int) -> Iterator[State]:
        """Takes the most urgent head, or goes when none can come."""
        for urgent in (True, False):
            if s.lanes[urgent]:
                head = s.lanes[urgent][0]
                after = self.begin(self.unqueue(s, head), head)
                line = self.line_of(after, head)
                if line is not None:
                    after = self.put_line(after, line._replace(held=True))
                yield self.move(after, worker, "runs", head)
                return
        if s.mode != RUNNING and self.is_drained(s):
            after = self.move(s, worker, "gone")
            yield after._replace(resources=s.resources - 1)

    def is_drained(self, s: State) -> bool:
        """Whether no task waits, in a lane or in a line behind its head."""
        return not any(self.waits(s, task) for line in s.lines for task in line.tasks)

    def begin(self, s: State, task: int, *, inline: bool = False) -> State:
        """A function is entered: looks whether it may be."""
        key = self.tasks[task].key
        first = not s.starts[task]
        s = s._replace(starts=put(s.starts, task, s.starts[task] + 1))
        running = {int(str(one)) for at in s.workers for one in at[1:]}
        if any(self.tasks[one].key == key for one in running):
            return s._replace(bad="two tasks of a key run at a time")
        earlier = [one for one in range(task) if self.tasks[one].key == key]
        if first and any(s.outcomes[one] is None for one in earlier):
            return s._replace(bad="a task started before an earlier one of its key had ended")
        if s.mode == KILLED:
            return s._replace(bad="a task started after a kill")
        line = self.line_of(s, task)
        urgent = line is not None and self.class_of(line, s)
        if first and not urgent and not inline:
            free = [other for other in s.lines if not other.held]
            if any(self.class_of(other, s) for other in free):
                return s._replace(bad="a task started while a more urgent key waited")
        return s

    def run(self, s: State, worker: int, *tasks: int) -> Iterator[State]:
        """The innermost function that a worker runs returns, fails, waits or overruns."""
        task = tasks[-1]
        inside = len(tasks) > 1
        back = ("runs", *tasks[:-1]) if inside else ("idle",)
        other = self.tasks[task].waits_for
        if other is not None and not inside and other < s.submitted and self.waits(s, other):
            yield from self.wait_inline(s, worker, task, other)
            return
        if other is not None and not inside and (other >= s.submitted or s.outcomes[other] is None):
            return  # it waits, for what another worker runs or the submitter submits
        yield self.returned(self.answer(self.move(s, worker, *back), task, "ran"), task)
        if s.limits and not inside:
            after = self.answer(s, task, "timed out")._replace(limits=s.limits - 1)
            yield self.overrun(self.move(after, worker, "overdue", task), task)
        if s.faults and not inside:
            after = s._replace(faults=s.faults - 1, resources=s.resources - 1)
            after = self.move(after, worker, "new")
            if s.starts[task] > 1 or s.mode == KILLED:
                yield self.returned(self.answer(after, task, "failed"), task)
            else:
                yield self.retry(after, task)

    def retry(self, s: State, task: int) -> State:
        """A task is to be tried again: first in its class, and its line is held."""
        line = self.line_of(s, task) or Line(self.tasks[task].key, (task,))
        return self.queue_head(s, line, front=True)

    def returned(self, s: State, task: int) -> State:
        """A function has returned, and no retry follows."""
        return self.leave(s, task)

    def overrun(self, s: State, task: int) -> State:
        """A task has its outcome, and its function runs on."""
        del task
        return s

    def wait_inline(self, s: State, worker: int, task: int, other: int) -> Iterator[State]:
        """A task waits for one that waits: its worker runs that, or the wait raises."""
        line = self.line_of(s, other)
        if line is not None and line.tasks[0] == other and not line.held and not s.starts[other]:
            after = self.begin(self.unqueue(s, other), other, inline=True)
            after = self.put_line(after, line._replace(held=True))
            yield self.move(after, worker, "runs", task, other)
        else:
            after = self.answer(self.move(s, worker, "idle"), task, "raised")
            yield self.returned(after, task)


# ---- Each breaks one rule; a search that lets one of them through is no check at all.


class AnOutcomeFreesTheKey(Model):
    """A task that outlived its limit holds its key no longer."""

    def overrun(self, s: State, task: int) -> State:
        return self.leave(s, task)

    def returned(self, s: State, task: int) -> State:
        line = self.line_of(s, task)
        return self.leave(s, task) if line is not None and line.tasks[0] == task else s


class ARetryFreesTheKey(Model):
    """A task that is to be tried again goes to the end of its line."""

    def retry(self, s: State, task: int) -> State:
        line = self.line_of(s, task)
        assert line is not None
        line = Line(line.key, (*line.tasks[1:], task))
        return self.queue_head(self.put_line(s, line), line)


class ACancelledHeadStays(Model):
    """Nobody looks after the line of a head that ends in its lane."""

    def settle_waiting(self, s: State, task: int, outcome: str) -> State:
        return self.unqueue(self.answer(s, task, outcome), task)


class SkipsNobody(Model):
    """The next one is the head, even if it has its outcome."""

    def skip(self, s: State, rest: tuple[int, ...]) -> tuple[int, ...]:
        del s
        return rest


class AHeadStaysInItsClass(Model):
    """A more urgent task behind a head changes nothing."""

    def raise_head(self, s: State, line: Line) -> State:
        del line
        return s


class WorkersLookAtLanesAlone(Model):
    """A worker goes although tasks wait behind a head that runs."""

    def is_drained(self, s: State) -> bool:
        return not any(s.lanes)


class AKillLooksAtLanesAlone(Model):
    """What waits behind a head is not settled."""

    def sweep(self, s: State) -> State:
        for task in (*s.lanes[0], *s.lanes[1]):
            s = self.settle_waiting(s, task, "killed")
        return s._replace(lanes=((), ()))


class AWaitRunsAnyTask(Model):
    """A task that waits runs what it waits for, whatever is before that."""

    def wait_inline(self, s: State, worker: int, task: int, other: int) -> Iterator[State]:
        after = self.begin(self.unqueue(s, other), other, inline=True)
        yield self.move(after, worker, "runs", task, other)


class AWaitJustWaits(Model):
    """A task that waits for one that is no head waits on."""

    def wait_inline(self, s: State, worker: int, task: int, other: int) -> Iterator[State]:
        line = self.line_of(s, other)
        if line is not None and line.tasks[0] == other and not line.held:
            yield from super().wait_inline(s, worker, task, other)


class ABusyKeyIsForgotten(Model):
    """A key is forgotten as soon as nothing of it waits, though a task of it runs."""

    def take_or_go(self, s: State, worker: int) -> Iterator[State]:
        for after in super().take_or_go(s, worker):
            lines = tuple(line for line in after.lines if len(line.tasks) > 1 or not line.held)
            yield after._replace(lines=lines)

    def returned(self, s: State, task: int) -> State:
        line = self.line_of(s, task)
        return self.leave(s, task) if line is not None and line.tasks[0] == task else s


class ALineEndsUnseen(Model):
    """A task that ends after a kill puts the next one into its lane, settled or not."""

    def sweep(self, s: State) -> State:
        return s._replace(lanes=((), ()))


SCENARIOS = (
    Model(Task("a"), Task("a"), Task("b"), faults=1),
    Model(Task("a"), Task("a"), Task("a"), cancels=2, closing=STOPPING),
    Model(Task("a"), Task("a"), Task("b"), limits=1, cancels=1),
    Model(Task("a"), Task("b"), Task("b", urgent=True), Task("a"), cancels=1),
    Model(Task("a"), Task("b", urgent=True), Task("a", urgent=True), workers=1, limits=1),
    Model(Task("a"), Task("a"), Task("b"), faults=1, creation_faults=1, closing=STOPPING),
    Model(Task("a"), Task("a"), Task("b"), faults=1, limits=1, closing=KILLED),
    Model(Task("a", waits_for=1), Task("b"), Task("b"), limits=1),
    Model(Task("a", waits_for=1), Task("a"), workers=1, closing=STOPPING),
    Model(Task("b"), Task("a", waits_for=2), Task("b"), workers=1, cancels=1),
    Model(Task("a", waits_for=2), Task("b"), Task("b"), cancels=1, closing=KILLED),
    Model(
        *(Task("a"), Task("a", urgent=True), Task("b"), Task("a")),
        faults=1,
        limits=1,
        cancels=1,
        closing=KILLED,
    ),
    Model(
        *(Task("a"), Task("b"), Task("a"), Task("b", urgent=True)),
        faults=1,
        creation_faults=1,
        limits=1,
        cancels=1,
        closing=STOPPING,
    ),
    Model(
        *(Task("a"), Task("a"), Task("b")),
        workers=3,
        faults=1,
        creation_faults=1,
        limits=1,
        closing=STOPPING,
    ),
)
"""Each with something that the others have not; the small ones first."""
