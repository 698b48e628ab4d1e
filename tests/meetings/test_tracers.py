"""Tracers: each task has the span and tags of its own call, and leaves none on its worker."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from threading import Thread
from typing import Any

import pytest

from tasker import Config, Future, Runner, ThreadPoolExecutor

LONG_TIMEOUT = 20.0

Submit = Callable[[Callable[[], Any]], Any]
"""Runs a function as a task, and returns its result."""


def by_submit(executor: Executor) -> Submit:
    return lambda function: executor.submit(function).result(LONG_TIMEOUT)


def by_map(executor: Executor) -> Submit:
    return lambda function: next(iter(executor.map(lambda _: function(), [0])))


def by_asyncio(executor: Executor) -> Submit:
    async def main(function: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(executor, function)

    return lambda function: asyncio.run(main(function))


VERBS = [by_submit, by_map, by_asyncio]


@pytest.fixture(params=["pool", "executor", "runner"])
def submits(request: pytest.FixtureRequest) -> Iterator[Callable[[], list[Submit]]]:
    """Makes one pool or runner of one worker, and gives every way to have it run a function."""
    ends: list[Callable[[], object]] = []

    def start() -> list[Submit]:
        if request.param == "pool":
            pool = ThreadPoolExecutor(1)
            ends.append(pool.shutdown)
            return [verb(pool) for verb in VERBS]
        runner = Runner(Config(on_create=object, worker_count=1))
        ends.append(runner.stop)
        if request.param == "executor":
            return [verb(runner.executor()) for verb in VERBS]
        return [
            lambda function: runner.submit(lambda _: function()).result(LONG_TIMEOUT),
            lambda function: runner.queue_task(lambda _: function()),
            lambda function: runner.run_task(lambda _: function()),
            lambda function: next(runner.map(lambda _, item: function(), [0])),
        ]

    yield start
    for end in ends:
        end()


def hire(submits: Callable[[], list[Submit]], ways: list[Submit]) -> Submit:
    """Starts the pool or runner, and gives the first way to use it."""
    ways += submits()
    return ways[0]


class TestOpenTelemetry:
    """`ThreadingInstrumentor` replaces `submit` of the standard pool, and what starts threads."""

    @pytest.fixture(autouse=True)
    def instrumented(self) -> Iterator[None]:
        threads = pytest.importorskip("opentelemetry.instrumentation.threading")
        instrumentor = threads.ThreadingInstrumentor()
        instrumentor.instrument()
        yield
        instrumentor.uninstrument()

    @staticmethod
    def current() -> tuple[object, object]:
        baggage = pytest.importorskip("opentelemetry.baggage")
        trace = pytest.importorskip("opentelemetry.trace")
        return trace.get_current_span().get_span_context().span_id, baggage.get_baggage("user")

    @pytest.fixture
    def request_of(self) -> Callable[..., Any]:
        """Runs a call inside a span with baggage; gives what the span's tasks have to see."""
        baggage = pytest.importorskip("opentelemetry.baggage")
        context = pytest.importorskip("opentelemetry.context")
        sdk = pytest.importorskip("opentelemetry.sdk.trace")
        tracer = sdk.TracerProvider().get_tracer("test")

        def request(user: str, call: Callable[[], Any]) -> tuple[object, Any]:
            with tracer.start_as_current_span(user) as span:
                token = context.attach(baggage.set_baggage("user", user))
                try:
                    return (span.get_span_context().span_id, user), call()
                finally:
                    context.detach(token)

        return request

    def test_each_task_has_its_own_span(
        self, submits: Callable[[], list[Submit]], request_of: Callable[..., Any]
    ) -> None:
        ways: list[Submit] = []
        # The request that hires the worker must not leave its span there.
        request_of("hires", lambda: hire(submits, ways)(self.current))
        for submit in ways:
            expected, seen = request_of("next", lambda submit=submit: submit(self.current))
            assert seen == expected
            assert submit(self.current) == (0, None)

    def test_it_may_be_switched_on_and_off_while_a_pool_lives(
        self, request_of: Callable[..., Any]
    ) -> None:
        threads = pytest.importorskip("opentelemetry.instrumentation.threading")
        instrumentor = threads.ThreadingInstrumentor()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(int).result(LONG_TIMEOUT)
            for _ in range(2):
                expected, seen = request_of("on", lambda: by_submit(pool)(self.current))
                assert seen == expected
                instrumentor.uninstrument()
                _, seen = request_of("off", lambda: by_submit(pool)(self.current))
                assert seen == (0, None)
                instrumentor.instrument()

    def test_the_future_of_a_task_is_ours(self) -> None:
        with ThreadPoolExecutor(1) as pool:
            assert type(pool.submit(int)) is Future


