"""`tasker.live`: what it draws, where it draws, and that it never troubles the program."""

from __future__ import annotations

import contextlib
import html
import io
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest

pytest.importorskip("rich", reason="no rich in this environment")

from rich.cells import cell_len
from rich.console import Console

from scripts import pictures
from tasker import Config, ConfigError, Finding, Runner
from tasker._sight.history import History
from tasker._sight.view import View
from tasker.live import Live, _live, _screens
from tasker.live._frame import frame
from tasker.live._plain import plain_line
from tasker.live._sparkline import sparkline
from tests.native.support import LONG_TIMEOUT, Gate, LogCapture, Runners, eventually
from tests.sight.support import HOSTILE, busy, metrics, reading, task_metrics, worker

WIDTHS = (20, 60, 88, 110, 170)


def text_of(view: View | list[View], width: int = 160, height: int = 60) -> str:
    views = view if isinstance(view, list) else [view]
    return "\n".join(line.plain for line in frame(views, width, height))


# ---- what is drawn


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("height", [3, 10, 24, 60])
@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_frame_keeps_to_its_screen(name: str, width: int, height: int) -> None:
    lines = frame([pictures.PICTURES[name]] * 3, width, height)
    assert 0 < len(lines) <= height
    assert max(line.cell_len for line in lines) <= width


def test_a_frame_tells_who_it_is_and_how_it_is_doing() -> None:
    text = text_of(pictures.BUSY)
    for said in (
        "crawler  running  workers 8/8  waiting 42/1,000  in 238/s  out 238/s",
        "no findings",
        "oldest 310 ms  p50 12 ms  p95 140 ms  p99 310 ms",
        "high p95 4 ms  normal p95 140 ms",
        "busy 91 %  p50 21 ms",
        "waiting for the interpreter 4 %",
        "worker-1  busy",
        "fetch       31,216  118/s  117/s  116/s",
        "http.client.RemoteDisconnected 12, 8 s ago",
        "replaced  unhealthy 12  age 16",
    ):
        assert said in text


def test_what_is_found_stands_first_in_its_own_words() -> None:
    text = text_of(pictures.OVERLOADED, 60)
    head = text.partition("accepted")[0]
    assert "! queue full: 5760 tasks" in head
    assert "! all 8 workers busy" in head
    many = replace(pictures.BUSY, findings=pictures.STUCK.findings * 4)
    assert "and 5 more findings" in text_of(many)


def test_a_late_task_is_said_to_be_late() -> None:
    (line,) = [line for line in text_of(pictures.STUCK, 60).splitlines() if "overdue" in line]
    assert line.split()[:5] == ["worker-3", "overdue", "fetch", "6.2", "min"]


def test_wide_screens_have_the_tables_side_by_side_and_narrow_ones_below() -> None:
    def heads(width: int) -> list[str]:
        lines = text_of(pictures.BUSY, width).splitlines()
        return [line for line in lines if line.startswith("worker ") or " task  " in line]

    assert "retried" in heads(170)[0]
    assert "retried" not in heads(160)[0]
    assert "retried" not in text_of(pictures.BUSY, 60)


@pytest.mark.parametrize("name", ["busy", "stuck", "overloaded"])
def test_a_wider_screen_shows_no_less(name: str) -> None:
    view = pictures.PICTURES[name]
    # As long as figures get.
    long = tuple(
        replace(one, name=f"crawler-worker-{at + 100}", tasks_done=99_999, resource_age=1520.0)
        for at, one in enumerate(view.workers)
    )
    last = ("worker ", "done ", "resource", "p95 ", "failed ", "retried")
    for width in range(84, 240):
        text = text_of(replace(view, workers=long), width)
        heads = " ".join(line for line in text.splitlines() if "state" in line or "1 min " in line)
        assert [title for title in last if title not in f"{heads} "] == [], width


