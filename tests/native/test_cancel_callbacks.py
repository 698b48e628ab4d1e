"""`Context.on_cancel`: called once when the context is cancelled, never after task or handle."""

from __future__ import annotations

import contextvars
import gc
import logging
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from tasker import CancelHandle, Context, Runner, TaskTimeout, current_context
from tests.native.support import (
    LONG_TIMEOUT,
    MOMENT,
    OVERDUE,
    Call,
    Gate,
    LogCapture,
    Resource,
    Runners,
    eventually,
    worker_threads,
)

LIMIT = 0.5
"""Seconds after which a task is cancelled that has begun by then, on a busy machine too."""


class Callback:
    """Notes its calls; blocks until it is released, if it is told to."""

    def __init__(self, *, blocks: bool = False) -> None:
        self.threads: list[threading.Thread] = []
        self.called = threading.Event()
        self.release = threading.Event()
        self.returned = False
        if not blocks:
            self.release.set()

    def __call__(self) -> None:
        self.threads.append(threading.current_thread())
        self.called.set()
        assert self.release.wait(LONG_TIMEOUT)
        self.returned = True

    @property
    def names(self) -> list[str]:
        return [thread.name for thread in self.threads]


def helpers(name: str = "tasker-1") -> list[threading.Thread]:
    return [one for one in worker_threads(name) if one.name == f"{name}-canceller"]


# ---- inside tasks ---------------------------------------------------


def test_it_is_called_on_a_helper_of_the_runner_when_the_limit_passes(
    runners: Runners, log: LogCapture
) -> None:
    log.overlook(OVERDUE)
    callback = Callback()
    runner = runners.start(name="mine")

    def task(_: object) -> None:
        with current_context().on_cancel(callback):
            assert callback.called.wait(LONG_TIMEOUT)

    with pytest.raises(TaskTimeout):
        runner.options(timeout=LIMIT).queue_task(task)
    # The caller has its error at once, whatever the helper is at.
    assert callback.called.wait(LONG_TIMEOUT)
    assert callback.names == ["mine-canceller"]


@pytest.mark.parametrize("end", ["request_cancel", "kill", "cancel", "parent"])
def test_every_kind_of_cancel_calls_it_once(runners: Runners, end: str) -> None:
    callback, registered = Callback(), threading.Event()
    contexts: list[Context] = []
    runner = runners.start()

    def task(_: object) -> None:
        parent = current_context()
        child = parent.child(timeout=LONG_TIMEOUT)
        contexts.extend([parent, child])
        child.on_cancel(callback)
        registered.set()
        assert callback.called.wait(LONG_TIMEOUT)
        parent.cancel("again")

    future = runner.submit(task)
    assert registered.wait(LONG_TIMEOUT)
    ends: dict[str, Callable[[], object]] = {
        "request_cancel": future.request_cancel,
        "kill": runner.kill,
        "cancel": contexts[1].cancel,
        "parent": contexts[0].cancel,
    }
    ends[end]()
    future.result(LONG_TIMEOUT)
    assert callback.names == ["tasker-1-canceller"]


@pytest.mark.parametrize("verb", ["run_task", "queue_task", "map", "executor"])
@pytest.mark.parametrize("thread_bound", [True, False])
def test_it_works_in_every_verb(runners: Runners, verb: str, thread_bound: bool) -> None:
    runner = runners.start(thread_bound=thread_bound)
    callback = Callback()

    def task(*_anything: object) -> str:
        context = current_context()
        context.on_cancel(callback)
        context.cancel()
        assert callback.called.wait(LONG_TIMEOUT)
        return verb

    verbs: dict[str, Callable[[], object]] = {
        "run_task": lambda: runner.run_task(task),
        "queue_task": lambda: runner.queue_task(task),
        "map": lambda: next(runner.map(task, [1])),
        "executor": lambda: runner.executor().submit(task).result(),
    }
    assert verbs[verb]() == verb
    assert callback.names == ["tasker-1-canceller"]


def test_after_a_cancel_it_is_called_at_once_and_here(runners: Runners) -> None:
    def task(_: object) -> bool:
        callback, context = Callback(), current_context()
        context.cancel()
        handle = context.on_cancel(callback)
        handle.close()
        return callback.threads == [threading.current_thread()]

    assert runners.start().queue_task(task)


def test_it_is_not_called_after_its_task(runners: Runners) -> None:
    callback = Callback()
    runner = runners.start()

    def task(_: object) -> tuple[Context, CancelHandle]:
        context = current_context()
        return context, context.child().on_cancel(callback)

    context, handle = runner.queue_task(task)
    context.cancel()
    context.on_cancel(callback).close()
    time.sleep(MOMENT)
    handle.close()
    late = runner.queue_task(lambda _: current_context())
    with late.on_cancel(callback):
        late.cancel()
    time.sleep(MOMENT)
    assert callback.threads == []


