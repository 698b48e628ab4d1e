"""The page on a port of its own: a server in a thread of its own, on loopback."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Self

from tasker._checks import check_count, check_watchable, wrong
from tasker._extra import need

if TYPE_CHECKING:
    from types import TracebackType

    from tasker._watchable import Watchable

ADDRESS = "127.0.0.1"
MOST_PORT = 65535


def serve(*runners: Watchable, port: int = 0) -> Serving:
    """Serves the page of `asgi_app` on this machine, for this machine alone.

    Experimental. It serves from the call on, on 127.0.0.1, in a thread of its own that wakes up for
    requests alone. The thread ends with the interpreter, if not before.

    Args:
        *runners: As for `asgi_app`.
        port: The port to listen on. 0: one that is free.

    Returns:
        The server, which the end of a `with` statement closes.

    Raises:
        ConfigError: One of *runners* is no `Runner`, or *port* no number of a port.
        ModuleNotFoundError: What the extra `dashboard` installs is not there.
        OSError: The port is taken, or may not be used.

    Example:
        >>> from tasker import Config, Runner
        >>> from tasker.dashboard import serve
        >>> with Runner(Config(on_create=dict, worker_count=2)) as runner, serve(runner) as page:
        ...     page.url.startswith("http://127.0.0.1:")
        True
    """
    check_watchable(runners)
    number = check_count("port", port, least=0)
    if number > MOST_PORT:
        raise wrong("port", f"at most {MOST_PORT}", port)
    return Serving(runners, number)


class Serving:
    """A server of the page, from `serve`; safe for any thread."""

    url: str
    """The address of the page."""

    def __init__(self, runners: tuple[Watchable, ...], port: int) -> None:
        # Only here: an application that mounts the page brings its own server.
        need("dashboard", "uvicorn")
        from tasker.dashboard._server import Server  # noqa: PLC0415

        self._server = Server(runners)
        # It listens from here on: a request that comes before the thread is ready waits for it.
        self._listener = socket.create_server((ADDRESS, port))
        self.url = f"http://{ADDRESS}:{self._listener.getsockname()[1]}/"
        self._thread = threading.Thread(
            target=self._server.run, args=([self._listener],), name="tasker-dashboard", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError:
            # The system has no thread to give.
            self._listener.close()
            raise
        _open.add(self)

    def close(self) -> None:
        """Ends the server and waits for its thread; a second call does nothing.

        Those who look are sent an end and told so by their page; who does not take it is cut off
        after a second. In a forked child it does nothing: the server is the parent's.
        """
        if self._thread.is_alive():
            # Its loop is closed if another thread did the same and was first.
            with contextlib.suppress(RuntimeError):
                self._server.end()
            self._thread.join()
        _open.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"


_open: weakref.WeakSet[Serving] = weakref.WeakSet()


def _let_go() -> None:
    """Closes a forked child's copies of what the parent listens on.

    Else connections would still be taken, and never answered, when the parent has ended.
    """
    for serving in list(_open):
        serving._listener.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
