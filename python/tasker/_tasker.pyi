"""The native half of tasker. Its docstrings are the reference for the native classes."""

import asyncio
import logging
import threading
from collections.abc import Callable, Generator, Iterable
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
from tasker._config import Config
from tasker._dropped import DroppedTask
from tasker._stats import Metrics, Stats

_R = TypeVar("_R")
_A = TypeVar("_A")
_B = TypeVar("_B")
_T = TypeVar("_T")
_P = ParamSpec("_P")

__version__: Final[str]
_debug_build: Final[bool]
_STOPPED: Final[str]
_STANDSTILL: Final[str]

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
            BaseException: What the task raised, as itself.
        """

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Waits for the task and returns what it raised, or `None`.

        Args:
            timeout: Seconds to wait, of any class of numbers. `None` and infinity: without limit.

        Raises:
            TimeoutError: The task is not done in time; it goes on.
            concurrent.futures.CancelledError: The task was cancelled.
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

    Given as `Config.context` it stops the runner gracefully when it is cancelled. Each task has
    a context of its own, which `current_context` returns. All methods may be called from any
    thread and from signal handlers.

    Example:
        >>> from tasker import Context
        >>> parent = Context()
        >>> child = parent.child(timeout=60)
        >>> parent.cancel("no longer needed")
        >>> child.cancelled, child.reason
        (True, 'no longer needed')
    """

    def __new__(cls) -> Self:
        """Makes a root that is neither cancelled nor limited."""

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

@disjoint_base
class Runner(Generic[_R]):
    """The native half of `tasker.Runner`: the workers, the queue and all that is hot."""

    def __new__(cls, config: Config[_R], *, timeout: float | None = None) -> Self: ...
    @property
    def config(self) -> Config[_R]:
        """The settings the runner was made with."""

    @property
    def name(self) -> str:
        """The runner's name, from its config."""

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

        Waits for room when the queue is full and the config says so; never on a worker of this
        runner or in a thread with a running asyncio loop.

        An exception of the task that nobody asks the future for is logged when the future is gone.

        Args:
            fn: Called as `fn(resource, *args, **kwargs)` on a worker. A method of the resource's
                class is a task function as it is.
            *args: Further positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            The future of the task.

        Raises:
            TypeError: *fn* cannot be called.
            RunnerStopped: The runner does not accept tasks.
            QueueFull: The queue is full and the call may not wait, or the task's time limit
                passed while it waited.
            RunnerBroken: The runner was inherited through a fork, or failed inside.
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

        For coroutines: `await` it, or give it to `gather`, `wait` or a `TaskGroup`. Never blocks:
        when the queue is full and the config says that a submit waits, the task waits for room by
        itself, is not accepted until then, and fails with `RunnerStopped` if the runner closes
        meanwhile. Cancelling the future, or a coroutine that awaits it, cancels a task that has
        not started; one that runs has its context cancelled, and nobody learns how it ends.

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
            TypeError: *fn* cannot be called.
            RunnerStopped: The runner does not accept tasks.
            QueueFull: The queue is full, and the config says `when_full="raise"` or this is a
                worker of the runner.
            RunnerBroken: The runner was inherited through a fork, or failed inside.
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

        On a worker of this runner the task runs at once, on that worker's resource, and needs no
        room in the queue.

        Args:
            fn: Called as `fn(resource, *args, **kwargs)` on a worker.
            *args: Further positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            What *fn* returned.

        Raises:
            TaskTimeout: The task's time limit passed.
            TaskCancelled: The task was dropped by `kill`.
            BaseException: What *fn* raised, as itself; and as for `submit`.
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
        """Does what `queue_task` does, in the class `Priority.HIGH`."""

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
        """Does what `queue_task` does, and enters the function at most once."""

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
        """Does what `queue_task` does, in the class `Priority.HIGH` and at most once."""

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

        It runs on an idle reserved worker, else on a temporary one, else, at the limit of
        reserved and temporary workers, on the first that is free. With `thread_bound=False` it
        runs in the caller's thread on a reserved resource. On a worker of this runner it runs
        there.

        Args:
            fn: Called as `fn(resource, *args, **kwargs)`.
            *args: Further positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            What *fn* returned.

        Raises:
            TypeError: *fn* cannot be called.
            RunnerStopped: The runner does not accept tasks.
            TaskTimeout: The task's time limit passed.
            TaskCancelled: The task was dropped by `kill`.
            ResourceCreationError: There is no resource for the task.
            BaseException: What *fn* raised, as itself.
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
        """

    def kill(self, timeout: float | None = None) -> list[DroppedTask]:
        """Stops now: drops what has not started, cancels the contexts of what runs, destroys.

        The futures of dropped tasks fail with `TaskCancelled` before this returns. Running
        functions are not interrupted. May be called during a `stop`, which it strengthens.

        Args:
            timeout: Seconds to wait for what runs. `None` and infinity: without limit.

        Each task that a kill dropped is handed back by one call of `kill`, and by one only. Called
        from a thread of its own it waits for the end, and returns all that no other call got. From
        a task, hook or callback of the runner it waits for nothing: it returns what waited, and a
        task that a worker was just about to start is handed back by the next call.

        Returns:
            The tasks that never started and that no other call has handed back, the higher classes
            first. Within a class tasks stand in the order of the queue, a `map`'s items together.

        Raises:
            ConfigError: *timeout* is no number. Nothing has begun.
            StopTimeout: It is not over in time; its `dropped` holds the tasks that never started.
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
        its future; the others are not affected.

        Args:
            fn: Called as `fn(resource, item)` on a worker.
            iterable: The items. If it raises, nothing is queued.

        Returns:
            A future for each item, in the order of the input.

        Raises:
            TypeError: *fn* cannot be called, or *iterable* not be iterated.
            RunnerStopped: The runner does not accept tasks.
            RunnerBroken: The runner was inherited through a fork, or failed inside.
        """

    def cancel_queued(self, reason: str | None = None) -> list[DroppedTask]:
        """Drops what waits and hands it back; what runs is left alone, and the runner goes on.

        What has never started fails with `TaskCancelled`, as with `kill`; what waits for a retry
        gets the error of its last attempt. That goes for the queue, for calls of `run_task` that
        wait for a resource, and for the items of a `map` or `amap` under way, which ends with
        `TaskCancelled` where the first of them was. They count as dropped.

        Those who wait for room in a full queue are let in afterwards. Nothing that is submitted
        after the call began is touched, whoever submits it. May be called from anywhere, also from
        tasks; it waits for nothing. Done-callbacks of what is dropped run in this thread, and must
        not wait for other tasks of the runner.

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

    def recycle(self) -> None:
        """Renews all resources, one after the other: after a change of credentials, say.

        Returns at once. Tasks are accepted and run meanwhile. Where `max_worker_count` leaves room
        a fresh worker begins before an old one goes; otherwise one worker at a time is without a
        resource. With `thread_bound=False` an idle resource of `run_task` is renewed when it is
        next asked for and its turn has come.

        Raises:
            RunnerStopped: The runner is stopping or has stopped.
        """

    def stats(self) -> Stats:
        """Returns the gauges of this moment."""

    def metrics(self) -> Metrics:
        """Returns the figures since the start."""

    def _let_go(self) -> None: ...
    def _worker_count(self) -> int: ...
    def _is_served_here(self) -> bool: ...
    def _submitter(
        self,
        cls: type[_runner.Submitter[Any]],
        priority: int,
        once: bool,
        timeout: float | None,
        name: str | None,
    ) -> _runner.Submitter[_R]: ...

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

