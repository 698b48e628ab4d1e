"""The runner and its views: what is not hot, on top of the native classes."""

from __future__ import annotations

import warnings
from functools import partial
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from tasker import _tasker, _threads
from tasker._adopter import Adopter
from tasker._amap import AsyncMapMixin
from tasker._batcher import BatcherMixin, functions_of
from tasker._block import ends_gracefully
from tasker._checks import below_base, cannot_resize, check_deadline, check_sizes
from tasker._config import Config, check_config, taking_a_config
from tasker._errors import RunnerBroken, RunnerStopped
from tasker._hints import AttributeHint, refuse_positions
from tasker._map import MapMixin
from tasker._options import Options, check_options, taking_options
from tasker._priority import Priority
from tasker._public import publish
from tasker._registry import alive, register
from tasker._retry import Retry, Unset
from tasker._tasker import _once
from tasker._texts import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable
    from types import TracebackType

    from tasker._batching import BatchSettings
    from tasker._dropped import DroppedTask
    from tasker._executor import RunnerExecutor

R = TypeVar("R")
S = TypeVar("S")
"""The resource of a runner that is being made: a class method of its own."""

if TYPE_CHECKING:
    from tasker._tasker import Runner as _NativeRunner
    from tasker._tasker import Submitter as _NativeSubmitter
else:
    # The native classes are generic in their stub alone.
    _NativeRunner = GenericAlias(_tasker.Runner, R)
    _NativeSubmitter = GenericAlias(_tasker.Submitter, R)


