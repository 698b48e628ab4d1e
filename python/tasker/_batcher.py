"""The method `batcher`, and what it gives: one call of a function for many items."""

from __future__ import annotations

from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tasker import _tasker
from tasker._batching import BatchSettings, check_batcher
from tasker._options import Options, check_options
from tasker._priority import Priority
from tasker._public import publish_methods

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from tasker._future import Future
    from tasker._retry import Retry, Unset

R = TypeVar("R")
X = TypeVar("X")
T = TypeVar("T")

if TYPE_CHECKING:
    from tasker._tasker import Batcher as _NativeBatcher
else:
    # The native class is generic in its stub alone.
    _NativeBatcher = GenericAlias(_tasker.Batcher, (X, T))


class Batcher(_NativeBatcher[X, T]):
    """Takes items one by one and calls a function for many of them; made by `Runner.batcher`.

    Each item is a task with a future of its own. A free worker takes as many as wait, up to
    `max_size`. A batcher may be kept and shared: all methods may be called from any thread. It
    keeps its runner alive, and ends with it.
    """

    def options(
        self,
        *,
        priority: Priority = Priority.NORMAL,
        timeout: float | None = None,
        name: str | None = None,
    ) -> Batcher[X, T]:
        """Makes a view of this batcher whose items have the given options.

        Items of a batcher and of all its views run in the same calls. An item of the class
        `Priority.HIGH` does not wait for a call to be full, and takes the others along.

        Args:
            priority: The class the items wait in, a `Priority` and no number.
            timeout: Time limit of each item in seconds, counted from its submit. `None`: the
                `task_timeout` of the config. `math.inf`: none.
            name: Name of the items' tasks. `None`: that of the function.

        Returns:
            The view.

        Raises:
            ConfigError: An option has a wrong type or value.

        Example:
            >>> from tasker import Config, Priority, Runner
            >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
            ...     upper = runner.batcher(lambda _, words: [w.upper() for w in words], max_size=8)
            ...     upper.options(priority=Priority.HIGH, timeout=5).queue_task("now")
            'NOW'
        """
        once, retry = self._kept_options
        options = check_options(priority, once, timeout, name, retry)
        return Batcher(self.runner, self._functions, *_of_items(options))


class BatcherMixin(Generic[R]):
    """The method `batcher`, for a runner and its views."""

    if TYPE_CHECKING:

        def _origin(self) -> tuple[_tasker.Runner[R], Any]: ...
        def _adopt(self, settings: BatchSettings) -> _tasker._BatchFunctions: ...
        def _fixed_options(self) -> Options: ...

    def batcher(
        self,
        fn: Callable[[R, list[X]], Iterable[T | Exception]],
        /,
        *,
        max_size: int,
        max_wait: float = 0.0,
        key: Callable[[X], Hashable] | None = None,
        split_failed: bool = False,
    ) -> Batcher[X, T]:
        """Makes a batcher: it takes items one by one, and has *fn* called for as many as wait.

        A free worker takes what waits, up to *max_size*, and each item gets its own result. In
        figures and in `max_queue_size` each item is a task; `max_tasks_per_resource` counts a call
        once. *fn* runs in a context of its own, without the submitters' context variables;
        `current_context()` in it is cancelled when all its items are given up. When the resource
        goes bad all items of the call are tried again together. Of a view the batcher has the
        options.

        Args:
            fn: Called as `fn(resource, items)` with a list of 1 to *max_size* items. Returns as
                many results in the same order, any iterable; it may be a generator function. An
                `Exception` among them is the outcome of that item alone. What it raises is the
                outcome of all of them, as is a `ValueError` when it gives another number.
            max_size: The most items of a call, at least 1.
            max_wait: For how many seconds since its submit an item waits for others at most,
                unless *max_size* wait. No worker is kept meanwhile. An item of the class
                `Priority.HIGH`, and `stop`, end the wait. 0: an item goes at once to a free worker.
            key: Called as `key(item)` in the thread that submits, gives something hashable: all
                items of a call have the same. An item for which it raises fails with that error,
                and is not queued.
            split_failed: Whether the items of a call that raised are run again one by one, on the
                same or another resource, so that one bad item spoils no others. *fn* is entered
                twice for them. Not for a resource that went bad, nor in a view with `once=True`.

        Returns:
            The batcher.

        Raises:
            TypeError: *fn* cannot be called, or is a coroutine function.
            ConfigError: Another argument has a wrong type or value, or *split_failed* is given to
                a view with `once=True`, or the view has a key of its own.

        Example:
            >>> from tasker import Config, Runner
            >>> def squares(cache: dict, numbers: list[int]) -> list[int]:
            ...     return [number * number for number in numbers]
            >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
            ...     square = runner.batcher(squares, max_size=32, max_wait=0.01)
            ...     futures = [square.submit(number) for number in range(4)]
            ...     [future.result() for future in futures]
            [0, 1, 4, 9]
        """
        options = self._fixed_options()
        settings = check_batcher(fn, max_size, max_wait, key, split_failed, options)
        return Batcher(self._origin()[0], functions_of(settings), *_of_items(options))

    def _submit_item(self, settings: BatchSettings, item: Any) -> Future[Any]:
        """Submits an item of another runner's batcher to one with the same settings."""
        runner, functions = self._origin()[0], self._adopt(settings)
        batcher: Batcher[Any, Any] = Batcher(runner, functions, *_of_items(self._fixed_options()))
        return batcher.submit(item)


def _of_items(
    options: Options,
) -> tuple[Priority, bool, float | None, str | None, Retry | Unset | None]:
    """What the items of a batcher have of the options: its own key is asked for theirs."""
    return options[:5]


def functions_of(settings: BatchSettings) -> _tasker._BatchFunctions:
    """Makes what the views of a batcher share."""
    return _tasker._BatchFunctions(
        settings.fn,
        settings.max_size,
        settings.max_wait,
        settings.key,
        settings.split_failed,
        settings,
    )


publish_methods("Runner", BatcherMixin)
