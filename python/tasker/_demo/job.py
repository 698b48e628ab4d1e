"""What the demo's contestants share: the server to crawl, the index to fill, and the surprises.

Each contestant gets a `CrawlJob` with a server of its own, which is killed once it has served half
of the pages, and started again a second later. After a quarter of them an urgent request comes in.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WORKERS = 8
"""Threads that fetch, for every contestant."""
OUTAGE = 1.0
"""Seconds between the server's end and its next start."""
TIME_LIMIT = 60.0
"""Seconds after which the demo gives up on a part of itself."""
NETWORK = (OSError, HTTPException)
"""What a request raises when its connection is of no use any more."""


class ServerGone(RuntimeError):
    """The demo's server has ended, or never came up."""


@dataclass(frozen=True)
class Page:
    """A page that was fetched and parsed."""

    number: int
    title: str
    words: str


def fetch(connection: HTTPConnection, number: int) -> Page:
    """Gets a page over a connection and parses it lightly."""
    connection.request("GET", f"/page/{number}")
    title, _, source = connection.getresponse().read().decode().partition("\n")
    return Page(number, title, " ".join(re.findall(r"[A-Za-z]{3,}", source)))


class Index:
    """A full-text index in an SQLite file; of one thread, as SQLite's connections are."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path)
        try:
            self._connection.execute("create virtual table pages using fts5(number, title, words)")
        except sqlite3.OperationalError:
            # This SQLite was built without full-text search.
            self._connection.execute("create table pages (number, title, words)")

    def add(self, page: Page) -> None:
        """Stores a page."""
        values = (page.number, page.title, page.words)
        self._connection.execute("insert into pages values (?, ?, ?)", values)

    def close(self) -> None:
        """Commits, and closes the file."""
        with closing(self._connection):
            self._connection.commit()


def stored(path: Path) -> int:
    """Counts the pages in an index, each once."""
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("select count(distinct number) from pages").fetchone()
    return int(count)


def search(path: Path, words: str) -> tuple[int, str]:
    """Looks for pages with all the words: how many there are, and the best one's title."""
    with closing(sqlite3.connect(path)) as connection:
        if has_full_text(connection):
            where, given, order = "pages match ?", [words], "order by rank"
        else:
            where = " and ".join("words like ?" for _ in words.split())
            given, order = [f"%{word}%" for word in words.split()], ""
        found = connection.execute(f"select title from pages where {where} {order}", given)
        titles = [str(title) for (title,) in found]
    return len(titles), titles[0] if titles else "nothing"


def has_full_text(connection: sqlite3.Connection) -> bool:
    """Tells whether an index could be made with full-text search."""
    tables = connection.execute("select sql from sqlite_master where name = 'pages'")
    return "fts5" in str(tables.fetchone())


class CrawlJob:
    """One contestant's task, and what is measured of it."""

    def __init__(self, folder: Path, pages: int) -> None:
        self.path = folder / "index.db"
        self.urgent_wait: float | None = None
        """Seconds that the urgent request took; `None`: it was not answered."""
        self.failures = 0
        self._asked = pages
        self._quarter = threading.Event()
        self._restarted = threading.Event()
        self._closed = threading.Event()
        self._server = self._serve("--mark", str(pages // 4), "--mark", str(pages // 2))
        self._port = self._read(self._server)
        self.numbers = range(self._read(self._server))
        self._threads = [threading.Thread(target=self._watch, daemon=True)]
        self._threads[0].start()

    def connect(self) -> HTTPConnection:
        """Opens a connection to the server, now and not with the first request."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=TIME_LIMIT)
        connection.connect()
        return connection

    def open_index(self) -> Index:
        """Makes the index."""
        return Index(self.path)

    def meanwhile(self, ask: Callable[[int], Page]) -> None:
        """Has an urgent request made in the middle of the crawl, from a thread of its own."""

        def urgent() -> None:
            self._quarter.wait(TIME_LIMIT)
            begin = time.monotonic()
            try:
                ask(self.numbers[-1])
            except NETWORK:
                return
            self.urgent_wait = time.monotonic() - begin

        self._threads.append(threading.Thread(target=urgent, daemon=True))
        self._threads[-1].start()

    def failed(self, number: int, error: Exception) -> None:
        """Takes note of a page that could not be fetched, where one would print it."""
        del number, error
        self.failures += 1

    def left_open(self) -> int:
        """Asks the server how many connections it has left when those that are closing are gone."""
        end = time.monotonic() + 0.5
        while True:
            with closing(self.connect()) as connection:
                connection.request("GET", "/open")
                others = int(connection.getresponse().read())
            if others == 0 or time.monotonic() > end:
                return others
            time.sleep(0.02)

    def finish(self) -> None:
        """Waits for the surprises."""
        for thread in self._threads:
            thread.join(TIME_LIMIT)
        self._restarted.wait(TIME_LIMIT)

    def close(self) -> None:
        """Ends the server, also one that is just being started again."""
        self._closed.set()
        self._end(self._server)
        self._threads[0].join(TIME_LIMIT)
        self._end(self._server)

    def _serve(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tasker._demo.server", "--pages", str(self._asked)]
        return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)

    @staticmethod
    def _read(server: subprocess.Popen[str]) -> int:
        line = server.stdout.readline() if server.stdout and not server.stdout.closed else ""
        if not line:
            message = "the server of the demo has ended, or could not be started"
            raise ServerGone(message)
        return int(line)

    @staticmethod
    def _end(server: subprocess.Popen[str]) -> None:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()

    def _watch(self) -> None:
        """Kills the server half-way, and starts it again."""
        try:
            self._read(self._server)
            self._quarter.set()
            self._read(self._server)
            self._end(self._server)
            if not self._closed.wait(OUTAGE):
                self._server = self._serve("--port", str(self._port))
                self._read(self._server)
                self._restarted.set()
        except ServerGone:
            # The job was closed before its time.
            return
