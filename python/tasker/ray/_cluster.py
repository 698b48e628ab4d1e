"""The one door to Ray: what of it is used, and how."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# As a module of no type: it is there on few interpreters, and checkers run without it.
ray: Any = import_module("ray")


def _unwrapped(call: Any) -> Any:
    """Gives a function of Ray without what is around it: where there is no connection, a new one.

    A thread that is in the middle of something when Ray is shut down must start no cluster.
    """
    return getattr(call, "__wrapped__", call)


_get, _wait, _kill = map(_unwrapped, (ray.get, ray.wait, ray.kill))

Lost: type[Exception] = ray.exceptions.RayActorError
"""What the calls of an actor end with whose process or node is gone."""

GROUPS = {"push": 1, "pull": 2, "control": 1}
"""The threads of an actor: a group takes its calls in order, and none holds up another.

Two calls wait for news at most: a pull, and a call that brought an idle actor its next task.
"""


def has_modules_by_value() -> bool:
    """Whether the program has some modules pickled by what they hold."""
    return bool(ray.cloudpickle.list_registry_pickle_by_value())


def by_value(value: object) -> bytes:
    """Pickles as Ray does: functions and classes that cannot be imported by what they are."""
    data: bytes = ray.cloudpickle.dumps(value)
    return data


def session() -> tuple[str, str] | None:
    """Names the connection to a cluster; `None`: there is none."""
    if not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    # A cluster counts its jobs; another one that is started here begins with the same number.
    return context.get_job_id(), context.get_node_id()


def place() -> tuple[str, str]:
    """Names the actor and the node that this runs in, in hexadecimal."""
    context = ray.get_runtime_context()
    return context.get_actor_id(), context.get_node_id()


def actor_class(host: type, options: Mapping[str, object]) -> Any:
    """Makes the class of actors.

    Args:
        host: The class of what lives in them. Its methods name their group themselves.
        options: Of the user.

    Raises:
        ValueError: Ray does not take the options; so with `TypeError`.
    """
    # A call that Ray repeats by itself would run its tasks twice.
    remote = ray.remote(concurrency_groups=GROUPS, max_restarts=0, max_task_retries=0)(host)
    return remote.options(**options)


def call(method: Any, *args: object) -> Any:
    """Calls a method of an actor, and gives the reference of its answer; or makes an actor.

    Raises:
        RuntimeError: There is no connection.
    """
    # Ray would start a cluster.
    if not ray.is_initialized():
        message = "there is no connection to Ray"
        raise RuntimeError(message)
    return method.remote(*args)


def group(name: str) -> Callable[[Any], Any]:
    """Decorates a method of an actor: says which thread takes its calls.

    Ray keeps no book of these calls, which are none that a user makes.
    """
    decorate: Callable[[Any], Any] = ray.method(concurrency_group=name, enable_task_events=False)
    return decorate


def answer(reference: Any) -> Any:
    """Gives the answer to a call that is done, or raises its error."""
    return _get(reference)


def first_done(references: list[Any], timeout: float) -> list[Any]:
    """Waits for one of some calls; gives those that are done."""
    ready, _ = _wait(references, num_returns=1, timeout=max(timeout, 0.0))
    return list(ready)


def when_done(reference: Any, call: Callable[[Any], object]) -> None:
    """Has *call* called with a standard future that is done when the answer is there.

    It is called on a thread of Ray's, and must not do more there than to tell another one.
    """
    reference.future().add_done_callback(call)


def done_of(references: list[Any]) -> list[Any]:
    """Gives those whose answers are there."""
    if not references:
        return []
    ready, _ = _wait(references, num_returns=len(references), timeout=0)
    return list(ready)


def end(handle: Any) -> None:
    """Has an actor end when its calls are done; what lives in it is closed."""
    call(handle.__ray_terminate__)


def destroy(handle: Any) -> None:
    """Ends an actor at once, whatever it does."""
    _kill(handle, no_restart=True)