class Runner(_NativeRunner[R], MapMixin[R], AsyncMapMixin[R], BatcherMixin[R]):
    """Runs functions on worker threads that each own a resource.

    A task function is called as `fn(resource, *args, **kwargs)` on a worker, with that worker's
    resource. `submit` queues it and returns a future, `queue_task` queues it and waits, `run_task`
    goes past the queue. All methods may be called from any thread, from tasks and from callbacks.

    Use it in a `with` statement: leaving the block normally, through `SystemExit` or through
    `GeneratorExit` stops the runner gracefully; any other exception kills it and passes on. A
    runner dropped without either gives a `ResourceWarning` and stops in the background; one still
    alive when the interpreter exits is stopped gracefully.

    In asyncio start it with `start`, submit with `asubmit`, and use `async with`, which ends it in
    the same way without blocking the loop; `asyncio.CancelledError` kills, as other exceptions do,
    and at `GeneratorExit`, where a coroutine may not wait any more, the stop goes on in the
    background. In other event loops all these raise `RuntimeError`.

    Args:
        config: The settings.
        timeout: Seconds that the creation of the base workers' resources may take. `None` and
            infinity: no limit.

    Raises:
        ConfigError: *timeout* is no number.
        ResourceCreationError: A base worker got no resource, or *timeout* passed. What the others
            had made is destroyed. The error of `on_create` is the cause.
        RunnerStopped: The interpreter is exiting.
        TypeError: *config* is no `Config`.

    Example:
        >>> import sqlite3
        >>> from tasker import Config, Runner
        >>> def count(conn: sqlite3.Connection, table: str) -> int:
        ...     return conn.execute(f"select count(*) from {table}").fetchone()[0]
        >>> config = Config(
        ...     on_create=lambda: sqlite3.connect(":memory:"),
        ...     on_destroy=sqlite3.Connection.close,
        ...     worker_count=2,
        ... )
        >>> with Runner(config) as runner:
        ...     future = runner.submit(count, "sqlite_master")
        ...     future.result()
        0
    """

    if not TYPE_CHECKING:
        aclose = AttributeHint("astop")
        apply = AttributeHint("queue_task")
        apply_async = AttributeHint("submit")
        cancel_all = AttributeHint("kill")
        close = AttributeHint("stop")
        imap = AttributeHint("map")
        imap_unordered = AttributeHint("map(..., ordered=False)")
        join = AttributeHint("stop")
        shutdown = AttributeHint("stop")
        terminate = AttributeHint("kill")

    _adopter: Adopter[_tasker._BatchFunctions]

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if hasattr(self, name)]

    def __init__(self, config: Config[R], *, timeout: float | None = None) -> None:
        """Has nothing left to do: the runner was started when it was made.

        Subclasses may extend it. One that takes other arguments gives the config to `__new__`.

        Args:
            config: As for the class.
            timeout: As for the class.
        """

    if not TYPE_CHECKING:

        def __new__(cls, *given: Any, **settings: Any) -> Self:
            """Starts the runner, and has `tasker.runners` list it."""
            if len(given) > 1:
                refuse_positions(len(given))
            runner = super().__new__(cls, *given, **settings)
            runner._adopter = Adopter(functions_of)
            register(runner)
            return runner

        # What `help` and `inspect` show.
        __new__.__wrapped__ = __init__

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
    ) -> Submitter[R]:
        """Makes a view of this runner whose tasks have the given options.

        A view is cheap, reusable and safe to share between threads.

        Args:
            priority: The class the tasks wait in, a `Priority` and no number. `run_task` does not
                wait and takes no notice.
            once: Whether the function is entered at most once, whatever happens: no retry when
                its resource goes bad, or by the config's `retry`; the caller gets the error.
            timeout: Time limit of each task in seconds, counted from its submit. What is left of a
                deadline that has passed, 0 or less: the tasks fail with `TaskTimeout` at once.
                `None`: the `task_timeout` of the config. `math.inf`: none, whatever the config
                says.
            name: Name of the tasks in logs, in errors and as `current_context().task_name`,
                printable, on one line and cut at 200 characters; `DroppedTask.name` is as given.
                `None`: that of the function.
            retry: When a task is tried again that failed while its resource was fine. `None`: not
                at all. Not given: as the config says. Not with *once*.
            key: Asked for the key of each task when it is submitted, in the thread that submits:
                `key(*args, **kwargs)` with the arguments of the task, without the resource, gives
                something hashable, such as a tenant's name. A task goes to the worker that had a
                task of its key last if that one is free, else to any free worker; none is kept
                idle for it. `None`: none. Not for `run_task`, which goes past the queue.
            serial: Whether tasks of one key run one after the other, in the order of their submits,
                each after the end of the one before, its retries and their pauses included. Other
                keys run meanwhile. *priority* counts between keys: a key waits in the highest class
                of its tasks that wait. A task must not wait for one that has others of its key
                before it: that raises `RuntimeError`, unless the wait has a timeout. Needs *key*.

        Returns:
            The view.

        Raises:
            ConfigError: An option has a wrong type or value, *once* and *retry* are both given, or
                *serial* without *key*.

        Example:
            >>> from tasker import Config, Priority, Runner
            >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
            ...     urgent = runner.options(priority=Priority.HIGH, timeout=5)
            ...     urgent.queue_task(lambda cache: len(cache))
            0
        """
        options = check_options(priority, once, timeout, name, retry, key, serial)
        return Submitter(self, *options)

    def resize(
        self, *, worker_count: int | None = None, max_worker_count: int | None = None
    ) -> None:
        """Changes how many workers the runner has, while it runs.

        What is not given stays, but where there are no burst workers `max_worker_count` follows
        `worker_count`. Returns at once: new workers make their resources as others are replaced,
        with pauses while that fails and a word in the log, and no error here. Of those that are too
        many the idle leave at once and destroy their resources, and the others when their task has
        ended; burst workers first take the place of base workers that are missing.

        What depends on these numbers follows: how many reserved and temporary workers there may be,
        unless `resource_pool_size` says so, and how far `map` and `amap` read ahead. The properties
        `worker_count` and `max_worker_count` are what is asked for, `stats` tells what is, and
        `config` stays as it was made. May be called from any thread, and from tasks and hooks.

        Args:
            worker_count: Base workers. At least 1.
            max_worker_count: The most base and burst workers, at least `worker_count`. A worker
                whose task outlived its time limit counts until that ends: none is started in its
                place where that leaves no room, but the base workers beside it stay.

        Raises:
            TypeError: Neither is given.
            ConfigError: A number is none, or too small or large. Nothing is changed.
            RunnerStopped: The runner is stopping or has stopped.
            RunnerBroken: The runner was inherited through a fork, or failed inside.

        Example:
            >>> from tasker import Config, Runner
            >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
            ...     runner.resize(worker_count=4)
            ...     runner.worker_count, runner.max_worker_count
            (4, 4)
        """
        worker_count, max_worker_count = check_sizes(worker_count, max_worker_count)
        try:
            refused = self._resize(worker_count, max_worker_count)
        except RunnerStopped:
            # Its own text speaks of tasks.
            raise cannot_resize() from None
        if refused is not None:
            raise below_base(*refused)

    def executor(self) -> RunnerExecutor:
        """Makes a standard executor of this runner, for code that wants one.

        It calls functions without the resource. Each call gives another one, which can be shut
        down by itself. May be called from any thread.

        Returns:
            The executor.

        Example:
            >>> from tasker import Config, Runner
            >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
            ...     with runner.executor() as executor:
            ...         list(executor.map(abs, [-1, 2, -3]))
            [1, 2, 3]
        """
        from tasker._executor import RunnerExecutor  # noqa: PLC0415

        return RunnerExecutor(self)

    def _origin(self) -> tuple[Runner[R], None]:
        return self, None

    def _fixed_options(self) -> Options:
        return Options()

    def _adopt(self, settings: BatchSettings) -> _tasker._BatchFunctions:
        return self._adopter.adopt(settings)

    def _most_workers(self) -> int:
        return self.max_worker_count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        is_normal = ends_gracefully(exc)
        try:
            if is_normal:
                self.stop()
            else:
                self.kill()
        except RunnerBroken:
            # A child process that leaves the block on its way out must get out.
            if exc is None:
                raise
        except BaseException:
            # Ctrl-C, say, while it waited: an exception leaves the block after all.
            if is_normal:
                self.kill()
            raise

    @classmethod
    @taking_a_config
    def start(cls, config: Config[S], *, timeout: float | None = None) -> Starting[S]:
        """Starts a runner in asyncio without blocking the loop.

        Await what it returns for the runner, or use that in `async with`, which also ends the
        runner without blocking the loop, as `async with` on a runner does. A start that is
        cancelled leaves nothing behind: what has been created is destroyed, and what is being
        created is destroyed when it is ready.

        Args:
            config: The settings.
            timeout: As for `Runner`.

        Raises:
            TypeError: *config* is no `Config`.
            ConfigError: *timeout* is no number of seconds.
            ResourceCreationError: When awaited, as `Runner` does.
            RunnerStopped: When awaited: the interpreter is exiting.
            RuntimeError: When awaited: not in asyncio.

        Example:
            >>> import asyncio
            >>> from tasker import Config, Runner
            >>> async def main() -> int:
            ...     async with Runner.start(Config(on_create=dict, worker_count=1)) as runner:
            ...         return await runner.asubmit(lambda cache: len(cache))
            >>> asyncio.run(main())
            0
        """
        check_config(config)
        timeout = check_deadline("timeout", timeout)
        make = cast("Callable[..., Runner[S]]", cls)
        name = f"start of {plain(config.name or 'tasker')}"
        return Starting(partial(make, config, timeout=timeout), name)

    # `asyncio.timeout` would end the wait without a word of what still runs.
    async def astop(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Does what `stop` does, without blocking the loop.

        Cancelled, it no longer waits; the shutdown goes on.

        Args:
            timeout: As for `stop`.

        Raises:
            ConfigError: As for `stop`.
            StopTimeout: As for `stop`.
            RunnerBroken: As for `stop`.
            RuntimeError: No asyncio loop is running in this thread.
        """
        if self._is_served_here():
            return self.stop(timeout)
        # Not at the top: see that module. So below.
        from tasker._asyncio import off_loop  # noqa: PLC0415

        return await off_loop(partial(self.stop, timeout), f"stop of {self.name}")

    # As for `astop`.
    async def akill(self, timeout: float | None = None) -> list[DroppedTask]:  # noqa: ASYNC109
        """Does what `kill` does, without blocking the loop.

        Cancelled, it no longer waits; the shutdown goes on, and the dropped tasks are lost.

        Args:
            timeout: As for `kill`.

        Returns:
            The tasks that never started.

        Raises:
            ConfigError: As for `kill`.
            StopTimeout: As for `kill`.
            RunnerBroken: As for `kill`.
            RuntimeError: No asyncio loop is running in this thread.
        """
        if self._is_served_here():
            return self.kill(timeout)
        from tasker._asyncio import off_loop  # noqa: PLC0415

        return await off_loop(partial(self.kill, timeout), f"kill of {self.name}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        is_normal = exc is None or isinstance(exc, SystemExit)
        try:
            if isinstance(exc, GeneratorExit):
                # The coroutine is being closed, and must not wait any more.
                _threads.run_once(self.stop, f"stop of {self.name}")
            elif is_normal:
                await self.astop()
            else:
                await self.akill()
        except RunnerBroken:
            # As in `__exit__`.
            if exc is None:
                raise
        except GeneratorExit:
            # As above.
            raise
        except BaseException:
            # As in `__exit__`.
            if is_normal:
                await self.akill()
            raise

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"<{kind} '{self.name}' {self.state}, {self._worker_count()} workers>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Shows how the runner does, in a notebook."""
        # As for figures: a notebook that shows it loads what draws it, and no other program does.
        from tasker._overview import overview  # noqa: PLC0415

        try:
            figures = self.stats(), self.metrics(), self.workers(), self.diagnose()
        except RunnerBroken:
            return {"text/plain": repr(self)}
        return overview(self.name, self.state, *figures)

    def __del__(self) -> None:
        message = f"{self!r} was dropped without stop() or kill()"
        dropped = self.state == "running"
        self._let_go()
        if dropped:
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)


