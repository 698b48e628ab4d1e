"""`InlineRunner`: a runner that runs its tasks in the thread that submits them."""

from __future__ import annotations

import threading
import time
import warnings
from typing import (
    TYPE_CHECKING,
    Literal,
    Self,
    TypeVar,
    Unpack,
)

from tasker import _tasker
from tasker._block import ends_gracefully
from tasker._checks import (
    below_base,
    cannot_resize,
    check_count,
    check_deadline,
    check_sizes,
    check_type,
)
from tasker._config import Config, OptionalConfigFields
from tasker._dropped import DroppedTask
from tasker._errors import RunnerStopped
from tasker._findings import Snapshot
from tasker._options import Options, check_options, taking_options
from tasker._priority import Priority
from tasker._public import publish, publish_methods
from tasker._retry import Retry, Unset
from tasker._running_task import RunningTask
from tasker._shortcuts import ShortcutsMixin
from tasker._texts import plain, shown
from tasker._workers import WorkerInfo
from tasker.testing._counters import stats
from tasker.testing._engine import Busy, InlineEngine
from tasker.testing._submit import InlineSubmitMixin

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from types import TracebackType

    from tasker._finding import Finding
    from tasker._future import Future
    from tasker._stats import Metrics, Stats
    from tasker._submitted import SubmittedTask

R = TypeVar("R")
S = TypeVar("S")
"""The resource of a runner that is being made: a class method of its own."""


