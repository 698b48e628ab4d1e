"""What users give is checked here: one function for each kind of value, for all settings and calls.

A check gives the value as it is used from then on: an exact `int`, `float` or `str`, so that what
was checked is what counts, whatever the class of the value says of itself.
"""

from __future__ import annotations

import logging
import math
import operator
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from tasker._errors import ConfigError, RunnerStopped
from tasker._priority import Priority
from tasker._tasker import Runner, _check_task, _unrun
from tasker._texts import shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

MAX_COUNT = 2**31 - 1


def wrong(name: str, must_be: str, value: object) -> ConfigError:
    """Makes the error for a setting that is not what it must be."""
    return ConfigError(f"{name} must be {must_be}, got {shown(value)}")


def check_callable(name: str, value: object, *, optional: bool = False) -> None:
    """Raises `ConfigError` unless *value* can be called, and a call of it runs its body."""
    if optional and value is None:
        return
    if not callable(value):
        raise wrong(name, f"callable{_or_none(optional)}", value)
    if kind := _unrun(value):
        raise ConfigError(f"{name} must be a plain function, got {kind}: {shown(value)}")


def check_batch_function(fn: object) -> None:
    """Raises `TypeError` unless *fn* can be called, and a call of it runs its body.

    That of a generator function runs as its results are read.
    """
    if not callable(fn) or _unrun(fn) != "a generator function":
        _check_task(fn)


def check_key(value: object) -> None:
    """Raises `ConfigError` unless *value* is `None`, or a function that can be asked for a key."""
    if value is not None and not callable(value):
        text = shown(value)
        message = f"key must be a function of the arguments of the task or None, got {text}"
        raise ConfigError(f"{message}; the same for all: key=lambda *args, **kwargs: {text}")
    check_callable("key", value, optional=True)


def check_hook(name: str, value: object, *arguments: str) -> None:
    """Raises `ConfigError` unless *value* is `None`, or can be called with so many *arguments*.

    One that takes others would first fail where its runner calls it, late and in the log.
    """
    check_callable(name, value, optional=True)
    if not takes(value, *arguments):
        raise wrong(name, f"callable with ({', '.join(arguments)})", value)


def check_health_hooks(is_broken: object, check_health: object) -> None:
    """Raises `ConfigError` unless what is asked about errors can be called as it will be."""
    check_callable("check_health", check_health, optional=True)
    if is_broken is not None and check_health is not None:
        raise ConfigError("is_broken and check_health exclude each other: give is_broken alone")
    check_hook("is_broken", is_broken, "resource", "error")
    if not takes(check_health, "error"):
        must_be = "callable with (error) alone (is_broken is called with (resource, error))"
        raise wrong("check_health", must_be, check_health)


def takes(hook: object, *arguments: object) -> bool:
    """Whether *hook* can be called with these arguments, as far as its signature tells."""
    if not callable(hook):
        return True
    # Not at the top: it imports much, and a config without hooks needs none of it.
    import inspect  # noqa: PLC0415

    try:
        signature = inspect.signature(hook)
    except Exception:  # many callables have none, and annotations may not evaluate
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def check_type(name: str, value: object, kind: type, *, optional: bool = False) -> None:
    """Raises `ConfigError` unless *value* is a *kind*."""
    if not (issubclass(type(value), kind) or (optional and value is None)):
        raise wrong(name, f"a {kind.__name__}{_or_none(optional)}", value)


def check_runners(runners: Iterable[object]) -> None:
    """Raises `ConfigError` unless all of *runners* are some."""
    for place, runner in enumerate(runners):
        check_type(f"runners[{place}]", runner, Runner)


def check_watchable(runners: Iterable[object]) -> None:
    """Raises `ConfigError` unless all of *runners*, as a viewer is given them, are some.

    Such as run their tasks elsewhere tell of themselves in the same way.
    """
    for place, runner in enumerate(runners):
        if not hasattr(type(runner), "_histograms"):
            check_type(f"runners[{place}]", runner, Runner)


def check_logger(name: str, value: object) -> None:
    """Raises `ConfigError` unless *value* is a logger, or a test's double of one, or `None`."""
    try:
        is_logger = isinstance(value, logging.Logger)
    except Exception:
        # Its `__class__` raises.
        is_logger = False
    if not is_logger and value is not None:
        raise wrong(name, "a Logger or None", value)


def below_base(worker_count: int, max_worker_count: int) -> ConfigError:
    """Makes the error for a maximum that leaves no room for the base workers."""
    return wrong("max_worker_count", f"at least worker_count ({worker_count})", max_worker_count)


def cannot_resize() -> RunnerStopped:
    """Makes the error for a runner that is closing, which gets no other number of workers."""
    return RunnerStopped("cannot resize: the runner is stopping or has stopped")


def check_sizes(worker_count: object, max_worker_count: object) -> tuple[int | None, int | None]:
    """Takes what `resize` is given.

    Raises:
        ConfigError: One of them is no number of workers.
        TypeError: Neither is given.
    """
    if worker_count is None and max_worker_count is None:
        message = "resize() needs worker_count=, max_worker_count= or both"
        raise TypeError(message)
    return (
        check_count("worker_count", worker_count, least=1, optional=True),
        check_count("max_worker_count", max_worker_count, least=1, optional=True),
    )


