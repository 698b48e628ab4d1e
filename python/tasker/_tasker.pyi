"""The native half of tasker. Its native classes get their docstrings from here."""

import asyncio
import logging
import threading
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from contextlib import AbstractContextManager
from types import GenericAlias, TracebackType
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    ParamSpec,
    Self,
    TypeVar,
    final,
    overload,
)

from typing_extensions import disjoint_base

from tasker import _future, _results, _runner
from tasker._batching import BatchSettings
from tasker._config import Config
from tasker._dropped import DroppedTask
from tasker._finding import Finding
from tasker._findings import Snapshot
from tasker._observer import Observer
from tasker._priority import Priority
from tasker._retry import Retry, Unset
from tasker._stats import Histograms, Metrics, Stats
from tasker._workers import WorkerInfo

_R = TypeVar("_R")
_A = TypeVar("_A")
_B = TypeVar("_B")
_T = TypeVar("_T")
_X = TypeVar("_X")
_P = ParamSpec("_P")

__version__: Final[str]
_debug_build: Final[bool]
_STOPPED: Final[str]
_RENEWAL_WOULD_DEADLOCK: Final[str]
_RUN_TASK_WITH_KEY: Final[str]
_SERIAL_WOULD_DEADLOCK: Final[str]
_WOULD_DEADLOCK: Final[str]

@disjoint_base
class Future(Generic[_T]):
    """The native half of `tasker.Future`: the state, the outcome and the waiting."""

    def __init__(self) -> None:
        """Makes a pending future. Runners make their own; this is for executors and tests."""

    def cancel(self) -> bool:
        """Cancels the task if it has never started.

        Returns:
            Whether the task is cancelled. `False` from its first start on, while it waits for a
            retry as well.
        """

    def request_cancel(self, reason: str | None = None) -> bool:
        """Cancels the task if it has never started, else cancels its context.

        A running function is not interrupted: it sees the request by looking at
        `current_context()`. No retry follows.

        Args:
            reason: What the task's context gives as its `reason`.

        Returns:
            Whether the request had an effect. `False` when the task was done.
        """

    def _abandon(self) -> None: ...
    def cancelled(self) -> bool:
        """Tells whether the task was cancelled before it started."""

    def running(self) -> bool:
        """Tells whether the task has started and is not done."""

    def done(self) -> bool:
        """Tells whether the task is finished or cancelled."""

    def result(self, timeout: float | None = None) -> _T:
        """Waits for the task and returns its result.

        Called without a limit by a worker of the same runner for a task that has not started, it
        runs the task there instead of waiting.

        Args:
            timeout: Seconds to wait, of any class of numbers. `None` and infinity: without limit.

        Raises:
            TimeoutError: The task is not done in time; it goes on.
            concurrent.futures.CancelledError: The task was cancelled.
            RunnerBroken: This process was forked from the one whose runner has the task.
            RuntimeError: The wait has no limit, and only this thread could run the task: in a
                hook, callback, finalizer or signal handler of a worker of the same runner.
            BaseException: What the task raised, as itself; `TaskTimeout` and `TaskCancelled` when
                the runner ended it.
        """

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Waits for the task and returns what it raised, or `None`.

        Args:
            timeout: Seconds to wait, of any class of numbers. `None` and infinity: without limit.

        Raises:
            TimeoutError: The task is not done in time; it goes on.
            concurrent.futures.CancelledError: The task was cancelled.
            RunnerBroken: This process was forked from the one whose runner has the task.
            RuntimeError: As for `result`.
        """

    def add_done_callback(self, fn: Callable[[_future.Future[_T]], object]) -> None:
        """Has *fn* called with this future once it is done, at once if it is done already.

        Callbacks run in the order they were added, on the thread that settles the future, a worker
        as a rule. An error of a callback is logged and dropped.

        Args:
            fn: Called with the future.
        """

    def __await__(self) -> Generator[Any, None, _T]: ...
    def set_running_or_notify_cancel(self) -> bool:
        """Marks the future as running. For executors and tests.

        Returns:
            Whether the work should be done: `False` when the future was cancelled.

        Raises:
            RuntimeError: The future is running or finished already, or belongs to a runner's task.
        """

    def set_result(self, result: _T) -> None:
        """Settles the future with a result. For executors and tests.

        Raises:
            concurrent.futures.InvalidStateError: The future is done already.
        """

    def set_exception(self, exception: BaseException | None) -> None:
        """Settles the future with an exception. For executors and tests.

        Raises:
            concurrent.futures.InvalidStateError: The future is done already.
        """

@disjoint_base
class Context:
    """A cancellation token in a tree: cancelling one cancels all below it.

    `Context()` makes a root that is neither cancelled nor limited. Given as `Config.context` it
    stops the runner gracefully when it is cancelled. Each task has a context of its own, which
    `current_context` returns. All methods may be called from any thread and from signal handlers.

    Example:
        >>> from tasker import Context
        >>> parent = Context()
        >>> child = parent.child(timeout=60)
        >>> parent.cancel("no longer needed")
        >>> child.cancelled, child.reason
        (True, 'no longer needed')
    """

    def __new__(cls) -> Self: ...
    @property
    def cancelled(self) -> bool:
        """Whether this context or one above it was cancelled, or its deadline has passed."""

    @property
    def reason(self) -> str | None:
        """The reason given with the cancel, or `None`."""

    @property
    def deadline(self) -> float | None:
        """When the context cancels itself, on the scale of `time.monotonic`, or `None`."""

    def remaining(self) -> float | None:
        """Returns the seconds left until the deadline, at least 0; `None` without a deadline."""

    def child(self, *, timeout: float | None = None) -> Context:
        """Makes a context that is cancelled together with this one.

        Args:
            timeout: Seconds after which the child cancels itself, at once if there are none left. A
                deadline above it holds as well. `None` and infinity: no limit of its own.

        Raises:
            ConfigError: *timeout* is no number.
        """

    def cancel(self, reason: str | None = None) -> None:
        """Cancels this context and all below it; further calls change nothing.

        Args:
            reason: What `reason` and the text of `check` give.
        """

    def check(self) -> None:
        """Does nothing unless the context is cancelled.

        Raises:
            TaskCancelled: The context is cancelled.
        """

    def on_cancel(self, callback: Callable[[], object], /) -> CancelHandle:
        """Has *callback* called when the context is cancelled, or when its deadline has passed.

        For what belongs to one call, such as a cursor; `Config.on_cancel` is for the resource. It
        is called once, with no argument, on a helper thread of the task's runner, or of the process
        for a context outside of tasks: never on the thread that cancels, so it may block. If the
        context is cancelled already it is called at once, in this thread. It is never called after
        its task: what is registered when the task ends is closed. Outside of tasks a callback lives
        as long as its context. After a fork the child calls none of its parent's.

        An error of the callback is logged, as is one that takes longer than a second. Meanwhile
        other callbacks are called. It must not wait without a limit for a task of its runner.

        Args:
            callback: Must be safe while the task goes on in its own thread.

        Returns:
            A handle that takes the callback back: close it, or use it in a `with` statement.

        Raises:
            TypeError: *callback* cannot be called.
            RuntimeError: The helper thread cannot be started.

        Example:
            >>> from threading import Event
            >>> from tasker import Context
            >>> context, called = Context(), Event()
            >>> with context.on_cancel(called.set):
            ...     context.cancel()
            ...     called.wait(timeout=60)
            True
        """

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the context is cancelled.

        A task that has to pause pauses here, so that a cancel ends the pause.

        Args:
            timeout: Seconds to wait. `None` and infinity: without limit.

        Returns:
            Whether the context is cancelled.

        Raises:
            ConfigError: *timeout* is no number.
        """

    @classmethod
    def on_signals(cls, *signals: int) -> AbstractContextManager[Self]:
        """Gives a context that the first of *signals* cancels.

        That first signal puts the former handlers back, so a second one does what it did before:
        Ctrl-C twice, say, begins a graceful stop and then interrupts it. Leaving the `with` block
        puts them back as well.

        Args:
            *signals: Signals to listen to, at least one.

        Raises:
            ValueError: No signal was given, this is not the main thread, or a signal's handler was
                not installed from Python, so that it could not be put back.
            OSError: A signal cannot be handled, such as `SIGKILL`.

        Example:
            >>> import signal
            >>> from tasker import Context
            >>> with Context.on_signals(signal.SIGTERM) as context:
            ...     signal.raise_signal(signal.SIGTERM)
            ...     context.cancelled
            True
        """

