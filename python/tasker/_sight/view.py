"""What is shown of a runner at one moment: plain data, as `dataclasses.asdict` and JSON take it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Quantiles:
    """How durations of some seconds were spread, in seconds; 4 % off at most."""

    count: int
    """How many there were."""
    p50: float
    """Half are no longer."""
    p95: float
    """95 % are no longer."""
    p99: float
    """99 % are no longer."""


@dataclass(frozen=True, slots=True)
class Point:
    """A moment of the last 5 minutes; its rates and times are since the point before it."""

    time: float
    """Seconds since 1970."""
    accepted: float
    """Tasks accepted per second."""
    completed: float
    """Tasks completed per second."""
    failed: float
    """Tasks failed per second."""
    timed_out: float
    """Tasks timed out per second."""
    queued: int
    """Tasks waiting."""
    running: int
    """Tasks running."""
    oldest_wait: float
    """Seconds for which the oldest one has waited; 0.0 when none waits."""
    wait: Quantiles | None
    """Times in the queue; `None` when no task began."""
    execution: Quantiles | None
    """Times in task functions; `None` when none ended."""
    attach_share: float
    """As `View.attach_share`."""
    busy_share: float
    """As `View.busy_share`."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Events per second over the last 5 seconds."""

    accepted: float
    """Tasks accepted."""
    completed: float
    """Tasks completed."""
    failed: float
    """Tasks failed."""
    timed_out: float
    """Tasks timed out, waiting or running."""
    retried: float
    """Attempts made again on a fresh resource."""
    refused: float
    """Tasks refused: stopped, or the queue was full."""


@dataclass(frozen=True, slots=True)
class FoundView:
    """Something that is not well, as `Runner.diagnose` finds it."""

    code: str
    """What it is, in a word."""
    severity: Literal["info", "warning", "critical"]
    """How bad it is."""
    text: str
    """What it is, in a sentence."""
    since: float
    """Seconds for which it has held."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker."""

    name: str
    """The name of its thread."""
    kind: Literal["base", "burst", "reserved", "temporary"]
    """As `WorkerInfo.kind`."""
    state: Literal["starting", "idle", "busy", "equipping"]
    """As `WorkerInfo.state`."""
    task: str | None
    """The name of what it runs; `None`: nothing."""
    task_age: float | None
    """Seconds since that began."""
    overdue: bool
    """Whether that is past its time limit."""
    tasks_done: int
    """Attempts that have ended on it."""
    busy_share: float
    """The share of the last minute in which it ran tasks, from 0 to 1."""
    resource_generation: int
    """How many resources it has made."""
    resource_age: float | None
    """Seconds since its resource was made; `None`: it has none."""


@dataclass(frozen=True, slots=True)
class TaskView:
    """What became of the tasks of one name, since the start of the runner but for the rates."""

    name: str
    """Of the tasks; `other` is of those that the runner does not count by themselves."""
    completed: int
    """Tasks that returned a result."""
    failed: int
    """Tasks that ended with an exception."""
    retried: int
    """Attempts made again on a fresh resource."""
    total: float
    """Seconds in the function, all attempts together."""
    mean: float
    """Seconds of an attempt on average."""
    p95: float
    """Seconds within which 95 % of the attempts ended."""
    rate_5s: float
    """Tasks ended per second over the last 5 seconds."""
    rate_1min: float
    """Tasks ended per second over the last minute."""
    rate_5min: float
    """Tasks ended per second over the last 5 minutes."""


@dataclass(frozen=True, slots=True)
class CountView:
    """How often something of one kind has happened: a type of error, a reason of a replacement."""

    name: str
    """The kind."""
    count: int
    """How often since the start of the runner."""
    last_minute: int
    """How often in the last minute."""
    last_seen: float | None
    """Seconds since it was last seen to happen; `None`: not since somebody looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A runner at one moment, with what led to it.

    Where nobody looked for so long as a rate asks for, it is over the time that somebody did.
    """

    number: int
    """Tells it from the others of a `Watch`, where two names are cut to the same text."""
    name: str
    """The runner's name."""
    state: Literal["running", "stopping", "killed", "stopped", "broken"]
    """As `Runner.state`, or `broken`; what has stopped keeps its totals, its gauges are zero."""
    time: float
    """When this was so, in seconds since 1970."""
    watched_for: float
    """Seconds since somebody looked first."""
    free_threaded: bool
    """Whether the interpreter runs without the GIL."""
    workers_alive: int
    """Base and burst workers alive."""
    workers_base: int
    """Base workers asked for."""
    workers_max: int
    """The most base and burst workers asked for."""
    workers_starting: int
    """Workers whose thread or first resource is being made."""
    queued: int
    """Tasks waiting."""
    queued_by_priority: dict[str, int]
    """The same, in the classes `low`, `normal` and `high`."""
    queue_limit: int | None
    """How many may wait; `None`: any number."""
    oldest_wait: float
    """Seconds for which the oldest one has waited; 0.0 when none waits."""
    running: int
    """Tasks running."""
    overdue: int
    """Tasks that run past their time limit."""
    busy_share: float
    """The share of the last minute in which the workers ran tasks, from 0 to 1."""
    creation_failing_for: float
    """Seconds since `on_create` failed first with no success after it; 0.0 when it works."""
    accepted: int
    """Tasks accepted since the start of the runner."""
    completed: int
    """Tasks completed since then."""
    failed: int
    """Tasks failed since then."""
    timed_out: int
    """Tasks timed out since then, waiting or running.

    What was accepted is completed, failed, timed out, cancelled or dropped, or has not ended.
    """
    cancelled: int
    """Tasks cancelled since then, before they started."""
    dropped: int
    """Tasks dropped since then, which never ran."""
    refused: int
    """Tasks refused since then."""
    retried: int
    """Attempts made again since then."""
    rates: Rates
    """Events per second over the last 5 seconds."""
    error_share: float | None
    """The share of tasks that failed or timed out among those that ended in the last minute.

    From 0 to 1; those cancelled or dropped are not among them. `None`: none ended.
    """
    wait: Quantiles | None
    """Times in the queue in the last minute; `None` when no task began."""
    wait_by_priority: dict[str, Quantiles | None]
    """The same, in the classes `low`, `normal` and `high`."""
    execution: Quantiles | None
    """Times in task functions in the last minute; `None` when none ended."""
    attach_share: float
    """The share that waiting for the interpreter had in the time of the workers with tasks.

    From 0 to 1, over the last minute; of attempts that have ended.
    """
    findings: tuple[FoundView, ...]
    """What is not well, worst first; at most 20."""
    workers: tuple[WorkerView, ...]
    """The workers in the order of their start.

    Where there are more than 100, those that matter most: overdue, then busy for longest, then
    without a resource.
    """
    workers_left_out: int
    """How many there are beside these."""
    worker_states: dict[str, int]
    """Workers by state, all of them."""
    tasks: tuple[TaskView, ...]
    """The 20 names whose functions took most time in all, longest first."""
    tasks_left_out: int
    """How many names there are beside these, `other` being one."""
    errors: tuple[CountView, ...]
    """The 20 most frequent types of errors of failed tasks."""
    errors_left_out: int
    """How many types there are beside these."""
    replaced: tuple[CountView, ...]
    """Resources given up for another, by each reason."""
    series: tuple[Point, ...]
    """The last 5 minutes, oldest first: one point for each second in which somebody looked."""
