"""Names go into texts as they may be shown: on one line, printable, and not endless."""

import logging
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tasker import (
    Config,
    ResourceCreationError,
    Runner,
    StopTimeout,
    TaskTimeout,
    ThreadPoolExecutor,
    _tasker,
    current_context,
)
from tests.native.support import Gate, LogCapture, Runners

NASTY = "a\r\nERROR: all is lost\x1b[2J\u2028\u202eb\x00" + "c" * 5000
SHOWN = r"a\r\nERROR: all is lost\u{1b}[2J\u{2028}\u{202e}b\u{0}ccc"
"""How it begins where it is shown."""


def named(name: str) -> Callable[..., Any]:
    """A function with such a name."""

    def function(_resource: object, gate: Gate | None = None) -> tuple[str, str]:
        if gate:
            gate.hold()
        return current_context().task_name, threading.current_thread().name

    function.__qualname__ = name
    return function


def check(text: str) -> None:
    """Fails unless a text holds the name, and only as it may be shown."""
    assert SHOWN in text
    assert text.replace("\n", "").isprintable()
    assert len(text) < 2000


@pytest.mark.parametrize(
    "text", ["", "fetch", "Größe", "नमस्ते", "e\u0301te", "日本", "'b' \"c\" \\d", "🦀", "x" * 200]
)
def test_what_is_printable_stays_as_it_is(text: str) -> None:
    assert _tasker._printable(text, 200) == text


def test_what_is_longer_is_cut() -> None:
    assert _tasker._printable("ä" * 9, 4) == "ääää..."
    assert _tasker._printable("\n\n\n", 2) == "\\n\\n..."


def test_halves_of_characters_are_replaced() -> None:
    assert set(_tasker._printable("\ud800", 9)) == {"\ufffd"}


def test_the_names_of_a_runner_and_its_threads(runners: Runners) -> None:
    runner = runners.start(name=NASTY)
    for text in (runner.name, runner.submit(named("f")).result(20)[1], repr(runner)):
        check(text)
    check(repr(runner.options()))
    assert all(thread.name.isprintable() for thread in threading.enumerate())
    assert runner.config.name == NASTY


def test_the_names_of_a_drop_in_pools_threads() -> None:
    with ThreadPoolExecutor(1, NASTY + "\ud800") as pool:
        check(pool.submit(lambda: threading.current_thread().name).result(20))


def test_a_stop_that_runs_out_of_time_quotes_both_names(runners: Runners, gate: Gate) -> None:
    runner = runners.start(name='a"b')
    runner.options(name='c"d\n').submit(gate.hold)
    gate.wait_for()
    for verb, end in {"stop": runner.stop, "kill": runner.kill}.items():
        with pytest.raises(StopTimeout) as slow:
            end(0)
        assert str(slow.value).startswith(rf'{verb}() of runner "a\"b" timed out; ')
        assert r'still running: "c\"d\n" (' in str(slow.value)
    assert r'"c\"d\n" (' in _tasker._exit_report()
    gate.open()


@pytest.mark.parametrize("way", ["given", "of the function"])
def test_the_name_of_a_task(way: str, runners: Runners, gate: Gate) -> None:
    runner = runners.start(name=NASTY)
    options: dict[str, Any] = {"name": NASTY} if way == "given" else {}
    function = named("f" if way == "given" else NASTY + "\ud800")
    check(runner.options(**options).submit(function).result(20)[0])
    check(next(runner.options(**options).map(function, [None]))[0])
    with pytest.raises(TaskTimeout) as late:
        runner.options(**options, timeout=0).queue_task(function)
    check(str(late.value))
    held = runner.options(**options).submit(function, gate)
    gate.wait_for()
    check(repr(held))
    with pytest.raises(StopTimeout) as slow:
        runner.stop(0)
    check(str(slow.value))
    check(slow.value.running[0].name)
    check(_tasker._exit_report())
    gate.open()
    runner.stop()


def test_a_dropped_task_keeps_the_name_as_it_was_given(runners: Runners, gate: Gate) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    gate.wait_for()
    runner.options(name=NASTY).submit(named("f"))
    with pytest.raises(StopTimeout) as slow:
        runner.kill(0)
    gate.open()
    assert [task.name for task in slow.value.dropped] == [NASTY]


def test_a_failed_creation_names_the_class_of_its_error() -> None:
    error = type(NASTY.replace("\x00", ""), (Exception,), {})

    def create() -> object:
        raise error

    with pytest.raises(ResourceCreationError, match=r"^on_create failed with a\\r\\nERROR: "):
        Runner(Config(on_create=create, worker_count=1))


def test_records_on_creation_begin_with_the_runners_name(runners: Runners, log: LogCapture) -> None:
    works = threading.Event()
    works.set()

    def create() -> object:
        if not works.is_set():
            raise ConnectionRefusedError
        return object()

    runner = runners.start(
        on_create=create, on_destroy=None, name="pg\n", is_broken=lambda *_: True
    )
    logger = logging.getLogger("tasker")
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        works.clear()
        future = runner.submit(lambda _: 1 / 0)
        (began,) = log.take()
        works.set()
        with pytest.raises(ZeroDivisionError):
            future.result(20)
        (over,) = log.take()
    finally:
        logger.setLevel(level)
    assert re.match(r"pg\\n: resources cannot be created; ", began.getMessage())
    assert re.match(r"pg\\n: resources can be created again ", over.getMessage())