@final
class CancelHandle(AbstractContextManager["CancelHandle", None]):
    """What takes a callback back that was registered with `Context.on_cancel`.

    Leaving its `with` block closes it. All methods may be called from any thread.
    """

    def close(self) -> None:
        """Takes the callback back: when this returns it neither runs nor will run.

        Waits for a call under way, except from within the callback itself. May be called again. On
        the main thread a signal handler that raises ends the wait; then the call may still run.
        """

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@final
class TaskContext(Context):
    """The context of a running task, from `current_context`.

    It is cancelled by `kill`, by the task's time limit and by `Future.request_cancel`; a graceful
    stop leaves it alone.
    """

    @property
    def attempt(self) -> int:
        """Which attempt this is: 1 for the first, 2 for the first retry."""

    @property
    def worker_name(self) -> str:
        """The name of the worker's thread."""

    @property
    def task_name(self) -> str:
        """The task's name: the one given with `options(name=...)`, else its function's."""

    @property
    def last_error(self) -> BaseException | None:
        """What the attempt before this one raised; `None` at the first."""

def current_context() -> TaskContext:
    """Returns the context of the task that runs on this thread.

    Raises:
        RuntimeError: No task runs on this thread.

    Example:
        >>> from tasker import Config, Runner, current_context
        >>> def attempt(cache: dict[str, int]) -> int:
        ...     return current_context().attempt
        >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
        ...     runner.queue_task(attempt)
        1
    """

@final
class TaskEvent:
    """What happened to a task: what `Config.on_event` is called with.

    There is one kind for each `total_tasks_` figure of `Metrics`, so that counting events by `kind`
    gives these figures; `total_tasks_refused_full` alone has none, as it counts those of kind
    `refused` once more whose `error` is a `QueueFull`. New kinds and new attributes may come in any
    release: ignore what you do not know. An event is made by a runner alone and never changes. It
    keeps the error alive, and nothing else of the task.

    Times are those of `time.monotonic()`, in seconds.

    Raises:
        TypeError: It was called: there is no constructor.

    Example:
        >>> from tasker import Config, Runner, TaskEvent
        >>> def report(event: TaskEvent) -> None:
        ...     if event.kind == "failed":
        ...         print(event.name, event.attempt, repr(event.error))
        >>> with Runner(Config(on_create=list, worker_count=1, on_event=report)) as runner:
        ...     future = runner.options(name="first").submit(lambda rows: rows.pop())
        ...     error = future.exception()
        first 1 IndexError('pop from empty list')
    """

    @property
    def kind(
        self,
    ) -> Literal[
        "arrived",
        "completed",
        "failed",
        "retried",
        "refused",
        "cancelled",
        "dropped",
        "timed_out",
    ]:
        """What happened, by the end of the name of the figure in `Metrics` that counts it."""

    @property
    def runner(self) -> str:
        """The name of the runner."""

    @property
    def task_id(self) -> int:
        """The number of the task in its runner, from 1 on; 0 for a refusal.

        Each task and each item of a `map` has its own, in the order in which they were made. The
        number of one that was refused in the end is not given again.
        """

    @property
    def name(self) -> str:
        """The task's name: the one given with `options(name=...)`, else its function's."""

    @property
    def priority(self) -> Priority:
        """The class in which it waits."""

    @property
    def attempt(self) -> int:
        """Which attempt this is about: 1 for the first; 0 before the first start."""

    @property
    def worker(self) -> str | None:
        """The name of the worker that made this attempt; `None` before the first start."""

    @property
    def submitted(self) -> float:
        """When it was accepted; for a refusal, when it was refused.

        A wait for room in a full queue is over by then: it counts for the time limit alone.
        """

    @property
    def started(self) -> float | None:
        """When this attempt started; `None` before the first start."""

    @property
    def ended(self) -> float | None:
        """When the attempt, or the task, ended; `None` for arrivals and refusals.

        The function of a task that timed out may still run.
        """

    @property
    def error(self) -> BaseException | None:
        """What it ended with, or what the caller of a refused task got; `None` without an error."""

