"""Errors of tasks, and what cannot be sent to an actor or back."""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import threading
from typing import Any

import pytest

from tasker import (
    Config,
    ConfigError,
    ResourceCreationError,
    ResultNotPicklable,
    Runner,
    RunnerBroken,
    TaskNotPicklable,
)
from tests.ray.conftest import Make
from tests.ray.functions import Resource, same, square


class Odd(Exception):
    """Pickles, and does not come back."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first}{second}")


class Left(Exception):
    """Comes back whole."""


def test_an_error_of_a_task_arrives_as_itself_with_its_cause_and_notes(make: Make) -> None:
    def chain(_resource: Resource) -> None:
        try:
            os.environ["NO_SUCH_VARIABLE"]
        except KeyError as error:
            fault = Left("why")
            fault.add_note("a note")
            raise fault from error

    error = make().submit(chain).exception(timeout=60)
    assert type(error) is Left
    assert error.args == ("why",)
    assert isinstance(error.__cause__, KeyError)
    assert "a note" in error.__notes__
    (where,) = [note for note in error.__notes__ if "In the actor" in note]
    assert "in chain" in where
    assert "_desk.py" not in where


def test_an_error_that_cannot_be_pickled_is_named_with_the_reason(make: Make) -> None:
    runner = make()

    def held(_resource: Resource) -> None:
        raise Left(threading.Lock())

    with pytest.raises(ResultNotPicklable, match=r"Left.*cannot be pickled") as caught:
        runner.queue_task(held)
    assert isinstance(caught.value.__cause__, TypeError)

    def odd(_resource: Resource) -> None:
        raise Odd("a", "b")

    with pytest.raises(ResultNotPicklable, match="Odd"):
        runner.queue_task(odd)
    assert runner.queue_task(square, 2) == 4


def test_a_result_that_cannot_be_pickled_is_named_with_the_object_at_fault(make: Make) -> None:
    def bad(_resource: Resource) -> dict[str, Any]:
        return {"fine": 1, "inside": [threading.Lock()]}

    view = make().options(name="bad")
    with pytest.raises(
        ResultNotPicklable, match=r"bad.* sent back: .*\['inside'\]\[0\].*lock"
    ) as caught:
        view.queue_task(bad)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value.__cause__, TypeError)


def test_what_cannot_be_sent_is_refused_at_the_submit_and_named(make: Make) -> None:
    lock: Any = threading.Lock()
    runner = make()
    with pytest.raises(TaskNotPicklable, match=r'task "square".*argument 1 is <unlocked.*lock'):
        runner.submit(square, lock)
    with pytest.raises(TypeError, match=r"argument 'value'.*\['deep'\]"):
        runner.submit(same, value={"deep": lock})
    with pytest.raises(TaskNotPicklable, match=r"its function's variable lock"):
        runner.submit(lambda _: lock)
    with pytest.raises(TaskNotPicklable):
        runner.submit_many(same, [1, lock])
    assert runner.metrics().total_tasks_arrived == 0


class Closed:
    """Lets nobody look inside, nor pickle it."""

    def __getattribute__(self, name: str) -> Any:
        raise ValueError(name)

    def __repr__(self) -> str:
        raise ValueError


def test_what_lets_nobody_look_inside_is_refused_all_the_same(make: Make) -> None:
    with pytest.raises(TaskNotPicklable, match="argument 1"):
        make().submit(same, Closed())


def test_a_config_that_cannot_be_sent_is_refused_and_named(cluster: object, make: Make) -> None:
    del cluster
    lock = threading.Lock()
    with pytest.raises(TaskNotPicklable, match=r"on_create's variable lock"):
        make(on_create=lambda: lock)


def test_what_can_be_no_task_is_refused(make: Make) -> None:
    async def coroutine(_resource: Resource) -> None: ...

    runner: Any = make()
    with pytest.raises(TypeError, match="coroutine"):
        runner.submit(coroutine)
    with pytest.raises(TypeError):
        runner.submit(3)


def test_an_error_of_on_create_is_the_cause(make: Make) -> None:
    def fail_to_create() -> None:
        raise ConnectionError("no server")

    with pytest.raises(ResourceCreationError, match="no server") as caught:
        make(on_create=fail_to_create)
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_an_actor_that_cannot_be_placed_is_given_up_in_time(make: Make) -> None:
    settings = {"actor_options": {"resources": {"unobtainium": 1}}, "creation_timeout": 2.0}
    with pytest.raises(ResourceCreationError, match="creation_timeout=2 s"):
        make(settings=settings)


@pytest.mark.parametrize(
    "name", ["max_restarts", "max_task_retries", "max_concurrency", "concurrency_groups"]
)
def test_options_that_would_run_tasks_twice_are_refused(make: Make, name: str) -> None:
    with pytest.raises(ConfigError, match=f"actor_options: {name}"):
        make(settings={"actor_options": {name: 1}})


@pytest.mark.parametrize(
    "settings",
    [
        {"max_out": 0},
        {"creation_timeout": 0},
        {"contextvars": [3]},
        {"contextvars": 3},
        {"contextvars": "tests.ray.carried.tenant"},
        {"actor_options": 3},
        {"actor_options": {"nonsense": 1}},
        {"actor_options": {"num_cpus": -1}},
        {"actor_options": {"runtime_env": {"working_dir": "/no/such/directory"}}},
    ],
)
def test_wrong_settings_are_named(make: Make, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        make(settings=settings)


def test_no_actors_are_refused(make: Make) -> None:
    with pytest.raises(ConfigError, match="actors must be at least 1"):
        make(actors=0)


def test_contextvars_without_copies_are_refused(make: Make) -> None:
    with pytest.raises(ConfigError, match="copy_contextvars"):
        make(copy_contextvars=False, settings={"contextvars": ["tests.ray.carried.tenant"]})


def test_what_a_ray_runner_has_not_says_so_by_name(make: Make) -> None:
    runner: Any = make()
    with pytest.raises(NotImplementedError, match="key"):
        runner.options(key=lambda n: n)
    with pytest.raises(NotImplementedError, match="batcher"):
        runner.batcher(square, max_size=2)


def test_a_runner_cannot_be_sent_to_a_task(make: Make) -> None:
    runner = make()
    with pytest.raises(TaskNotPicklable, match="RayRunner"):
        runner.submit(same, runner)


def test_a_result_of_200_mb_arrives_and_holds_up_no_other_actor(make: Make) -> None:
    runner, size = make(actors=2), 200 * 2**20
    large = runner.submit(lambda _resource, n: b"<" + bytes(n) + b">", size)
    assert [each.result() for each in runner.submit_many(square, range(50))] == [
        n * n for n in range(50)
    ]
    result = large.result(timeout=200)
    assert (len(result), result[:1], result[-1:]) == (size + 2, b"<", b">")
    assert result.count(0) == size
    assert runner.queue_task(square, 2) == 4


class OnlyHere:
    """A function that cannot be made in an actor."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_here, (os.getpid(),)

    def __call__(self, _resource: Resource) -> None: ...


