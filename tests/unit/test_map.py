"""`map` streams: in order, never far ahead, and it ends for good."""

import concurrent.futures
import contextlib
import gc
import itertools
import operator
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker import Config, ConfigError, Future, QueueFull, Results, RunnerStopped
from tasker._map import Maps


class FakeFuture(concurrent.futures.Future[Any]):
    cancel_was_requested = False

    def request_cancel(self, reason: str | None = None) -> bool:
        self.cancel_was_requested = True
        return self.cancel()


class FakeRunner(Maps[None]):
    """Takes tasks as a runner does; runs them at once, or when the test says so."""

    def __init__(self, *, at_once: bool = True, room: int = 10**9, **fields: Any) -> None:
        fields.setdefault("worker_count", 2)
        self._config: Config[None] = Config(on_create=lambda: None, **fields)
        self.at_once = at_once
        self.room = room
        self.refusal: Exception | None = None
        self.tasks: list[tuple[FakeFuture, Callable[[], Any]]] = []

    @property
    def config(self) -> Config[None]:
        return self._config

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if self.refusal:
            raise self.refusal
        if sum(not future.done() for future in self.futures) >= self.room:
            raise QueueFull
        future = FakeFuture()
        self.tasks.append((future, lambda: fn(None, *args, **kwargs)))
        if self.at_once:
            self.run(-1)
        return future

    @property
    def futures(self) -> list[FakeFuture]:
        return [future for future, _ in self.tasks]

    def run(self, index: int) -> None:
        future, task = self.tasks[index]
        future.set_running_or_notify_cancel()
        try:
            future.set_result(task())
        except BaseException as error:
            future.set_exception(error)


def double(_resource: None, x: int) -> int:
    return 2 * x


def fail_at_two(_resource: None, x: int) -> int:
    if x == 2:
        raise ValueError(x)
    return x


class Counted(Iterator[int]):
    """Endless input that knows how many items were read."""

    def __init__(self) -> None:
        self.read = 0

    def __next__(self) -> int:
        self.read += 1
        return self.read - 1


def test_results_come_in_the_order_of_the_input() -> None:
    runner = FakeRunner(at_once=False)
    results = runner.map(double, [0, 1, 2])
    for index in (2, 0, 1):
        runner.run(index)
    assert list(results) == [0, 2, 4]


@given(
    inputs=st.lists(st.lists(st.integers(), max_size=12), min_size=1, max_size=3),
    buffersize=st.none() | st.integers(1, 20),
    queue_size=st.none() | st.integers(1, 5),
)
def test_map_gives_what_the_built_in_map_gives(
    inputs: list[list[int]], buffersize: int | None, queue_size: int | None
) -> None:
    runner = FakeRunner(max_queue_size=queue_size)
    results: Iterable[int] = runner.map(lambda _, *xs: sum(xs), *inputs, buffersize=buffersize)
    assert list(results) == [sum(xs) for xs in zip(*inputs, strict=False)]


@pytest.mark.parametrize(
    ("fields", "buffersize", "look_ahead"),
    [
        ({"worker_count": 3}, None, 6),
        ({"worker_count": 1, "max_worker_count": 4}, None, 8),
        ({"worker_count": 3}, 1, 1),
        ({"worker_count": 3}, 20, 20),
        ({"worker_count": 3, "max_queue_size": 100}, None, 6),
        ({"worker_count": 3, "max_queue_size": 2}, None, 5),
        ({"worker_count": 3, "max_queue_size": 2}, 20, 5),
        ({"worker_count": 3, "max_queue_size": 2}, 4, 4),
    ],
)
def test_input_is_never_read_further_ahead_than_the_limit(
    fields: dict[str, Any], buffersize: int | None, look_ahead: int
) -> None:
    source = Counted()
    results = FakeRunner(**fields).map(double, source, buffersize=buffersize)
    assert source.read == look_ahead
    for taken in range(10):
        assert next(results) == 2 * taken
        assert source.read == taken + look_ahead
    results.close()


@pytest.mark.parametrize("buffersize", [0, -1, 2.0, True, "2", 2**70])
def test_a_wrong_buffersize_is_refused(buffersize: Any) -> None:
    with pytest.raises(ConfigError, match=r"^buffersize must be .*, got "):
        FakeRunner().map(double, [1], buffersize=buffersize)


def test_map_without_input_is_refused() -> None:
    with pytest.raises(TypeError, match="at least one iterable"):
        FakeRunner().map(double)  # type: ignore[call-overload]


def test_several_inputs_end_with_the_shortest_and_are_read_once() -> None:
    first = Counted()
    results = FakeRunner().map(lambda _, a, b: (a, b), first, "xy")
    assert list(results) == [(0, "x"), (1, "y")]
    read = first.read
    assert list(results) == []
    assert first.read == read == 3


def end_by_close(results: Results[Any]) -> None:
    results.close()


def end_by_with(results: Results[Any]) -> None:
    with contextlib.suppress(KeyError), results:
        raise KeyError


