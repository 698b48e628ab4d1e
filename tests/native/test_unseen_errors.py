"""Errors of tasks that nobody collected: logged once when the future is gone, and only then."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tasker import (
    Config,
    Future,
    Runner,
    ThreadPoolExecutor,
    current_context,
)
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    Gate,
    LogCapture,
    Resource,
    Runners,
    eventually,
    is_healthy,
)

Ask = Callable[[Future[Any]], object]


def fail(_resource: object, *_anything: object) -> None:
    raise ArithmeticError("lost")


def settled(runner: Runner[Any], future: Future[Any]) -> None:
    """Waits for the end of a task, and for the moment in which its worker lets go of it."""
    eventually(future.done)
    runner.queue_task(lambda _: None)


def texts(log: LogCapture) -> list[str]:
    return [record.getMessage() for record in log.rest()]


# ---- what is logged


def test_a_task_that_is_submitted_and_forgotten(runners: Runners, log: LogCapture) -> None:
    runner = runners.start(name="pg")
    runner.submit(fail)
    (record,) = log.take()
    assert record.getMessage() == "task 'fail' of 'pg' failed and nobody looked"
    assert record.levelno == logging.ERROR
    assert record.name == "tasker"
    assert record.exc_info is not None
    kind, error, traceback = record.exc_info
    assert (kind, str(error)) == (ArithmeticError, "lost")
    assert traceback is not None
    assert traceback.tb_frame.f_code is fail.__code__


def test_a_future_that_was_kept_and_dropped(runners: Runners, log: LogCapture) -> None:
    runner = runners.start()
    future = runner.submit(fail)
    settled(runner, future)
    assert log.rest() == []
    del future
    assert texts(log) == ["task 'fail' of 'tasker-1' failed and nobody looked"]


def test_each_of_many(runners: Runners, log: LogCapture) -> None:
    runner = runners.start()
    futures = runner.submit_many(fail, range(3))
    settled(runner, futures[2])
    with pytest.raises(ArithmeticError):
        futures[1].result()
    futures.clear()
    assert len(log.take(2)) == 2


def test_a_view_and_its_name(runners: Runners, log: LogCapture) -> None:
    runners.start().options(name="it's\na name").submit(fail)
    (record,) = log.take()
    assert record.getMessage() == r"task 'it's\na name' of 'tasker-1' failed and nobody looked"


def test_a_callable_without_a_name(runners: Runners, log: LogCapture) -> None:
    class Nameless:
        def __getattr__(self, name: str) -> Any:
            raise SystemError(name)

        def __call__(self, _resource: object) -> None:
            raise ArithmeticError

    runners.start().submit(Nameless())
    (record,) = log.take()
    assert "Nameless" in record.getMessage()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), StopIteration(), Broken()])
def test_an_error_of_any_kind(runners: Runners, log: LogCapture, error: BaseException) -> None:
    def task(_resource: object) -> None:
        raise error

    runners.start(check_health=is_healthy, max_retries=1).submit(task)
    assert len(log.take()) == 1


def test_the_last_error_of_a_task_that_waits_for_a_retry_when_killed(
    runners: Runners, log: LogCapture
) -> None:
    gate, first = Gate(), threading.Event()

    def create() -> Resource:
        if first.is_set():
            gate.hold()
        first.set()
        return runners.factory.create()

    def task(_resource: object) -> None:
        raise Broken

    runner = runners.start(on_create=create, check_health=is_healthy)
    future = runner.submit(task)
    gate.wait_for()
    kill = Call(runner.kill)
    eventually(future.done)
    gate.open()
    kill.result()
    del future
    (record,) = log.take()
    assert record.exc_info is not None
    assert record.exc_info[0] is Broken


def test_a_future_in_a_cycle_is_logged_whole_by_the_collector(
    runners: Runners, log: LogCapture, no_collector: None
) -> None:
    del no_collector
    runner = runners.start()

    def task(_resource: object, _own: list[Any]) -> None:
        local = "seen in the traceback"
        raise ArithmeticError(local)

    own: list[Any] = []
    future = runner.submit(task, own)
    own.append(future)
    settled(runner, future)
    del future, own
    assert log.rest() == []
    gc.collect()
    (record,) = log.take()
    assert record.exc_info is not None
    _, error, traceback = record.exc_info
    assert error is not None
    assert error.args == ("seen in the traceback",)
    assert traceback is not None
    assert traceback.tb_frame.f_code is task.__code__
    del record, error, traceback
    gc.collect()
    assert log.rest() == []


def test_one_error_of_several_tasks_is_logged_for_each(runners: Runners, log: LogCapture) -> None:
    error = ArithmeticError("ready-made")

    def task(_resource: object) -> None:
        raise error

    runner = runners.start()
    for _ in range(3):
        runner.submit(task)
    assert len(log.take(3)) == 3


def test_while_another_exception_is_on_its_way(runners: Runners, log: LogCapture) -> None:
    runner = runners.start()

    def let_go_while_raising() -> None:
        future = runner.submit(fail)
        settled(runner, future)
        raise LookupError("the one on its way")

    with pytest.raises(LookupError) as raised:
        let_go_while_raising()
    assert log.rest() == []
    assert str(raised.value) == "the one on its way"
    raised.value.__traceback__ = None
    del raised
    assert len(log.take()) == 1


# ---- who asks


def ask_by_callback(future: Future[Any]) -> None:
    future.add_done_callback(lambda _: None)


def ask_by_wait(future: Future[Any]) -> None:
    concurrent.futures.wait([future], timeout=LONG_TIMEOUT)


def ask_by_as_completed(future: Future[Any]) -> None:
    assert list(concurrent.futures.as_completed([future], timeout=LONG_TIMEOUT)) == [future]


def ask_by_await(future: Future[Any]) -> None:
    async def main() -> None:
        with pytest.raises(ArithmeticError):
            await future

    asyncio.run(main())


def ask_by_wrapping(future: Future[Any]) -> None:
    async def main() -> None:
        with pytest.raises(ArithmeticError):
            await asyncio.wrap_future(future)

    asyncio.run(main())


def ask_by_result(future: Future[Any]) -> None:
    with pytest.raises(ArithmeticError):
        future.result(LONG_TIMEOUT)


def ask_by_exception(future: Future[Any]) -> None:
    assert isinstance(future.exception(LONG_TIMEOUT), ArithmeticError)


ASK = pytest.mark.parametrize(
    "ask",
    [
        ask_by_result,
        ask_by_exception,
        ask_by_callback,
        ask_by_await,
        ask_by_wrapping,
        ask_by_wait,
        ask_by_as_completed,
    ],
)


@ASK
def test_an_error_that_was_asked_for_is_not_logged(
    runners: Runners, log: LogCapture, ask: Ask
) -> None:
    runner = runners.start()
    future = runner.submit(fail)
    settled(runner, future)
    ask(future)
    del future
    gc.collect()
    assert log.rest() == []


@ASK
def test_nor_one_that_was_asked_for_while_the_task_ran(
    runners: Runners, log: LogCapture, ask: Ask
) -> None:
    runner, gate = runners.start(), Gate()
    future = runner.submit(gate.hold_then_raise, ArithmeticError())
    gate.wait_for()
    call = Call(ask, future)
    if ask is ask_by_callback:
        call.result()
    else:
        call.wait_until_blocked()
    gate.open()
    call.result()
    settled(runner, future)
    del future, call
    gc.collect()
    assert log.rest() == []


def test_nor_one_whose_future_was_asked_too_early(runners: Runners, log: LogCapture) -> None:
    runner, gate = runners.start(), Gate()
    future = runner.submit(gate.hold_then_raise, ArithmeticError())
    with pytest.raises(TimeoutError):
        future.result(0)
    gate.open()
    settled(runner, future)
    del future
    assert log.rest() == []


def test_looking_whether_it_is_done_is_not_asking(runners: Runners, log: LogCapture) -> None:
    runner = runners.start()
    future = runner.submit(fail)
    settled(runner, future)
    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
    assert not future.cancel()
    assert not future.request_cancel()
    assert "ArithmeticError" in repr(future)
    del future
    assert len(log.take()) == 1


def test_asking_for_one_does_not_ask_for_its_equal(runners: Runners, log: LogCapture) -> None:
    runner = runners.start()
    asked, forgotten = runner.submit_many(fail, range(2))
    assert asked.exception(LONG_TIMEOUT) is not None
    settled(runner, forgotten)
    del forgotten
    assert len(log.take()) == 1


# ---- what is not logged


def test_success_is_not_logged(runners: Runners, log: LogCapture) -> None:
    runner = runners.start()
    runner.submit(lambda _: ArithmeticError("a value"))
    runner.stop(LONG_TIMEOUT)
    assert log.rest() == []


def test_what_the_runner_itself_says_is_not_logged(runners: Runners, log: LogCapture) -> None:
    runner, gate = runners.start(), Gate()
    running = runner.submit(gate.hold)
    gate.wait_for()
    late = runner.options(timeout=0.01).submit(lambda _: None)
    eventually(late.done)
    cancelled = runner.submit(lambda _: None)
    assert cancelled.cancel()
    dropped = runner.submit(fail)
    kill = Call(runner.kill)
    eventually(dropped.done)
    gate.open()
    kill.result()
    del running, late, cancelled, dropped
    gc.collect()
    assert log.rest() == []


def test_a_task_that_heeds_its_context_is_not_logged(runners: Runners, log: LogCapture) -> None:
    runner, started = runners.start(), threading.Event()

    def task(_resource: object) -> None:
        context = current_context()
        started.set()
        context.wait(LONG_TIMEOUT)
        context.check()

    future = runner.submit(task)
    assert started.wait(LONG_TIMEOUT)
    assert future.request_cancel()
    settled(runner, future)
    del future
    assert log.rest() == []


def kill(runner: Runner[Any], _future: Future[Any]) -> None:
    runner.kill()


def request_cancel(_runner: Runner[Any], future: Future[Any]) -> None:
    assert future.request_cancel()


@pytest.mark.parametrize("end", [kill, request_cancel])
def test_what_a_task_raises_that_was_told_to_end_is_not_logged(
    runners: Runners, log: LogCapture, end: Callable[[Runner[Any], Future[Any]], None]
) -> None:
    started, interrupted = threading.Event(), threading.Event()

    def query(_resource: object) -> None:
        started.set()
        assert interrupted.wait(LONG_TIMEOUT)
        raise ArithmeticError("interrupted")

    runner = runners.start(on_cancel=lambda _: interrupted.set())
    future = runner.submit(query)
    assert started.wait(LONG_TIMEOUT)
    end(runner, future)
    eventually(future.done)
    runner.stop()
    del future
    assert log.rest() == []


@pytest.mark.timing
def test_a_time_limit_is_not_logged_whatever_the_function_raises(
    runners: Runners, log: LogCapture
) -> None:
    runner = runners.start(max_worker_count=2)
    gate = Gate()
    future = runner.options(timeout=0.05).submit(gate.hold_then_raise, ArithmeticError())
    eventually(future.done)
    gate.open()
    settled(runner, future)
    del future
    assert log.rest() == []


def test_calls_that_wait_are_not_logged(runners: Runners, log: LogCapture) -> None:
    runner = runners.start()

    def nested(_resource: object) -> None:
        for call in (runner.queue_task, runner.run_task):
            with pytest.raises(ArithmeticError):
                call(fail)

    for call in (runner.queue_task, runner.run_task, runner.queue_task_once):
        with pytest.raises(ArithmeticError):
            call(fail)
    runner.queue_task(nested)
    lent = runners.start(thread_bound=False)
    with pytest.raises(ArithmeticError):
        lent.run_task(fail)
    assert log.rest() == []


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_items_of_a_map_are_not_logged(
    runners: Runners, log: LogCapture, timeout: float | None
) -> None:
    runner = runners.start(check_health=is_healthy, max_retries=1)

    def task(_resource: object, number: int) -> None:
        raise Broken if number else ArithmeticError

    with pytest.raises(ArithmeticError):
        list(runner.options(timeout=timeout).map(task, range(20)))
    runner.stop(LONG_TIMEOUT)
    gc.collect()
    assert log.rest() == []


def test_executors_are_not_logged(
    runners: Runners, log: LogCapture, caplog: pytest.LogCaptureFixture
) -> None:
    runner = runners.start()
    with runner.executor() as executor:
        executor.submit(fail, None)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(fail, None)
    gc.collect()
    assert log.rest() == []
    assert caplog.records == []


def test_asubmit_leaves_it_to_asyncio(runners: Runners, log: LogCapture) -> None:
    runner = runners.start()
    reports: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context["message"]))
        promise = runner.asubmit(fail)
        await asyncio.wait([promise])
        del promise
        gc.collect()

    asyncio.run(main())
    assert len(reports) == 1
    assert log.rest() == []


def test_futures_settled_by_hand_are_not_logged(runners: Runners, log: LogCapture) -> None:
    runner, gate = runners.start(), Gate()
    mine: Future[None] = Future()
    mine.set_exception(ArithmeticError())
    future = runner.submit(gate.hold)
    gate.wait_for()
    future.set_exception(ArithmeticError())
    gate.open()
    settled(runner, future)
    del mine, future
    assert log.rest() == []


def test_no_logger_means_silence(capfd: pytest.CaptureFixture[str], log: LogCapture) -> None:
    with Runner(Config(on_create=object, worker_count=1, logger=None)) as runner:
        runner.submit(fail)
    gc.collect()
    assert log.rest() == []
    assert capfd.readouterr() == ("", "")


# ---- the logging


def test_a_logger_of_its_own_gets_it(runners: Runners, log: LogCapture) -> None:
    mine, book = logging.Logger("mine"), LogCapture()
    mine.addHandler(book)
    runners.start(logger=mine).submit(fail)
    assert len(book.take()) == 1
    assert log.rest() == []


def test_logging_that_raises_does_no_harm(runners: Runners) -> None:
    class Raising(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            tried.append(1)
            raise SystemExit

    tried: list[int] = []
    logger = logging.Logger("broken")
    logger.addHandler(Raising())
    runner = runners.start(logger=logger)
    runner.submit(fail)
    eventually(lambda: tried)
    future = runner.submit(fail)
    settled(runner, future)
    del future
    assert tried == [1, 1]
    assert runner.queue_task(lambda _: "alive") == "alive"


def test_a_handler_may_use_the_runner(runners: Runners) -> None:
    class Curious(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            seen.put((runner.stats().base_workers, runner.submit(lambda _: "more")))

    seen: queue.Queue[tuple[int, Future[str]]] = queue.Queue()
    logger = logging.Logger("curious")
    logger.addHandler(Curious())
    runner = runners.start(logger=logger)
    runner.submit(fail)
    workers, future = seen.get(timeout=LONG_TIMEOUT)
    assert workers == 1
    assert future.result(LONG_TIMEOUT) == "more"


def test_no_caller_waits_for_the_logging(runners: Runners) -> None:
    class Slow(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            gate.hold()

    gate = Gate()
    logger = logging.Logger("slow")
    logger.addHandler(Slow())
    runner = runners.start(logger=logger)
    first, second = runner.submit(lambda _: "there"), runner.submit(fail)
    del second
    assert first.result(LONG_TIMEOUT) == "there"
    gate.wait_for()
    gate.open()


def test_what_was_logged_is_not_kept(runners: Runners, no_collector: None) -> None:
    del no_collector
    alive: list[int] = []

    class Big(Exception):
        def __init__(self) -> None:
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    def task(_resource: object) -> None:
        raise Big

    mine, written = logging.Logger("mine"), threading.Event()
    mine.addFilter(lambda _: written.set())  # type: ignore[arg-type, return-value]
    runners.start(logger=mine).submit(task)
    assert written.wait(LONG_TIMEOUT)
    eventually(lambda: not alive)
