"""A resource belongs to one thread: made, used and destroyed there, exactly once."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import weakref
from collections.abc import Iterator

import pytest

from tasker import Config, Runner, StopTimeout
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Factory,
    Gate,
    LogCapture,
    Resource,
    Runners,
    break_down,
    eventually,
    is_healthy,
)


def is_used_at_home(resource: Resource) -> bool:
    return threading.get_ident() == resource.thread


def test_every_task_runs_on_its_resources_own_thread(runners: Runners) -> None:
    runner = runners.start(worker_count=3)
    futures = [runner.submit(is_used_at_home) for _ in range(50)]
    assert all(future.result(LONG_TIMEOUT) for future in futures)
    assert all(runner.run_task(is_used_at_home) for _ in range(5))


def test_a_worker_keeps_its_resource(runners: Runners) -> None:
    runner = runners.start()
    numbers = {runner.queue_task(lambda resource: resource.number) for _ in range(20)}
    assert numbers == {0}


def test_sqlite_with_its_thread_check_simply_works(tmp_path: object) -> None:
    config = Config(
        on_create=lambda: sqlite3.connect(f"{tmp_path}/app.db"),
        on_destroy=sqlite3.Connection.close,
        worker_count=2,
        check_health=lambda error: not isinstance(error, sqlite3.OperationalError),
        max_retries=1,
    )
    with Runner(config) as runner:
        runner.queue_task(lambda db: db.execute("create table t (x)").connection.commit())
        runner.run_task(lambda db: db.execute("insert into t values (1)").connection.commit())
        with pytest.raises(sqlite3.OperationalError):
            runner.queue_task(lambda db: db.execute("select * from nowhere"))
        count = "select count(*) from t"
        assert list(runner.map(lambda db, _: db.execute(count).fetchone()[0], range(4))) == [1] * 4


def test_stop_destroys_every_resource(runners: Runners) -> None:
    runner = runners.start(worker_count=3, resource_pool_size=2)
    runner.run_task(is_used_at_home)
    runner.stop(LONG_TIMEOUT)
    assert len(runners.factory.made) == 5
    assert runners.factory.alive == []


def test_kill_destroys_every_resource(runners: Runners) -> None:
    runner = runners.start(worker_count=3, resource_pool_size=2)
    runner.kill(LONG_TIMEOUT)
    assert len(runners.factory.made) == 5
    assert runners.factory.alive == []


def test_idle_workers_destroy_at_once_although_another_is_busy(
    runners: Runners, gate: Gate
) -> None:
    runner = runners.start(worker_count=3)
    runner.submit(gate.hold)
    gate.wait_for()
    with pytest.raises(StopTimeout):
        runner.stop(timeout=0)
    eventually(lambda: len(runners.factory.alive) == 1)


def test_a_bad_resource_is_destroyed_before_the_next_is_made(runners: Runners) -> None:
    events: list[str] = []

    def create() -> Resource:
        events.append("create")
        return runners.factory.create()

    def destroy(resource: Resource) -> None:
        events.append("destroy")
        runners.factory.destroy(resource)

    runner = runners.start(
        on_create=create, on_destroy=destroy, check_health=is_healthy, max_retries=0
    )
    with pytest.raises(Broken):
        runner.queue_task(break_down)
    assert runner.queue_task(is_used_at_home)
    assert events == ["create", "destroy", "create"]
    assert len({resource.thread for resource in runners.factory.made}) == 1


def test_an_on_destroy_that_fails_is_logged_and_the_others_still_run(log: LogCapture) -> None:
    gone: list[int] = []

    def destroy(number: int) -> None:
        gone.append(number)
        raise OSError(number)

    numbers = iter(range(10))
    runner = Runner(Config(on_create=lambda: next(numbers), on_destroy=destroy, worker_count=3))
    runner.stop(LONG_TIMEOUT)
    assert sorted(gone) == [0, 1, 2]
    records = log.take(3)
    assert len(records) == 3
    assert {record.exc_info and record.exc_info[0] for record in records} == {OSError}
    assert all("on_destroy failed" in record.getMessage() for record in records)


def test_a_runner_without_on_destroy_lets_go_of_its_resources() -> None:
    class Thing:
        pass

    refs: list[weakref.ref[Thing]] = []

    def create() -> Thing:
        thing = Thing()
        refs.append(weakref.ref(thing))
        return thing

    with Runner(Config(on_create=create, worker_count=2)) as runner:
        assert isinstance(runner.queue_task(lambda thing: thing), Thing)
        assert all(ref() is not None for ref in refs)
    assert [ref() for ref in refs] == [None, None]


def test_none_is_a_resource_too(runners: Runners) -> None:
    gone: list[None] = []
    runner = runners.keep(
        Runner(Config(on_create=lambda: None, on_destroy=gone.append, worker_count=1))
    )
    assert runner.queue_task(lambda resource: resource is None)
    runner.stop(LONG_TIMEOUT)
    assert gone == [None]


def test_the_resource_of_a_context_manager_is_left_on_its_thread(runners: Runners) -> None:
    factory = Factory()

    @contextlib.contextmanager
    def manager() -> Iterator[Resource]:
        resource = factory.create()
        yield resource
        factory.destroy(resource)

    config = Config.from_context_manager(
        manager, worker_count=2, check_health=is_healthy, max_retries=2
    )
    runner = runners.keep(Runner(config))
    with pytest.raises(Broken):
        runner.queue_task(break_down)
    assert runner.queue_task(is_used_at_home)
    assert runner.run_task(is_used_at_home)
    runner.stop(LONG_TIMEOUT)
    assert len(factory.made) >= 5
    factory.check()
