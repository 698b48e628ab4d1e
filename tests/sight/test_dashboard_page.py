"""The dashboard as a reader has it, in Chromium: figures, charts, ends, and any way to read it."""

from __future__ import annotations

import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("axe_playwright_python")
pytest.importorskip("metaflow_extensions")
pytest.importorskip("playwright")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tasker import Priority, Runner
from tasker.dashboard import serve
from tests.native.support import LONG_TIMEOUT, Gate, LogCapture, Runners, eventually
from tests.recipes.conftest import need
from tests.sight.known_load import HELD, QUEUED, WORKERS, assert_percentile, known_load
from tests.sight.support import HOSTILE

PATIENCE = LONG_TIMEOUT * 1000
"""Milliseconds."""
WIDE: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 360, "height": 740}
TELL = "addEventListener('securitypolicyviolation', e => console.log(e.violatedDirective))"
"""Has a page write to the console what its policy did not let it do."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    need(path, "no Chromium (Debian package chromium)")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path)
        yield browser
        browser.close()


class Reader:
    """Opens pages, and notes all that they complain of."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[Any] = []
        self.complaints: list[str] = []

    def open(self, url: str, **settings: Any) -> Page:
        context = self._browser.new_context(**settings)
        self._contexts.append(context)
        page: Page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.add_init_script(TELL)
        page.goto(url)
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def reader(browser: Browser) -> Iterator[Reader]:
    """One whose pages may complain of nothing."""
    reader = Reader(browser)
    yield reader
    reader.close()
    assert reader.complaints == []


def live(page: Page) -> Page:
    """Waits until a page shows figures."""
    expect(page.locator("#connection")).to_have_text("Live", timeout=PATIENCE)
    return page


def tile(page: Page, title: str) -> str:
    """The number of a tile."""
    return (
        page.locator("#tiles > div")
        .filter(has=page.get_by_text(title, exact=True))
        .locator(".number")
        .inner_text()
    )


def rows(page: Page, table: str) -> dict[str, dict[str, str]]:
    """The cells of a table by the first cell of their row and the title of their column."""
    titles = page.locator(f"#{table} thead th").all_inner_texts()
    found = {}
    for row in page.locator(f"#{table} tbody tr").all():
        cells = row.locator("th, td").all_inner_texts()
        found[cells[0]] = dict(zip(titles, cells, strict=True))
    return found


def number(text: str) -> float:
    """A figure as the page writes it, in seconds or shares where it has a unit."""
    found = re.fullmatch(r"([\d.,]+) ?(ns|µs|ms|s|min|%|/s)?", text)
    assert found, text
    units = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "min": 60.0, "%": 0.01}
    return float(found[1].replace(",", "")) * units.get(found[2] or "", 1.0)


def test_figures_are_those_of_the_runner(reader: Reader) -> None:
    with known_load(name="load") as load, serve(load.runner) as server:
        page = live(reader.open(server.url))
        stats, metrics = load.runner.stats(), load.runner.metrics()
        assert page.title() == "load \N{EN DASH} tasker"
        assert number(tile(page, "Workers")) == stats.active_workers == WORKERS
        assert number(tile(page, "Running")) == stats.running_tasks == WORKERS
        assert number(tile(page, "Waiting")) == stats.queued_tasks == sum(QUEUED.values())
        times = rows(page, "times")
        assert {name: int(times[f"queue, {name}"]["Now"]) for name in QUEUED} == QUEUED
        tasks = rows(page, "tasks")
        for name in ("slow", "steady", "quick"):
            assert number(tasks[name]["Completed"]) == load.count("completed", name)
            assert number(tasks[name]["Failed"]) == load.count("failed", name)
            assert number(tasks[name]["Retried"]) == load.count("retried", name)
            spans = load.spans(name)
            assert number(tasks[name]["Mean"]) == pytest.approx(
                sum(spans) / len(spans), rel=0.04, abs=0.002
            )
            assert number(tasks[name]["Total"]) == pytest.approx(sum(spans), rel=0.04)
            assert_percentile(number(tasks[name]["p95"]), spans, 0.95)
        for kind, count in load.errors.items():
            assert number(rows(page, "errors")[kind]["Count"]) == count
        assert number(rows(page, "replaced")["unhealthy"]["Count"]) == load.replaced["unhealthy"]
        for worker in load.runner.workers():
            shown = rows(page, "workers")[worker.name]
            assert (shown["State"], shown["Task"]) == ("busy", HELD)
            assert number(shown["Done"]) == worker.tasks_done
            assert number(shown["Busy, last minute"]) == pytest.approx(worker.busy_share, abs=0.05)
        note = page.locator("#tiles > div").filter(has=page.get_by_text("Completed", exact=True))
        assert f"{metrics.total_tasks_completed:,} in all" in note.inner_text()
        assert metrics.total_tasks_completed == load.count("completed")
        # The age of the oldest is of the second that is shown.
        before = load.oldest_wait() - 2.5
        assert before <= number(tile(page, "Oldest waits")) * 1.01 + 0.05
        assert number(tile(page, "Oldest waits")) <= load.oldest_wait() * 1.01


