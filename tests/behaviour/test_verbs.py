"""What a task is given, and what its caller gets."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
from collections.abc import Callable
from typing import Any

import pytest

from tasker import Future, QueueFull, current_context
from tests.behaviour.support import AnyRunner, Bench
from tests.native.support import LONG_TIMEOUT, Resource


async def awaited(runner: AnyRunner, *call: Any, **kwargs: Any) -> Any:
    return await runner.asubmit(*call, **kwargs)


VERBS: dict[str, Callable[..., Any]] = {
    "submit": lambda runner, *call, **kwargs: runner.submit(*call, **kwargs).result(LONG_TIMEOUT),
    "asubmit": lambda runner, *call, **kwargs: asyncio.run(awaited(runner, *call, **kwargs)),
    "queue_task": lambda runner, *call, **kwargs: runner.queue_task(*call, **kwargs),
    "run_task": lambda runner, *call, **kwargs: runner.run_task(*call, **kwargs),
    "options.submit": lambda runner, *call, **kwargs: (
        runner.options().submit(*call, **kwargs).result(LONG_TIMEOUT)
    ),
    "options.queue_task": lambda runner, *call, **kwargs: runner.options(
        timeout=LONG_TIMEOUT
    ).queue_task(*call, **kwargs),
    "options.run_task": lambda runner, *call, **kwargs: runner.options().run_task(*call, **kwargs),
    "queue_task_once": lambda runner, *call, **kwargs: runner.queue_task_once(*call, **kwargs),
    "queue_task_with_priority": lambda runner, *call, **kwargs: runner.queue_task_with_priority(
        *call, **kwargs
    ),
    "queue_task_with_priority_once": lambda runner, *call, **kwargs: (
        runner.queue_task_with_priority_once(*call, **kwargs)
    ),
}
EVERY_VERB = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
Verb = Callable[..., Any]


def everything(
    resource: Resource, *args: object, **kwargs: object
) -> tuple[bool, tuple[object, ...], dict[str, object]]:
    return isinstance(resource, Resource), args, kwargs


@EVERY_VERB
def test_a_task_gets_the_resource_and_its_arguments(bench: Bench, verb: Verb) -> None:
    runner = bench.start()
    assert verb(runner, everything, 1, [2], three=3) == (True, (1, [2]), {"three": 3})


class Unusual(BaseException):
    """Not an `Exception`."""


@EVERY_VERB
@pytest.mark.parametrize("error", [ValueError("row 3"), Unusual(), GeneratorExit()])
def test_an_error_reaches_the_caller_as_itself(
    bench: Bench, verb: Verb, error: BaseException
) -> None:
    def fail(_resource: Resource) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        verb(bench.start(), fail)
    assert bench.is_same(raised.value, error)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_no_error_of_a_task_ends_anything_but_the_task(bench: Bench, error: BaseException) -> None:
    def fail(_resource: Resource) -> None:
        raise error

    runner = bench.start()
    assert bench.is_same(runner.submit(fail).exception(LONG_TIMEOUT), error)
    assert runner.queue_task(lambda _: "ok") == "ok"


@EVERY_VERB
def test_stop_iteration_becomes_a_runtime_error(bench: Bench, verb: Verb) -> None:
    def fail(_resource: Resource) -> None:
        raise StopIteration(7)

    with pytest.raises(RuntimeError, match="task raised StopIteration") as raised:
        verb(bench.start(), fail)
    assert isinstance(raised.value.__cause__, StopIteration)


def test_the_traceback_of_an_error_begins_in_the_task(bench: Bench) -> None:
    def fail(_resource: Resource) -> None:
        raise ValueError

    error = bench.start().submit(fail).exception(LONG_TIMEOUT)
    assert error is not None
    assert error.__traceback__ is not None
    assert error.__traceback__.tb_frame.f_code.co_name == "fail"


@EVERY_VERB
def test_what_cannot_be_called_is_refused(bench: Bench, verb: Verb) -> None:
    runner = bench.start()
    with pytest.raises(TypeError, match="a task must be callable, not int: 7"):
        verb(runner, 7)
    assert runner.metrics().total_tasks_arrived == 0


@pytest.mark.parametrize("verb", ["submit", "queue_task", "run_task", "map", "submit_many"])
def test_a_coroutine_function_is_refused(bench: Bench, verb: str) -> None:
    async def fetch(_resource: Resource, _item: int) -> None: ...

    runner = bench.start()
    call = getattr(runner, verb)
    with pytest.raises(TypeError, match="a task must be a plain function"):
        call(fetch, [1])


def test_a_future_is_one_of_tasker_and_of_the_standard_library(bench: Bench) -> None:
    future = bench.start().submit(lambda _: 7)
    assert isinstance(future, Future)
    assert isinstance(future, concurrent.futures.Future)
    assert concurrent.futures.wait([future], LONG_TIMEOUT).done == {future}
    assert list(concurrent.futures.as_completed([future], LONG_TIMEOUT)) == [future]


def test_a_future_can_be_awaited(bench: Bench) -> None:
    runner = bench.start()

    async def main() -> list[int]:
        future = runner.submit(lambda _: 7)
        return [await future, await asyncio.wrap_future(runner.submit(lambda _: 8))]

    assert asyncio.run(main()) == [7, 8]


def test_a_callback_gets_the_future_and_is_part_of_no_task(bench: Bench) -> None:
    told: list[object] = []

    def tell(future: Future[int]) -> None:
        with pytest.raises(RuntimeError):
            current_context()
        told.append(future)

    runner, let_run = bench.start_held()
    future = runner.submit(lambda _: 7)
    future.add_done_callback(tell)
    assert told == []
    let_run()
    assert future.result(LONG_TIMEOUT) == 7
    bench.eventually(lambda: told == [future])


# The task's own view of itself.


def describe(_resource: Resource) -> tuple[str, int, bool]:
    context = current_context()
    return context.task_name, context.attempt, context.cancelled


@EVERY_VERB
def test_a_task_knows_its_name_and_attempt(bench: Bench, verb: Verb) -> None:
    assert verb(bench.start(), describe) == ("describe", 1, False)


@pytest.mark.parametrize("verb", ["queue_task", "run_task"])
def test_a_view_names_its_tasks(bench: Bench, verb: str) -> None:
    view = bench.start().options(name="nightly")
    assert getattr(view, verb)(describe)[0] == "nightly"


class Named:
    def __call__(self, _resource: Resource) -> str:
        return current_context().task_name


def test_what_has_no_name_is_named_by_its_class(bench: Bench) -> None:
    assert bench.start().queue_task(Named()) == str(Named)


def test_a_worker_is_named_after_its_runner(bench: Bench) -> None:
    runner = bench.start(name="pg")
    assert runner.name == "pg"
    assert runner.queue_task(lambda _: current_context().worker_name).startswith("pg-")


def test_a_task_sees_its_time_limit(bench: Bench) -> None:
    left = bench.start().options(timeout=60).queue_task(lambda _: current_context().remaining())
    assert left is not None
    assert 30 < left <= 60
    assert bench.start().queue_task(lambda _: current_context().deadline) is None


def test_outside_of_a_task_there_is_no_context(bench: Bench) -> None:
    bench.start().queue_task(describe)
    with pytest.raises(RuntimeError, match="current_context"):
        current_context()


def test_a_task_can_be_asked_to_give_up_from_within(bench: Bench) -> None:
    box: list[Future[Any]] = []

    def give_up(_resource: Resource) -> str | None:
        assert box[0].request_cancel("enough")
        assert current_context().cancelled
        return current_context().reason

    runner, let_run = bench.start_held()
    box.append(runner.submit(give_up))
    let_run()
    assert box[0].result(LONG_TIMEOUT) == "enough"


# Context variables.

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


# Of the module: a variable cannot be sent to an actor inside a function.
def read(_resource: Resource) -> str:
    return variable.get()


def change(_resource: Resource) -> str:
    before = variable.get()
    variable.set("task's")
    return before


def set_on_create() -> None:
    variable.set("on_create's")


@EVERY_VERB
def test_a_task_runs_in_a_copy_of_its_submitters_variables(bench: Bench, verb: Verb) -> None:
    def submit() -> tuple[str, str]:
        variable.set("submitter's")
        return verb(bench.start(), change), variable.get()

    assert contextvars.copy_context().run(submit) == ("submitter's", "submitter's")


def test_the_copy_is_made_at_the_submit(bench: Bench) -> None:
    def submit() -> str:
        runner, let_run = bench.start_held()
        variable.set("first")
        future = runner.submit(read)
        variable.set("second")
        let_run()
        return future.result(LONG_TIMEOUT)

    assert contextvars.copy_context().run(submit) == "first"


def test_without_copies_tasks_share_the_variables_of_on_create(bench: Bench) -> None:
    def create() -> Resource:
        set_on_create()
        return bench.factory.create()

    runner = bench.start(on_create=create, copy_contextvars=False)
    assert [runner.queue_task(change) for _ in range(2)] == ["on_create's", "task's"]
    assert variable.get() == "none"


def test_hooks_do_not_see_the_submitters_variables(bench: Bench) -> None:
    seen: list[str] = bench.notes()

    def submit() -> None:
        variable.set("submitter's")
        runner = bench.start(reset=lambda resource: seen.append(read(resource)))
        runner.queue_task(lambda _: None)
        runner.stop()

    contextvars.copy_context().run(submit)
    assert seen == ["none"]


# Tasks inside tasks.

INSIDE: dict[str, Callable[[AnyRunner], int]] = {
    "queue_task": lambda runner: runner.queue_task(lambda resource: resource.number),
    "run_task": lambda runner: runner.run_task(lambda resource: resource.number),
    "result": lambda runner: runner.submit(lambda resource: resource.number).result(),
    "map": lambda runner: next(runner.map(lambda resource, _: resource.number, [0])),
    "submit_many": lambda runner: runner.submit_many(lambda resource, _: resource.number, [0])[
        0
    ].result(),
}


@pytest.mark.parametrize("call", INSIDE.values(), ids=INSIDE)
@pytest.mark.parametrize("bound", [None, 1])
def test_a_task_that_waits_for_another_runs_it_on_its_own_resource(
    bench: Bench, call: Callable[[AnyRunner], int], bound: int | None
) -> None:
    runner = bench.start(max_queue_size=bound)

    def outer(resource: Resource) -> bool:
        return call(runner) == resource.number and current_context().task_name.endswith("outer")

    assert runner.queue_task(outer)
    assert len(bench.factory.made) == 1


def test_a_task_submitted_in_another_runs_after_it(bench: Bench) -> None:
    runner = bench.start()
    order: list[str] = bench.notes()

    def outer(_resource: Resource) -> Future[None]:
        inner = runner.submit(lambda _: order.append("inner"))
        order.append("outer")
        return inner

    runner.queue_task(outer).result(LONG_TIMEOUT)
    assert order == ["outer", "inner"]


def test_a_crawl_does_not_nest(bench: Bench) -> None:
    runner = bench.start()

    def visit(_resource: Resource, depth: int) -> Future[Any] | int:
        return runner.submit(visit, depth - 1) if depth else 0

    found: Any = runner.submit(visit, 5_000)
    while isinstance(found, Future):
        found = found.result(LONG_TIMEOUT)
    assert found == 0


def test_a_full_queue_refuses_a_task_of_a_task(bench: Bench) -> None:
    runner = bench.start(max_queue_size=1)

    def outer(_resource: Resource) -> None:
        runner.submit(lambda _: None)
        with pytest.raises(QueueFull, match="max_queue_size=1"):
            runner.submit(lambda _: None)

    runner.queue_task(outer)
    assert runner.metrics().total_tasks_refused == 1


@pytest.mark.parametrize("wait", ["queue_task", "run_task"])
def test_a_hook_must_not_wait_for_a_task_of_its_own_runner(bench: Bench, wait: str) -> None:
    box: list[Any] = []
    raised: list[BaseException] = bench.notes()

    def reset(_resource: Resource) -> None:
        if not raised:
            try:
                getattr(box[0], wait)(lambda _: None)
            except RuntimeError as error:
                raised.append(error)

    box.append(bench.start(reset=reset, resource_pool_size=1, thread_bound=False))
    box[0].queue_task(lambda _: None)
    bench.eventually(lambda: len(raised) == 1)
    assert "must not wait" in str(raised[0])
