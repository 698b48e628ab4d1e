"""How an `InlineRunner` calls a function once for many items of a batcher."""

from __future__ import annotations

import contextvars
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from tasker import _tasker
from tasker._errors import TaskCancelled, TaskTimeout
from tasker._submitted import SubmittedTask
from tasker.testing._task import InlineFuture, InlineTask, storable

if TYPE_CHECKING:
    from tasker._batching import BatchSettings
    from tasker._config import Config
    from tasker._priority import Priority
    from tasker.testing._counters import InlineCounters
    from tasker.testing._resource import OwnedResource


R = TypeVar("R")


class InlineBatchFunction:
    """What items of a batcher, of one key, have as their function: it calls the user's for one."""

    def __init__(self, settings: BatchSettings) -> None:
        self._batch_settings = settings
        self.__qualname__ = _tasker._task_name(settings.fn)

    def __call__(self, resource: object, item: object) -> Any:
        result = self.call(resource, [item])[0]
        if isinstance(result, Exception):
            raise result
        return result

    def call(self, resource: object, items: list[Any]) -> list[Any]:
        """Calls the function and checks that there are as many results as items.

        Args:
            resource: Its first argument.
            items: Its second.
        """
        count = len(items)
        results = self._batch_settings.fn(resource, items)
        if results is None:
            message = f"{self.__qualname__} must return a result for each item, got None"
            raise TypeError(message)
        listed = list(results)
        if len(listed) != count:
            message = f"{self.__qualname__} returned {len(listed)} results for {count} items"
            raise ValueError(message)
        return listed

    def __repr__(self) -> str:
        return f"<batch function {self.__qualname__}>"


class InlineFunctions:
    """The functions of a batcher, one for each key."""

    def __init__(self, settings: BatchSettings) -> None:
        self.settings = settings
        self._by_key: dict[Hashable, InlineBatchFunction] = {}

    def for_item(self, item: Any) -> InlineBatchFunction:
        """Finds the function for an item.

        Args:
            item: What `key` is asked of.
        """
        try:
            key = None if self.settings.key is None else self.settings.key(item)
        except StopIteration as error:
            message = "key raised StopIteration"
            raise RuntimeError(message) from error
        function = self._by_key.get(key)
        if function is None:
            function = self._by_key[key] = InlineBatchFunction(self.settings)
        return function


def function_of(task: InlineTask) -> InlineBatchFunction:
    """Gives the function of an item.

    Args:
        task: The item's.
    """
    return cast("InlineBatchFunction", task.call.fn)


