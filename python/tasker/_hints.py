"""What people write who come from other pools, and what it is called here."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from tasker._texts import plain, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

T = TypeVar("T")

# By the names of the Go library, psycopg_pool, SQLAlchemy, HikariCP, multiprocessing and the
# standard executors.
FIELD_SYNONYMS = {
    "backoff": "retry",
    "check": "validate",
    "cleanup": "on_destroy",
    "close": "on_destroy",
    "collector": "on_event",
    "connect": "on_create",
    "create": "on_create",
    "destroy": "on_destroy",
    "factory": "on_create",
    "finalizer": "on_destroy",
    "health_check": "is_broken",
    "init": "on_create",
    "initializer": "on_create",
    "max_age": "max_resource_age",
    "max_idle": "idle_timeout",
    "max_lifetime": "max_resource_age",
    "max_size": "max_worker_count",
    "max_tasks_per_child": "max_tasks_per_resource",
    "max_waiting": "max_queue_size",
    "max_workers": "worker_count",
    "maxsize": "max_queue_size",
    "maxtasksperchild": "max_tasks_per_resource",
    "min_size": "worker_count",
    "num_workers": "worker_count",
    "on_close": "on_destroy",
    "ping": "validate",
    "pool_recycle": "max_resource_age",
    "pool_size": "worker_count",
    "processes": "worker_count",
    "queue_size": "max_queue_size",
    "recycle": "max_resource_age",
    "retries": "max_retries",
    "size": "worker_count",
    "teardown": "on_destroy",
    "thread_name_prefix": "name",
    "threads": "worker_count",
    "timeout": "task_timeout",
    "ttl": "max_resource_age",
    "workers": "worker_count",
}
"""Fields of a config by the names that others have for them."""


def field_for(name: str, fields: Iterable[str]) -> str | None:
    """Finds the field that is meant by a name which is none; `None` when there is no telling."""
    known = list(fields)
    if name in known:
        return name
    if FIELD_SYNONYMS.get(name) in known:
        return FIELD_SYNONYMS[name]
    return _close(name, known)


def _close(name: str, known: Sequence[str]) -> str | None:
    """Finds the known name that is most like one; `None` when none is."""
    # Not at the top: it is for errors alone, and imports much.
    import difflib  # noqa: PLC0415

    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def hinting(config: T) -> T:
    """Decorates a dataclass: its `__init__` says which field is meant by a keyword that is none."""
    made: Any = config
    init, known = made.__init__, frozenset(made.__annotations__)

    @wraps(init)
    def __init__(self: object, /, *args: Any, **given: Any) -> None:
        if args:
            message = f"Config() takes no positional arguments, got {shown(args[0])}"
            raise TypeError(f"{message}; write Config(on_create=..., worker_count=...)")
        for name in given:
            if name not in known:
                message = f"Config() got an unexpected keyword argument '{plain(name)}'"
                if meant := field_for(name, known):
                    message += f"; did you mean '{meant}'?"
                raise TypeError(message)
        init(self, **given)

    made.__init__ = __init__
    return config


def refuse_settings(call: str, names: Iterable[str], fields: Iterable[str]) -> NoReturn:
    """Raises the error for a runner that was given its settings one by one.

    Args:
        call: What was called: `Runner` or `Runner.start`.
        names: The keywords.
        fields: What a config has.

    Raises:
        TypeError: Always.
    """
    name = next(iter(names))
    message = f"{call}() got an unexpected keyword argument '{plain(name)}'"
    if meant := field_for(name, fields):
        message += f"; did you mean {call}(Config({meant}=...))?"
    raise TypeError(message)


def refuse_option(name: str, options: Sequence[str]) -> NoReturn:
    """Raises the error for an option that is none.

    Args:
        name: The keyword.
        options: Those that there are.

    Raises:
        TypeError: Always.
    """
    message = f"options() got an unexpected keyword argument '{plain(name)}'"
    if meant := _close(name, options):
        message += f"; did you mean '{meant}'?"
    else:
        message += f"; there are {', '.join(options[:-1])} and {options[-1]}"
    raise TypeError(message)


def refuse_positions(given: int) -> NoReturn:
    """Raises the error for a runner that was given more than its config by position.

    Raises:
        TypeError: Always.
    """
    message = f"Runner() takes one positional argument, its Config, got {given}"
    raise TypeError(f"{message}; a limit for the start is given as Runner(config, timeout=...)")


class AttributeHint:
    """An attribute that others have and this class has not: it says what is meant.

    `hasattr` finds nothing. It is no `__getattr__`, with which the interpreter would find every
    other attribute more slowly.
    """

    def __init__(self, meant: str) -> None:
        # `help` looks the class through, and lists these among the methods.
        self.__doc__ = f"There is no such method here: `{meant}` is what is meant."
        self._meant = meant
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> NoReturn:
        what = (
            f"type object '{owner.__name__}'" if instance is None else f"'{owner.__name__}' object"
        )
        message = f"{what} has no attribute '{self._name}'; did you mean '{self._meant}'?"
        raise AttributeError(message, name=self._name)
