"""Kinds of tasks: functions with their options, pickled once and known to actors by a number."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from itertools import count
from types import MethodType
from typing import TYPE_CHECKING, Any

from tasker import _tasker
from tasker._texts import plain
from tasker.ray._pickling import dumps, pack_function
from tasker.ray._without_resource import WithoutResource

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasker._options import Options

MOST_KINDS = 1024
"""How many are kept, here and in each actor, those that came last; others are sent again."""


@dataclass(slots=True, eq=False)
class Kind:
    """A function with the options that an actor has to know."""

    number: int
    fn: Callable[..., Any]
    name: str
    packed: bytes


class Kinds:
    """Those of one runner. For any thread."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._known: OrderedDict[Any, Kind] = OrderedDict()
        # Destructors submit tasks, even in the middle of a submit.
        self._lock = threading.RLock()

    def get(self, fn: Callable[..., Any], options: Options, *, takes_resource: bool = True) -> Kind:
        """Finds or makes the kind of a task.

        Args:
            fn: The function.
            options: Of the task.
            takes_resource: Whether it is called with the resource.

        Raises:
            TypeError: *fn* can be no task.
            TaskNotPicklable: *fn* cannot be sent to an actor.
        """
        what = (options.priority, options.once, options.name, options.retry)
        key = (_identity(fn), takes_resource, *what)
        try:
            # One step of the dictionary each, so it needs no lock.
            kind = self._known.get(key)
        except TypeError:
            return self._make(fn, options, takes_resource)  # a retry with a judge that has no hash
        if kind is not None:
            return kind
        kind = self._make(fn, options, takes_resource)
        with self._lock:
            self._known[key] = kind
            # It goes when the lock is free: what it holds may run code as it goes.
            oldest = self._known.popitem(last=False) if len(self._known) > MOST_KINDS else None
        del oldest
        return kind

    def _make(self, fn: Callable[..., Any], options: Options, takes_resource: bool) -> Kind:
        _tasker._check_task(fn)
        name = plain(options.name) if options.name is not None else _tasker._task_name(fn)
        if not takes_resource:
            fn = WithoutResource(fn)
        packed = pack_function(name, fn)
        what = dumps((packed, name, options.priority, options.once, options.retry))
        return Kind(next(self._numbers), fn, name, what)


def _identity(fn: Callable[..., Any]) -> object:
    """What tells a function from others as long as it lives; those that are equal may differ."""
    # A method is another object each time that it is looked up.
    return (id(fn.__self__), id(fn.__func__)) if isinstance(fn, MethodType) else id(fn)
