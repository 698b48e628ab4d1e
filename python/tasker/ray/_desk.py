"""What works in an actor: a `Runner`, fed by pushes and emptied by pulls."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tasker import _tasker
from tasker._config import Config
from tasker._errors import ResultNotPicklable, RunnerStopped, TaskCancelled, TaskNotPicklable
from tasker._runner import Runner
from tasker._tasker import TaskContext, current_context
from tasker.ray._carried import Carrier
from tasker.ray._cluster import place
from tasker.ray._news import News
from tasker.ray._pickling import PackedError, loads, pack_error, pack_result, shown_error
from tasker.ray._remote_log import forwarding_logger
from tasker.ray._wire import (
    Attempt,
    KindItem,
    Opened,
    Outcome,
    Reply,
    Settings,
    TaskItem,
    size_of,
)
from tasker.ray._without_resource import WithoutResource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tasker._future import Future
    from tasker._priority import Priority
    from tasker._retry import Retry, Unset
    from tasker._runner import Submitter
    from tasker._stats import Histograms, Metrics, Stats
    from tasker._workers import WorkerInfo

_Packed = tuple[bytes | None, PackedError | None]
"""What a task returned, or why that cannot be sent."""

_LARGE = 2**20
"""Bytes of a result that is blamed where a reply could not be stored."""
_NET_TIMEOUT = 10.0
"""Seconds for running tasks when the driver is gone."""


@dataclass(frozen=True, slots=True, eq=False)
class _Kind:
    """A function with its options, as the driver knows them by a number."""

    fn: Callable[..., Any]
    name: str
    priority: Priority
    once: bool
    retry: Retry | Unset | None
    view: Submitter[Any]


@dataclass(slots=True, eq=False)
class _Task:
    """A task that the driver has sent."""

    number: int
    kind: _Kind
    payload: bytes
    accepted: float
    """When it began to wait: for its first attempt, or for the next."""
    future: Future[_Packed] | None = None
    """`None` of one that goes past the queue."""
    context: TaskContext | None = None
    """While it runs."""
    begun: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)
    is_recalled: bool = False
    is_told: bool = False
    """The driver knows that it has begun, or will with the next reply."""


class Desk:
    """Runs the tasks of a driver on a `Runner` of its own, in an actor.

    Ray calls each group of methods on a thread of that group, and none of what users write there:
    the workers of the runner do, as everywhere.
    """

    def __init__(self) -> None:
        self._runner: Runner[Any] | None = None
        self._carrier = Carrier(())
        self._workers = 1
        self._kinds: dict[int, _Kind] = {}
        self._faults: dict[int, PackedError] = {}
        """Why a kind cannot be made here."""
        self._tasks: dict[int, _Task] = {}
        self._running: dict[int, _Task] = {}
        self._news = News(self._has_untold)
        self._asked = 0
        """How many calls of `ask` have had their tasks taken."""
        self._ask_taken = threading.Condition()
        self._direct: set[threading.Thread] = set()
        """Threads that wait for tasks which go past the queue."""
        self._last_pull = time.monotonic()

    # ---- control: the life of the runner, and what must not wait behind tasks

    def open(self, settings: Settings) -> Opened:
        """Starts the runner. Here and not in `__init__`, of which an error would arrive as text."""
        _, node = place()
        try:
            self._carrier = Carrier(settings.contextvars)
            fields = loads(settings.config)
            logger = None
            if settings.log_level is not None:
                logger = forwarding_logger(settings.log_level, partial(self._note, "log"))
            config: Config[Any] = Config(**fields, logger=logger)
            self._workers = config.worker_count
            self._runner = Runner(config)
        except BaseException as error:
            return Opened(os.getpid(), node, pack_error(None, error))
        return Opened(os.getpid(), node, None)

    def cancel(self, number: int, reason: str | None) -> None:
        """Cancels a task as `Future.request_cancel` does."""
        task = self._tasks.get(number)
        if task is None:
            return
        if task.future is not None:
            task.future.request_cancel(reason)
        elif (context := task.context) is not None:
            context.cancel(reason)

    def recall(self, most: int) -> list[int]:
        """Gives back tasks that have not begun, those that came last first."""
        numbers: list[int] = []
        for task in reversed(list(self._tasks.values())):
            if len(numbers) == most:
                break
            if task.future is not None and not task.attempts and not task.future.running():
                task.is_recalled = True
                if task.future.cancel():
                    self._tasks.pop(task.number, None)
                    numbers.append(task.number)
                else:
                    task.is_recalled = False
        return numbers

    def figures(
        self, wait_edges: Sequence[float], run_edges: Sequence[float], stacks: bool
    ) -> tuple[Metrics, Histograms, Stats, tuple[WorkerInfo, ...]]:
        """Reads the figures of the runner."""
        runner = self._opened()
        metrics, histograms = runner._histograms(wait_edges, run_edges)
        return metrics, histograms, runner.stats(), runner.workers(stacks=stacks)

    def renew(self, token: int) -> None:
        """Renews the resources; a note tells when that is done."""
        try:
            renewal = self._opened().renew()
        except RunnerStopped:
            self._note("renewed", (token, None))
            return
        renewal.add_done_callback(
            lambda done: self._note("renewed", (token, None if done.exception() else done.result()))
        )

    def shut_down(self) -> None:
        """The net: where the driver is gone, or has let go of the actor."""
        if self._runner is not None:
            self._runner.kill(_NET_TIMEOUT)

    def _close(self, how: Callable[[], object]) -> None:
        def close() -> None:
            how()
            for thread in list(self._direct):
                thread.join()
            self._news.close()

        threading.Thread(target=close, name="tasker-ray-close", daemon=True).start()

    def _opened(self) -> Runner[Any]:
        if self._runner is None:
            message = "this actor has no runner"
            raise RuntimeError(message)
        return self._runner

    # ---- push: tasks come in, and the end after them

    def wait_for_asks(self, count: int) -> None:
        """Waits for the tasks of the calls of `ask` made before, which other threads take."""
        with self._ask_taken:
            self._ask_taken.wait_for(lambda: self._asked >= count)

    def stop(self) -> None:
        """Begins a graceful stop; the last reply says that it is over."""
        self._close(self._opened().stop)

    def kill(self) -> None:
        """Begins to stop now."""
        self._close(self._opened().kill)

    def push(self, kinds: list[KindItem], tasks: list[TaskItem], oldest: list[int]) -> None:
        """Takes tasks. What goes wrong with one is its outcome, and never an error of the call.

        Args:
            kinds: Those that are new here.
            tasks: The tasks.
            oldest: Kinds to be forgotten afterwards.
        """
        for number, packed in kinds:
            try:
                self._kinds[number] = self._make_kind(packed)
            except BaseException as error:
                message = (
                    f"the function of a task cannot be made in the actor: {shown_error(error)}"
                )
                fault = TaskNotPicklable(message)
                fault.__cause__ = error
                self._faults[number] = pack_error(None, fault)
        now = time.monotonic()
        together: list[_Task] = []
        for number, kind, left, payload, carried, is_direct in tasks:
            if kind in self._faults:
                self._news.put((number, "error", self._faults[kind], []))
                continue
            task = _Task(number, self._kinds[kind], payload, now)
            self._tasks[number] = task
            if together and task.kind is not together[0].kind:
                self._accept_each(together)
                together = []
            if left is None and carried is None and not is_direct:
                together.append(task)
            else:
                self._accept_each(together)
                together = []
                self._accept_one(task, left, carried, is_direct=is_direct)
        self._accept_each(together)
        for number in oldest:
            self._kinds.pop(number, None)
            self._faults.pop(number, None)

    def _accept_each(self, tasks: list[_Task]) -> None:
        """Takes tasks of one kind that have nothing of their own, which costs each least."""
        if not tasks:
            return
        try:
            futures = tasks[0].kind.view.submit_many(self._call, tasks)
        except BaseException as error:
            for task in tasks:
                self._settle(task, "error", pack_error(task.kind.name, error))
            return
        for task, future in zip(tasks, futures, strict=True):
            task.future = future
            future.add_done_callback(partial(self._done, task))

    def _accept_one(
        self, task: _Task, left: float | None, carried: bytes | None, *, is_direct: bool
    ) -> None:
        try:
            accept = self._run_now if is_direct else self._accept
            if carried is None:
                accept(task, left)
            else:
                contextvars.Context().run(self._accept_in, carried, accept, task, left)
        except BaseException as error:
            self._settle(task, "error", pack_error(task.kind.name, error))

    def _make_kind(self, packed: bytes) -> _Kind:
        fn, name, priority, once, retry = loads(packed)
        view = self._opened().options(priority=priority, once=once, name=name, retry=retry)
        return _Kind(loads(fn), name, priority, once, retry, view)

    def _accept_in(
        self,
        carried: bytes,
        accept: Callable[[_Task, float | None], None],
        task: _Task,
        left: float | None,
    ) -> None:
        self._carrier.unpack(carried)
        accept(task, left)

    def _view(self, kind: _Kind, left: float | None) -> Submitter[Any]:
        if left is None:
            return kind.view
        return self._opened().options(
            priority=kind.priority, once=kind.once, name=kind.name, retry=kind.retry, timeout=left
        )

    def _accept(self, task: _Task, left: float | None) -> None:
        task.future = self._view(task.kind, left).submit(self._call, task)
        task.future.add_done_callback(partial(self._done, task))

    def _run_now(self, task: _Task, left: float | None) -> None:
        """Runs a task past the queue, on a thread that waits for it."""
        view = self._view(task.kind, left)

        def run() -> None:
            try:
                packed = view.run_task(self._call, task)
            except BaseException as error:
                self._settle_error(task, error)
            else:
                self._settle_value(task, packed)
            self._direct.discard(threading.current_thread())

        context = contextvars.copy_context()
        name = "tasker-ray-run-task"
        thread = threading.Thread(target=context.run, args=(run,), name=name, daemon=True)
        self._direct.add(thread)
        thread.start()

    def _call(self, resource: object, task: _Task) -> _Packed:
        """What a worker calls: it keeps the books, and calls the user's function."""
        task.context = current_context()
        task.begun = begun = time.monotonic()
        self._running[task.number] = task
        self._news.begun()
        try:
            args, kwargs = _unpack_arguments(task)
            if isinstance(task.kind.fn, WithoutResource):
                return _call_without(task.kind.fn, task.kind.name, args, kwargs)
            # Packed while the task has its resource, which the next one may change.
            return pack_result(task.kind.name, task.kind.fn(resource, *args, **kwargs))
        except TypeError as error:
            _note_wrong_call(error)
            raise
        finally:
            now = time.monotonic()
            task.context = None
            task.attempts.append((begun - task.accepted, now - begun))
            task.accepted = now
            self._running.pop(task.number, None)

    def _done(self, task: _Task, future: Future[_Packed]) -> None:
        if future.cancelled():
            if not task.is_recalled:
                self._settle(task, "cancelled", None)
        elif (error := future.exception()) is not None:
            self._settle_error(task, error)
        else:
            self._settle_value(task, future.result())

    def _settle_value(self, task: _Task, packed: _Packed) -> None:
        payload, error = packed
        if error is None:
            self._settle(task, "value", payload)
        else:
            self._settle(task, "error", error)

    def _settle_error(self, task: _Task, error: BaseException) -> None:
        if isinstance(error, TaskCancelled) and not task.attempts:
            self._settle(task, "dropped", None)
        else:
            self._settle(task, "error", pack_error(task.kind.name, error))

    def _settle(self, task: _Task, what: str, payload: Any) -> None:
        self._tasks.pop(task.number, None)
        self._news.put((task.number, what, payload, task.attempts))

    def _note(self, what: str, told: Any) -> None:
        self._news.put((what, told))

    # ---- pull: outcomes go out

    def ask(
        self, call: int, kinds: list[KindItem], tasks: list[TaskItem], oldest: list[int]
    ) -> Reply:
        """Takes tasks while there are no others, and waits until there is news.

        Args:
            call: Its number.
            kinds: As for `push`.
            tasks: As for `push`.
            oldest: As for `push`.
        """
        self.push(kinds, tasks, oldest)
        with self._ask_taken:
            self._asked += 1
            self._ask_taken.notify_all()
        return self._reply(call, is_soon=True)

    def pull(self, call: int, failed: int | None) -> Reply:
        """Waits until there is news, and gives all of it.

        Args:
            call: Its number.
            failed: That of a call whose reply the driver has not got, since a result was too large
                to be stored: that task fails, and the others' outcomes are given again.
        """
        if failed is None:
            return self._reply(call, is_soon=False)
        outcomes, notes = self._news.again(failed)
        begun = [task.number for task in list(self._running.values())]
        return Reply(begun, [_without_large(each) for each in outcomes], 0.0, notes)

    def _reply(self, call: int, *, is_soon: bool) -> Reply:
        outcomes, notes = self._news.take(call, is_soon=is_soon)
        return Reply(self._untold(), outcomes, self._idle_share(outcomes), notes)

    def _has_untold(self) -> bool:
        return any(not task.is_told for task in list(self._running.values()))

    def _untold(self) -> list[int]:
        """Gives the tasks that have begun, and that the driver does not know of yet."""
        found = [task for task in list(self._running.values()) if not task.is_told]
        for task in found:
            task.is_told = True
        return [task.number for task in found]

    def _idle_share(self, outcomes: list[Outcome]) -> float:
        """The share of the time since the last pull in which workers ran nothing."""
        since, now = self._last_pull, time.monotonic()
        self._last_pull = now
        length = max(now - since, 1e-6)
        busy = sum(min(attempts[-1][1], length) for *_, attempts in outcomes if attempts)
        busy += sum(now - max(task.begun, since) for task in list(self._running.values()))
        return max(0.0, 1.0 - busy / (length * self._workers))


def _unpack_arguments(task: _Task) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        args, kwargs = loads(task.payload)
    except Exception as error:
        message = (
            f"the arguments of {task.kind.name} cannot be made in the actor: {shown_error(error)}"
        )
        raise TaskNotPicklable(message) from error
    return args, kwargs


def _call_without(
    fn: WithoutResource, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> _Packed:
    """Calls what takes no resource: its error is an outcome that the runner need not judge."""
    try:
        value = fn(None, *args, **kwargs)
    except Exception as error:
        return None, pack_error(name, error)
    return pack_result(name, value)


def _note_wrong_call(error: TypeError) -> None:
    """Adds the note of a runner, which takes a function of ours for that of the task."""
    frames = error.__traceback__
    if frames is not None and frames.tb_next is None:
        _tasker._note_calling(error.with_traceback(None))
        error.with_traceback(frames)


def _without_large(outcome: Outcome) -> Outcome:
    number, what, _, attempts = outcome
    size = size_of(outcome)
    if size < _LARGE:
        return outcome
    message = f"{'a result' if what == 'value' else 'an error'} of {size} bytes"
    fault = ResultNotPicklable(f"{message} cannot be stored in Ray's object store")
    return number, "error", pack_error(None, fault), attempts
