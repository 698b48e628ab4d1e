"""Starting a runner: it comes back with every base worker equipped, or leaves nothing behind."""

from __future__ import annotations

import _thread
import threading
import time
from typing import Any

import pytest

from tasker import Config, ConfigError, Context, ResourceCreationError, Runner, RunnerStopped
from tests.native.support import (
    LONG_TIMEOUT,
    MOMENT,
    Call,
    Factory,
    Gate,
    LogCapture,
    Resource,
    Runners,
    at_once,
    eventually,
    runner_threads,
)


class Unusual(BaseException):
    """Not an `Exception`."""


def start(factory: Factory, workers: int = 1, **fields: Any) -> Runner[Any]:
    fields.setdefault("on_create", factory.create)
    return Runner(Config(worker_count=workers, on_destroy=factory.destroy, **fields))


def test_every_base_worker_has_its_resource_when_the_constructor_returns(runners: Runners) -> None:
    runner = runners.start(worker_count=5)
    assert len({resource.thread for resource in runners.factory.made}) == 5
    stats = runner.stats()
    assert (stats.base_workers, stats.active_workers, stats.starting_workers) == (5, 5, 0)


@pytest.mark.parametrize("config", [None, {"worker_count": 1}, Config])
def test_what_is_no_config_is_refused_by_name(config: Any) -> None:
    with pytest.raises(TypeError, match="config must be a Config, got "):
        Runner(config)


def test_a_subclass_may_extend_how_it_is_made(runners: Runners) -> None:
    class Labelled(Runner[Resource]):
        def __init__(self, config: Config[Resource], label: str, **options: Any) -> None:
            super().__init__(config, **options)
            self.label = label

        def __new__(
            cls, config: Config[Resource], label: str, *, timeout: float | None = None
        ) -> Labelled:
            del label
            return super().__new__(cls, config, timeout=timeout)

    class Small(Runner[Resource]):
        def __init__(self, config: Config[Resource], *, timeout: float | None = None) -> None:
            super().__init__(config, timeout=timeout)
            self.served = self.queue_task(lambda resource: resource.number)

    labelled = Labelled(runners.config(), "a label", timeout=LONG_TIMEOUT)
    runners.keep(labelled)
    assert (labelled.label, labelled.queue_task(lambda _: 7)) == ("a label", 7)
    small = Small(runners.config())
    runners.keep(small)
    assert small.served == 1


def test_resources_are_made_at_the_same_time(runners: Runners) -> None:
    barrier = threading.Barrier(4)
    runners.keep(Runner(Config(on_create=lambda: barrier.wait(LONG_TIMEOUT), worker_count=4)))


@pytest.mark.parametrize("error", [ConnectionRefusedError("db down"), Unusual("odd")])
def test_a_failed_creation_is_the_cause_of_the_constructors_error(
    log: LogCapture, error: BaseException
) -> None:
    def create() -> None:
        raise error

    with pytest.raises(ResourceCreationError, match=str(error)) as raised:
        Runner(Config(on_create=create, worker_count=1))
    assert raised.value.__cause__ is error
    assert isinstance(raised.value, RuntimeError)
    assert log.rest() == []


def test_when_one_creation_fails_the_others_are_destroyed() -> None:
    factory = Factory()
    three_are_made = threading.Barrier(4)

    def create() -> object:
        if three_are_made.wait(LONG_TIMEOUT) == 0:
            raise ConnectionRefusedError
        return factory.create()

    with pytest.raises(ResourceCreationError):
        start(factory, 4, on_create=create)
    assert len(factory.made) <= 3
    factory.check()
    assert runner_threads() == []


def test_a_hung_creation_is_abandoned_and_destroyed_when_it_returns() -> None:
    factory, gate = Factory(), Gate()
    first = threading.Semaphore(1)

    def create() -> object:
        if not first.acquire(blocking=False):
            gate.hold()
        return factory.create()

    with pytest.raises(ResourceCreationError, match=r"not all created within 0\.05 s"):
        Runner(Config(on_create=create, on_destroy=factory.destroy, worker_count=2), timeout=0.05)
    gate.open()
    eventually(lambda: runner_threads() == [])
    assert len(factory.made) == 2
    factory.check()


