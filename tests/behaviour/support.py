"""One face over a runner and its double, for tests that hold for both."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeAlias

from tasker import Runner
from tasker.testing import InlineRunner
from tests.native.support import Gate, Resource, Runners, check_ended, eventually

AnyRunner: TypeAlias = Runner[Resource] | InlineRunner[Resource]


class Bench:
    """Starts runners of one kind, with one worker, and ends them."""

    def __init__(self, kind: str, runners: Runners, gate: Gate) -> None:
        self.is_inline = kind == "InlineRunner"
        self.factory = runners.factory
        self._runners = runners
        self._gate = gate
        self._inline: list[InlineRunner[Resource]] = []

    def start(self, **fields: Any) -> AnyRunner:
        """Starts a runner, as *fields* of the config say."""
        if self.is_inline:
            return self._start_inline(manual=False, **fields)
        return self._runners.start(**fields)

    def start_held(self, **fields: Any) -> tuple[AnyRunner, Callable[[], object]]:
        """Starts a runner whose tasks wait, and gives what lets them run."""
        if self.is_inline:
            inline = self._start_inline(manual=True, **fields)
            return inline, inline.run_all
        runner = self._runners.start(**fields)
        runner.submit(self._gate.hold)
        self._gate.wait_for()
        return runner, self._gate.open

    def notes(self) -> list[Any]:
        """A list that tasks and hooks may write to, wherever they run."""
        return []

    def event(self) -> Any:
        """An event that they may set, wherever they run."""
        return threading.Event()

    def is_same(self, found: object, error: BaseException) -> bool:
        """Whether an error that has arrived is that of the task: on Ray it is a copy."""
        return found is error

    def notes_on(self, error: BaseException) -> list[str]:
        """The notes of an error, but for the traceback in an actor, which is one on Ray."""
        notes: list[str] = getattr(error, "__notes__", [])
        return [note for note in notes if not note.startswith("In the actor:")]

    def eventually(self, predicate: Callable[[], object]) -> None:
        """Waits for what a worker does after an outcome; the double has done it by then."""
        if self.is_inline:
            assert predicate()
        else:
            eventually(predicate)

    def end(self) -> None:
        """Opens the gate, and ends what a test left running."""
        self._gate.open()
        for runner in self._inline:
            runner.kill()
            check_ended(runner)

    def _start_inline(self, *, manual: bool, **fields: Any) -> InlineRunner[Resource]:
        runner = InlineRunner(self._runners.config(**fields), manual=manual)
        self._inline.append(runner)
        return runner