def test_the_task_waits_for_one_under_way(runners: Runners) -> None:
    callback = Callback(blocks=True)
    runner = runners.start()

    def task(_: object) -> None:
        context = current_context()
        context.on_cancel(callback)
        context.cancel()
        assert callback.called.wait(LONG_TIMEOUT)

    future = runner.submit(task)
    following = runner.submit(lambda _: callback.returned)
    assert callback.called.wait(LONG_TIMEOUT)
    time.sleep(MOMENT)
    assert not future.done()
    callback.release.set()
    future.result(LONG_TIMEOUT)
    assert callback.returned
    assert following.result(LONG_TIMEOUT)


def test_leaving_the_block_waits_for_one_under_way(runners: Runners) -> None:
    callback = Callback()

    def slow() -> None:
        callback()
        time.sleep(MOMENT)
        callback.returned = True

    def task(_: object) -> bool:
        context = current_context()
        with context.on_cancel(slow):
            context.cancel()
            assert callback.called.wait(LONG_TIMEOUT)
            callback.returned = False
        return callback.returned

    assert runners.start().queue_task(task)


def test_after_the_block_it_is_not_called(runners: Runners) -> None:
    def task(_: object) -> list[threading.Thread]:
        callback, context = Callback(), current_context()
        with context.on_cancel(callback) as handle:
            pass
        handle.close()
        context.cancel()
        time.sleep(MOMENT)
        return callback.threads

    assert runners.start().queue_task(task) == []


def test_it_may_close_its_own_handle_register_another_and_cancel_again(runners: Runners) -> None:
    second = Callback()

    def task(_: object) -> str:
        context = current_context()
        done = threading.Event()

        def callback() -> None:
            handles[0].close()
            context.cancel("again")
            context.on_cancel(second)
            done.set()

        handles = [context.on_cancel(callback)]
        with handles[0]:
            context.cancel()
            assert done.wait(LONG_TIMEOUT)
        return threading.current_thread().name

    runners.start().queue_task(task)
    assert second.names == ["tasker-1-canceller"]


def test_registered_twice_it_is_called_twice(runners: Runners) -> None:
    callback = Callback()

    def task(_: object) -> None:
        context = current_context()
        with context.on_cancel(callback), context.on_cancel(callback):
            context.cancel()
            eventually(lambda: len(callback.threads) == 2)

    runners.start().queue_task(task)


def test_a_retry_has_callbacks_of_its_own(runners: Runners) -> None:
    callbacks = [Callback(), Callback()]
    runner = runners.start(check_health=lambda error: False)

    def task(_: object) -> None:
        context = current_context()
        context.on_cancel(callbacks[context.attempt - 1])
        if context.attempt == 1:
            raise ValueError
        context.cancel()
        assert callbacks[1].called.wait(LONG_TIMEOUT)

    runner.queue_task(task)
    assert [len(callback.threads) for callback in callbacks] == [0, 1]


def test_an_error_is_logged_with_the_names_of_callback_and_task(
    runners: Runners, log: LogCapture
) -> None:
    runner = runners.start()

    def fail() -> None:
        raise ValueError

    def task(_: object) -> None:
        context = current_context()
        context.on_cancel(fail)
        context.cancel()
        context.on_cancel(fail)

    runner.options(name="mine").queue_task(task)
    runner.options(name="mine").submit(lambda _: None).result()
    records = log.rest()
    assert len(records) in {1, 2}
    for record in records:
        text = record.getMessage()
        assert "on_cancel callback" in text
        assert "fail of task mine failed" in text


def test_an_interrupt_in_one_that_is_called_here_reaches_the_caller() -> None:
    context = Context()
    context.cancel()

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        context.on_cancel(interrupt)


def test_it_may_wait_for_its_task_with_a_limit(runners: Runners, log: LogCapture) -> None:
    log.overlook("takes longer than 1 s")
    runner = runners.start()
    outcomes: list[int] = []
    registered, called = threading.Event(), threading.Event()

    def callback() -> None:
        called.set()
        outcomes.append(future.result(LONG_TIMEOUT))

    def task(_: object) -> int:
        current_context().on_cancel(callback)
        registered.set()
        assert called.wait(LONG_TIMEOUT)
        return 7

    future = runner.submit(task)
    assert registered.wait(LONG_TIMEOUT)
    future.request_cancel()
    assert future.result(LONG_TIMEOUT) == 7
    eventually(lambda: outcomes == [7])


