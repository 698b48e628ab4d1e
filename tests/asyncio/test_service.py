"""The web service of the documentation, under load, on a real server: no request is lost."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from tasker import Runner
from tests.docs.pages import COMPILE, ROOT, code_in
from tests.native.support import LONG_TIMEOUT

App = Callable[[dict[str, Any], Any, Any], Coroutine[Any, Any, None]]

REQUESTS = 2_000
AT_ONCE = 64
USERS = 100


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the recipe defines, with a database for it to read."""
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("app.db")) as conn, conn:
        conn.execute("create table users (id integer primary key, name text)")
        rows = ((i, f"user {i}") for i in range(USERS))
        conn.executemany("insert into users values (?, ?)", rows)
    names: dict[str, Any] = {}
    page = ROOT / "docs" / "how-to" / "asyncio.md"
    exec(compile(code_in(page, COMPILE), str(page), "exec"), names)  # noqa: S102, our own page
    return names


class Service:
    """The recipe's application on a server, with a count of the requests that reached it."""

    def __init__(self, app: App, loop: str) -> None:
        self._app = app
        self.reached = 0
        self.runner: Runner[Any] | None = None
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=AT_ONCE)
        self.url = "http://{}:{}".format(*self._socket.getsockname())
        config = uvicorn.Config(self, loop=loop, ws="none", log_level="warning", lifespan="on")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self._thread.start()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.reached += 1
            self.runner = scope["state"]["runner"]
        await self._app(scope, receive, send)

    def shut_down(self) -> None:
        """Asks for the end, as a signal does: what has begun is finished."""
        self._server.should_exit = True

    def join(self) -> None:
        self._thread.join(LONG_TIMEOUT)
        assert not self._thread.is_alive()
        self._socket.close()


@pytest.mark.stress
def test_no_request_is_lost_when_a_server_shuts_down_under_load(
    recipe: dict[str, Any], kind: str
) -> None:
    service = Service(recipe["app"], kind)
    outcomes: Counter[str] = Counter()

    async def ask(client: httpx.AsyncClient, places: asyncio.Semaphore, i: int) -> None:
        async with places:
            try:
                response = await client.get(f"/users/{i % USERS}")
            except httpx.TransportError:
                outcomes["refused"] += 1
                return
        assert (response.status_code, response.json()) == (200, {"name": f"user {i % USERS}"})
        outcomes["answered"] += 1
        if outcomes["answered"] == REQUESTS // 2:
            service.shut_down()

    async def load() -> None:
        limits = httpx.Limits(max_connections=AT_ONCE)
        async with httpx.AsyncClient(
            base_url=service.url, limits=limits, timeout=LONG_TIMEOUT, trust_env=False
        ) as client:
            places = asyncio.Semaphore(AT_ONCE)
            async with asyncio.TaskGroup() as group:
                for i in range(REQUESTS):
                    group.create_task(ask(client, places, i))

    try:
        asyncio.run(load())
    finally:
        service.shut_down()
        service.join()
    assert outcomes.total() == REQUESTS
    assert outcomes["refused"] > 0, "the load was over before the shutdown"
    assert outcomes["answered"] == service.reached
    runner = service.runner
    assert runner is not None
    assert runner.state == "stopped"
    metrics = runner.metrics()
    assert metrics.total_tasks_completed == metrics.total_tasks_arrived == service.reached


def test_all_requests_are_answered(recipe: dict[str, Any], kind: str) -> None:
    service = Service(recipe["app"], kind)

    async def load() -> list[int]:
        limits = httpx.Limits(max_connections=AT_ONCE)
        async with httpx.AsyncClient(
            base_url=service.url, limits=limits, timeout=LONG_TIMEOUT, trust_env=False
        ) as client:
            paths = [f"/users/{i}" for i in range(2 * USERS)]
            responses = await asyncio.gather(*(client.get(path) for path in paths))
        return [response.status_code for response in responses]

    try:
        assert asyncio.run(load()) == [200] * USERS + [404] * USERS
    finally:
        service.shut_down()
        service.join()
