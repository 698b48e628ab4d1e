"""The hook that ends live runners when the interpreter exits, against a fake native module."""

import os
import sys
import threading
from collections.abc import Callable
from io import StringIO

import pytest

from tasker import _lifecycle


class FakeNative:
    """Records the calls of the hook; each raises what the test gives it."""

    def __init__(self, **errors: BaseException) -> None:
        self.errors = errors
        self.calls: list[str] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.errors:
            raise self.errors[name]

    def _stop_all_at_exit(self) -> None:
        self._call("stop")

    def _kill_all_at_exit(self) -> None:
        self._call("kill")

    def _exit_report(self) -> str:
        self._call("report")
        return "still running: backup"

    def _give_up_at_exit(self) -> None:
        self._call("give_up")

    def _after_fork_in_child(self) -> None:
        self._call("fork")

    @staticmethod
    def _is_first_import() -> bool:
        return True


Install = Callable[..., FakeNative]


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> Install:
    def install(**errors: BaseException) -> FakeNative:
        fake = FakeNative(**errors)
        monkeypatch.setattr(_lifecycle, "_tasker", fake)
        return fake

    return install


def test_runners_are_stopped_gracefully(
    native: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = native()
    _lifecycle.end_all_runners()
    assert fake.calls == ["stop"]
    assert capsys.readouterr() == ("", "")


def test_ctrl_c_turns_the_stop_into_a_kill(
    native: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = native(stop=KeyboardInterrupt())
    _lifecycle.end_all_runners()
    assert fake.calls == ["stop", "kill"]
    assert capsys.readouterr() == ("", "")


def test_a_second_ctrl_c_names_what_still_runs_and_gives_up(
    native: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = native(stop=KeyboardInterrupt(), kill=KeyboardInterrupt())
    _lifecycle.end_all_runners()
    assert fake.calls == ["stop", "kill", "report", "give_up"]
    assert capsys.readouterr() == ("", "still running: backup\n")


@pytest.mark.parametrize("step", ["stop", "kill"])
def test_a_fault_is_logged_and_gives_up(
    native: Install, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    interrupt = {"stop": KeyboardInterrupt()} if step == "kill" else {}
    fake = native(**interrupt, **{step: RuntimeError("internal fault")})
    _lifecycle.end_all_runners()
    assert fake.calls[-1] == "give_up"
    (record,) = caplog.records
    assert (record.name, record.exc_info and record.exc_info[0]) == ("tasker", RuntimeError)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no report")])
def test_nothing_gets_out_of_the_last_step(native: Install, error: BaseException) -> None:
    fake = native(stop=KeyboardInterrupt(), kill=KeyboardInterrupt(), report=error, give_up=error)
    _lifecycle.end_all_runners()
    assert fake.calls == ["stop", "kill", "report", "give_up"]


def closed_stream() -> StringIO:
    stream = StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stderr", [None, closed_stream()])
def test_it_gives_up_without_standard_error_as_well(
    native: Install, monkeypatch: pytest.MonkeyPatch, stderr: StringIO | None
) -> None:
    fake = native(stop=KeyboardInterrupt(), kill=KeyboardInterrupt())
    monkeypatch.setattr(sys, "stderr", stderr)
    _lifecycle.end_all_runners()
    assert fake.calls[-1] == "give_up"


def test_the_hooks_run_before_threads_are_joined_and_in_forked_children(
    native: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = native()
    at_exit: list[Callable[[], None]] = []
    in_child: list[Callable[[], None]] = []
    monkeypatch.setattr(threading, "_register_atexit", at_exit.append)
    if sys.platform != "win32":
        monkeypatch.setattr(
            os, "register_at_fork", lambda *, after_in_child: in_child.append(after_in_child)
        )
    _lifecycle.install_hooks()
    for hook in at_exit + in_child:
        hook()
    assert fake.calls == (["stop"] if sys.platform == "win32" else ["stop", "fork"])
