"""`submit` of the standard class, replaced: our executors go by what replaced it, once a call."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import queue
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures.thread import BrokenThreadPool, _WorkItem
from typing import Any
from unittest import mock

import pytest

from tasker import Future, QueueFull, RunnerStopped, ThreadPoolExecutor
from tests.native.support import LONG_TIMEOUT, Call, Gate, Runners

Standard = concurrent.futures.ThreadPoolExecutor
StandardFuture = concurrent.futures.Future
ORIGINAL = vars(Standard)["submit"]

Pool = concurrent.futures.ThreadPoolExecutor
Wrapper = Callable[..., Any]


@contextlib.contextmanager
def replaced(entry: object) -> Iterator[None]:
    """The standard class has something else for its `submit`."""
    Standard.submit = entry  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Standard.submit = ORIGINAL  # type: ignore[method-assign]


class Tracer:
    """A wrapper that carries the caller's span to the task, as tracers do."""

    def __init__(self) -> None:
        self.calls = 0
        self.span = threading.local()

    def submit(self, pool: Pool, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        span = getattr(self.span, "name", None)

        @functools.wraps(fn)
        def traced(*args: Any, **kwargs: Any) -> Any:
            before, self.span.name = getattr(self.span, "name", None), span
            try:
                return fn(*args, **kwargs)
            finally:
                self.span.name = before

        return ORIGINAL(pool, traced, *args, **kwargs)

    def current(self, *_anything: object) -> Any:
        return getattr(self.span, "name", None)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        def submit(pool: Pool, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            return self.submit(pool, fn, *args, **kwargs)

        with replaced(submit):
            yield


@pytest.fixture(params=["pool", "runner"])
def executor(request: pytest.FixtureRequest, runners: Runners) -> Iterator[Pool]:
    """Each kind of executor, with one worker."""
    if request.param == "pool":
        with ThreadPoolExecutor(1) as pool:
            yield pool
    else:
        yield runners.start().executor()


def test_each_task_has_the_span_of_its_call_and_not_of_the_first(executor: Pool) -> None:
    tracer = Tracer()
    with tracer.installed():
        tracer.span.name = "first"
        assert executor.submit(tracer.current).result(LONG_TIMEOUT) == "first"
        tracer.span.name = "second"
        assert executor.submit(tracer.current).result(LONG_TIMEOUT) == "second"
        del tracer.span.name
        assert executor.submit(tracer.current).result(LONG_TIMEOUT) is None


def test_arguments_pass_through_it(executor: Pool) -> None:
    def give(*args: object, **kwargs: object) -> object:
        return args, kwargs

    with Tracer().installed():
        assert executor.submit(give).result() == ((), {})
        given = executor.submit(give, 1, fn=2, self=3, executor=4)
        assert given.result() == ((1,), {"fn": 2, "self": 3, "executor": 4})


def test_it_is_passed_once_by_map(executor: Pool) -> None:
    tracer = Tracer()
    with tracer.installed():
        assert list(executor.map(abs, [-1, 2, -3])) == [1, 2, 3]
    assert tracer.calls == 3


def test_it_is_passed_once_by_asyncio(executor: Pool) -> None:
    tracer = Tracer()

    async def main() -> object:
        tracer.span.name = "request"
        return await asyncio.get_running_loop().run_in_executor(executor, tracer.current)

    with tracer.installed():
        assert asyncio.run(main()) == "request"
    assert tracer.calls == 1


def test_it_is_passed_once_by_a_subclass_that_calls_super() -> None:
    class Counting(ThreadPoolExecutor):
        own_calls = 0

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            self.own_calls += 1
            return super().submit(fn, *args, **kwargs)

    tracer = Tracer()
    with tracer.installed(), Counting(1) as pool:
        assert pool.submit(pow, 2, 3).result() == 8
        assert list(pool.map(abs, [-1, 2])) == [1, 2]
    assert (pool.own_calls, tracer.calls) == (3, 3)


def test_it_is_passed_once_by_a_call_in_a_task(executor: Pool) -> None:
    tracer = Tracer()

    def outer() -> object:
        return executor.submit(tracer.current).result()

    with tracer.installed():
        tracer.span.name = "request"
        assert executor.submit(outer).result(LONG_TIMEOUT) == "request"
    assert tracer.calls == 2


def test_it_may_come_and_go_while_the_pool_lives(executor: Pool) -> None:
    tracer = Tracer()
    for _ in range(3):
        assert executor.submit(tracer.current).result() is None
        with tracer.installed():
            tracer.span.name = "request"
            assert executor.submit(tracer.current).result() == "request"
    assert tracer.calls == 3


def test_one_that_was_there_before_the_package_is_passed_and_can_go() -> None:
    # What was seen first must not be taken for the standard's own.
    program = """
import concurrent.futures
original, calls = concurrent.futures.ThreadPoolExecutor.submit, []
def wrapper(self, fn, /, *args, **kwargs):
    calls.append(fn)
    return original(self, fn, *args, **kwargs)
concurrent.futures.ThreadPoolExecutor.submit = wrapper
import tasker
with tasker.ThreadPoolExecutor(1) as pool:
    assert type(pool.submit(int)) is tasker.Future
    assert calls == [int]
    concurrent.futures.ThreadPoolExecutor.submit = original
    pool.submit(int).result()
    assert calls == [int]
"""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_TIMEOUT)
    assert (done.returncode, done.stderr) == (0, "")


def test_code_that_was_put_into_the_function_itself_runs(executor: Pool) -> None:
    own = ORIGINAL.__code__
    copy = type(ORIGINAL)(own, ORIGINAL.__globals__, "submit", None, ORIGINAL.__closure__)
    calls: list[object] = []

    # Keeps the names, as tools that wrap a function in place do, and has no closure.
    def submit(self, fn, /, *args, _copy=copy, _calls=calls, **kwargs):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN002, ANN003, ANN202
        _calls.append(fn)
        return _copy(self, fn, *args, **kwargs)

    executor.submit(int).result()
    ORIGINAL.__code__ = submit.__code__.replace(co_filename=own.co_filename)
    ORIGINAL.__kwdefaults__ = submit.__kwdefaults__
    try:
        assert executor.submit(pow, 2, 3).result() == 8
    finally:
        ORIGINAL.__code__ = own
        ORIGINAL.__kwdefaults__ = None
    assert calls == [pow]
    executor.submit(int).result()
    assert calls == [pow]


def test_what_is_no_function_replaces_it_too(executor: Any) -> None:
    with mock.patch.object(Standard, "submit", return_value="nothing") as submit:
        assert executor.submit(pow, 2, b=3) == "nothing"
        submit.assert_called_once_with(pow, 2, b=3)
    with replaced(staticmethod(lambda fn: fn)):
        assert executor.submit(pow) is pow


# ---- futures


def test_the_caller_gets_our_future_where_nobody_touched_the_standards(executor: Pool) -> None:
    with Tracer().installed():
        future = executor.submit(pow, 2, 3)
        assert isinstance(future, Future)

        async def main() -> object:
            return await executor.submit(pow, 2, 5)  # type: ignore[misc]

        assert asyncio.run(main()) == 32


def test_our_future_is_that_of_the_task(executor: Pool, gate: Gate) -> None:
    with Tracer().installed():
        executor.submit(gate.hold)
        future = executor.submit(pow, 2, 3)
        assert future.cancel()
        gate.open()
        assert executor.submit(int).result() == 0


def test_callbacks_that_a_wrapper_adds_are_called_with_what_the_caller_gets(
    executor: Pool, gate: Gate
) -> None:
    seen: queue.SimpleQueue[StandardFuture[Any]] = queue.SimpleQueue()

    def submit(pool: Pool, fn: Callable[..., Any], /, *args: Any) -> StandardFuture[Any]:
        future: StandardFuture[Any] = ORIGINAL(pool, fn, *args)
        future.add_done_callback(seen.put)
        return future

    with replaced(submit):
        executor.submit(gate.hold)
        good, bad = executor.submit(pow, 2, 3), executor.submit(int, "x")
        dropped = executor.submit(int)
        assert dropped.cancel()
        assert dropped.cancelled()
        assert seen.get(timeout=LONG_TIMEOUT) is dropped
        gate.open()
        assert good.result(LONG_TIMEOUT) == 8
        assert isinstance(bad.exception(LONG_TIMEOUT), ValueError)
        seen.get(timeout=LONG_TIMEOUT)
        assert [seen.get(timeout=LONG_TIMEOUT) for _ in "ab"] == [good, bad]


def test_a_future_that_a_wrapper_keeps_is_what_the_caller_gets(executor: Any, gate: Gate) -> None:
    kept: list[StandardFuture[Any]] = []

    def submit(pool: Pool, fn: Callable[..., Any], /, *args: Any) -> StandardFuture[Any]:
        kept.append(ORIGINAL(pool, fn, *args))
        return kept[-1]

    with replaced(submit):
        futures = [executor.submit(gate.hold), executor.submit(pow, 2, 3)]
        assert futures == kept
        gate.wait_for()
        assert futures[0].running()
        assert not futures[0].cancel()
        gate.open()
        assert concurrent.futures.wait(futures, LONG_TIMEOUT).done == set(kept)
        assert futures[1].result() == 8


def test_an_attribute_that_a_wrapper_sets_is_there(executor: Pool) -> None:
    def submit(pool: Pool, fn: Callable[..., Any], /, *args: Any) -> StandardFuture[Any]:
        future: Any = ORIGINAL(pool, fn, *args)
        future.request = "request"
        return future  # type: ignore[no-any-return]

    with replaced(submit):
        future: Any = executor.submit(pow, 2, 3)
        assert (future.request, future.result(LONG_TIMEOUT)) == ("request", 8)


def test_a_wrapper_may_give_a_future_of_its_own(executor: Pool) -> None:
    def submit(pool: Pool, fn: Callable[..., Any], /, *args: Any) -> StandardFuture[Any]:
        outer: StandardFuture[Any] = StandardFuture()
        inner = ORIGINAL(pool, fn, *args)
        inner.add_done_callback(lambda inner: outer.set_result([inner.result()]))
        return outer

    with replaced(submit):
        # Nobody but the callback holds the future of the task.
        future = executor.submit(pow, 2, 3)
        gc.collect()
        assert future.result(LONG_TIMEOUT) == [8]


def test_a_wrapper_may_wait_for_the_task(executor: Pool) -> None:
    def submit(pool: Pool, fn: Callable[..., Any], /, *args: Any) -> StandardFuture[Any]:
        future: StandardFuture[Any] = ORIGINAL(pool, fn, *args)
        future.result(LONG_TIMEOUT)
        return future

    with replaced(submit):
        assert executor.submit(pow, 2, 3).done()


def test_a_wrapper_may_submit_twice(executor: Pool) -> None:
    ran = threading.Semaphore(0)

    def submit(pool: Pool, fn: Callable[..., Any], /, *args: Any) -> StandardFuture[Any]:
        first: StandardFuture[Any] = ORIGINAL(pool, fn, *args)
        ORIGINAL(pool, fn, *args)
        return first

    with replaced(submit):
        future = executor.submit(ran.release)
        assert isinstance(future, Future)
        assert future.result(LONG_TIMEOUT) is None
        assert ran.acquire(timeout=LONG_TIMEOUT)
        assert ran.acquire(timeout=LONG_TIMEOUT)


def test_a_wrapper_may_submit_nothing(executor: Pool) -> None:
    with replaced(lambda *_anything: None):
        assert executor.submit(int) is None


def test_a_wrapper_that_raises_submits_nothing(executor: Pool) -> None:
    ran: list[str] = []

    def submit(pool: Pool, fn: Callable[..., Any], /) -> object:
        raise LookupError("no span")

    with replaced(submit), pytest.raises(LookupError, match="no span"):
        executor.submit(lambda: ran.append("x"))
    executor.submit(int).result()
    assert ran == []


def test_no_future_outlives_its_task(executor: Pool, no_collector: None) -> None:
    class Result:
        pass

    with Tracer().installed():
        future = executor.submit(Result)
        result = weakref.ref(future.result())
        del future
        # The worker may still hold what it has just finished.
        executor.submit(int).result()
        gc.collect()
        assert result() is None


# ---- refusals, and the parts of the standard class


def test_refusals_are_those_of_the_executor(runners: Runners) -> None:
    runner = runners.start()
    closed, stopped = runner.executor(), runner.executor()
    closed.shutdown()
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with Tracer().installed():
        for executor in (closed, pool):
            with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
                executor.submit(int)
        runner.stop()
        with pytest.raises(RunnerStopped):
            stopped.submit(int)


def test_a_broken_pool_says_so() -> None:
    def fail() -> None:
        raise LookupError

    with Tracer().installed(), ThreadPoolExecutor(1, initializer=fail) as pool:
        with pytest.raises(BrokenThreadPool):
            pool.submit(int).result(LONG_TIMEOUT)
        with pytest.raises(BrokenThreadPool, match="initializer failed"):
            pool.submit(int)


def test_nobody_holds_the_standards_lock_while_waiting_for_room(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(max_queue_size=1)
    executor = runner.executor()
    with Tracer().installed():
        running = executor.submit(gate.hold)
        gate.wait_for()
        waiting = executor.submit(int)
        late = Call(lambda: executor.submit(int).result(LONG_TIMEOUT))
        with Standard(1) as other:
            assert other.submit(pow, 2, 3).result(LONG_TIMEOUT) == 8
        gate.open()
        running.result(LONG_TIMEOUT)
        waiting.result(LONG_TIMEOUT)
        assert late.result() == 0


def test_a_full_queue_refuses(runners: Runners, gate: Gate) -> None:
    executor = runners.start(max_queue_size=1, when_full="raise").executor()
    with Tracer().installed():
        executor.submit(gate.hold)
        gate.wait_for()
        executor.submit(int)
        with pytest.raises(QueueFull):
            executor.submit(int)
        gate.open()


def test_the_standard_body_itself_queues(executor: Pool) -> None:
    assert ORIGINAL(executor, pow, 2, 3).result(LONG_TIMEOUT) == 8


def test_code_that_queues_by_hand_as_the_standard_does_it_works(executor: Any) -> None:
    future: StandardFuture[Any] = StandardFuture()
    arguments: Any = (pow, (2, 3), {})
    resolve = getattr(Standard, "prepare_context", None)
    make: Any = _WorkItem
    item = (
        make(future, *arguments)
        if resolve is None
        else make(future, executor._resolve_work_item_task(*arguments))
    )
    with executor._shutdown_lock:
        executor._work_queue.put(item)
        executor._adjust_thread_count()
        assert not future.running()
    assert future.result(LONG_TIMEOUT) == 8
    executor._work_queue.put(None)


def test_another_queue_is_refused_with_what_to_do_instead() -> None:
    class Bounded(ThreadPoolExecutor):
        def __init__(self) -> None:
            super().__init__(1)
            self._work_queue = queue.Queue(8)  # type: ignore[assignment]

    with pytest.raises(AttributeError, match="max_queue_size"):
        Bounded()


def test_what_the_queue_cannot_do_it_says(executor: Any) -> None:
    with pytest.raises(AttributeError, match=r"get_nowait.*cancel_futures"):
        executor._work_queue.get_nowait()


def test_a_subclass_that_would_hire_by_itself_is_told() -> None:
    with pytest.warns(RuntimeWarning, match="Hiring overrides _adjust_thread_count"):

        class Hiring(ThreadPoolExecutor):
            def _adjust_thread_count(self) -> None:
                raise AssertionError("called")

    with Hiring(1) as pool:
        assert pool.submit(pow, 2, 3).result() == 8


def test_the_variables_of_the_standard_class_can_be_read() -> None:
    with ThreadPoolExecutor(1, initializer=pow, initargs=(2, 3)) as pool:
        variables: Any = pool
        assert (variables._initializer, variables._initargs) == (pow, (2, 3))
        assert pool.submit(int).result() == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class Quiet(ThreadPoolExecutor):
            pass
