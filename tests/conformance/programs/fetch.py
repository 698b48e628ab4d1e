"""Fetches pages from a server of its own at once, and reports each as it comes."""

import concurrent.futures
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

PAGES = {"/": 120, "/about": 64, "/news": 4096, "/empty": 0}


class Pages(BaseHTTPRequestHandler):
    """Answers with as many bytes as a page has."""

    def do_GET(self) -> None:
        """Answers one request."""
        size = PAGES.get(self.path)
        self.send_response(404 if size is None else 200)
        self.end_headers()
        self.wfile.write(b"x" * (size or 0))

    def log_message(self, format: str, *args: object) -> None:
        """Keeps quiet."""


def load(url: str, timeout: float) -> bytes:
    """Fetches a page."""
    with urllib.request.urlopen(url, timeout=timeout) as page:  # noqa: S310 - a server of ours
        return bytes(page.read())


with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
    Thread(target=server.serve_forever, daemon=True).start()
    root = f"http://127.0.0.1:{server.server_port}"
    report = []
    with ThreadPoolExecutor(max_workers=5) as executor:
        path_of = {executor.submit(load, root + path, timeout=30): path for path in (*PAGES, "/no")}
        for future in concurrent.futures.as_completed(path_of, timeout=30):
            try:
                report.append(f"{path_of[future]}: {len(future.result())} bytes")
            except urllib.error.HTTPError as error:
                report.append(f"{path_of[future]}: {error}")
                # It is the answer as well, and kept by the future.
                error.close()
    server.shutdown()

print(*sorted(report), sep="\n")