@disjoint_base
class Runner(Generic[_R]):
    """The native half of `tasker.Runner`: the workers, the queue and all that is hot."""

    def __new__(cls, config: Config[_R], *, timeout: float | None = None) -> Self: ...
    @property
    def config(self) -> Config[_R]:
        """The settings the runner was made with; `resize` does not change them."""

    @property
    def worker_count(self) -> int:
        """The base workers that are asked for: by the config, and since then by `resize`.

        `stats().base_workers` tells how many there are. Never raises.
        """

    @property
    def max_worker_count(self) -> int:
        """The most base and burst workers that are asked for, as for `worker_count`.

        Equal to `worker_count` where there are no burst workers. Never raises.
        """

    @property
    def name(self) -> str:
        """The runner's name, which no other runner of this process has."""

    @property
    def state(self) -> Literal["running", "stopping", "killed", "stopped"]:
        """How far the runner's life has come.

        It is `"stopped"` once a shutdown is complete; until then `"stopping"` during a graceful
        and `"killed"` during an immediate one. A runner inherited through a fork is `"killed"`.
        Never raises.
        """

    # The first three say no more than the last, but with them basedpyright infers what a lambda's
    # parameters are from the arguments after it; mypy refuses some lambdas without the very first.
    @overload
    def submit(self, fn: Callable[[_R], _T], /) -> _future.Future[_T]: ...
    @overload
    def submit(self, fn: Callable[[_R, _A], _T], first: _A, /) -> _future.Future[_T]: ...
    @overload
    def submit(
        self, fn: Callable[[_R, _A, _B], _T], first: _A, second: _B, /
    ) -> _future.Future[_T]: ...
    @overload
    def submit(
        self, fn: Callable[Concatenate[_R, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _future.Future[_T]:
        """Queues a task and returns its future.

        A worker calls `fn(resource, *args, **kwargs)` with the resource that it owns. The priority,
        the time limit in seconds and the name of the task are options of a view:
        `runner.options(timeout=5).submit(fn)`.

        When the queue is full and the config says `when_full="block"`, the call waits for room;
        never on a worker of this runner or in a thread with a running asyncio loop. May be called
        from any thread, from tasks and from callbacks.

        An exception of the task is logged if the future is gone before its outcome was asked for.

        Args:
            fn: Called as `fn(resource, *args, **kwargs)` on a worker. A method of the resource's
                class is a task function as it is.
            *args: Further positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            The future of the task.

        Raises:
            TypeError: *fn* cannot be called, or is a coroutine or generator function, whose body a
                call does not run.
            RunnerStopped: The runner does not accept tasks.
            QueueFull: The queue is full and the call may not wait, or the task's time limit
                passed while it waited.
            RunnerBroken: The runner was inherited through a fork, or failed inside.

        Example:
            >>> from tasker import Config, Runner
            >>> def remember(cache: dict[str, int], key: str, *, value: int) -> int:
            ...     return cache.setdefault(key, value)
            >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
            ...     first = runner.submit(remember, "answer", value=42)
            ...     second = runner.submit(remember, "answer", value=0)
            ...     first.result(timeout=5), second.result(timeout=5)
            (42, 42)
        """

    @overload
    def asubmit(self, fn: Callable[[_R], _T], /) -> asyncio.Future[_T]: ...
    @overload
    def asubmit(self, fn: Callable[[_R, _A], _T], first: _A, /) -> asyncio.Future[_T]: ...
    @overload
    def asubmit(
        self, fn: Callable[[_R, _A, _B], _T], first: _A, second: _B, /
    ) -> asyncio.Future[_T]: ...
    @overload
    def asubmit(
        self, fn: Callable[Concatenate[_R, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> asyncio.Future[_T]:
        """Queues a task and returns an asyncio future of the running loop.

        A worker calls `fn(resource, *args, **kwargs)`. For coroutines: `await` the future, or give
        it to `gather`, `wait` or a `TaskGroup`. Cancelling the future, or a coroutine that awaits
        it, cancels a task that has not started; one that runs has its context cancelled, and how it
        ends is not reported.

        Never blocks: when the queue is full and the config says that a submit waits, the task waits
        for room by itself, is not accepted until then, and fails with `RunnerStopped` if the runner
        closes meanwhile. May be called from any thread with a running loop; the future belongs to
        that loop.

        Args:
            fn: Called as `fn(resource, *args, **kwargs)` on a worker.
            *args: Further positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            The future. It fails with what *fn* raised, with `TaskTimeout` or with `TaskCancelled`,
            as `Future.result` does; with `QueueFull` when the task's time limit passed while it
            waited for room.

        Raises:
            RuntimeError: No asyncio loop is running in this thread.
            TypeError: *fn* cannot be called, or is a coroutine or generator function.
            RunnerStopped: The runner does not accept tasks.
            QueueFull: The queue is full, and the config says `when_full="raise"` or this is a
                worker of the runner.
            RunnerBroken: The runner was inherited through a fork, or failed inside.

        Example:
            >>> import asyncio
            >>> from tasker import Config, Runner
            >>> async def main() -> list[int]:
            ...     async with Runner.start(Config(on_create=dict, worker_count=2)) as runner:
            ...         tasks = [runner.asubmit(lambda cache, n: n * n, n) for n in range(3)]
            ...         return await asyncio.gather(*tasks)
            >>> asyncio.run(main())
            [0, 1, 4]
        """

    @overload
    def queue_task(self, fn: Callable[[_R], _T], /) -> _T: ...
    @overload
    def queue_task(self, fn: Callable[[_R, _A], _T], first: _A, /) -> _T: ...
    @overload
    def queue_task(self, fn: Callable[[_R, _A, _B], _T], first: _A, second: _B, /) -> _T: ...
    @overload
    def queue_task(
        self, fn: Callable[Concatenate[_R, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Queues a task, waits for it and returns its result.

        A worker calls `fn(resource, *args, **kwargs)`. On a worker of this runner the task runs at
        once, on that worker's resource, and needs no room in the queue. May be called from any
        thread; it blocks the thread, so coroutines call `asubmit`.

        Args:
            fn: Called as `fn(resource, *args, **kwargs)` on a worker.
            *args: Further positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            What *fn* returned.

        Raises:
            TypeError: *fn* cannot be called, or is a coroutine or generator function.
            RunnerStopped: The runner does not accept tasks.
            QueueFull: As for `submit`.
            RunnerBroken: The runner was inherited through a fork, or failed inside.
            TaskTimeout: The task's time limit passed.
            TaskCancelled: The task was dropped by `kill` or `cancel_queued`.
            ResourceCreationError: The runner is closing, and its last worker got no resource.
            RuntimeError: Only this thread could run the task: in a hook, callback, finalizer or
                signal handler of a worker of this runner.
            BaseException: What *fn* raised, as itself.

        Example:
            >>> import sqlite3
            >>> from tasker import Config, Runner
            >>> def add(conn: sqlite3.Connection, a: int, b: int) -> int:
            ...     return conn.execute("select ? + ?", (a, b)).fetchone()[0]
            >>> config = Config(on_create=lambda: sqlite3.connect(":memory:"), worker_count=1)
            >>> with Runner(config) as runner:
            ...     runner.queue_task(add, 20, 22)
            42
        """

    @overload
    def queue_task_with_priority(self, fn: Callable[[_R], _T], /) -> _T: ...
    @overload
    def queue_task_with_priority(self, fn: Callable[[_R, _A], _T], first: _A, /) -> _T: ...
    @overload
    def queue_task_with_priority(
        self, fn: Callable[[_R, _A, _B], _T], first: _A, second: _B, /
    ) -> _T: ...
    @overload
    def queue_task_with_priority(
        self, fn: Callable[Concatenate[_R, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Does what `queue_task` does, in the class `Priority.HIGH`.

        Arguments, result and errors are those of `queue_task`.
        """

    @overload
    def queue_task_once(self, fn: Callable[[_R], _T], /) -> _T: ...
    @overload
    def queue_task_once(self, fn: Callable[[_R, _A], _T], first: _A, /) -> _T: ...
    @overload
    def queue_task_once(self, fn: Callable[[_R, _A, _B], _T], first: _A, second: _B, /) -> _T: ...
    @overload
    def queue_task_once(
        self, fn: Callable[Concatenate[_R, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Does what `queue_task` does, and enters the function at most once.

        Arguments, result and errors are those of `queue_task`.
        """

    @overload
    def queue_task_with_priority_once(self, fn: Callable[[_R], _T], /) -> _T: ...
    @overload
    def queue_task_with_priority_once(self, fn: Callable[[_R, _A], _T], first: _A, /) -> _T: ...
    @overload
    def queue_task_with_priority_once(
        self, fn: Callable[[_R, _A, _B], _T], first: _A, second: _B, /
    ) -> _T: ...
    @overload
    def queue_task_with_priority_once(
        self, fn: Callable[Concatenate[_R, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Does what `queue_task` does, in the class `Priority.HIGH` and at most once.

        Arguments, result and errors are those of `queue_task`.
        """

    @overload
    def run_task(self, fn: Callable[[_R], _T], /) -> _T: ...
    @overload
    def run_task(self, fn: Callable[[_R, _A], _T], first: _A, /) -> _T: ...
    @overload
    def run_task(self, fn: Callable[[_R, _A, _B], _T], first: _A, second: _B, /) -> _T: ...
    @overload
    def run_task(
        self, fn: Callable[Concatenate[_R, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Runs a task now, past the queue, and returns its result.

        An idle reserved worker calls `fn(resource, *args, **kwargs)`, else a temporary one, else,
        at the limit of reserved and temporary workers, the first that is free. With
        `thread_bound=False` it runs in the caller's thread on a reserved resource. On a worker of
        this runner it runs there. May be called from any thread; it blocks the thread.

        Args:
            fn: Called as `fn(resource, *args, **kwargs)`.
            *args: Further positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            What *fn* returned.

        Raises:
            TypeError: *fn* cannot be called, or is a coroutine or generator function.
            RunnerStopped: The runner does not accept tasks.
            RunnerBroken: The runner was inherited through a fork, or failed inside.
            TaskTimeout: The task's time limit passed.
            TaskCancelled: The task was dropped by `kill` or `cancel_queued`.
            ResourceCreationError: There is no resource for the task.
            RuntimeError: As for `queue_task`.
            BaseException: What *fn* raised, as itself.

        Example:
            >>> from tasker import Config, Runner
            >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
            ...     runner.run_task(lambda cache, n: n + 1, 41)
            42
        """

    def stop(self, timeout: float | None = None) -> None:
        """Stops gracefully: refuses new tasks, finishes the others, destroys the resources.

        May be called again, at the same time, and from anywhere. From a worker of this runner or
        a callback on it the call only begins the shutdown.

        Args:
            timeout: Seconds to wait for the end. `None` and infinity: without limit.

        Raises:
            ConfigError: *timeout* is no number. Nothing has begun.
            StopTimeout: It is not over in time; the shutdown goes on and `kill` still works.
            RunnerBroken: The runner was inherited through a fork, or failed inside.

        Example:
            >>> from tasker import Config, Runner
            >>> runner = Runner(Config(on_create=dict, worker_count=1))
            >>> future = runner.submit(lambda cache: len(cache))
            >>> runner.stop(timeout=5)
            >>> runner.state, future.result()
            ('stopped', 0)
        """

    def kill(self, timeout: float | None = None) -> list[DroppedTask]:
        """Stops now: drops what has not started, cancels the contexts of what runs, destroys.

        The futures of dropped tasks fail with `TaskCancelled` before this returns. Running
        functions are not interrupted. May be called during a `stop`, which it strengthens.

        Each task that a kill dropped is handed back by one call of `kill`, and by one only. Called
        from a thread of its own it waits for the end, and returns all that no other call got. From
        a task, hook or callback of the runner it waits for nothing: it returns what waited, and a
        task that a worker was just about to start is handed back by the next call.

        Args:
            timeout: Seconds to wait for what runs. `None` and infinity: without limit.

        Returns:
            The tasks that never started and that no other call has handed back, the higher classes
            first. Within a class tasks stand in the order of the queue, a `map`'s items together.

        Raises:
            ConfigError: *timeout* is no number. Nothing has begun.
            StopTimeout: It is not over in time; its `dropped` holds the tasks that never started.
            RunnerBroken: The runner was inherited through a fork, or failed inside.

        Example:
            >>> import threading
            >>> from tasker import Config, Runner, current_context
            >>> started = threading.Event()
            >>> def hold(cache: dict[str, int]) -> bool:
            ...     started.set()
            ...     return current_context().wait()
            >>> runner = Runner(Config(on_create=dict, worker_count=1))
            >>> running = runner.submit(hold)
            >>> waiting = runner.options(name="late").submit(len)
            >>> _ = started.wait()
            >>> [task.name for task in runner.kill(timeout=5)], running.result()
            (['late'], True)
        """

    def submit_many(
        self, fn: Callable[[_R, _A], _T], iterable: Iterable[_A], /
    ) -> list[_future.Future[_T]]:
        """Queues a task for each item and returns their futures.

        Reads the whole input first, then queues all tasks in one go and wakes the workers once. To
        read an input as results are taken, use `map`.

        A full queue acts as for `submit`, item by item: the call waits for room, or, with
        `when_full="raise"`, on a worker of this runner and in a thread with a running asyncio loop,
        the item is refused. A time limit counts from the call, for all items. An item that is
        refused half-way, as the queue is full or the runner stops meanwhile, has the refusal in
        its future; the others are not affected. May be called from any thread.

        Args:
            fn: Called as `fn(resource, item)` on a worker.
            iterable: The items. If it raises, nothing is queued.

        Returns:
            A future for each item, in the order of the input.

        Raises:
            TypeError: *fn* cannot be called, or is a coroutine or generator function, or *iterable*
                cannot be iterated.
            RunnerStopped: The runner does not accept tasks.
            RunnerBroken: The runner was inherited through a fork, or failed inside.

        Example:
            >>> from tasker import Config, Runner
            >>> with Runner(Config(on_create=dict, worker_count=2)) as runner:
            ...     futures = runner.submit_many(lambda cache, n: n * n, range(4))
            ...     [future.result() for future in futures]
            [0, 1, 4, 9]
        """

    def cancel_queued(self, reason: str | None = None) -> list[DroppedTask]:
        """Drops what waits and hands it back; what runs is left alone, and the runner goes on.

        What has never started fails with `TaskCancelled`, as with `kill`; what waits for a retry
        gets the error of its last attempt. That goes for the queue, for calls of `run_task` that
        wait for a resource, and for the items of a `map` or `amap` under way, which ends with
        `TaskCancelled` where the first of them was. They count as dropped.

        Calls that wait for room in a full queue get it afterwards. Nothing that is submitted after
        the call began is touched. May be called from any thread, also from tasks; it waits for
        nothing. Done-callbacks of what is dropped run in this thread, and must not wait for other
        tasks of the runner.

        Args:
            reason: Told in the `TaskCancelled` of each task.

        Returns:
            The tasks that never started, in the order in which `kill` hands them back.

        Raises:
            RunnerStopped: The runner is stopping or has stopped.
            RunnerBroken: The runner was inherited through a fork, or failed inside.

        Example:
            >>> import threading
            >>> from tasker import Config, Runner
            >>> started, gate = threading.Event(), threading.Event()
            >>> def hold(resource: object) -> None:
            ...     started.set()
            ...     gate.wait()
            >>> with Runner(Config(on_create=object, worker_count=1)) as runner:
            ...     running = runner.submit(hold)
            ...     _ = started.wait()
            ...     waiting = [runner.submit(lambda resource, n: n, n) for n in range(3)]
            ...     dropped = runner.cancel_queued("not needed any more")
            ...     gate.set()
            >>> [task.args for task in dropped]
            [(0,), (1,), (2,)]
        """

    def renew(self) -> _future.Future[int]:
        """Renews all resources, one after the other: after a change of credentials, say.

        Returns at once. Tasks are accepted and run meanwhile, and a running task keeps its
        resource. Where `max_worker_count` leaves room a fresh worker begins before an old one goes;
        otherwise one worker at a time is without a resource, and none is renewed while another
        worker is without one for another reason. May be called from any thread, and from tasks.

        The future is done when every resource is gone that there was at the call, or that
        `on_create` was making; wait for it, or `await` it. Its callbacks run on a worker. To cancel
        it ends the waiting and not the renewal. Of calls that overlap each waits for what is older
        than itself: a resource that is made after the last of them is renewed for none. Where each
        `on_create` asks for the next renewal there are pauses of 1 to 32 seconds between them while
        no task waits. Do not ask for it in `on_destroy`: each renewal would ask for the next one,
        without a pause.

        Returns:
            A future of the number of resources that are gone. It fails with `RunnerStopped` if the
            runner is stopped or killed before, with `RunnerBroken` as below. Waiting for it without
            a limit in a task, hook or callback of the runner raises `RuntimeError`: it would wait
            for its own end. So does an `await` there, in a loop that a task runs, say.

        Raises:
            RunnerStopped: The runner is stopping or has stopped.
            RunnerBroken: The runner was inherited through a fork, or failed inside.

        Example:
            >>> from tasker import Config, Runner
            >>> with Runner(Config(on_create=dict, worker_count=2)) as runner:
            ...     runner.renew().result(timeout=10)
            2
        """

    def stats(self) -> Stats:
        """Returns the gauges of this moment; all are zero once the runner has stopped.

        May be called from any thread, and from tasks.

        Raises:
            RunnerBroken: The runner was inherited through a fork, or failed inside.

        Example:
            >>> from tasker import Config, Runner
            >>> with Runner(Config(on_create=dict, worker_count=2)) as runner:
            ...     stats = runner.stats()
            >>> stats.base_workers, stats.queued_tasks
            (2, 0)
        """

    def metrics(self) -> Metrics:
        """Returns the figures since the start; they stay when the runner has stopped.

        Times are in seconds. May be called from any thread, and from tasks.

        Raises:
            RunnerBroken: The runner was inherited through a fork, or failed inside.

        Example:
            >>> from tasker import Config, Runner
            >>> with Runner(Config(on_create=dict, worker_count=2)) as runner:
            ...     results = list(runner.map(lambda cache, n: n, range(10)))
            >>> runner.metrics().total_tasks_completed
            10
        """

    def workers(self, *, stacks: bool = False) -> tuple[WorkerInfo, ...]:
        """Returns what each worker does at this moment, in the order in which they were started.

        Their states add up to the workers alive; the tuple is empty once the runner has stopped.
        May be called from any thread, from tasks, hooks and callbacks.

        Args:
            stacks: Whether each running task carries its stack: the lines of code that it is at.
                This stops the other threads for some microseconds per call on their stacks. On
                free-threaded builds of Python the stacks are empty.

        Raises:
            ConfigError: *stacks* is no bool.
            RunnerBroken: The runner was inherited through a fork, or failed inside.

        Example:
            >>> from tasker import Config, Runner
            >>> with Runner(Config(on_create=dict, worker_count=2, name="db")) as runner:
            ...     for worker in runner.workers():
            ...         print(worker.name, worker.kind, worker.state, worker.resource_generation)
            db-worker-1 base idle 1
            db-worker-2 base idle 1
        """

    def diagnose(self) -> tuple[Finding, ...]:
        """Tells what is wrong with the runner at this moment, in words, the worst first.

        Empty when nothing is, while nothing is asked of the runner, and once it has stopped. Of
        tasks that fail or pass their limit it tells when they are half of those that ended, or
        more; fewer are in `metrics` alone. May be called from any thread, from tasks, hooks and
        callbacks. It looks at all figures, which takes some hundred microseconds: often enough for
        a page that is drawn anew twice a second, not for each task.

        With a logger the runner looks by itself too, every 10 s while tasks wait or run, and logs
        what has held for 10 s, once, until it was gone for a minute.

        Raises:
            RunnerBroken: The runner was inherited through a fork, or failed inside.

        Example:
            >>> import threading
            >>> from tasker import Config, QueueFull, Runner
            >>> begun, done = threading.Event(), threading.Event()
            >>> def hold(cache: dict[str, int]) -> None:
            ...     begun.set()
            ...     done.wait()
            >>> config = Config(
            ...     on_create=dict, worker_count=1, max_queue_size=1, when_full="raise"
            ... )
            >>> with Runner(config) as runner:
            ...     futures = [runner.submit(hold)]
            ...     taken = begun.wait()
            ...     try:
            ...         while True:
            ...             futures.append(runner.submit(hold))
            ...     except QueueFull:
            ...         worst, *others = runner.diagnose()
            ...     done.set()
            >>> worst.code, worst.text
            ('queue_full', 'queue full: 1 task refused in the last minute')
        """

    def _snapshot(self) -> Snapshot: ...
    def _let_go(self) -> None: ...
    def _worker_count(self) -> int: ...
    def _observe(self, observer: Observer | None) -> None: ...
    def _observer_of(self, fn: object) -> tuple[Observer, str] | None: ...
    def _histograms(
        self, wait_edges: Sequence[float], run_edges: Sequence[float]
    ) -> tuple[Metrics, Histograms]: ...
    def _resize(
        self, worker_count: int | None, max_worker_count: int | None
    ) -> tuple[int, int] | None: ...
    def _is_served_here(self) -> bool: ...
    def _has_room(self) -> bool: ...

# How far `amap` and the double's `map` read ahead; the rule is the one of `map`.
@final
class _LookAhead:
    def __new__(cls, limit: int | None, workers: int) -> Self: ...
    def follow(self, workers: int) -> None: ...
    def room(self, ahead: int) -> int: ...
    def note_wait(self) -> None: ...
    def note_taken(self) -> None: ...

@final
class Results(_results.Results[_T]):
    """The results of a `map`, in the order of its input or as they come.

    The input is read in the thread that iterates, never further ahead than the look-ahead allows,
    so it may be endless. A result handed out is not kept. An item that fails, like an input that
    raises, raises at its place, ends the iteration and cancels the rest; so does `close`, leaving
    the `with` block and dropping the object. Cancelled is only what has not started. With
    `return_exceptions=True` an item that fails gives its exception as its result. The exception
    of an item has a note with the item's index.

    Where every input has a length, `operator.length_hint` tells how many results are to come.

    One thread at a time may iterate: another one, and an input that reads its own results, gets a
    `RuntimeError`. `close` may be called from any thread, also while another one waits for a
    result: its iteration ends then.
    """

    def __new__(
        cls,
        runner: Runner[Any],
        view: Submitter[Any] | None,
        fn: Callable[..., _T],
        iterables: tuple[Iterable[Any], ...],
        buffersize: int | None,
        ordered: bool,
        return_exceptions: bool,
    ) -> Self: ...
    def __next__(self) -> _T: ...
    def close(self) -> None:
        """Ends the iteration and cancels what has not started; may be called again."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...
    def __length_hint__(self) -> int:
        """Results still to come, when every input has a length."""

    def __class_getitem__(cls, key: object) -> GenericAlias: ...

@final
class _BatchFunctions:
    def __new__(
        cls,
        function: Callable[..., Any],
        max_size: int,
        max_wait: float,
        key: Callable[[Any], Hashable] | None,
        split_failed: bool,
        settings: BatchSettings,
    ) -> Self: ...
    @property
    def max_size(self) -> int: ...

@final
class BatchFunction:
    """What tasks of a batcher have as their function: it calls the user's for one item."""

    @property
    def _batch_settings(self) -> BatchSettings: ...
    @property
    def __qualname__(self) -> str: ...
    def __call__(self, resource: Any, item: Any) -> Any: ...

@disjoint_base
class Batcher(Generic[_X, _T]):
    """The native half of `tasker.Batcher`: takes items."""

    def __new__(
        cls,
        runner: Runner[Any],
        functions: _BatchFunctions,
        priority: int,
        once: bool,
        timeout: float | None,
        name: str | None,
        retry: Retry | Unset | None,
    ) -> Self: ...
    @property
    def runner(self) -> _runner.Runner[Any]:
        """The runner whose workers make the calls."""

    @property
    def _functions(self) -> _BatchFunctions: ...
    def _begin_map(
        self, items: Iterable[_X], buffersize: int | None, ordered: bool
    ) -> _results.Results[_T]: ...
    @property
    def _kept_options(self) -> tuple[bool, Retry | Unset | None]: ...
    def submit(self, item: _X, /) -> _future.Future[_T]:
        """Queues an item and returns its future.

        Args:
            item: What *fn* gets in its list of items.

        Returns:
            The future of the item's result. Where `key` raises, it has failed with that error, and
            nothing was queued.

        Raises:
            RunnerStopped: The runner does not accept tasks.
            QueueFull: As for `Runner.submit`.
            RunnerBroken: The runner was inherited through a fork, or failed inside.

        Example:
            >>> from tasker import Config, Runner
            >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
            ...     upper = runner.batcher(lambda _, words: [w.upper() for w in words], max_size=8)
            ...     upper.submit("a").result()
            'A'
        """

    def asubmit(self, item: _X, /) -> asyncio.Future[_T]:
        """Queues an item and returns an asyncio future of the running loop.

        As of `Runner.asubmit`, cancelling it leaves the item out of a call that has not begun, and
        drops its result otherwise; a full queue does not block the loop.

        Args:
            item: As for `submit`.

        Returns:
            The future of the item's result.

        Raises:
            RuntimeError: No asyncio loop is running in this thread.
            RunnerStopped: The runner does not accept tasks.
            QueueFull: As for `Runner.asubmit`.
            RunnerBroken: As for `submit`.

        Example:
            >>> import asyncio
            >>> from tasker import Config, Runner
            >>> def capitals(cache: dict, words: list[str]) -> list[str]:
            ...     return [word.upper() for word in words]
            >>> async def main() -> str:
            ...     async with Runner.start(Config(on_create=dict, worker_count=1)) as runner:
            ...         upper = runner.batcher(capitals, max_size=8)
            ...         return await upper.asubmit("a")
            >>> asyncio.run(main())
            'A'
        """

    def queue_task(self, item: _X, /) -> _T:
        """Queues an item, waits for it and returns its result.

        Args:
            item: As for `submit`.

        Returns:
            The item's result.

        Raises:
            TaskTimeout: The item's time limit passed.
            TaskCancelled: The item was dropped by `kill` or `cancel_queued`.
            BaseException: What *fn* raised, or what stands in the place of the result; and as for
                `submit`.

        Example:
            >>> from tasker import Config, Runner
            >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
            ...     upper = runner.batcher(lambda _, words: [w.upper() for w in words], max_size=8)
            ...     upper.queue_task("a")
            'A'
        """

@disjoint_base
class Submitter(Generic[_R]):
    """The native half of `tasker.Submitter`: the verbs of a runner with the options baked in."""

    def __new__(
        cls,
        runner: Runner[_R],
        priority: int,
        once: bool,
        timeout: float | None,
        name: str | None,
        retry: object,
        key: Callable[..., Hashable] | None,
        serial: bool,
    ) -> Self: ...
    @property
    def _options(
        self,
    ) -> tuple[
        int,
        bool,
        float | None,
        str | None,
        Retry | Unset | None,
        Callable[..., Hashable] | None,
        bool,
    ]: ...
    def _observer_of(self, fn: object) -> tuple[Observer, str] | None: ...
    @property
    def runner(self) -> _runner.Runner[_R]:
        """The runner this is a view of."""

    @overload
    def submit(self, fn: Callable[[_R], _T], /) -> _future.Future[_T]: ...
    @overload
    def submit(self, fn: Callable[[_R, _A], _T], first: _A, /) -> _future.Future[_T]: ...
    @overload
    def submit(
        self, fn: Callable[[_R, _A, _B], _T], first: _A, second: _B, /
    ) -> _future.Future[_T]: ...
    @overload
    def submit(
        self, fn: Callable[Concatenate[_R, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _future.Future[_T]:
        """Does what `Runner.submit` does, with the options of this view.

        Arguments, result and errors are those of `Runner.submit`.
        """

    @overload
    def asubmit(self, fn: Callable[[_R], _T], /) -> asyncio.Future[_T]: ...
    @overload
    def asubmit(self, fn: Callable[[_R, _A], _T], first: _A, /) -> asyncio.Future[_T]: ...
    @overload
    def asubmit(
        self, fn: Callable[[_R, _A, _B], _T], first: _A, second: _B, /
    ) -> asyncio.Future[_T]: ...
    @overload
    def asubmit(
        self, fn: Callable[Concatenate[_R, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> asyncio.Future[_T]:
        """Does what `Runner.asubmit` does, with the options of this view.

        Arguments, result and errors are those of `Runner.asubmit`.
        """

    def submit_many(
        self, fn: Callable[[_R, _A], _T], iterable: Iterable[_A], /
    ) -> list[_future.Future[_T]]:
        """Does what `Runner.submit_many` does, with the options of this view.

        Arguments, result and errors are those of `Runner.submit_many`.
        """

    @overload
    def queue_task(self, fn: Callable[[_R], _T], /) -> _T: ...
    @overload
    def queue_task(self, fn: Callable[[_R, _A], _T], first: _A, /) -> _T: ...
    @overload
    def queue_task(self, fn: Callable[[_R, _A, _B], _T], first: _A, second: _B, /) -> _T: ...
    @overload
    def queue_task(
        self, fn: Callable[Concatenate[_R, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Does what `Runner.queue_task` does, with the options of this view.

        Arguments, result and errors are those of `Runner.queue_task`.
        """

    @overload
    def run_task(self, fn: Callable[[_R], _T], /) -> _T: ...
    @overload
    def run_task(self, fn: Callable[[_R, _A], _T], first: _A, /) -> _T: ...
    @overload
    def run_task(self, fn: Callable[[_R, _A, _B], _T], first: _A, second: _B, /) -> _T: ...
    @overload
    def run_task(
        self, fn: Callable[Concatenate[_R, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Does what `Runner.run_task` does, with the options of this view.

        Arguments, result and errors are those of `Runner.run_task`. A view with `key` raises
        `ConfigError`: only a task that is queued goes to the worker that had its key.
        """

@disjoint_base
class Executor:
    """The native half of `tasker.ThreadPoolExecutor` and of the executor of a runner."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def submit(
        self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _future.Future[_T]:
        """Queues a call of *fn* on a worker, and returns its future.

        May be called from any thread, and from the calls themselves.

        Args:
            fn: Called as `fn(*args, **kwargs)`.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            The future of the call.

        Raises:
            RuntimeError: The executor was shut down, or, as `RunnerStopped`, its runner; the
                interpreter is exiting; there is no worker and no thread can be started.
            concurrent.futures.thread.BrokenThreadPool: An initializer failed, or the executor was
                inherited through a fork. A `RunnerExecutor` raises `RunnerBroken` then.
            QueueFull: Of a `RunnerExecutor`: the queue is full and the call may not wait.

        Example:
            >>> from tasker import ThreadPoolExecutor
            >>> with ThreadPoolExecutor(max_workers=2) as executor:
            ...     executor.submit(pow, 2, exp=10).result()
            1024
        """

    def _open(
        self,
        name: str,
        worker_count: int,
        initializer: Callable[[], object] | None,
        finalizer: Callable[[], object] | None,
        logger: logging.Logger,
    ) -> None: ...
    def _look_on(self, runner: Runner[Any]) -> None: ...
    def _queue(
        self, function: Callable[..., _T], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> _future.Future[_T]: ...
    def _check_open(self) -> None: ...
    def _shut_down(self, wait: bool, cancel_futures: bool) -> None: ...
    def _let_go(self) -> None: ...
    def _is_closed(self) -> bool: ...
    def _is_broken(self) -> bool: ...
    def _waiting(self) -> int: ...
    def _workers(self) -> list[threading.Thread]: ...

# Called by tasker._stream.
def _unrun(callable: object) -> str | None: ...
def _check_answer(hook: str, answer: object) -> None: ...
def _is_handed_out(error: BaseException, index: int) -> bool: ...

# Called by tasker._texts.
def _printable(text: str, bound: int) -> str: ...

# What is defined with it is the first of its name in this process.
def _once(thing: _T, /) -> _T: ...
def _is_first_import() -> bool: ...

# Used by tasker._threads.
@final
class _ThreadBootstrap:
    def __new__(cls, bootstrap: Callable[[], object], ended: Callable[[], object]) -> Self: ...
    def __call__(self, *args: Any, **kwargs: Any) -> None: ...

# Called by tasker.testing.
def _call_as_task(
    future: Future[Any],
    function: Callable[..., Any],
    attempt: int,
    task_name: str,
    worker_name: str,
    left: float | None,
    last_error: BaseException | None,
    call: Callable[[], _T],
    mark_suspect: Callable[[], object],
) -> _T: ...
def _call_outside_tasks(function: Callable[[], _T]) -> _T: ...
def _promise(future: Future[_T]) -> asyncio.Future[_T]: ...
def _check_task(function: object) -> None: ...
def _event(
    kind: str,
    runner: str,
    task_id: int,
    name: str,
    priority: int,
    attempt: int,
    worker: str | None,
    submitted: float,
    started: float | None,
    ended: float | None,
    error: BaseException | None,
) -> TaskEvent: ...
def _raise_later(error: BaseException) -> bool: ...
def _ask_key(
    function: object,
    name: str | None,
    key: Callable[..., Hashable],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[int, Hashable]: ...
def _task_name(function: object) -> str: ...
def _error_name(error: BaseException) -> str | None: ...
def _note_calling(error: BaseException) -> None: ...
def _note_attempts(error: BaseException, attempts: int) -> None: ...
def _note_retries(
    error: BaseException, attempts: int, lasted: float, too_long: float | None
) -> None: ...

# Called by tasker.ray.
def _take_name(wanted: str | None, stem: str) -> str: ...
def _free_name(name: str) -> None: ...

# Called by tasker._asyncio.
def _abandon_starts_with(context: Context) -> None: ...

# Called by tasker._lifecycle.
def _stop_all_at_exit() -> None: ...
def _kill_all_at_exit() -> None: ...
def _exit_report() -> str: ...
def _give_up_at_exit() -> None: ...
def _after_fork_in_child() -> None: ...
