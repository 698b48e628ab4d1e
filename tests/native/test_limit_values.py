"""A time limit means the same wherever it is given."""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

import pytest

from tasker import (
    Config,
    ConfigError,
    Context,
    Future,
    ResourceCreationError,
    Runner,
    StopTimeout,
    TaskTimeout,
    ThreadPoolExecutor,
)

Call = Callable[[Runner[Any], Any], object]


def create_slowly() -> object:
    never.wait(0.02)
    return object()


never = threading.Event()


@pytest.fixture
def runner() -> Iterator[Runner[object]]:
    with Runner(Config(on_create=object, worker_count=1)) as made:
        yield made


def start(limit: Any) -> None:
    with Runner(Config(on_create=object, worker_count=1), timeout=limit):
        pass


async def astart(limit: Any) -> None:
    async with Runner.start(Config(on_create=object, worker_count=1), timeout=limit):
        pass


CALLS: dict[str, Call] = {
    "options": lambda runner, limit: runner.options(timeout=limit).queue_task(lambda _: None),
    "run_task": lambda runner, limit: runner.options(timeout=limit).run_task(lambda _: None),
    "Runner": lambda _, limit: start(limit),
    "start": lambda _, limit: asyncio.run(astart(limit)),
    "stop": lambda runner, limit: runner.stop(limit),
    "kill": lambda runner, limit: runner.kill(limit),
    "astop": lambda runner, limit: asyncio.run(runner.astop(limit)),
    "akill": lambda runner, limit: asyncio.run(runner.akill(limit)),
    "child": lambda _, limit: Context().child(timeout=limit).cancelled,
    "wait": lambda _, limit: Context().child(timeout=0.01).wait(limit),
}


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize(
    "limit", ["1", True, False, math.nan, b"1", [], 1j, object(), Decimal("nan"), {}]
)
def test_what_is_no_number_is_refused_by_name(kind: str, limit: Any, runner: Runner[Any]) -> None:
    with pytest.raises(ConfigError, match=r"^timeout must be a number of seconds or None, got "):
        CALLS[kind](runner, limit)
    assert runner.state == "running"


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize(
    "limit",
    [None, math.inf, 60, 60.0, 10**400, 1e300, 1e19, 1e12, threading.TIMEOUT_MAX,
     Decimal(60), Decimal("1e400"), Decimal("inf"), Fraction(121, 2), Fraction(10**400)],
)  # fmt: skip
def test_long_and_infinite_limits_wait_as_long_as_needed(
    kind: str, limit: Any, runner: Runner[Any]
) -> None:
    CALLS[kind](runner, limit)


@pytest.mark.parametrize("limit", [0, -1, -0.5, -math.inf, -(10**400), Decimal(-1), -1e-320])
@pytest.mark.parametrize(
    ("kind", "over"),
    [
        ("options", TaskTimeout),
        ("run_task", TaskTimeout),
        ("stop", StopTimeout),
        ("kill", StopTimeout),
        ("astop", StopTimeout),
        ("akill", StopTimeout),
    ],
)
def test_a_deadline_that_has_passed_is_over_at_once(
    kind: str, over: type[Exception], limit: Any
) -> None:
    begun, release = threading.Event(), threading.Event()

    def task(_: object) -> bool:
        begun.set()
        return release.wait(60)

    with Runner(Config(on_create=object, worker_count=1)) as runner:
        blocked = runner.submit(task)
        try:
            assert begun.wait(60)
            with pytest.raises(over):
                CALLS[kind](runner, limit)
        finally:
            release.set()
        assert blocked.result(60)


@pytest.mark.parametrize("limit", [0, -1, -math.inf])
def test_a_start_whose_deadline_has_passed_fails(limit: float) -> None:
    config = Config(on_create=create_slowly, worker_count=1)
    with pytest.raises(ResourceCreationError, match=r"not all created within 0 s"):
        Runner(config, timeout=limit)
    with pytest.raises(ResourceCreationError, match=r"not all created within 0 s"):
        asyncio.run(astart_slowly(config, limit))


