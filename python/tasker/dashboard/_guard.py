"""What every request has to pass: it asks for a host that is ours, and to read.

The page listens on loopback, where any site that a browser has open can send requests. Such a site
reads no answer, as nothing here allows it to (there is no CORS), unless it gets its own name to
mean this address; then its requests carry that name as their host, and are refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "content-security-policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    # The figures are of a moment, and the files of the version that is installed.
    "cache-control": "no-store",
}
METHODS = ("GET", "HEAD")
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^:\[\]@/\s]+)(:\d*)?", re.ASCII)


def host_name(host: str) -> str | None:
    """Gives the name in a `Host` header, lower case and without the port; `None`: it is none."""
    found = _HOST.fullmatch(host.lower())
    return found["name"] if found else None


class Guard:
    """Passes on what may be answered, and adds `HEADERS` to each answer.

    Args:
        app: What answers.
        hosts: The names under which it may be asked, lower case and without ports.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # The rest is the start and end of the server, and web sockets, which are refused.
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._answer(scope)(scope, receive, send_with_headers)

    def _answer(self, scope: Scope) -> ASGIApp:
        hosts = Headers(scope=scope).getlist("host")
        name = host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None:
            return PlainTextResponse("The request needs one Host header.\n", 400)
        if name not in self._hosts:
            return PlainTextResponse("This host is not in allowed_hosts.\n", 421)
        if scope["method"] not in METHODS:
            return PlainTextResponse(
                "This page can only be read.\n", 405, {"allow": ", ".join(METHODS)}
            )
        root = scope.get("root_path", "")
        if root and scope["path"] == root:
            # Without the slash the browser would look for the files beside the page's folder.
            return RedirectResponse(f"{root}/", 308)
        return self._app
