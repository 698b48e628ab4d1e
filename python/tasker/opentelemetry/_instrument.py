"""`instrument`, and what takes it back: which runners are observed, by whom."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from opentelemetry import metrics, trace

from tasker import _registry, _tasker
from tasker._checks import check_runners, check_type, wrong
from tasker._runner import Runner
from tasker.opentelemetry._attempts import AttemptObserver
from tasker.opentelemetry._instruments import INSTRUMENTS
from tasker.opentelemetry._names import SCOPE
from tasker.opentelemetry._reading import Collection
from tasker.opentelemetry._runners import all_runners, can_be_observed
from tasker.opentelemetry._times import Times

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

_lock = threading.Lock()
"""For what follows; held for a few instructions, and in no callback of a collection."""
_active: list[Instrumentation] = []
_shown_by: weakref.WeakKeyDictionary[MeterProvider, list[Instrumentation]]
_shown_by = weakref.WeakKeyDictionary()
"""The instrumentations whose runners the instruments of a provider show.

Made once for each provider: the API has no call that takes an observable instrument back, and one
that is made again keeps the callbacks of the first.
"""
_global: list[Instrumentation] | None = None
"""Those of the global provider, which is another object before an application sets it."""


def _free_lock() -> None:
    """Gives a forked child a lock of its own: the thread that holds the other may not be there."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_lock)