@pytest.mark.parametrize("end", [end_by_close, end_by_with])
def test_abandoning_cancels_what_has_not_started(end: Callable[[Results[Any]], None]) -> None:
    runner = FakeRunner(at_once=False)
    results = runner.map(double, itertools.count())
    started, *waiting = runner.futures
    started.set_running_or_notify_cancel()
    end(results)
    assert started.running()
    assert not started.cancel_was_requested
    assert len(waiting) == 3
    assert all(future.cancelled() for future in waiting)
    assert list(results) == []
    results.close()


def test_dropping_the_iterator_cancels_at_once() -> None:
    runner = FakeRunner(at_once=False)
    results = runner.map(double, itertools.count())
    gc.disable()
    try:
        del results
        assert all(future.cancelled() for future in runner.futures)
    finally:
        gc.enable()


def test_a_failed_item_raises_at_its_place_and_ends_the_iteration() -> None:
    runner = FakeRunner(at_once=False)
    results = runner.map(fail_at_two, itertools.count(), buffersize=4)
    for index in (2, 1, 0):
        runner.run(index)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="2"):
        next(results)
    assert all(future.cancelled() for future in runner.futures[3:])
    assert list(results) == []


def failing_input(error: Exception) -> Iterator[int]:
    yield 0
    yield 1
    raise error


@pytest.mark.parametrize("error", [OSError("unplugged"), QueueFull("of another runner")])
def test_an_input_that_fails_raises_at_its_place(error: Exception) -> None:
    results = FakeRunner().map(double, failing_input(error))
    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(type(error)) as raised:
        next(results)
    assert raised.value is error
    assert list(results) == []


class Stumbling(Counted):
    """Input that fails once and would go on after that."""

    def __next__(self) -> int:
        item = super().__next__()
        if item == 2:
            raise OSError(item)
        return item


def test_an_input_that_failed_is_not_read_again() -> None:
    source = Stumbling()
    results = FakeRunner().map(double, source)
    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(OSError, match="2"):
        next(results)
    assert list(results) == []
    assert source.read == 3


def test_a_refusal_in_the_middle_raises_after_what_was_accepted() -> None:
    runner = FakeRunner()
    results = runner.map(double, itertools.count(), buffersize=2)
    assert next(results) == 0
    runner.refusal = RunnerStopped("cannot schedule new futures after shutdown")
    assert next(results) == 2
    with pytest.raises(RunnerStopped):
        next(results)
    assert list(results) == []


def test_a_refusal_of_the_first_item_is_raised_by_map_itself() -> None:
    runner = FakeRunner()
    runner.refusal = RunnerStopped("cannot schedule new futures after shutdown")
    with pytest.raises(RunnerStopped):
        runner.map(double, [1])


def test_a_full_queue_shortens_the_look_ahead_and_loses_nothing() -> None:
    runner = FakeRunner(at_once=False, room=2)
    source = Counted()
    results = runner.map(double, source, buffersize=8)
    for taken in range(6):
        assert len(runner.futures) == taken + 2
        assert source.read == taken + 3
        runner.run(taken)
        assert next(results) == 2 * taken
    results.close()


def test_a_full_queue_is_an_error_when_nothing_of_ours_is_in_it() -> None:
    with pytest.raises(QueueFull):
        FakeRunner(room=0).map(double, [1])


def test_an_interrupted_wait_tells_the_task() -> None:
    class Interrupted(FakeFuture):
        def result(self, timeout: float | None = None) -> Any:
            raise KeyboardInterrupt

    future = Interrupted()
    future.set_running_or_notify_cancel()
    pending: list[Any] = [future, other := FakeFuture()]
    results: Results[int] = Results(lambda *_: pending.pop(0), double, [range(2)], 2)
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert future.cancel_was_requested
    assert other.cancelled()


class Item:
    pass


def test_results_handed_out_are_not_kept() -> None:
    def submit(_fn: object, _item: int) -> Any:
        future: Future[Item] = Future()
        future.set_result(Item())
        return future

    results: Results[Any] = Results(submit, double, [itertools.count()], 3)
    gc.disable()
    try:
        alive = [weakref.ref(next(results)) for _ in range(5)]
        assert [ref() for ref in alive] == [None] * 5
    finally:
        gc.enable()
        results.close()


def test_a_failed_map_leaves_no_cycle_behind() -> None:
    class Broken(Exception):
        pass

    def submit(_fn: object, _item: int) -> Any:
        future = FakeFuture()
        future.set_exception(Broken())
        return future

    results: Results[int] = Results(submit, double, [itertools.count()], 3)
    gc.disable()
    try:
        refs: list[weakref.ref[Broken]] = []
        try:
            next(results)
        except Broken as error:
            refs.append(weakref.ref(error))
        assert [ref() for ref in refs] == [None]
    finally:
        gc.enable()


def test_the_length_is_known_when_all_inputs_have_one() -> None:
    results = FakeRunner().map(lambda _, a, b: a * b, [1, 2, 3], range(9))
    assert operator.length_hint(results) == 3
    next(results)
    assert operator.length_hint(results) == 2
    results.close()
    assert operator.length_hint(results) == 0


@pytest.mark.parametrize("endless", [itertools.count(), range(10**30)])
def test_the_length_is_unknown_otherwise(endless: Iterable[int]) -> None:
    results = FakeRunner().map(double, endless)
    assert operator.length_hint(results, -1) == -1
    results.close()
