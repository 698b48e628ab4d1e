"""`InlineRunner`: a runner that runs its tasks in the thread that submits them."""

from __future__ import annotations

import contextvars
import math
import threading
import time
import warnings
from collections import deque
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    Self,
    TypeVar,
    Unpack,
)

from tasker import _tasker
from tasker._block import ends_gracefully
from tasker._checks import check_count, check_deadline
from tasker._config import Config, Tuning, check_config
from tasker._dropped import DroppedTask
from tasker._errors import (
    QueueFull,
    ResourceCreationError,
    RunnerStopped,
    TaskCancelled,
    TaskTimeout,
)
from tasker._options import Options, check_options
from tasker._priority import Priority
from tasker._submitted import SubmittedTask
from tasker._texts import plain, shown
from tasker.testing._figures import Figures, stats
from tasker.testing._future import InlineFuture
from tasker.testing._hooks import Hooks
from tasker.testing._resource import OwnedResource
from tasker.testing._task import Task, storable
from tasker.testing._verbs import InlineSubmitter, Verbs

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from tasker._stats import Metrics, Stats

R = TypeVar("R")
S = TypeVar("S")
"""The resource of a runner that is being made: a class method of its own."""
T = TypeVar("T")
A = TypeVar("A")
P = ParamSpec("P")


