"""What a batcher is made with, of every kind of runner."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from tasker._checks import (
    check_batch_function,
    check_callable,
    check_count,
    check_seconds,
    check_type,
)
from tasker._errors import ConfigError
from tasker._options import Options
from tasker._tasker import _once


# Compared by identity: two batchers that were made alike are two.
@_once
@dataclass(frozen=True, slots=True, eq=False)
class BatchSettings:
    """The settings of a batcher."""

    fn: Callable[..., Any]
    max_size: int
    max_wait: float
    key: Callable[[Any], Hashable] | None
    split_failed: bool
    adopted: WeakKeyDictionary[object, Any] = field(default_factory=WeakKeyDictionary, repr=False)
    """What those of its items share that were submitted to other runners, for each of these."""


def check_batcher(
    fn: Callable[..., Any],
    max_size: int,
    max_wait: float,
    key: Callable[[Any], Hashable] | None,
    split_failed: bool,
    options: Options,
) -> BatchSettings:
    """Checks the settings of a batcher.

    Args:
        fn: What is called with a resource and a list of items.
        max_size: The most items of a call.
        max_wait: The seconds that an item waits for others at most.
        key: Gives what the items of a call have in common, or is `None`.
        split_failed: Whether items of a call that failed are run again one by one.
        options: Those of the view, which its items have.

    Returns:
        The settings, as they are used from then on.

    Raises:
        TypeError: *fn* cannot be called, or its call would not run it.
        ConfigError: Another setting has a wrong type or value.
    """
    check_batch_function(fn)
    max_size = check_count("max_size", max_size, least=1)
    max_wait = check_seconds("max_wait", max_wait, zero=True)
    check_callable("key", key, optional=True)
    check_type("split_failed", split_failed, bool)
    if options.key is not None:
        message = "a view with key has no batcher: batcher(key=...) says which items go together"
        raise ConfigError(message)
    if split_failed and options.once:
        message = "split_failed=True enters the function twice, and a view with once=True must not"
        raise ConfigError(message)
    return BatchSettings(fn, max_size, max_wait, key, split_failed)
