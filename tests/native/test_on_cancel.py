"""The config's `on_cancel`: ends what runs on a resource, and never what runs there next."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tasker import Config, ConfigError, Context, Runner, TaskTimeout, current_context
from tests.native.support import (
    LONG_TIMEOUT,
    MOMENT,
    OVERDUE,
    Call,
    Gate,
    LogCapture,
    Runners,
    eventually,
    worker_threads,
)

LIMIT = 0.05


class Line:
    """A resource on which a task waits until it is interrupted."""

    def __init__(self) -> None:
        self.interrupted = threading.Event()
        self.interrupts: list[threading.Thread] = []

    def wait(self, *_anything: object) -> None:
        """A task function: waits for its interrupt, and takes it away."""
        assert self.interrupted.wait(LONG_TIMEOUT), "nobody interrupted it"
        self.interrupted.clear()

    def interrupt(self) -> None:
        """The hook."""
        self.interrupts.append(threading.current_thread())
        self.interrupted.set()


def lines(**fields: Any) -> Config[Line]:
    fields = {
        "on_create": Line,
        "on_cancel": Line.interrupt,
        "worker_count": 1,
        "resource_pool_size": 1,
        **fields,
    }
    return Config(**fields)


@pytest.fixture
def line(runners: Runners) -> Runner[Line]:
    """A runner of one worker."""
    return runners.keep(Runner(lines()))


def begun(line: Line, started: threading.Event) -> None:
    """A task function that says that it runs, and waits."""
    started.set()
    line.wait()


def interrupts(runner: Runner[Line]) -> int:
    return runner.queue_task(lambda line: len(line.interrupts))


def test_a_time_limit_interrupts_what_runs_on_a_helper_thread(line: Runner[Line]) -> None:
    with pytest.raises(TaskTimeout):
        line.options(timeout=LIMIT).queue_task(Line.wait)
    threads = line.queue_task(lambda line: line.interrupts)
    assert [thread.name for thread in threads] == ["tasker-1-canceller"]


@pytest.mark.parametrize("end", ["request_cancel", "kill", "context"])
def test_every_kind_of_cancel_interrupts(line: Runner[Line], end: str) -> None:
    contexts: list[Context] = []
    started = threading.Event()

    def task(line: Line) -> int:
        contexts.append(current_context())
        begun(line, started)
        return len(line.interrupts)

    future = line.submit(task)
    assert started.wait(LONG_TIMEOUT)
    ends: dict[str, Callable[[], object]] = {
        "request_cancel": future.request_cancel,
        "kill": line.kill,
        "context": contexts[0].cancel,
    }
    ends[end]()
    assert future.result(LONG_TIMEOUT) == 1


@pytest.mark.parametrize("verb", ["run_task", "queue_task", "submit_many", "map"])
@pytest.mark.parametrize("thread_bound", [True, False])
def test_every_verb_can_be_interrupted(runners: Runners, verb: str, thread_bound: bool) -> None:
    runner = runners.keep(Runner(lines(thread_bound=thread_bound)))
    view = runner.options(timeout=LIMIT)
    verbs: dict[str, Callable[[], object]] = {
        "run_task": lambda: view.run_task(Line.wait),
        "queue_task": lambda: view.queue_task(Line.wait),
        "submit_many": lambda: [one.result() for one in view.submit_many(Line.wait, [1])],
        "map": lambda: list(view.map(Line.wait, [1])),
    }
    with pytest.raises(TaskTimeout):
        verbs[verb]()


def test_items_of_a_map_without_a_limit_are_interrupted_by_a_kill(runners: Runners) -> None:
    runner = runners.keep(Runner(lines()))
    started = threading.Event()

    def item(line: Line, number: int) -> int:
        if number == 2:
            begun(line, started)
        return len(line.interrupts)

    results = Call(list[int], runner.map(item, range(3)))
    assert started.wait(LONG_TIMEOUT)
    runner.kill(LONG_TIMEOUT)
    assert results.result() == [0, 0, 1]


def test_an_item_that_cancels_its_own_context_is_interrupted_and_the_next_is_not(
    runners: Runners,
) -> None:
    validated: list[Line] = []

    def validate(line: Line) -> bool:
        validated.append(line)
        return True

    def item(line: Line, number: int) -> int:
        if number == 3:
            current_context().cancel()
            line.wait()
        return len(line.interrupts)

    runner = runners.keep(Runner(lines(validate=validate, validate_after_idle=1e6)))
    assert list(runner.map(item, range(6))) == [0, 0, 0, 1, 1, 1]
    assert len(validated) == 1


def test_it_is_called_once_for_each_attempt(line: Runner[Line]) -> None:
    def task(line: Line) -> None:
        context = current_context()
        line.wait()
        context.cancel()
        context.cancel("again")
        assert context.wait(LONG_TIMEOUT)

    future = line.options(timeout=LIMIT).submit(task)
    with pytest.raises(TaskTimeout):
        future.result()
    future.request_cancel()
    assert interrupts(line) == 1


def test_nothing_is_interrupted_that_is_not_cancelled_while_it_runs(line: Runner[Line]) -> None:
    gate = Gate()
    line.submit(lambda _: gate.hold())
    gate.wait_for()
    waiting = line.options(timeout=LIMIT).submit(Line.wait)
    with pytest.raises(TaskTimeout):
        waiting.result()
    done = line.submit(lambda _: None)
    gate.open()
    done.result()
    done.request_cancel()
    assert interrupts(line) == 0


def test_a_task_without_the_resource_does_not_interrupt_it(line: Runner[Line]) -> None:
    told = threading.Event()

    def bare() -> None:
        context = current_context()
        told.set()
        assert context.wait(LONG_TIMEOUT)

    future = line.executor().submit(bare)
    assert told.wait(LONG_TIMEOUT)
    future.request_cancel()
    future.result(LONG_TIMEOUT)
    assert interrupts(line) == 0


def test_a_task_is_interrupted_that_was_told_before_it_was_entered(line: Runner[Line]) -> None:
    def task(line: Line) -> None:
        line.wait()

    gate = Gate()

    class Late:
        """Its class is looked up between the claim and the call."""

        def __call__(self, line: Line) -> None:
            task(line)

    line.submit(lambda _: gate.hold())
    gate.wait_for()
    future = line.submit(Late())
    gate.open()
    eventually(future.running)
    future.request_cancel()
    future.result(LONG_TIMEOUT)


def test_the_worker_waits_for_a_call_under_way_before_it_goes_on(runners: Runners) -> None:
    order: list[str] = []
    called, release = threading.Event(), threading.Event()

    def hook(_: object) -> None:
        called.set()
        assert release.wait(LONG_TIMEOUT)
        order.append("hook")

    def note(word: str) -> Callable[[object], bool]:
        def called(_: object) -> bool:
            order.append(word)
            return True

        return called

    runner = runners.keep(
        Runner(
            Config(
                on_create=object,
                on_cancel=hook,
                reset=note("reset"),
                validate=note("validate"),
                on_destroy=note("destroy"),
                worker_count=1,
                logger=None,
            )
        )
    )
    first = runner.options(timeout=LIMIT).submit(lambda _: called.wait(LONG_TIMEOUT))
    second = runner.submit(note("next"))
    with pytest.raises(TaskTimeout):
        first.result()
    assert called.wait(LONG_TIMEOUT)
    time.sleep(MOMENT)
    assert order == []
    release.set()
    second.result(LONG_TIMEOUT)
    runner.stop()
    assert order == ["hook", "reset", "validate", "next", "reset", "destroy"]


def test_a_lent_call_returns_after_the_call_that_is_under_way(runners: Runners) -> None:
    ended: list[int] = []
    called = threading.Event()

    def hook(_: object) -> None:
        called.set()
        time.sleep(MOMENT)
        ended.append(1)

    config = Config(
        on_create=object, on_cancel=hook, worker_count=1, thread_bound=False, logger=None
    )
    runner = runners.keep(Runner(config))
    with pytest.raises(TaskTimeout):
        runner.options(timeout=LIMIT).run_task(lambda _: called.wait(LONG_TIMEOUT))
    assert ended == [1]


def test_an_interrupted_task_is_followed_by_validate(runners: Runners) -> None:
    made: list[Line] = []

    def create() -> Line:
        made.append(Line())
        return made[-1]

    def validate(line: Line) -> bool:
        return not line.interrupts

    for thread_bound in (True, False):
        made.clear()
        settings = {"validate": validate, "validate_after_idle": 1e6, "on_create": create}
        runner = runners.keep(Runner(lines(**settings, thread_bound=thread_bound)))
        view = runner.options(timeout=LIMIT)
        for verb, plain in ((view.queue_task, runner.queue_task), (view.run_task, runner.run_task)):
            with pytest.raises(TaskTimeout):
                verb(Line.wait)
            assert plain(lambda line: len(line.interrupts)) == 0
        runner.stop()


def test_an_error_of_it_is_logged_with_the_name_of_the_task(
    runners: Runners, log: LogCapture
) -> None:
    def hook(line: Line) -> None:
        line.interrupt()
        raise ValueError

    log.overlook(OVERDUE)
    runner = runners.keep(Runner(lines(on_cancel=hook)))
    with pytest.raises(TaskTimeout):
        runner.options(timeout=LIMIT, name="long").queue_task(Line.wait)
    [record] = log.take()
    assert record.getMessage() == "on_cancel of task long failed"
    assert record.exc_info is not None


@pytest.mark.timing
def test_one_that_hangs_delays_no_limit_and_no_other_one(runners: Runners, log: LogCapture) -> None:
    log.overlook(OVERDUE)
    release = threading.Event()
    hung = threading.Event()

    def hook(line: Line) -> None:
        if not hung.is_set():
            hung.set()
            line.interrupt()
            assert release.wait(LONG_TIMEOUT)
        line.interrupt()

    config = lines(on_cancel=hook, worker_count=3, max_worker_count=3)
    runner = runners.keep(Runner(config))
    first = runner.options(timeout=LIMIT, name="hung").submit(Line.wait)
    assert hung.wait(LONG_TIMEOUT)
    delays = []
    for _ in range(5):
        begin = time.monotonic()
        other = runner.options(timeout=LIMIT).submit(Line.wait)
        with pytest.raises(TaskTimeout):
            other.result()
        runner.submit(lambda _: None).result()
        delays.append(time.monotonic() - begin - LIMIT)
    assert min(delays) < 0.05
    [record] = log.take()
    assert record.getMessage() == "on_cancel of task hung takes longer than 1 s"
    release.set()
    with pytest.raises(TaskTimeout):
        first.result()


@pytest.mark.timing
def test_the_outcome_does_not_wait_for_one_that_hangs(runners: Runners) -> None:
    release = threading.Event()

    def hook(line: Line) -> None:
        line.interrupt()
        assert release.wait(LONG_TIMEOUT)

    runner = runners.keep(Runner(lines(on_cancel=hook, logger=None)))
    started = threading.Event()
    future = runner.submit(begun, started)
    assert started.wait(LONG_TIMEOUT)
    future.request_cancel()
    future.result(LONG_TIMEOUT)
    release.set()


def test_helpers_that_are_not_needed_leave_and_the_last_with_the_runner(runners: Runners) -> None:
    release = threading.Event()

    def hook(line: Line) -> None:
        line.interrupt()
        assert release.wait(LONG_TIMEOUT)

    def helpers() -> int:
        return sum(thread.name == "many-canceller" for thread in worker_threads("many"))

    config = lines(on_cancel=hook, worker_count=4, max_worker_count=4, name="many", logger=None)
    runner = runners.keep(Runner(config))
    assert helpers() == 1
    futures = [runner.options(timeout=LIMIT).submit(Line.wait) for _ in range(4)]
    eventually(lambda: helpers() == 5)
    release.set()
    for future in futures:
        with pytest.raises(TaskTimeout):
            future.result()
    eventually(lambda: helpers() == 1)
    runner.stop()
    assert helpers() == 0


def test_a_runner_whose_helper_cannot_be_started_is_not_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.endswith("-canceller"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        Runner(lines())


def test_without_a_thread_for_the_next_helper_calls_are_made_one_after_the_other(
    runners: Runners, log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runners.keep(Runner(lines(worker_count=2)))
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.endswith("-canceller"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for future in [runner.options(timeout=LIMIT).submit(Line.wait) for _ in range(2)]:
        with pytest.raises(TaskTimeout):
            future.result()
    runner.stop()
    for record in log.take():
        assert "no thread could be started for another on_cancel" in record.getMessage()


def test_it_may_kill_its_runner_and_ask_for_its_task(runners: Runners) -> None:
    answers: list[object] = []

    def hook(line: Line) -> None:
        try:
            answers.append(future.result())
        except RuntimeError as error:
            answers.append(error)
        runner.kill()
        line.interrupt()

    runner = runners.keep(Runner(lines(on_cancel=hook)))
    started = threading.Event()
    future = runner.submit(begun, started)
    assert started.wait(LONG_TIMEOUT)
    future.request_cancel()
    future.result(LONG_TIMEOUT)
    assert isinstance(answers[0], RuntimeError)


def test_it_runs_in_no_task_and_in_a_context_of_its_own(runners: Runners) -> None:
    import contextvars

    variable = contextvars.ContextVar[int]("variable", default=0)
    seen: list[int] = []

    def hook(line: Line) -> None:
        seen.append(variable.get())
        variable.set(1)
        with pytest.raises(RuntimeError, match="no task of a runner"):
            current_context()
        line.interrupt()

    runner = runners.keep(Runner(lines(on_cancel=hook)))
    variable.set(2)
    for _ in range(3):
        with pytest.raises(TaskTimeout):
            runner.options(timeout=LIMIT).queue_task(Line.wait)
    assert runner.queue_task(lambda _: seen) == [0, 0, 0]


def test_inside_a_task_the_inner_one_is_interrupted_for_itself_alone(line: Runner[Line]) -> None:
    def inner(resource: Line) -> None:
        with pytest.raises(TaskTimeout):
            line.options(timeout=LIMIT).run_task(Line.wait)
        assert not current_context().cancelled
        assert not resource.interrupted.is_set()

    line.queue_task(inner)
    assert interrupts(line) == 1


def test_an_outer_task_is_not_interrupted_while_another_runs_inside_it(
    line: Runner[Line],
) -> None:
    told, entered = threading.Event(), threading.Event()

    def outer(resource: Line) -> int:
        def inside(resource: Line) -> bool:
            entered.set()
            assert told.wait(LONG_TIMEOUT)
            return resource.interrupted.wait(MOMENT)

        assert not line.run_task(inside)
        resource.wait()
        return len(resource.interrupts)

    future = line.submit(outer)
    assert entered.wait(LONG_TIMEOUT)
    future.request_cancel()
    told.set()
    assert future.result(LONG_TIMEOUT) == 1


def test_an_inner_task_begins_after_a_call_under_way_on_the_outer_one(runners: Runners) -> None:
    called, order = threading.Event(), list[str]()

    def hook(_: object) -> None:
        called.set()
        time.sleep(MOMENT)
        order.append("hook")

    config = Config(on_create=object, on_cancel=hook, worker_count=1, logger=None)
    runner = runners.keep(Runner(config))

    def outer(_: object) -> None:
        assert called.wait(LONG_TIMEOUT)
        runner.run_task(lambda _: order.append("inner"))

    with pytest.raises(TaskTimeout):
        runner.options(timeout=LIMIT).queue_task(outer)
    runner.queue_task(lambda _: None)
    assert order == ["hook", "inner"]


@pytest.mark.parametrize("thread_bound", [True, False])
def test_a_kill_does_not_wait_longer_than_it_says_for_one_that_hangs(
    runners: Runners, thread_bound: bool
) -> None:
    from tasker import StopTimeout

    release, called = threading.Event(), threading.Event()

    def hook(line: Line) -> None:
        line.interrupt()
        called.set()
        assert release.wait(LONG_TIMEOUT)

    runner = runners.keep(Runner(lines(on_cancel=hook, thread_bound=thread_bound, logger=None)))
    started = threading.Event()
    call = Call(runner.run_task, begun, started)
    assert started.wait(LONG_TIMEOUT)
    with pytest.raises(StopTimeout):
        runner.kill(LIMIT)
    assert called.wait(LONG_TIMEOUT)
    release.set()
    call.result()


def test_it_must_be_callable() -> None:
    with pytest.raises(ConfigError, match="on_cancel must be callable or None, got 5"):
        lines(on_cancel=5)


def test_a_runner_without_it_starts_no_helper(runners: Runners) -> None:
    runner = runners.start(name="plain")
    runner.options(timeout=LONG_TIMEOUT).queue_task(lambda _: current_context().check())
    assert not [one for one in worker_threads("plain") if one.name.endswith("-canceller")]


class Database:
    """An SQLite connection of which every statement is watched."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", check_same_thread=False)

    def interrupt(self) -> None:
        self.connection.interrupt()