@pytest.mark.timing
def test_rates_are_those_of_the_load(reader: Reader, runners: Runners) -> None:
    runner = runners.start(worker_count=4, name="steady")
    over = threading.Event()

    def submit() -> None:
        while not over.wait(0.02):
            runner.submit(lambda _: None)

    thread = threading.Thread(target=submit)
    with serve(runner) as server:
        page = live(reader.open(server.url))
        thread.start()
        try:
            page.wait_for_timeout(7000)
            first = runner.metrics().total_tasks_arrived
            told = number(tile(page, "Accepted").removesuffix(" /s"))
            # What came in the 5 s before, measured in the same way.
            page.wait_for_timeout(5000)
            truth = (runner.metrics().total_tasks_arrived - first) / 5
            assert told == pytest.approx(truth, rel=0.25)
        finally:
            over.set()
            thread.join()


def chart(page: Page, title: str) -> bytes:
    """What a chart looks like."""
    section = page.locator("#charts section").filter(has=page.get_by_text(title, exact=True))
    return section.locator("canvas").screenshot()


def test_charts_move_and_show_what_they_say_as_text(reader: Reader, runners: Runners) -> None:
    runner = runners.start(name="db")
    with serve(runner) as server:
        page = live(reader.open(server.url))
        accepted = page.locator("#charts .legend").first.locator("dd").first
        expect(accepted).to_have_text("0", timeout=PATIENCE)
        before = chart(page, "Tasks per second")
        for _ in range(500):
            runner.submit(lambda _: None)
        expect(accepted).not_to_have_text("0", timeout=PATIENCE)
        assert chart(page, "Tasks per second") != before
        assert page.locator("#charts canvas").count() == 4


def test_a_stop_is_shown_and_the_last_figures_stay(reader: Reader, runners: Runners) -> None:
    runner = runners.start(name="db")
    runner.queue_task(lambda _: None)
    with serve(runner) as server:
        page = live(reader.open(server.url))
        assert page.locator("#stopped").is_hidden()
        runner.stop()
        expect(page.locator("#stopped")).to_have_text(
            "The runner has stopped. These are its last figures.", timeout=PATIENCE
        )
        expect(page.locator("#state")).to_have_text("stopped")
        assert "1 in all" in page.locator("#tiles").inner_text()
        expect(page.locator("#said")).to_contain_text("db is stopped.")


def test_a_server_that_goes_is_told_and_one_that_comes_back_is_found(
    browser: Browser, runners: Runners
) -> None:
    runner = runners.start(name="db")
    # What Chromium itself says of a connection that is refused is on the console: no complaint.
    reader = Reader(browser)
    server = serve(runner)
    page = live(reader.open(server.url))
    server.close()
    expect(page.locator("#connection")).to_have_text(
        "The server does not answer; trying again", timeout=PATIENCE
    )
    with serve(runner, port=int(server.url.rstrip("/").rpartition(":")[2])):
        live(page)
    reader.close()


def colour(page: Page, selector: str) -> str:
    """The colour of a text."""
    style = "element => getComputedStyle(element).color"
    return str(page.locator(selector).first.evaluate(style))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_of_a_server_that_is_gone_are_grey_and_said_to_be_old(
    browser: Browser, runners: Runners, theme: str
) -> None:
    runner = runners.start(name="db")
    reader = Reader(browser)
    server = serve(runner)
    page = live(reader.open(server.url, color_scheme=theme))
    expect(page.locator("#state")).to_have_text("running")
    good, grey = colour(page, "#state"), colour(page, ".tile dt")
    server.close()
    # A word, for who does not see colours.
    expect(page.locator("#state")).to_have_text("was running", timeout=PATIENCE)
    title = "Findings, before the server fell silent"
    expect(page.locator("#findings-title")).to_have_text(title)
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    assert good != grey
    assert {colour(page, each) for each in ("#state", ".finding", ".tile .number")} == {grey}
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    # A pause brings no news: they stay old.
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#state")).to_have_text("was running")
    page.get_by_role("button", name="Pause").click()
    with serve(runner, port=int(server.url.rstrip("/").rpartition(":")[2])):
        live(page)
        expect(page.locator("#state")).to_have_text("running")
        assert colour(page, "#state") == good
        assert page.locator(".old:visible").count() == 0
    reader.close()


