"""What differs from a `Runner`: each row of the table on the page has its tests."""

from __future__ import annotations

import importlib
import os
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from tasker import Future, TaskCancelled, TaskNotPicklable
from tests.docs.pages import ROOT
from tests.ray.conftest import Make
from tests.ray.functions import Resource, append, eventually, process, same, square, wait_for

ROWS: dict[str, list[str]] = {
    "functions": ["test_differences.test_a_function_is_a_copy_of_the_moment_of_its_first_submit"],
    "arguments and results": [
        "test_tasks.test_arguments_and_results_are_copies",
        "test_errors.test_what_cannot_be_sent_is_refused_at_the_submit_and_named",
        "test_errors.test_a_result_that_cannot_be_pickled_is_named_with_the_object_at_fault",
    ],
    "errors of a task": [
        "test_errors.test_an_error_of_a_task_arrives_as_itself_with_its_cause_and_notes"
    ],
    "tasks inside tasks": ["test_differences.test_a_task_cannot_use_its_runner"],
    "context variables": ["test_tasks.test_named_context_variables_travel_and_others_do_not"],
    "latency": ["test_differences.test_a_task_is_run_by_another_process"],
    "`Future.cancel`": [
        "test_differences.test_what_was_sent_ahead_is_taken_back_by_request_cancel_alone"
    ],
    "a future that is settled by hand": [
        "test_differences.test_a_future_that_is_settled_by_hand_ends_a_task_that_waits"
    ],
    "order": ["test_differences.test_what_was_sent_ahead_may_begin_after_what_came_later"],
    "a `HIGH` task": ["test_tasks.test_a_high_task_overtakes_what_waits"],
    "done-callbacks": [
        "test_differences.test_callbacks_run_on_the_drivers_thread",
        "test_tasks.test_a_done_callback_may_submit_but_not_wait",
    ],
    "`on_event`": ["test_figures.test_events_are_told_in_the_actor"],
    "figures": ["test_figures.test_totals_count_each_task_once"],
    "findings": ["test_figures.test_diagnose_tells_of_busy_workers"],
}
"""The tests of each row, by its first cell."""


def test_each_row_of_the_page_has_a_test() -> None:
    page = (ROOT / "docs" / "ray.md").read_text("utf-8")
    section = page.split("## What differs from a `Runner`")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)
    assert rows[1:] == list(ROWS)
    for tests in ROWS.values():
        for test in tests:
            module, name = test.split(".")
            assert callable(getattr(importlib.import_module(f"tests.ray.{module}"), name))


def test_a_function_is_a_copy_of_the_moment_of_its_first_submit(make: Make) -> None:
    runner, shared = make(), [1]

    def look(_resource: Resource) -> list[int]:
        return shared

    assert runner.queue_task(look) == [1]
    shared.append(2)
    assert runner.queue_task(look) == [1]


def test_a_task_cannot_use_its_runner(make: Make) -> None:
    runner = make()
    with pytest.raises(TaskNotPicklable, match="a RayRunner cannot be sent elsewhere"):
        runner.submit(lambda _: runner.queue_task(square, 2))


def test_a_task_is_run_by_another_process(make: Make) -> None:
    runner = make()
    assert runner.queue_task(process) == runner.actors()[0].process != os.getpid()


def test_what_was_sent_ahead_is_taken_back_by_request_cancel_alone(
    make: Make, tmp_path: Path
) -> None:
    runner, gate, book = make(), tmp_path / "gate", tmp_path / "book"
    held = runner.submit(wait_for, gate)
    ahead = runner.submit(append, book, "ahead")
    eventually(ahead.running)
    assert not ahead.cancel()
    assert ahead.request_cancel()
    assert isinstance(ahead.exception(timeout=60), TaskCancelled)
    gate.touch()
    held.result(timeout=60)
    runner.stop()
    assert not book.exists()


def test_a_future_that_is_settled_by_hand_ends_a_task_that_waits(
    make: Make, tmp_path: Path
) -> None:
    runner = make(max_queue_size=2, settings={"max_out": 1})
    gate, book = tmp_path / "gate", tmp_path / "book"
    held = runner.submit(wait_for, gate)
    eventually(held.running)
    by_hand: Future[Any] = runner.submit(append, book, "by hand")
    by_hand.set_result("mine")
    gate.touch()
    held.result(timeout=60)
    # Its place in the queue is free again.
    assert [runner.submit(same, n).result(timeout=60) for n in range(4)] == [0, 1, 2, 3]
    futures = runner.submit_many(same, [4, 5])
    assert [each.result(timeout=60) for each in futures] == [4, 5]
    runner.stop()
    assert (by_hand.result(), book.exists()) == ("mine", False)
    metrics = runner.metrics()
    assert (metrics.total_tasks_cancelled, metrics.total_tasks_completed) == (1, 7)


def test_what_was_sent_ahead_may_begin_after_what_came_later(make: Make, tmp_path: Path) -> None:
    runner, book = make(actors=2), tmp_path / "book"
    gates = [tmp_path / "gate 0", tmp_path / "gate 1"]
    holds = [runner.submit(wait_for, gate) for gate in gates]
    eventually(lambda: runner.stats().running_tasks == 2)
    # With both actors there is now one more.
    tasks = [runner.submit(append, book, str(n)) for n in range(2)]
    eventually(lambda: all(each.running() for each in tasks))
    gates[1].touch()
    for each in tasks:
        each.result(timeout=100)  # that of the other actor was taken back from there
    gates[0].touch()
    for each in holds:
        each.result(timeout=60)
    assert sorted(book.read_text().split()) == ["0", "1"]


def test_callbacks_run_on_the_drivers_thread(make: Make) -> None:
    runner = make()
    told: list[str] = []
    over = threading.Event()

    def tell(_future: object) -> None:
        told.append(threading.current_thread().name)
        over.set()

    runner.submit(wait_for, Path(__file__)).add_done_callback(tell)
    assert over.wait(60)
    assert told in ([f"{runner.name}-driver"], [threading.current_thread().name])
