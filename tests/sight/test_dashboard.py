"""The dashboard as a server has it: who may ask for what, what is sent, and what it costs."""

from __future__ import annotations

import asyncio
import gc
import html.parser
import re
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.resources import files
from typing import Any

import pytest

pytest.importorskip("httpx")
pytest.importorskip("metaflow_extensions")
pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

import httpx
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Scope

from tasker import Config, ConfigError, Runner
from tasker._sight.watch import Watch
from tasker.dashboard import Serving, asgi_app, serve
from tasker.dashboard._events import Event, Events
from tasker.dashboard._stream import Streams
from tests.native.support import LONG_TIMEOUT, Gate, Runners, eventually
from tests.sight.asking import LOCAL, Client, answer, looking, scope_of
from tests.sight.support import HOSTILE

STATIC = files("tasker.dashboard") / "static"


def ask(app: ASGIApp, path: str = "/", method: str = "GET", **headers: str) -> httpx.Response:
    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{LOCAL}") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(request())


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When runners were read."""
    times: list[float] = []
    views = Watch.views

    def noting(self: Watch) -> Any:
        times.append(time.monotonic())
        return views(self)

    monkeypatch.setattr(Watch, "views", noting)
    return times


# --- Who may ask for what ---


@pytest.mark.parametrize(
    ("path", "method", "host", "status"),
    [
        ("/", "GET", LOCAL, 200),
        ("/page.js", "GET", LOCAL, 200),
        ("/events", "HEAD", LOCAL, 200),
        ("/nothing", "GET", LOCAL, 404),
        ("/../page.js", "GET", LOCAL, 404),
        ("/", "POST", LOCAL, 405),
        ("/", "GET", "evil.example", 421),
        ("/", "GET", "", 400),
    ],
)
def test_every_answer_is_guarded(path: str, method: str, host: str, status: int) -> None:
    messages: list[Message] = []

    async def request() -> None:
        async def send(message: Message) -> None:
            messages.append(message)

        headers = [(b"host", host.encode())]
        scope = scope_of(path, method=method, headers=headers)
        await asyncio.wait_for(asgi_app()(scope, Client().receive, send), LONG_TIMEOUT)

    asyncio.run(request())
    start = messages[0]
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    assert start["status"] == status
    policy = headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert {part.partition(" ")[2] for part in policy} == {"'none'", "'self'"}
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "set-cookie" not in headers
    assert not any(name.startswith("access-control-") for name in headers)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:65535", "[::1]", "[::1]:80"]
)
def test_this_machine_may_ask(host: str) -> None:
    assert ask(asgi_app(), host=host).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("evil.example:80", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.", 421),
        ("0.0.0.0", 421),  # noqa: S104 - nobody binds to it
        ("[::]", 421),
        ("[::1", 400),
        ("::1", 400),
        ("localhost:x", 400),
        ("localhost@evil.example", 400),
        ("a b", 400),
        ("", 400),
    ],
)
def test_other_hosts_are_refused(host: str, status: int) -> None:
    for path in ("/", "/page.js", "/events"):
        assert ask(asgi_app(), path, host=host).status_code == status


def test_two_hosts_are_none() -> None:
    sent: list[Message] = []

    async def request() -> None:
        async def send(message: Message) -> None:
            sent.append(message)

        scope = scope_of("/", headers=[(b"host", b"localhost"), (b"host", b"localhost")])
        await asgi_app()(scope, Client().receive, send)

    asyncio.run(request())
    assert sent[0]["status"] == 400


def test_hosts_can_be_named() -> None:
    app = asgi_app(allowed_hosts=["Example.org"])
    assert ask(app, host="example.org:8443").status_code == 200
    assert ask(app, host="localhost").status_code == 421


@pytest.mark.parametrize("hosts", ["example.org", ["http://a"], ["a:80"], [""], [None], ["a b"]])
def test_what_is_no_host_is_refused(hosts: Any) -> None:
    with pytest.raises(ConfigError, match=r"^allowed_hosts must be "):
        asgi_app(allowed_hosts=hosts)


def test_what_is_no_runner_is_refused() -> None:
    given: Any = "db"
    for show in (asgi_app, serve):
        with pytest.raises(ConfigError, match=r"^runners\[0\] must be a Runner, got 'db'$"):
            show(given)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"])
def test_it_can_only_be_read(method: str) -> None:
    for path in ("/", "/events", "/page.js", "/nothing"):
        answer = ask(asgi_app(), path, method)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_a_web_socket_is_refused() -> None:
    sent: list[Message] = []

    async def connect() -> None:
        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        await asgi_app()({**scope_of("/events"), "type": "websocket"}, receive, send)

    asyncio.run(connect())
    assert [message["type"] for message in sent] == ["websocket.close"]


# --- The page ---


class _Used(html.parser.HTMLParser):
    """What a page refers to, and what stands in it."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert tag != "style"
        assert tag != "script" or given.get("src"), "a script in the page"
        assert not any(name == "style" or name.startswith("on") for name in given), attrs
        self.files += [given[name] or "" for name in ("src", "href") if name in given]


