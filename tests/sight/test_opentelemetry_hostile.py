"""OpenTelemetry and errors that are told with trouble, and a fork in the middle of `instrument`."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tasker import Config, Runner, _registry
from tests.lifecycle.child import forked, say
from tests.lifecycle.support import posix_only, run
from tests.native.support import LogCapture, Runners
from tests.sight.telemetry import Telemetry, attributes

from opentelemetry.metrics import NoOpMeter, NoOpMeterProvider  # isort: skip
from opentelemetry.trace import StatusCode  # isort: skip
from tasker.opentelemetry import instrument  # isort: skip


class Unreadable(type):
    """A class of classes that have no names."""

    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)


class NamelessError(Exception, metaclass=Unreadable):
    """An error whose class tells nothing."""


class SilentError(Exception):
    """An error whose message raises."""

    def __str__(self) -> str:
        message = "no text"
        raise LookupError(message)


class OddError(Exception):
    """An error whose class has a name as no class should."""


OddError.__module__ = "\udfff"
OddError.__qualname__ = "Odd\n" + "x" * 10_000


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def raising(kind: type[Exception]) -> Any:
    """A task function, for items too."""

    def fail(_resource: object, *_item: object) -> None:
        raise kind

    return fail


def test_a_span_ends_where_the_class_of_the_error_cannot_be_asked(
    runners: Runners, telemetry: Telemetry
) -> None:
    runner = runners.start()
    with instrument(runner, spans=True, **telemetry.providers), telemetry.request():
        error = runner.options(name="nameless").submit(raising(NamelessError)).exception()
    assert type(error) is NamelessError
    span = telemetry.span("nameless")
    assert span.status.status_code is StatusCode.ERROR
    assert attributes(span)["error.type"] == f"{__name__}.NamelessError"


def test_names_of_errors_and_of_code_can_be_sent_and_are_bounded(
    runners: Runners, telemetry: Telemetry
) -> None:
    odd = raising(OddError)
    odd.__module__, odd.__qualname__ = "\udfff", "odd" * 10_000
    runner = runners.start()
    with instrument(runner, spans=True, **telemetry.providers), telemetry.request():
        runner.options(name="odd").submit(odd).exception()
    told = attributes(telemetry.span("odd"))
    for name in (told["error.type"], told["code.function.name"]):
        assert isinstance(name, str)
        assert len(name.encode()) < 1000
        assert name.isprintable()


def test_a_map_raises_the_error_of_its_task_where_the_span_cannot_record_it(
    runners: Runners, telemetry: Telemetry, log: LogCapture
) -> None:
    runner = runners.start()
    options: dict[str, Any] = {"spans": True, "record_exceptions": True}
    with instrument(runner, **options, **telemetry.providers), telemetry.request():
        with pytest.raises(SilentError):
            list(runner.options(name="all").map(raising(SilentError), range(2)))
        runner.options(name="one").submit(raising(SilentError)).exception()
    for name in ("all", "one"):
        assert attributes(telemetry.span(name))["error.type"] == f"{__name__}.SilentError"
    expected = f"a span cannot tell of its exception: {__name__}.SilentError, LookupError"
    assert [record.getMessage() for record in log.take(2)] == [expected] * 2


@pytest.mark.parametrize("one", [True, False])
def test_an_error_of_the_provider_leaves_nothing_instrumented(
    runners: Runners, telemetry: Telemetry, one: bool
) -> None:
    class Refusing(NoOpMeter):
        def create_observable_gauge(self, *_args: Any, **_options: Any) -> Any:
            message = "no gauges"
            raise LookupError(message)

    class Provider(NoOpMeterProvider):
        def get_meter(self, name: str, *_args: Any, **_options: Any) -> Refusing:
            return Refusing(name)

    runner = runners.start()
    shown = [runner] if one else []
    with pytest.raises(LookupError, match="no gauges"):
        instrument(*shown, spans=True, meter_provider=Provider())
    with instrument(*shown, **telemetry.providers):
        assert "tasker.task.accepted" in telemetry.metrics()


def test_an_end_that_ctrl_c_interrupts_can_be_made_again(
    telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_watcher: object) -> None:
        raise KeyboardInterrupt

    watchers = list(_registry._watchers)
    instrumentation = instrument(spans=True, **telemetry.providers)
    with monkeypatch.context() as patched:
        patched.setattr(_registry, "unwatch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            instrumentation.uninstrument()
    with instrument(**telemetry.providers):
        instrumentation.uninstrument()
    assert _registry._watchers == watchers


@posix_only
def test_a_child_that_was_forked_while_a_thread_instruments_can_take_back_and_instrument() -> None:
    def program() -> None:
        from opentelemetry.metrics import NoOpMeter, NoOpMeterProvider

        from tasker.opentelemetry import instrument

        reached, go_on = threading.Event(), threading.Event()

        class Meter(NoOpMeter):
            def create_observable_gauge(self, *args: Any, **options: Any) -> Any:
                reached.set()
                go_on.wait()
                return super().create_observable_gauge(*args, **options)

        class Provider(NoOpMeterProvider):
            def get_meter(self, name: str, *_args: Any, **_options: Any) -> Meter:
                return Meter(name)

        def child() -> None:
            instrumentation.uninstrument()
            with (
                Runner(Config(on_create=object, worker_count=1)) as runner,
                instrument(runner, meter_provider=NoOpMeterProvider()),
            ):
                say(runner.queue_task(lambda _: "works"))

        with (
            Runner(Config(on_create=object, worker_count=1)) as one,
            Runner(Config(on_create=object, worker_count=1)) as another,
        ):
            instrumentation = instrument(one, meter_provider=NoOpMeterProvider())
            thread = threading.Thread(
                target=instrument, args=[another], kwargs={"meter_provider": Provider()}
            )
            thread.start()
            reached.wait()
            say(forked(child))
            go_on.set()
            thread.join()

    assert run(program, options=("-W", "ignore::DeprecationWarning")) == ["works", "0"]
