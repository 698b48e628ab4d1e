"""The settings of a runner: one frozen dataclass, checked when it is made.

Annotations are no strings here: a `Config` says that it is of `tasker`, and who evaluates those of
its fields would look for the names there.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from functools import partial, wraps
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    NoReturn,
    Required,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
)

from tasker import _hints
from tasker._checks import (
    below_base,
    check_callable,
    check_count,
    check_health_hooks,
    check_hook,
    check_limit,
    check_logger,
    check_name,
    check_seconds,
    check_type,
    check_wait,
    check_word,
)
from tasker._public import publish
from tasker._retry import Retry, check_retry
from tasker._tasker import Context, TaskEvent, _check_answer, _once
from tasker._texts import shown

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    from tasker._lazy_dataclass import dataclass

R = TypeVar("R")
M = TypeVar("M")
F = TypeVar("F", bound=Callable[..., Any])


# Without slots: with them, up to Python 3.12, `Config[Connection](...)` would raise a TypeError.
@_once
@_hints.hinting
@dataclass(frozen=True, kw_only=True)
class Config(Generic[R]):
    """What a runner is made of: how to make its resources, how many workers, which limits.

    Every field is given by keyword and checked at once. A config never changes, may be shared by
    threads and runners, and is varied with `dataclasses.replace`. `None` stands for the default
    or for none of it, as each field says; 0 means zero. Numbers may be of any class that converts
    to an `int` or, where they are seconds, to a `float`; the field then holds that. A truth value
    and NaN are no numbers. Functions must be plain ones: a call of a coroutine or generator
    function would not run its body.

    Attributes:
        on_create: Makes a resource. Called on the thread that will use it.
        on_destroy: Cleans a resource up: on the thread that made it, exactly once, whichever way
            the worker ends. An error it raises is logged.
        worker_count: Base workers, each with a resource of its own, always alive. At least 1.
        context: Cancelling it stops the runner gracefully. The contexts of tasks are not its
            children: tasks that were accepted finish undisturbed.
        is_broken: Asked with the resource and the error of a failed task whether the resource is
            broken. `True` has it replaced on the same thread and the task retried. When it raises,
            the resource is replaced and the task is not retried. Called where the task ran.
            `None`: no error makes a resource bad.
        check_health: The same question as in the Go library: asked with the error alone, `False`
            says broken. Not with `is_broken`.
        max_worker_count: Hard limit on base and burst workers, those being created and those that
            stand in for overdue ones included. `None`: `worker_count`, so no bursting.
        burst_interval: Seconds between decisions about burst workers, and the wait for a worker
            that they aim at. More than 0. `math.inf`: none is ever made.
        max_retries: How often a task is tried again after its resource went bad, each time on one
            that is known to work since. At least 0.
        retry: When a task is tried again that failed while its resource was fine; see `Retry`. Not
            for tasks of `executor()`. `None`: not at all.
        resource_pool_size: Workers reserved for `run_task`. A number is made at the start;
            `None`: up to `worker_count`, made on first need. 0: none is kept, and temporary ones
            are made for the calls.
        logger: Where failing hooks, changes of state, failed tasks whose outcome was never asked
            for and what `Runner.diagnose` finds are logged. `None`: nowhere.
        max_queue_size: Limit on waiting tasks, all classes together. At least 1. `None`: no limit.
        when_full: What a full queue does to a submit: `"block"` until there is room, or `"raise"`
            `QueueFull`.
        task_timeout: Default time limit of a task in seconds, waiting included. More than 0.
            `None` and infinity: no limit.
        validate: Asked with a resource before a task gets it, if it was idle for
            `validate_after_idle`. `False`, or an error, has it replaced first.
        validate_after_idle: Seconds after which an idle resource is validated. At least 0.
            `math.inf`: never.
        reset: Called with the resource after every task, where the task ran, when its outcome has
            been delivered. When it raises, the resource is replaced; the outcome stays.
        on_cancel: Called with the resource while a task runs on it whose context is cancelled: by
            its time limit, by `request_cancel`, by a cancelled `asubmit`, by `kill`. At most once
            for each attempt, on a helper thread, so it must be safe there while the task uses the
            resource: `sqlite3.Connection.interrupt`, say. The worker goes on to nothing else
            before it has returned, and validates the resource then, where `validate` is given. A
            task that runs inside another on the same resource is interrupted for itself alone.
            An error it raises is logged.
        on_event: Called with a `TaskEvent` each time that a total of `metrics()` counts a task, on
            the thread where that happens: that of the caller or of a worker, or one that watches
            time limits. It must therefore be quick and thread-safe, and must not wait without a
            limit for a task of the same runner. It is called in a copy of the task's context
            variables; for arrivals and refusals in the caller's own, unless an `asubmit` waited for
            room before. What it submits to its own runner is counted, and raises no event on that
            thread while the call lasts; workers tell what comes of it. Its errors are logged at the
            first, second, fourth, eighth … time; it is never switched off.
        max_tasks_per_resource: A resource is renewed after so many tasks. At least 1. One resource
            is renewed at a time; others whose number is reached serve on until it is their turn.
        fail_fast_after: Once no resource could be made for so many seconds, and no base or burst
            worker has one, waiting and new tasks fail at once with `ResourceCreationError`, whose
            cause is the last error of `on_create`, until one can be made. At least 0. `None` and
            infinity: they wait.
        max_resource_age: A resource is renewed at this age in seconds, give or take a tenth. More
            than 0. `None` and infinity: at none.
        idle_timeout: Seconds after which an idle burst worker ends. At least 0. `math.inf`: never.
        thread_bound: Whether a resource is used on no thread but its own. `False` lets `run_task`
            use a reserved resource in the caller's thread; it is still made and destroyed on its
            own.
        copy_contextvars: Whether a task runs in a copy of its submitter's context variables,
            taken at the submit. Variables set in `on_create` are then not seen by tasks.
        name: Names the runner in thread names, logs, figures and errors, there printable, on one
            line and cut at 200 characters. Not empty. A name that another runner of the process
            has gets a number, `-2`, and a log record at INFO; it is free again when that one has
            stopped. `None`: `tasker-1`, `tasker-2` and so on. `Runner.name` is what results.

    Raises:
        ConfigError: A field has a wrong type or value, or two of them contradict each other. The
            text names the field and what was given.

    Example:
        >>> import sqlite3
        >>> from tasker import Config
        >>> config = Config(
        ...     on_create=lambda: sqlite3.connect(":memory:"),
        ...     on_destroy=sqlite3.Connection.close,
        ...     worker_count=4,
        ... )
        >>> config.max_retries
        3
    """

    on_create: Callable[[], R]
    on_destroy: Callable[[R], object] | None = None
    worker_count: int
    context: Context | None = None
    is_broken: Callable[[R, BaseException], bool] | None = None
    check_health: Callable[[BaseException], bool] | None = None
    max_worker_count: int | None = None
    burst_interval: float = 0.1
    max_retries: int = 3
    retry: Retry | None = None
    resource_pool_size: int | None = None
    logger: logging.Logger | None = logging.getLogger("tasker")
    max_queue_size: int | None = None
    when_full: Literal["block", "raise"] = "block"
    task_timeout: float | None = None
    validate: Callable[[R], bool] | None = None
    validate_after_idle: float = 30.0
    reset: Callable[[R], object] | None = None
    on_cancel: Callable[[R], object] | None = None
    on_event: Callable[[TaskEvent], object] | None = None
    max_tasks_per_resource: int | None = None
    fail_fast_after: float | None = None
    max_resource_age: float | None = None
    idle_timeout: float = 30.0
    thread_bound: bool = True
    copy_contextvars: bool = True
    name: str | None = None

    def __post_init__(self) -> None:
        # What was checked is what is used: a number's class may say something else the next time.
        put = partial(object.__setattr__, self)
        check_callable("on_create", self.on_create)
        check_hook("on_destroy", self.on_destroy, "resource")
        put("worker_count", check_count("worker_count", self.worker_count, least=1))
        check_type("context", self.context, Context, optional=True)
        check_health_hooks(self.is_broken, self.check_health)
        maximum = check_count("max_worker_count", self.max_worker_count, least=1, optional=True)
        put("max_worker_count", maximum)
        put("burst_interval", check_seconds("burst_interval", self.burst_interval))
        put("max_retries", check_count("max_retries", self.max_retries, least=0))
        check_retry("retry", self.retry)
        size = check_count("resource_pool_size", self.resource_pool_size, least=0, optional=True)
        put("resource_pool_size", size)
        check_logger("logger", self.logger)
        size = check_count("max_queue_size", self.max_queue_size, least=1, optional=True)
        put("max_queue_size", size)
        put("when_full", check_word("when_full", self.when_full, ("block", "raise")))
        put("task_timeout", check_limit("task_timeout", self.task_timeout))
        check_hook("validate", self.validate, "resource")
        idle = check_seconds("validate_after_idle", self.validate_after_idle, zero=True)
        put("validate_after_idle", idle)
        check_hook("reset", self.reset, "resource")
        check_hook("on_cancel", self.on_cancel, "resource")
        check_hook("on_event", self.on_event, "event")
        tasks = self.max_tasks_per_resource
        tasks = check_count("max_tasks_per_resource", tasks, least=1, optional=True)
        put("max_tasks_per_resource", tasks)
        seconds = self.fail_fast_after
        put("fail_fast_after", check_wait("fail_fast_after", seconds))
        put("max_resource_age", check_limit("max_resource_age", self.max_resource_age))
        put("idle_timeout", check_seconds("idle_timeout", self.idle_timeout, zero=True))
        check_type("thread_bound", self.thread_bound, bool)
        check_type("copy_contextvars", self.copy_contextvars, bool)
        put("name", check_name("name", self.name, optional=True))
        if maximum is not None and maximum < self.worker_count:
            raise below_base(self.worker_count, maximum)

    @staticmethod
    def from_context_manager(
        factory: Callable[[], AbstractContextManager[M, Any]], **settings: "Unpack[ConfigFields[M]]"
    ) -> "Config[M]":
        """Makes a config whose resources are what a context manager gives.

        Each resource is entered from a manager of its own and left with
        `__exit__(None, None, None)` on the same thread. The manager is kept beside the resource,
        never looked up by it, so resources need be neither hashable nor distinct.

        Args:
            factory: Makes a new context manager, on the thread that will use its resource.
            **settings: The other fields of `Config`, all but `on_create` and `on_destroy`.

        Returns:
            A config like any other.

        Raises:
            ConfigError: *factory* is not callable, or as for `Config`.

        Example:
            >>> import tempfile
            >>> from tasker import Config, Runner
            >>> config = Config.from_context_manager(tempfile.TemporaryFile, worker_count=1)
            >>> with Runner(config) as runner:
            ...     runner.queue_task(lambda file: file.write(b"one"))
            3
        """
        check_callable("factory", factory)
        entered = _EnteredManagers()

        def enter() -> M:
            with ExitStack() as manager:
                opened = factory()
                _check_answer("factory", opened)
                resource = manager.enter_context(opened)
                _check_answer("the context manager's __enter__", resource)
                entered.managers.append(manager.pop_all())
            return resource

        def leave(_resource: M) -> None:
            # Popped first: a manager whose exit fails is not to be met again.
            entered.managers.pop().close()

        return Config(on_create=enter, on_destroy=leave, **settings)


def refuse_settings(names: Iterable[str], call: str = "Runner") -> NoReturn:
    """Raises `TypeError` for settings that *call* was given one by one."""
    _hints.refuse_settings(call, names, Config.__annotations__)


def taking_a_config(method: F) -> F:
    """Decorates `Runner.start`: it says where settings belong that it is given one by one."""
    known = {"config", "timeout"}

    @wraps(method)
    def start(cls: type, /, *args: Any, **given: Any) -> Any:
        if strange := [name for name in given if name not in known]:
            refuse_settings(strange, "Runner.start")
        return method(cls, *args, **given)

    return cast("F", start)


def check_config(value: object) -> None:
    """Raises `TypeError` unless *value* is a `Config`."""
    if not issubclass(type(value), Config):
        message = f"config must be a Config, got {shown(value)}"
        raise TypeError(message)


class OptionalConfigFields(TypedDict, Generic[R], total=False):
    """The fields of `Config` that need not be given, but for `on_destroy`, as keyword arguments."""

    context: Context | None
    is_broken: Callable[[R, BaseException], bool] | None
    check_health: Callable[[BaseException], bool] | None
    max_worker_count: int | None
    burst_interval: float
    max_retries: int
    retry: Retry | None
    resource_pool_size: int | None
    logger: logging.Logger | None
    max_queue_size: int | None
    when_full: Literal["block", "raise"]
    task_timeout: float | None
    validate: Callable[[R], bool] | None
    validate_after_idle: float
    reset: Callable[[R], object] | None
    on_cancel: Callable[[R], object] | None
    on_event: Callable[[TaskEvent], object] | None
    max_tasks_per_resource: int | None
    fail_fast_after: float | None
    max_resource_age: float | None
    idle_timeout: float
    thread_bound: bool
    copy_contextvars: bool
    name: str | None


class ConfigFields(OptionalConfigFields[R], Generic[R], total=False):
    """The fields of `Config` but for `on_create` and `on_destroy`, as keyword arguments."""

    worker_count: Required[int]


class _EnteredManagers(threading.local):
    """The managers of one config that were entered on the current thread and not left yet.

    A resource is made and destroyed on one thread, and a worker that renews it destroys the old
    one first: a worker never has more than one here. It is a stack because whoever calls the
    hooks by hand may nest them.
    """

    def __init__(self) -> None:
        self.managers: list[ExitStack] = []

    def __reduce__(self) -> tuple[type["_EnteredManagers"], tuple[()]]:
        """In another process nothing is entered yet."""
        return _EnteredManagers, ()


publish(globals(), ["Config"])