class Submitter(_NativeSubmitter[R], MapMixin[R], AsyncMapMixin[R], BatcherMixin[R]):
    """A view of a runner whose tasks have fixed options; made by `Runner.options`.

    It keeps its runner alive. All methods may be called from any thread.
    """

    @property
    def config(self) -> Config[R]:
        """The settings of the runner."""
        return self.runner.config

    def _origin(self) -> tuple[Runner[R], Submitter[R]]:
        return self.runner, self

    def _fixed_options(self) -> Options:
        priority, once, timeout, name, retry, key, serial = self._options
        return Options(Priority(priority), once, timeout, name, retry, key, serial)

    def _adopt(self, settings: BatchSettings) -> _tasker._BatchFunctions:
        return self.runner._adopt(settings)

    def _most_workers(self) -> int:
        return self.runner.max_worker_count

    def _has_room(self) -> bool:
        return self.runner._has_room()


class Starting(Generic[R]):
    """What `Runner.start` returns: await it for the runner, or use it in `async with`.

    Nothing is started before. Each `await` starts a runner of its own.
    """

    def __init__(self, make: Callable[[], Runner[R]], name: str) -> None:
        """Made by `Runner.start` alone.

        Args:
            make: Makes the runner, which may take long.
            name: The name of the thread that calls it.
        """
        self._make = make
        self._name = name
        self._runner: Runner[R] | None = None

    def __await__(self) -> Generator[Any, None, Runner[R]]:
        """Makes the runner on a thread of its own.

        A cancelled start is abandoned: what has been made is destroyed, what is being made is
        destroyed when it is ready.
        """
        # As in `Runner.astop`.
        from tasker._asyncio import start_runner  # noqa: PLC0415

        return start_runner(self._make, self._name).__await__()

    async def __aenter__(self) -> Runner[R]:
        self._runner = await self
        return self._runner

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.__aexit__(exc_type, exc, traceback)


@_once
def runners() -> tuple[Runner[Any], ...]:
    """Returns the runners that are alive in this process, oldest first.

    Alive is one whose constructor has returned and whose `state` is not `"stopped"` yet. None is
    kept alive by being listed, and none is listed in a child process that was forked from the one
    that made it. A `tasker.ray.RayRunner` is listed as well: it has what a `Runner` has, except for
    what its page names. May be called from any thread.

    Example:
        >>> from tasker import Config, Runner, runners
        >>> with Runner(Config(on_create=dict, worker_count=1)) as runner:
        ...     runner in runners()
        True
        >>> runner in runners()
        False
    """
    return cast("tuple[Runner[Any], ...]", tuple(alive()))


publish(globals(), ["Runner", "Starting", "Submitter", "runners"])
