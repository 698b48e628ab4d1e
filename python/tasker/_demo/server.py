"""The demo's server, a process of its own: slow, unreliable, and easy to kill.

It serves the source of the standard library in pages, each after a pause, closes the connection in
place of every hundredth answer, and writes to standard output how far it has come.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import sysconfig
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAUSE = 0.01
"""Seconds before each answer."""
DROP_EVERY = 100
"""So many requests, and the connection is closed instead of an answer."""
LINES = 60
"""Lines of source on a page."""


def pages(most: int) -> list[bytes]:
    """Cuts the standard library's sources into pages; so many from all over it, always the same."""
    root = Path(sysconfig.get_path("stdlib"))
    foreign = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"}
    made: list[bytes] = []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if foreign & set(name.parts):
            continue
        source = path.read_text("utf-8", "replace").splitlines()
        for first in range(0, len(source), LINES):
            part = source[first : first + LINES]
            made.append("\n".join([f"{name.as_posix()}:{first + 1}", *part]).encode())
    return made[:: max(1, len(made) // most)][:most]


class Site(ThreadingHTTPServer):
    """The pages, and what has been asked of them."""

    daemon_threads = True

    def __init__(self, port: int, served: list[bytes], marks: set[int]) -> None:
        super().__init__(("127.0.0.1", port), PageHandler)
        self.pages = served
        self.marks = marks
        """After so many answers it says so."""
        self.requests = itertools.count(1)
        self.answers = itertools.count(1)
        self.lock = threading.Lock()
        self.open = 0
        """Connections that its clients have not closed."""

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away in the middle is part of the plot."""


class PageHandler(BaseHTTPRequestHandler):
    """One connection of a client."""

    server: Site  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Counts the connection."""
        super().setup()
        with self.server.lock:
            self.server.open += 1

    def finish(self) -> None:
        """Counts it off."""
        with self.server.lock:
            self.server.open -= 1
        super().finish()

    def do_GET(self) -> None:
        """Answers `/page/N`, and `/open` with the number of other connections."""
        kind, _, number = self.path.strip("/").partition("/")
        if kind == "open":
            with self.server.lock:
                others = self.server.open - 1
            self.answer(str(others).encode())
            self.close_connection = True
            return
        time.sleep(PAUSE)
        if next(self.server.requests) % DROP_EVERY == 0:
            self.close_connection = True
            return
        self.answer(self.server.pages[int(number)])
        answered = next(self.server.answers)
        if answered in self.server.marks:
            say(answered)

    def answer(self, body: bytes) -> None:
        """Sends a page in one piece."""
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""


def say(number: int) -> None:
    """Tells the process that started this one."""
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main() -> None:
    """Serves until it is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pages", type=int, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--mark", type=int, action="append", default=[])
    given = parser.parse_args()
    site = Site(given.port, pages(given.pages), set(given.mark))
    say(site.server_port)
    say(len(site.pages))
    # Ctrl-C on a terminal is for the demo, which ends this process itself.
    with contextlib.suppress(KeyboardInterrupt):
        site.serve_forever()


if __name__ == "__main__":
    main()