def test_all_ways_to_end_are_told() -> None:
    told = "totals  62,700 accepted  62,606 completed  15 failed  26 timed out  4 cancelled"
    text = text_of(pictures.BUSY)
    assert told in text
    assert "dropped" not in text
    assert "out 238/s" in text
    assert "errors 0.2 %" in text
    (curve,) = [line for line in text.splitlines() if line.startswith("timed out")]
    assert curve.endswith("0.4/s")
    ended = replace(pictures.BUSY, state="stopped", workers=(), findings=(), dropped=3)
    ways = "62,606 completed  15 failed  26 timed out  4 cancelled  3 dropped"
    assert text_of(ended).startswith(f"crawler  stopped  {ways}")
    assert ways.replace("  ", ", ") in plain_line(ended)


def test_a_low_screen_leaves_tables_out_and_says_what_is_missing() -> None:
    text = text_of(pictures.OVERLOADED, 60, 20)
    assert "more: " in text
    assert len(text.splitlines()) == 20
    assert "worker-1" not in text_of(pictures.IDLE, 60, 6)


def test_several_runners_share_the_screen() -> None:
    views = [replace(pictures.BUSY, name=f"runner-{number}", number=number) for number in range(9)]
    text = text_of(views, 88, 40)
    assert len(text.splitlines()) <= 40
    assert "runner-7  running" in text
    assert "and 1 more runners" in text


def test_a_runner_that_has_stopped_says_so() -> None:
    ended = replace(pictures.BUSY, state="stopped", workers=(), findings=())
    text = text_of(ended)
    assert text.startswith("crawler  stopped  62,606 completed  15 failed")
    assert "accepted" not in text


def test_no_runner_is_said_to_be_none() -> None:
    assert text_of([]) == "no runner is alive"


@pytest.mark.parametrize("width", WIDTHS)
def test_hostile_names_stay_text_and_keep_to_the_screen(width: int) -> None:
    done = metrics(
        by_task={HOSTILE: task_metrics(3, 0.1), "[/]": task_metrics(3, 0.1)},
        errors={HOSTILE: 3},
    )
    late = busy(1, HOSTILE, 1.0, overdue=True)
    wide = busy(2, "漢字" * 60, 1.0)
    found = Finding(code="all_busy", severity="info", text=HOSTILE, since=1.0, figures={})
    figures: Any = {"metrics": done, "workers": (late, wide), "findings": (found,)}
    view = History().add(reading(name=HOSTILE, **figures))
    console = Console(file=io.StringIO(), record=True, width=width, force_terminal=True)
    screen = _screens.TerminalScreen(console, 1.0)
    screen.open()
    screen.show([view])
    text = console.export_text()
    screen.close()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert max(map(cell_len, text.splitlines())) <= width
    if width >= 60:
        assert "[red]" in text
        assert "[/]" in text


def test_10000_names_and_1000_workers_take_no_more_room_than_there_is() -> None:
    by_task = {f"name-{number}": task_metrics(number + 1, 0.01) for number in range(10_000)}
    many = tuple(busy(number, "work", number / 10) for number in range(1000))
    kept = History()
    view = kept.add(reading(metrics=metrics(by_task=by_task), workers=many))
    text = text_of(view, 60, 30)
    assert len(text.splitlines()) <= 30
    # The longest first, and of the rest how many.
    assert "worker-999" in text
    assert "name-9999" in text
    assert "more: 9" in text
    assert "more names" in text


@pytest.mark.timing
def test_a_frame_takes_milliseconds() -> None:
    many = tuple(worker(number) for number in range(1000))
    view = History().add(reading(workers=many))
    view = replace(pictures.BUSY, workers=view.workers, workers_left_out=900)
    times = []
    for _ in range(10):
        begin = time.perf_counter()
        frame([view], 160, 50)
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.05


def test_a_sparkline_has_a_space_where_nothing_is_known() -> None:
    assert sparkline([], 300, 5) == " " * 5
    assert sparkline([(400, 1), (390, 5)], 300, 5) == " " * 5
    # A pause of a minute is one value, and not a gap.
    assert sparkline([(60, 3), (0, 3)], 100, 5) == "  ▇▇▇"