def test_a_task_is_followed_by_validate_if_one_was_called(runners: Runners) -> None:
    validated: list[Resource] = []

    def validate(resource: Resource) -> bool:
        validated.append(resource)
        return True

    runner = runners.start(validate=validate, validate_after_idle=1e6)

    def task(_: object) -> None:
        callback, context = Callback(), current_context()
        with context.on_cancel(callback):
            context.cancel()
            assert callback.called.wait(LONG_TIMEOUT)

    runner.queue_task(task)
    runner.queue_task(lambda _: None)
    runner.queue_task(lambda _: None)
    assert len(validated) == 1


def test_a_child_with_a_limit_of_its_own_calls_it_when_that_passes(runners: Runners) -> None:
    callback = Callback()

    def task(_: object) -> bool:
        with current_context().child(timeout=LIMIT).on_cancel(callback):
            assert callback.called.wait(LONG_TIMEOUT)
        return current_context().cancelled

    assert not runners.start().queue_task(task)


@pytest.mark.timing
def test_one_that_hangs_delays_no_other_no_limit_and_no_growth(
    runners: Runners, log: LogCapture
) -> None:
    log.overlook(OVERDUE)
    runner = runners.start(worker_count=2, max_worker_count=4, burst_interval=0.01)
    hangs = [Callback(blocks=True) for _ in range(2)]

    def hang(_: object, callback: Callback) -> None:
        current_context().on_cancel(callback)
        assert callback.called.wait(LONG_TIMEOUT)

    futures = [runner.options(timeout=LIMIT).submit(hang, callback) for callback in hangs]
    for callback in hangs:
        assert callback.called.wait(LONG_TIMEOUT)
    delays = []
    for _ in range(5):
        begin = time.monotonic()
        callback = Callback()
        with pytest.raises(TaskTimeout):
            runner.options(timeout=LIMIT).queue_task(hang, callback)
        delays.append(time.monotonic() - begin - LIMIT)
    assert min(delays) < 0.05
    texts = [record.getMessage() for record in log.take(2)]
    assert all("takes longer than 1 s" in text and "hang" in text for text in texts)
    for callback in hangs:
        callback.release.set()
    for future in futures:
        with pytest.raises(TaskTimeout):
            future.result()


