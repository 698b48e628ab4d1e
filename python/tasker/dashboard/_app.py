"""The page as an ASGI application: its files and its events."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route, Router

from tasker._checks import check_watchable, wrong
from tasker.dashboard._chart_files import chart_files
from tasker.dashboard._events import Events
from tasker.dashboard._guard import Guard, host_name
from tasker.dashboard._stream import Streams

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from tasker._watchable import Watchable

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
_OWN = ("index.html", "page.js", "charts.js", "format.js", "page.css", "icon.svg")
_CHARTS = ("uPlot.iife.min.js", "uPlot.min.css")


def asgi_app(
    *runners: Watchable,
    allowed_hosts: Iterable[str] = ("localhost", "127.0.0.1", "[::1]"),
) -> ASGIApp:
    """Makes an application that shows runners, to be mounted in one of yours or served by itself.

    Experimental. It answers `GET` and `HEAD`, and changes nothing. Whoever reaches it sees figures,
    and the names of runners, workers, tasks and types of errors; arguments, results, messages of
    errors and resources never leave the process. It has no login: guard it with that of your
    application. Runners are read once a second while somebody looks, for all together, and not at
    all when nobody does.

    Args:
        *runners: Whom to show. None: all that are alive, and the last ones that have stopped. They
            are not kept alive by it.
        allowed_hosts: The names under which browsers may reach it, without ports: the default is
            for this machine alone. Requests for any other name are refused.

    Returns:
        The application, for any ASGI server and any number of event loops. It may be mounted under
        a prefix.

    Raises:
        ConfigError: One of *runners* is no `Runner`, or a name in *allowed_hosts* none of a host.
        ModuleNotFoundError: What the extra `dashboard` installs is not there.

    Example:
        >>> from starlette.applications import Starlette
        >>> from starlette.routing import Mount
        >>> from tasker.dashboard import asgi_app
        >>> app = Starlette(routes=[Mount("/tasker", asgi_app(allowed_hosts=["example.org"]))])
    """
    check_watchable(runners)
    return application(Streams(Events(*runners)), check_hosts(allowed_hosts))


def application(streams: Streams, hosts: frozenset[str]) -> ASGIApp:
    """Puts the application together.

    Args:
        streams: What sends the events.
        hosts: As for `Guard`.
    """
    own, charts = files("tasker.dashboard") / "static", chart_files()
    contents = {name: (own / name).read_bytes() for name in _OWN}
    contents |= {name: (charts / name).read_bytes() for name in _CHARTS}
    routes = [Route(f"/{name}", _file(name, content)) for name, content in contents.items()]
    routes += [
        Route("/", _file("index.html", contents["index.html"])),
        Route("/events", streams),
    ]
    return Guard(Router(routes), hosts)


def _file(name: str, content: bytes) -> Callable[[Request], Awaitable[Response]]:
    media_type = _TYPES[name.rpartition(".")[2]]

    # A coroutine, since others are called in a thread.
    async def answer(_request: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer


def check_hosts(hosts: Iterable[str]) -> frozenset[str]:
    """Gives the names of hosts as `Guard` compares them."""
    # A string is an iterable of strings, too.
    if isinstance(hosts, str):
        raise wrong("allowed_hosts", "a list of names", hosts)
    names = list[object](hosts)
    for name in names:
        if not isinstance(name, str) or host_name(name) != name.lower():
            raise wrong("allowed_hosts", "names of hosts without scheme and port", name)
    return frozenset(str(name).lower() for name in names)