def words_in(picture: str) -> set[str]:
    texts = re.findall(r"<text[^>]*>(.*?)</text>", picture)
    return set(" ".join(map(html.unescape, texts)).split())


def test_the_pictures_of_the_pages_show_what_the_script_draws() -> None:
    # Their text: how rich writes a picture is its own matter.
    for name, width in pictures.COMMITTED.items():
        drawn = pictures.draw(pictures.PICTURES[name], width, name)
        picture = (pictures.IMAGES / f"live-{name}.svg").read_text("utf-8")
        assert words_in(picture) == words_in(drawn) != set(), "run `python scripts/pictures.py`"


def test_pictures_are_made_of_views_as_they_are() -> None:
    for view in pictures.PICTURES.values():
        assert asdict(view)["worker_states"] == view.worker_states
        assert sum(view.worker_states.values()) == len(view.workers)


# ---- where it is drawn


class Tap(io.StringIO):
    """A file that tells when a text has been written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.all = ""

    def write(self, text: str) -> int:
        self.all += text
        return len(text)

    def wait_for(self, *texts: str) -> None:
        eventually(lambda: all(text in self.all for text in texts))


def terminal(width: int = 100) -> tuple[Console, Tap]:
    tap = Tap()
    console = Console(
        file=tap,
        force_terminal=True,
        width=width,
        height=40,
        color_system=None,
        legacy_windows=False,
        _environ={"TERM": "xterm"},
    )
    return console, tap


def live_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tasker-live"]


def test_a_runner_is_shown_as_it_works_until_it_stops(runners: Runners, gate: Gate) -> None:
    console, tap = terminal()
    runner = runners.start(name="db")
    with Live(runner, refresh_per_second=20, console=console):
        tap.wait_for("db  running")
        held = runner.options(name="report").submit(gate.hold)
        tap.wait_for("report")
        gate.open()
        held.result(LONG_TIMEOUT)
        runner.stop()
        tap.wait_for("db  stopped  1 completed")
    assert live_threads() == []


def test_without_runners_all_are_shown_as_they_come(runners: Runners) -> None:
    console, tap = terminal()
    with Live(refresh_per_second=20, console=console):
        tap.wait_for("no runner is alive")
        runners.start(name="later")
        tap.wait_for("later  running")


def test_a_last_frame_is_drawn_at_the_end(runners: Runners) -> None:
    console, tap = terminal()
    runner = runners.start(name="db")
    with Live(runner, refresh_per_second=0.001, console=console):
        tap.wait_for("db  running")
        runner.stop()
    assert "db  stopped" in tap.all


def test_what_is_printed_meanwhile_goes_above(
    runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    console, tap = terminal()
    monkeypatch.setattr(sys, "stdout", tap)
    with Live(runners.start(name="db"), console=console):
        tap.wait_for("db  running")
        print("a word of the program")
        assert sys.stdout is not tap
    assert sys.stdout is tap
    # It is written in the place of a frame, which comes again below it.
    assert "a word of the program\ndb  running" in tap.all


def test_the_cursor_is_left_as_it_was(runners: Runners) -> None:
    console, tap = terminal()
    with Live(runners.start(), console=console):
        tap.wait_for("running")
        # A process that is killed now leaves a cursor behind.
        assert tap.all.rindex("\x1b[?25h") > tap.all.rindex("\x1b[?25l")
    assert tap.all.rindex("\x1b[?25h") > tap.all.rindex("\x1b[?25l")


def test_no_terminal_gets_plain_lines(runners: Runners, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_screens, "PLAIN_EVERY", 0.01)
    tap = Tap()
    runner = runners.start(worker_count=2, max_queue_size=9, name="[red]db")
    with Live(runner, console=Console(file=tap, width=40)):
        runner.queue_task(lambda _resource: None)
        tap.wait_for("[red]db running: workers 2/2, running 0, waiting 0/9, in 0/s", "1 completed")
        runner.stop()
    assert tap.all.endswith("[red]db stopped: 1 completed, 0 failed\n")
    assert "\x1b" not in tap.all


def test_a_terminal_without_our_characters_gets_others(
    runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    console, tap = terminal()
    monkeypatch.setattr(Tap, "encoding", "ascii", raising=False)
    with Live(runners.start(name="bücher"), console=console):
        tap.wait_for("b?cher  running", "-----")
    assert tap.all.isascii()


def test_nothing_is_drawn_that_nobody_sees(
    runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = threading.Semaphore(0)

    def in_the_background(_console: Console) -> bool:
        looks.release()
        return False

    monkeypatch.setattr(_screens, "_is_in_foreground", in_the_background)
    console, tap = terminal()
    runner = runners.start()
    monkeypatch.setattr(Runner, "workers", lambda _runner: pytest.fail("nobody looks"))
    with Live(runner, refresh_per_second=20, console=console):
        for _ in range(3):
            assert looks.acquire(timeout=LONG_TIMEOUT)
    assert runner.name not in tap.all


def test_it_can_be_used_again_and_told_twice(runners: Runners) -> None:
    console, tap = terminal()
    live = Live(runners.start(name="db"), console=console)
    live.stop()
    for _ in range(2):
        tap.all = ""
        live.start()
        live.start()
        assert len(live_threads()) == 1
        tap.wait_for("db  running")
        live.stop()
        live.stop()
        assert live_threads() == []


def test_two_share_a_console(runners: Runners) -> None:
    console, tap = terminal()
    first, second = runners.start(name="first"), runners.start(name="second")
    with (
        Live(first, refresh_per_second=20, console=console),
        Live(second, refresh_per_second=20, console=console),
    ):
        tap.wait_for("first  running", "second  running")


def test_a_runner_is_not_kept_alive_by_being_shown(log: LogCapture) -> None:
    console, tap = terminal()
    runner = Runner(Config(on_create=object, worker_count=1, name="dropped"))
    with Live(runner, refresh_per_second=20, console=console):
        tap.wait_for("dropped  running")
        runner.stop()
        del runner
        tap.wait_for("dropped  stopped")
    del log


# ---- what goes wrong


@contextlib.contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[threading.Event]:
    failed = threading.Event()

    def fail(*_given: object) -> Any:
        failed.set()
        message = "not a frame"
        raise ValueError(message)

    monkeypatch.setattr(_screens, name, fail)
    yield failed


def test_an_error_of_its_own_is_logged_and_ends_the_display(
    runners: Runners, log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    console, tap = terminal()
    before = sys.stdout
    with failing(monkeypatch, "frame") as failed, Live(runners.start(), console=console):
        assert failed.wait(LONG_TIMEOUT)
        eventually(lambda: live_threads() == [])
        assert sys.stdout is before
    (record,) = log.take()
    assert record.getMessage() == "the live view has failed and is off"
    assert record.exc_info is not None
    assert tap.all.rindex("\x1b[?25h") > tap.all.rindex("\x1b[?25l")


def test_a_thread_that_cannot_be_had_is_no_trouble(
    runners: Runners, log: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: object) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    console, tap = terminal()
    runner, before = runners.start(), sys.stdout
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        live = Live(runner, console=console)
        live.start()
    live.stop()
    (record,) = log.take()
    assert record.exc_info is not None
    assert record.exc_info[0] is RuntimeError
    assert sys.stdout is before
    assert tap.all.rindex("\x1b[?25h") > tap.all.rindex("\x1b[?25l")


def test_ctrl_c_before_the_block_is_entered_ends_it(
    runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing = _live._Drawing
    begin = drawing.begin

    def interrupted(self: _live._Drawing) -> None:
        begin(self)
        raise KeyboardInterrupt

    console, _ = terminal()
    before = sys.stdout
    monkeypatch.setattr(drawing, "begin", interrupted)
    with pytest.raises(KeyboardInterrupt), Live(runners.start(), console=console):
        pytest.fail("it is not entered")
    assert live_threads() == []
    assert sys.stdout is before


def test_ctrl_c_while_the_terminal_is_taken_gives_it_back(runners: Runners) -> None:
    class Interrupted(Console):
        def show_cursor(self, show: bool = True) -> bool:
            # The last of what begins it.
            if show and live_displays(self) and not interruptions:
                interruptions.append(show)
                raise KeyboardInterrupt
            return super().show_cursor(show)

    interruptions: list[bool] = []
    console = Interrupted(file=io.StringIO(), force_terminal=True, _environ={"TERM": "xterm"})
    before = sys.stdout
    with pytest.raises(KeyboardInterrupt), Live(runners.start(), console=console):
        pytest.fail("it is not entered")
    assert interruptions
    assert sys.stdout is before
    assert not live_displays(console)


def live_displays(console: Console) -> list[object]:
    return list(console._live_stack)


def test_ctrl_c_in_a_stop_ends_it_all_the_same(
    runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing = _live._Drawing
    end = drawing.end
    calls: list[_live._Drawing] = []

    def interrupted(self: _live._Drawing) -> None:
        calls.append(self)
        if len(calls) == 1:
            raise KeyboardInterrupt
        end(self)

    console, _ = terminal()
    before = sys.stdout
    live = Live(runners.start(), console=console)
    live.start()
    monkeypatch.setattr(drawing, "end", interrupted)
    with pytest.raises(KeyboardInterrupt):
        live.stop()
    eventually(lambda: live_threads() == [])
    assert sys.stdout is before


def test_a_signal_handler_that_starts_it_in_a_start_leaves_one_display(
    runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen_for = _screens.screen_for

    def handle(*args: Any) -> _screens.Screen:
        with monkeypatch.context() as patched:
            patched.setattr(_live, "screen_for", screen_for)
            live.start()
        return screen_for(*args)

    console, _ = terminal()
    before = sys.stdout
    live = Live(runners.start(), console=console)
    monkeypatch.setattr(_live, "screen_for", handle)
    live.start()
    live.stop()
    assert live_threads() == []
    assert sys.stdout is before


class Gone(Tap):
    """A file that fails as a terminal does that has been closed, or a pipe that nobody reads."""

    def __init__(self, error: type[OSError]) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        del text
        raise self._error


def exits() -> None:
    raise SystemExit(1)


@pytest.mark.parametrize(
    ("is_terminal", "raised", "logged"),
    [
        (True, OSError, OSError),
        (True, BrokenPipeError, SystemExit),
        (False, BrokenPipeError, BrokenPipeError),
    ],
)
def test_a_terminal_or_a_pipe_that_is_gone_is_no_trouble(
    runners: Runners,
    log: LogCapture,
    is_terminal: bool,
    raised: type[OSError],
    logged: type[BaseException],
) -> None:
    console, _ = terminal()
    # By itself it would turn off the output of this process.
    console.on_broken_pipe = exits  # type: ignore[method-assign]
    console.file = Gone(raised)
    console._force_terminal = is_terminal
    with Live(runners.start(), console=console):
        eventually(lambda: live_threads() == [])
    (record,) = log.take()
    assert record.exc_info is not None
    assert record.exc_info[0] is logged


@pytest.mark.parametrize("number", [0, -1, 21, float("nan"), float("inf"), "2", None])
def test_what_is_no_rate_is_refused(number: Any) -> None:
    with pytest.raises(ConfigError, match="refresh_per_second must be a number above 0"):
        Live(refresh_per_second=number)


def test_what_is_no_runner_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"runners\[0\] must be a Runner, got 'db'"):
        Live("db")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def test_without_its_library_it_says_what_to_install() -> None:
    program = """
        import sys
        sys.modules["rich"] = None
        try:
            import tasker.live
        except ModuleNotFoundError as error:
            print(error, error.name)
    """
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert said.stdout == "tasker.live needs rich: pip install 'tasker-rs[live]' rich\n", (
        said.stderr
    )


def test_the_package_does_not_load_it() -> None:
    program = "import sys, tasker; print([n for n in sys.modules if 'rich' in n or '_sight' in n])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert said.stdout == "[]\n"
