"""Whatever the page is asked: it answers, as one who asks by its name to read, or refuses.

`python -m scripts.fuzz` drives the same test by what it covers.
"""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import Any

import pytest

pytest.importorskip("metaflow_extensions")
pytest.importorskip("starlette")

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message

from tasker.dashboard import asgi_app
from tests.sight.asking import LOCAL, answer, scope_of

STATIC = sorted(file.name for file in (files("tasker.dashboard") / "static").iterdir())
PATHS = ["/", "/events/", "//", "/..", "/../page.js", "/%2e%2e/", *(f"/{name}" for name in STATIC)]
HOSTS = [
    LOCAL.encode(),
    b"localhost",
    b"127.0.0.1:8000",
    b"[::1]",
    b"evil.example",
    b"",
    b"a@localhost",
]
ANSWERS = {200, 307, 400, 404, 405, 421}

PIECES = st.text(st.characters(codec="ascii"), max_size=30)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [b"host", b"accept", b"range", b"if-none-match", b"last-event-id", b"cookie"]
        ),
        st.one_of(st.sampled_from(HOSTS), st.binary(max_size=40)),
    ),
    max_size=5,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)
@given(
    path=st.one_of(st.sampled_from(PATHS), PIECES.map("/".__add__), PIECES),
    method=st.one_of(st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS"]), PIECES),
    query=PIECES,
    headers=st.one_of(st.just([(b"host", LOCAL.encode())]), HEADERS),
)
@example(path="/", method="GET", query="", headers=[(b"host", LOCAL.encode())])
def test_every_request_gets_one_answer(
    path: str, method: str, query: str, headers: list[tuple[bytes, bytes]]
) -> None:
    if path == "/events" and method == "GET":
        return  # it is answered until the client leaves: other tests look at that
    messages = ask(asgi_app(), scope_of(path, method=method, query=query, headers=headers))
    first, *rest = messages
    assert first["type"] == "http.response.start"
    assert first["status"] in ANSWERS
    assert [message["type"] for message in rest] == ["http.response.body"] * len(rest)
    assert not rest[-1].get("more_body")
    sent = dict(first["headers"])
    assert sent[b"x-content-type-options"] == b"nosniff"
    assert b"access-control-allow-origin" not in sent
    if first["status"] == 200:
        hosts = [value for name, value in headers if name == b"host"]
        assert len(hosts) == 1
        assert b"evil" not in hosts[0]
        assert method in {"GET", "HEAD"}


def ask(app: ASGIApp, scope: Any) -> list[Message]:
    """Everything that the application sends for a request."""
    messages: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        messages.append(message)

    asyncio.run(answer(app, scope, receive, send))
    return messages
