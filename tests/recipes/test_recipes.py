"""Every recipe runs as its page has it, against the real thing, and prints what the page says."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import COMPILE, ROOT, RUN, blocks_in, check, said_in
from tests.native.support import eventually
from tests.recipes.conftest import need_modules

RECIPES = ROOT / "docs" / "recipes"
PAGES = {
    "asyncio-clients": ("httpx",),
    "fastapi": ("fastapi", "httpx"),
    "http-crawl": ("httpx",),
    "models": ("numpy", "onnxruntime"),
    "notebooks": (),
    "playwright": ("playwright",),
    "postgresql": ("psycopg",),
    "sqlalchemy": ("sqlalchemy", "psycopg"),
}
SERVICES = {"playwright": "chromium", "postgresql": "postgresql", "sqlalchemy": "postgresql"}
OF_THEIR_OWN = {"celery", "gunicorn"}


def test_every_recipe_is_run() -> None:
    assert {page.stem for page in RECIPES.glob("*.md")} == {*PAGES, *OF_THEIR_OWN}


@pytest.mark.timeout(150)
@pytest.mark.parametrize("page", PAGES)
def test_recipe_prints_what_it_says(
    page: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    need_modules(*PAGES[page])
    service = SERVICES.get(page)
    environment: dict[str, str] = request.getfixturevalue(service) if service else {}
    check(RECIPES / f"{page}.md", tmp_path, environment)


@pytest.mark.timeout(150)
def test_coming_from_another_pool_prints_what_it_says(
    tmp_path: Path, postgresql: dict[str, str]
) -> None:
    need_modules("psycopg_pool")
    check(ROOT / "docs" / "coming-from-psycopg-pool.md", tmp_path, postgresql)


@pytest.mark.timeout(150)
def test_notebook_runs_cell_by_cell_and_again(tmp_path: Path) -> None:
    need_modules("nbclient", "ipykernel")
    # Without their types: the checkers run without them.
    nbclient = importlib.import_module("nbclient")
    v4 = importlib.import_module("nbformat").v4

    page = RECIPES / "notebooks.md"
    blocks = blocks_in(page, RUN)
    # The whole notebook twice, without the stop in between: as a reader runs a cell again.
    notebook = v4.new_notebook(cells=[v4.new_code_cell(text) for text in blocks[:-1] + blocks])
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=60, resources=place).execute()
    shown = [output.text for cell in notebook.cells for output in cell.outputs]
    said = said_in(page.read_text("utf-8"))
    assert "".join(shown).splitlines() == said * 2


def write(folder: Path, page: str) -> None:
    """Writes the page's files, whose first lines name them."""
    for block in blocks_in(RECIPES / page, COMPILE):
        name = block.splitlines()[0].removeprefix("# ")
        (folder / name).write_text(block, "utf-8")


@contextlib.contextmanager
def running(*command: str, cwd: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.timeout(150)
def test_gunicorn_with_a_program_loaded_before_the_fork(tmp_path: Path) -> None:
    need_modules("gunicorn")
    write(tmp_path, "gunicorn.md")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ("--bind", f"127.0.0.1:{port}", "--workers", "2")
    with running("gunicorn", *options, "app:app", cwd=tmp_path) as served:

        def answer() -> bytes:
            place = f"http://127.0.0.1:{port}/"
            with contextlib.suppress(OSError), urllib.request.urlopen(place, timeout=10) as reply:
                return bytes(reply.read())
            assert served.poll() is None, served.communicate()[0]
            return b""

        eventually(answer)
        assert [answer() for _ in range(5)] == [sqlite3.sqlite_version.encode()] * 5
        served.send_signal(signal.SIGTERM)
        said, _ = served.communicate(timeout=30)
    assert served.returncode == 0
    assert "Traceback" not in said, said
    assert "ResourceWarning" not in said, said


# As on the page, over a folder of files; and it says what becomes of the connections.
WATCHED = """
import os
import tasks

app = tasks.app
app.conf.broker_transport_options = {
    "data_folder_in": "mail", "data_folder_out": "mail", "control_folder": "control",
}
config = tasks.Config

def close(connection):
    connection.close()
    os.write(1, b"closed\\n")

tasks.Config = lambda **given: config(**{**given, "on_destroy": close})
"""
CLIENT = """
import watched
print(watched.tasks.total.delay([[1, 2], [3, 4]]).get(timeout=60))
"""


@pytest.mark.timeout(150)
def test_celery_closes_what_its_children_opened(tmp_path: Path) -> None:
    need_modules("celery")
    write(tmp_path, "celery.md")
    (tmp_path / "watched.py").write_text(WATCHED, "utf-8")
    for folder in ("mail", "control", "results"):
        (tmp_path / folder).mkdir()
    environment = {"BROKER": "filesystem://", "BACKEND": f"file://{tmp_path / 'results'}"}
    options = ("--app", "watched", "worker", "--concurrency", "2", "--loglevel", "INFO")
    with running("celery", *options, cwd=tmp_path, **environment) as worker:
        client = subprocess.run(
            [sys.executable, "-c", CLIENT],
            cwd=tmp_path,
            env={**os.environ, **environment},
            timeout=100,
            capture_output=True,
            text=True,
        )
        assert client.stdout.split() == ["10"], client.stderr
        worker.send_signal(signal.SIGTERM)
        said, _ = worker.communicate(timeout=40)
    # Two children, two workers each.
    assert said.count("closed\n") == 4, said