def test_the_time_limit_is_no_minimum(runners: Runners) -> None:
    began = time.monotonic()
    runners.keep(Runner(runners.config(), timeout=LONG_TIMEOUT))
    assert time.monotonic() - began < LONG_TIMEOUT / 2


def test_a_thread_that_cannot_start_is_a_failed_creation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    factory = Factory()
    starts = 0
    start_thread = threading.Thread.start

    def refuse_the_third(thread: threading.Thread) -> None:
        nonlocal starts
        starts += 1
        if starts == 3:
            message = "can't start new thread"
            raise RuntimeError(message)
        start_thread(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_the_third)
    with pytest.raises(ResourceCreationError) as raised:
        start(factory, 4)
    assert str(raised.value.__cause__) == "can't start new thread"
    factory.check()
    assert runner_threads() == []


def test_ctrl_c_during_the_start_leaves_nothing_behind() -> None:
    factory, gate = Factory(), Gate()

    def create() -> object:
        gate.hold()
        return factory.create()

    def interrupt() -> None:
        gate.wait_for(2)
        _thread.interrupt_main()

    interrupter = Call(interrupt)
    with pytest.raises(KeyboardInterrupt):
        start(factory, 2, on_create=create)
    interrupter.result()
    gate.open()
    eventually(lambda: runner_threads() == [])
    factory.check()


def test_ctrl_c_while_a_thread_is_started_is_no_failed_creation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start_thread(_thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    factory = Factory()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_thread)
        with pytest.raises(KeyboardInterrupt):
            start(factory)
    assert factory.made == []


def test_ctrl_c_while_a_failed_start_is_cleaned_up_is_not_lost() -> None:
    factory, gate = Factory(), Gate()
    is_first = threading.Semaphore(1)

    def create() -> object:
        if is_first.acquire(blocking=False):
            gate.wait_for()
            threading.Timer(MOMENT, _thread.interrupt_main).start()
            raise ConnectionRefusedError
        gate.hold()
        return factory.create()

    with pytest.raises(KeyboardInterrupt):
        start(factory, 2, on_create=create)
    gate.open()
    eventually(lambda: runner_threads() == [])
    factory.check()


def test_destroying_what_a_failed_start_left_may_fail_too(log: LogCapture) -> None:
    made = threading.Event()
    is_first = threading.Semaphore(1)

    def create() -> str:
        if is_first.acquire(blocking=False):
            made.set()
            return "resource"
        assert made.wait(LONG_TIMEOUT)
        raise ConnectionRefusedError

    def destroy(_resource: str) -> None:
        raise OSError

    with pytest.raises(ResourceCreationError):
        Runner(Config(on_create=create, on_destroy=destroy, worker_count=2))
    (record,) = log.take()
    assert record.exc_info
    assert record.exc_info[0] is OSError


def test_what_is_no_config_is_refused() -> None:
    with pytest.raises((TypeError, AttributeError)):
        Runner(object())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields", [{"on_create": None}, {"worker_count": -1}, {"worker_count": 2**70}]
)
def test_impossible_configs_never_reach_the_native_code(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Config(**{"on_create": object, "worker_count": 1, **fields})


def test_an_already_cancelled_context_starts_a_runner_that_ends(runners: Runners) -> None:
    context = Context()
    context.cancel()
    runner = runners.start(context=context)
    with pytest.raises(RunnerStopped):
        runner.submit(print)
    runner.stop(LONG_TIMEOUT)
    assert runner.state == "stopped"


@pytest.mark.stress
def test_runners_come_and_go_on_many_threads() -> None:
    def storm() -> None:
        for _ in range(20):
            with Runner(Config(on_create=object, worker_count=2)) as runner:
                assert runner.submit(lambda _: 1).result(LONG_TIMEOUT) == 1

    for call in at_once(4, storm):
        call.result()
