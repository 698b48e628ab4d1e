"""The errors of tasker, all under one root.

    Exception
    └── TaskerError
        ├── ConfigError             also a ValueError
        ├── ResourceCreationError   also a RuntimeError
        ├── RunnerStopped           also a RuntimeError
        ├── RunnerBroken            also a RuntimeError
        ├── QueueFull               also a queue.Full
        ├── TaskTimeout             also a TimeoutError
        ├── StopTimeout             also a TimeoutError
        ├── TaskCancelled           also a concurrent.futures.CancelledError
        ├── TaskNotPicklable        also a TypeError
        ├── ResultNotPicklable      also a TypeError
        └── ResourceLost            also a RuntimeError

The last three come where tasks run in other processes: from `tasker.ray`.

Each can be caught as the standard error beside it, and each can be pickled. The exception a task
raises is not among them: it reaches the caller as itself.
"""

from __future__ import annotations

import concurrent.futures
import queue

from tasker._public import publish
from tasker._tasker import _once


@_once
class TaskerError(Exception):
    """The root of all errors that tasker itself raises."""


@_once
class ConfigError(TaskerError, ValueError):
    """A setting or an option has a wrong type or value; the text names it and what was given."""


@_once
class ResourceCreationError(TaskerError, RuntimeError):
    """A resource could not be made.

    Raised by `Runner(config)` when a base worker gets no resource, and the outcome of tasks left
    over when the last worker of a closing runner gives up, or while tasks fail fast. `__cause__` is
    the error of `on_create`; of a task that was to be tried again `__context__` is what its last
    attempt raised. Of a start that ran out of time the text names each worker that has no resource
    yet, and the line at which it is.
    """


@_once
class RunnerStopped(TaskerError, RuntimeError):
    """The runner no longer accepts tasks; the refused task will not run.

    Raised from the moment `stop` or `kill` begins, the runner's `context` is cancelled or the
    interpreter exits. The text for a task begins like that of the standard executors.
    """


@_once
class RunnerBroken(TaskerError, RuntimeError):
    """The runner cannot work any more: it was inherited through a fork, or failed inside.

    What takes a task, ends the runner or asks for figures raises it. After a fork this is in the
    child alone. Nothing of the parent's is touched there, and a new runner made in the child works.
    """


@_once
class QueueFull(TaskerError, queue.Full):
    """`max_queue_size` tasks are waiting already and the call may not, or no longer, wait for room.

    Nothing was accepted: the task will not run.
    """


@_once
class TaskTimeout(TaskerError, TimeoutError):
    """The task did not finish within its time limit, which counts from the submit.

    A task that had not started never will. One that was running has had its context cancelled,
    and what it still returns is dropped. When it waited for a resource that could not be made,
    `__cause__` is the last error of `on_create`. When it was being tried again, `__context__` is
    what its last attempt raised.
    """


@_once
class TaskCancelled(TaskerError, concurrent.futures.CancelledError):
    """The task was given up: dropped by `kill` or `cancel_queued`, or ended through its context.

    `Context.check` raises it. It is set as an exception, so a coroutine that awaits the task fails
    instead of looking as if it had been cancelled itself.
    """


@_once
class TaskNotPicklable(TaskerError, TypeError):
    """A task, or a config, cannot be sent to another process.

    The text names the task, and the object inside of it that is at fault; `__cause__` is what
    pickling raised. Raised where the task is submitted. Where it can be sent and cannot be made
    again there, as a module is missing, it is the outcome of the task.
    """


@_once
class ResultNotPicklable(TaskerError, TypeError):
    """The task ran, and what it returned or raised cannot be sent back.

    The text names the task and the object at fault; `__cause__` is what pickling raised.
    """


@_once
class ResourceLost(TaskerError, RuntimeError):
    """The process that ran the task is gone, and the task may have begun there.

    The outcome of a task with `once`, which must not begin twice, and of one whose process was lost
    at each of its `max_retries` repetitions. `__cause__` tells how the process was lost.
    """


publish(
    globals(),
    [
        "ConfigError",
        "QueueFull",
        "ResourceCreationError",
        "ResourceLost",
        "ResultNotPicklable",
        "RunnerBroken",
        "RunnerStopped",
        "TaskCancelled",
        "TaskNotPicklable",
        "TaskTimeout",
        "TaskerError",
    ],
)