class Instrumentation:
    """What `instrument` began, until `uninstrument` or the end of its `with` block.

    It does not keep its runners alive, and an end of it does not end them. May be used from any
    thread.
    """

    def __init__(
        self,
        chosen: tuple[Runner[Any], ...],
        as_connection_pool: bool,
        tracer: trace.Tracer | None,
        each: bool,
        record_exceptions: bool,
        times: Times | None,
    ) -> None:
        """Made by `instrument` alone."""
        self._chosen = [weakref.ref(runner) for runner in chosen] or None
        self._is_pool = as_connection_pool
        self._tracer = tracer
        self._each = each
        self._record_exceptions = record_exceptions
        self._times = times

    def uninstrument(self) -> None:
        """Shows and records nothing more of its runners; may be called again.

        Spans of attempts that run go on to their ends.
        """
        with _lock:
            # First: a `with` statement does not call again after a Ctrl-C, and another instance
            # may begin.
            is_first = self in _active
            if is_first:
                _active.remove(self)
            for shown in [*_shown_by.values(), _global or []]:
                if self in shown:
                    shown.remove(self)
        if self._stands_around():
            if self._chosen is None:
                _registry.unwatch(self._observe)
            # By a later call another instance may stand around them.
            for runner in self._runners() if is_first else ():
                runner._observe(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.uninstrument()

    def _runners(self) -> Iterable[Runner[Any]]:
        if self._chosen is None:
            return all_runners()
        found = (reference() for reference in self._chosen)
        return [runner for runner in found if runner is not None]

    def _stands_around(self) -> bool:
        return self._tracer is not None or self._times is not None

    def _begin(self) -> None:
        if self._stands_around():
            if self._chosen is None:
                _registry.watch(self._observe)
            for runner in self._runners():
                self._observe(runner)

    def _observe(self, runner: Runner[Any]) -> None:
        if not can_be_observed(runner):
            return
        # Without a copy of the submitter's context there is no parent, and so no span.
        tracer = self._tracer if runner.config.copy_contextvars else None
        observer = AttemptObserver(
            runner.name, tracer, self._each, self._record_exceptions, self._times
        )
        runner._observe(observer)
        if self not in _active:
            # Taken back meanwhile, by a thread that did not see this runner yet.
            runner._observe(None)


def instrument(
    *runners: Runner[Any],
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    spans: bool | Literal["each"] = False,
    record_times: bool = False,
    record_exceptions: bool = False,
    as_connection_pool: bool = False,
) -> Instrumentation:
    """Shows runners to OpenTelemetry: metrics, and spans where asked for.

    Metrics are read when they are collected, one snapshot of each runner for all of them, and cost
    nothing else. A runner that has stopped is not shown, nor is one of a parent process.

    A span of an attempt is the child of the span that was current where the task was submitted, and
    current while the function runs. Without one that is recorded there is no span. A `map`, `amap`
    or `submit_many` has one span for the whole, with links to other spans that were current where
    its items were queued. Tasks that run in no copy of their submitter's context have none: those
    of `Config(copy_contextvars=False)`.

    May be called from any thread, before or after the SDK is set up.

    Args:
        *runners: Which. None: all that there are and will be in this process.
        meter_provider: `None`: the global one.
        tracer_provider: `None`: the global one.
        spans: Whether attempts have spans; `"each"`: each item of a `map`, `amap` or `submit_many`
            too, in place of one for the whole.
        record_times: Whether each attempt is recorded in histograms of waiting and running. With
            the SDK that takes far longer than a short task; `exporting` costs an attempt nothing.
        record_exceptions: Whether spans have events with the exceptions of tasks, messages and
            tracebacks included. These may hold data.
        as_connection_pool: Whether runners are also shown by the names of the semantic convention
            for pools of database connections.

    Returns:
        What takes it back.

    Raises:
        ConfigError: One of *runners* is no `Runner`, or an option has a wrong type or value.
        ValueError: A runner is instrumented already.

    Example:
        >>> from tasker import Config, Runner
        >>> from tasker.opentelemetry import instrument
        >>> with Runner(Config(on_create=dict, worker_count=1)) as runner, instrument(runner):
        ...     runner.queue_task(lambda cache: len(cache))
        0
    """
    check_runners(runners)
    if spans != "each" and type(spans) is not bool:
        raise wrong("spans", "a bool or 'each'", spans)
    check_type("record_times", record_times, bool)
    check_type("record_exceptions", record_exceptions, bool)
    check_type("as_connection_pool", as_connection_pool, bool)
    meters = metrics.get_meter_provider() if meter_provider is None else meter_provider
    meter = meters.get_meter(SCOPE, _tasker.__version__)
    instrumentation = Instrumentation(
        runners,
        as_connection_pool,
        trace.get_tracer(SCOPE, _tasker.__version__, tracer_provider) if spans else None,
        spans == "each",
        record_exceptions,
        Times(meter, as_connection_pool) if record_times else None,
    )
    try:
        with _lock:
            _refuse_twice(instrumentation)
            _active.append(instrumentation)
            shown = _instruments_of(meters, meter)
            shown.append(instrumentation)
        instrumentation._begin()
    except BaseException:
        # Of the provider, or Ctrl-C: the caller gets no instance to take back what has begun.
        instrumentation.uninstrument()
        raise
    return instrumentation


def _refuse_twice(new: Instrumentation) -> None:
    wanted = set(new._runners())
    for active in _active:
        if active._chosen is None and new._chosen is None:
            message = "all runners are instrumented already: uninstrument() first"
            raise ValueError(message)
        for runner in wanted.intersection(active._runners()):
            message = f"runner {runner.name!r} is instrumented already: uninstrument() first"
            raise ValueError(message)


def _instruments_of(meters: MeterProvider, meter: metrics.Meter) -> list[Instrumentation]:
    """Gives those whose runners a provider's instruments show, and makes these if need be."""
    global _global  # noqa: PLW0603
    is_global = meters is metrics.get_meter_provider()
    shown = _shown_by.get(meters, _global if is_global else None)
    if shown is None:
        shown = []
        collection = Collection(partial(_shown, shown))
        for each in INSTRUMENTS:
            each.register(meter, collection)
    _shown_by[meters] = shown
    if is_global:
        _global = shown
    return shown


def _shown(instrumentations: list[Instrumentation]) -> Iterator[tuple[Runner[Any], bool]]:
    for each in tuple(instrumentations):
        for runner in each._runners():
            yield runner, each._is_pool