def _make_here(process: int) -> OnlyHere:
    if process != os.getpid():
        raise ImportError("no such module in the actor")
    return OnlyHere()


def test_what_cannot_be_made_in_the_actor_fails_its_tasks_alone(make: Make) -> None:
    runner = make()
    for _ in range(2):  # the second time the actor knows
        with pytest.raises(TaskNotPicklable, match="no such module in the actor"):
            runner.queue_task(OnlyHere())
        with pytest.raises(TaskNotPicklable, match="arguments of same"):
            runner.queue_task(same, OnlyHere())
    assert runner.queue_task(square, 2) == 4


def test_the_new_errors_can_be_pickled() -> None:
    for kind in (TaskNotPicklable, ResultNotPicklable):
        again = pickle.loads(pickle.dumps(kind("text")))  # noqa: S301 - its own
        assert (type(again), again.args) == (kind, ("text",))


def test_a_config_of_context_managers_can_be_sent(make: Make) -> None:
    import tempfile

    from tasker.ray import RayRunner

    make()
    config = Config.from_context_manager(tempfile.TemporaryFile, worker_count=1)
    with RayRunner(config, actors=1) as runner:
        assert runner.queue_task(lambda file: file.write(b"one")) == 3
    with Runner(config) as local:
        assert local.queue_task(lambda file: file.write(b"one")) == 3


def test_a_forked_child_is_told(make: Make) -> None:
    runner = make()
    dispatcher = runner._engine().dispatcher
    own = dispatcher._process
    dispatcher._process = own + 1  # as in a child
    try:
        with pytest.raises(RunnerBroken, match="forked"):
            runner.submit(square, 2)
        with pytest.raises(RunnerBroken, match="forked"):
            runner.stop()
    finally:
        dispatcher._process = own
    assert own == os.getpid()


def unlooked(caplog: Any) -> list[Any]:
    gc.collect()
    return [each for each in caplog.records if "nobody looked" in each.getMessage()]


def test_an_error_that_nobody_looked_at_is_logged_once(make: Make, caplog: Any) -> None:
    runner = make()
    runner.options(name="lost").submit(lambda _: 1 / 0)
    runner.stop()
    (record,) = unlooked(caplog)
    assert record.getMessage() == f"task 'lost' of '{runner.name}' failed and nobody looked"
    assert isinstance(record.exc_info[1], ZeroDivisionError)


def test_an_error_that_somebody_looked_at_is_not_logged(make: Make, caplog: Any) -> None:
    runner = make()

    def fail(_resource: Resource) -> None:
        raise Left("why")

    over = threading.Event()
    runner.submit(fail).add_done_callback(lambda _: over.set())
    assert over.wait(60)
    assert isinstance(runner.submit(fail).exception(timeout=60), Left)
    with pytest.raises(Left):
        runner.queue_task(fail)

    async def main() -> None:
        with pytest.raises(Left):
            await runner.submit(fail)
        with pytest.raises(Left):
            await runner.asubmit(fail)

    asyncio.run(main())
    runner.submit(square, 3)
    runner.stop()
    assert unlooked(caplog) == []
