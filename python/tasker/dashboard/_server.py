"""uvicorn as a thread of somebody else's process needs it: asleep between requests, and ending."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import uvicorn

from tasker.dashboard._app import application
from tasker.dashboard._events import Events
from tasker.dashboard._stream import Streams

if TYPE_CHECKING:
    import socket

    from starlette.types import Scope

    from tasker._watchable import Watchable

HOSTS = frozenset({"localhost", "127.0.0.1"})
"""The names under which browsers reach it."""
GRACE = 1.0
"""Seconds that clients have at the end to take what they are sent last."""


class Server(uvicorn.Server):
    """Serves the page; `run` does so until `end` is called.

    Args:
        runners: As for `asgi_app`.
    """

    def __init__(self, runners: tuple[Watchable, ...]) -> None:
        self._streams = Streams(Events(*runners), drop=self._cut_off)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()
        # All that an application may have set up for itself stays as it is: its event loop policy,
        # its logging.
        config = uvicorn.Config(
            application(self._streams, HOSTS),
            loop="asyncio",
            http="h11",
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
        )
        super().__init__(config)

    def end(self) -> None:
        """Has `run` return soon; for any thread, while `run` runs or is about to."""
        # In this order, as `main_loop` looks at them in the other.
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ended.set)

    async def main_loop(self) -> None:
        """Waits for the end; uvicorn's own looks for it ten times a second."""
        self._loop = asyncio.get_running_loop()
        if not self.should_exit:
            await self._ended.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the streams, for which uvicorn would wait, and cuts off who does not read."""
        for server in self.servers:
            server.close()
        self._streams.end()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=GRACE)
        for connection in list(self.server_state.connections):
            if connection.transport.get_write_buffer_size():
                connection.transport.abort()
        await super().shutdown(sockets)

    def _cut_off(self, scope: Scope) -> None:
        for connection in list(self.server_state.connections):
            if connection.transport.get_extra_info("peername") == scope["client"]:
                connection.transport.abort()