class JointCalls(Generic[R]):
    """Calls of many items, for the engine of an `InlineRunner`."""

    if TYPE_CHECKING:
        _config: Config[R]
        _counters: InlineCounters
        _is_in_task: bool
        _lanes: dict[Priority, deque[InlineTask]]
        _owned: OwnedResource[R]
        _running: list[InlineTask]
        _state: Literal["running", "stopping", "killed", "stopped"]

        def _call(self, task: InlineTask) -> Any: ...
        def _cancel_requested(self, task: InlineTask) -> None: ...
        def _cancelled(self, task: InlineTask) -> Callable[[], None]: ...
        def _check_thread(self) -> None: ...
        def _count(
            self, kind: str, task: InlineTask, error: BaseException | None = None
        ) -> None: ...
        def _is_retried(self, task: InlineTask, error: Exception) -> bool: ...
        def _may_go_on(self, task: InlineTask) -> bool: ...
        def _note_attempts(self, task: InlineTask, error: BaseException) -> None: ...
        def _run_until_done(self, task: InlineTask) -> None: ...
        def _settle(
            self,
            kind: str,
            task: InlineTask,
            *,
            value: object = None,
            error: BaseException | None = None,
        ) -> None: ...
        def _settled_by_hand(
            self, task: InlineTask, error: BaseException | None
        ) -> Callable[[], None]: ...
        def _tell_now(
            self, kind: str, task: InlineTask, error: BaseException | None = None
        ) -> None: ...
        def _time_out(self, task: InlineTask, cause: BaseException | None) -> None: ...

    def _attempt_jointly(self, lead: InlineTask) -> list[InlineTask]:
        """Makes one call for an item and those that go with it: gives those to be tried again."""
        tasks = [task for task in [lead, *self._take_along(lead)] if self._begins(task)]
        if not tasks:
            return []
        call = self._make_call(tasks)
        name = call.name
        self._counters.by_name.begin(name)
        begin = call.begun = time.monotonic()
        for task in tasks:
            task.begun = begin
            task.attempts += 1
        self._running.append(call)
        self._is_in_task, was_in_task = True, self._is_in_task
        try:
            return self._run_jointly(call)
        finally:
            self._is_in_task = was_in_task
            self._running.remove(call)
            end = time.monotonic()
            for task in tasks:
                self._counters.ran(name, begin - task.since, (end - begin) / len(tasks))
                task.since = end
            if not self._running:
                self._counters.busy.ran(begin, end)

    def _take_along(self, lead: InlineTask) -> list[InlineTask]:
        """Takes out what waits for the same call, the higher classes first, up to a full one."""
        most = function_of(lead)._batch_settings.max_size - 1
        taken: list[InlineTask] = []
        for lane in self._lanes.values():
            for task in list(lane):
                if len(taken) == most:
                    return taken
                if task.call.fn is lead.call.fn and task.together is lead.together:
                    lane.remove(task)
                    taken.append(task)
        return taken

    def _begins(self, task: InlineTask) -> bool:
        if not task.attempts and not task.future.set_running_or_notify_cancel():
            return False
        if task.is_overdue:
            self._time_out(task, self._owned.fault)
            return False
        return True

    def _make_call(self, tasks: list[InlineTask]) -> InlineTask:
        """Makes a task of the call itself, with a context of its own."""
        lead = tasks[0].call
        items = [task.call.args[0] for task in tasks]
        call = InlineTask(
            call=SubmittedTask(
                function_of(tasks[0]).call, (items,), {}, lead.priority, lead.once, None, lead.name
            ),
            future=InlineFuture(),
            context=contextvars.Context() if self._config.copy_contextvars else None,
            since=tasks[0].since,
            limit=None,
            due=None,
            attempts=tasks[0].attempts + 1,
            last_error=tasks[0].last_error,
            parts=tasks,
            shown=tasks[0].name,
        )
        call.future.assign(self, call)
        call.future.set_running_or_notify_cancel()
        return call

    def _run_jointly(self, call: InlineTask) -> list[InlineTask]:
        try:
            results = self._call(call)
        except BaseException as error:
            failure = storable(error)
        else:
            for task, result in zip(call.parts, results, strict=True):
                if task.future.done():
                    continue  # settled by hand, and counted then
                if task.is_overdue:
                    self._time_out(task, None)
                elif isinstance(result, Exception):
                    self._settle("failed", task, error=storable(result))
                else:
                    self._settle("completed", task, value=result)
            return []
        finally:
            call.future.forget_task()
        try:
            return self._fail_jointly(call, failure)
        finally:
            # As in `_run`.
            del failure

    def _fail_jointly(self, call: InlineTask, error: BaseException) -> list[InlineTask]:
        """Decides on the error of a call: gives the items that are to be tried again."""
        for task in call.parts:
            if task.is_overdue and not task.future.done():
                self._time_out(task, None)
        is_ours = isinstance(error, (TaskCancelled, TaskTimeout))
        judged = not (is_ours or self._state == "killed" or call.is_cancel_requested)
        is_bad = judged and self._owned.has_health_hook and self._owned.is_bad_after(error)
        settings = function_of(call.parts[0])._batch_settings
        splits = settings.split_failed and not is_bad and len(call.parts) > 1
        again: list[InlineTask] = []
        for task in call.parts:
            if task.future.done():
                continue  # settled by hand, and counted then
            if is_bad:
                together = not task.call.once and task.attempts <= self._config.max_retries
            else:
                together = judged and isinstance(error, Exception) and self._is_retried(task, error)
            if (together or splits) and self._may_go_on(task):
                task.last_error = error
                # The same call again, or one of its own.
                task.together = call if together else task
                self._count("retried", task)
                self._tell_now("retried", task, error)
                again.append(task)
                continue
            self._note_attempts(task, error)
            self._settle("failed", task, error=error)
        for task in list(again):
            # The hook may have ended it.
            if not self._may_go_on(task):
                again.remove(task)
                self._settle("failed", task, error=error)
        return again

    def _give_up(self, task: InlineTask) -> None:
        """Tells the call that an item is in, if it is in one, when all its items were told."""
        for part in task.parts:
            part.is_cancel_requested = True
        for call in list(self._running):
            if task in call.parts and all(
                part.is_cancel_requested or part.future.done() for part in call.parts
            ):
                call.future.request_cancel()
