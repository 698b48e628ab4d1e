"""`ThreadPoolExecutor`: what CPython's own tests leave out, and what is ours alone."""

from __future__ import annotations

import concurrent.futures
import contextvars
import gc
import itertools
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures.thread import BrokenThreadPool
from typing import Any

import pytest

from tasker import Future, ThreadPoolExecutor
from tests.native.support import LONG_TIMEOUT, Broken, Call, Gate, LogCapture, at_once, eventually


@pytest.fixture
def log() -> Iterator[LogCapture]:
    """What the standard logger of executors is told."""
    book = LogCapture()
    logger = logging.getLogger("concurrent.futures")
    logger.addHandler(book)
    logger.propagate = False
    yield book
    logger.propagate = True
    logger.removeHandler(book)
    assert [record.getMessage() for record in book.rest()] == []


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is open at the end."""
    gate = Gate()
    yield gate
    gate.open()


def threads_of(executor: ThreadPoolExecutor) -> set[threading.Thread]:
    return set(executor._threads)


def join(threads: set[threading.Thread]) -> None:
    for thread in threads:
        thread.join(LONG_TIMEOUT)
        assert not thread.is_alive()


def give(*args: object, **kwargs: object) -> tuple[tuple[object, ...], dict[str, object]]:
    return args, kwargs


# ---- calls


def test_it_is_a_standard_pool_and_its_futures_are_ours() -> None:
    with ThreadPoolExecutor(1) as executor:
        assert isinstance(executor, concurrent.futures.ThreadPoolExecutor)
        assert isinstance(executor.submit(int), Future)


def test_a_call_gets_its_arguments_and_nothing_else() -> None:
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(give).result() == ((), {})
        assert executor.submit(give, 1, 2, fn=3, self=4).result() == ((1, 2), {"fn": 3, "self": 4})


def test_what_cannot_be_called_fails_where_it_is_called() -> None:
    nothing: Any = 7
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(nothing)
        assert isinstance(future.exception(), TypeError)


def test_a_call_does_not_see_the_submitters_context() -> None:
    variable = contextvars.ContextVar("variable", default="default")
    variable.set("the submitter's")
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(variable.get).result() == "default"


def test_context_that_a_call_sets_stays_with_its_worker() -> None:
    variable = contextvars.ContextVar("variable", default="default")
    with ThreadPoolExecutor(1) as executor:
        executor.submit(variable.set, "the worker's").result()
        assert executor.submit(variable.get).result() == "the worker's"


def test_a_call_that_waits_for_another_runs_it_itself() -> None:
    def depth(left: int) -> int:
        return 1 + executor.submit(depth, left - 1).result() if left else 0

    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(depth, 30).result() == 30


# ---- workers


def test_workers_are_hired_when_nobody_is_free(gate: Gate) -> None:
    with ThreadPoolExecutor(3) as executor:
        assert threads_of(executor) == set()
        for number in (1, 2, 3, 3, 3):
            executor.submit(gate.hold)
            assert len(threads_of(executor)) == number
        gate.wait_for(3)
        assert executor._work_queue.qsize() == 2
        assert not executor._work_queue.empty()
        gate.open()
    assert executor._work_queue.qsize() == 0


def test_a_worker_whose_callbacks_run_is_not_free(gate: Gate) -> None:
    done: list[int] = []

    def wait_for_another(_future: Future[Any]) -> None:
        done.append(len(concurrent.futures.wait([executor.submit(int)], LONG_TIMEOUT).done))

    with ThreadPoolExecutor(2) as executor:
        executor.submit(gate.hold).add_done_callback(wait_for_another)
        gate.open()
        eventually(lambda: done)
    assert done == [1]


@pytest.mark.stress
def test_calls_that_wait_for_each_other_get_a_worker_each(fast_switch: None) -> None:
    del fast_switch

    def meet() -> list[int]:
        with ThreadPoolExecutor(4) as executor:
            barrier = threading.Barrier(4, timeout=LONG_TIMEOUT)
            calls = at_once(4, lambda: executor.submit(barrier.wait))
            return sorted(call.result().result() for call in calls)

    for _ in range(100):
        assert meet() == [0, 1, 2, 3]


def test_threads_are_named_as_the_standard_names_them() -> None:
    def names(executor: ThreadPoolExecutor) -> list[str]:
        with executor:
            barrier = threading.Barrier(2, timeout=LONG_TIMEOUT)
            for _ in range(2):
                executor.submit(barrier.wait)
            return sorted(thread.name for thread in threads_of(executor))

    assert names(ThreadPoolExecutor(2, "mine")) == ["mine_0", "mine_1"]
    first, second = names(ThreadPoolExecutor(2)), names(ThreadPoolExecutor(2))
    assert first[0].startswith("ThreadPoolExecutor-")
    assert first[0].endswith("_0")
    assert not set(first) & set(second)


def test_a_call_without_a_thread_is_refused_and_the_next_tries_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    with ThreadPoolExecutor(1) as executor:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                executor.submit(int)
        assert executor.submit(int).result() == 0


# ---- initializer and finalizer


def test_each_worker_begins_and_ends_with_the_hooks_on_its_own_thread() -> None:
    book: list[tuple[str, object, int]] = []

    def begin(word: str) -> str:
        book.append(("begin", word, threading.get_ident()))
        return word

    def end() -> None:
        book.append(("end", None, threading.get_ident()))

    with ThreadPoolExecutor(2, initializer=begin, initargs=("go",), finalizer=end) as executor:
        barrier = threading.Barrier(2, timeout=LONG_TIMEOUT)
        for _ in range(2):
            executor.submit(barrier.wait)
    begun = [thread for what, word, thread in book if (what, word) == ("begin", "go")]
    ended = [thread for what, _, thread in book if what == "end"]
    assert len(begun) == 2
    assert sorted(begun) == sorted(ended)


def test_a_failing_initializer_breaks_the_pool(log: LogCapture, gate: Gate) -> None:
    ended: list[None] = []
    numbers = itertools.count()
    error, second = Broken(), Gate()

    def begin() -> None:
        if next(numbers):
            second.hold()
            raise error

    executor = ThreadPoolExecutor(2, initializer=begin, finalizer=lambda: ended.append(None))
    runs = executor.submit(gate.hold_then_return, None, "done")
    gate.wait_for()
    waiting = [executor.submit(int) for _ in range(3)]
    second.open()
    for future in waiting:
        broken = future.exception(LONG_TIMEOUT)
        assert isinstance(broken, BrokenThreadPool)
        assert broken.__cause__ is error
    assert executor._broken
    with pytest.raises(BrokenThreadPool, match="initializer failed"):
        executor.submit(int)
    gate.open()
    assert runs.result(LONG_TIMEOUT) == "done"
    executor.shutdown()
    assert ended == [None], "the finalizer is for workers that have begun"
    [record] = log.take()
    assert (record.levelname, record.getMessage()) == ("CRITICAL", "Exception in initializer:")


def test_a_failing_finalizer_is_logged(log: LogCapture) -> None:
    def end() -> None:
        raise Broken

    with ThreadPoolExecutor(1, finalizer=end) as executor:
        executor.submit(int)
    [record] = log.take()
    assert record.exc_info
    assert record.exc_info[0] is Broken


def test_a_failing_callback_is_logged_in_the_standards_words(log: LogCapture) -> None:
    def fail(_future: object) -> None:
        raise LookupError

    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(int)
        future.add_done_callback(fail)
    [record] = log.take()
    assert record.getMessage() == f"exception calling callback for {future!r}"
    assert record.levelno == logging.ERROR
    assert record.exc_info
    assert record.exc_info[0] is LookupError


@pytest.mark.parametrize("hook", ["initializer", "finalizer"])
def test_hooks_must_be_callable(hook: str) -> None:
    hooks: Any = {hook: 7}
    with pytest.raises(TypeError, match=f"{hook} must be a callable"):
        ThreadPoolExecutor(**hooks)


# ---- the end


def test_after_shutdown_nothing_is_accepted_in_the_standards_words() -> None:
    executor = ThreadPoolExecutor(1)
    assert not executor._shutdown
    executor.shutdown()
    assert executor._shutdown
    with pytest.raises(RuntimeError) as refused:
        executor.submit(int)
    assert type(refused.value) is RuntimeError
    assert str(refused.value) == "cannot schedule new futures after shutdown"


def test_shutdown_without_waiting_finishes_what_was_submitted(gate: Gate) -> None:
    executor = ThreadPoolExecutor(1)
    futures = [executor.submit(gate.hold_then_return, None, n) for n in range(3)]
    threads = threads_of(executor)
    executor.shutdown(wait=False)
    assert not futures[0].done()
    gate.open()
    assert [future.result(LONG_TIMEOUT) for future in futures] == [0, 1, 2]
    join(threads)


def test_shutdown_waits_even_if_one_before_did_not(gate: Gate) -> None:
    executor = ThreadPoolExecutor(1)
    future = executor.submit(gate.hold)
    executor.shutdown(wait=False)
    waits = Call(executor.shutdown)
    waits.wait_until_blocked()
    gate.open()
    waits.result()
    assert future.done()


def test_shutdown_can_cancel_what_has_not_started(gate: Gate) -> None:
    executor = ThreadPoolExecutor(1)
    runs = executor.submit(gate.hold)
    gate.wait_for()
    waiting = [executor.submit(int) for _ in range(5)]
    called: list[Future[int]] = []
    waiting[0].add_done_callback(called.append)
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    assert called == [waiting[0]]
    assert runs.running()
    gate.open()
    executor.shutdown()
    assert runs.exception() is None


def test_a_worker_that_shuts_its_pool_down_does_not_wait_for_itself() -> None:
    executor = ThreadPoolExecutor(1)
    executor.submit(executor.shutdown).result(LONG_TIMEOUT)
    executor.shutdown()


def test_a_dropped_pool_finishes_and_its_workers_end(gate: Gate) -> None:
    executor = ThreadPoolExecutor(1)
    futures = [executor.submit(gate.hold_then_return, None, n) for n in range(3)]
    threads, gone = threads_of(executor), weakref.ref(executor)
    del executor
    gc.collect()
    assert gone() is None
    gate.open()
    assert [future.result(LONG_TIMEOUT) for future in futures] == [0, 1, 2]
    join(threads)


@pytest.mark.parametrize("calls", [0, 1])
def test_a_pool_that_its_own_hooks_refer_to_is_collected(calls: int) -> None:
    # No weak reference tells: the collector clears them before finalizers save what they refer to.
    probe = object()

    class Owner:
        def __init__(self) -> None:
            self.probe = probe
            self.executor = ThreadPoolExecutor(1, initializer=self.begin, finalizer=self.end)
            for _ in range(calls):
                self.executor.submit(int).result()

        def begin(self) -> None: ...

        def end(self) -> None: ...

    references = sys.getrefcount(probe)
    owner = Owner()
    threads = threads_of(owner.executor)
    del owner
    gc.collect()
    join(threads)
    gc.collect()
    assert sys.getrefcount(probe) == references


@pytest.mark.stress
def test_pools_come_and_go_while_others_submit() -> None:
    def live() -> int:
        done = 0
        for number in range(60):
            executor = ThreadPoolExecutor(3)
            futures = [executor.submit(pow, number, 2) for _ in range(20)]
            executor.shutdown(wait=number % 2 == 0, cancel_futures=number % 3 == 0)
            done += sum(not future.cancelled() for future in futures)
            for future in futures:
                assert future.cancelled() or future.result(LONG_TIMEOUT) == number**2
        return done

    assert all(call.result() for call in at_once(4, live))


# ---- map


def double(number: int) -> int:
    return 2 * number


def test_map_submits_everything_before_the_first_result_is_asked_for() -> None:
    numbers = iter(range(5))
    with ThreadPoolExecutor(2) as executor:
        results = executor.map(double, numbers)
        assert next(numbers, None) is None
        assert list(results) == [0, 2, 4, 6, 8]


def test_map_with_a_buffer_reads_no_further_ahead() -> None:
    numbers = itertools.count()
    with ThreadPoolExecutor(2) as executor:
        results = executor.map(double, numbers, buffersize=3)
        assert next(numbers) == 3
        assert next(results) == 0  # the fifth item is read before the first result is handed out
        assert next(numbers) == 5


def test_map_with_a_buffer_ends_with_its_input() -> None:
    with ThreadPoolExecutor(2) as executor:
        longer = iter(range(100))
        results = executor.map(pow, longer, [1, 1, 1, 1], buffersize=2)
        assert list(results) == [0, 1, 2, 3]
        assert next(longer) == 5, "an input that has ended is not asked again"
        assert list(executor.map(double, [], buffersize=2)) == []


def test_map_gives_up_when_time_is_up_and_cancels_the_rest(gate: Gate) -> None:
    with ThreadPoolExecutor(1) as executor:
        executor.submit(gate.hold)
        entered: list[int] = []
        results = executor.map(entered.append, range(3), timeout=0.01)
        with pytest.raises(TimeoutError):
            next(results)
        gate.open()
    assert entered == []


def test_closing_a_map_cancels_what_has_not_started(gate: Gate) -> None:
    with ThreadPoolExecutor(1) as executor:
        entered: list[int] = []

        def enter(number: int) -> None:
            entered.append(number)
            if number:
                gate.hold()

        results: Any = executor.map(enter, range(5))
        next(results)
        gate.wait_for()
        results.close()
        gate.open()
    assert entered == [0, 1]


def test_the_results_of_a_map_do_not_keep_the_executor_alive() -> None:
    executor = ThreadPoolExecutor(1)
    results, gone = executor.map(double, itertools.count(), buffersize=2), weakref.ref(executor)
    threads = threads_of(executor)
    del executor
    assert gone() is None
    assert list(results) == [0, 2]
    join(threads)


@pytest.mark.parametrize(
    ("buffersize", "error", "text"),
    [
        ("2", TypeError, "buffersize must be an integer or None"),
        (1.5, TypeError, "buffersize must be an integer or None"),
        (0, ValueError, "buffersize must be None or > 0"),
    ],
)
def test_map_refuses_a_wrong_buffer(buffersize: Any, error: type[Exception], text: str) -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(error, match=text):
        executor.map(double, [1], buffersize=buffersize)


# ---- subclasses


def test_a_subclass_may_have_arguments_of_its_own() -> None:
    class Scaled(ThreadPoolExecutor):
        def __init__(self, factor: int, *, label: str) -> None:
            super().__init__(max_workers=1, thread_name_prefix=label)
            self.factor = factor

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            return super().submit(lambda: self.factor * fn(*args, **kwargs))

    with Scaled(3, label="scaled") as executor:
        assert executor.submit(double, 2).result() == 12
        assert list(executor.map(double, [1, 2])) == [6, 12]


def test_a_subclass_that_forgets_to_initialize_is_told() -> None:
    class Forgetful(ThreadPoolExecutor):
        def __init__(self) -> None: ...

    with pytest.raises(RuntimeError, match="__init__"):
        Forgetful().submit(int)


def test_an_executor_begins_once() -> None:
    executor = ThreadPoolExecutor(1)
    with pytest.raises(RuntimeError, match="already"):
        executor.__init__(2)  # type: ignore[misc]
    executor.shutdown()


def test_the_number_of_workers_is_checked_and_defaults_to_the_standards() -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        ThreadPoolExecutor(0)
    standard = concurrent.futures.ThreadPoolExecutor()
    assert ThreadPoolExecutor()._max_workers == standard._max_workers


def test_nothing_of_a_call_is_kept_by_an_idle_worker() -> None:
    class Argument: ...

    with ThreadPoolExecutor(1) as executor:
        argument = Argument()
        gone = weakref.ref(argument)
        executor.submit(give, argument).result()
        del argument
        eventually(lambda: gone() is None)
