"""Spans of OpenTelemetry: of attempts and of whole maps, whose children they are, how they end."""

from __future__ import annotations

import asyncio
import operator
import os
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from tasker import (
    Config,
    Context,
    Future,
    Priority,
    Results,
    Runner,
    TaskCancelled,
    TaskTimeout,
    current_context,
)
from tests.lifecycle.child import forked, say
from tests.lifecycle.support import posix_only, run
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    Gate,
    LogCapture,
    Runners,
    eventually,
    is_healthy,
)
from tests.sight.telemetry import Telemetry, attributes, number, parent

from opentelemetry import baggage, context, trace  # isort: skip
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF  # isort: skip
from opentelemetry.trace import SpanKind, StatusCode  # isort: skip
from tasker.opentelemetry import instrument  # isort: skip

Runs = Callable[[Runner[Any], Callable[..., Any]], object]
"""Runs a function as a task, and waits for it."""


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def work(_resource: object, *_item: object) -> int:
    """A task function that gives the number of the span that is current in it."""
    return trace.get_current_span().get_span_context().span_id


def fail(_resource: object, *_item: object) -> None:
    """A task function that fails."""
    message = "secret"
    raise LookupError(message)


def heed(told: Context) -> None:
    """Waits until a task is told to give up, and does."""
    told.wait(LONG_TIMEOUT)
    told.check()


def by_asubmit(runner: Runner[Any], function: Callable[..., Any]) -> object:
    async def main() -> object:
        return await runner.asubmit(function)

    return asyncio.run(main())


def by_amap(runner: Runner[Any], function: Callable[..., Any]) -> list[Any]:
    async def items() -> AsyncIterator[int]:
        for item in range(3):
            yield item

    async def main() -> list[Any]:
        return [result async for result in runner.amap(function, items())]

    return asyncio.run(main())


def by_submit_many(runner: Runner[Any], function: Callable[..., Any]) -> list[Any]:
    return [future.result(LONG_TIMEOUT) for future in runner.submit_many(function, range(3))]


SINGLE: dict[str, Runs] = {
    "submit": lambda runner, function: runner.submit(function).result(LONG_TIMEOUT),
    "asubmit": by_asubmit,
    "queue_task": lambda runner, function: runner.queue_task(function),
    "queue_task_with_priority": lambda runner, fn: runner.queue_task_with_priority(fn),
    "queue_task_once": lambda runner, function: runner.queue_task_once(function),
    "run_task": lambda runner, function: runner.run_task(function),
    "a view": lambda runner, function: runner.options(timeout=60).queue_task(function),
    "inside a task": lambda runner, function: runner.submit(
        lambda _: runner.run_task(function)
    ).result(LONG_TIMEOUT),
}
MANY: dict[str, Runs] = {
    "map": lambda runner, function: list(runner.map(function, range(3))),
    "map of slow input": lambda runner, function: list(runner.map(function, iter([1, 2, 3]))),
    "map with a limit": lambda runner, function: list(
        runner.options(timeout=60).map(function, range(3))
    ),
    "unordered map": lambda runner, function: list(runner.map(function, range(3), ordered=False)),
    "amap": by_amap,
    "submit_many": by_submit_many,
    "submit_many of a view": lambda runner, function: [
        future.result(LONG_TIMEOUT)
        for future in runner.options(priority=Priority.LOW).submit_many(function, range(3))
    ],
}


