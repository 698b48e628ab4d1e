"""Tasks with keys: when they are asked for, what may go wrong, and what is counted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tasker import ConfigError, QueueFull, RunnerStopped
from tests.behaviour.support import Bench
from tests.native.support import LONG_TIMEOUT, Resource


def give(_resource: Resource, /, *args: object, **kwargs: object) -> tuple[object, object]:
    return args, kwargs


def first(_resource: Resource, item: object) -> object:
    return item


async def awaited(view: Any, *call: Any, **kwargs: Any) -> Any:
    return await view.asubmit(*call, **kwargs)


async def streamed(view: Any, items: list[object]) -> list[object]:
    return [item async for item in view.amap(first, items)]


WITH_KEYWORDS: dict[str, Callable[..., Any]] = {
    "submit": lambda view, *call, **kwargs: view.submit(*call, **kwargs).result(LONG_TIMEOUT),
    "asubmit": lambda view, *call, **kwargs: asyncio.run(awaited(view, *call, **kwargs)),
    "queue_task": lambda view, *call, **kwargs: view.queue_task(*call, **kwargs),
}
FOR_ITEMS: dict[str, Callable[..., Any]] = {
    "map": lambda view, items: list(view.map(first, items)),
    "amap": lambda view, items: asyncio.run(streamed(view, items)),
    "submit_many": lambda view, items: [
        future.result(LONG_TIMEOUT) for future in view.submit_many(first, items)
    ],
}


@pytest.mark.parametrize("verb", WITH_KEYWORDS.values(), ids=WITH_KEYWORDS)
def test_the_key_is_asked_with_the_arguments_in_the_thread_that_submits(
    bench: Bench, verb: Callable[..., Any]
) -> None:
    asked: list[object] = []

    def key(*args: object, **kwargs: object) -> int:
        asked.append((args, kwargs, threading.get_ident()))
        return 1

    view = bench.start().options(key=key)
    assert verb(view, give, 1, two=2) == ((1,), {"two": 2})
    assert verb(view, give) == ((), {})
    here = threading.get_ident()
    assert asked == [((1,), {"two": 2}, here), ((), {}, here)]


@pytest.mark.parametrize("verb", FOR_ITEMS.values(), ids=FOR_ITEMS)
def test_each_item_is_asked_for_its_key_once_and_in_order(
    bench: Bench, verb: Callable[..., Any]
) -> None:
    asked: list[object] = []

    def key(item: object) -> object:
        asked.append(item)
        return item

    items = [3, 1, 2, 1]
    assert verb(bench.start().options(key=key), items) == items
    assert asked == items


def test_a_map_that_waits_for_room_asks_no_item_twice(bench: Bench) -> None:
    asked: list[int] = []
    view = bench.start(max_queue_size=1).options(key=asked.append)
    assert list(view.map(first, range(20))) == asked == list(range(20))


def test_an_item_of_several_inputs_is_asked_for_with_all_its_arguments(bench: Bench) -> None:
    view = bench.start().options(key=lambda one, two: (one, two))
    assert list(view.map(give, [1, 2], "ab")) == [((1, "a"), {}), ((2, "b"), {})]


class Odd(BaseException):
    """Not an `Exception`."""


@pytest.mark.parametrize("error", [LookupError("no tenant"), Odd()])
@pytest.mark.parametrize("verb", WITH_KEYWORDS.values(), ids=WITH_KEYWORDS)
def test_an_error_of_the_key_is_raised_as_it_is_and_nothing_is_queued(
    bench: Bench, verb: Callable[..., Any], error: BaseException
) -> None:
    def key() -> int:
        raise error

    runner = bench.start()
    with pytest.raises(type(error)) as raised:
        verb(runner.options(key=key), give)
    assert raised.value is error
    assert runner.metrics().total_tasks_arrived == runner.metrics().total_tasks_refused == 0


class Unhashable:
    """Has no hash, by its own choice of error."""

    def __hash__(self) -> int:
        message = "no hash today"
        raise LookupError(message)


def test_a_key_that_is_not_hashable_is_named_with_its_task(bench: Bench) -> None:
    runner = bench.start()
    lists: Any = list  # type checkers know that they have no hash
    beginning = "^the key of task '{}' must be hashable, got a {}: "
    with pytest.raises(TypeError, match=beginning.format("give", "list")) as raised:
        runner.options(key=lists).submit(give)
    assert isinstance(raised.value.__cause__, TypeError)
    with pytest.raises(TypeError, match=beginning.format("named", "list")):
        runner.options(key=lists, name="named").submit(give)
    with pytest.raises(LookupError, match="no hash today"):
        runner.options(key=Unhashable).submit(give)
    assert runner.metrics().total_tasks_arrived == 0


def test_a_key_that_takes_other_arguments_says_how_it_is_called(bench: Bench) -> None:
    with pytest.raises(TypeError) as raised:
        bench.start().options(key=lambda _resource, tenant: tenant).submit(give, "acme")
    assert raised.value.__notes__ == [
        "tasker calls key as key(*args, **kwargs), with the arguments of the task and without the "
        "resource"
    ]


def test_submit_many_asks_for_all_keys_before_it_queues_the_first_task(bench: Bench) -> None:
    runner = bench.start()
    with pytest.raises(ZeroDivisionError):
        runner.options(key=lambda item: 1 // item).submit_many(first, [1, 2, 0])
    assert runner.metrics().total_tasks_arrived == 0


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_an_error_of_the_key_ends_a_map_at_its_place(bench: Bench, return_exceptions: bool) -> None:
    results = (
        bench.start()
        .options(key=lambda item: 1 // item)
        .map(first, [1, 2, 0, 3], return_exceptions=return_exceptions)
    )
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []


@pytest.mark.parametrize("verb", FOR_ITEMS.values(), ids=FOR_ITEMS)
def test_a_key_that_raises_stop_iteration_does_not_look_like_the_end_of_the_input(
    bench: Bench, verb: Callable[..., Any]
) -> None:
    numbers = iter([0])
    with pytest.raises(RuntimeError) as raised:
        verb(bench.start().options(key=lambda _: next(numbers)), [1, 2, 3])
    assert isinstance(raised.value.__cause__, StopIteration)


def test_run_task_takes_no_key(bench: Bench) -> None:
    runner = bench.start()
    with pytest.raises(ConfigError, match=r"^run_task\(\) takes no key, .*: call queue_task\(\)"):
        runner.options(key=lambda: 1).run_task(give)
    assert runner.metrics().total_tasks_arrived == 0


def test_a_view_with_a_key_has_no_batcher(bench: Bench) -> None:
    view = bench.start().options(key=lambda item: item)
    with pytest.raises(
        ConfigError, match=r"^a view with key has no batcher: batcher\(key=\.\.\.\)"
    ):
        view.batcher(lambda _, items: items, max_size=2)


def test_a_task_may_queue_another_one_with_a_key_and_wait_for_it(bench: Bench) -> None:
    runner = bench.start(max_queue_size=1)
    view = runner.options(key=lambda *_args: 1)
    assert view.queue_task(lambda _: view.queue_task(give, 5)) == ((5,), {})
    assert runner.metrics().total_key_hits == 1


def test_a_stopped_runner_asks_for_no_key(bench: Bench) -> None:
    runner = bench.start()
    view = runner.options(key=lambda: pytest.fail("asked"))
    runner.stop()
    with pytest.raises(RunnerStopped):
        view.submit(give)
    with pytest.raises(RunnerStopped):
        view.submit_many(first, [1])


def test_a_full_queue_refuses_a_task_with_a_key(bench: Bench) -> None:
    runner, let_run = bench.start_held(max_queue_size=1, when_full="raise")
    view = runner.options(key=lambda: 1)
    fits = view.submit(give)
    with pytest.raises(QueueFull):
        view.submit(give)
    let_run()
    assert fits.result(LONG_TIMEOUT) == ((), {})


class NeverCompared:
    """A key that must not be asked whether it equals another."""

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        pytest.fail("compared")


def test_the_first_task_of_a_key_misses_and_the_others_hit(bench: Bench) -> None:
    runner = bench.start()
    view = runner.options(key=lambda item: item)
    for item in (1, 2, 1, 1, NeverCompared(), NeverCompared()):
        assert view.queue_task(first, item) is item
    metrics = runner.metrics()
    assert (metrics.total_key_hits, metrics.total_key_misses) == (3, 3)
    runner.queue_task(first, 1)
    list(view.map(first, [1, 2, 3]))
    metrics = runner.metrics()
    assert (metrics.total_key_hits, metrics.total_key_misses) == (5, 4)


def test_a_dropped_task_has_the_function_and_is_asked_again(bench: Bench) -> None:
    asked: list[object] = []

    def key(item: int) -> int:
        asked.append(item)
        return item

    runner, let_run = bench.start_held()
    view = runner.options(key=key)
    view.submit(first, 1)
    results = view.map(first, [2])
    dropped = runner.cancel_queued()
    let_run()
    assert [task.key for task in dropped] == [key, key]
    other = bench.start()
    assert [task.submit_to(other).result(LONG_TIMEOUT) for task in dropped] == [1, 2]
    assert asked == [1, 2, 1, 2]
    results.close()
