"""What a call would not run is refused: coroutine and generator functions."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest

from tasker import (
    Config,
    ConfigError,
    Context,
    ResourceCreationError,
    Runner,
    ThreadPoolExecutor,
)
from tests.native.support import LONG_TIMEOUT, Broken, LogCapture, Resource, Runners, break_down


async def coroutine(*_arguments: Any) -> bool:
    raise AssertionError


def generator(*_arguments: Any) -> Iterator[int]:
    yield 1


async def async_generator(*_arguments: Any) -> AsyncIterator[int]:
    yield 1


class Client:
    async def method(self, *_arguments: Any) -> None: ...

    @classmethod
    async def of_the_class(cls, *_arguments: Any) -> None: ...

    @staticmethod
    async def static(*_arguments: Any) -> None: ...

    async def __call__(self, *_arguments: Any) -> None: ...


class Generating:
    def __call__(self, *_arguments: Any) -> Iterator[int]:
        yield 1


class Delegating:
    __call__ = functools.partial(coroutine, 1)


def marked() -> Callable[..., None]:
    """Says of itself that it is a coroutine function, as the interpreter has it."""

    def function(*_arguments: Any) -> None: ...

    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    vars(function)["_is_coroutine"] = vars(asyncio.coroutines)["_is_coroutine"]
    return function


UNRUN: dict[str, tuple[Any, str]] = {
    "function": (coroutine, "a coroutine function"),
    "generator": (generator, "a generator function"),
    "async generator": (async_generator, "an async generator function"),
    "lambda": (lambda *_: (yield), "a generator function"),
    "unbound method": (Client.method, "a coroutine function"),
    "bound method": (Client().method, "a coroutine function"),
    "class method": (Client.of_the_class, "a coroutine function"),
    "static method": (Client.static, "a coroutine function"),
    "object": (Client(), "a coroutine function"),
    "generating object": (Generating(), "a generator function"),
    "delegating object": (Delegating(), "a coroutine function"),
    "partial": (functools.partial(coroutine, 1), "a coroutine function"),
    "partial of partial": (functools.partial(functools.partial(generator)), "a generator function"),
    "partial of method": (functools.partial(Client().method, 1), "a coroutine function"),
    "marked": (marked(), "a coroutine function"),
    "async mock": (AsyncMock(), "a coroutine function"),
    "mock of a coroutine function": (AsyncMock(spec=coroutine), "a coroutine function"),
}


def returns_coroutine(*_arguments: Any) -> Any:
    return coroutine()


@functools.wraps(coroutine)
def runs_coroutine(*_arguments: Any) -> str:
    return "ran"


class Returning:
    async def work(self) -> None: ...

    def __call__(self, *_arguments: Any) -> str:
        return "ran"


class Guarded:
    """A callable that does not want to be asked for anything."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)

    def __call__(self, *_arguments: Any) -> str:
        return "ran"


RUN: dict[str, Any] = {
    "wrapper": runs_coroutine,
    "object": Returning(),
    "guarded object": Guarded(),
    "mock": Mock(return_value="ran"),
    "magic mock": MagicMock(return_value="ran"),
    "partial": functools.partial(runs_coroutine, 1),
    "class": list,
    "builtin": repr,
    "method of a type": object.__repr__,
}


async def _asubmit(runner: Runner[Resource], task: Any) -> Any:
    return await runner.asubmit(task, 1)


async def _amap(runner: Runner[Resource], task: Any) -> Any:
    return [answer async for answer in runner.amap(task, [1])]