def race(rounds: int) -> None:
    """Has tasks end at the very moment of their limit; the statement after must not feel it."""
    limit = 0.002
    ends = iter(range(10**9))

    def close(database: Database) -> None:
        database.connection.close()

    def until_the_limit(database: Database) -> None:
        due = current_context().remaining()
        assert due is not None
        # Around the limit, now before it and now after.
        end = time.perf_counter() + due + (next(ends) % 21 - 10) * 1e-5
        with contextlib.suppress(sqlite3.OperationalError):
            while time.perf_counter() < end:
                database.connection.execute("select 1").fetchone()

    def statement(database: Database) -> int:
        # Long enough to feel an interrupt that comes a little late.
        row = database.connection.execute(
            "with recursive n(x) as (select 1 union all select x + 1 from n where x < 200)"
            " select max(x) from n"
        ).fetchone()
        return int(row[0])

    config = Config(
        on_create=Database,
        on_destroy=close,
        on_cancel=Database.interrupt,
        worker_count=1,
        logger=None,
    )
    timed_out = 0
    with Runner(config) as runner:
        tight = runner.options(timeout=limit)
        for _ in range(rounds):
            racing, after = tight.submit(until_the_limit), runner.submit(statement)
            timed_out += isinstance(racing.exception(), TaskTimeout)
            assert after.result() == 200
    assert timed_out > 0


@pytest.mark.stress
def test_an_interrupt_never_hits_the_statement_after() -> None:
    race(300)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_interrupt_never_hits_the_statement_after_in_ten_thousand_rounds() -> None:
    race(10_000)
