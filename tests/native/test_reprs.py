"""What `repr` shows of runners, views, futures and results is what a person looks for."""

import inspect
import threading

from tasker import Future, Priority
from tests.native.support import Broken, Gate, Runners, is_healthy


def test_a_runner_shows_the_workers_it_has(runners: Runners) -> None:
    runner = runners.start(name="pg", worker_count=2)
    assert repr(runner) == "<Runner 'pg' running, 2 workers>"
    runner.stop()
    assert repr(runner) == "<Runner 'pg' stopped, 0 workers>"


def test_a_view_shows_its_options(runners: Runners) -> None:
    runner = runners.start(name="pg")
    assert repr(runner.options()) == "<Submitter of runner 'pg'>"
    view = runner.options(priority=Priority.HIGH, once=True, timeout=5, name="report")
    assert repr(view) == (
        "<Submitter of runner 'pg': priority=HIGH, once=True, timeout=5, name='report'>"
    )
    low = runner.options(priority=Priority.LOW)
    assert repr(low) == "<Submitter of runner 'pg': priority=LOW>"


def test_a_future_shows_its_task(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    running = runner.options(name="report").submit(gate.hold)
    waiting = runner.submit(repr)
    gate.wait_for()
    at = f"<Future at {hex(id(running))} state="
    assert repr(running) == f"{at}running task='report' attempt=1>"
    assert repr(waiting) == f"<Future at {hex(id(waiting))} state=pending task='repr'>"
    gate.open()
    running.result(20)
    assert repr(running) == f"{at}finished returned NoneType task='report'>"


def test_a_future_shows_which_attempt_runs(runners: Runners, gate: Gate) -> None:
    runner = runners.start(check_health=is_healthy)
    attempts: list[int] = []

    def task(_: object) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise Broken
        gate.hold()

    future = runner.options(name="report").submit(task)
    gate.wait_for()
    assert " attempt=2>" in repr(future)
    gate.open()
    future.result(20)


def test_results_show_what_is_done_and_what_waits(runners: Runners, gate: Gate) -> None:
    runner = runners.start(name="pg")
    passed = threading.Event()

    def item(_: object, number: int) -> int:
        if number == 1:
            gate.hold()
        passed.set()
        return number

    results = runner.map(item, range(3), buffersize=3)
    assert passed.wait(20)
    gate.wait_for()
    assert repr(results) == "<Results of runner 'pg': 1 items done, 2 waiting>"
    assert next(results) == 0
    assert repr(results) == "<Results of runner 'pg': 1 items done, 2 waiting>"
    gate.open()
    assert list(results) == [1, 2]
    assert repr(results) == "<Results of runner 'pg': closed>"


def test_results_that_come_as_they_finish_show_the_same(runners: Runners, gate: Gate) -> None:
    runner = runners.start(name="pg")

    def item(_: object, number: int) -> int:
        if number == 1:
            gate.hold()
        return number

    results = runner.map(item, range(3), buffersize=3, ordered=False)
    gate.wait_for()
    assert next(results) == 0
    assert repr(results) == "<Results of runner 'pg': 1 items done, 2 waiting>"
    gate.open()
    assert sorted(results) == [1, 2]


def test_the_signature_of_a_future_is_that_of_the_standard_one() -> None:
    assert str(inspect.signature(Future)) == "()"
