"""Run functions on worker threads that each own a resource.

A `Runner` keeps worker threads, and each of them owns a resource: a database connection, an HTTP
client, a browser, a model on a GPU. A worker makes its resource, hands it to every task as the
first argument, replaces it when it goes bad and destroys it for certain at the end.

    import sqlite3
    from tasker import Config, Runner

    config = Config(
        on_create=lambda: sqlite3.connect("app.db"),
        on_destroy=sqlite3.Connection.close,
        worker_count=4,
    )
    with Runner(config) as runner:
        future = runner.submit(lambda conn: conn.execute("select 1").fetchone())
        print(future.result())
"""

from typing import TYPE_CHECKING

from tasker import _lifecycle, _public, _tasker
from tasker._batcher import Batcher
from tasker._config import Config
from tasker._errors import (
    ConfigError,
    QueueFull,
    ResourceCreationError,
    ResourceLost,
    ResultNotPicklable,
    RunnerBroken,
    RunnerStopped,
    TaskCancelled,
    TaskerError,
    TaskNotPicklable,
    TaskTimeout,
)
from tasker._priority import Priority
from tasker._results import Results
from tasker._retry import Retry, Unset
from tasker._runner import Runner, Starting, Submitter, runners
from tasker._tasker import CancelHandle, Context, TaskContext, TaskEvent, current_context

if TYPE_CHECKING:
    from tasker._dropped import DroppedTask
    from tasker._executor import RunnerExecutor, ThreadPoolExecutor
    from tasker._finding import Finding
    from tasker._future import Future
    from tasker._protocol import TaskRunner
    from tasker._running_task import RunningTask
    from tasker._stats import Metrics, Stats, TaskMetrics, Timing
    from tasker._stop_timeout import StopTimeout
    from tasker._submitted import SubmittedTask
    from tasker._workers import WorkerInfo

_lifecycle.install_hooks()

__version__ = _tasker.__version__

__all__ = [
    "Batcher",
    "CancelHandle",
    "Config",
    "ConfigError",
    "Context",
    "DroppedTask",
    "Finding",
    "Future",
    "Metrics",
    "Priority",
    "QueueFull",
    "ResourceCreationError",
    "ResourceLost",
    "ResultNotPicklable",
    "Results",
    "Retry",
    "Runner",
    "RunnerBroken",
    "RunnerExecutor",
    "RunnerStopped",
    "RunningTask",
    "Starting",
    "Stats",
    "StopTimeout",
    "SubmittedTask",
    "Submitter",
    "TaskCancelled",
    "TaskContext",
    "TaskEvent",
    "TaskMetrics",
    "TaskNotPicklable",
    "TaskRunner",
    "TaskTimeout",
    "TaskerError",
    "ThreadPoolExecutor",
    "Timing",
    "Unset",
    "WorkerInfo",
    "__version__",
    "current_context",
    "runners",
]

_LATER = {
    "DroppedTask": "tasker._dropped",
    "Finding": "tasker._finding",
    "Future": "tasker._future",
    "Metrics": "tasker._stats",
    "RunnerExecutor": "tasker._executor",
    "RunningTask": "tasker._running_task",
    "Stats": "tasker._stats",
    "StopTimeout": "tasker._stop_timeout",
    "SubmittedTask": "tasker._submitted",
    "TaskMetrics": "tasker._stats",
    "TaskRunner": "tasker._protocol",
    "ThreadPoolExecutor": "tasker._executor",
    "Timing": "tasker._stats",
    "WorkerInfo": "tasker._workers",
}
"""What is imported when somebody asks for it, and from where: a program that makes a runner and
submits tasks does without."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Imports what was not asked for before."""
        if name not in _LATER:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message, name=name)
        from importlib import import_module  # noqa: PLC0415

        found = getattr(import_module(_LATER[name]), name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


del TYPE_CHECKING


_public.publish(
    globals(), ["CancelHandle", "Context", "TaskContext", "TaskEvent", "current_context"]
)

if _tasker._debug_build:
    import warnings

    warnings.warn(
        "this build of tasker is unoptimised and slow; build it with --release",
        RuntimeWarning,
        stacklevel=2,
    )
    del warnings
