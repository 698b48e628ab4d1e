"""How an `InlineRunner` works: it accepts tasks, takes them in turn and settles them."""

from __future__ import annotations

import contextvars
import itertools
import math
import sys
import threading
import time
import traceback
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tasker import _tasker
from tasker._adopter import Adopter
from tasker._config import Config, check_config
from tasker._dropped import DroppedTask
from tasker._errors import (
    QueueFull,
    ResourceCreationError,
    RunnerStopped,
    TaskCancelled,
    TaskTimeout,
)
from tasker._looks import Memory
from tasker._options import Options
from tasker._priority import Priority
from tasker._retry import Unset
from tasker._submitted import SubmittedTask
from tasker._texts import plain
from tasker.testing._by_name import KINDS_BY_NAME, OTHER
from tasker.testing._counters import InlineCounters
from tasker.testing._events import EventTeller
from tasker.testing._hooks import HookCaller
from tasker.testing._joint import InlineBatchFunction, InlineFunctions, JointCalls
from tasker.testing._lines import InlineLines, Line, first_of
from tasker.testing._resource import OwnedResource
from tasker.testing._task import HERE, NO_KEY, InlineFuture, InlineKey, InlineTask, storable

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")

STACK_DEPTH = 100
"""How many calls of a stack are shown, as for a runner."""


