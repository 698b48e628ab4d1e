"""`tasker.live` in a real terminal: a pty, with a program in it that is interrupted and killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping

import pytest

from tests.native.support import LONG_TIMEOUT

pytest.importorskip("rich", reason="no rich in this environment")
pty = pytest.importorskip("pty", reason="signals and fork of POSIX")

PROGRAM = """
    import threading
    from tasker import Config, Runner
    from tasker.live import Live

    with Runner(Config(on_create=object, worker_count=2, name="db")) as runner:
        with Live(runner, refresh_per_second=20):
            print("begun")
            {body}
    print("after")
"""


class Session:
    """A program with a terminal of its own, of which all is kept that it writes there."""

    def __init__(self, program: str, size: tuple[int, int], variables: Mapping[str, str]) -> None:
        import fcntl
        import struct
        import termios

        self.written = ""
        self._ours, theirs = pty.openpty()
        columns, rows = size
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.settings = termios.tcgetattr(theirs)
        environment = {**os.environ, "TERM": "xterm-256color", **variables}
        for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
        )
        self._theirs = theirs
        os.set_blocking(self._ours, False)

    def read(self) -> None:
        """Takes what has been written until now."""
        with contextlib.suppress(BlockingIOError, OSError):
            while text := os.read(self._ours, 65536):
                self.written += text.decode()

    def wait_for(self, text: str) -> None:
        """Waits until a text has been written."""
        end = time.monotonic() + LONG_TIMEOUT
        while text not in self.written:
            assert time.monotonic() < end, self.written
            self.read()
            time.sleep(0.005)

    def wait(self) -> int:
        """Waits until the program has ended, and gives its status."""
        end = time.monotonic() + LONG_TIMEOUT
        while self.process.poll() is None:
            assert time.monotonic() < end, self.written
            # What nobody reads would keep it from writing.
            self.read()
            time.sleep(0.005)
        self.read()
        return self.process.returncode

    def close(self) -> None:
        """Ends what is left."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def is_usable(self) -> bool:
        """Tells whether the terminal has its cursor, its own screen and the settings it had."""
        import termios

        shown, hidden = self.written.rfind("\x1b[?25h"), self.written.rfind("\x1b[?25l")
        same = termios.tcgetattr(self._theirs) == self.settings
        return shown >= hidden and "\x1b[?1049h" not in self.written and same


@contextlib.contextmanager
def session(body: str, size: tuple[int, int] = (60, 30), **variables: str) -> Iterator[Session]:
    running = Session(PROGRAM.format(body=body), size, variables)
    try:
        yield running
    finally:
        running.close()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def test_a_frame_is_as_wide_as_the_terminal_and_the_last_one_stays() -> None:
    with session("runner.queue_task(lambda _resource: None)") as running:
        assert running.wait() == 0
        assert running.is_usable()
        text = plain(running.written).replace("\r", "")
        last = text[text.rindex("db  running") :]
        assert "worker-2" in last
        assert last.endswith("\nafter\n")
        assert max(map(len, last.splitlines())) <= 60


WAIT = "threading.Event().wait()"


def test_ctrl_c_leaves_the_terminal_usable() -> None:
    with session(WAIT) as running:
        running.wait_for("worker-1")
        running.process.send_signal(signal.SIGINT)
        assert running.wait() in {130, -signal.SIGINT}
        assert running.is_usable()
        text = plain(running.written)
        # The traceback is all of it, and stands below the last frame.
        assert text.count("Traceback") == 1
        assert text.rstrip().endswith("KeyboardInterrupt")
        assert text.rindex("db  ") < text.index("Traceback")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_program_leaves_the_terminal_usable(number: signal.Signals) -> None:
    with session(WAIT) as running:
        running.wait_for("worker-1")
        running.process.send_signal(number)
        assert running.wait() == -number
        assert running.is_usable()


def test_an_exception_of_the_program_is_shown_as_ever() -> None:
    with session("raise ValueError('of the program')") as running:
        assert running.wait() == 1
        assert running.is_usable()
        assert "ValueError: of the program" in plain(running.written)


def test_a_program_that_forgets_to_stop_it_ends_as_ever() -> None:
    with session("live = Live(); live.start(); print('left')") as running:
        assert running.wait() == 0
        assert running.is_usable()
        assert "Traceback" not in running.written
        assert "Fatal" not in running.written


FORK = """
            import os, sys
            child = os.fork()
            if child == 0:
                print(f"of the child, to a {type(sys.stdout).__name__}", flush=True)
                os._exit(0)
            os.waitpid(child, 0)
            runner.stop()
"""


def test_a_forked_child_prints_as_ever() -> None:
    with session(FORK.strip()) as running:
        assert running.wait() == 0, running.written
        assert "of the child, to a TextIOWrapper" in plain(running.written)
        assert running.is_usable()


def test_a_dumb_terminal_gets_plain_lines() -> None:
    with session("pass", TERM="dumb") as running:
        assert running.wait() == 0
        assert "\x1b" not in running.written
        assert "db running: workers 2/2" in running.written
