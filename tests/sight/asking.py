"""Asks an ASGI application without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.native.support import LONG_TIMEOUT

LOCAL = "localhost:8000"


def scope_of(path: str, *, method: str = "GET", query: str = "", **fields: Any) -> Scope:
    """What a server says of a request."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", LOCAL.encode())],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        **fields,
    }


@dataclass
class Client:
    """One that looks at the events of an application."""

    messages: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it leaves."""
    _rest: bytes = b""

    async def receive(self) -> Message:
        """What the server tells of the client."""
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """What the application sends."""
        self.messages.put_nowait(message)

    async def next(self) -> Message:
        """What it sent next."""
        return await asyncio.wait_for(self.messages.get(), LONG_TIMEOUT)

    async def event(self) -> dict[str, Any]:
        """The data of the next event."""
        while True:
            event, found, rest = self._rest.partition(b"\n\n")
            if not found:
                message = await self.next()
                assert message.get("more_body"), message
                self._rest += message["body"]
                continue
            self._rest = rest
            if event.startswith(b"data: "):
                assert b"\n" not in event
                assert event.isascii()
                return dict(json.loads(event.removeprefix(b"data: ")))


async def answer(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Has an application answer."""
    await app(scope, receive, send)


@asynccontextmanager
async def looking(app: ASGIApp, query: str = "", path: str = "/events") -> AsyncIterator[Client]:
    """Looks at the events of an application, and leaves."""
    client = Client()
    task = asyncio.create_task(
        answer(app, scope_of(path, query=query), client.receive, client.send)
    )
    try:
        yield client
    finally:
        client.gone.set()
        await asyncio.wait_for(task, LONG_TIMEOUT)