class InlineEngine(JointCalls[R]):
    """What `InlineRunner` builds on, as `Runner` builds on native code."""

    def __init__(self, config: Config[R], *, manual: bool = False) -> None:
        self._state: Literal["running", "stopping", "killed", "stopped"] = "stopped"
        check_config(config)
        self._submitted: list[SubmittedTask] = []
        self._config = config
        self._sizes = (config.worker_count, config.max_worker_count or config.worker_count)
        self._manual = manual
        self._thread = threading.get_ident()
        self._native_id = threading.get_native_id()
        self._lanes: dict[Priority, deque[InlineTask]] = {
            priority: deque() for priority in reversed(Priority)
        }
        self._lines = InlineLines()
        self._running: list[InlineTask] = []
        self._adopter = Adopter(InlineFunctions)
        self._entered: list[InlineTask] = []
        self._injected: deque[BaseException] = deque()
        self._counters = InlineCounters()
        self._looks = Memory()
        self._hooks = HookCaller(config.logger, plain(config.name or "tasker"))
        self._owned = OwnedResource(config, self._hooks, self._counters)
        self._events = EventTeller(config.on_event, self._hooks, plain(config.name or "tasker"))
        self._is_busy = False
        self._is_in_task = False
        with Busy(self):
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

    def _view(self, options: Options) -> Any:
        raise NotImplementedError

    def _is_context_cancelled(self) -> bool:
        return self._config.context is not None and self._config.context.cancelled

    def _is_closing(self) -> bool:
        if self._state == "running" and self._is_context_cancelled():
            self._begin_stop()
        return self._state != "running"

    def _check_open(self, options: Options, fn: Callable[..., Any]) -> None:
        """Raises for what cannot be a task, and where the runner accepts none."""
        self._check_thread()
        _tasker._check_task(fn)
        if self._is_closing():
            raise self._refused(options, fn, RunnerStopped(_tasker._STOPPED))

    def _refused(self, options: Options, fn: Callable[..., Any], error: Exception) -> Exception:
        """Counts a refusal and tells of it; gives back what is to be raised."""
        self._counters.count("refused")
        self._tell("refused", self._make_task(options, fn, (), {}), error=error)
        return error

    def _has_room(self) -> bool:
        bound = self._config.max_queue_size
        return bound is None or sum(map(len, self._lanes.values())) < bound

    def _check_room(self, options: Options, fn: Callable[..., Any]) -> None:
        if self._has_room():
            return
        self._counters.refused_full()
        message = f"the queue holds max_queue_size={self._config.max_queue_size} tasks"
        if self._config.when_full == "block":
            message += ", and there is no other thread that would make room: call run_next() first"
        raise self._refused(options, fn, QueueFull(message))

    def _make_room(self, options: Options, fn: Callable[..., Any]) -> None:
        """Runs what waits, as long as a call that waits for its task waits for room."""
        if self._config.when_full == "block" and not self._is_busy:
            while not self._has_room() and (task := self._take_next()) is not None:
                self._serve(task)
        self._check_room(options, fn)

    def _make_task(
        self,
        options: Options,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        key: InlineKey = NO_KEY,
    ) -> InlineTask:
        limit = self._config.task_timeout if options.timeout is None else options.timeout
        if limit == math.inf:
            limit = None
        now = time.monotonic()
        task = InlineTask(
            call=SubmittedTask(fn, args, kwargs, *options),
            future=InlineFuture(),
            context=contextvars.copy_context() if self._config.copy_contextvars else None,
            since=now,
            limit=limit,
            due=None if limit is None else now + limit,
            key=key,
            by_call=self._events.call,
        )
        task.future.assign(self, task)
        return task

    def _count_arrival(self, task: InlineTask) -> None:
        self._counters.count("arrived")
        task.number = self._counters.totals["arrived"]
        self._submitted.append(task.call)

    def _accept(self, task: InlineTask) -> InlineFuture[Any]:
        self._count_arrival(task)
        self._lanes[task.call.priority].append(task)
        if task.key.line is not None:
            task.key.line.append(task)
        self._tell("arrived", task)
        return task.future

    def _tell(self, kind: str, task: InlineTask, **what: Any) -> None:
        """Tells of a task; what is submitted meanwhile waits, as for a worker that is busy."""
        with Busy(self):
            self._events.tell(kind, task, **what)

    def _tell_now(self, kind: str, task: InlineTask, error: BaseException | None = None) -> None:
        self._tell(kind, task, ended=time.monotonic(), error=error)

    # ---- taking turns

    def _begin_stop(self) -> None:
        """Takes no more tasks, and ends when those that wait have run."""
        if self._state == "running":
            self._state = "stopping"
        self._pump()

    def _take_next(self) -> InlineTask | None:
        for lane in self._lanes.values():
            while lane:
                task = lane.popleft()
                if not task.future.done():
                    return (
                        task if task.key.line is None else self._first_of_key(task, task.key.line)
                    )
        return None

    def _first_of_key(self, task: InlineTask, line: Line) -> InlineTask:
        """Takes the task that is to run before this one, which stays first of its class then."""
        first_of(line)
        before = itertools.takewhile(lambda other: other is not task, line)
        waiting = (other for other in before if other in self._lanes[other.call.priority])
        if (first := next(waiting, None)) is None:
            return task
        self._lanes[first.call.priority].remove(first)
        self._lanes[task.call.priority].appendleft(task)
        return first

    def _oldest_wait(self) -> float:
        """For how long the task has waited that has waited longest and never started."""
        fresh = [
            task.since
            for lane in self._lanes.values()
            for task in lane
            if not (task.attempts or task.future.done())
        ]
        return time.monotonic() - min(fresh) if fresh else 0.0

    def _stack(self) -> tuple[str, ...]:
        """Where its thread is: the innermost calls, down to the one of this package."""
        frame = sys._current_frames().get(self._thread)
        while frame is not None and frame.f_code.co_filename.startswith(HERE):
            frame = frame.f_back
        return tuple(traceback.format_stack(frame)[-STACK_DEPTH:])

    def _pump(self) -> None:
        """Runs what waits, unless that is for the test to say, or the worker's place is taken."""
        if not self._is_busy and not (self._manual and self._state == "running"):
            self._drain()

    def _drain(self) -> None:
        while (task := self._take_next()) is not None:
            self._serve(task)
        if self._state in {"stopping", "killed"}:
            with Busy(self):
                self._owned.close()
            self._state = "stopped"
            self._injected.clear()

    def _run_until_done(self, task: InlineTask) -> None:
        """Runs a task that is waited for: after what is before it, or inside the one that waits."""
        self._check_thread()
        if self._is_busy:
            lane = self._lanes[task.call.priority]
            if not self._is_in_task or task not in lane or task.attempts:
                raise RuntimeError(_tasker._WOULD_DEADLOCK)
            if task.key.line is not None and first_of(task.key.line) is not task:
                raise RuntimeError(_tasker._SERIAL_WOULD_DEADLOCK)
            lane.remove(task)
            self._attempt_inside(task)
            return
        while not task.future.done() and (other := self._take_next()) is not None:
            self._serve(other)
        self._pump()

    def _run_now(self, task: InlineTask) -> None:
        """Runs a task past what waits."""
        if self._is_busy and not self._is_in_task:
            raise RuntimeError(_tasker._WOULD_DEADLOCK)
        self._count_arrival(task)
        self._tell("arrived", task)
        if self._is_busy:
            self._attempt_inside(task)
            return
        while not task.future.done():
            self._serve(task, queued=False)
        self._pump()

    def _serve(self, task: InlineTask, *, queued: bool = True) -> None:
        """Makes one attempt of a task, and looks after the resource, as a worker does."""
        with Busy(self):
            again: list[InlineTask] = []
            try:
                is_kept_up = self._state == "running"
                if not self._owned.prepare(validates=self._state != "killed", renews=is_kept_up):
                    self._fail_without_resource(task)
                    return
                if isinstance(task.call.fn, InlineBatchFunction):
                    again = self._attempt_jointly(task)
                elif self._attempt(task, inside=False):
                    again = [task]
            except BaseException:
                # Ctrl-C in a hook, before the task or after one of its attempts.
                again = [] if task.future.done() else [task]
                raise
            finally:
                if queued:
                    for other in reversed(again):
                        self._lanes[other.call.priority].appendleft(other)
            self._owned.after_task(resets=self._state != "killed")
            is_kept_up = self._state == "running"
            is_needed = is_kept_up or bool(again) or any(self._lanes.values())
            self._owned.replace_or_renew(renews=is_kept_up, needed=is_needed)

    def _attempt_inside(self, task: InlineTask) -> None:
        """Runs a task inside the one that waits for it."""
        while self._attempt(task, inside=True):
            pass

    def _attempt(self, task: InlineTask, *, inside: bool) -> bool:
        """Makes one attempt: whether there is to be another one."""
        future = task.future
        if not task.attempts:
            if not future.set_running_or_notify_cancel():
                return False
            if task.key.number:
                self._counters.begun(task.key.number)
        if task.is_overdue:
            self._time_out(task, self._owned.fault)
            return False
        # As it is now: the function may be given another name while it runs.
        name = task.name
        self._counters.by_name.begin(name)
        begin = task.begun = time.monotonic()
        task.attempts += 1
        self._running.append(task)
        self._is_in_task, was_in_task = True, self._is_in_task
        try:
            return self._run(task, inside=inside)
        finally:
            self._is_in_task = was_in_task
            self._running.pop()
            end = time.monotonic()
            self._counters.ran(name, 0.0 if inside else begin - task.since, end - begin)
            if not self._running:
                self._counters.busy.ran(begin, end)
            task.since = end

    def _run(self, task: InlineTask, *, inside: bool) -> bool:
        is_injected = bool(self._injected)
        try:
            value = self._call(task)
        except BaseException as error:
            failure = storable(error)
            if not is_injected:
                _tasker._note_calling(failure)
        else:
            if task.future.done():
                pass  # settled by hand, and counted then
            elif task.is_overdue:
                self._time_out(task, None)
            else:
                self._settle("completed", task, value=value)
            return False
        try:
            return self._fail(task, failure, inside=inside)
        finally:
            # The traceback of an error keeps this frame, which must not lead back to the error.
            del failure

    def _fail(self, task: InlineTask, error: BaseException, *, inside: bool) -> bool:
        """Decides on the error of an attempt: whether the task is to be tried again."""
        is_settled = task.future.done()  # by hand, and counted then
        if task.is_overdue and not is_settled:
            self._time_out(task, None)
            return False
        if not (self._state == "killed" or task.is_cancel_requested):
            task.last_error = error
            if self._is_tried_again(task, error, inside=inside) and self._may_go_on(task):
                self._count("retried", task)
                self._tell_now("retried", task, error)
                # The hook may have ended it.
                if self._may_go_on(task):
                    return True
        self._note_attempts(task, error)
        if not is_settled:
            self._settle("failed", task, error=error)
        return False

    def _may_go_on(self, task: InlineTask) -> bool:
        return not (task.future.done() or task.is_cancel_requested or self._state == "killed")

    def _is_tried_again(self, task: InlineTask, error: BaseException, *, inside: bool) -> bool:
        """Whether another attempt follows: on a fresh resource, or on the same by its `Retry`."""
        is_ours = isinstance(error, (TaskCancelled, TaskTimeout))
        if self._owned.has_health_hook and not is_ours and self._owned.is_bad_after(error):
            may_retry = not (inside or task.call.once)
            return may_retry and task.attempts <= self._config.max_retries
        return isinstance(error, Exception) and self._is_retried(task, error)

    def _is_retried(self, task: InlineTask, error: Exception) -> bool:
        """Whether its `Retry` has a task tried again, which it is at once."""
        retry = task.call.retry
        if retry is Unset.UNSET:
            retry = None if task.call.once else self._config.retry
        if retry is None or self._state != "running":
            return False
        now = time.monotonic()
        task.failures += 1
        if task.failures == 1:
            task.failed_first = now
        try:
            pause = self._hooks.call(partial(retry._pause, error, task.failures))
        except KeyboardInterrupt:
            raise
        except BaseException as fault:
            self._hooks.failed("the function of a Retry", fault)
            return False
        if pause is None:
            return False
        if task.due is not None and now + pause >= task.due:
            task.too_long = pause
            return False
        return True

    def _note_attempts(self, task: InlineTask, error: BaseException) -> None:
        if task.failures:
            lasted = time.monotonic() - task.failed_first
            _tasker._note_retries(error, task.attempts, lasted, task.too_long)
        elif task.attempts > 1:
            _tasker._note_attempts(error, task.attempts)

    def _call(self, task: InlineTask) -> Any:
        """Calls the task's function, in its context."""
        submitted, injected = task.call, self._injected
        resource = self._owned.get()

        def enter() -> Any:
            if injected:
                raise injected.popleft()
            return submitted.fn(resource, *submitted.args, **submitted.kwargs)

        call: Callable[[], Any] = partial(self._hooks.in_own_context, enter)
        if task.context is not None:
            # Each attempt gets a fresh copy.
            call = partial(self._hooks.in_task_context, task.context.copy(), enter)
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
                task.last_error,
                call,
                self._owned.mark_suspect,
            )
        finally:
            self._entered.pop()
            self._interrupt_if_due()

    # ---- outcomes

    def _count(self, kind: str, task: InlineTask, error: BaseException | None = None) -> None:
        """Counts what happened to a task: one that ran, by its name and error too."""
        self._counters.count(kind)
        if kind in KINDS_BY_NAME:
            self._counters.by_name.count(kind, task.name)
        if kind == "failed" and error is not None:
            self._counters.count_error(_tasker._error_name(error) or OTHER)

    def _settle(
        self,
        kind: str,
        task: InlineTask,
        *,
        value: object = None,
        error: BaseException | None = None,
    ) -> None:
        """Counts an outcome, gives it to the future, and tells of it."""
        ended, future = time.monotonic(), task.future
        future.forget_task()
        task.last_error = None
        if future.done():
            return  # settled by hand, by a holder of the future, and counted then
        self._count(kind, task, error)
        if error is None:
            self._hooks.in_own_context(partial(future.set_result, value))
        else:
            self._hooks.in_own_context(partial(future.set_exception, error))
        self._tell(kind, task, ended=ended, error=error)

    def _time_out(self, task: InlineTask, cause: BaseException | None) -> None:
        verb = "finish" if task.attempts else "start"
        message = f"task {task.name} did not {verb} within its time limit of {task.limit:g} s"
        error = TaskTimeout(message)
        error.__cause__ = cause
        self._settle("timed_out", task, error=error)

    def _fail_without_resource(self, task: InlineTask) -> None:
        if task.future.done():
            return
        if task.is_overdue:
            self._time_out(task, self._owned.fault)
            return
        error = ResourceCreationError("no resource could be created for the task")
        error.__cause__ = self._owned.fault
        self._settle("failed" if task.attempts else "dropped", task, error=error)

    def _drop_waiting(self, reason: str) -> list[DroppedTask]:
        dropped: list[DroppedTask] = []
        # All of it first: what a callback submits is not touched.
        for task in list(iter(self._take_next, None)):
            if task.future.done():
                continue  # cancelled by a callback of one before it
            if task.last_error is not None:
                self._settle("failed", task, error=task.last_error)
                continue
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
                    retry=call.retry,
                    key=call.key,
                    serial=call.serial,
                )
            )
            self._settle("dropped", task, error=TaskCancelled(reason))
        return dropped

    def _cancelled(self, task: InlineTask) -> Callable[[], None]:
        """Takes a task out that is cancelled before it started; gives what tells of it."""
        lane = self._lanes[task.call.priority]
        # It is not there while hooks prepare for it, or `_drop_waiting` settles others.
        if task in lane:
            lane.remove(task)
        self._counters.count("cancelled")
        task.future.forget_task()
        return partial(self._tell_now, "cancelled", task)

    def _settled_by_hand(self, task: InlineTask, error: BaseException | None) -> Callable[[], None]:
        """Counts a task that has started and gets its outcome from a holder of the future."""
        lane = self._lanes[task.call.priority]
        # It is there while it waits for a retry.
        if task in lane:
            lane.remove(task)
        kind = "completed" if error is None else "failed"
        self._count(kind, task, error)
        task.last_error = None
        task.future.forget_task()
        return partial(self._tell_now, kind, task, error)

    def _cancel_requested(self, task: InlineTask) -> None:
        """Notes that a task which has started was asked to give up."""
        self._check_thread()
        task.is_cancel_requested = True
        lane = self._lanes[task.call.priority]
        if task in lane:
            # It waits for a retry, and gets the error of its last attempt.
            lane.remove(task)
            self._settle("failed", task, error=task.last_error)
        self._give_up(task)
        self._interrupt_if_due()

    def _interrupt_if_due(self) -> None:
        """Calls `on_cancel` for a cancelled task, but not while another runs inside of it."""
        task = self._entered[-1] if self._entered else None
        if task is not None and task.is_cancel_requested and not task.is_interrupted:
            task.is_interrupted = True
            self._owned.interrupt()


class Busy:
    """While it is entered, the place of the one worker is taken."""

    def __init__(self, runner: InlineEngine[Any]) -> None:
        self._runner = runner
        self._was_busy = False

    def __enter__(self) -> None:
        self._was_busy = self._runner._is_busy
        self._runner._is_busy = True

    def __exit__(self, *_error: object) -> None:
        self._runner._is_busy = self._was_busy
