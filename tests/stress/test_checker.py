"""The checker finds each kind of fault that is planted in a history without one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache

import pytest

from tasker import Config, Metrics, Runner
from tests.stress.checker import faults
from tests.stress.history import Asked, Entry, History

HERE, THERE = 1, 2
"""Two threads."""
LINE = "a key"


@cache
def figures_of_nothing() -> Metrics:
    with Runner(Config(on_create=object, worker_count=1)) as runner:
        pass
    return runner.metrics()


def counted(**totals: int) -> Metrics:
    """Figures with these totals, and with what the history below has."""
    metrics = figures_of_nothing()
    timing = dataclasses.replace(metrics.execution, count=totals.pop("entered", 5))
    totals = {
        "retried": 1,
        "arrived": 6,
        "completed": 3,
        "failed": 1,
        "cancelled": 1,
        "dropped": 1,
        **totals,
    }
    return dataclasses.replace(
        metrics,
        execution=timing,
        creation=dataclasses.replace(metrics.creation, count=2),
        errors={"Broken": totals["failed"]},
        **{f"total_tasks_{kind}": total for kind, total in totals.items()},  # type: ignore[arg-type]
    )


def events(task: int, *kinds: str) -> list[Entry]:
    return [("event", task, kind) for kind in kinds]


def clean(**fields: object) -> History:
    """Tasks of a key, one that breaks its resources, a cancelled, a dropped and a refused one."""
    log: list[Entry] = [
        ("asked", 5, Asked("executor.submit", once=True)),
        ("made", 1, HERE),
        ("asked", 1, Asked("submit", line=LINE)),
        ("asked", 2, Asked("submit", line=LINE)),
        ("entered", 1, 1, 1, HERE),
        ("left", 1, "value", 1),
        ("ended", 1, "value"),
        ("entered", 2, 1, 1, HERE),
        ("interrupting", 1),
        ("interrupted", 1),
        ("left", 2, "value", 1),
        ("ended", 2, "value"),
        ("asked", 3, Asked("submit")),
        ("entered", 3, 1, 1, HERE),
        ("left", 3, "broken", 1),
        ("judged", 1),
        ("renewal asked", 1),
        ("destroyed", 1, HERE),
        ("renewal done", 1, 1),
        ("made", 2, THERE),
        ("entered", 3, 2, 2, THERE),
        ("left", 3, "broken", 2),
        ("judged", 2),
        ("ended", 3, "own"),
        ("destroyed", 2, THERE),
        ("asked", 4, Asked("submit")),
        ("ended", 4, "cancelled"),
        ("withdrawn", 4),
        ("entered", 5, 1, None, THERE),
        ("left", 5, "value", None),
        ("ended", 5, "value"),
        ("asked", 6, Asked("submit")),
        ("ended", 6, "dropped"),
        ("handed back", 6),
        ("killed",),
        ("asked", 7, Asked("submit")),
        ("refused", 7, "RunnerStopped"),
        ("over",),
        *events(0, "refused"),
        *events(11, "arrived", "completed"),
        *events(12, "arrived", "completed"),
        *events(13, "arrived", "retried", "failed"),
        *events(14, "arrived", "cancelled"),
        *events(15, "arrived", "completed"),
        *events(16, "arrived", "dropped"),
    ]
    history = History(log=log, metrics=counted(refused=1), max_retries=1)
    return dataclasses.replace(history, **fields)  # type: ignore[arg-type]


def test_a_history_without_a_fault_has_none() -> None:
    assert faults(clean()) == []


def without(*entries: Entry) -> History:
    return clean(log=[entry for entry in clean().log if entry not in entries])


def with_before(place: Entry, *entries: Entry) -> History:
    log = clean().log
    at = log.index(place)
    return clean(log=[*log[:at], *entries, *log[at:]])


def with_instead(old: Entry, *new: Entry) -> History:
    log = clean().log
    at = log.index(old)
    return clean(log=[*log[:at], *new, *log[at + 1 :]])


def in_another_order() -> History:
    log = clean().log
    first, second = log.index(("entered", 1, 1, 1, HERE)), log.index(("entered", 2, 1, 1, HERE))
    log[first : first + 3], log[second : second + 5] = (
        [("entered", 2, 1, 1, HERE), ("left", 2, "value", 1), ("ended", 2, "value")],
        [("entered", 1, 1, 1, HERE), ("left", 1, "value", 1), ("ended", 1, "value")],
    )
    return clean(log=log)


def after_the_end(*entries: Entry) -> History:
    return clean(log=[*clean().log, *entries])


ASKED_AS_ONCE = Asked("submit", once=True)
PLANTED: dict[str, tuple[Callable[[], History], str]] = {
    "an outcome that never came": (lambda: without(("ended", 1, "value")), "lost"),
    "a dropped task that no kill gave": (lambda: without(("handed back", 6)), "lost"),
    "a call that never returned": (lambda: clean(unfinished=["stop"]), "lost"),
    "two outcomes": (
        lambda: with_before(("asked", 3, Asked("submit")), ("ended", 1, "value")),
        "duplicated",
    ),
    "an attempt made twice": (
        lambda: with_before(
            ("ended", 1, "value"), ("entered", 1, 1, 1, HERE), ("left", 1, "value", 1)
        ),
        "duplicated",
    ),
    "one more attempt after the result": (
        lambda: with_before(("over",), ("entered", 5, 2, None, THERE), ("left", 5, "value", None)),
        "duplicated",
    ),
    "a task handed back twice": (
        lambda: with_before(("killed",), ("handed back", 6)),
        "duplicated",
    ),
    "a refused task with an outcome": (
        lambda: with_before(("over",), ("ended", 7, "dropped")),
        "duplicated",
    ),
    "the value of another task": (
        lambda: with_instead(("ended", 1, "value"), ("ended", 1, "the value of task 2")),
        "unexpected",
    ),
    "an error out of nothing": (
        lambda: with_instead(("ended", 1, "value"), ("ended", 1, "KeyError")),
        "unexpected",
    ),
    "a value in place of an error": (
        lambda: with_instead(("ended", 3, "own"), ("ended", 3, "value")),
        "unexpected",
    ),
    "an error in place of a value": (
        lambda: with_instead(("ended", 1, "value"), ("ended", 1, "own")),
        "unexpected",
    ),
    "a time limit that nobody gave": (
        lambda: with_instead(("ended", 1, "value"), ("ended", 1, "timed out")),
        "unexpected",
    ),
    "a cancel that nobody asked for": (lambda: without(("withdrawn", 4)), "unexpected"),
    "a cancelled task that ran": (
        lambda: with_before(
            ("ended", 4, "cancelled"), ("entered", 4, 1, 2, THERE), ("left", 4, "value", 2)
        ),
        "unexpected",
    ),
    "a cancelled task with a value": (
        lambda: with_before(("over",), ("withdrawn", 1)),
        "unexpected",
    ),
    "a refused task that ran": (
        lambda: with_before(("over",), ("entered", 7, 1, None, THERE), ("left", 7, "value", None)),
        "unexpected",
    ),
    "a dropped task that ran": (
        lambda: with_before(
            ("killed",), ("entered", 6, 1, None, THERE), ("left", 6, "value", None)
        ),
        "unexpected",
    ),
    "a function that never came back": (lambda: without(("left", 5, "value", None)), "unexpected"),
    "more attempts than there may be": (lambda: clean(max_retries=0), "unexpected"),
    "tasks that begin after a kill": (
        lambda: with_before(
            ("asked", 3, Asked("submit")),
            ("killed",),
        ),
        "entered after kill",
    ),
    "a task after the end": (
        lambda: after_the_end(("entered", 5, 2, None, THERE), ("left", 5, "value", None)),
        "after the end",
    ),
    "a resource made after the end": (lambda: after_the_end(("made", 3, HERE)), "after the end"),
    "a resource destroyed after the end": (
        lambda: after_the_end(("destroyed", 2, THERE)),
        "after the end",
    ),
    "a task that is entered twice and must not be": (
        lambda: with_instead(("asked", 3, Asked("submit")), ("asked", 3, ASKED_AS_ONCE)),
        "once twice",
    ),
    "tasks of a key in another order": (in_another_order, "out of order"),
    "tasks of a key at once": (
        lambda: with_instead(
            ("left", 1, "value", 1), ("entered", 2, 1, 1, HERE), ("left", 1, "value", 1)
        ),
        "out of order",
    ),
    "a resource that nobody destroyed": (lambda: without(("destroyed", 1, HERE)), "resources"),
    "a resource that is destroyed twice": (
        lambda: with_before(("asked", 4, Asked("submit")), ("destroyed", 1, HERE)),
        "resources",
    ),
    "a resource that another thread destroyed": (
        lambda: with_instead(("destroyed", 1, HERE), ("destroyed", 1, THERE)),
        "resources",
    ),
    "a resource that nobody made": (lambda: without(("made", 2, THERE)), "resources"),
    "a resource of another thread": (
        lambda: with_instead(("entered", 2, 1, 1, HERE), ("entered", 2, 1, 1, THERE)),
        "resources",
    ),
    "a resource of two tasks at once": (
        lambda: with_before(
            ("left", 1, "value", 1), ("entered", 5, 1, 1, THERE), ("left", 5, "value", 1)
        ),
        "resources",
    ),
    "a resource that was found bad": (
        lambda: with_before(
            ("renewal asked", 1), ("entered", 5, 1, 1, HERE), ("left", 5, "value", 1)
        ),
        "resources",
    ),
    "a resource of which nobody was asked": (
        lambda: with_instead(("judged", 1), ("entered", 5, 1, 1, HERE), ("left", 5, "value", 1)),
        "resources",
    ),
    "a resource that is gone": (
        lambda: with_before(
            ("made", 2, THERE), ("entered", 5, 1, 1, HERE), ("left", 5, "value", 1)
        ),
        "resources",
    ),
    "a resource that is destroyed under its task": (
        lambda: with_before(("left", 1, "value", 1), ("destroyed", 1, HERE)),
        "resources",
    ),
    "an interrupt that goes on into the next task": (
        lambda: clean(
            log=[
                ("made", 1, HERE),
                ("asked", 1, Asked("submit")),
                ("interrupting", 1),
                ("entered", 1, 1, 1, HERE),
            ]
        ),
        "interrupts",
    ),
    "an interrupt of what is gone": (
        lambda: with_before(("made", 2, THERE), ("interrupting", 1), ("interrupted", 1)),
        "interrupts",
    ),
    "a renewal that leaves something behind": (
        lambda: with_before(("destroyed", 1, HERE), ("renewal done", 1, 1)),
        "renewal",
    ),
    "a task that is not counted": (
        lambda: clean(metrics=counted(refused=1, arrived=5, completed=2)),
        "figures",
    ),
    "ends that are more than arrivals": (lambda: clean(metrics=counted(failed=2)), "figures"),
    "an attempt that is not counted": (lambda: clean(metrics=counted(entered=4)), "figures"),
    "a refusal that is not counted": (lambda: clean(metrics=counted()), "figures"),
    "a failed creation that is not counted": (
        lambda: with_before(("over",), ("creation failed",)),
        "figures",
    ),
    "a creation that is not counted": (
        lambda: with_before(("over",), ("made", 3, HERE)),
        "figures",
    ),
    "a gauge that is not zero": (lambda: clean(gauges={"queued_tasks": 1}), "figures"),
    "an arrival that was not told": (lambda: without(("event", 11, "arrived")), "events"),
    "an end that was told twice": (lambda: after_the_end(("event", 11, "completed")), "events"),
    "a retry that was not told": (lambda: without(("event", 13, "retried")), "events"),
    "a thread that is left": (lambda: clean(threads=["tasker-1-worker-1"]), "threads"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str) -> None:
    plant, kind = PLANTED[name]
    found = faults(plant())
    assert any(fault.startswith(f"{kind}:") for fault in found), found


def test_a_task_in_a_workers_hands_may_begin_after_a_kill() -> None:
    history = with_before(("entered", 5, 1, None, THERE), ("killed",))
    assert faults(history) == []