def verbs(of: dict[str, Runs]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("runs", of.values(), ids=of)


class TestAttempts:
    @verbs(SINGLE)
    def test_each_has_a_span_that_is_current_in_its_function(
        self, runners: Runners, telemetry: Telemetry, runs: Runs
    ) -> None:
        runner = runners.start(name="db")
        with instrument(runner, spans=True, **telemetry.providers), telemetry.request() as request:
            inside = runs(runner, work)
        span = telemetry.span("work")
        assert number(span) == inside
        if "<lambda>" not in telemetry.ended():
            assert parent(span) == number(request)
        else:
            outer = telemetry.span("<lambda>")
            assert (parent(span), parent(outer)) == (number(outer), number(request))
        assert span.kind is SpanKind.INTERNAL
        assert span.status.status_code is StatusCode.UNSET
        assert span.links == ()

    def test_it_says_where_it_ran_and_how_long_it_waited(
        self, runners: Runners, gate: Gate, telemetry: Telemetry
    ) -> None:
        runner = runners.start(name="db")
        with instrument(runner, spans=True, **telemetry.providers), telemetry.request():
            runner.submit(gate.hold)
            gate.wait_for()
            view = runner.options(priority=Priority.HIGH, name="count")
            waiting = view.submit(lambda _: threading.get_ident())
            eventually(lambda: runner.stats().oldest_wait > 0.01)
            gate.open()
            thread = waiting.result(LONG_TIMEOUT)
        told = attributes(telemetry.span("count"))
        assert 0.01 < told.pop("tasker.task.wait_time") < LONG_TIMEOUT
        assert told == {
            "tasker.runner.name": "db",
            "tasker.task.attempt": 1,
            "tasker.task.priority": "high",
            "tasker.resource.generation": 1,
            "thread.name": "db-worker-1",
            "thread.id": thread,
            "code.function.name": f"{__name__}.{TestAttempts.__qualname__}."
            "test_it_says_where_it_ran_and_how_long_it_waited.<locals>.<lambda>",
        }

    @verbs(SINGLE | MANY)
    @pytest.mark.parametrize("spans", [True, "each"])
    def test_there_is_none_without_a_span_at_submission(
        self, runners: Runners, telemetry: Telemetry, runs: Runs, spans: Any
    ) -> None:
        with instrument(spans=spans, **telemetry.providers):
            runs(runners.start(), work)
        assert telemetry.ended() == []

    @verbs(SINGLE | MANY)
    def test_there_is_none_where_the_request_is_not_sampled(
        self, runners: Runners, runs: Runs
    ) -> None:
        telemetry = Telemetry(sampler=ALWAYS_OFF)
        # A provider that would sample all.
        tracers = Telemetry()
        with instrument(spans=True, tracer_provider=tracers.tracers), telemetry.request():
            runs(runners.start(), work)
        assert tracers.ended() == []

    def test_a_request_that_has_ended_by_then_is_the_parent_all_the_same(
        self, runners: Runners, gate: Gate, telemetry: Telemetry
    ) -> None:
        runner = runners.start()
        with instrument(runner, spans=True, **telemetry.providers):
            runner.submit(gate.hold)
            gate.wait_for()
            with telemetry.request() as request:
                waiting = runner.submit(work)
            gate.open()
            waiting.result(LONG_TIMEOUT)
        assert parent(telemetry.span("work")) == number(request)

    def test_the_rest_of_the_context_is_the_submitters(
        self, runners: Runners, telemetry: Telemetry
    ) -> None:
        runner = runners.start()
        with instrument(runner, spans=True, **telemetry.providers), telemetry.request():
            token = context.attach(baggage.set_baggage("user", "ann"))
            seen = runner.queue_task(lambda _: baggage.get_baggage("user"))
            context.detach(token)
        assert seen == "ann"

    def test_a_span_inside_is_a_child(self, runners: Runners, telemetry: Telemetry) -> None:
        def query(_resource: object) -> None:
            with telemetry.request("select"):
                pass

        runner = runners.start()
        with instrument(runner, spans=True, **telemetry.providers), telemetry.request():
            runner.queue_task(query)
        assert parent(telemetry.span("select")) == number(telemetry.span("query"))

    def test_a_failure_is_told_by_its_type_alone(
        self, runners: Runners, telemetry: Telemetry
    ) -> None:
        runner = runners.start()
        with instrument(runner, spans=True, **telemetry.providers), telemetry.request():
            error = runner.submit(fail).exception()
        span = telemetry.span("fail")
        assert attributes(span)["error.type"] == "LookupError"
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
        assert span.events == ()
        # The traceback is that of the task, without a trace of who looked on.
        frames = traceback.extract_tb(error.__traceback__ if error else None)
        assert [frame.name for frame in frames] == ["fail"]

    def test_an_exception_is_recorded_where_asked_for(
        self, runners: Runners, telemetry: Telemetry
    ) -> None:
        runner = runners.start()
        with (
            instrument(runner, spans=True, record_exceptions=True, **telemetry.providers),
            telemetry.request(),
        ):
            runner.submit(fail).exception()
        (event,) = telemetry.span("fail").events
        assert (event.attributes or {})["exception.message"] == "secret"

    @pytest.mark.parametrize("spans", [True, "each"])
    @pytest.mark.parametrize("many", [False, True])
    def test_each_attempt_has_its_own(
        self, runners: Runners, telemetry: Telemetry, spans: Any, many: bool
    ) -> None:
        def flaky(_resource: object, *_item: object) -> None:
            if current_context().attempt == 1:
                raise Broken

        runner = runners.start(check_health=is_healthy)
        with (
            instrument(runner, spans=spans, **telemetry.providers),
            telemetry.request() as request,
        ):
            if many:
                list(runner.map(flaky, range(1)))
            else:
                runner.queue_task(flaky)
        if many and spans is True:
            assert telemetry.span("flaky").status.status_code is StatusCode.UNSET
            return
        first, second = telemetry.spans("flaky", 2)
        told = [attributes(span) for span in (first, second)]
        assert [each["tasker.task.attempt"] for each in told] == [1, 2]
        assert [each["tasker.resource.generation"] for each in told] == [1, 2]
        assert told[0]["error.type"] == f"{Broken.__module__}.Broken"
        assert "error.type" not in told[1]
        assert [parent(span) for span in (first, second)] == [number(request)] * 2

    def test_what_outlives_its_time_limit_has_timed_out(
        self, runners: Runners, gate: Gate, telemetry: Telemetry
    ) -> None:
        runner = runners.start(worker_count=2)
        with instrument(runner, spans=True, **telemetry.providers), telemetry.request():
            late = runner.options(timeout=0.01, name="late").submit(gate.hold)
            heeds = runner.options(timeout=0.01, name="heeds").submit(
                lambda _: heed(current_context())
            )
            for future in (late, heeds):
                with pytest.raises(TaskTimeout):
                    future.result(LONG_TIMEOUT)
            gate.open()
            for name in ("late", "heeds"):
                span = telemetry.span(name)
                assert attributes(span)["error.type"] == "tasker.TaskTimeout"
                assert span.status.status_code is StatusCode.ERROR

    def test_what_never_started_has_none(
        self, runners: Runners, gate: Gate, telemetry: Telemetry
    ) -> None:
        runner = runners.start()
        with instrument(runner, spans=True, **telemetry.providers), telemetry.request():
            runner.submit(gate.hold)
            gate.wait_for()
            expired = runner.options(timeout=0.01).submit(work)
            cancelled, dropped = runner.submit(work), runner.submit(work)
            cancelled.cancel()
            with pytest.raises(TaskTimeout):
                expired.result(LONG_TIMEOUT)
            runner.cancel_queued()
            gate.open()
            with pytest.raises(TaskCancelled):
                dropped.result(LONG_TIMEOUT)
            telemetry.span("hold")
        assert telemetry.ended() == ["hold", "request"]

    def test_a_kill_ends_what_heeds_it_with_an_error(
        self, runners: Runners, telemetry: Telemetry
    ) -> None:
        started = threading.Event()

        def wait(_resource: object) -> None:
            started.set()
            heed(current_context())

        runner = runners.start()
        with instrument(runner, spans=True, **telemetry.providers), telemetry.request():
            running = runner.submit(wait)
            assert started.wait(LONG_TIMEOUT)
            runner.kill()
        with suppress(TaskCancelled):
            running.result(LONG_TIMEOUT)
        assert attributes(telemetry.span("wait"))["error.type"] == "tasker.TaskCancelled"

    def test_runners_made_later_have_spans_too(
        self, runners: Runners, telemetry: Telemetry
    ) -> None:
        with instrument(spans=True, **telemetry.providers), telemetry.request():
            runners.start().queue_task(work)
        telemetry.span("work")

    def test_an_end_in_the_middle_ends_what_runs_and_begins_nothing(
        self, runners: Runners, gate: Gate, telemetry: Telemetry
    ) -> None:
        runner = runners.start()
        instrumentation = instrument(spans=True, **telemetry.providers)
        with telemetry.request():
            running = runner.submit(gate.hold)
            gate.wait_for()
            instrumentation.uninstrument()
            gate.open()
            running.result(LONG_TIMEOUT)
            telemetry.span("hold")
            runner.queue_task(work)
            runners.start().queue_task(work)
            assert isinstance(runner.map(work, range(3)), Results)
        assert telemetry.ended() == ["hold", "request"]
        assert runner._observer_of(work) is None

    def test_tasks_without_their_submitters_context_have_none(
        self, runners: Runners, telemetry: Telemetry
    ) -> None:
        with instrument(spans=True, **telemetry.providers), telemetry.request():
            runner = runners.start(copy_contextvars=False)
            runner.queue_task(work)
            list(runner.map(work, range(3)))
            by_submit_many(runner, work)
        assert telemetry.ended() == ["request"]

    def test_a_tracer_that_fails_is_logged_and_harms_no_task(
        self,
        runners: Runners,
        telemetry: Telemetry,
        log: LogCapture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def refuse(*_args: object, **_options: object) -> None:
            message = "no more spans"
            raise RuntimeError(message)

        runner = runners.start(name="db")
        with telemetry.request(), instrument(runner, spans=True, **telemetry.providers):
            tracer = type(telemetry.tracers.get_tracer("any"))
            monkeypatch.setattr(tracer, "start_span", refuse)
            assert runner.queue_task(lambda _: 1) == 1
        (record,) = log.take()
        assert record.getMessage() == "db-worker-1: the observer failed"

    def test_an_executor_of_the_runner_has_spans_too(
        self, runners: Runners, telemetry: Telemetry
    ) -> None:
        runner = runners.start()
        with (
            instrument(runner, spans=True, **telemetry.providers),
            telemetry.request() as request,
            runner.executor() as executor,
        ):
            executor.submit(divmod, 7, 2).result(LONG_TIMEOUT)
        span = telemetry.span("divmod")
        assert parent(span) == number(request)
        assert attributes(span)["code.function.name"] == "builtins.divmod"


class TestWholes:
    @verbs(MANY)
    def test_items_share_one_span(self, runners: Runners, telemetry: Telemetry, runs: Runs) -> None:
        runner = runners.start(name="db", worker_count=2)
        with instrument(runner, spans=True, **telemetry.providers), telemetry.request() as request:
            inside = runs(runner, work)
        span = telemetry.span("work")
        assert inside == [number(span)] * 3
        assert parent(span) == number(request)
        assert attributes(span) == {"tasker.runner.name": "db"}
        assert telemetry.ended().count("work") == 1

    @verbs(MANY)
    def test_items_have_spans_of_their_own_where_asked_for(
        self, runners: Runners, telemetry: Telemetry, runs: Runs
    ) -> None:
        runner = runners.start(worker_count=2)
        with (
            instrument(runner, spans="each", **telemetry.providers),
            telemetry.request() as request,
        ):
            inside = runs(runner, work)
        spans = telemetry.spans("work", 3)
        assert isinstance(inside, list)
        assert sorted(inside) == sorted(number(span) for span in spans)
        assert {parent(span) for span in spans} == {number(request)}

    @verbs(MANY)
    def test_tasks_that_items_submit_are_no_items(
        self, runners: Runners, telemetry: Telemetry, runs: Runs
    ) -> None:
        runner = runners.start()
        with instrument(runner, spans=True, **telemetry.providers), telemetry.request():
            runs(runner, lambda _, item: runner.queue_task(work))
        whole = telemetry.span("<lambda>")
        assert {parent(span) for span in telemetry.spans("work", 3)} == {number(whole)}

    def test_it_links_to_other_spans_that_take_results(
        self, runners: Runners, telemetry: Telemetry
    ) -> None:
        runner = runners.start()
        with instrument(runner, spans=True, **telemetry.providers):
            with telemetry.request():
                results = runner.map(work, range(100), buffersize=1)
                next(results)
            with telemetry.request("consumer") as consumer:
                next(results)
                next(results)
            list(results)
        linked = [link.context.span_id for link in telemetry.span("work").links]
        assert linked == [number(consumer)]

    @pytest.mark.parametrize("end", ["close", "with", "drop"])
    def test_results_that_are_not_used_up_end_it(
        self, runners: Runners, telemetry: Telemetry, end: str
    ) -> None:
        runner = runners.start()
        with instrument(runner, spans=True, **telemetry.providers), telemetry.request():
            results = runner.map(work, range(100), buffersize=1)
            next(results)
            assert telemetry.ended() == []
            if end == "close":
                results.close()
            elif end == "with":
                with results:
                    pass
            del results
            assert telemetry.ended() == ["work"]
        assert telemetry.span("work").status.status_code is StatusCode.UNSET

    def test_results_are_as_without_it(self, runners: Runners, telemetry: Telemetry) -> None:
        runner = runners.start(name="db")
        with instrument(runner, spans=True, **telemetry.providers), telemetry.request():
            results = runner.map(lambda _, n: n, range(3))
            assert isinstance(results, Results)
            assert iter(results) is results
            assert operator.length_hint(results) == 3
            assert repr(results).startswith("<Results of runner 'db'")
            assert list(results) == [0, 1, 2]
            assert operator.length_hint(results) == 0
            open_ended = runner.map(lambda _, n: n, iter([1, 2]))
            assert operator.length_hint(open_ended, 7) == 7
            open_ended.close()

    @pytest.mark.parametrize("verb", ["map", "amap"])
    def test_an_iteration_that_fails_ends_it_with_the_error(
        self, runners: Runners, telemetry: Telemetry, verb: str
    ) -> None:
        runner = runners.start()
        with (
            instrument(runner, spans=True, **telemetry.providers),
            telemetry.request(),
            pytest.raises(LookupError),
        ):
            MANY[verb](runner, fail)
        span = telemetry.span("fail")
        assert attributes(span)["error.type"] == "LookupError"
        assert span.status.status_code is StatusCode.ERROR

    @pytest.mark.parametrize("verb", ["map", "amap", "submit_many"])
    def test_a_call_that_fails_leaves_no_span_open(
        self, runners: Runners, telemetry: Telemetry, verb: str
    ) -> None:
        class Stop(BaseException):
            pass

        def items() -> Iterator[int]:
            yield 1
            raise Stop

        runner = runners.start()
        with (
            instrument(runner, spans=True, **telemetry.providers),
            telemetry.request(),
            suppress(Stop),
        ):
            if verb == "amap":
                asyncio.run(_drain(runner, items()))
            elif verb == "map":
                list(runner.map(work, items()))
            else:
                runner.submit_many(work, items())
        # An input of `submit_many` is read before it begins.
        expected = [] if verb == "submit_many" else ["work"]
        assert [name for name in telemetry.ended() if name != "request"] == expected

    def test_submit_many_ends_it_with_its_last_task(
        self, runners: Runners, gate: Gate, telemetry: Telemetry
    ) -> None:
        runner = runners.start(worker_count=2)
        with instrument(runner, spans=True, **telemetry.providers), telemetry.request():
            futures = runner.submit_many(gate.hold_then_return, range(5))
        gate.wait_for(2)
        assert telemetry.ended() == ["request"]
        futures.pop().cancel()
        gate.open()
        assert [future.result(LONG_TIMEOUT) for future in futures] == [0, 1, 2, 3]
        telemetry.span("hold_then_return")

    def test_errors_of_submit_many_that_nobody_asks_for_are_logged(
        self, runners: Runners, telemetry: Telemetry, log: LogCapture
    ) -> None:
        runner = runners.start()
        with instrument(runner, spans=True, **telemetry.providers), telemetry.request():
            futures: list[Future[None]] = runner.submit_many(fail, [1])
            runner.stop()
            del futures
        (record,) = log.take()
        assert "fail" in record.getMessage()
        telemetry.span("fail")

    def test_an_amap_that_is_left_ends_it(self, runners: Runners, telemetry: Telemetry) -> None:
        async def main() -> None:
            results = runner.amap(work, range(100))
            unused = runner.amap(work, range(100))
            with telemetry.request():
                await anext(results)
                await results.aclose()
            await unused.aclose()

        runner = runners.start()
        with instrument(runner, spans=True, **telemetry.providers):
            asyncio.run(main())
        assert telemetry.ended() == ["work", "request"]


class TestBesideTheInstrumentationOfThreads:
    @pytest.fixture(autouse=True)
    def instrumented(self) -> Iterator[None]:
        threads = pytest.importorskip("opentelemetry.instrumentation.threading")
        instrumentor = threads.ThreadingInstrumentor()
        instrumentor.instrument()
        yield
        instrumentor.uninstrument()

    @verbs(SINGLE | MANY)
    def test_each_task_is_the_child_of_its_own_request(
        self, runners: Runners, telemetry: Telemetry, runs: Runs
    ) -> None:
        with instrument(spans=True, **telemetry.providers):
            # The request that starts the worker must not be the parent of what it runs later.
            with telemetry.request("starts the worker"):
                runner = runners.start()
            runs(runner, work)
            with telemetry.request() as request:
                runs(runner, work)
        outer = [
            number(span)
            for name in {"<lambda>"} & {*telemetry.ended()}
            for span in telemetry.spans(name)
        ]
        assert parent(telemetry.span("work")) in {number(request), *outer}

    def test_what_a_worker_inherits_is_no_parent(
        self, runners: Runners, telemetry: Telemetry
    ) -> None:
        with instrument(spans=True, **telemetry.providers), telemetry.request():
            runners.start(copy_contextvars=False).queue_task(work)
        assert telemetry.ended() == ["request"]

    def test_a_call_by_the_executor_has_one_span(
        self, runners: Runners, telemetry: Telemetry
    ) -> None:
        runner = runners.start()
        with (
            instrument(spans=True, **telemetry.providers),
            telemetry.request() as request,
            runner.executor() as executor,
        ):
            executor.submit(work, None).result(LONG_TIMEOUT)
        (span,) = [name for name in telemetry.ended() if name != "request"]
        assert parent(telemetry.span(span)) == number(request)


@posix_only
def test_a_span_ends_in_the_process_that_began_it() -> None:
    def program() -> None:
        from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

        from tasker.opentelemetry import instrument

        class Saying(SpanProcessor):
            def on_end(self, span: ReadableSpan) -> None:
                say(span.name, os.getpid() == process)

        def fork(_resource: object) -> int:
            child = os.fork()
            if child:
                os.waitpid(child, 0)
            return child

        process = os.getpid()
        tracers = TracerProvider()
        tracers.add_span_processor(Saying())
        with (
            Runner(Config(on_create=object, worker_count=1)) as runner,
            instrument(runner, spans=True, tracer_provider=tracers),
            tracers.get_tracer("application").start_as_current_span("request"),
        ):
            runner.options(name="forks").queue_task(fork)

    assert run(program, options=("-W", "ignore::DeprecationWarning")) == [
        "forks True",
        "request True",
    ]


@posix_only
def test_a_span_of_a_whole_ends_in_the_process_that_began_it() -> None:
    def program() -> None:
        from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

        from tasker.opentelemetry import instrument

        class Saying(SpanProcessor):
            def on_end(self, span: ReadableSpan) -> None:
                say(span.name, os.getpid() == process)

        process = os.getpid()
        tracers = TracerProvider()
        tracers.add_span_processor(Saying())
        gate = threading.Event()
        with (
            Runner(Config(on_create=object, worker_count=1)) as runner,
            instrument(runner, spans=True, tracer_provider=tracers),
        ):
            with tracers.get_tracer("application").start_as_current_span("request"):
                view = runner.options(name="submit_many")
                futures = view.submit_many(lambda _, n: gate.wait(), range(3))
                results = runner.options(name="map").map(lambda _, n: gate.wait(), range(3))

            def child() -> None:
                results.close()
                futures.clear()

            say(forked(child))
            gate.set()
            results.close()

    # The last two end each in a thread of its own.
    said = run(program, options=("-W", "ignore::DeprecationWarning"))
    assert said[:2] == ["request True", "0"]
    assert sorted(said[2:]) == ["map True", "submit_many True"]


def test_calls_from_many_threads_each_have_their_own_parent(
    runners: Runners, telemetry: Telemetry
) -> None:
    def request(name: str) -> tuple[int, int]:
        with telemetry.request() as span:
            return runner.options(name=name).queue_task(work), number(span)

    runner = runners.start(worker_count=4)
    with instrument(runner, spans=True, **telemetry.providers):
        calls = {str(name): Call(request, str(name)) for name in range(20)}
        for name, call in calls.items():
            inside, outer = call.result()
            span = telemetry.span(name)
            assert (number(span), parent(span)) == (inside, outer)


async def _drain(runner: Runner[Any], items: Iterator[int]) -> None:
    async for _ in runner.amap(work, items):
        pass
