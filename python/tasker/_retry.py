"""When a task is tried again that failed while its resource was fine: `Retry`."""

from __future__ import annotations

import contextlib
import math
import sys
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from tasker._checks import check_count, check_hook, check_seconds, to_seconds, wrong
from tasker._public import publish
from tasker._tasker import _once
from tasker._texts import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from dataclasses import dataclass
    from types import TracebackType
else:
    from tasker._lazy_dataclass import dataclass

RUNNING_BODY = 0x20 | 0x80 | 0x200
"""`CO_GENERATOR`, `CO_COROUTINE` and `CO_ASYNC_GENERATOR` of `inspect`, which imports much."""
MAX_DOUBLINGS = 60


class Unset(Enum):
    """Stands for an option that is not given, where `None` is one.

    For functions that hand an option on: `runner.options(retry=Unset.UNSET)` is
    `runner.options()`.
    """

    UNSET = "as configured"


@_once
@dataclass(frozen=True, kw_only=True)
class Retry:
    """Which errors have a task tried again, how often, and after which pauses.

    Given with `Config(retry=...)` for all tasks of a runner, or with `Runner.options(retry=...)`
    for those of one view. It never changes, and may be shared by threads and runners. A task
    pauses without a worker and without a resource, then waits at the end of its priority. Asked
    about an `Exception` alone, and after `is_broken`: a task whose resource went bad is tried at
    once on a fresh one, at no cost here. See the how-to *Trying again later*.

    Attributes:
        on: An exception class or a tuple of them; or a function of the error that gives `False`
            (the task ends with its error), `True` (the usual pause) or the pause in seconds, as a
            server's `Retry-After` has it, longer than *max_wait* too, finite and at least 0. Called
            on the thread that ran the task. An error it raises, or another answer, is logged, and
            ends the task with its own error.
        attempts: How often a task is tried, the first time included. At least 1.
        wait: Bound of the first pause in seconds; it doubles with each failure. At least 0.
        max_wait: Bound of that bound, in seconds. At least 0. A pause is drawn evenly between 0 and
            its bound.

    Raises:
        ConfigError: A field has a wrong type or value. The text names the field and what was given.

    Example:
        >>> from tasker import Config, Retry, Runner
        >>> refusals = [ConnectionRefusedError("busy")]
        >>> def fetch(cache):
        ...     if refusals:
        ...         raise refusals.pop()
        ...     return "page"
        >>> patient = Retry(on=ConnectionError, attempts=5, wait=0.01)
        >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
        ...     runner.options(retry=patient).queue_task(fetch)
        'page'
    """

    on: type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool | float]
    attempts: int = 3
    wait: float = 0.1
    max_wait: float = 30.0

    def __post_init__(self) -> None:
        put = partial(object.__setattr__, self)
        _check_on(self.on)
        put("attempts", check_count("attempts", self.attempts, least=1))
        for name in ("wait", "max_wait"):
            seconds = check_seconds(name, getattr(self, name), zero=True)
            if seconds == math.inf:
                raise wrong(name, "a finite number of seconds", seconds)
            put(name, seconds)

    def _pause(self, error: Exception, failures: int) -> float | None:
        """How long a task pauses that has failed so often, last with *error*; `None`: it ends."""
        if failures >= self.attempts:
            return None
        answer = self._asked(error)
        if answer is False:
            return None
        _let_go_of_variables(error)
        if answer is not True:
            return answer
        return _draw(min(self.max_wait, self.wait * 2.0 ** min(failures - 1, MAX_DOUBLINGS)))

    def _asked(self, error: Exception) -> bool | float:
        if isinstance(self.on, type | tuple):
            return isinstance(error, self.on)
        answer = self.on(error)
        if answer is True or answer is False:
            return answer
        seconds = to_seconds(answer)
        if seconds is None or not 0 <= seconds < math.inf:
            message = f"must give False, True or the seconds to pause, gave {shown(answer)}"
            raise TypeError(message)
        return seconds


def check_retry(name: str, value: object) -> None:
    """Raises `ConfigError` unless *value* is a `Retry`, or `None`."""
    if not (value is None or issubclass(type(value), Retry)):
        raise wrong(name, "a Retry or None, such as Retry(on=ConnectionError)", value)


def _draw(bound: float) -> float:
    """Draws a pause between 0 and its bound.

    Not with the functions of `random`: pauses must not move the numbers of a program that has
    seeded them.
    """
    # Not at the top: it imports much, and few programs pause.
    from random import SystemRandom  # noqa: PLC0415

    return SystemRandom().uniform(0.0, bound)


def _check_on(on: object) -> None:
    if not isinstance(on, type | tuple):
        if not callable(on):
            raise wrong("on", "an exception class, a tuple of them, or a function", on)
        return check_hook("on", on, "error")
    kinds: tuple[Any, ...] = on if isinstance(on, tuple) else (on,)
    if not kinds:
        raise wrong("on", "a tuple with at least one exception class", on)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise wrong("on", "an exception class or a tuple of them", kind)
        if not issubclass(kind, Exception):
            must_be = "of subclasses of Exception, as nothing else is tried again"
            raise wrong("on", must_be, kind)
    return None


def _let_go_of_variables(error: BaseException) -> None:
    """Empties the frames of a task that pauses, whose variables keep its resource alive.

    A generator that is suspended is left alone: to clear its frame is to close it.
    """
    for traceback in _tracebacks(error):
        if not traceback.tb_frame.f_code.co_flags & RUNNING_BODY:
            with contextlib.suppress(RuntimeError):  # it runs: it is the function that asks
                traceback.tb_frame.clear()


def _tracebacks(error: BaseException) -> Iterator[TracebackType]:
    seen: set[int] = set()
    links: list[BaseException | None] = [error]
    while links:
        link = links.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        links += [link.__cause__, link.__context__]
        traceback = link.__traceback__
        # What is beyond the deepest stack is of an earlier raise of the same exception, at the end
        # of which it was emptied.
        for _ in range(sys.getrecursionlimit()):
            if traceback is None:
                break
            yield traceback
            traceback = traceback.tb_next


publish(globals(), ["Retry", "Unset"])