class InlineRunner(Verbs[R]):
    """A runner for tests: without a thread, it runs tasks where they are submitted.

    Everything a task meets is as on a runner with one worker: its resource, `current_context()`,
    the submitter's context variables, hooks in the same order, replacement of a bad resource,
    retries, time limits, errors. `on_create` is called when it is made, `on_destroy` when it ends.
    What differs is listed in the guide *Testing your tasks*.

    It is for the thread that made it: what submits, runs or ends raises `RuntimeError` in others.

    Args:
        config: The settings. Those on numbers of workers make no difference.
        manual: Whether tasks wait until `run_next` or `run_all` is called, or a call waits for
            one of them, instead of running when they are submitted.

    Raises:
        ResourceCreationError: `on_create` failed; its error is the cause.
        TypeError: *config* is no `Config`.

    Example:
        >>> import sqlite3
        >>> from tasker import Config
        >>> from tasker.testing import InlineRunner
        >>> config = Config(
        ...     on_create=lambda: sqlite3.connect(":memory:"),
        ...     on_destroy=sqlite3.Connection.close,
        ...     worker_count=4,
        ... )
        >>> with InlineRunner(config) as runner:
        ...     future = runner.submit(lambda conn: conn.execute("select 1").fetchone())
        ...     future.done(), future.result()
        (True, (1,))
    """

    submitted: list[SubmittedTask]
    """Every task that was accepted, in the order in which they came."""

    def __init__(self, config: Config[R], *, manual: bool = False) -> None:
        self._state: Literal["running", "stopping", "killed", "stopped"] = "stopped"
        check_config(config)
        self.submitted = []
        self._config = config
        self._manual = manual
        self._thread = threading.get_ident()
        self._lanes: dict[Priority, deque[Task]] = {
            priority: deque() for priority in reversed(Priority)
        }
        self._running: list[Task] = []
        self._entered: list[Task] = []
        self._planned: deque[BaseException] = deque()
        self._figures = Figures()
        self._hooks = Hooks(config.logger, plain(config.name))
        self._owned = OwnedResource(config, self._hooks)
        self._is_busy = False
        self._is_at_desk = False
        with _Busy(self):
            is_made = self._owned.make()
        if is_made:
            self._state = "running"
        else:
            fault = self._owned.fault
            message = f"on_create failed with {type(fault).__name__}: {fault}"
            try:
                raise ResourceCreationError(message) from fault
            finally:
                del fault

    @classmethod
    def of(
        cls,
        resource: S,
        /,
        *,
        manual: bool = False,
        worker_count: int = 1,
        **settings: Unpack[Tuning[S]],
    ) -> InlineRunner[S]:
        """Makes a runner of a resource that the test has made and keeps.

        It is not destroyed, and what goes bad is replaced by itself.

        Args:
            resource: What every task gets.
            manual: As for the class.
            worker_count: As for `Config`.
            **settings: The other fields of `Config`, all but `on_create` and `on_destroy`.

        Returns:
            The runner.

        Raises:
            ConfigError: As for `Config`.

        Example:
            >>> from tasker.testing import InlineRunner
            >>> with InlineRunner.of({"a": 1}) as runner:
            ...     runner.queue_task(lambda cache, key: cache[key], "a")
            1
        """
        config = Config(on_create=lambda: resource, worker_count=worker_count, **settings)
        return InlineRunner(config, manual=manual)

    def _inline(self) -> InlineRunner[R]:
        return self

    @property
    def name(self) -> str:
        """The runner's name, from its config."""
        return plain(self._config.name)

    @property
    def state(self) -> Literal["running", "stopping", "killed", "stopped"]:
        """How far the runner's life has come, as of a `Runner`."""
        if self._state == "running" and self._is_called_off():
            return "stopping"
        return self._state

    @property
    def resource(self) -> R:
        """The resource in use.

        Raises:
            ResourceCreationError: There is none, since the last one could not be replaced; the
                error of `on_create` is the cause.
            RunnerStopped: The runner has ended.
        """
        if self._state == "stopped":
            raise RunnerStopped(_tasker._STOPPED)
        return self._owned.get()

    def options(
        self,
        *,
        priority: Priority = Priority.NORMAL,
        once: bool = False,
        timeout: float | None = None,
        name: str | None = None,
    ) -> InlineSubmitter[R]:
        """Makes a view of this runner whose tasks have the given options; see `Runner.options`.

        Args:
            priority: The class the tasks wait in.
            once: Whether the function is entered at most once.
            timeout: Time limit of each task in seconds. `None`: the `task_timeout` of the config.
                `math.inf`: none.
            name: Name of the tasks. `None`: that of the function.

        Returns:
            The view.

        Raises:
            ConfigError: An option has a wrong type or value.
        """
        return InlineSubmitter(self, check_options(priority, once, timeout, name))

    def queue_task_with_priority(
        self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Does what `queue_task` does, in the class `Priority.HIGH`."""
        return self.options(priority=Priority.HIGH).queue_task(fn, *args, **kwargs)

    def queue_task_once(
        self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Does what `queue_task` does, and enters the function at most once."""
        return self.options(once=True).queue_task(fn, *args, **kwargs)

    def queue_task_with_priority_once(
        self, fn: Callable[Concatenate[R, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Does what `queue_task` does, in the class `Priority.HIGH` and at most once."""
        return self.options(priority=Priority.HIGH, once=True).queue_task(fn, *args, **kwargs)

    # ---- what a test does with it

    def run_next(self) -> bool:
        """Runs the task whose turn it is to its outcome, retries included.

        Returns:
            Whether there was one.

        Raises:
            RuntimeError: The call comes from a task or hook of this runner, or another thread.
        """
        self._check_idle("run_next")
        task = self._take_next()
        if task is None:
            return False
        while task is not None:
            self._serve(task)
            # While it is tried again, a task of a higher class that came meanwhile is first.
            task = None if task.future.done() else self._take_next()
        self._pump()
        return True

    def run_all(self) -> int:
        """Runs all tasks that wait, and those that they submit.

        Returns:
            How many got their outcome.

        Raises:
            RuntimeError: As for `run_next`.
        """
        self._check_idle("run_all")
        count = 0
        while (task := self._take_next()) is not None:
            self._serve(task)
            count += task.future.done()
        self._pump()
        return count

    def fail_next(self, error: BaseException, *, times: int = 1) -> None:
        """Has the next attempts raise an error before the task's function is entered.

        The error is judged like one of the function: the resource may be replaced and the task
        tried again.

        Args:
            error: What to raise.
            times: How many attempts raise it, at least 1. Those asked for before come first.

        Raises:
            TypeError: *error* is no exception.
            ConfigError: *times* is no int or less than 1.

        Example:
            >>> from tasker import Config
            >>> from tasker.testing import InlineRunner
            >>> with InlineRunner(Config(on_create=dict, worker_count=1)) as runner:
            ...     runner.fail_next(ConnectionResetError("gone"))
            ...     runner.submit(len).exception(), runner.submit(len).result()
            (ConnectionResetError('gone'), 0)
        """
        self._check_thread()
        _check_error(error)
        check_count("times", times, least=1)
        self._planned.extend([error] * times)

    # ---- the life of the runner

    def stop(self, timeout: float | None = None) -> None:
        """Stops gracefully: refuses new tasks, runs the others, destroys the resource.

        From a task or hook of this runner the call only begins the shutdown.

        Args:
            timeout: Makes no difference: there is nothing to wait for.

        Raises:
            ConfigError: *timeout* is no number of seconds.
            RuntimeError: The call comes from another thread.
        """
        check_deadline("timeout", timeout)
        self._check_thread()
        if self._state == "running":
            self._state = "stopping"
        self._pump()

    def kill(self, timeout: float | None = None) -> list[DroppedTask]:
        """Stops now: drops what waits, cancels the contexts of what runs, destroys the resource.

        From a task or hook of this runner the resource is destroyed when that has returned.

        Args:
            timeout: Makes no difference: there is nothing to wait for.

        Returns:
            The tasks that never started, the higher classes first.

        Raises:
            ConfigError: *timeout* is no number of seconds.
            RuntimeError: The call comes from another thread.
        """
        check_deadline("timeout", timeout)
        self._check_thread()
        if self._state == "stopped":
            return []
        self._state = "killed"
        for task in list(self._running):
            task.future.request_cancel("the runner was killed")
        dropped = self._drop_waiting("the runner was killed before the task started")
        self._pump()
        return dropped

    async def astop(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Does what `stop` does.

        Args:
            timeout: As for `stop`.
        """
        self.stop(timeout)

    async def akill(self, timeout: float | None = None) -> list[DroppedTask]:  # noqa: ASYNC109
        """Does what `kill` does.

        Args:
            timeout: As for `kill`.

        Returns:
            The tasks that never started, the higher classes first.
        """
        return self.kill(timeout)

    def cancel_queued(self, reason: str | None = None) -> list[DroppedTask]:
        """Drops what waits and hands it back; the runner goes on.

        Args:
            reason: Told in the `TaskCancelled` of each task.

        Returns:
            The tasks that never started, the higher classes first.

        Raises:
            RunnerStopped: The runner is stopping or has stopped.
            RuntimeError: The call comes from another thread.
        """
        self._check_thread()
        if self._is_closing():
            raise RunnerStopped(_tasker._STOPPED)
        text = "the task was dropped from the queue before it started"
        return self._drop_waiting(text if reason is None else f"{text}: {reason}")

    def recycle(self) -> None:
        """Renews the resource: now, or when the task that uses it has ended.

        Raises:
            RunnerStopped: The runner is stopping or has stopped.
            RuntimeError: The call comes from another thread.
        """
        self._check_thread()
        if self._is_closing():
            raise RunnerStopped(_tasker._STOPPED)
        self._owned.recycle()
        if not self._is_busy:
            with _Busy(self):
                self._owned.renew_if_due(renews=True)
            self._pump()

    def stats(self) -> Stats:
        """Returns the gauges of this moment: those of one worker."""
        if self._state == "stopped":
            return stats()
        waiting = {priority: len(lane) for priority, lane in self._lanes.items()}
        return stats(
            base_workers=1,
            active_workers=1,
            equipped_workers=int(self._owned.is_there),
            queued_tasks=sum(waiting.values()),
            priority_tasks=waiting[Priority.HIGH],
            running_tasks=len(self._running),
            overdue_tasks=sum(task.is_overdue for task in self._running),
        )

    def metrics(self) -> Metrics:
        """Returns the figures since the start."""
        return self._figures.metrics()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if ends_gracefully(exc):
            self.stop()
        else:
            self.kill()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exc, traceback)

    def __repr__(self) -> str:
        mode = ", manual" if self._manual else ""
        return f"<{type(self).__name__} {self.name!r} {self.state}{mode}>"

    def __del__(self) -> None:
        if self._state != "running":
            return
        message = f"{self!r} was dropped without stop() or kill()"
        warnings.warn(message, ResourceWarning, stacklevel=2, source=self)
        if threading.get_ident() == self._thread:
            self.stop()

    # ---- accepting

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            message = (
                f"{self!r} runs its tasks in the thread that made it, and is called from another "
                "one: use a Runner where threads are part of the test"
            )
            raise RuntimeError(message)

    def _check_idle(self, what: str) -> None:
        self._check_thread()
        if self._is_busy:
            message = f"{what}() is for the test: a task or hook of the runner must not call it"
            raise RuntimeError(message)

    def _is_called_off(self) -> bool:
        return self._config.context is not None and self._config.context.cancelled

    def _is_closing(self) -> bool:
        if self._state == "running" and self._is_called_off():
            self.stop()
        return self._state != "running"

    def _check_open(self, fn: object) -> None:
        """Raises for what cannot be a task, and where the runner accepts none."""
        self._check_thread()
        _tasker._check_task(fn)
        if self._is_closing():
            self._figures.totals["refused"] += 1
            raise RunnerStopped(_tasker._STOPPED)

    def _has_room(self) -> bool:
        bound = self._config.max_queue_size
        return bound is None or sum(map(len, self._lanes.values())) < bound

    def _check_room(self) -> None:
        if self._has_room():
            return
        self._figures.totals["refused"] += 1
        message = f"the queue holds max_queue_size={self._config.max_queue_size} tasks"
        if self._config.when_full == "block":
            message += ", and there is no other thread that would make room: call run_next() first"
        raise QueueFull(message)

    def _make_room(self) -> None:
        """Runs what waits, as long as a call that waits for its task waits for room."""
        if self._config.when_full == "block" and not self._is_busy:
            while not self._has_room() and (task := self._take_next()) is not None:
                self._serve(task)
        self._check_room()

    def _draft(
        self,
        options: Options,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Task:
        limit = self._config.task_timeout if options.timeout is None else options.timeout
        if limit == math.inf:
            limit = None
        now = time.monotonic()
        task = Task(
            call=SubmittedTask(
                fn, args, kwargs, options.priority, options.once, options.timeout, options.name
            ),
            future=InlineFuture(),
            context=contextvars.copy_context() if self._config.copy_contextvars else None,
            since=now,
            limit=limit,
            due=None if limit is None else now + limit,
        )
        task.future.belong(self, task)
        return task

    def _count_in(self, task: Task) -> None:
        self._figures.arrived()
        self.submitted.append(task.call)

    def _accept(self, task: Task) -> InlineFuture[Any]:
        self._count_in(task)
        self._lanes[task.call.priority].append(task)
        return task.future

    # ---- taking turns

    def _take_next(self) -> Task | None:
        for lane in self._lanes.values():
            while lane:
                task = lane.popleft()
                if not task.future.done():
                    return task
        return None

    def _pump(self) -> None:
        """Runs what waits, unless that is for the test to say, or the worker's place is taken."""
        if not self._is_busy and not (self._manual and self._state == "running"):
            self._drain()

    def _drain(self) -> None:
        while (task := self._take_next()) is not None:
            self._serve(task)
        if self._state in {"stopping", "killed"}:
            with _Busy(self):
                self._owned.destroy()
            self._state = "stopped"
            self._planned.clear()

    def _run_until_done(self, task: Task) -> None:
        """Runs a task that is waited for: after what is before it, or inside the one that waits."""
        self._check_thread()
        if self._is_busy:
            lane = self._lanes[task.call.priority]
            if not self._is_at_desk or task not in lane or task.attempts:
                raise RuntimeError(_tasker._STANDSTILL)
            lane.remove(task)
            self._attempt(task, inside=True)
            return
        while not task.future.done() and (other := self._take_next()) is not None:
            self._serve(other)
        self._pump()

    def _run_past(self, task: Task) -> None:
        """Runs a task past what waits."""
        if self._is_busy and not self._is_at_desk:
            raise RuntimeError(_tasker._STANDSTILL)
        self._count_in(task)
        if self._is_busy:
            self._attempt(task, inside=True)
            return
        while not task.future.done():
            self._serve(task, queued=False)
        self._pump()

    def _serve(self, task: Task, *, queued: bool = True) -> None:
        """Makes one attempt of a task, and looks after the resource, as a worker does."""
        with _Busy(self):
            again = False
            try:
                is_kept_up = self._state == "running"
                if not self._owned.prepare(looks=self._state != "killed", renews=is_kept_up):
                    self._refuse_without_resource(task)
                    return
                again = self._attempt(task, inside=False)
            except BaseException:
                # Ctrl-C in a hook, before the task or after one of its attempts.
                again = not task.future.done()
                raise
            finally:
                if again and queued:
                    self._lanes[task.call.priority].appendleft(task)
            self._owned.served(tidies=self._state != "killed")
            is_kept_up = self._state == "running"
            is_needed = is_kept_up or again or any(self._lanes.values())
            self._owned.renew_if_due(renews=is_kept_up, needed=is_needed)

    def _attempt(self, task: Task, *, inside: bool) -> bool:
        """Makes one attempt: whether there is to be another one."""
        future = task.future
        if not task.attempts and not future.set_running_or_notify_cancel():
            return False
        if task.is_overdue:
            self._time_out(task, "start", self._owned.fault)
            return False
        begin = time.monotonic()
        task.attempts += 1
        self._running.append(task)
        self._is_at_desk, was_at_desk = True, self._is_at_desk
        try:
            return self._run(task, inside=inside)
        finally:
            self._is_at_desk = was_at_desk
            self._running.pop()
            end = time.monotonic()
            self._figures.ran(0.0 if inside else begin - task.since, end - begin)
            task.since = end

    def _run(self, task: Task, *, inside: bool) -> bool:
        is_planned = bool(self._planned)
        try:
            value = self._call(task)
        except BaseException as error:
            failure = storable(error)
            if not is_planned:
                _tasker._note_calling(failure)
        else:
            if task.is_overdue:
                self._time_out(task, "finish", None)
            else:
                self._figures.completed()
                self._settle(task, value=value)
            return False
        try:
            return self._fail(task, failure, inside=inside)
        finally:
            # The traceback of an error keeps this frame, which must not lead back to the error.
            del failure

    def _fail(self, task: Task, error: BaseException, *, inside: bool) -> bool:
        """Decides on the error of an attempt: whether the task is to be tried again."""
        if task.is_overdue:
            self._time_out(task, "finish", None)
            return False
        judged = not (
            not self._owned.has_judge
            or self._state == "killed"
            or task.is_told
            or isinstance(error, (TaskCancelled, TaskTimeout))
        )
        if judged:
            task.last_error = error
            may_retry = self._owned.judge(error) and not (
                inside or task.call.once or task.is_told or self._state == "killed"
            )
            if may_retry and task.attempts <= self._config.max_retries:
                self._figures.totals["retried"] += 1
                return True
            if task.attempts > 1:
                _tasker._note_attempts(error, task.attempts)
        self._figures.totals["failed"] += 1
        self._settle(task, error=error)
        return False

    def _call(self, task: Task) -> Any:
        """Calls the task's function, in its context."""
        submitted, planned = task.call, self._planned
        resource = self._owned.get()

        def enter() -> Any:
            if planned:
                raise planned.popleft()
            return submitted.fn(resource, *submitted.args, **submitted.kwargs)

        call: Callable[[], Any] = partial(self._hooks.at_home, enter)
        if task.context is not None:
            # Each attempt gets a fresh copy.
            call = partial(self._hooks.away, task.context.copy(), enter)
        task.is_interrupted = False
        self._entered.append(task)
        try:
            return _tasker._call_as_task(
                task.future,
                submitted.fn,
                task.attempts,
                task.name,
                self._hooks.worker,
                None if task.due is None else task.due - time.monotonic(),
                call,
                self._owned.doubt,
            )
        finally:
            self._entered.pop()
            self._interrupt_if_due()

    # ---- outcomes

    def _settle(
        self, task: Task, *, value: object = None, error: BaseException | None = None
    ) -> None:
        future = task.future
        future.let_go()
        task.last_error = None
        if future.done():
            return  # settled by hand, by a holder of the future
        if error is None:
            self._hooks.at_home(partial(future.set_result, value))
        else:
            self._hooks.at_home(partial(future.set_exception, error))

    def _time_out(self, task: Task, verb: str, cause: BaseException | None) -> None:
        self._figures.totals["timed_out"] += 1
        message = f"task {task.name} did not {verb} within its time limit of {task.limit:g} s"
        error = TaskTimeout(message)
        error.__cause__ = cause
        self._settle(task, error=error)

    def _refuse_without_resource(self, task: Task) -> None:
        if task.future.done():
            return
        if task.is_overdue:
            self._time_out(task, "start", self._owned.fault)
            return
        self._figures.totals["failed" if task.attempts else "dropped"] += 1
        error = ResourceCreationError("no resource could be created for the task")
        error.__cause__ = self._owned.fault
        self._settle(task, error=error)

    def _drop_waiting(self, reason: str) -> list[DroppedTask]:
        dropped: list[DroppedTask] = []
        # All of it first: what a callback submits is not touched.
        for task in list(iter(self._take_next, None)):
            if task.future.done():
                continue  # cancelled by a callback of one before it
            if task.last_error is not None:
                self._figures.totals["failed"] += 1
                self._settle(task, error=task.last_error)
                continue
            self._figures.totals["dropped"] += 1
            call = task.call
            dropped.append(
                DroppedTask(
                    fn=call.fn,
                    args=call.args,
                    kwargs=call.kwargs,
                    priority=call.priority,
                    once=call.once,
                    timeout=call.timeout,
                    name=call.name,
                )
            )
            self._settle(task, error=TaskCancelled(reason))
        return dropped

    def _cancelled(self, task: Task) -> None:
        """Takes a task out that is cancelled before it started."""
        lane = self._lanes[task.call.priority]
        # It is not there while hooks prepare for it, or `_drop_waiting` settles others.
        if task in lane:
            lane.remove(task)
        self._figures.totals["cancelled"] += 1
        task.future.let_go()

    def _told(self, task: Task) -> None:
        """Notes that a task which has started was asked to give up."""
        self._check_thread()
        task.is_told = True
        lane = self._lanes[task.call.priority]
        if task in lane:
            # It waits for a retry, and gets the error of its last attempt.
            lane.remove(task)
            self._figures.totals["failed"] += 1
            self._settle(task, error=task.last_error)
        self._interrupt_if_due()

    def _interrupt_if_due(self) -> None:
        """Calls `on_cancel` for a cancelled task, but not while another runs inside of it."""
        task = self._entered[-1] if self._entered else None
        if task is not None and task.is_told and not task.is_interrupted:
            task.is_interrupted = True
            self._owned.interrupt()


class _Busy:
    """While it is entered, the place of the one worker is taken."""

    def __init__(self, runner: InlineRunner[Any]) -> None:
        self._runner = runner
        self._was_busy = False

    def __enter__(self) -> None:
        self._was_busy = self._runner._is_busy
        self._runner._is_busy = True

    def __exit__(self, *_error: object) -> None:
        self._runner._is_busy = self._was_busy


def _check_error(value: object) -> None:
    if not isinstance(value, BaseException):
        message = f"error must be an exception, got {shown(value)}"
        raise TypeError(message)
