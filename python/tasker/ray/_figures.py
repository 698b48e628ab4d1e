"""The figures of a runner: those of its actors, asked at the moment, and what the driver counts."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from tasker._findings import Snapshot
from tasker._running_task import RunningTask
from tasker._stats import Histograms, Metrics, Stats
from tasker.ray import _cluster

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasker._workers import WorkerInfo
    from tasker.ray._engine import Engine
    from tasker.ray._link import Figures, Link

PATIENCE = 1.0
"""Seconds for which actors are waited for; of one that says nothing the last figures count."""
SUMS = (
    *("base_workers", "active_workers", "burst_workers", "starting_workers", "equipped_workers"),
    *("paused_tasks", "running_tasks", "overdue_tasks", "available_resources"),
)
"""Gauges of the actors that are added up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorInfo:
    """One actor at a moment, from `RayRunner.actors`."""

    name: str
    """The name of the runner in it, with which those of its workers begin."""
    state: str
    """`starting`, `running`, or `stopping`."""
    node: str
    """The node that it runs on, as Ray names it. Empty while it starts."""
    process: int
    """The number of its process there; 0 while it starts."""
    tasks: int
    """Tasks that are with it, those that wait there included."""
    sent_ahead: int
    """How many may be with it now: it follows how idle its workers are."""
    stats: Stats | None
    """Its gauges; `None`: it did not say."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What an actor says."""

    metrics: Metrics
    histograms: Histograms
    stats: Stats
    workers: tuple[WorkerInfo, ...]


def ask(
    engine: Engine,
    wait_edges: Sequence[float] = (),
    run_edges: Sequence[float] = (),
    *,
    stacks: bool = False,
) -> dict[Link, _Told]:
    """Asks all actors at once. May be called from any thread.

    Args:
        engine: Of the runner.
        wait_edges: As for `Runner._histograms`.
        run_edges: The same.
        stacks: Whether running tasks carry their stacks.
    """
    told: dict[Link, _Told] = {}
    engine.dispatcher.check_process()
    if engine.dispatcher.over.is_set():
        return told
    # Ray may be shut down meanwhile; an actor that is lost says nothing, as the pull says too.
    with contextlib.suppress(Exception):
        links = [link for link in list(engine.fleet.links) if link.is_open]
        asked = {link.figures(wait_edges, run_edges, stacks=stacks): link for link in links}
        end = time.monotonic() + PATIENCE
        while asked and (ready := _cluster.first_done(list(asked), end - time.monotonic())):
            for reference in ready:
                link = asked.pop(reference)
                with contextlib.suppress(Exception):
                    told[link] = one = _Told(*_cluster.answer(reference))
                    link.note_figures(one.metrics, one.histograms if run_edges else None)
    return told


def stats_of(engine: Engine) -> Stats:
    """Makes the gauges: sums over the actors, and what waits in the driver."""
    found: dict[str, Any] = {each.name: 0 for each in fields(Stats)}
    found |= {"oldest_wait": 0.0, "busy_share": 0.0, "creation_failing_for": 0.0}
    told = [each.stats for each in ask(engine).values()]
    for name in SUMS:
        found[name] = sum(getattr(each, name) for each in told)
    if workers := sum(each.active_workers for each in told):
        busy = sum(each.busy_share * each.active_workers for each in told)
        found["busy_share"] = busy / workers
    failing = [each.creation_failing_for for each in told]
    found["creation_failing_for"] = max([*failing, engine.fleet.failing_for])
    waiting = engine.dispatcher.waiting
    with waiting.lock:
        queued = waiting.queued()
        oldest = min((task.submitted for task in waiting.each()), default=None)
    found["queued_tasks"] = sum(queued.values()) + sum(each.queued_tasks for each in told)
    found["priority_tasks"] = queued["high"] + sum(each.priority_tasks for each in told)
    with_actors = max((each.oldest_wait for each in told), default=0.0)
    here = 0.0 if oldest is None else time.monotonic() - oldest
    found["oldest_wait"] = max(with_actors, here)
    if engine.dispatcher.over.is_set():
        return Stats(**{name: type(value)(0) for name, value in found.items()})
    return Stats(**found)


def metrics_of(engine: Engine) -> Metrics:
    """Makes the figures since the start."""
    ask(engine)
    return _metrics(engine)


def _known(engine: Engine) -> list[Figures]:
    """What the actors told last, those included that are gone: what only grows must not shrink."""
    fleet = engine.fleet
    known = [link.last_figures for link in list(fleet.links)] + list(fleet.past_figures)
    # Of an actor that goes at this moment they may be in both.
    return list({id(each): each for each in known if each is not None}.values())


def _metrics(engine: Engine) -> Metrics:
    known = _known(engine)
    with engine.dispatcher.waiting.lock:
        return engine.dispatcher.outcomes.counters.metrics([each[0] for each in known])


def histograms_of(
    engine: Engine, wait_edges: Sequence[float], run_edges: Sequence[float]
) -> tuple[Metrics, Histograms]:
    """Makes what `Runner._histograms` gives."""
    told = ask(engine, wait_edges, run_edges)
    metrics = _metrics(engine)
    known = [each[1]["creation"] for each in _known(engine) if each[1] is not None]
    # Those of another collector may have other edges.
    creations = [each for each in known if len(each[0]) == len(run_edges)]
    waiting = engine.dispatcher.waiting
    with waiting.lock:
        queued = waiting.queued()
        for each in told.values():
            for name, count in each.histograms["queued"].items():
                queued[name] += count
        counters = engine.dispatcher.outcomes.counters
        return metrics, counters.histograms(wait_edges, run_edges, queued, creations)


def workers_of(engine: Engine, *, stacks: bool) -> tuple[WorkerInfo, ...]:
    """Lists the workers of all actors."""
    told = ask(engine, stacks=stacks)
    return tuple(worker for each in told.values() for worker in each.workers)


def running_of(engine: Engine) -> list[RunningTask]:
    """Lists what runs, with its stack; of an actor that says nothing, what the driver knows."""
    told = ask(engine, stacks=True)
    workers = [worker for each in told.values() for worker in each.workers]
    running = [worker.task for worker in workers if worker.task is not None]
    now = time.monotonic()
    for link in list(engine.fleet.links):
        if link not in told:
            tasks = list(link.out.values())
            # What begins and keeps the interpreter is not told of: the first ones may have begun.
            begun = [task for task in tasks if task.has_begun] or tasks[: link.workers]
            running += [RunningTask(task.name, now - task.sent, link.name) for task in begun]
    return running


def actors_of(engine: Engine) -> tuple[ActorInfo, ...]:
    """Lists the actors."""
    told = ask(engine)
    return tuple(
        ActorInfo(
            name=link.name,
            state="stopping" if link.is_closing else "running" if link.is_open else "starting",
            node=link.node,
            process=link.process,
            tasks=len(link.out),
            sent_ahead=int(link.target),
            stats=told[link].stats if link in told else None,
        )
        for link in list(engine.fleet.links)
    )


def snapshot_of(engine: Engine) -> Snapshot:
    """Takes what `diagnose` looks at."""
    fault = engine.fleet.fault
    return Snapshot(
        at=time.monotonic(),
        stats=stats_of(engine),
        metrics=_metrics(engine),
        workers=workers_of(engine, stacks=False),
        max_queue_size=engine.config.max_queue_size,
        refused_lately=engine.dispatcher.outcomes.counters.refusals.lately(),
        creation_error=None if fault is None else type(fault).__name__,
        # What the workers of several processes do says nothing of the interpreter of this one.
        has_gil=False,
    )
