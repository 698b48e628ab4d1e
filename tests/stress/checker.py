"""Reads a history and names everything in it that must not be there."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.native.support import finished_tasks
from tests.stress.history import ENDS, Asked, History

NEVER_RAN = ("cancelled", "dropped")


def faults(history: History) -> list[str]:
    """Everything that is wrong with a history; each text begins with the kind of the fault."""
    checker = _Checker(history)
    for place, entry in enumerate(history.log):
        checker.readers[entry[0]](place, *entry[1:])
    checker.look_back()
    return checker.found


@dataclass(slots=True)
class _Book:
    """What the log says of one task."""

    asked: Asked
    place: int
    entries: list[tuple[int, int]] = field(default_factory=list)
    """Of each attempt the place in the log, and its number."""
    lefts: list[tuple[int, str]] = field(default_factory=list)
    ends: list[tuple[int, str]] = field(default_factory=list)
    refusals: int = 0
    withdrawn: bool = False
    told: bool = False
    handed_back: int = 0


@dataclass(slots=True)
class _Life:
    """What the log says of one resource."""

    thread: int
    users: list[tuple[int, int]] = field(default_factory=list)
    """The tasks in whose functions it is, and their threads."""
    suspect: int | None = None
    """The task that has broken it, until the runner was told so."""
    bad: bool = False
    interrupts: int = 0
    destroyed: int | None = None
    """The place in the log."""


class _Checker:
    def __init__(self, history: History) -> None:
        self.history = history
        self.found: list[str] = []
        self.books: dict[int, _Book] = {}
        self.lives: dict[int, _Life] = {}
        self.lines: dict[Any, list[int]] = defaultdict(list)
        """Of each key with an order the tasks that began, in the order in which they did."""
        self.inside: dict[Any, int] = {}
        """Of each key with an order the task that is in its function."""
        self.calls: Counter[int] = Counter()
        """Of each thread how many calls of an executor it is in."""
        self.callers: dict[int, int] = {}
        """Of each call of an executor the thread."""
        self.after_kill: Counter[int] = Counter()
        """Of each thread how many tasks it has entered since the runner was seen killed."""
        self.renewals: dict[int, list[int]] = {}
        """Of each renewal the resources that there were when it was asked for."""
        self.unjudged: list[tuple[int, int]] = []
        """Tasks that have broken a resource, and those that had it next."""
        self.events: dict[int, Counter[str]] = defaultdict(Counter)
        self.failed_creations = 0
        self.refusals = self.calls_refused = 0
        self.is_killed = self.is_over = False
        self.readers: dict[str, Callable[..., None]] = {
            "asked": self.asked,
            "refused": self.refused,
            "turned away": self.turned_away,
            "ended": self.ended,
            "withdrawn": self.withdrawn,
            "told": self.told,
            "entered": self.entered,
            "left": self.left,
            "handed back": self.handed_back,
            "made": self.made,
            "destroyed": self.destroyed,
            "judged": self.judged,
            "interrupting": self.interrupting,
            "interrupted": self.interrupted,
            "renewal asked": self.renewal_asked,
            "renewal done": self.renewal_done,
            "creation failed": self.creation_failed,
            "killed": self.killed,
            "over": self.over,
            "event": self.event,
        }

    def complain(self, kind: str, text: str) -> None:
        self.found.append(f"{kind}: {text}")

    def life(self, resource: int) -> _Life:
        if resource not in self.lives:
            self.complain("resources", f"there is a resource {resource}, which nobody made")
            self.lives[resource] = _Life(0)
        return self.lives[resource]

    # ---- entries, one after the other

    def asked(self, place: int, number: int, asked: Asked) -> None:
        if number in self.books:
            self.complain("unexpected", f"the history has two tasks {number}")
        self.books[number] = _Book(asked, place)

    def refused(self, _place: int, number: int, why: str) -> None:
        self.books[number].refusals += 1
        self.refusals += why != "with others"

    def turned_away(self, _place: int) -> None:
        self.calls_refused += 1

    def ended(self, place: int, number: int, how: str) -> None:
        self.books[number].ends.append((place, how))

    def withdrawn(self, _place: int, number: int) -> None:
        self.books[number].withdrawn = True

    def told(self, _place: int, number: int) -> None:
        self.books[number].told = True

    def handed_back(self, _place: int, number: int) -> None:
        self.books[number].handed_back += 1

    def entered(
        self, place: int, number: int, attempt: int, resource: int | None, thread: int
    ) -> None:
        book = self.books[number]
        book.entries.append((place, attempt))
        if self.is_over:
            self.complain("after the end", f"task {number} was entered")
        if self.is_killed:
            # A worker may have had one in its hands.
            self.after_kill[thread] += 1
            if self.after_kill[thread] > 1:
                self.complain("entered after kill", f"task {number}, the second one of its thread")
        line = book.asked.line
        if line is not None:
            if line in self.inside:
                other = self.inside[line]
                self.complain("out of order", f"tasks {other} and {number} of {line} at once")
            if self.lines[line] and self.lines[line][-1] > number:
                self.complain("out of order", f"{number} of {line} after {self.lines[line][-1]}")
            self.lines[line].append(number)
            self.inside[line] = number
        if resource is None:
            self.calls[thread] += 1
            self.callers[number] = thread
        else:
            self.used(number, resource, thread)

    def used(self, number: int, resource: int, thread: int) -> None:
        life = self.life(resource)
        if life.destroyed is not None:
            self.complain("resources", f"task {number} has {resource}, which was destroyed")
        # A task inside another one has what that has; a call of an executor does not show it.
        is_inside = bool(life.users) or self.calls[thread] > 0
        if life.bad and not is_inside:
            self.complain("resources", f"task {number} has {resource}, which was found bad")
        if life.suspect is not None and not is_inside:
            self.unjudged.append((life.suspect, number))
            life.suspect = None
        if any(user[1] != thread for user in life.users):
            self.complain("resources", f"{resource} is used by task {number} and another at once")
        if thread != life.thread and self.history.thread_bound:
            self.complain("resources", f"task {number} has {resource} of another thread")
        if life.interrupts:
            self.complain(
                "interrupts", f"task {number} was entered while {resource} is interrupted"
            )
        life.users.append((number, thread))

    def left(self, _place: int, number: int, how: str, resource: int | None) -> None:
        book = self.books[number]
        book.lefts.append((_place, how))
        if self.is_over:
            self.complain("after the end", f"task {number} was left")
        if book.asked.line is not None and self.inside.get(book.asked.line) == number:
            del self.inside[book.asked.line]
        if resource is None:
            self.calls[self.callers[number]] -= 1
        else:
            life = self.life(resource)
            life.users = [user for user in life.users if user[0] != number]
            if how == "broken":
                life.suspect = number

    def judged(self, _place: int, resource: int) -> None:
        life = self.life(resource)
        life.bad, life.suspect = True, None

    def made(self, _place: int, resource: int, thread: int) -> None:
        self.lives[resource] = _Life(thread)
        if self.is_over:
            self.complain("after the end", f"resource {resource} was made")

    def destroyed(self, place: int, resource: int, thread: int) -> None:
        life = self.life(resource)
        if life.destroyed is not None:
            self.complain("resources", f"{resource} was destroyed twice")
        life.destroyed = place
        if thread != life.thread:
            self.complain("resources", f"{resource} was destroyed on another thread")
        if life.users:
            self.complain("resources", f"{resource} was destroyed under task {life.users[-1][0]}")
        if life.interrupts:
            self.complain("interrupts", f"{resource} was destroyed while it is interrupted")
        if self.is_over:
            self.complain("after the end", f"resource {resource} was destroyed")

    def interrupting(self, _place: int, resource: int) -> None:
        life = self.life(resource)
        life.interrupts += 1
        if life.destroyed is not None:
            self.complain("interrupts", f"{resource} was interrupted after its end")
        if self.is_over:
            self.complain("after the end", f"resource {resource} was interrupted")

    def interrupted(self, _place: int, resource: int) -> None:
        self.life(resource).interrupts -= 1

    def renewal_asked(self, _place: int, number: int) -> None:
        alive = [each for each, life in self.lives.items() if life.destroyed is None]
        self.renewals[number] = alive

    def renewal_done(self, _place: int, number: int, gone: int) -> None:
        # Those that were just being made are old, too, so that more may be gone.
        left = [each for each in self.renewals[number] if self.lives[each].destroyed is None]
        if left:
            self.complain("renewal", f"{number} is done, and {left} are still there")
        if gone < 0:
            self.complain("renewal", f"{number} says that {gone} are gone")

    def creation_failed(self, _place: int) -> None:
        self.failed_creations += 1

    def killed(self, _place: int) -> None:
        self.is_killed = True

    def over(self, _place: int) -> None:
        self.is_over = True

    def event(self, _place: int, task: int, kind: str) -> None:
        self.events[task][kind] += 1

    # ---- all of it

    def look_back(self) -> None:
        for number, book in self.books.items():
            self.check_task(number, book)
        for breaker, number in self.unjudged if self.history.judges else ():
            # Of a task that was given up before its function returned nobody is asked.
            book = self.books[breaker]
            if book.ends and book.ends[0][1] == "own" and not book.told:
                text = f"task {number} has what {breaker} broke, and nobody was asked"
                self.complain("resources", text)
        for number, life in self.lives.items():
            if life.destroyed is None:
                self.complain("resources", f"{number} was made and never destroyed")
        self.check_figures()
        if self.events:
            self.check_events()
        for thread in self.history.threads:
            self.complain("threads", f"{thread} is alive after the end")
        for call in self.history.unfinished:
            self.complain("lost", f"{call} never returned")

    def check_task(self, number: int, book: _Book) -> None:
        self.check_outcome(number, book)
        self.check_attempts(number, book)
        if book.handed_back > 1:
            self.complain("duplicated", f"task {number} was handed back twice")
        ends = {how for _, how in book.ends}
        if book.handed_back and (book.entries or ends - {"dropped", "given up"}):
            self.complain("unexpected", f"task {number} was handed back, and {ends} came of it")
        if "dropped" in ends and not book.handed_back:
            self.complain("lost", f"task {number} was dropped and not handed back")

    def check_outcome(self, number: int, book: _Book) -> None:
        asked = book.asked
        if book.refusals:
            if book.refusals > 1 or book.ends:
                self.complain("duplicated", f"task {number} was refused, and has an outcome")
            if book.entries:
                self.complain("unexpected", f"task {number} ({asked.verb}) was refused, and ran")
            return
        if not book.ends:
            if not asked.streams:
                self.complain("lost", f"task {number} ({asked.verb}) has no outcome")
            return
        if len(book.ends) > 1:
            self.complain("duplicated", f"task {number} ({asked.verb}) has {len(book.ends)} ends")
        how = book.ends[0][1]
        last = book.lefts[-1][1] if book.lefts else None
        if how == "value":
            fits = last == "value"
        elif how == "own":
            fits = last not in (None, "value")
        elif how == "cancelled":
            fits = not book.entries and (book.withdrawn or book.told or asked.streams)
        elif how == "dropped":
            fits = not book.entries
        elif how == "timed out":
            fits = asked.limited
        elif how == "a hook's":
            # What is no `Exception` ends a call in whose thread the hook is called.
            fits = asked.verb == "run_task" and not self.history.thread_bound
        else:
            fits = how in ("no resource", "given up")
        if not fits:
            self.complain(
                "unexpected",
                f"task {number} ({asked.verb}) ended with {how!r}, its function with {last!r}",
            )
        if book.withdrawn and how not in ("cancelled", "given up"):
            self.complain("unexpected", f"task {number} was cancelled, and ended with {how!r}")

    def check_attempts(self, number: int, book: _Book) -> None:
        attempts = [attempt for _, attempt in book.entries]
        if len(attempts) != len(book.lefts):
            self.complain("unexpected", f"task {number} was entered and not left")
        values = [place for place, how in book.lefts if how == "value"]
        last = book.entries[-1][0] if book.entries else -1
        if book.asked.once and len(attempts) > 1:
            self.complain("once twice", f"task {number} ({book.asked.verb})")
        if values and last > values[0] and not book.asked.batched:
            self.complain("duplicated", f"task {number} was entered again after it had returned")
        if (
            book.ends
            and last > book.ends[0][0]
            and book.ends[0][1] not in ("timed out", "given up")
        ):
            self.complain("duplicated", f"task {number} was entered after its outcome")
        if book.asked.batched:
            return
        if attempts != list(range(1, len(attempts) + 1)):
            self.complain("duplicated", f"the attempts of task {number} were {attempts}")
        broken = sum(how == "broken" for _, how in book.lefts)
        if len(attempts) > 1 + self.history.max_retries + self.history.own_retries:
            self.complain("unexpected", f"task {number} was tried {len(attempts)} times")
        if broken > 1 + self.history.max_retries:
            self.complain("unexpected", f"task {number} broke {broken} resources")

    # ---- figures

    def check_figures(self) -> None:
        """What the runner counted against what the tasks and their callers saw.

        Of tasks that their caller left behind nobody knows how each of them ended: they are what
        the figures may be too high by.
        """
        metrics = self.history.metrics
        if metrics is None:
            return
        seen: Counter[str] = Counter()
        unknown = 0
        for book in self.books.values():
            if book.refusals:
                continue
            how = book.ends[0][1] if book.ends else "given up"
            if how == "no resource":
                seen["arrived"] += 1
                seen["failed" if book.entries else "dropped"] += 1
            elif how in ENDS:
                seen["arrived"] += 1
                seen[ENDS[how]] += 1
            else:
                unknown += 1
        seen["refused"] = self.refusals
        for kind in ("arrived", "refused", *ENDS.values()):
            total = getattr(metrics, f"total_tasks_{kind}")
            # The item that a map was refused for may not have been read.
            most = seen[kind] + unknown + self.calls_refused * (kind == "refused")
            if kind == "refused" and self.history.tries_again:
                most = max(most, total)
            if not seen[kind] <= total <= most:
                text = (
                    f"{kind} is {total}, seen were {seen[kind]}, or {most} with those left behind"
                )
                self.complain("figures", text)
        if metrics.total_tasks_arrived != finished_tasks(metrics):
            text = f"{metrics.total_tasks_arrived} arrived, {finished_tasks(metrics)} ended"
            self.complain("figures", text)
        entered = sum(len(book.entries) for book in self.books.values())
        if metrics.execution.count != entered:
            text = f"{metrics.execution.count} executions are counted, {entered} were seen"
            self.complain("figures", text)
        # A resource that is bad from the start was made, and is counted as one that failed.
        counted = metrics.creation.count + metrics.total_creations_failed
        seen_creations = len(self.lives) + self.failed_creations
        if counted != seen_creations:
            text = f"{counted} creations are counted, failed ones too, {seen_creations} were seen"
            self.complain("figures", text)
        if sum(metrics.errors.values()) != metrics.total_tasks_failed:
            text = f"errors are {metrics.errors}, failed is {metrics.total_tasks_failed}"
            self.complain("figures", text)
        for name, gauge in self.history.gauges.items():
            self.complain("figures", f"the gauge {name} is {gauge} after the end")

    def check_events(self) -> None:
        """One arrival and one end of each task, and as many events as `metrics()` has."""
        told: Counter[str] = Counter()
        for task, kinds in self.events.items():
            told += kinds
            if task == 0:
                continue
            ends = sum(kinds[kind] for kind in ENDS.values())
            if ends != 1 or kinds["arrived"] > 1 or kinds["refused"]:
                self.complain("events", f"of the task with id {task} were told {dict(kinds)}")
            elif not kinds["arrived"] and self.history.tells_all:
                self.complain("events", f"of the task with id {task} no arrival was told")
        if self.history.tells_all:
            for kind in ("arrived", "refused", "retried", *ENDS.values()):
                total = getattr(self.history.metrics, f"total_tasks_{kind}")
                if told[kind] != total:
                    self.complain("events", f"{kind}: {told[kind]} were told, {total} are counted")
