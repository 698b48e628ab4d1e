"""What of OpenTelemetry has to be installed, and what is said where it is not."""

from __future__ import annotations

import sys

import pytest

from tasker import Config, Runner
from tests.lifecycle.child import say
from tests.lifecycle.support import run

pytest.importorskip("opentelemetry.trace")


def test_importing_the_package_imports_nothing_of_it() -> None:
    def program() -> None:
        import tasker

        say("opentelemetry" in sys.modules, "tasker.opentelemetry" in sys.modules)
        say(tasker.runners())

    assert run(program) == ["False False", "()"]


def test_without_the_api_the_extra_is_named() -> None:
    def program() -> None:
        sys.modules["opentelemetry"] = None  # type: ignore[assignment]
        try:
            import tasker.opentelemetry  # noqa: F401
        except ModuleNotFoundError as error:
            say(error, error.name)

    expected = "pip install 'tasker-rs[opentelemetry]' opentelemetry.metrics"
    assert run(program)[0].endswith(expected)


def test_without_the_sdk_nothing_is_recorded_and_all_works() -> None:
    def program() -> None:
        sys.modules["opentelemetry.sdk"] = None  # type: ignore[assignment]
        from opentelemetry import trace

        from tasker.opentelemetry import exporting, instrument

        with (
            Runner(Config(on_create=object, worker_count=1)) as runner,
            instrument(spans=True, record_times=True, as_connection_pool=True),
            trace.get_tracer("application").start_as_current_span("request"),
        ):
            say(runner.queue_task(lambda _: "done"))
            say(list(runner.map(lambda _, n: n, range(3))))
            say([future.result() for future in runner.submit_many(lambda _, n: n, range(3))])
            say(type(runner.map(lambda _, n: n, range(3))).__module__)
        try:
            exporting(None)  # type: ignore[arg-type]
        except ModuleNotFoundError as error:
            say(error)

    assert run(program) == [
        "done",
        "[0, 1, 2]",
        "[0, 1, 2]",
        "tasker",
        "exporting() needs the SDK of OpenTelemetry: pip install opentelemetry-sdk",
    ]
