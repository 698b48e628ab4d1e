"""A runner on Ray for code that wants a standard executor."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from tasker._public import publish

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasker._future import Future
    from tasker.ray._submit import RaySubmitMixin

T = TypeVar("T")
P = ParamSpec("P")


class RayExecutor(concurrent.futures.Executor):
    """A runner on Ray for code that wants a standard executor; made by `RayRunner.executor`.

    Functions are called as `fn(*args, **kwargs)`, without the resource, by the workers in the
    actors and in the class `Priority.NORMAL`. Their errors say nothing about the resource:
    `is_broken` is not asked, and nothing is run twice. A call that may have begun on an actor that
    is lost fails with `ResourceLost`. What else the runner's config says holds: the bound of the
    queue, time limits, context variables. Functions, arguments and results are copies, as those of
    all tasks on Ray. asyncio takes it in `run_in_executor`.

    Its calls count as tasks in the runner's figures. `RayRunner.kill` hands back those that never
    ran with an `fn` that takes the resource and ignores it.

    It keeps its runner alive. All methods may be called from any thread of the driver.

    Example:
        >>> import ray
        >>> from tasker import Config
        >>> from tasker.ray import RayRunner
        >>> _ = ray.init(num_cpus=2, include_dashboard=False, ignore_reinit_error=True)
        >>> with RayRunner(Config(on_create=dict, worker_count=1), actors=2) as runner:
        ...     with runner.executor() as executor:
        ...         list(executor.map(pow, [2, 3], [5, 2]))
        [32, 9]
    """

    def __init__(self, view: RaySubmitMixin[Any]) -> None:
        """Made by `RayRunner.executor` alone.

        Args:
            view: What its calls are submitted by.
        """
        self._view = view
        self._futures: set[Future[Any]] = set()
        """Those of its calls that are not done."""
        # Destructors submit calls, even in the middle of a submit.
        self._lock = threading.RLock()
        self._is_shut_down = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queues a call for one of the actors and returns its future.

        Args:
            fn: Called as `fn(*args, **kwargs)` in an actor.
            *args: Positional arguments.
            **kwargs: Keyword arguments.

        Returns:
            The future of the call.

        Raises:
            RuntimeError: The executor is shut down.
            TaskNotPicklable: *fn* or an argument cannot be sent to an actor. It is a `TypeError`.
            RunnerStopped: The runner does not accept tasks; so with the other errors of
                `RayRunner.submit`.
        """
        self._check_open()
        dispatcher = self._view._engine().dispatcher
        dispatcher.check_open()
        (task,) = self._view._tasks(fn, [(args, kwargs)], takes_resource=False)
        future: Future[T] = task.future
        with self._lock:
            self._check_open()
            self._futures.add(future)
        try:
            dispatcher.accept(task, may_wait=self._view._engine().may_wait())
        except BaseException:
            # A shutdown that waits for its calls waits for this one, too.
            task.future._task = None
            future.cancel()
            self._forget(future)
            raise
        future.add_done_callback(self._forget)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Refuses new calls through this executor. The runner and other executors of it go on.

        May be called again, and from anywhere; in a done-callback on the driver's thread it does
        not wait.

        Args:
            wait: Whether to return only when the calls made through this executor are done.
            cancel_futures: Whether to cancel those of them that wait in the driver. What was sent
                to an actor goes on.
        """
        with self._lock:
            self._is_shut_down = True
            left = list(self._futures)
        dispatcher = self._view._engine().dispatcher
        if not dispatcher.is_own_process:
            return
        if cancel_futures:
            for future in left:
                future.cancel()
        if wait and not dispatcher.is_here():
            concurrent.futures.wait(left)

    def _check_open(self) -> None:
        if self._is_shut_down:
            message = "cannot schedule new futures after shutdown"
            raise RuntimeError(message)

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            self._futures.discard(future)


publish(globals(), ["RayExecutor"], "tasker.ray")
