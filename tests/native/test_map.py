"""`map` on a real runner: streaming, in batches, and every promise of a task kept for each item."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import itertools
import math
import operator
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from tasker import (
    ConfigError,
    Priority,
    QueueFull,
    Results,
    Runner,
    RunnerStopped,
    TaskCancelled,
    TaskTimeout,
    current_context,
)
from tests.native.support import (
    FREE_THREADED,
    LONG_TIMEOUT,
    MOMENT,
    Broken,
    Call,
    Gate,
    LogCapture,
    Resource,
    Runners,
    at_once,
    eventually,
    is_healthy,
)

MANY = 20_000
"""Items of a map in which batches are at their largest."""


class Big:
    """A result worth counting."""


def double(_resource: Resource, x: int) -> int:
    return 2 * x


def fail_at_two(_resource: Resource, x: int) -> int:
    if x == 2:
        raise ValueError(x)
    return x


class Counted(Iterator[int]):
    """Endless input that knows how many items were read, and by whom."""

    def __init__(self) -> None:
        self.read = 0
        self.readers: set[int] = set()

    def __next__(self) -> int:
        self.read += 1
        self.readers.add(threading.get_ident())
        return self.read - 1


# ---- order, look-ahead, several inputs


def test_results_come_in_order_although_tasks_end_in_any(runners: Runners) -> None:
    runner = runners.start(worker_count=3)
    second_is_done = threading.Event()

    def task(_resource: Resource, x: int) -> int:
        if x == 0:
            assert second_is_done.wait(LONG_TIMEOUT)
        if x == 1:
            second_is_done.set()
        return x

    assert list(runner.map(task, range(20))) == list(range(20))


def test_a_call_of_the_method_next_is_as_good_as_the_builtin(runners: Runners) -> None:
    results = runners.start().map(double, range(6))
    assert [next(results), results.__next__(), next(results), results.__next__()] == [0, 2, 4, 6]
    assert list(results) == [8, 10]
    for advance in (results.__next__, lambda: next(results)):
        with pytest.raises(StopIteration):
            advance()


def test_unordered_results_come_as_items_end(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)

    def task(resource: Resource, x: int) -> int:
        return gate.hold_then_return(resource, x) if x == 0 else x

    results = runner.map(task, range(10), ordered=False)
    assert sorted(itertools.islice(results, 9)) == list(range(1, 10))
    gate.open()
    assert list(results) == [0]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("workers", [1, 4])
def test_nothing_is_lost_or_doubled_in_large_batches(
    runners: Runners, *, ordered: bool, workers: int
) -> None:
    results = list(runners.start(worker_count=workers).map(double, range(MANY), ordered=ordered))
    assert (results if ordered else sorted(results)) == list(range(0, 2 * MANY, 2))


@pytest.mark.parametrize("fields", [{}, {"max_queue_size": 4}, {"max_queue_size": 1}])
@pytest.mark.parametrize("ordered", [True, False])
def test_an_endless_input_is_read_no_further_than_the_limit(
    runners: Runners, fields: dict[str, int], *, ordered: bool
) -> None:
    source = Counted()
    runner = runners.start(worker_count=2, **fields)
    with runner.map(double, source, buffersize=7, ordered=ordered) as results:
        for taken, _ in enumerate(itertools.islice(results, 3_000), start=1):
            assert source.read <= taken + 7
    assert source.readers == {threading.get_ident()}


def test_input_is_read_before_the_first_result_is_asked_for(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=3)
    source = Counted()
    with runner.map(gate.hold_then_return, source):
        assert source.read == 6
        gate.wait_for(3)


def test_the_look_ahead_stays_small_when_items_are_slow(runners: Runners) -> None:
    source = Counted()
    with runners.start(worker_count=2).map(lambda _, x: time.sleep(0.001), source) as results:
        for taken, _ in enumerate(itertools.islice(results, 40), start=1):
            assert source.read <= taken + 4


def test_the_look_ahead_grows_when_items_are_quick(runners: Runners) -> None:
    source = Counted()
    taken = 0
    with runners.start(worker_count=2).map(double, source) as results:
        for taken, _ in enumerate(results, start=1):
            # It begins with two for each worker; how far it goes depends on the machine.
            if source.read - taken > 16:
                break
            assert taken < 10 * MANY


@pytest.mark.parametrize("buffersize", [0, -1, 2.0, True, "2", 2**70])
def test_a_wrong_buffersize_is_refused(runners: Runners, buffersize: Any) -> None:
    with pytest.raises(ConfigError, match=r"^buffersize must be .*, got "):
        runners.start().map(double, [1], buffersize=buffersize)


def test_a_wrong_order_is_refused(runners: Runners) -> None:
    with pytest.raises(ConfigError, match=r"^ordered must be .*, got "):
        runners.start().map(double, [1], ordered="yes")  # type: ignore[call-overload]


def test_what_cannot_be_mapped_is_refused(runners: Runners) -> None:
    runner = runners.start()
    with pytest.raises(TypeError, match="at least one iterable"):
        runner.map(double)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="must be callable"):
        runner.map(5, [1])  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="not iterable"):
        runner.map(double, 5)  # type: ignore[call-overload]
    assert runner.metrics().total_tasks_arrived == 0


def test_several_inputs_end_with_the_shortest_and_are_read_once(runners: Runners) -> None:
    first = Counted()
    results = runners.start().map(lambda _, a, b: (a, b), first, "xy")
    assert list(results) == [(0, "x"), (1, "y")]
    read = first.read
    assert list(results) == []
    assert first.read == read == 3


def test_an_item_may_be_a_tuple(runners: Runners) -> None:
    items = [(1, 2), (), (3,)]
    assert list(runners.start().map(lambda _, item: item, items)) == items
    assert list(runners.start().map(lambda _, a, b: (a, b), items, items)) == [
        (item, item) for item in items
    ]


def test_any_callable_can_be_mapped(runners: Runners) -> None:
    class Callable_:
        def __call__(self, _resource: Resource, x: int) -> int:
            return x + 1

    runner = runners.start()
    assert list(runner.map(Callable_(), range(5))) == [1, 2, 3, 4, 5]
    assert list(runner.map(isinstance, [Resource, dict])) == [True, False]


def test_the_length_is_known_when_all_inputs_have_one(runners: Runners) -> None:
    results = runners.start().map(lambda _, a, b: a * b, [1, 2, 3], range(9))
    assert operator.length_hint(results) == 3
    next(results)
    assert operator.length_hint(results) == 2
    results.close()
    assert operator.length_hint(results) == 0


@pytest.mark.parametrize("endless", [itertools.count(), range(10**30)])
def test_the_length_is_unknown_otherwise(runners: Runners, endless: Iterable[int]) -> None:
    with runners.start().map(double, endless) as results:
        assert operator.length_hint(results, -1) == -1


# ---- failures


def test_a_failed_item_raises_at_its_place_and_ends_the_iteration(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    results = runner.map(fail_at_two, itertools.count(), buffersize=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="2"):
        next(results)
    assert list(results) == []
    eventually(lambda: runner.stats().running_tasks == 0)
    metrics = runner.metrics()
    assert metrics.total_tasks_failed == 1
    assert metrics.total_tasks_arrived <= 6


def test_a_failure_is_raised_as_itself_and_keeps_no_cycle(
    runners: Runners, no_collector: None
) -> None:
    runner = runners.start()
    error = ValueError("as itself")

    def task(_resource: Resource, _x: int) -> None:
        raise error

    with pytest.raises(ValueError, match="as itself") as raised:
        next(runner.map(task, [1]))
    assert raised.value is error
    refs: list[weakref.ref[Broken]] = []

    def fail(_resource: Resource, _x: int) -> None:
        raise Broken

    try:
        next(runner.map(fail, itertools.count()))
    except Broken as broken:
        refs.append(weakref.ref(broken))
    eventually(lambda: [ref() for ref in refs] == [None])


def test_stop_iteration_of_an_item_does_not_end_the_iteration(runners: Runners) -> None:
    def task(_resource: Resource, x: int) -> int:
        if x == 1:
            raise StopIteration(x)
        return x

    results = runners.start().map(task, range(3))
    assert next(results) == 0
    with pytest.raises(RuntimeError, match="StopIteration") as raised:
        next(results)
    assert isinstance(raised.value.__cause__, StopIteration)


def failing_input(error: BaseException) -> Iterator[int]:
    yield 0
    yield 1
    raise error


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("error", [OSError("unplugged"), QueueFull("of another runner")])
def test_an_input_that_fails_raises_at_its_place(
    runners: Runners, error: Exception, *, ordered: bool
) -> None:
    results = runners.start().map(double, failing_input(error), ordered=ordered)
    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(type(error)) as raised:
        next(results)
    assert raised.value is error
    assert list(results) == []


def test_an_input_that_fails_at_once_raises_in_the_call(runners: Runners) -> None:
    def source() -> Iterator[int]:
        raise OSError("unplugged")
        yield 0

    with pytest.raises(OSError, match="unplugged"):
        runners.start().map(double, source())


def test_what_no_input_should_raise_is_raised_at_once(runners: Runners, gate: Gate) -> None:
    with pytest.raises(KeyboardInterrupt):
        runners.start().map(gate.hold_then_return, failing_input(KeyboardInterrupt()), buffersize=5)


def test_an_input_that_failed_is_not_read_again(runners: Runners) -> None:
    class Stumbling(Counted):
        def __next__(self) -> int:
            item = super().__next__()
            if item == 2:
                raise OSError(item)
            return item

    source = Stumbling()
    results = runners.start().map(double, source)
    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(OSError, match="2"):
        next(results)
    assert list(results) == []
    assert source.read == 3


# ---- the end of the reading


def end_by_close(results: list[Results[int]]) -> None:
    results[0].close()
    assert list(results[0]) == []
    results[0].close()


def end_by_with(results: list[Results[int]]) -> None:
    with contextlib.suppress(KeyError), results[0]:
        raise KeyError


def end_by_dropping(results: list[Results[int]]) -> None:
    results.clear()


@pytest.mark.parametrize("end", [end_by_close, end_by_with, end_by_dropping])
@pytest.mark.parametrize("fields", [{}, {"task_timeout": 60}, {"max_queue_size": 20}])
@pytest.mark.usefixtures("no_collector")
def test_abandoning_cancels_what_has_not_started(
    runners: Runners,
    gate: Gate,
    end: Callable[[list[Results[int]]], None],
    fields: dict[str, Any],
) -> None:
    runner = runners.start(**fields)
    results = [runner.map(gate.hold_then_return, range(100), buffersize=10)]
    gate.wait_for()
    assert runner.stats().queued_tasks == 9
    end(results)
    assert runner.stats().queued_tasks == 0
    assert runner.stats().running_tasks == 1
    gate.open()
    eventually(lambda: runner.stats().running_tasks == 0)
    metrics = runner.metrics()
    assert (metrics.total_tasks_completed, metrics.total_tasks_cancelled) == (1, 9)


@pytest.mark.usefixtures("no_collector")
def test_what_is_cancelled_is_let_go_of_at_once(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    items = [Big() for _ in range(5)]
    refs = [weakref.ref(item) for item in items]
    results = runner.map(lambda _, item: item, iter(items))
    items.clear()
    results.close()
    assert [ref() for ref in refs] == [None] * 5


@pytest.mark.usefixtures("no_collector")
def test_results_handed_out_die(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    refs: list[weakref.ref[Big]] = []

    def make(_resource: Resource, _i: int) -> Big:
        big = Big()
        refs.append(weakref.ref(big))
        return big

    for big in runner.map(make, range(60), buffersize=4):
        del big
        if FREE_THREADED:
            gc.collect()
        assert sum(ref() is not None for ref in list(refs)) <= 4


@pytest.mark.usefixtures("no_collector")
def test_an_item_dies_with_its_run(runners: Runners) -> None:
    runner = runners.start()
    items = [Big(), Big()]
    refs = [weakref.ref(item) for item in items]
    results = runner.map(lambda _, item: None, iter(items), buffersize=2)
    items.clear()
    eventually(lambda: runner.metrics().total_tasks_completed == 2)
    assert [ref() for ref in refs] == [None] * 2
    assert list(results) == [None, None]


def test_a_cycle_through_the_function_is_collected(runners: Runners) -> None:
    runner = runners.start()

    def abandon() -> weakref.ref[Big]:
        holder: list[Any] = [Big()]
        holder.append(runner.map(lambda _, x: (holder, x), itertools.count(), buffersize=3))
        next(holder[1])
        return weakref.ref(holder[0])

    ref = abandon()

    def is_gone() -> bool:
        gc.collect()
        return ref() is None

    eventually(is_gone)


def test_it_can_be_handed_to_another_thread(runners: Runners) -> None:
    results = runners.start().map(double, range(50))
    assert next(results) == 0
    assert Call(list, results).result() == list(range(2, 100, 2))


def test_a_close_ends_a_wait_in_another_thread(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    results = runner.map(gate.hold_then_return, range(10))
    call: Call[list[int]] = Call(list, results)
    gate.wait_for()
    call.wait_until_blocked()
    with pytest.raises(RuntimeError, match="being read already"):
        next(results)
    results.close()
    assert call.result() == []
    assert runner.stats().queued_tasks == 0


def test_an_input_that_reads_its_own_results_is_told(runners: Runners) -> None:
    box: list[Results[int]] = []

    def source() -> Iterator[int]:
        yield 1
        yield from (next(box[0]) for _ in range(2))

    box.append(runners.start().map(double, source(), buffersize=1))
    assert next(box[0]) == 2
    with pytest.raises(RuntimeError, match="their own input"):
        next(box[0])


# ---- an item is a task


def test_a_slow_item_does_not_hold_up_the_others(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    slow = 500

    def task(resource: Resource, x: int) -> int:
        return gate.hold_then_return(resource, x) if x == slow else x

    results = runner.map(task, range(2 * slow), buffersize=2 * slow, ordered=False)
    got = sorted(itertools.islice(results, 2 * slow - 1))
    assert got == [x for x in range(2 * slow) if x != slow]
    gate.open()
    assert list(results) == [slow]


def test_slow_items_run_on_all_workers(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=4)
    call: Call[list[int]] = Call(list, runner.map(gate.hold_then_return, range(8)))
    gate.wait_for(4)
    gate.open()
    assert call.result() == list(range(8))


def test_waiting_items_bring_burst_workers(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_worker_count=3, burst_interval=0.01)
    call: Call[list[int]] = Call(list, runner.map(gate.hold_then_return, range(9)))
    gate.wait_for(3)
    gate.open()
    assert call.result() == list(range(9))


@pytest.mark.parametrize("fields", [{}, {"task_timeout": 60}])
def test_items_are_retried_on_a_fresh_resource(runners: Runners, fields: dict[str, Any]) -> None:
    runner = runners.start(worker_count=2, check_health=is_healthy, **fields)
    met: dict[int, list[Resource]] = {x: [] for x in range(40)}

    def task(resource: Resource, x: int) -> int:
        met[x].append(resource)
        if x % 10 == 7 and current_context().attempt == 1:
            raise Broken
        return x

    assert list(runner.map(task, range(40))) == list(range(40))
    assert all(len(set(resources)) == (2 if x % 10 == 7 else 1) for x, resources in met.items())
    metrics = runner.metrics()
    assert metrics.total_tasks_retried == 4
    assert (metrics.total_tasks_arrived, metrics.total_tasks_completed) == (40, 40)


def test_an_error_of_a_healthy_item_is_judged_and_raised(runners: Runners) -> None:
    judged: list[BaseException] = []

    def check_health(error: BaseException) -> bool:
        judged.append(error)
        return True

    results = runners.start(check_health=check_health).map(fail_at_two, range(5))
    with pytest.raises(ValueError, match="2") as raised:
        list(results)
    assert judged == [raised.value]


def test_retries_come_to_an_end(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy, max_retries=2)

    def task(_resource: Resource, x: int) -> int:
        if x == 1:
            raise Broken
        return x

    results = runner.map(task, range(3))
    assert next(results) == 0
    with pytest.raises(Broken) as raised:
        next(results)
    assert "gave up after 3 attempts" in raised.value.__notes__[0]


def test_once_items_are_entered_at_most_once(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy)
    entered: list[int] = []

    def task(_resource: Resource, x: int) -> int:
        entered.append(x)
        if x == 3:
            raise Broken
        return x

    with pytest.raises(Broken):
        list(runner.options(once=True).map(task, range(5)))
    assert entered.count(3) == 1


def test_the_resource_is_reset_after_each_item(runners: Runners) -> None:
    events: list[str] = []
    runner = runners.start(reset=lambda _: events.append("reset"))

    def task(_resource: Resource, x: int) -> int:
        events.append("item")
        return x

    assert list(runner.map(task, range(50))) == list(range(50))
    eventually(lambda: len(events) == 100)
    assert events == ["item", "reset"] * 50


def test_resources_are_renewed_after_so_many_items(runners: Runners) -> None:
    runner = runners.start(max_tasks_per_resource=10)
    used = list(runner.map(lambda resource, _: resource.number, range(35)))
    assert used == [x // 10 for x in range(35)]


def test_each_item_has_a_time_limit_of_its_own(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    view = runner.options(timeout=0.02, priority=Priority.HIGH)
    runner.submit(gate.hold)
    gate.wait_for()
    results = view.map(double, range(3))
    assert runner.stats().priority_tasks == 2
    with pytest.raises(TaskTimeout):
        list(results)


@pytest.mark.parametrize("ordered", [True, False])
def test_items_with_time_limits_are_mapped(runners: Runners, *, ordered: bool) -> None:
    runner = runners.start(worker_count=3, task_timeout=LONG_TIMEOUT)
    results = list(runner.map(double, range(300), ordered=ordered))
    assert sorted(results) == list(range(0, 600, 2))


def test_a_view_maps_with_its_options(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    with runner.options(priority=Priority.HIGH, name="urgent").map(
        lambda _, x: current_context().task_name, range(3)
    ) as results:
        assert runner.stats().priority_tasks == 2
        gate.open()
        assert list(results) == ["urgent"] * 3
    assert runner.stats().priority_tasks == 0


def test_something_more_urgent_comes_between_items(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    order: list[str] = []

    def task(resource: Resource, x: int) -> int:
        if x == 0:
            gate.hold()
        order.append("item")
        time.sleep(0.0005)
        return x

    low = runner.options(priority=Priority.LOW).map(task, range(200), buffersize=200)
    gate.wait_for()
    urgent = runner.options(priority=Priority.HIGH).submit(lambda _: order.append("urgent"))
    gate.open()
    urgent.result(LONG_TIMEOUT)
    assert list(low) == list(range(200))
    assert order.index("urgent") < 50


def test_an_item_knows_its_context(runners: Runners) -> None:
    runner = runners.start()

    def look(_resource: Resource, _x: int) -> tuple[int, str, str, bool]:
        context = current_context()
        assert current_context() is context
        return context.attempt, context.task_name, context.worker_name, context.cancelled

    name = f"{look.__qualname__}"
    expected = (1, name, f"{runner.name}-worker-1", False)
    assert list(runner.map(look, range(50))) == [expected] * 50
    contexts = list(runner.map(lambda *_: current_context(), range(20)))
    assert len(set(map(id, contexts))) == 20


def test_figures_count_each_item(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    assert len(list(runner.map(double, range(MANY)))) == MANY
    metrics = runner.metrics()
    assert metrics.total_tasks_arrived == metrics.total_tasks_completed == MANY
    assert 0 < metrics.min_execution_time <= metrics.average_execution_time < 0.01
    assert metrics.success_rate == 1


def test_gauges_tell_items_that_run_from_those_that_wait(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2)
    results = runner.map(gate.hold_then_return, range(10), buffersize=10)
    gate.wait_for(2)
    stats = runner.stats()
    assert (stats.running_tasks, stats.queued_tasks) == (2, 8)
    gate.open()
    assert list(results) == list(range(10))


def test_items_hold_permits_of_a_bounded_queue(runners: Runners, gate: Gate) -> None:
    runner = runners.start(max_queue_size=5, when_full="raise")
    results = runner.map(gate.hold_then_return, range(20), buffersize=20)
    gate.wait_for()
    waiting = runner.stats().queued_tasks
    assert waiting >= 4
    for _ in range(waiting, 5):
        runner.submit(double, 1)
    with pytest.raises(QueueFull):
        runner.submit(double, 1)
    gate.open()
    assert list(results) == list(range(20))


def test_a_full_queue_is_an_error_when_nothing_of_ours_is_in_it(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(max_queue_size=1, when_full="raise")
    runner.submit(gate.hold)
    gate.wait_for()
    runner.submit(double, 1)
    with pytest.raises(QueueFull):
        runner.map(double, [1])


@pytest.mark.stress
@pytest.mark.parametrize("fields", [{"max_queue_size": 4}, {}, {"check_health": is_healthy}])
def test_many_maps_share_a_runner(runners: Runners, fields: dict[str, Any]) -> None:
    runner = runners.start(worker_count=3, **fields)
    calls = at_once(4, lambda: list(runner.map(double, range(2_000))))
    assert [call.result() for call in calls] == [list(range(0, 4_000, 2))] * 4


# ---- context variables

var: contextvars.ContextVar[Any] = contextvars.ContextVar("var", default=None)


def swap_var(_resource: Resource, x: int) -> Any:
    """Gives what the item found, and leaves something behind."""
    found = var.get()
    if x % 3 == 0:
        var.set(("left by", x))
    return found


@pytest.fixture
def own_context() -> Iterator[None]:
    token = var.set("the reader's")
    yield
    var.reset(token)


@pytest.mark.usefixtures("own_context")
@pytest.mark.parametrize("fields", [{}, {"task_timeout": 60}, {"check_health": is_healthy}])
def test_each_item_runs_in_a_fresh_copy(runners: Runners, fields: dict[str, Any]) -> None:
    runner = runners.start(worker_count=2, **fields)
    assert set(runner.map(swap_var, range(3_000))) == {"the reader's"}


@pytest.mark.usefixtures("own_context")
def test_a_retry_runs_in_a_fresh_copy_too(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy)

    def task(_resource: Resource, x: int) -> Any:
        found = var.get()
        var.set("used")
        if x == 1 and current_context().attempt == 1:
            raise Broken
        return found

    assert list(runner.map(task, range(3))) == ["the reader's"] * 3


@pytest.mark.usefixtures("own_context")
def test_the_copy_is_of_the_context_at_the_time_of_reading(runners: Runners) -> None:
    def source() -> Iterator[int]:
        for x in range(200):
            var.set(x // 3)
            yield x

    assert list(runners.start().map(swap_var, source())) == [x // 3 for x in range(200)]


@pytest.mark.usefixtures("own_context")
def test_a_context_that_somebody_keeps_is_not_shared(runners: Runners) -> None:
    def task(_resource: Resource, x: int) -> tuple[Any, contextvars.Token[Any]]:
        found = var.get()
        token = var.set(x)
        var.reset(token)
        return found, token

    found = [found for found, _ in runners.start().map(task, range(500))]
    assert set(found) == {"the reader's"}


@pytest.mark.usefixtures("own_context")
def test_without_copies_an_item_sees_the_worker(runners: Runners) -> None:
    def create() -> Resource:
        var.set("the worker's")
        return runners.factory.create()

    runner = runners.start(on_create=create, copy_contextvars=False)
    assert set(runner.map(lambda *_: var.get(), range(50))) == {"the worker's"}


# ---- stop, kill, and inside tasks


def test_a_stop_lets_it_finish_what_was_submitted(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    results = runner.map(double, range(100), buffersize=5)
    assert next(results) == 0
    runner.stop(LONG_TIMEOUT)
    with pytest.raises(RunnerStopped):
        list(results)
    with pytest.raises(RunnerStopped):
        runner.map(double, [1])


@pytest.mark.parametrize("fields", [{}, {"task_timeout": 60}, {"max_queue_size": 50}])
def test_kill_answers_and_hands_back_what_did_not_start(
    runners: Runners, gate: Gate, fields: dict[str, Any]
) -> None:
    runner = runners.start(**fields)
    started: list[int] = []

    def task(_resource: Resource, x: int) -> int:
        started.append(x)
        gate.hold()
        return x

    results = runner.map(task, range(100), buffersize=10)
    gate.wait_for()
    kill = Call(runner.kill, LONG_TIMEOUT)
    eventually(lambda: runner.stats().queued_tasks == 0)
    gate.open()
    dropped = kill.result()
    assert sorted(task.args for task in dropped) == [(x,) for x in range(1, 10)]
    assert {task.fn for task in dropped} == {task}
    assert started == [0]
    assert next(results) == 0
    with pytest.raises(TaskCancelled):
        next(results)
    assert list(results) == []


def test_items_are_handed_back_with_the_options_of_their_view(runners: Runners, gate: Gate) -> None:
    runner = runners.start(task_timeout=60)
    runner.submit(gate.hold_then_return, None)
    gate.wait_for()
    view = runner.options(priority=Priority.HIGH, once=True, timeout=math.inf, name="page")
    results = view.map(double, range(3))
    dropped = runner.cancel_queued()
    gate.open()
    results.close()
    asked = [(task.priority, task.once, task.timeout, task.name) for task in dropped]
    assert asked == [(Priority.HIGH, True, math.inf, "page")] * len(asked)
    assert asked


@pytest.mark.parametrize("buffersize", [4, 4_000])
def test_no_item_starts_after_a_kill(runners: Runners, buffersize: int) -> None:
    runner = runners.start(worker_count=2)
    killed = threading.Event()
    late: list[int] = []

    def task(_resource: Resource, x: int) -> int:
        if killed.is_set():
            late.append(x)
        return x

    def read() -> None:
        with contextlib.suppress(TaskCancelled, RunnerStopped):
            for _ in runner.map(task, itertools.count(), buffersize=buffersize):
                pass

    call = Call(read)
    eventually(lambda: runner.metrics().total_tasks_completed > 1_000)
    runner.kill(LONG_TIMEOUT)
    killed.set()
    call.result()
    assert late == []


def test_kill_cancels_the_context_of_a_running_item(runners: Runners) -> None:
    runner = runners.start()
    waits = threading.Event()

    def task(_resource: Resource, _x: int) -> bool:
        context = current_context()
        waits.set()
        return context.wait(LONG_TIMEOUT)

    results = runner.map(task, range(5))
    assert waits.wait(LONG_TIMEOUT)
    runner.kill(LONG_TIMEOUT)
    assert next(results) is True


def test_a_stop_that_times_out_names_the_item(runners: Runners, gate: Gate) -> None:
    runner = runners.start()

    def a_slow_item(_resource: Resource, _x: int) -> None:
        gate.hold()

    with runner.map(a_slow_item, range(3)):
        gate.wait_for()
        with pytest.raises(TimeoutError, match="a_slow_item"):
            runner.stop(MOMENT)
        gate.open()


@pytest.mark.parametrize("fields", [{}, {"max_queue_size": 2}, {"task_timeout": 60}])
@pytest.mark.parametrize("ordered", [True, False])
def test_inside_a_task_it_never_stands_still(
    runners: Runners, fields: dict[str, Any], *, ordered: bool
) -> None:
    runner = runners.start(**fields)
    future = runner.submit(lambda _: list(runner.map(double, range(30), ordered=ordered)))
    assert sorted(future.result(LONG_TIMEOUT)) == list(range(0, 60, 2))


def test_inside_an_item_it_never_stands_still(runners: Runners) -> None:
    runner = runners.start(worker_count=2)

    def outer(_resource: Resource, x: int) -> int:
        return sum(runner.map(lambda _, y: x * y, range(10)))

    assert list(runner.map(outer, range(20))) == [45 * x for x in range(20)]


def test_an_inner_item_that_spoils_the_resource_gets_its_own_error(runners: Runners) -> None:
    runner = runners.start(check_health=is_healthy)

    def inner(_resource: Resource, _x: int) -> None:
        raise Broken

    def outer(resource: Resource) -> int:
        with pytest.raises(Broken):
            list(runner.map(inner, range(3)))
        return resource.number

    assert runner.submit(outer).result(LONG_TIMEOUT) == 0
    assert runner.queue_task(lambda resource: resource.number) == 1


def test_a_hook_must_not_wait_for_items(runners: Runners, log: LogCapture) -> None:
    errors: list[BaseException] = []
    box: list[Runner[Resource]] = []

    def validate(_resource: Resource) -> bool:
        try:
            list(box[0].map(double, range(3)))
        except RuntimeError as error:
            errors.append(error)
        return True

    box.append(runners.start(validate=validate, validate_after_idle=0.001))
    time.sleep(0.01)
    assert box[0].queue_task(lambda _: 1) == 1
    assert "must not wait" in str(errors[0])
    log.rest()


def test_items_wait_while_no_resource_can_be_made(runners: Runners, log: LogCapture) -> None:
    log.overlook("resources can")
    log.overlook("resources cannot")
    trouble = threading.Event()

    def create() -> Resource:
        if trouble.is_set():
            raise OSError("unplugged")
        return runners.factory.create()

    runner = runners.start(on_create=create, check_health=is_healthy)

    def task(_resource: Resource, x: int) -> int:
        if x == 5 and current_context().attempt == 1:
            trouble.set()
            raise Broken
        return x

    call: Call[list[int]] = Call(list, runner.map(task, range(50), buffersize=20))
    assert trouble.wait(LONG_TIMEOUT)
    time.sleep(MOMENT)
    trouble.clear()
    assert call.result() == list(range(50))


@pytest.mark.parametrize("how", ["queue_task", "map"])
def test_it_goes_on_inside_a_task_whose_resource_was_found_bad(runners: Runners, how: str) -> None:
    runner = runners.start(check_health=is_healthy)

    def fail(_resource: Resource, *_item: int) -> None:
        raise Broken

    def outer(_resource: Resource) -> list[int]:
        with contextlib.suppress(Broken):
            runner.queue_task(fail) if how == "queue_task" else list(runner.map(fail, [0]))
        return list(runner.map(lambda _, item: item, range(5)))

    assert runner.submit(outer).result(LONG_TIMEOUT) == [0, 1, 2, 3, 4]
