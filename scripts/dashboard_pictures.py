"""Takes pictures of the dashboard in Chromium: of runners that do well, and of some that do not.

Each comes wide and narrow, light and dark; with `--docs` also the two that the pages show, small.

    python scripts/dashboard_pictures.py FOLDER [--seconds 60] [--docs]
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import sync_playwright

from tasker import Config, Priority, QueueFull, Runner, RunnerStopped, runners
from tasker.dashboard import serve

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SIZES = {"wide": (1280, 800), "narrow": (390, 844)}
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

over = threading.Event()
chance = random.Random(1)  # noqa: S311 - a load, no cryptography


def pause(_: object, seconds: float) -> None:
    """A task that takes its time."""
    over.wait(seconds)


def fetch(_: object) -> None:
    """A task as most are."""
    over.wait(chance.lognormvariate(-4, 0.7))


def parse(_: object) -> None:
    """A task that now and then fails."""
    over.wait(chance.uniform(0.001, 0.004))
    if chance.random() < 0.05:
        raise chance.choice([ValueError, KeyError, TimeoutError])("not shown")


def repeatedly(step: Callable[[], object], interval: float) -> None:
    """Does something in a thread until the pictures are taken."""

    def loop() -> None:
        while not over.wait(chance.expovariate(1 / interval)):
            try:
                step()
            except QueueFull:
                continue
            except (RunnerStopped, CancelledError):
                return

    threading.Thread(target=loop, daemon=True).start()


def busy() -> Runner[dict[str, int]]:
    """Has much to do, and does it."""
    config: Config[dict[str, int]] = Config(
        on_create=dict, worker_count=6, max_queue_size=500, name="crawl"
    )
    runner = Runner(config)
    urgent = runner.options(priority=Priority.HIGH, name="parse urgent")
    repeatedly(lambda: runner.submit(fetch).add_done_callback(lambda done: done.exception()), 0.008)
    repeatedly(lambda: runner.submit(parse).add_done_callback(lambda done: done.exception()), 0.02)
    repeatedly(lambda: urgent.submit(parse).add_done_callback(lambda done: done.exception()), 0.1)
    return runner


def overloaded() -> Runner[dict[str, int]]:
    """Gets more than it can do, and refuses some."""
    config: Config[dict[str, int]] = Config(
        on_create=dict, worker_count=2, max_queue_size=200, when_full="raise", name="overloaded"
    )
    runner = Runner(config)
    shrinking = runner.options(name="shrink picture")
    repeatedly(lambda: shrinking.submit(pause, 0.05), 0.01)
    return runner


def stuck() -> Runner[dict[str, int]]:
    """Has a worker that hangs in a task past its limit."""
    config: Config[dict[str, int]] = Config(on_create=dict, worker_count=3, name="one worker stuck")
    runner = Runner(config)
    runner.options(timeout=3.0, name="call without a timeout").submit(pause, 1e6).add_done_callback(
        lambda done: done.exception()
    )
    repeatedly(lambda: runner.submit(fetch), 0.05)
    return runner


def failing() -> Runner[dict[str, int]]:
    """Lost its server: resources cannot be made any more."""
    down = threading.Event()

    def connect() -> dict[str, int]:
        if down.is_set():
            raise ConnectionRefusedError("not shown")
        return {}

    def query(_: object) -> None:
        if down.is_set():
            raise ConnectionResetError("not shown")
        over.wait(0.01)

    runner = Runner(
        Config(
            on_create=connect,
            is_broken=lambda _, error: isinstance(error, ConnectionError),
            worker_count=4,
            name="creation fails",
        )
    )
    repeatedly(lambda: runner.submit(query).add_done_callback(lambda done: done.exception()), 0.03)
    threading.Timer(10, down.set).start()
    return runner


@contextmanager
def all_kinds() -> Iterator[None]:
    """Has all of them run."""
    with ExitStack() as ending:
        idle = Runner(Config(on_create=object, worker_count=4, name="idle"))
        for runner in (idle, busy(), overloaded(), stuck(), failing()):
            ending.callback(runner.kill)
        try:
            yield
        finally:
            over.set()


def take(folder: Path, seconds: float, docs: bool) -> None:
    """Takes the pictures after a while, so that there is something on the charts."""
    chromium = shutil.which("chromium")
    with all_kinds(), serve() as server, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium)
        first = browser.new_page()
        first.goto(server.url)
        time.sleep(seconds)
        names = [runner.name for runner in runners()]
        for (number, name), (size, (width, height)), theme in itertools.product(
            enumerate(names), SIZES.items(), THEMES
        ):
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme)
            page.goto(f"{server.url}#{number}")
            page.locator("#connection[data-kind=live]").wait_for()
            page.wait_for_timeout(300)
            file = folder / f"{name.replace(' ', '-')}-{size}-{theme}.png"
            page.screenshot(path=file, full_page=True)
            print(file)
            page.close()
        browser.close()
    if docs:
        IMAGES.mkdir(exist_ok=True)
        shrink(folder / "crawl-wide-light.png", IMAGES / "dashboard-light.png")
        stuck = folder / "one-worker-stuck-narrow-dark.png"
        shrink(stuck, IMAGES / "dashboard-stuck-dark.png", height=1000)


def shrink(source: Path, target: Path, height: int | None = None) -> None:
    """Keeps so many colours as the page has, and its upper part where a height is given."""
    with Image.open(source) as picture:
        shown = picture.convert("RGB").crop((0, 0, picture.width, height or picture.height))
        shown.quantize(160, dither=Image.Dither.NONE).save(target, optimize=True)
    print(target, f"{target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--docs", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    take(given.folder, given.seconds, given.docs)