class InlineRunner(InlineEngine[R], InlineSubmitMixin[R], ShortcutsMixin[R]):
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

    @classmethod
    def of(
        cls,
        resource: S,
        /,
        *,
        manual: bool = False,
        worker_count: int = 1,
        **settings: Unpack[OptionalConfigFields[S]],
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

    def _engine(self) -> InlineEngine[R]:
        return self

    def _view(self, options: Options) -> InlineSubmitter[R]:
        return InlineSubmitter(self, options)

    @property
    def name(self) -> str:
        """The runner's name: that of its config, or `tasker`."""
        return plain(self._config.name or "tasker")

    @property
    def state(self) -> Literal["running", "stopping", "killed", "stopped"]:
        """How far the runner's life has come, as of a `Runner`."""
        if self._state == "running" and self._is_context_cancelled():
            return "stopping"
        return self._state

    @property
    def submitted(self) -> list[SubmittedTask]:
        """Every task that was accepted, in the order in which they came."""
        return self._submitted

    @property
    def resource(self) -> R:
        """The resource in use.

        Raises:
            ResourceCreationError: There is none, since no new one could be made; the error of
                `on_create` is the cause.
            RunnerStopped: The runner has ended.
        """
        if self._state == "stopped":
            raise RunnerStopped(_tasker._STOPPED)
        return self._owned.get()

    @taking_options
    def options(
        self,
        *,
        priority: Priority = Priority.NORMAL,
        once: bool = False,
        timeout: float | None = None,
        name: str | None = None,
        retry: Retry | Unset | None = Unset.UNSET,
        key: Callable[..., Hashable] | None = None,
        serial: bool = False,
    ) -> InlineSubmitter[R]:
        """Makes a view of this runner whose tasks have the given options; see `Runner.options`.

        Args:
            priority: The class the tasks wait in.
            once: Whether the function is entered at most once.
            timeout: Time limit of each task in seconds. `None`: the `task_timeout` of the config.
                `math.inf`: none.
            name: Name of the tasks. `None`: that of the function.
            retry: When a task is tried again that failed on a good resource: it is at once, without
                a pause. `None`: not at all. Not given: as the config says.
            key: Asked for the key of each task when it is submitted. There is one resource here,
                to which every key goes.
            serial: Whether tasks of one key run in the order in which they were submitted.

        Returns:
            The view.

        Raises:
            ConfigError: An option has a wrong type or value, *once* and *retry* are both given, or
                *serial* without *key*.
        """
        options = check_options(priority, once, timeout, name, retry, key, serial)
        return InlineSubmitter(self, options)

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
        self._injected.extend([error] * times)

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
        self._begin_stop()

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

        Raises:
            ConfigError: As for `stop`.
            RuntimeError: As for `stop`.
        """
        self.stop(timeout)

    async def akill(self, timeout: float | None = None) -> list[DroppedTask]:  # noqa: ASYNC109
        """Does what `kill` does.

        Args:
            timeout: As for `kill`.

        Returns:
            The tasks that never started, the higher classes first.

        Raises:
            ConfigError: As for `kill`.
            RuntimeError: As for `kill`.
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
        self._check_running()
        text = "the task was dropped from the queue before it started"
        return self._drop_waiting(text if reason is None else f"{text}: {reason}")

    def renew(self) -> Future[int]:
        """Renews the resource: now, or when the task that uses it has ended.

        Returns:
            A future of the number of resources that are gone, which is done; in a task or hook it
            is done when the resource is gone. It fails with `RunnerStopped` if the runner ends
            before.

        Raises:
            RunnerStopped: The runner is stopping or has stopped.
            RuntimeError: The call comes from another thread.
        """
        self._check_running()
        renewal = self._owned.renew()
        if not self._is_busy:
            with Busy(self):
                self._owned.replace_or_renew(renews=True)
            self._pump()
        return renewal

    @property
    def worker_count(self) -> int:
        """What the config and `resize` ask for; there is one resource all the same."""
        return self._sizes[0]

    @property
    def max_worker_count(self) -> int:
        """What the config and `resize` ask for; there is one resource all the same."""
        return self._sizes[1]

    def resize(
        self, *, worker_count: int | None = None, max_worker_count: int | None = None
    ) -> None:
        """Takes other numbers of workers, by the rules of `Runner.resize`.

        There is one resource as before. How far `map` and `amap` read ahead follows.

        Args:
            worker_count: What `worker_count` is from now on.
            max_worker_count: What `max_worker_count` is from now on.

        Raises:
            TypeError: Neither is given.
            ConfigError: A number is none, or too small or large. Nothing is changed.
            RunnerStopped: The runner is stopping or has stopped.
            RuntimeError: The call comes from another thread.
        """
        base, most = check_sizes(worker_count, max_worker_count)
        self._check_thread()
        if self._is_closing():
            raise cannot_resize()
        old_base, old_most = self._sizes
        follows = base if old_base == old_most else None
        base, most = base or old_base, most or follows or old_most
        if most < base:
            raise below_base(base, most)
        self._sizes = (base, most)

    def _check_running(self) -> None:
        self._check_thread()
        if self._is_closing():
            raise RunnerStopped(_tasker._STOPPED)

    def stats(self) -> Stats:
        """Returns the gauges of this moment: those of one worker."""
        if self._state == "stopped":
            return stats()
        waiting = {priority: len(lane) for priority, lane in self._lanes.items()}
        return stats(
            base_workers=1,
            active_workers=1,
            equipped_workers=int(self._owned.exists),
            queued_tasks=sum(waiting.values()),
            priority_tasks=waiting[Priority.HIGH],
            longest_line=self._lines.longest(),
            oldest_wait=self._oldest_wait(),
            running_tasks=sum(len(task.parts) or 1 for task in self._running),
            overdue_tasks=sum(task.is_overdue for task in self._running),
            busy_share=self._busy_share(),
            creation_failing_for=self._counters.creation_failing_for,
        )

    def _busy_share(self) -> float:
        return self._counters.busy.share(self._running[0].begun if self._running else None)

    def metrics(self) -> Metrics:
        """Returns the figures since the start."""
        return self._counters.metrics()

    def workers(self, *, stacks: bool = False) -> tuple[WorkerInfo, ...]:
        """Returns what the one worker does at this moment that the runner stands for.

        Args:
            stacks: Whether a running task carries its stack.

        Returns:
            One worker, or none once the runner has stopped.

        Raises:
            ConfigError: *stacks* is no bool.
        """
        check_type("stacks", stacks, bool)
        if self._state == "stopped":
            return ()
        task = None
        if self._running:
            outermost = self._running[0]
            task = RunningTask(
                outermost.name,
                time.monotonic() - outermost.begun,
                self._hooks.worker,
                self._stack() if stacks else (),
                outermost.attempts,
                outermost.is_overdue,
            )
        age = self._owned.age
        worker = WorkerInfo(
            name=self._hooks.worker,
            native_id=self._native_id,
            kind="base",
            state="busy" if task else "equipping" if age is None else "idle",
            task=task,
            tasks_done=self._counters.attempts,
            busy_seconds=self._counters.busy_seconds,
            busy_share=self._busy_share(),
            resource_generation=self._owned.made,
            resource_age=age,
        )
        return (worker,)

    def diagnose(self) -> tuple[Finding, ...]:
        """Tells what is wrong with the runner at this moment, as `Runner.diagnose` does.

        Its one worker never waits for the interpreter.
        """
        if self._state == "stopped":
            return ()
        fault = self._owned.fault
        return self._looks.look(
            Snapshot(
                at=time.monotonic(),
                stats=self.stats(),
                metrics=self.metrics(),
                workers=self.workers(),
                max_queue_size=self._config.max_queue_size,
                refused_lately=self._counters.refused_lately,
                creation_error=None if fault is None else _tasker._error_name(fault),
            )
        )

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


class InlineSubmitter(InlineSubmitMixin[R]):
    """A view of an `InlineRunner` whose tasks have fixed options; made by its `options`."""

    def __init__(self, runner: InlineRunner[R], options: Options) -> None:
        """Made by `InlineRunner.options` alone.

        Args:
            runner: Whose view it is.
            options: What it fixes.
        """
        self._runner = runner
        self._options = options

    def _engine(self) -> InlineEngine[R]:
        return self._runner

    @property
    def runner(self) -> InlineRunner[R]:
        """The runner this is a view of."""
        return self._runner


for _base in (InlineEngine, InlineSubmitMixin):
    publish_methods("InlineRunner", _base, "tasker.testing")
publish(globals(), ["InlineRunner", "InlineSubmitter"], "tasker.testing")


def _check_error(value: object) -> None:
    if not isinstance(value, BaseException):
        message = f"error must be an exception, got {shown(value)}"
        raise TypeError(message)