VERBS: dict[str, Callable[[Runner[Resource], Any], Any]] = {
    "submit": lambda runner, task: runner.submit(task, 1),
    "submit_many": lambda runner, task: runner.submit_many(task, [1]),
    "queue_task": lambda runner, task: runner.queue_task(task, 1),
    "queue_task_once": lambda runner, task: runner.queue_task_once(task, 1),
    "queue_task_with_priority": lambda runner, task: runner.queue_task_with_priority(task, 1),
    "queue_task_with_priority_once": lambda runner, task: runner.queue_task_with_priority_once(
        task, 1
    ),
    "run_task": lambda runner, task: runner.run_task(task, 1),
    "map": lambda runner, task: list(runner.map(task, [1])),
    "asubmit": lambda runner, task: asyncio.run(_asubmit(runner, task)),
    "amap": lambda runner, task: asyncio.run(_amap(runner, task)),
    "view.submit": lambda runner, task: runner.options(once=True).submit(task, 1),
    "view.run_task": lambda runner, task: runner.options(once=True).run_task(task, 1),
    "view.map": lambda runner, task: list(runner.options(once=True).map(task, [1])),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
@pytest.mark.parametrize(("task", "kind"), UNRUN.values(), ids=UNRUN)
def test_every_verb_refuses_it(runners: Runners, verb: Any, task: Any, kind: str) -> None:
    runner = runners.start()
    with pytest.raises(TypeError, match=f"^a task must be a plain function, got {kind}: "):
        verb(runner, task)
    assert runner.metrics().total_tasks_completed == 0


@pytest.mark.parametrize("task", RUN.values(), ids=RUN)
def test_what_runs_is_taken(runners: Runners, task: Any) -> None:
    runner = runners.keep(Runner(Config[Any](on_create=tuple, worker_count=1)))
    for _ in range(2):
        assert runner.submit(task).result() is not None


def test_a_function_that_is_given_other_code_is_looked_at_again(runners: Runners) -> None:
    def task(*_arguments: Any) -> str:
        return "ran"

    runner = runners.start()
    assert runner.queue_task(task) == "ran"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        task.__code__ = coroutine.__code__
    with pytest.raises(TypeError, match="a coroutine function"):
        runner.queue_task(task)


def test_a_task_may_return_a_coroutine_or_a_generator(runners: Runners) -> None:
    runner = runners.start()
    assert inspect.isgenerator(runner.queue_task(lambda _: generator()))
    answer = runner.queue_task(returns_coroutine)
    assert inspect.iscoroutine(answer)
    answer.close()


def test_standard_executors_take_everything(runners: Runners) -> None:
    for executor in (ThreadPoolExecutor(1), runners.start().executor()):
        with executor:
            answer = executor.submit(coroutine).result()
            assert inspect.iscoroutine(answer)
            answer.close()
            [numbers] = executor.map(generator, [1])
            assert list(numbers) == [1]


HOOKS = [
    "on_create",
    "on_destroy",
    "is_broken",
    "check_health",
    "validate",
    "reset",
    "on_cancel",
]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(("given", "kind"), UNRUN.values(), ids=UNRUN)
def test_a_config_refuses_it_as_a_hook(hook: str, given: Any, kind: str) -> None:
    fields: dict[str, Any] = {"on_create": object, "worker_count": 1, hook: given}
    with pytest.raises(ConfigError, match=f"^{hook} must be a plain function, got {kind}: "):
        Config(**fields)


@pytest.mark.parametrize(("given", "kind"), UNRUN.values(), ids=UNRUN)
def test_a_config_refuses_it_as_a_factory(given: Any, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"^factory must be a plain function, got {kind}: "):
        Config.from_context_manager(given, worker_count=1)


@pytest.mark.parametrize("hook", ["on_create", "on_destroy", "reset", "on_cancel"])
@pytest.mark.parametrize("given", [Mock(), MagicMock()])
def test_doubles_that_say_nothing_are_taken(hook: str, given: Any) -> None:
    fields: dict[str, Any] = {"on_create": object, "worker_count": 1, hook: given}
    assert getattr(Config(**fields), hook) is given


class Awaitable:
    def __await__(self) -> Iterator[int]:
        yield 1


ANSWERS: dict[str, tuple[Callable[..., Any], str]] = {
    "coroutine": (lambda *_: coroutine(), "a coroutine"),
    "generator": (lambda *_: generator(), "a generator"),
    "async generator": (lambda *_: async_generator(), "an async generator"),
    "awaitable": (lambda *_: Awaitable(), "an awaitable"),
}


def refusal(hook: str, kind: str) -> str:
    return f"{hook} must be a plain function, and returned {kind}, which nothing runs"


@pytest.mark.parametrize(("hook", "kind"), ANSWERS.values(), ids=ANSWERS)
def test_a_creation_that_answers_so_has_failed(hook: Callable[..., Any], kind: str) -> None:
    with pytest.raises(ResourceCreationError) as raised:
        Runner(Config(on_create=hook, worker_count=1))
    assert str(raised.value.__cause__) == refusal("on_create", kind)


@pytest.mark.parametrize(("hook", "kind"), ANSWERS.values(), ids=ANSWERS)
def test_a_context_manager_that_answers_so_is_left(hook: Callable[..., Any], kind: str) -> None:
    left: list[int] = []

    class Manager:
        def __enter__(self) -> Any:
            return hook()

        def __exit__(self, *_error: object) -> None:
            left.append(1)

    with pytest.raises(ResourceCreationError) as raised:
        Runner(Config.from_context_manager(Manager, worker_count=1))
    assert str(raised.value.__cause__) == refusal("the context manager's __enter__", kind)
    assert left == [1]
    with pytest.raises(ResourceCreationError) as raised:
        Runner(Config.from_context_manager(hook, worker_count=1))
    assert str(raised.value.__cause__) == refusal("factory", kind)


@pytest.mark.parametrize("judge", ["is_broken", "check_health"])
@pytest.mark.parametrize(("hook", "kind"), ANSWERS.values(), ids=ANSWERS)
def test_a_judge_that_answers_so_has_failed(
    runners: Runners, log: LogCapture, hook: Callable[..., Any], kind: str, judge: str
) -> None:
    runner = runners.start(**{judge: hook})
    with pytest.raises(Broken):
        runner.queue_task(break_down)
    assert runner.queue_task(lambda resource: resource.number) == 1
    [record] = log.take()
    assert record.exc_info
    assert str(record.exc_info[1]) == refusal(judge, kind)
    assert runner.metrics().total_tasks_retried == 0


@pytest.mark.parametrize(("hook", "kind"), ANSWERS.values(), ids=ANSWERS)
def test_a_validation_that_answers_so_is_no_yes(
    runners: Runners, log: LogCapture, hook: Callable[..., Any], kind: str
) -> None:
    answers: list[Callable[..., Any]] = [hook]
    runner = runners.start(
        validate=lambda resource: answers.pop()(resource) if answers else True,
        validate_after_idle=0.0,
    )
    assert runner.queue_task(lambda resource: resource.number) == 1
    [record] = log.take()
    assert record.exc_info
    assert str(record.exc_info[1]) == refusal("validate", kind)


@pytest.mark.parametrize(("hook", "kind"), ANSWERS.values(), ids=ANSWERS)
def test_a_reset_that_answers_so_has_failed(
    runners: Runners, log: LogCapture, hook: Callable[..., Any], kind: str
) -> None:
    runner = runners.start(reset=hook)
    numbers = [runner.queue_task(lambda resource: resource.number) for _ in range(2)]
    assert numbers == [0, 1]
    assert [str(record.exc_info[1]) for record in log.take(2) if record.exc_info] == [
        refusal("reset", kind)
    ] * 2


@pytest.mark.parametrize(("hook", "kind"), ANSWERS.values(), ids=ANSWERS)
def test_a_destruction_that_answers_so_is_logged(
    log: LogCapture, hook: Callable[..., Any], kind: str
) -> None:
    Runner(Config(on_create=object, on_destroy=hook, worker_count=1)).stop()
    [record] = log.take()
    assert record.exc_info
    assert str(record.exc_info[1]) == refusal("on_destroy", kind)


@pytest.mark.parametrize(("given", "kind"), UNRUN.values(), ids=UNRUN)
def test_a_context_refuses_it_as_a_callback(given: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"^callback must be a plain function, got {kind}: "):
        Context().on_cancel(given)


@pytest.mark.parametrize(("hook", "kind"), ANSWERS.values(), ids=ANSWERS)
def test_an_interruption_that_answers_so_is_logged(
    runners: Runners, log: LogCapture, hook: Callable[..., Any], kind: str
) -> None:
    called = threading.Event()

    def interrupt(resource: Resource) -> Any:
        called.set()
        return hook(resource)

    def wait(_resource: Resource) -> None:
        future.request_cancel()
        assert called.wait(LONG_TIMEOUT)

    runner = runners.start(on_cancel=interrupt)
    begin = threading.Event()
    future = runner.submit(lambda resource: (begin.wait(LONG_TIMEOUT), wait(resource)))
    begin.set()
    future.result(LONG_TIMEOUT)
    [record] = log.take()
    assert record.exc_info
    assert str(record.exc_info[1]) == refusal("on_cancel", kind)