async def astart_slowly(config: Config[object], limit: float) -> None:
    await Runner.start(config, timeout=limit)


@pytest.mark.parametrize("limit", [0, -1, -math.inf])
def test_no_verb_enters_a_task_whose_deadline_has_passed(
    limit: float, runner: Runner[object]
) -> None:
    entered: list[object] = []
    view = runner.options(timeout=limit)

    def task(_: object, item: int = 0) -> None:
        entered.append(item)

    async def in_loop() -> None:
        with pytest.raises(TaskTimeout):
            await view.asubmit(task)
        with pytest.raises(TaskTimeout):
            async for _ in view.amap(task, [1]):
                pass

    for future in [view.submit(task), *view.submit_many(task, [1, 2])]:
        with pytest.raises(TaskTimeout):
            future.result(60)
    with pytest.raises(TaskTimeout):
        view.queue_task(task)
    with pytest.raises(TaskTimeout):
        view.run_task(task)
    with pytest.raises(TaskTimeout):
        list(view.map(task, [1]))
    asyncio.run(in_loop())
    assert not entered


def test_an_infinite_limit_of_a_task_overrides_that_of_the_config() -> None:
    config = Config(on_create=object, worker_count=1, task_timeout=0.01)
    with Runner(config) as runner:
        view = runner.options(timeout=math.inf)
        assert view.queue_task(lambda _: never.wait(0.1)) is False
        assert list(view.map(lambda _, x: never.wait(x), [0.1])) == [False]


def test_a_child_without_an_end_of_its_own_has_that_of_its_parent() -> None:
    assert Context().child(timeout=math.inf).deadline is None
    parent = Context().child(timeout=60)
    assert parent.child(timeout=math.inf).deadline == parent.deadline
    assert parent.child(timeout=-1).cancelled


@pytest.mark.parametrize("config", [None, 1, Config, {"worker_count": 1}])
def test_what_is_no_config_is_refused(config: Any) -> None:
    for make in (Runner, Runner.start):
        with pytest.raises(TypeError, match=r"^config must be a Config, got "):
            make(config)


# ---- where the standard library has a rule of its own


@pytest.mark.parametrize("ask", [Future.result, Future.exception])
def test_futures_take_limits_as_standard_ones_do(ask: Callable[..., Any]) -> None:
    future: Future[None] = Future()
    limit: Any
    for limit in (0, -1, False, math.nan, -math.inf, -(10**400), Decimal(-1)):
        with pytest.raises(TimeoutError):
            ask(future, limit)
    for limit in ("1", [], object(), b"1", 1j):
        with pytest.raises(TypeError, match=r"^timeout must be a number of seconds or None, got "):
            ask(future, limit)
    threading.Timer(0.05, future.set_result, [None]).start()
    for limit in (True, 60, 1e300, math.inf, 10**400, Decimal(60), None):
        assert ask(future, limit) is None
    # A future that is done does not look at it.
    assert ask(future, "1") is None


@pytest.mark.parametrize("limit", [60, 10**400, math.inf, 1e300, True, None, Decimal(60)])
def test_a_future_is_waited_for_as_long_as_needed(limit: Any, runner: Runner[object]) -> None:
    assert runner.submit(lambda _: never.wait(0.02)).result(limit) is False
    assert runner.submit(lambda _: never.wait(0.02)).exception(limit) is None


@pytest.mark.timing
def test_true_is_a_second_for_a_future() -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        Future().result(True)
    assert 0.9 < time.monotonic() - begun < 30


def test_an_executor_takes_limits_as_the_standard_one_does(runner: Runner[object]) -> None:
    limit: Any
    with ThreadPoolExecutor(1) as pool, runner.executor() as face:
        for executor in (pool, face):
            for limit in (60, True, math.inf, 10**400, Decimal(60), None):
                assert list(executor.map(abs, [-1], timeout=limit)) == [1]
            with pytest.raises(TypeError, match=r"^timeout must be "):
                executor.map(abs, [-1], timeout=cast("Any", "1"))
            for limit in (-1, math.nan):
                with pytest.raises(TimeoutError):
                    list(executor.map(never.wait, [0.5], timeout=limit))