def test_all_that_the_page_uses_is_there_and_ours() -> None:
    app = asgi_app()
    page = _Used()
    page.feed(ask(app).text)
    used = set(page.files)
    for script in [name for name in page.files if name.endswith("page.js")]:
        used |= {f"{name}" for name in re.findall(r'from "\./(.*)"', ask(app, script).text)}
    assert used > {"page.js", "page.css", "icon.svg", "uPlot.iife.min.js"}
    for name in used:
        assert not re.match("[a-z]+:|//|/", name), name
        answer = ask(app, name)
        assert (answer.status_code, answer.content[:1] != b"") == (200, True), name


def test_no_script_of_the_page_writes_markup_or_runs_text() -> None:
    for name in ("page.js", "charts.js", "format.js"):
        script = (STATIC / name).read_text("utf-8")
        unsafe = r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|Function\("
        assert not re.search(unsafe, script)


def test_under_a_prefix_the_page_is_in_a_folder_of_its_own(runners: Runners) -> None:
    runners.start(name="db")
    app = Starlette(routes=[Mount("/in/tasker", asgi_app())])
    assert ask(app, "/in/tasker").headers["location"].endswith("/in/tasker/")
    for name in ("", "page.js", "uPlot.min.css"):
        assert ask(app, f"/in/tasker/{name}").status_code == 200

    async def look() -> None:
        async with looking(app, path="/in/tasker/events") as client:
            assert (await client.next())["status"] == 200
            assert (await client.event())["view"]["name"] == "db"

    asyncio.run(look())


def test_a_server_may_say_the_prefix() -> None:
    locations: list[str] = []

    async def request() -> None:
        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = dict(message["headers"])
                locations.append(f"{message['status']} {headers.get(b'location', b'').decode()}")

        for path in ("/in", "/in/", "/in/page.js"):
            await asgi_app()(scope_of(path, root_path="/in"), Client().receive, send)

    asyncio.run(request())
    assert locations == ["308 /in/", "200 ", "200 "]


# --- Events ---


def test_the_first_event_has_all_and_the_next_what_is_new(runners: Runners) -> None:
    runner = runners.start(worker_count=2, name="db")

    async def look() -> None:
        async with looking(asgi_app(runner)) as client:
            start = await client.next()
            assert dict(start["headers"])[b"content-type"] == b"text/event-stream"
            first = await client.event()
            assert first["runners"] == [{"number": 0, "name": "db", "state": "running"}]
            assert (first["view"]["workers_alive"], first["since"]) == (2, 0.0)
            # One at once, then one at each full second: the first of these may be too early for
            # a point.
            later = [await client.event() for _ in range(4)]
            times = [point[0] for event in later for point in event["points"]]
            assert len(times) in {3, 4}
            assert times == sorted(set(times))
            assert [event["since"] for event in later[-2:]] == times[-3:-1]

    asyncio.run(look())


def test_who_comes_later_gets_the_points_so_far(runners: Runners) -> None:
    app = asgi_app(runners.start())

    async def look() -> None:
        async with looking(app) as first:
            await first.next()
            for _ in range(4):
                await first.event()
            async with looking(app) as second:
                await second.next()
                assert len((await second.event())["points"]) >= 2

    asyncio.run(look())


def test_events_tell_of_the_runner_that_is_chosen(runners: Runners) -> None:
    one, two = runners.start(name="one"), runners.start(name="two")

    async def look() -> None:
        for query, name in [
            ("runner=1", "two"),
            ("runner=0", "one"),
            ("", "one"),
            ("runner=7", "one"),
            ("runner=x", "one"),
            ("runner=" + "9" * 5000, "one"),
        ]:
            async with looking(asgi_app(one, two), query) as client:
                await client.next()
                assert (await client.event())["view"]["name"] == name

    asyncio.run(look())


def test_without_a_runner_it_says_so_and_shows_one_that_starts(runners: Runners) -> None:
    async def look() -> None:
        async with looking(asgi_app()) as client:
            await client.next()
            assert await client.event() == {"runners": [], "view": None, "since": 0.0, "points": []}
            runners.start(name="late")
            while (event := await client.event())["view"] is None:
                pass
            assert event["view"]["name"] == "late"

    asyncio.run(look())


def test_a_runner_that_stops_is_shown_as_stopped_with_its_last_figures(runners: Runners) -> None:
    runner = runners.start()
    runner.queue_task(lambda _: None)

    async def look() -> None:
        async with looking(asgi_app()) as client:
            await client.next()
            assert (await client.event())["view"]["state"] == "running"
            await asyncio.to_thread(runner.stop)
            while (event := await client.event())["view"]["state"] != "stopped":
                pass
            assert event["view"]["completed"] == 1
            assert (await client.event())["runners"][0]["state"] == "stopped"

    asyncio.run(look())


def test_nothing_of_what_tasks_work_on_is_sent() -> None:
    class Resource:
        def __repr__(self) -> str:
            return "SECRET resource"

    def work(_resource: Resource, argument: str) -> str:
        if argument.startswith("fail"):
            raise ValueError(f"SECRET message of {argument}")
        return f"SECRET result of {argument}"

    config = Config(on_create=Resource, worker_count=1, name="db")
    with Runner(config) as runner:

        async def look() -> bytes:
            async with looking(asgi_app(runner)) as client:
                await client.next()
                runner.queue_task(work, "SECRET")
                assert runner.submit(work, "fail SECRET").exception()
                return b"".join([(await client.next())["body"] for _ in range(3)])

        sent = asyncio.run(look())
    assert b"ValueError" in sent
    assert b"work" in sent
    assert b"SECRET" not in sent


def test_names_are_printable_and_short(runners: Runners, gate: Gate) -> None:
    name = HOSTILE + "\x00\x85\u2028" + "y" * 10_000
    runner = runners.start(name=name)
    runner.options(name=name).submit(gate.hold)
    gate.wait_for(1)

    async def look() -> dict[str, Any]:
        async with looking(asgi_app(runner)) as client:
            await client.next()
            return await client.event()

    event = asyncio.run(look())
    view = event["view"]
    texts = [view["name"], event["runners"][0]["name"]]
    texts += [text for worker in view["workers"] for text in (worker["name"], worker["task"])]
    assert all(text.isprintable() and len(text) <= 80 for text in texts if text is not None), texts
    assert any("<script>" in text for text in texts if text)


# --- What it costs ---


def test_two_hundred_clients_share_one_reading_a_second(
    runners: Runners, readings: list[float]
) -> None:
    app = asgi_app(runners.start())

    async def look() -> None:
        clients = [Client() for _ in range(200)]
        tasks = [
            asyncio.create_task(answer(app, scope_of("/events"), client.receive, client.send))
            for client in clients
        ]
        for client in clients:
            await client.next()
        events = [[await client.event() for client in clients] for _ in range(3)]
        for client in clients:
            client.gone.set()
        await asyncio.wait_for(asyncio.gather(*tasks), LONG_TIMEOUT)
        # Each of them has seen the same second.
        assert len({event["view"]["time"] for event in events[1]}) <= 2

    asyncio.run(look())
    assert len(readings) <= readings[-1] - readings[0] + 2


def test_nothing_goes_on_when_nobody_looks(runners: Runners, readings: list[float]) -> None:
    app = asgi_app(runners.start())
    threads = threading.active_count()

    async def look() -> None:
        assert readings == []
        async with looking(app) as client:
            await client.next()
            await client.event()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        before = len(readings)
        await asyncio.sleep(1.2)
        assert len(readings) == before

    asyncio.run(look())
    assert threading.active_count() == threads


def test_a_runner_is_not_kept_alive(runners: Runners) -> None:
    runner = Runner(Config(on_create=object, worker_count=2))
    app = asgi_app(runner)
    seen = weakref.ref(runner)
    runner.stop()
    del runner
    gc.collect()
    assert seen() is None
    assert ask(app).status_code == 200


def test_a_client_that_takes_nothing_is_dropped() -> None:
    dropped: list[Scope] = []
    streams = Streams(Events(), patience=0.05, drop=dropped.append)
    sent: list[Message] = []

    async def look() -> None:
        never = asyncio.Event()

        async def send(message: Message) -> None:
            sent.append(message)
            if "body" in message:
                await never.wait()

        scope = scope_of("/events")
        await asyncio.wait_for(streams(scope, Client().receive, send), LONG_TIMEOUT)
        assert dropped == [scope]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(look())
    assert len(sent) == 2


def test_a_slow_client_misses_events_and_no_point(runners: Runners) -> None:
    app = asgi_app(runners.start())

    async def look() -> None:
        client, taken = Client(), asyncio.Event()

        async def send(message: Message) -> None:
            await client.send(message)
            await taken.wait()

        taken.set()
        task = asyncio.create_task(answer(app, scope_of("/events"), client.receive, send))
        await client.next()
        await client.event()
        await client.event()
        taken.clear()
        held = await client.event()
        async with looking(app) as other:
            await other.next()
            for _ in range(4):
                await other.event()
        taken.set()
        late = await client.event()
        assert late["since"] == held["points"][-1][0]
        assert len(late["points"]) > 1
        assert client.messages.empty()
        client.gone.set()
        await asyncio.wait_for(task, LONG_TIMEOUT)

    asyncio.run(look())


def test_a_client_that_goes_while_it_is_sent_something_is_no_error() -> None:
    async def look() -> None:
        async def send(message: Message) -> None:
            if "body" in message:
                raise OSError("it is gone")

        await asyncio.wait_for(
            asgi_app()(scope_of("/events"), Client().receive, send), LONG_TIMEOUT
        )

    asyncio.run(look())


def test_it_runs_in_other_event_loops(runners: Runners) -> None:
    trio = pytest.importorskip("trio")
    app = asgi_app(runners.start(name="db"))
    sent: list[Message] = []

    async def look() -> None:
        some = trio.Event()

        async def send(message: Message) -> None:
            sent.append(message)
            if len(sent) == 4:
                some.set()

        async def receive() -> Message:
            await some.wait()
            return {"type": "http.disconnect"}

        with trio.fail_after(LONG_TIMEOUT):
            await app(scope_of("/events"), receive, send)

    trio.run(look)
    assert [b'"name":"db"' in message.get("body", b"") for message in sent] == [False, *[True] * 3]


# --- The server of its own ---


@pytest.fixture
def page(runners: Runners) -> Iterator[Serving]:
    with serve(runners.start(name="db")) as page:
        yield page


def get(page: Serving, path: str = "") -> bytes:
    with urllib.request.urlopen(page.url + path, timeout=LONG_TIMEOUT) as got:  # noqa: S310 - our own
        return bytes(got.read(100_000))


@pytest.fixture
def connect(page: Serving) -> Iterator[Callable[..., socket.socket]]:
    """Makes clients that ask for events, and read what the test reads."""
    port = int(page.url.rstrip("/").rpartition(":")[2])
    with ExitStack() as clients:

        def ask(path: str = "/events") -> socket.socket:
            client = clients.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(LONG_TIMEOUT)
            client.connect(("127.0.0.1", port))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            return client

        yield ask


def until(client: socket.socket, text: bytes) -> bytes:
    """Reads until a text has come."""
    got = b""
    while text not in got:
        part = client.recv(65536)
        assert part, got[-200:]
        got += part
    return got


def test_it_serves_from_the_call_on_and_until_the_end(runners: Runners) -> None:
    runner = runners.start()
    with serve(runner) as page:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", page.url)
        assert repr(page) == f"<Serving {page.url}>"
        assert b"<title>tasker</title>" in get(page)
    page.close()
    with pytest.raises(OSError, match="refused"):
        get(page)
    assert "tasker-dashboard" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("port", [-1, 65536, "80", None, True, 1.5])
def test_what_is_no_port_is_refused(port: Any) -> None:
    with pytest.raises(ConfigError, match=r"^port must be "):
        serve(port=port)


def test_a_port_that_is_taken_is_an_error_of_the_call(page: Serving) -> None:
    port = int(page.url.rstrip("/").rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        serve(port=port)


def test_it_may_be_closed_at_once_and_by_many(runners: Runners) -> None:
    runners.start()
    for _ in range(20):
        page = serve()
        threads = [threading.Thread(target=page.close) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG_TIMEOUT)
            assert not thread.is_alive()


def test_two_hundred_browsers_may_look_and_all_are_told_of_the_end(
    page: Serving, connect: Callable[..., socket.socket]
) -> None:
    clients = [connect() for _ in range(200)]
    for client in clients:
        until(client, b'"state":"running"')
    page.close()
    for client in clients:
        # The last chunk: the answer has ended, and was not cut off.
        until(client, b"0\r\n\r\n")


@pytest.mark.timing
def test_its_thread_sleeps_when_nobody_looks(page: Serving, readings: list[float]) -> None:
    get(page)
    server = page._server
    eventually(lambda: not server.server_state.tasks)
    wakes: list[float] = []
    loop: Any = server._loop
    run_once = loop._run_once

    def noting() -> None:
        wakes.append(time.monotonic())
        run_once()

    loop._run_once = noting
    loop.call_soon_threadsafe(lambda: None)
    eventually(lambda: wakes)
    seen = len(wakes)
    time.sleep(1.0)
    assert len(wakes) - seen <= 2
    assert readings == []


def test_a_browser_that_reads_nothing_is_cut_off_and_the_others_are_served(
    page: Serving, connect: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = page._server
    monkeypatch.setattr(server._streams, "_patience", 0.3)
    at, much = Events.at, Event(b"data: " + b"x" * 8_000_000 + b"\n\n", 7, 0.0)

    def at_length(self: Events, second: int, number: int | None, since: float) -> Event:
        return much if number == 7 else at(self, second, number, since)

    monkeypatch.setattr(Events, "at", at_length)
    reading, deaf = connect(), connect("/events?runner=7")
    eventually(lambda: len(server.server_state.connections) == 2)
    while len(server.server_state.connections) == 2:
        until(reading, b"\n\n")
    assert get(page).startswith(b"<!doctype html>")
    until(reading, b"\n\n")
    # What the system had taken already, and no end of the answer.
    rest = b""
    while part := deaf.recv(65536):
        rest = part
    assert not rest.endswith(b"0\r\n\r\n")


@pytest.mark.timing
def test_the_end_does_not_wait_for_a_browser_that_reads_nothing(
    page: Serving, connect: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    much = Event(b"data: " + b"x" * 8_000_000 + b"\n\n", None, 0.0)
    monkeypatch.setattr(Events, "at", lambda *_: much)
    connect()
    connections = page._server.server_state.connections
    eventually(lambda: any(each.transport.get_write_buffer_size() for each in list(connections)))
    begin = time.monotonic()
    page.close()
    assert time.monotonic() - begin < 5


# --- Processes ---


def test_a_process_that_serves_ends_without_a_word() -> None:
    program = """
        import urllib.request
        from tasker import Config, Runner
        from tasker.dashboard import serve

        with Runner(Config(on_create=dict, worker_count=2)) as runner:
            with serve(runner) as page:
                stream = urllib.request.urlopen(page.url + "events")
                stream.readline()
            stream.read()
            stream.close()
            left = serve()
            urllib.request.urlopen(left.url).close()
    """
    assert python(program, "-X", "dev") == ("", "", 0)


def python(program: str, *options: str) -> tuple[str, str, int]:
    done = subprocess.run(
        [sys.executable, *options, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=LONG_TIMEOUT,
    )
    return done.stdout, done.stderr, done.returncode


@pytest.mark.skipif(sys.platform == "win32", reason="fork of POSIX")
def test_a_forked_child_leaves_the_server_to_its_parent() -> None:
    program = """
        import asyncio, os, urllib.error, urllib.request, warnings
        from tasker import Config, Runner
        from tasker.dashboard import serve
        from tests.sight.asking import looking
        warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads

        async def first(app):
            async with looking(app) as client:
                await client.next()
                return (await client.event())["view"]

        with Runner(Config(on_create=dict, worker_count=2, name="parent")) as runner:
            page = serve()
            stream = urllib.request.urlopen(page.url + "events")
            stream.readline()
            reader, writer = os.pipe()
            if (child := os.fork()) == 0:
                os.close(writer)
                os.read(reader, 1)  # until the parent has closed its own
                page.close()
                from tasker.dashboard import asgi_app
                with Runner(Config(on_create=dict, worker_count=2, name="child")):
                    assert asyncio.run(first(asgi_app()))["name"] == "child"
                    with serve() as own:
                        urllib.request.urlopen(own.url).close()
                os._exit(7)
            os.close(reader)
            urllib.request.urlopen(page.url).close()
            page.close()
            try:
                urllib.request.urlopen(page.url, timeout=5)
            except urllib.error.URLError as error:
                assert isinstance(error.reason, ConnectionRefusedError), error
            os.close(writer)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            stream.read()
            stream.close()
    """
    assert python(program) == ("", "", 0)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_server_that_shuts_down_is_not_held_up_by_who_looks() -> None:
    program = """
        import os, signal, threading, time, urllib.request
        import uvicorn
        from tasker import Config, Runner
        from tasker.dashboard import asgi_app

        import socket
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        ended = []

        def look():
            stream = urllib.request.urlopen(f"http://127.0.0.1:{port}/events")
            stream.readline()
            os.kill(os.getpid(), signal.SIGTERM)
            stream.read()
            stream.close()
            ended.append(True)

        signal.signal(signal.SIGTERM, lambda *_: None)
        with Runner(Config(on_create=dict, worker_count=2)) as runner:
            looker = threading.Thread(target=look)
            looker.start()
            server = uvicorn.Server(uvicorn.Config(asgi_app(), log_level="error"))
            server.run([listener])
            looker.join()
        print(ended)
    """
    assert python(program) == ("[True]\n", "", 0)


@pytest.mark.parametrize(
    ("library", "call"),
    [
        ("starlette", ""),
        ("metaflow_extensions", "tasker.dashboard.asgi_app()"),
        ("uvicorn", "tasker.dashboard.serve()"),
    ],
)
def test_without_a_library_it_says_what_to_install(library: str, call: str) -> None:
    program = f"""
        import sys
        sys.modules[{library!r}] = None
        import tasker
        try:
            import tasker.dashboard
            {call or "pass"}
        except ModuleNotFoundError as error:
            print(error)
    """
    said, noise, status = python(program)
    needed = {"metaflow_extensions": "metaflow-card-uplot"}.get(library, library)
    assert said == f"tasker.dashboard needs {needed}: pip install 'tasker-rs[dashboard]'\n", said
    assert (noise, status) == ("", 0)


def test_the_package_alone_imports_nothing_of_it() -> None:
    program = """
        import sys, tasker
        print([name for name in sys.modules if "starlette" in name or "dashboard" in name])
    """
    assert python(program) == ("[]\n", "", 0)