def test_a_log_that_hangs_on_one_that_hangs_delays_no_other(runners: Runners) -> None:
    logging_it, hang, record = threading.Event(), Callback(blocks=True), threading.Event()

    class Stuck(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            logging_it.set()
            assert record.wait(LONG_TIMEOUT)

    logger = logging.Logger("stuck")
    logger.addHandler(Stuck())
    runner = runners.start(worker_count=2, logger=logger)

    def task(_: object, callback: Callback) -> bool:
        context = current_context()
        with context.on_cancel(callback):
            context.cancel()
            return callback.called.wait(LONG_TIMEOUT / 2)

    first = runner.submit(task, hang)
    assert logging_it.wait(LONG_TIMEOUT)
    assert runner.queue_task(task, Callback())
    record.set()
    hang.release.set()
    assert first.result()


def test_a_helper_that_cannot_be_started_is_an_error_of_the_registration(
    runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, start = runners.start(), threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.endswith("-canceller"):
            raise RuntimeError("can't start new thread")
        start(thread)

    def task(_: object) -> bool:
        callback, context = Callback(), current_context()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                context.on_cancel(callback)
        context.on_cancel(callback)
        context.cancel()
        return callback.called.wait(LONG_TIMEOUT)

    assert runner.queue_task(task)


def test_the_helper_ends_with_the_runner(runners: Runners) -> None:
    runner = runners.start(name="short")
    runner.queue_task(lambda _: current_context().on_cancel(print).close())
    assert len(helpers("short")) == 1
    runner.stop()
    assert helpers("short") == []


def test_what_a_callback_holds_goes_with_its_task(runners: Runners) -> None:
    class Thing:
        def stop(self) -> None: ...

    things: list[weakref.ref[Thing]] = []

    def task(_: object) -> None:
        thing = Thing()
        things.append(weakref.ref(thing))
        current_context().on_cancel(thing.stop)

    runners.start().queue_task(task)
    gc.collect()
    assert things[0]() is None


@pytest.mark.stress
def test_a_callback_never_outlives_its_block(runners: Runners) -> None:
    runner = runners.start(worker_count=2)
    outside: list[int] = []

    def task(_: object) -> None:
        context, inside = current_context(), [True]
        canceller = Call(context.cancel)
        with context.on_cancel(lambda: None if inside[0] else outside.append(1)):
            pass
        inside[0] = False
        canceller.result()

    for _ in range(300):
        runner.queue_task(task)
    assert outside == []


# ---- outside of tasks ---------------------------------------------------


def test_outside_of_tasks_it_is_called_on_a_helper_of_the_process() -> None:
    context, callback = Context(), Callback()
    with context.on_cancel(callback):
        context.cancel()
        assert callback.called.wait(LONG_TIMEOUT)
    assert callback.names == ["context-canceller"]


def test_a_cancel_above_calls_it() -> None:
    root, callback = Context(), Callback()
    with root.child().child(timeout=LONG_TIMEOUT).on_cancel(callback):
        root.cancel()
        assert callback.called.wait(LONG_TIMEOUT)


def test_a_deadline_that_passes_calls_it_once() -> None:
    callback = Callback()
    root = Context()
    with root.child(timeout=LIMIT).on_cancel(callback):
        assert callback.called.wait(LONG_TIMEOUT)
        root.cancel()
    late = root.child(timeout=0)
    late.on_cancel(callback)
    assert len(callback.threads) == 2
    assert callback.threads[1] is threading.current_thread()


def test_one_with_an_earlier_deadline_is_called_first() -> None:
    early, late = Callback(), Callback()
    root = Context()
    with (
        root.child(timeout=LONG_TIMEOUT).on_cancel(late),
        root.child(timeout=LIMIT).on_cancel(early),
    ):
        assert early.called.wait(LONG_TIMEOUT)
    assert late.threads == []


def test_helpers_of_the_process_leave_when_nothing_is_registered() -> None:
    handles = [Context().on_cancel(print) for _ in range(3)]
    assert helpers("context")
    for handle in handles:
        handle.close()
        handle.close()
    del handles
    eventually(lambda: helpers("context") == [])


def test_a_context_that_goes_takes_its_callbacks_along() -> None:
    class Thing:
        def stop(self) -> None: ...

    thing = Thing()
    gone = weakref.ref(thing)
    context = Context()
    context.on_cancel(thing.stop)
    context.child(timeout=LONG_TIMEOUT).on_cancel(thing.stop)
    del thing, context
    gc.collect()
    assert gone() is None
    eventually(lambda: helpers("context") == [])


def test_a_callback_that_refers_to_its_context_is_no_leak() -> None:
    class Thing:
        def __init__(self) -> None:
            self.context = Context()
            self.handle = self.context.on_cancel(self.stop)

        def stop(self) -> None: ...

    gone = weakref.ref(Thing())
    gc.collect()
    assert gone() is None


def test_a_callback_has_variables_of_its_own() -> None:
    variable = contextvars.ContextVar[int]("variable", default=0)
    seen: list[int] = []

    def callback() -> None:
        seen.append(variable.get())
        variable.set(1)

    variable.set(2)
    context = Context()
    with context.on_cancel(callback), context.on_cancel(callback):
        context.cancel()
        eventually(lambda: len(seen) == 2)
    assert seen == [0, 0]


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="callback must be callable, got 5"):
        Context().on_cancel(5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_a_handle_cannot_be_made_by_hand() -> None:
    with pytest.raises(TypeError):
        CancelHandle()


def test_an_error_outside_of_tasks_is_logged(log: LogCapture) -> None:
    def fail() -> None:
        raise ValueError

    context = Context()
    context.on_cancel(fail)
    context.cancel()
    [record] = log.take()
    assert record.getMessage().endswith("fail failed")
    assert record.exc_info is not None


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_cancel_in_a_signal_handler_calls_nothing_there() -> None:
    callback = Callback()
    with (
        Context.on_signals(signal.SIGUSR1) as context,
        context.on_cancel(callback),
    ):
        signal.raise_signal(signal.SIGUSR1)
        assert callback.called.wait(LONG_TIMEOUT)
    assert callback.names == ["context-canceller"]


def test_two_handles_may_be_closed_at_once_from_two_threads() -> None:
    context, callback = Context(), Callback(blocks=True)
    handle = context.on_cancel(callback)
    context.cancel()
    assert callback.called.wait(LONG_TIMEOUT)
    closing = [Call(handle.close) for _ in range(2)]
    callback.release.set()
    for call in closing:
        call.result()
    assert callback.returned


def test_a_gate_that_is_held_is_opened_by_the_cancel(
    runners: Runners, gate: Gate, log: LogCapture
) -> None:
    log.overlook(OVERDUE)
    runner: Runner[Resource] = runners.start()

    def task(_: object) -> None:
        with current_context().on_cancel(gate.open):
            gate.hold()

    with pytest.raises(TaskTimeout):
        runner.options(timeout=LIMIT).queue_task(task)
