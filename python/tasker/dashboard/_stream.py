"""The stream of events to one client, until it goes, reads nothing, or the server ends.

It is written out here since sse-starlette, which does the same, leaves a task behind that wakes up
twice a second once a client has been there, and changes uvicorn for the whole process.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from starlette.requests import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from tasker.dashboard._events import Events

PATIENCE = 10.0
"""Seconds after which a client that takes nothing is dropped."""
_HEADERS = [
    (b"content-type", b"text/event-stream"),
    # A proxy that collected answers would show nothing, or all at once.
    (b"x-accel-buffering", b"no"),
]
_BEGINNING = b"retry: 2000\n\n"
"""Milliseconds after which a browser that has lost the server tries again."""


class Streams:
    """Sends each client an event a second.

    For each there is one event under way and none that waits: who is slow misses some, and gets
    their points with the next. A server that shuts down is held up for a second at most.

    Args:
        events: What is sent.
        patience: As `PATIENCE`.
        drop: Called with the scope of a client that took nothing for so long. An application can
            end its answer, and no more; only a server can close what is not read.
    """

    def __init__(
        self,
        events: Events,
        patience: float = PATIENCE,
        drop: Callable[[Scope], None] = lambda _: None,
    ) -> None:
        self._events = events
        self._patience = patience
        self._drop = drop
        self._open: set[anyio.CancelScope] = set()
        self._ended = False

    def end(self) -> None:
        """Ends all streams, those to come too; to be called where their event loop runs."""
        self._ended = True
        for scope in self._open:
            scope.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body"})
            return
        gone = False

        async def listen() -> None:
            nonlocal gone
            while (await receive())["type"] != "http.disconnect":
                pass
            gone = True
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            self._open.add(group.cancel_scope)
            try:
                group.start_soon(listen)
                gone = not await self._stream(scope, send)
            finally:
                self._open.discard(group.cancel_scope)
            group.cancel_scope.cancel()
        if not gone:
            with anyio.move_on_after(1):
                await send({"type": "http.response.body"})

    async def _stream(self, scope: Scope, send: Send) -> bool:
        """Sends events; returns whether the client is still there at the end."""
        number, since = _chosen(Request(scope)), 0.0
        body = _BEGINNING
        while not (self._ended or _is_shutting_down()):
            now = time.monotonic()
            event = self._events.at(int(now), number, since)
            if event.number != number:
                # The points of another runner are none of this one's.
                event = self._events.at(int(now), event.number, 0.0)
            number, since = event.number, event.until
            with anyio.move_on_after(self._patience) as patience:
                try:
                    await send(
                        {
                            "type": "http.response.body",
                            "body": body + event.body,
                            "more_body": True,
                        }
                    )
                except OSError:
                    # So newer servers tell of a client that has gone.
                    return False
            if patience.cancelled_caught:
                self._drop(scope)
                # Once more, so that the server sees its end before that of the answer.
                await anyio.lowlevel.checkpoint()
                return False
            body = b""
            # All wake up at the same time, so that one reading serves them; a slow one at once.
            await anyio.sleep(max(int(now) + 1 - time.monotonic(), 0))
        return True


def _chosen(request: Request) -> int | None:
    try:
        return int(request.query_params.get("runner", ""))
    except ValueError:
        return None


def _is_shutting_down() -> bool:
    # uvicorn waits for all answers to end before it tells the application that it is about to; but
    # as long as it runs, it handles the signal that ends it. Other servers have time limits.
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True
