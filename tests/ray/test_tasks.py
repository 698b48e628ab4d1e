"""What a `RayRunner` does with tasks that go well."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tasker import (
    ConfigError,
    Future,
    Priority,
    QueueFull,
    Retry,
    TaskCancelled,
    TaskRunner,
    TaskTimeout,
    current_context,
)
from tests.ray.conftest import Make
from tests.ray.functions import (
    Resource,
    append,
    eventually,
    process,
    same,
    square,
    touch_and_wait,
    wait_for,
)


def total(runner: TaskRunner[Resource]) -> int:
    return sum(runner.map(square, range(10)))


def test_a_task_gets_the_resource_of_an_actor_and_its_result_comes_back(make: Make) -> None:
    runner = make(on_create=lambda: {"rate": 3})

    def scale(resource: Resource, n: int, *, by: int) -> int:
        return int(resource["rate"]) * n + by

    future = runner.submit(scale, 5, by=1)
    assert isinstance(future, Future)
    assert future.result(timeout=60) == 16


def test_every_verb_brings_the_result(make: Make) -> None:
    runner = make(actors=2)
    assert runner.queue_task(square, 3) == 9
    assert runner.run_task(square, 4) == 16
    assert [each.result() for each in runner.submit_many(square, range(50))] == [
        n * n for n in range(50)
    ]
    assert total(runner) == total(runner.options(name="square")) == 285
    assert runner.queue_task_with_priority(square, 2) == 4
    assert runner.queue_task_once(square, 2) == 4
    assert runner.queue_task_with_priority_once(square, 2) == 4


def test_coroutines_submit_and_map(make: Make) -> None:
    async def main() -> list[int]:
        async with make() as runner:
            first = await runner.asubmit(square, 2)
            return [first] + [y async for y in runner.amap(square, range(40))]

    assert asyncio.run(main()) == [4] + [n * n for n in range(40)]


def test_a_runner_starts_in_asyncio_without_blocking_the_loop(cluster: object) -> None:
    from tasker import Config
    from tasker.ray import RayRunner

    del cluster

    async def main() -> int:
        config: Config[Resource] = Config(on_create=dict, worker_count=1)
        async with await RayRunner.start(config, actors=1) as runner:
            return await runner.asubmit(square, 3)

    assert asyncio.run(main()) == 9


def test_map_gives_results_in_order_or_as_they_come(make: Make) -> None:
    runner = make(actors=2)
    assert list(runner.map(square, range(3000))) == [n * n for n in range(3000)]
    unordered = list(runner.map(square, range(3000), ordered=False))
    assert sorted(unordered) == [n * n for n in range(3000)]


def test_map_hands_out_errors_or_ends_with_one(make: Make) -> None:
    runner = make()

    def odd(_resource: Resource, n: int) -> int:
        if n % 2:
            raise ValueError(n)
        return n

    found = list(runner.map(odd, range(4), return_exceptions=True))
    assert [type(each) for each in found] == [int, ValueError, int, ValueError]
    with pytest.raises(ValueError, match="1"):
        list(runner.map(odd, range(4)))
    assert runner.queue_task(square, 2) == 4


def test_tasks_are_spread_over_the_actors(make: Make, tmp_path: Path) -> None:
    runner = make(actors=2)
    gate = tmp_path / "gate"

    def hold(_resource: Resource) -> int:
        wait_for(_resource, gate)
        return process(_resource)

    futures = [runner.submit(hold) for _ in range(2)]
    eventually(lambda: runner.stats().running_tasks == 2)
    gate.touch()
    assert len({each.result(timeout=60) for each in futures}) == 2


def test_a_high_task_overtakes_what_waits(make: Make, tmp_path: Path) -> None:
    runner, gate, path = make(), tmp_path / "gate", tmp_path / "order"
    first = runner.submit(wait_for, gate)
    eventually(first.running)
    futures = [runner.submit(append, path, "normal") for _ in range(20)]
    futures += [runner.options(priority=Priority.LOW).submit(append, path, "low")]
    futures += [runner.options(priority=Priority.HIGH).submit(append, path, "high")]
    gate.touch()
    for each in futures:
        each.result(timeout=60)
    order = path.read_text().split()
    # What was sent ahead is in a lane of the actor's; there the high one overtakes it too.
    assert (order[0], order[-1], len(order)) == ("high", "low", 22)


def test_a_time_limit_ends_what_waits_and_what_runs(make: Make, tmp_path: Path) -> None:
    runner, mark = make(), tmp_path / "mark"
    running = runner.options(timeout=3, name="hold").submit(touch_and_wait, mark)
    waiting = [runner.options(timeout=0.5, name="late").submit(square, 2) for _ in range(5)]
    for each in waiting:
        with pytest.raises(TaskTimeout, match=r"late did not start within its time limit of 0.5 s"):
            each.result(timeout=60)
    with pytest.raises(TaskTimeout, match=r"hold did not finish within its time limit of 3 s"):
        running.result(timeout=60)
    assert runner.metrics().total_tasks_timed_out == 6


def test_a_waiting_task_can_be_cancelled_and_never_runs(make: Make, tmp_path: Path) -> None:
    runner, gate, path = make(), tmp_path / "gate", tmp_path / "ran"
    held = runner.submit(wait_for, gate)
    futures = [runner.submit(append, path, str(n)) for n in range(20)]
    assert futures[-1].cancel()
    assert futures[-1].cancelled()
    gate.touch()
    held.result(timeout=60)
    for each in futures[:-1]:
        each.result(timeout=60)
    assert path.read_text().split() == [str(n) for n in range(19)]
    assert runner.metrics().total_tasks_cancelled == 1


def test_a_running_task_is_told_to_give_up(make: Make, tmp_path: Path) -> None:
    runner, mark = make(), tmp_path / "mark"
    future = runner.submit(touch_and_wait, mark)
    eventually(mark.exists)
    assert not future.cancel()
    assert future.request_cancel("enough")
    assert future.result(timeout=60) == "enough"


def test_a_task_that_was_sent_ahead_can_be_given_up(make: Make, tmp_path: Path) -> None:
    runner, gate = make(), tmp_path / "gate"
    held = runner.submit(wait_for, gate)
    second = runner.submit(square, 2)
    eventually(second.running)
    assert second.request_cancel("enough")
    with pytest.raises(TaskCancelled, match="enough"):
        second.result(timeout=60)
    gate.touch()
    held.result(timeout=60)


def test_a_cancelled_coroutine_cancels_its_task(make: Make, tmp_path: Path) -> None:
    runner, mark = make(), tmp_path / "mark"

    async def main() -> None:
        future = runner.asubmit(touch_and_wait, mark)
        await asyncio.to_thread(eventually, mark.exists)
        future.cancel()

    asyncio.run(main())
    eventually(lambda: runner.stats().running_tasks == 0)


def test_a_full_queue_refuses_or_blocks(make: Make, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    runner = make(max_queue_size=2, when_full="raise")
    held = runner.submit(wait_for, gate)
    eventually(lambda: runner.stats().running_tasks == 1)
    waiting: list[Any] = []

    def fill() -> bool:
        try:
            waiting.append(runner.submit(square, 1))
        except QueueFull:
            return True
        return False

    # The start of the first is known some moments after it.
    eventually(lambda: fill() and len(waiting) == 2)
    with pytest.raises(QueueFull, match="max_queue_size=2"):
        runner.submit(square, 1)
    assert runner.metrics().total_tasks_refused_full >= 1
    gate.touch()
    held.result(timeout=60)
    assert [each.result(timeout=60) for each in waiting] == [1, 1]


def test_a_submit_waits_for_room(make: Make, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    runner = make(max_queue_size=1)
    held = runner.submit(wait_for, gate)
    eventually(lambda: runner.stats().running_tasks == 1)
    first = runner.submit(square, 1)
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(runner.queue_task(square, 3)))
    thread.start()

    async def main() -> int:
        second = runner.asubmit(square, 2)
        gate.touch()
        return await second

    assert asyncio.run(main()) == 4
    thread.join(60)
    assert (held.result(), first.result(timeout=60), found) == (None, 1, [9])


def test_a_task_is_tried_again_by_its_retry_in_the_actor(make: Make) -> None:
    runner = make()

    def third_time(_resource: Resource) -> int:
        if (attempt := current_context().attempt) < 3:
            raise ConnectionError(attempt)
        return attempt

    view = runner.options(retry=Retry(on=ConnectionError, wait=0.001))
    assert view.queue_task(third_time) == 3
    assert runner.metrics().total_tasks_retried == 2


def test_a_broken_resource_is_replaced_in_the_actor(make: Make) -> None:
    runner = make(is_broken=lambda resource, error: isinstance(error, ConnectionError))

    def first_time(resource: Resource) -> int:
        if current_context().attempt == 1:
            resource["used"] = True
            raise ConnectionError
        return len(resource)

    assert runner.queue_task(first_time) == 0
    assert runner.metrics().replaced["unhealthy"] == 1


def test_named_context_variables_travel_and_others_do_not(make: Make) -> None:
    name = "tests.ray.carried.tenant"
    runner = make(settings={"contextvars": [name]})

    def read(_resource: Resource) -> tuple[str, str]:
        from tests.ray.carried import other, tenant

        return tenant.get("none"), other.get("none")

    from tests.ray.carried import other, tenant

    def submit() -> Any:
        tenant.set("acme")
        other.set("left behind")
        return runner.queue_task(read)

    assert contextvars.Context().run(submit) == ("acme", "none")
    assert contextvars.Context().run(runner.queue_task, read) == ("none", "none")


@pytest.mark.parametrize("name", ["tenant", "__main__.tenant", "tests.ray.carried.none", "os.sep"])
def test_a_variable_that_is_not_there_is_refused(make: Make, name: str) -> None:
    with pytest.raises(ConfigError, match="contextvars"):
        make(settings={"contextvars": [name]})


def test_arguments_and_results_are_copies(make: Make) -> None:
    runner, value = make(), [1, 2]
    future = runner.submit(same, value)
    value.append(3)
    found = future.result(timeout=60)
    assert found == [1, 2]


def test_a_done_callback_may_submit_but_not_wait(make: Make) -> None:
    runner = make()
    told: list[Any] = []
    over = threading.Event()

    def call(future: Any) -> None:
        following = runner.submit(square, future.result())
        try:
            following.result()
        except RuntimeError as error:
            told.append(error)
        following.add_done_callback(lambda done: (told.append(done.result()), over.set()))

    runner.submit(square, 3).add_done_callback(call)
    assert over.wait(60)
    assert isinstance(told[0], RuntimeError)
    assert told[1] == 81


def test_what_waits_with_one_actor_is_given_to_another_that_has_nothing(
    make: Make, tmp_path: Path
) -> None:
    runner = make(actors=2, settings={"max_out": 64})
    gate = tmp_path / "gate"

    def hold_one(_resource: Resource, n: int) -> int:
        if n == 0:
            wait_for(_resource, gate)
        return process(_resource)

    # So many that they are sent far ahead.
    futures = runner.submit_many(square, range(5000))
    futures += runner.submit_many(hold_one, range(40))
    others = futures[-39:]
    for each in others:
        each.result(timeout=100)
    assert not futures[-40].done()
    gate.touch()
    futures[-40].result(timeout=60)


def test_pauses_and_order_do_not_depend_on_a_clock_of_another_machine(make: Make) -> None:
    runner = make()

    def left(_resource: Resource) -> float | None:
        return current_context().remaining()

    before = time.monotonic()
    found = runner.options(timeout=100).queue_task(left)
    assert found is not None
    assert 0 < found <= 100
    assert found >= 100 - (time.monotonic() - before) - 1


def test_the_trace_of_the_submitter_goes_on_in_the_actor(make: Make) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    def trace_of(_resource: Resource) -> int:
        from opentelemetry import trace

        return trace.get_current_span().get_span_context().trace_id

    runner = make()
    with TracerProvider().get_tracer("test").start_as_current_span("outer") as span:
        inside = runner.queue_task(trace_of)
    assert inside == span.get_span_context().trace_id
    assert runner.queue_task(trace_of) == trace.INVALID_TRACE_ID


def test_tasks_of_one_worker_run_in_order_however_little_the_actor_has(
    make: Make, tmp_path: Path
) -> None:
    runner, book = make(), tmp_path / "book"
    numbers = iter(range(1000))
    expected = []
    for _ in range(40):  # the first finds the actor idle, the others are on their way meanwhile
        some = [next(numbers) for _ in range(3)]
        expected += some
        for each in [runner.submit(append, book, str(n)) for n in some]:
            each.result(timeout=60)
    assert list(map(int, book.read_text().split())) == expected


def test_a_task_is_cancelled_right_after_its_submit(make: Make) -> None:
    runner = make()

    def wait(_resource: Resource) -> str | None:
        context = current_context()
        context.wait()
        return context.reason

    for _ in range(20):
        future = runner.submit(wait)
        eventually(future.running)
        future.request_cancel("enough")
        # Cancelled before it began, or told so while it ran.
        error = future.exception(timeout=60)
        assert isinstance(error, TaskCancelled) or future.result() == "enough"


def test_a_map_reads_ahead_in_lots_and_takes_what_comes_before_an_error(make: Make) -> None:
    runner = make(actors=2)
    assert list(runner.map(square, range(3000))) == [n * n for n in range(3000)]

    def items() -> Any:
        yield from range(2000)
        yield threading.Lock()
        yield 1

    results = runner.map(square, items())
    assert [next(results) for _ in range(2000)] == [n * n for n in range(2000)]
    with pytest.raises(TypeError, match="lock"):
        next(results)
