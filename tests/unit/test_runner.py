"""What the runner adds in Python: options, the `with` statement, its text and its end."""

import re
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from tasker import Config, ConfigError, Priority, Runner, RunnerBroken


class FakeRunner:
    """Takes the place of `self` in the methods of `Runner`."""

    def __init__(self, *, state: str = "running", error: Exception | None = None) -> None:
        self.calls: list[Any] = []
        self.config = SimpleNamespace(worker_count=4)
        self.name = "app"
        self.state = state
        self.error = error

    def _call(self, *call: Any) -> None:
        self.calls.append(call)
        if self.error:
            raise self.error

    def stop(self) -> None:
        self._call("stop")

    def kill(self) -> None:
        self._call("kill")

    def _worker_count(self) -> int:
        return 4

    def _let_go(self) -> None:
        self._call("let_go")

    def __repr__(self) -> str:
        return Runner.__repr__(self)  # type: ignore[arg-type]


def leave(runner: Any, exc: BaseException | None) -> None:
    Runner.__exit__(runner, type(exc) if exc else None, exc, None)


@pytest.mark.parametrize("exc", [None, SystemExit(1), GeneratorExit()])
def test_leaving_the_block_normally_or_on_the_way_out_stops(exc: BaseException | None) -> None:
    runner = FakeRunner()
    leave(runner, exc)
    assert runner.calls == [("stop",)]


@pytest.mark.parametrize("exc", [ValueError(), KeyboardInterrupt(), BaseException()])
def test_leaving_the_block_on_any_other_exception_kills(exc: BaseException) -> None:
    runner = FakeRunner()
    leave(runner, exc)
    assert runner.calls == [("kill",)]


def test_a_broken_runner_does_not_hide_the_exception_that_leaves_the_block() -> None:
    for exc in (SystemExit(3), ValueError()):
        leave(FakeRunner(error=RunnerBroken("after a fork")), exc)
    with pytest.raises(RunnerBroken):
        leave(FakeRunner(error=RunnerBroken("after a fork")), None)


def options(runner: Any, **chosen: Any) -> Any:
    return Runner.options(runner, **chosen)


def test_options_are_handed_on() -> None:
    with Runner(Config(on_create=object, worker_count=1, name="app")) as runner:
        assert repr(options(runner)) == "<Submitter of runner 'app'>"
        urgent = options(runner, priority=Priority.HIGH, once=True, timeout=0, name="urgent")
        chosen = "priority=HIGH, once=True, timeout=0, name='urgent'"
        assert repr(urgent) == f"<Submitter of runner 'app': {chosen}>"
        keyed = options(runner, key=len)
        assert repr(keyed) == "<Submitter of runner 'app': key=len>"
        patient = options(runner, priority=Priority.LOW, timeout=-1)
        assert repr(patient) == "<Submitter of runner 'app': priority=LOW, timeout=0>"


@pytest.mark.parametrize(
    ("option", "value", "must_be"),
    [
        ("priority", 2, "a Priority, such as Priority.HIGH"),
        ("priority", 2.0, "a Priority, such as Priority.HIGH"),
        ("priority", True, "a Priority, such as Priority.HIGH"),
        ("priority", "high", "a Priority, such as Priority.HIGH"),
        ("priority", None, "a Priority, such as Priority.HIGH"),
        ("once", 1, "a bool"),
        ("timeout", "1", "a number of seconds or None"),
        ("timeout", float("nan"), "a number of seconds or None"),
        ("timeout", True, "a number of seconds or None"),
        ("name", "", "a non-empty str or None"),
        ("name", 1, "a non-empty str or None"),
        ("name", "job \ud800", "without surrogates"),
    ],
)
def test_wrong_options_are_refused(option: str, value: object, must_be: str) -> None:
    runner = FakeRunner()
    message = f"{option} must be {must_be}, got {value!r}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        options(runner, **{option: value})
    assert runner.calls == []


def test_a_key_in_place_of_a_function_is_refused_with_the_function_to_write() -> None:
    message = (
        "key must be a function of the arguments of the task or None, got 'acme'; "
        "the same for all: key=lambda *args, **kwargs: 'acme'"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        options(FakeRunner(), key="acme")


def test_a_coroutine_function_is_no_key() -> None:
    async def key(tenant: str) -> str:
        return tenant

    with pytest.raises(
        ConfigError, match=r"^key must be a plain function, got a coroutine function"
    ):
        options(FakeRunner(), key=key)


def test_the_text_shows_name_state_and_size() -> None:
    assert repr(FakeRunner()) == "<FakeRunner 'app' running, 4 workers>"


def drop(runner: Any) -> None:
    Runner.__del__(runner)


def test_dropping_a_live_runner_begins_a_stop_and_warns() -> None:
    runner = FakeRunner()
    with pytest.warns(ResourceWarning, match="'app' running, 4 workers> was dropped without stop"):
        drop(runner)
    assert runner.calls == [("let_go",)]


@pytest.mark.parametrize("state", ["stopping", "killed", "stopped"])
def test_dropping_a_runner_that_ends_or_ended_is_silent(state: str) -> None:
    runner = FakeRunner(state=state)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        drop(runner)
    assert (caught, runner.calls) == ([], [("let_go",)])