def note(page: Page, title: str) -> str:
    """What stands below the number of a tile."""
    term = page.get_by_text(title, exact=True)
    return page.locator("#tiles > div").filter(has=term).locator(".note").inner_text()


def test_all_ways_to_end_are_shown_and_what_waits_by_priority(
    reader: Reader, runners: Runners, gate: Gate
) -> None:
    runner = runners.start(worker_count=1, name="db")
    held = runner.submit(gate.hold)
    gate.wait_for()
    assert runner.options(timeout=0).submit(gate.hold).exception(LONG_TIMEOUT)
    assert runner.submit(gate.hold).cancel()
    runner.submit(gate.hold)
    assert len(runner.cancel_queued()) == 1
    runner.options(priority=Priority.HIGH).submit(gate.hold)
    with serve(runner) as server:
        page = live(reader.open(server.url))
        assert note(page, "Timed out") == "1 in all"
        assert note(page, "Accepted") == "5 in all, 1 cancelled, 1 dropped"
        assert note(page, "Waiting") == "no limit; 1 high, 0 normal, 0 low"
        gate.open()
        held.result(LONG_TIMEOUT)


@pytest.mark.parametrize("width", [360, 600, 800, 1200, 1280, 1600])
def test_no_row_of_tiles_has_less_than_the_others(
    reader: Reader, runners: Runners, width: int
) -> None:
    with serve(runners.start(name="db")) as server:
        page = live(reader.open(server.url, viewport={"width": width, "height": 800}))
        tops = [tile.bounding_box() for tile in page.locator("#tiles > div").all()]
        rows = Counter(box["y"] for box in tops if box)
        assert len(set(rows.values())) == 1, rows


def test_times_are_written_with_their_unit(reader: Reader, runners: Runners) -> None:
    with serve(runners.start()) as server:
        page = live(reader.open(server.url))
        script = """async times => {
            const { seconds } = await import("./format.js");
            return times.map(seconds);
        }"""
        told = page.evaluate(script, [0, 6e-8, 4.2e-4, 0.012, 2.5])
        assert told == ["0 s", "60 ns", "420 µs", "12 ms", "2.5 s"]


def test_a_server_that_says_nothing_is_told(reader: Reader, runners: Runners) -> None:
    with serve(runners.start(name="db")) as server:
        page = live(reader.open(server.url))
        # As where the process computes, and lets no thread run.
        with server._server._streams._events._lock:
            expect(page.locator("#connection")).to_have_text(
                re.compile(r"No news for \d+ s"), timeout=PATIENCE
            )
        live(page)


def test_an_answer_that_is_no_stream_of_events_is_asked_for_again(
    browser: Browser, runners: Runners
) -> None:
    # What Chromium itself says of the status is on the console: no complaint.
    reader = Reader(browser)
    with serve(runners.start(name="db")) as server:
        page = reader.open("about:blank")
        page.route("**/events*", lambda route: route.fulfill(status=503))
        page.goto(server.url)
        expect(page.locator("#connection")).to_have_text(
            "The server does not answer; trying again", timeout=PATIENCE
        )
        page.unroute("**/events*")
        live(page)
    reader.close()


def test_without_a_runner_the_page_says_so(reader: Reader, runners: Runners) -> None:
    with serve() as server:
        page = live(reader.open(server.url))
        expect(page.locator("#nothing")).to_be_visible()
        runners.start(name="late")
        expect(page.locator("#name")).to_have_text("late", timeout=PATIENCE)
        expect(page.locator("#nothing")).to_be_hidden()


def test_names_are_text_whatever_stands_in_them(
    reader: Reader, runners: Runners, gate: Gate
) -> None:
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>" + HOSTILE * 30
    runner = runners.start(name=hostile, worker_count=1)
    kind = type("<b>Error</b>", (Exception,), {})
    gate.open()
    assert runner.options(name=hostile).submit(gate.hold_then_raise, kind()).exception()
    with serve(runner) as server:
        page = reader.open(server.url)
        page.on("dialog", lambda dialog: reader.complaints.append(dialog.message))
        live(page)
        assert page.locator("img, main script, b").count() == 0
        assert page.locator("#name").inner_text().startswith("<img src=x onerror=alert(1)>")
        for text in page.locator("#name, #tasks tbody th, #workers tbody th").all_inner_texts():
            assert len(text) <= 80
            assert text.isprintable()