@overload
def check_count(
    name: str, value: object, *, least: int, optional: Literal[False] = False
) -> int: ...
@overload
def check_count(name: str, value: object, *, least: int, optional: Literal[True]) -> int | None: ...
def check_count(name: str, value: Any, *, least: int, optional: bool = False) -> int | None:
    """Takes a number of things: an int from *least* to `MAX_COUNT`; no bool is.

    Raises:
        ConfigError: *value* is something else.
    """
    if optional and value is None:
        return None
    try:
        count = None if _is_bool(value) else operator.index(value)
    except Exception:
        # Its class has no whole numbers, or cannot say which one this is.
        count = None
    if count is None:
        raise wrong(name, f"an int{_or_none(optional)}", value)
    if count < least:
        raise wrong(name, f"at least {least}", value)
    if count > MAX_COUNT:
        raise wrong(name, f"at most {MAX_COUNT}", value)
    return count


def check_seconds(name: str, value: object, *, zero: bool = False) -> float:
    """Takes a length of time; infinity, and what is more than a float holds, is for ever.

    Args:
        name: What it is given for.
        value: The seconds.
        zero: Whether it may be 0.

    Raises:
        ConfigError: *value* is no number, or too small.
    """
    seconds = to_seconds(value)
    if seconds is None:
        raise wrong(name, "a number of seconds", value)
    # Put so that NaN, for which every comparison is false, is refused.
    if not (seconds >= 0 if zero else seconds > 0):
        raise wrong(name, "at least 0" if zero else "more than 0", value)
    # A field that was given as a plain int stays one.
    return value if type(value) is int and seconds != math.inf else seconds


def check_limit(name: str, value: object) -> float | None:
    """Takes a time limit that a setting gives; `None` and infinity are none.

    Raises:
        ConfigError: *value* is no number, or not more than 0.
    """
    if value is None:
        return None
    if to_seconds(value) is None:
        raise wrong(name, "a number of seconds or None", value)
    seconds = check_seconds(name, value)
    return None if seconds == math.inf else seconds


def check_wait(name: str, value: object) -> float | None:
    """Takes how long something may last, from 0 on; `None` and infinity are for ever.

    Raises:
        ConfigError: *value* is no number, or less than 0.
    """
    if value is None:
        return None
    if to_seconds(value) is None:
        raise wrong(name, "a number of seconds or None", value)
    seconds = check_seconds(name, value, zero=True)
    return None if seconds == math.inf else seconds


def check_deadline(name: str, value: object) -> float | None:
    """Takes a time limit that begins with the call; `None` and infinity are none, and stay apart.

    Less than 0 is what was left of a deadline that has passed already: over at once, like 0.

    Raises:
        ConfigError: *value* is no number.
    """
    if value is None:
        return None
    seconds = to_seconds(value)
    if seconds is None or math.isnan(seconds):
        raise wrong(name, "a number of seconds or None", value)
    return max(seconds, 0.0)


def standard_deadline(value: object) -> float | None:
    """Takes a time limit as the standard futures and executors do, and infinity, which is none.

    They take `True` for a second, and NaN for a deadline that has passed.

    Raises:
        TypeError: *value* is no number.
    """
    if value is None:
        return None
    seconds = to_seconds(int(value) if type(value) is bool else value)
    if seconds is None:
        message = f"timeout must be a number of seconds or None, got {shown(value)}"
        raise TypeError(message)
    # In this order NaN gives 0.
    return max(0.0, seconds)


@overload
def check_name(name: str, value: object, *, optional: Literal[False] = False) -> str: ...
@overload
def check_name(name: str, value: object, *, optional: Literal[True]) -> str | None: ...
def check_name(name: str, value: object, *, optional: bool = False) -> str | None:
    """Takes a string that is not empty, of whole characters.

    Raises:
        ConfigError: *value* is something else.
    """
    if optional and value is None:
        return None
    text = _to_text(value)
    if not text:
        raise wrong(name, f"a non-empty str{_or_none(optional)}", value)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise wrong(name, "without surrogates", value)
    return text


def check_word(name: str, value: object, words: Collection[str]) -> str:
    """Takes one of some words.

    Raises:
        ConfigError: *value* is something else.
    """
    text = _to_text(value)
    if text is None or text not in words:
        raise wrong(name, " or ".join(map(repr, words)), value)
    return text


def check_priority(name: str, value: object) -> Priority:
    """Takes a `Priority`, and no number.

    Raises:
        ConfigError: *value* is something else.
    """
    if type(value) is not Priority:
        raise wrong(name, "a Priority, such as Priority.HIGH", value)
    return value


def to_seconds(value: Any) -> float | None:
    """Gives a number as a float; `None` for what is none.

    Numbers say their value by `__float__` or `__index__`, as those of NumPy, `decimal` and
    `fractions` do. Truth values of theirs do too, and are none.
    """
    if _is_bool(value) or issubclass(type(value), str | bytes | bytearray):
        return None
    try:
        return float(value)
    except OverflowError:
        return _too_large(value)
    except Exception:
        # No number, or one that cannot say which.
        return None


def _too_large(value: Any) -> float | None:
    """Gives the infinity that a number stands for which no float can hold."""
    try:
        return math.inf if value > 0 else -math.inf
    except Exception:
        return None


def _is_bool(value: object) -> bool:
    # NumPy has a class of its own for them: `bool_`, later `bool`.
    return type(value).__name__ in {"bool", "bool_"}


def _to_text(value: object) -> str | None:
    """Gives a string as a `str` and nothing more; `None` for what is none."""
    return str.__str__(cast("str", value)) if issubclass(type(value), str) else None


def _or_none(optional: bool) -> str:
    return " or None" if optional else ""