@disjoint_base
class Submitter(Generic[_R]):
    """The verbs of a runner with the options baked in."""

    def __new__(
        cls,
        runner: Runner[_R],
        priority: int,
        once: bool,
        timeout: float | None,
        name: str | None,
    ) -> Self: ...
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
        """Does what `Runner.submit` does, with the options of this view."""

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
        """Does what `Runner.asubmit` does, with the options of this view."""

    def submit_many(
        self, fn: Callable[[_R, _A], _T], iterable: Iterable[_A], /
    ) -> list[_future.Future[_T]]:
        """Does what `Runner.submit_many` does, with the options of this view."""

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
        """Does what `Runner.queue_task` does, with the options of this view."""

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
        """Does what `Runner.run_task` does, with the options of this view."""

@disjoint_base
class Executor:
    """The native half of `tasker.ThreadPoolExecutor` and of the executor of a runner."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
    def submit(
        self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _future.Future[_T]:
        """Queues a call of *fn* on a worker, and returns its future.

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
class _Course:
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
    call: Callable[[], _T],
    doubt: Callable[[], object],
) -> _T: ...
def _call_outside_tasks(function: Callable[[], _T]) -> _T: ...
def _promise(future: Future[_T]) -> asyncio.Future[_T]: ...
def _check_task(function: object) -> None: ...
def _task_name(function: object) -> str: ...
def _note_calling(error: BaseException) -> None: ...
def _note_attempts(error: BaseException, attempts: int) -> None: ...

# Called by tasker._asyncio.
def _abandon_starts_with(context: Context) -> None: ...

# Called by tasker._lifecycle.
def _stop_all_at_exit() -> None: ...
def _kill_all_at_exit() -> None: ...
def _exit_report() -> str: ...
def _give_up_at_exit() -> None: ...
def _after_fork_in_child() -> None: ...
