"""Spans and times of attempts: what stands around the function of each."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import TYPE_CHECKING, TypeVar

from opentelemetry import context, trace

from tasker._texts import plain
from tasker.opentelemetry._names import (
    ATTEMPT,
    GENERATION,
    PRIORITIES,
    PRIORITY,
    RUNNER,
    TASK_WAIT,
)
from tasker.opentelemetry._spans import end_span, is_recorded
from tasker.opentelemetry._whole import Whole, outside_whole, stream_whole, whole_around

if TYPE_CHECKING:
    from contextvars import Token

    from tasker._asyncio import Promise
    from tasker._observer import EndAttempt, EndMany, Item
    from tasker._results import Results
    from tasker.opentelemetry._times import Times

T = TypeVar("T")


class AttemptObserver:
    """Stands around the attempts of a runner, as `tasker._observer.Observer` says.

    Args:
        runner: Its name.
        tracer: Makes spans; `None`: there are none.
        each: Whether items of a `map` have spans, in place of the whole.
        record_exceptions: Whether spans tell of exceptions.
        times: Where times are recorded, if they are.
    """

    def __init__(
        self,
        runner: str,
        tracer: trace.Tracer | None,
        each: bool,
        record_exceptions: bool,
        times: Times | None,
    ) -> None:
        self._runner = runner
        self._tracer = tracer
        self._each = each
        self._record_exceptions = record_exceptions
        self._times = times

    def begin(
        self,
        function: Callable[..., object],
        name: str,
        priority: int,
        attempt: int,
        waited: float,
        generation: int,
        own_context: bool,
    ) -> EndAttempt | None:
        """Begins the span of an attempt, if it has one, and the measurement of its time."""
        end: EndAttempt | None = None
        if self._tracer is not None and own_context:
            if whole_around(self._runner):
                end = partial(_leave, context.attach(outside_whole()))
            elif is_recorded(trace.get_current_span()):
                attributes: dict[str, str | int | float] = {
                    RUNNER: self._runner,
                    ATTEMPT: attempt,
                    PRIORITY: PRIORITIES[priority],
                    TASK_WAIT: waited,
                    GENERATION: generation,
                    "thread.name": threading.current_thread().name,
                    "thread.id": threading.get_ident(),
                    **_code(function),
                }
                span = self._tracer.start_span(name, attributes=attributes)
                end = partial(self._end_span, span, context.attach(trace.set_span_in_context(span)))
        if self._times is None:
            return end
        return partial(self._record, end, PRIORITIES[priority], waited, time.perf_counter())

    def _end_span(
        self,
        span: trace.Span,
        token: Token[context.Context],
        error: BaseException | None,
        late: bool,
    ) -> None:
        context.detach(token)
        end_span(span, error, late=late, record_exceptions=self._record_exceptions)

    def _record(
        self,
        end: EndAttempt | None,
        priority: str,
        waited: float,
        began: float,
        error: BaseException | None,
        late: bool,
    ) -> None:
        ran = time.perf_counter() - began
        try:
            if self._times is not None:
                # While the span is current, so that it may be an example of the figure.
                self._times.record(self._runner, priority, waited, ran)
        finally:
            if end is not None:
                end(error, late)

    def begin_many(self, name: str) -> EndMany | None:
        """Begins the span of a `submit_many`, which ends with the last of its tasks."""
        whole = self._begin_whole(name)
        return None if whole is None else whole.submit_many()

    def map(self, name: str, begin: Callable[[], Results[T]]) -> Results[T]:
        """Begins the span of a `map`, which ends with its iteration."""
        whole = self._begin_whole(name)
        return begin() if whole is None else whole.map(begin)

    def amap(
        self,
        name: str,
        asubmit: Callable[[Item], Promise[T]],
        begin: Callable[[Callable[[Item], Promise[T]]], AsyncGenerator[T, None]],
    ) -> AsyncGenerator[T, None]:
        """Begins the span of an `amap`, which ends with its iteration."""
        if self._tracer is None or self._each:
            return begin(asubmit)
        return stream_whole(partial(self._begin_whole, name), asubmit, begin)

    def _begin_whole(self, name: str) -> Whole | None:
        if self._tracer is None or self._each or not is_recorded(trace.get_current_span()):
            return None
        span = self._tracer.start_span(name, attributes={RUNNER: self._runner})
        return Whole(span, self._runner, self._record_exceptions)


def _leave(token: Token[context.Context], _error: BaseException | None, _late: bool) -> None:
    context.detach(token)


def _code(function: object) -> dict[str, str]:
    """Says where the code of a task is, by the convention; nothing of what is no function."""
    while isinstance(function, partial):
        function = function.func
    if not isinstance(function, FunctionType | BuiltinFunctionType | MethodType):
        return {}
    return {"code.function.name": plain(f"{function.__module__}.{function.__qualname__}")}
