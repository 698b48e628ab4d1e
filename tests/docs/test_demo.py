"""The demo shows what it says, and fails when it does not."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import tasker
from tasker.__main__ import main
from tasker._demo import contestants, job, run
from tests.recipes.conftest import need_modules


def outcome(**figures: float) -> run.CrawlOutcome:
    fair = {"lost": 0, "lines": 10, "left_open": 0, "urgent_wait": 0.01, "seconds": 4.0}
    return run.CrawlOutcome(**{**fair, **figures})  # type: ignore[arg-type]


def verdict(ours: run.CrawlOutcome, careful: run.CrawlOutcome, found: int = 1) -> int:
    return run.verdict({run.OURS: ours, run.CAREFUL: careful}, [("words", found, "title")])


def test_demo_loses_nothing_and_ends_with_status_0(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "tasker", "demo", "--pages", "400"]
    shown = subprocess.run(command, cwd=tmp_path, timeout=100, capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (0, ""), shown.stdout
    rows = [line for line in shown.stdout.splitlines() if line.startswith("tasker ")]
    lost, lines, left_open, _, unit, _ = rows[0].removeprefix("tasker").split()
    assert (lost, left_open, unit) == ("0", "0", "ms")
    assert int(lines) == contestants.lines(contestants.with_tasker)
    assert "what tasker does not do better here: " in shown.stdout
    assert "WRONG" not in shown.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [run.OURS, "ThreadPoolExecutor"])
def test_a_connection_that_is_dropped_is_a_warning_for_tasker_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    dropped: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", dropped.append)
    monkeypatch.setitem(contestants.CONTESTANTS, name, job.CrawlJob.connect)
    monkeypatch.setattr(job.CrawlJob, "finish", lambda _: None)
    monkeypatch.setattr(run, "stored", lambda _: 0)
    monkeypatch.setattr(run, "lines", lambda _: 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        outcome = run.measure(name, tmp_path, 100)
    assert outcome.left_open == 0
    assert bool(dropped) is (name == run.OURS)


@pytest.mark.parametrize(
    ("ours", "careful", "found"),
    [
        (outcome(lost=1), outcome(), 1),
        (outcome(left_open=1), outcome(), 1),
        (outcome(urgent_wait=float("inf")), outcome(), 1),
        (outcome(), outcome(lost=1), 1),
        (outcome(), outcome(), 0),
    ],
    ids=["lost", "left open", "urgent", "unfair", "not found"],
)
def test_demo_fails_when_it_does_not_show_what_it_says(
    ours: run.CrawlOutcome,
    careful: run.CrawlOutcome,
    found: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert verdict(ours, careful, found) == 1
    assert "WRONG: " in capsys.readouterr().out


def test_a_fair_win_is_status_0() -> None:
    assert verdict(outcome(), outcome()) == 0


def test_a_tie_is_said_to_be_one() -> None:
    said = run.not_better({run.OURS: outcome(), run.CAREFUL: outcome()})
    assert all(word in said for word in ("left open", "urgent", "seconds"))
    slower = outcome(left_open=3, urgent_wait=2.0, seconds=9.0)
    assert run.not_better({run.OURS: outcome(), run.CAREFUL: slower}).endswith(": nothing")


def test_too_few_pages_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.run(pages=99, seed=None) == 2
    assert "--pages must be at least 100, got 99" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"tasker {tasker.__version__}\n"


def test_lines_of_code_are_counted_without_blanks_and_comments() -> None:
    def contestant() -> None:
        # begin
        first = 1

        # a comment
        del first
        # end

    assert contestants.lines(contestant) == 2


@pytest.mark.parametrize("contestant", contestants.CONTESTANTS.values())
def test_contestants_use_the_same_threads_and_pages(contestant: Callable[..., None]) -> None:
    names = contestant.__code__.co_names + contestant.__code__.co_freevars
    assert "WORKERS" in names
    assert "numbers" in names


def test_a_job_that_is_closed_early_leaves_no_server(tmp_path: Path) -> None:
    early = job.CrawlJob(tmp_path, 400)
    server = early._server
    early.close()
    assert server.poll() is not None
    assert not early._threads[0].is_alive()


def what_is_shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    return type(run.live()).__name__


def test_runners_are_shown_in_a_terminal_with_what_draws_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need_modules("rich")
    assert what_is_shown(monkeypatch, terminal=True) == "Live"
    assert what_is_shown(monkeypatch, terminal=False) == "nullcontext"


def test_runners_are_not_shown_without_what_draws_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("tasker.live")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert what_is_shown(monkeypatch, terminal=True) == "nullcontext"