class TestSentry:
    """`ThreadingIntegration` forks the caller's scopes in `submit` of the standard pool."""

    @pytest.fixture(autouse=True)
    def initialized(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        sdk = pytest.importorskip("sentry_sdk")
        integration = pytest.importorskip("sentry_sdk.integrations.threading")
        transport = pytest.importorskip("sentry_sdk.transport")

        class Nowhere(transport.Transport):  # type: ignore[misc, name-defined]
            def capture_envelope(self, envelope: object) -> None:
                """Sends nothing."""

        # What it replaces it replaces for ever, and once.
        standard = concurrent.futures.ThreadPoolExecutor
        own = vars(standard)["submit"]
        for cls, name in ((standard, "submit"), (Thread, "start"), (Thread, "run")):
            monkeypatch.setattr(cls, name, vars(cls)[name])
        before = sdk.get_global_scope().client
        sdk.init(
            dsn="http://key@127.0.0.1:9/1",
            transport=Nowhere,
            default_integrations=False,
            integrations=[integration.ThreadingIntegration()],
        )
        if vars(standard)["submit"] is own:
            integration.ThreadingIntegration.setup_once()
        yield
        sdk.get_client().close(timeout=0)
        sdk.get_global_scope().set_client(before)

    @staticmethod
    def tags() -> dict[str, Any]:
        sentry_sdk = pytest.importorskip("sentry_sdk")
        return dict(sentry_sdk.get_isolation_scope()._tags)

    def test_each_task_has_its_own_tags(self, submits: Callable[[], list[Submit]]) -> None:
        sentry_sdk = pytest.importorskip("sentry_sdk")
        ways: list[Submit] = []
        with sentry_sdk.isolation_scope() as scope:
            scope.set_tag("user", "hires")
            hire(submits, ways)(self.tags)
        for submit in ways:
            with sentry_sdk.isolation_scope() as scope:
                scope.set_tag("user", "next")
                trace = sentry_sdk.get_current_scope().get_traceparent()
                assert submit(self.tags) == {"user": "next"}
                seen = submit(lambda: sentry_sdk.get_current_scope().get_traceparent())
                assert seen == trace
            assert submit(self.tags) == {}

    @pytest.mark.parametrize("submits", ["pool", "executor"], indirect=True)
    def test_tags_of_a_task_stay_in_it(self, submits: Callable[[], list[Submit]]) -> None:
        sentry_sdk = pytest.importorskip("sentry_sdk")
        for submit in submits():
            with sentry_sdk.isolation_scope():
                submit(lambda: sentry_sdk.set_tag("task", "x"))
                assert self.tags() == {}

    def test_tags_of_a_runners_task_stay_in_it_by_the_documented_recipe(self) -> None:
        sentry_sdk = pytest.importorskip("sentry_sdk")

        def task(resource: object) -> dict[str, Any]:
            with sentry_sdk.isolation_scope():
                sentry_sdk.set_tag("task", "x")
                return self.tags()

        runner = Runner(Config(on_create=object, worker_count=1))
        with runner, sentry_sdk.isolation_scope() as scope:
            scope.set_tag("user", "next")
            assert runner.submit(task).result(LONG_TIMEOUT) == {"user": "next", "task": "x"}
            assert self.tags() == {"user": "next"}
