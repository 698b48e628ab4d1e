"""Signals cancel a context once, and their former handlers come back."""

import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from tasker import Context


@pytest.fixture
def former() -> Iterator[list[int]]:
    """The signals that reached the handlers that were there before."""
    seen: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        seen.append(number)

    handlers = {each: signal.signal(each, handle) for each in (signal.SIGTERM, signal.SIGINT)}
    yield seen
    for number, handler in handlers.items():
        signal.signal(number, handler)


def enter(*signals: signal.Signals) -> None:
    with Context.on_signals(*signals):
        pytest.fail("entered")


def test_the_first_signal_cancels_the_context(former: list[int]) -> None:
    with Context.on_signals(signal.SIGTERM, signal.SIGINT) as context:
        signal.raise_signal(signal.SIGTERM)
        assert context.cancelled
        assert context.reason is not None
        assert f"signal {int(signal.SIGTERM)}" in context.reason
    assert former == []


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_goes_to_the_former_handler(
    former: list[int], second: signal.Signals
) -> None:
    with Context.on_signals(signal.SIGTERM, signal.SIGINT):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(second)
    assert former == [second]


def test_leaving_puts_the_former_handlers_back(former: list[int]) -> None:
    with pytest.raises(KeyError), Context.on_signals(signal.SIGTERM, signal.SIGINT) as context:
        raise KeyError
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    assert former == [signal.SIGTERM, signal.SIGINT]
    assert not context.cancelled


def test_other_signals_are_left_alone(former: list[int]) -> None:
    with Context.on_signals(signal.SIGTERM) as context:
        signal.raise_signal(signal.SIGINT)
        assert not context.cancelled
    assert former == [signal.SIGINT]


def test_the_context_is_of_the_class_that_was_asked() -> None:
    class Special(Context):
        pass

    with Special.on_signals(signal.SIGTERM) as context:
        assert type(context) is Special


def test_a_signal_that_cannot_be_handled_leaves_the_others_as_they_were(former: list[int]) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        enter(signal.SIGTERM, signal.SIGKILL)
    signal.raise_signal(signal.SIGTERM)
    assert former == [signal.SIGTERM]


def test_no_signals_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one signal"):
        enter()


def test_a_handler_that_could_not_be_put_back_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _number: None)
    with pytest.raises(ValueError, match="not installed from Python"):
        enter(signal.SIGTERM)


def test_other_threads_are_refused() -> None:
    errors: list[BaseException] = []

    def catch(call: Callable[..., Any], *args: Any) -> None:
        try:
            call(*args)
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=catch, args=(enter, signal.SIGTERM))
    thread.start()
    thread.join(10)
    assert ["main thread" in str(error) for error in errors] == [True]