def test_several_runners_can_be_chosen_and_the_choice_lasts(
    reader: Reader, runners: Runners
) -> None:
    one, two = runners.start(name="one"), runners.start(name="two")
    with serve(one, two) as server:
        page = live(reader.open(server.url))
        expect(page.locator("#name")).to_have_text("one")
        page.get_by_label("Runner").select_option("two")
        expect(page.locator("#name")).to_have_text("two", timeout=PATIENCE)
        page.reload()
        live(page)
        expect(page.locator("#name")).to_have_text("two", timeout=PATIENCE)


def test_a_page_that_is_paused_costs_nothing(reader: Reader, runners: Runners) -> None:
    with serve(runners.start()) as server:
        page = live(reader.open(server.url))
        streams = server._server._streams
        assert len(streams._open) == 1
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("#connection")).to_have_text("Paused")
        page.wait_for_timeout(1500)
        assert not streams._open
        page.get_by_role("button", name="Pause").click()
        live(page)


def test_it_can_be_used_with_the_keyboard_alone(reader: Reader, runners: Runners) -> None:
    one, two = runners.start(name="one"), runners.start(name="two")
    two.queue_task(lambda _: None)
    with serve(one, two) as server:
        page = live(reader.open(server.url, viewport=PHONE))
        page.keyboard.press("Tab")
        expect(page.locator("#pause")).to_be_focused()
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(outline) == "solid"
        page.keyboard.press("Space")
        expect(page.locator("#connection")).to_have_text("Paused")
        page.keyboard.press("Space")
        live(page)
        page.keyboard.press("Tab")
        expect(page.locator("#runner")).to_be_focused()
        page.keyboard.press("ArrowDown")
        expect(page.locator("#name")).to_have_text("two", timeout=PATIENCE)
        # Tables that are too wide are scrolled with the arrows.
        wide = page.locator(".scroll:has(#workers)")
        for _ in range(5):
            page.keyboard.press("Tab")
            if wide.evaluate("region => region === document.activeElement"):
                break
        expect(wide).to_be_focused()
        page.keyboard.press("ArrowRight")
        eventually(lambda: wide.evaluate("region => region.scrollLeft") > 0)


def test_a_page_in_the_background_costs_nothing(reader: Reader, runners: Runners) -> None:
    with serve(runners.start()) as server:
        page = live(reader.open(server.url))
        streams = server._server._streams

        def hide(hidden: bool) -> None:
            # Chromium without a window has no background.
            page.evaluate(
                """hidden => {
                    Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
                    document.dispatchEvent(new Event("visibilitychange"));
                }""",
                hidden,
            )

        hide(True)
        eventually(lambda: not streams._open)
        hide(False)
        eventually(lambda: streams._open)


@contextmanager
def troubled(runners: Runners, gate: Gate) -> Iterator[Runner[Any]]:
    """A runner of which there is much to say."""
    runner = runners.start(worker_count=2, max_queue_size=2, when_full="raise", name="troubled")
    overdue = runner.options(timeout=0.05, name="overdue").submit(gate.hold)
    runner.submit(gate.hold)
    gate.wait_for(2)
    assert overdue.exception(LONG_TIMEOUT)
    for _ in range(2):
        runner.submit(lambda _: None)
    yield runner
    gate.open()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_axe_finds_nothing(
    reader: Reader, runners: Runners, gate: Gate, theme: str, size: ViewportSize, log: LogCapture
) -> None:
    with troubled(runners, gate) as runner, serve(runner, runners.start(name="idle")) as server:
        settings = {"color_scheme": theme, "viewport": size}
        page = live(reader.open(server.url, **settings))
        expect(page.locator("#workers tr.overdue")).to_have_count(1, timeout=PATIENCE)
        expect(page.locator("#findings li.warning").first).to_be_visible(timeout=PATIENCE)
        page.get_by_role("button", name="Pause").click()
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= size["width"], "the page is wider than the window"
    assert "outlived its time limit" in log.take()[0].getMessage()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_where_there_is_little(
    reader: Reader, runners: Runners, theme: str
) -> None:
    with serve() as server:
        page = live(reader.open(server.url, color_scheme=theme))
        assert Axe().run(page).violations_count == 0
        runner = runners.start(name="short")
        expect(page.locator("#name")).to_have_text("short", timeout=PATIENCE)
        runner.stop()
        expect(page.locator("#stopped")).to_be_visible(timeout=PATIENCE)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
