"""`RayRunner`: a runner whose workers live in the actors of a Ray cluster."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NoReturn,
    Self,
    TypeVar,
    cast,
)

from tasker._block import ends_gracefully
from tasker._checks import check_count, check_deadline, check_seconds, check_type
from tasker._config import Config, check_config
from tasker._errors import (
    ConfigError,
    ResourceCreationError,
    RunnerBroken,
)
from tasker._looks import Memory
from tasker._options import Options, check_options, taking_options
from tasker._priority import Priority
from tasker._public import publish, publish_methods
from tasker._registry import register
from tasker._retry import Retry, Unset
from tasker._shortcuts import ShortcutsMixin
from tasker._stop_timeout import StopTimeout
from tasker.ray import _cluster, _figures, _names
from tasker.ray._carried import Carrier
from tasker.ray._dispatcher import Dispatcher
from tasker.ray._engine import Engine, settings_of
from tasker.ray._executor import RayExecutor
from tasker.ray._exit import stop_at_exit
from tasker.ray._figures import ActorInfo
from tasker.ray._fleet import Fleet
from tasker.ray._submit import RaySubmitMixin

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from tasker._dropped import DroppedTask
    from tasker._finding import Finding
    from tasker._future import Future
    from tasker._stats import Histograms, Metrics, Stats
    from tasker._workers import WorkerInfo

R = TypeVar("R")
S = TypeVar("S")
"""The resource of a runner that is being made: a class method of its own."""

OURS = ("max_restarts", "max_task_retries", "max_concurrency", "concurrency_groups")
"""Options of actors that decide what is run twice, and where: the runner gives them."""


class RayRunner(RaySubmitMixin[R], ShortcutsMixin[R]):
    """A runner on a Ray cluster: each actor is a process with a `Runner` of the same config inside.

    Resources are made, checked, renewed and destroyed in the actors, by their workers, as on one
    machine; `config.worker_count` and what else concerns workers holds for each actor. Tasks wait
    in the driver, and are sent to the actors somewhat ahead of their turn. Functions, arguments and
    results are copies. The page *On a Ray cluster* lists where each field of the config acts,
    and what differs from a `Runner`.

    An actor that is lost is replaced, and what it had is run again by another one, except for tasks
    with `once` that may have begun: they fail with `ResourceLost`.

    All methods may be called from any thread of the driver, and from done-callbacks. Use it in a
    `with` statement, or `async with`: it ends as a `Runner` does.

    Args:
        config: The settings. Its functions are sent to the actors.
        actors: How many actors there are.
        actor_options: Given to Ray's `.options(...)` for each actor as they are: `num_cpus`,
            `num_gpus`, `resources`, `runtime_env` and so on. Not `max_restarts`,
            `max_task_retries`, `max_concurrency` or `concurrency_groups`, which the runner decides.
        contextvars: Names of context variables, as `package.module.variable`, whose values
            travel with each task; others do not.
        creation_timeout: Seconds that the making of an actor and its resources may take.
        max_out: How many tasks may be with one actor, those that wait there included. How many
            are, follows how idle its workers are.

    Raises:
        ConfigError: A setting has a wrong type or value.
        TaskNotPicklable: A function of the config cannot be sent to an actor.
        ResourceCreationError: Ray was not started, or an actor or its resource could not be made in
            time. The error of `on_create` is the cause.
        TypeError: *config* is no `Config`.

    Example:
        >>> import ray
        >>> from tasker import Config
        >>> from tasker.ray import RayRunner
        >>> _ = ray.init(num_cpus=2, include_dashboard=False, ignore_reinit_error=True)
        >>> with RayRunner(Config(on_create=dict, worker_count=1), actors=2) as runner:
        ...     sum(runner.map(lambda cache, n: n * n, range(5)))
        30
    """

    def __init__(
        self,
        config: Config[R],
        *,
        actors: int,
        actor_options: Mapping[str, object] | None = None,
        contextvars: Iterable[str] = (),
        creation_timeout: float = 60.0,
        max_out: int = 1024,
    ) -> None:
        check_config(config)
        actors = check_count("actors", actors, least=1)
        max_out = check_count("max_out", max_out, least=1)
        timeout = check_seconds("creation_timeout", creation_timeout)
        options = _check_actor_options(actor_options)
        carrier = Carrier(contextvars)
        if carrier.names and not config.copy_contextvars:
            text = "contextvars and copy_contextvars=False exclude each other: tasks see none"
            raise ConfigError(text)
        if _cluster.session() is None:
            text = "there is no connection to Ray: call ray.init() before the runner is made"
            raise ResourceCreationError(text)
        self._name = _names.claim(config.name, config.logger)
        try:
            fleet = Fleet(
                self._name,
                actors,
                config.worker_count,
                options,
                partial(settings_of, config, carrier=carrier),
                timeout,
                max_out,
            )
            dispatcher = Dispatcher(
                self._name,
                config.logger,
                config.max_queue_size,
                config.max_retries,
                config.fail_fast_after,
                fleet,
                config.context,
            )
            fleet.open_first()
        except BaseException:
            _names.release(self._name)
            raise
        self._looks = Memory()
        self._parts = Engine(config, carrier, fleet, dispatcher)
        dispatcher.start()
        stop_at_exit(dispatcher)
        register(self)

    def _engine(self) -> Engine:
        return self._parts

    @classmethod
    async def start(cls, config: Config[S], *, actors: int, **settings: Any) -> RayRunner[S]:
        """Makes a runner in asyncio without blocking the loop.

        Args:
            config: As for the class.
            actors: As for the class.
            **settings: The other arguments of the class.

        Returns:
            The runner, for `async with`.

        Raises:
            ResourceCreationError: As for the class; so with the other errors.
        """
        from tasker._asyncio import off_loop  # noqa: PLC0415

        make = cast("Callable[..., RayRunner[S]]", cls)
        return await off_loop(partial(make, config, actors=actors, **settings), "start on ray")

    @property
    def name(self) -> str:
        """The runner's name: that of its config, or `ray-1`, `ray-2` and so on."""
        return self._name

    @property
    def state(self) -> Literal["running", "stopping", "killed", "stopped"]:
        """How far the runner's life has come, as of a `Runner`."""
        return self._parts.dispatcher.state

    @property
    def worker_count(self) -> int:
        """Base workers of all actors together, as the config and `resize` ask for them."""
        return self._parts.config.worker_count * self._parts.fleet.size

    @property
    def max_worker_count(self) -> int:
        """The most base and burst workers of all actors together."""
        return self._parts.most_workers

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
    ) -> RaySubmitter[R]:
        """Makes a view of this runner whose tasks have the given options; see `Runner.options`.

        Args:
            priority: The class the tasks wait in, in the driver and in each actor.
            once: Whether the function is entered at most once; a task that may have begun on an
                actor that is lost fails with `ResourceLost`.
            timeout: Time limit of each task in seconds, from its submit. An actor is told how much
                is left when the task is sent.
            name: Name of the tasks. `None`: that of the function.
            retry: When a task is tried again that failed on a good resource, in its actor.
            key: Not on Ray: there is no locality over actors yet.
            serial: Not on Ray: it goes with *key*.

        Returns:
            The view.

        Raises:
            ConfigError: An option has a wrong type or value.
            NotImplementedError: *key* is given.
        """
        checked = check_options(priority, once, timeout, name, retry, key, serial)
        if key is not None:
            message = "key: a RayRunner has no locality by key"
            raise NotImplementedError(message)
        return RaySubmitter(self, checked)

    def executor(self) -> RayExecutor:
        """Makes a standard executor of this runner, for code that wants one.

        It calls functions without the resource. Each call gives another one, which can be shut
        down by itself. May be called from any thread.

        Returns:
            The executor.
        """
        return RayExecutor(RaySubmitter(self, Options(once=True)))

    # ---- the life of the runner

    def stop(self, timeout: float | None = None) -> None:
        """Stops gracefully: refuses new tasks, finishes the others, has the resources destroyed.

        From a done-callback the call only begins the shutdown.

        Args:
            timeout: Seconds to wait for the end. `None` and infinity: without limit.

        Raises:
            ConfigError: *timeout* is no number. Nothing has begun.
            StopTimeout: It is not over in time; the shutdown goes on and `kill` still works.
            RunnerBroken: The runner was inherited through a fork.
        """
        timeout = check_deadline("timeout", timeout)
        self._parts.dispatcher.check_process()
        self._parts.dispatcher.begin_end("stopping")
        self._wait_for_end(timeout, "stop")

    def kill(self, timeout: float | None = None) -> list[DroppedTask]:
        """Stops now: drops what has not begun, cancels the contexts of what runs.

        Also what was sent to an actor and has not begun there is handed back, by one call of `kill`
        and by one only. An actor that answers nothing for 30 s has its process ended, and what it
        had fails with `ResourceLost`: a task there keeps the interpreter to itself.

        Args:
            timeout: Seconds to wait for what runs. `None` and infinity: without limit.

        Returns:
            The tasks that never started, the higher classes first.

        Raises:
            ConfigError: *timeout* is no number. Nothing has begun.
            StopTimeout: It is not over in time; its `dropped` holds the tasks that never started.
            RunnerBroken: The runner was inherited through a fork.
        """
        timeout = check_deadline("timeout", timeout)
        dispatcher = self._parts.dispatcher
        dispatcher.check_process()
        dispatcher.begin_end("killed")
        self._wait_for_end(timeout, "kill")
        return dispatcher.outcomes.take_dropped()

    def _wait_for_end(self, timeout: float | None, verb: Literal["stop", "kill"]) -> None:
        dispatcher = self._parts.dispatcher
        if dispatcher.is_here():
            return
        if dispatcher.over.wait(None if timeout == math.inf else timeout):
            dispatcher.join()
            return
        dropped = dispatcher.outcomes.take_dropped() if verb == "kill" else []
        running = _figures.running_of(self._parts)
        text = f"{verb} of {self._name} is not over after {timeout:g} s"
        raise StopTimeout(text, running, dropped)

    # As for `Runner.astop`.
    async def astop(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Does what `stop` does, without blocking the loop.

        Args:
            timeout: As for `stop`.

        Raises:
            StopTimeout: As for `stop`; so with the other errors.
        """
        from tasker._asyncio import off_loop  # noqa: PLC0415

        await off_loop(partial(self.stop, timeout), f"stop of {self._name}")

    async def akill(self, timeout: float | None = None) -> list[DroppedTask]:  # noqa: ASYNC109
        """Does what `kill` does, without blocking the loop.

        Args:
            timeout: As for `kill`.

        Returns:
            The tasks that never started, the higher classes first.

        Raises:
            StopTimeout: As for `kill`; so with the other errors.
        """
        from tasker._asyncio import off_loop  # noqa: PLC0415

        return await off_loop(partial(self.kill, timeout), f"kill of {self._name}")

    def cancel_queued(self, reason: str | None = None) -> list[DroppedTask]:
        """Drops what waits in the driver and hands it back; what was sent to actors goes on.

        Args:
            reason: Told in the `TaskCancelled` of each task.

        Returns:
            The tasks that never started, the higher classes first.

        Raises:
            RunnerStopped: The runner is stopping or has stopped.
            RunnerBroken: The runner was inherited through a fork, or Ray was shut down.
        """
        return self._parts.dispatcher.cancel_queued(reason)

    def renew(self) -> Future[int]:
        """Renews all resources of all actors; in each as `Runner.renew` does.

        Returns:
            A future of the number of resources that are gone. What is lost with an actor is not
            counted.

        Raises:
            RunnerStopped: The runner is stopping or has stopped.
            RunnerBroken: The runner was inherited through a fork, or Ray was shut down.
        """
        return self._parts.dispatcher.renew()

    def resize(self, *, actors: int) -> None:
        """Changes how many actors there are, while the runner runs.

        Returns at once. Actors that are too many give back what has not begun there, finish the
        rest and destroy their resources.

        Args:
            actors: How many there are to be, at least 1.

        Raises:
            ConfigError: *actors* is no such number. Nothing is changed.
            RunnerStopped: The runner is stopping or has stopped.
        """
        actors = check_count("actors", actors, least=1)
        self._parts.dispatcher.check_open()
        self._parts.dispatcher.resize(actors)

    # ---- what it tells of itself

    def stats(self) -> Stats:
        """Returns the gauges of this moment, of all actors together and of what waits for them.

        Asks the actors, which takes some milliseconds, and no longer than a second.
        """
        return _figures.stats_of(self._parts)

    def metrics(self) -> Metrics:
        """Returns the figures since the start.

        Tasks are counted in the driver; what concerns resources the actors tell, those that are
        gone what they told last. Percentiles are up to 4 % off, and of `attach` and `creation` the
        largest among the actors.
        """
        return _figures.metrics_of(self._parts)

    def workers(self, *, stacks: bool = False) -> tuple[WorkerInfo, ...]:
        """Returns what each worker does at this moment; its name begins with that of its actor.

        Args:
            stacks: Whether each running task carries its stack.

        Raises:
            ConfigError: *stacks* is no bool.
        """
        check_type("stacks", stacks, bool)
        return _figures.workers_of(self._parts, stacks=stacks)

    def actors(self) -> tuple[ActorInfo, ...]:
        """Returns the actors, with what is with each, and its gauges."""
        return _figures.actors_of(self._parts)

    def diagnose(self) -> tuple[Finding, ...]:
        """Tells what is wrong with the runner at this moment, as `Runner.diagnose` does."""
        if self.state == "stopped":
            return ()
        return self._looks.look(_figures.snapshot_of(self._parts))

    def _histograms(
        self, wait_edges: Sequence[float], run_edges: Sequence[float]
    ) -> tuple[Metrics, Histograms]:
        return _figures.histograms_of(self._parts, wait_edges, run_edges)

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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(exc, GeneratorExit):
            # The coroutine is being closed, and must not wait any more.
            self._parts.dispatcher.begin_end("stopping")
        elif exc is None or isinstance(exc, SystemExit):
            await self.astop()
        else:
            await self.akill()

    def __reduce__(self) -> NoReturn:
        message = "a RayRunner cannot be sent elsewhere: it is for the process that made it"
        raise TypeError(message)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self._name!r} {self.state}, {self._parts.fleet.size} actors>"
        )

    def __del__(self) -> None:
        if not hasattr(self, "_parts") or self.state != "running":
            return
        if not self._parts.dispatcher.is_own_process:
            return
        message = f"{self!r} was dropped without stop() or kill()"
        self._parts.dispatcher.begin_end("stopping")
        warnings.warn(message, ResourceWarning, stacklevel=2, source=self)


class RaySubmitter(RaySubmitMixin[R]):
    """A view of a `RayRunner` whose tasks have fixed options; made by its `options`."""

    def __init__(self, runner: RayRunner[R], options: Options) -> None:
        """Made by `RayRunner.options` alone.

        Args:
            runner: Whose view it is.
            options: What it fixes.
        """
        self._runner = runner
        self._options = options

    def _engine(self) -> Engine:
        return self._runner._engine()

    @property
    def runner(self) -> RayRunner[R]:
        """The runner this is a view of."""
        return self._runner


publish_methods("RayRunner", RaySubmitMixin, "tasker.ray")
publish(globals(), ["ActorInfo", "RayRunner", "RaySubmitter"], "tasker.ray")


def _check_actor_options(given: Mapping[str, object] | None) -> dict[str, object]:
    check_type("actor_options", given, Mapping, optional=True)
    options = dict(given or {})
    for name in OURS:
        if name in options:
            text = f"actor_options: {name} is decided by the runner, got {options[name]!r}"
            raise ConfigError(text)
    return options
