"""The span of a whole `map`, `amap` or `submit_many`, in place of one for each item."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, nullcontext
from typing import TYPE_CHECKING, TypeVar

from opentelemetry import context, trace

from tasker._results import Results
from tasker.opentelemetry._spans import end_span, is_recorded

if TYPE_CHECKING:
    from contextvars import Token

    from tasker._asyncio import Promise
    from tasker._observer import EndMany, Item

T = TypeVar("T")

MAX_LINKS = 128
"""As many as the SDK keeps of a span."""
_WHOLE = context.create_key("tasker-whole")
"""What the context of an item has: the whole that it is of."""


class Whole:
    """The span of the items of one call. It is current where items are queued, and so in each.

    Args:
        span: The span, which has begun.
        runner: The name of the runner.
        record_exceptions: Whether the span tells of the exception that ends it.
    """

    def __init__(self, span: trace.Span, runner: str, record_exceptions: bool) -> None:
        self._span = span
        self._runner = runner
        self._record_exceptions = record_exceptions
        self._last = trace.get_current_span()
        self._linked = {self._last.get_span_context().span_id}
        self._process = os.getpid()

    def is_around(self, runner: str) -> bool:
        """Tells whether a task of this runner is an item, with nothing traced in between."""
        return runner == self._runner and trace.get_current_span() is self._span

    def enter(self) -> Token[context.Context]:
        """Makes the span current, for what is queued; and links the one that is, if need be."""
        current = trace.get_current_span()
        if current is not self._last:
            self._last = current
            self._link(current)
        return context.attach(
            context.set_value(_WHOLE, self, trace.set_span_in_context(self._span))
        )

    def _link(self, span: trace.Span) -> None:
        linked = span.get_span_context()
        if (
            len(self._linked) <= MAX_LINKS
            and linked.span_id not in self._linked
            and is_recorded(span)
        ):
            self._linked.add(linked.span_id)
            self._span.add_link(linked)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Does what `enter` does, for a block."""
        token = self.enter()
        try:
            yield
        finally:
            context.detach(token)

    def end(self, error: BaseException | None = None) -> None:
        """Ends the span; more than once is as good. In a forked child it is the parent's to end."""
        if self._span.is_recording() and os.getpid() == self._process:
            end_span(self._span, error, record_exceptions=self._record_exceptions)

    def map(self, begin: Callable[[], Results[T]]) -> Results[T]:
        """Begins a `map`."""
        try:
            with self.entered():
                results = begin()
        except BaseException as error:
            self.end(error)
            raise
        return _WholeResults(self, results)

    def submit_many(self) -> EndMany:
        """Begins a `submit_many`, whose span ends when no task of it is left.

        What has a callback counts as observed, and its error is not logged; so what says that a
        task is over is that its context is gone.
        """
        token = self.enter()
        lifetime = _Lifetime(self)
        inner = context.attach(context.set_value(_LIFETIME, lifetime))
        del lifetime

        def submitted(outcome: object) -> None:
            context.detach(inner)
            context.detach(token)
            if isinstance(outcome, BaseException):
                self.end(outcome)

        return submitted


_LIFETIME = context.create_key("tasker-lifetime")


class _Lifetime:
    """Ends a whole when the last context goes that it is in."""

    def __init__(self, whole: Whole) -> None:
        self._whole = whole

    def __del__(self) -> None:
        self._whole.end()


class _WholeResults(Results[T]):
    """Results that end the span of their map."""

    def __init__(self, whole: Whole, results: Results[T]) -> None:
        self._whole = whole
        self._results = results

    def __next__(self) -> T:
        try:
            with self._whole.entered():
                return next(self._results)
        except StopIteration:
            self._whole.end()
            raise
        except BaseException as error:
            self._whole.end(error)
            raise

    def close(self) -> None:
        self._results.close()
        self._whole.end()

    def __length_hint__(self) -> int:
        return self._results.__length_hint__()

    def __repr__(self) -> str:
        return repr(self._results)

    def __del__(self) -> None:
        self._whole.end()


async def stream_whole(
    begin_whole: Callable[[], Whole | None],
    asubmit: Callable[[Item], Promise[T]],
    begin: Callable[[Callable[[Item], Promise[T]]], AsyncGenerator[T, None]],
) -> AsyncGenerator[T, None]:
    """Runs an `amap` with a span, which begins with the iteration.

    Args:
        begin_whole: Begins the span; gives `None` where there is to be none.
        asubmit: Submits the task for an item.
        begin: Begins the map over what submits.
    """
    whole = begin_whole()

    def within(item: Item) -> Promise[T]:
        with nullcontext() if whole is None else whole.entered():
            return asubmit(item)

    failure: BaseException | None = None
    try:
        # Entered item by item: the caller that iterates sees what a generator sets.
        async with aclosing(begin(within)) as results:
            async for result in results:
                yield result
    except BaseException as error:
        failure = None if isinstance(error, GeneratorExit) else error
        raise
    finally:
        if whole is not None:
            whole.end(failure)
        # The traceback of an error keeps this frame, which must not lead back to the error.
        del failure


def whole_around(runner: str) -> bool:
    """Tells whether this is the context of an item whose whole has a span, with no span inside."""
    whole = context.get_value(_WHOLE)
    return isinstance(whole, Whole) and whole.is_around(runner)


def outside_whole() -> context.Context:
    """Gives the present context for an item: the tasks that it submits are no items."""
    return context.set_value(_WHOLE, None)
