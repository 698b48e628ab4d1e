"""Settings are checked when they are made, and errors name the field and the value."""

import dataclasses
import datetime
import functools
import logging
import math
import operator
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from decimal import Decimal
from fractions import Fraction
from types import TracebackType
from typing import Any, Literal
from unittest.mock import Mock

import pytest

from tasker import Config, ConfigError, Context
from tasker._checks import MAX_COUNT
from tasker._config import ConfigFields

INFINITY = float("inf")
NAN = float("nan")


def make(**fields: Any) -> Config[Any]:
    given: dict[str, Any] = {"on_create": object, "worker_count": 2} | fields
    return Config(**given)


def test_only_on_create_and_worker_count_are_required() -> None:
    with pytest.raises(TypeError, match="worker_count"):
        Config(on_create=object)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="on_create"):
        Config(worker_count=1)  # type: ignore[call-arg]


def test_defaults() -> None:
    config = Config(on_create=object, worker_count=2)
    assert dataclasses.asdict(config) == {
        "on_create": object,
        "on_destroy": None,
        "worker_count": 2,
        "context": None,
        "is_broken": None,
        "check_health": None,
        "max_worker_count": None,
        "burst_interval": 0.1,
        "max_retries": 3,
        "retry": None,
        "fail_fast_after": None,
        "resource_pool_size": None,
        "logger": logging.getLogger("tasker"),
        "max_queue_size": None,
        "when_full": "block",
        "task_timeout": None,
        "validate": None,
        "validate_after_idle": 30.0,
        "reset": None,
        "on_cancel": None,
        "on_event": None,
        "max_tasks_per_resource": None,
        "max_resource_age": None,
        "idle_timeout": 30.0,
        "thread_bound": True,
        "copy_contextvars": True,
        "name": None,
    }


@pytest.mark.parametrize(
    ("field", "value", "must_be"),
    [
        ("on_create", None, "callable"),
        ("on_create", 5, "callable"),
        ("on_destroy", "close", "callable or None"),
        ("worker_count", None, "an int"),
        ("worker_count", "2", "an int"),
        ("worker_count", 2.0, "an int"),
        ("worker_count", True, "an int"),
        ("worker_count", 0, "at least 1"),
        ("worker_count", -1, "at least 1"),
        ("worker_count", 2**70, f"at most {MAX_COUNT}"),
        ("context", "parent", "a Context or None"),
        ("context", threading.Event, "a Context or None"),
        ("is_broken", 1, "callable or None"),
        ("check_health", 1, "callable or None"),
        ("max_worker_count", 2.5, "an int or None"),
        ("max_worker_count", 0, "at least 1"),
        ("max_worker_count", 2**70, f"at most {MAX_COUNT}"),
        ("max_worker_count", 1, "at least worker_count (2)"),
        ("burst_interval", None, "a number of seconds"),
        ("burst_interval", "0.1", "a number of seconds"),
        ("burst_interval", True, "a number of seconds"),
        ("burst_interval", 0, "more than 0"),
        ("burst_interval", -0.1, "more than 0"),
        ("burst_interval", NAN, "more than 0"),
        ("burst_interval", -INFINITY, "more than 0"),
        ("max_retries", None, "an int"),
        ("max_retries", False, "an int"),
        ("max_retries", -1, "at least 0"),
        ("max_retries", 2**31, f"at most {MAX_COUNT}"),
        ("resource_pool_size", "all", "an int or None"),
        ("resource_pool_size", -1, "at least 0"),
        ("resource_pool_size", 2**70, f"at most {MAX_COUNT}"),
        ("logger", "tasker", "a Logger or None"),
        ("max_queue_size", 1.5, "an int or None"),
        ("max_queue_size", 0, "at least 1"),
        ("max_queue_size", -5, "at least 1"),
        ("max_queue_size", 2**70, f"at most {MAX_COUNT}"),
        ("when_full", "wait", "'block' or 'raise'"),
        ("when_full", None, "'block' or 'raise'"),
        ("task_timeout", "1", "a number of seconds or None"),
        ("task_timeout", 0, "more than 0"),
        ("task_timeout", NAN, "more than 0"),
        ("task_timeout", -1, "more than 0"),
        ("task_timeout", False, "a number of seconds or None"),
        ("task_timeout", datetime.timedelta(seconds=1), "a number of seconds or None"),
        ("task_timeout", 1j, "a number of seconds or None"),
        ("validate", 1, "callable or None"),
        ("validate_after_idle", None, "a number of seconds"),
        ("validate_after_idle", -1, "at least 0"),
        ("validate_after_idle", NAN, "at least 0"),
        ("reset", 1, "callable or None"),
        ("on_cancel", 1, "callable or None"),
        ("on_event", 1, "callable or None"),
        ("max_tasks_per_resource", 0, "at least 1"),
        ("max_tasks_per_resource", "1", "an int or None"),
        ("max_resource_age", 0, "more than 0"),
        ("max_resource_age", "1", "a number of seconds or None"),
        ("idle_timeout", None, "a number of seconds"),
        ("idle_timeout", -1, "at least 0"),
        ("thread_bound", 1, "a bool"),
        ("thread_bound", None, "a bool"),
        ("copy_contextvars", "yes", "a bool"),
        ("name", "", "a non-empty str or None"),
        ("name", b"tasker", "a non-empty str or None"),
        ("name", "\udfff", "without surrogates"),
    ],
)
def test_wrong_values_are_refused(field: str, value: object, must_be: str) -> None:
    message = f"{field} must be {must_be}, got {value!r}"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        make(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("worker_count", MAX_COUNT),
        ("context", Context()),
        ("context", Context().child()),
        ("max_worker_count", 2),
        ("burst_interval", 1),
        ("burst_interval", threading.TIMEOUT_MAX),
        ("max_retries", 0),
        ("resource_pool_size", 0),
        ("logger", None),
        ("logger", logging.getLogger("app")),
        ("max_queue_size", 1),
        ("when_full", "raise"),
        ("task_timeout", 1),
        ("validate_after_idle", 0),
        ("idle_timeout", 0),
        ("idle_timeout", INFINITY),
        ("burst_interval", INFINITY),
        ("validate_after_idle", INFINITY),
        ("task_timeout", 1e300),
        ("thread_bound", False),
        ("copy_contextvars", False),
        ("name", "app"),
    ],
)
def test_values_at_the_limits_are_taken(field: str, value: object) -> None:
    assert getattr(make(**{field: value}), field) is value


@pytest.mark.parametrize("field", ["task_timeout", "max_resource_age"])
def test_an_infinite_limit_is_none(field: str) -> None:
    assert getattr(make(**{field: INFINITY}), field) is None
    assert getattr(make(**{field: 10**400}), field) is None


@pytest.mark.parametrize("field", ["burst_interval", "validate_after_idle", "idle_timeout"])
def test_an_interval_that_no_float_holds_is_infinite(field: str) -> None:
    assert getattr(make(**{field: 10**400}), field) == INFINITY
    with pytest.raises(ConfigError, match=field):
        make(**{field: -(10**400)})


class Number:
    """A number of another library: it has nothing but a value."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return self.value


class Count:
    """A whole number of another library."""

    def __index__(self) -> int:
        return 3


@pytest.mark.parametrize("value", [Decimal("0.5"), Fraction(1, 2), Number(0.5)])
def test_numbers_of_other_libraries_become_floats(value: Any) -> None:
    age = make(max_resource_age=value).max_resource_age
    assert (age, type(age)) == (0.5, float)


def test_whole_numbers_of_other_libraries_become_ints() -> None:
    config = make(worker_count=Count(), max_queue_size=Count(), task_timeout=Count())
    assert (config.worker_count, type(config.worker_count)) == (3, int)
    assert (config.max_queue_size, type(config.max_queue_size)) == (3, int)
    assert config.task_timeout == 3.0


class LyingInt(int):
    """Says of itself whatever gets it past a comparison."""

    def __lt__(self, other: object) -> bool:
        return False

    __gt__ = __le__ = __lt__

    def __index__(self) -> int:
        return 7

    __int__ = __index__

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


class LyingFloat(float):
    """As above."""

    def __gt__(self, other: object) -> bool:
        return True

    __ge__ = __lt__ = __le__ = __gt__


class LyingStr(str):
    """As above."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __bool__(self) -> bool:
        return True

    __hash__ = str.__hash__


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("worker_count", LyingInt(0)),
        ("worker_count", LyingInt(-5)),
        ("max_queue_size", LyingInt(0)),
        ("max_worker_count", LyingInt(1)),
        ("max_retries", LyingInt(2**40)),
        ("burst_interval", LyingFloat(-1.0)),
        ("task_timeout", LyingFloat(math.nan)),
        ("task_timeout", Number(-1)),
        ("when_full", LyingStr("wait")),
        ("name", LyingStr("")),
    ],
)
def test_values_that_lie_are_taken_for_what_they_are(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{field} must be "):
        make(**{field: value})


def test_a_config_holds_exact_values() -> None:
    config = make(
        worker_count=LyingInt(2), idle_timeout=LyingFloat(3), name=LyingStr("pg"),
        when_full=LyingStr("raise"),
    )  # fmt: skip
    kept = (config.worker_count, config.idle_timeout, config.name, config.when_full)
    assert [type(value) for value in kept] == [int, float, str, str]
    assert kept == (2, 3.0, "pg", "raise")


class Hostile:
    """Raises whatever it is asked."""

    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError(name)

    def __repr__(self) -> str:
        raise ZeroDivisionError

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    __lt__ = __gt__ = __eq__

    def __hash__(self) -> int:
        raise ZeroDivisionError

    def __bool__(self) -> bool:
        raise ZeroDivisionError

    def __float__(self) -> float:
        raise ZeroDivisionError

    def __index__(self) -> int:
        raise ZeroDivisionError


CHECKED = sorted(field.name for field in dataclasses.fields(Config))


# Made in the test: pytest looks at parameters itself.
AWKWARD: dict[str, Callable[[], object]] = {
    "hostile": Hostile,
    "hostile inside": lambda: [Hostile()],
    "digits": lambda: -(10**5000),
    "list": lambda: ["x"] * 3_000_000,
    "bytes": lambda: b"x\n" * 3_000_000,
}


@pytest.mark.parametrize("field", CHECKED)
@pytest.mark.parametrize("kind", AWKWARD)
def test_errors_name_the_field_whatever_the_value_does(field: str, kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"\A{field} must be .*\Z") as caught:
        make(**{field: AWKWARD[kind]()})
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("hook", "given"),
    [
        ("check_health", lambda _resource, _error: True),
        ("check_health", lambda: True),
        ("is_broken", lambda _error: True),
        ("is_broken", lambda: True),
        ("is_broken", lambda _resource, _error, *, driver: driver),
        *(
            (hook, given)
            for hook in ("on_destroy", "validate", "reset", "on_cancel", "on_event")
            for given in (lambda: True, lambda _resource, _other: True)
        ),
    ],
)
def test_a_hook_that_takes_other_arguments_is_refused(
    hook: str, given: Callable[..., bool]
) -> None:
    with pytest.raises(ConfigError, match=f"^{hook} must be callable with"):
        make(**{hook: given})


class Annotated:
    """A callable whose signature cannot be had."""

    @property
    def __signature__(self) -> object:
        raise NameError("Connection")

    def __call__(self, *_arguments: object) -> bool:
        return True


@pytest.mark.parametrize(
    "given",
    [
        lambda error, dead=OSError: not isinstance(error, dead),
        lambda *arguments: bool(arguments),
        Mock(return_value=True),
        bool,
        operator.attrgetter("args"),
        Annotated(),
        functools.partial(isinstance, OSError()),
        BaseException.with_traceback,
    ],
)
def test_a_hook_whose_signature_fits_or_is_not_known_is_taken(given: Any) -> None:
    hooks = ["check_health", "on_destroy", "validate", "reset", "on_cancel", "on_event"]
    for hook in ["is_broken"] if given is BaseException.with_traceback else hooks:
        assert getattr(make(**{hook: given}), hook) is given


def test_the_two_judges_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"^is_broken and check_health exclude each other"):
        make(is_broken=Mock(), check_health=Mock())


def test_fields_cannot_be_changed() -> None:
    config = make()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.worker_count = 3  # type: ignore[misc]


def test_replace_varies_a_config_and_checks_it_again() -> None:
    config = make(max_worker_count=4)
    assert dataclasses.replace(config, worker_count=4).worker_count == 4
    with pytest.raises(ConfigError, match="max_worker_count must be at least worker_count"):
        dataclasses.replace(config, worker_count=5)


def test_more_workers_may_be_asked_for_when_the_maximum_was_left_out() -> None:
    assert dataclasses.replace(make(), worker_count=9).max_worker_count is None


def test_the_resource_type_may_be_written_out() -> None:
    assert Config[object](on_create=object, worker_count=2) == make()


class Recorder:
    """A context manager that records its life; equal to all others and not hashable."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, life: list[tuple[object, ...]], number: int) -> None:
        self.life = life
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recorder)

    def __enter__(self) -> "Recorder":
        self.life.append(("enter", self.number, threading.get_ident()))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        self.life.append(("exit", self.number, threading.get_ident(), exc_type, exc, traceback))
        return False


def recording() -> tuple[list[tuple[object, ...]], Config[Recorder]]:
    life: list[tuple[object, ...]] = []
    numbers = iter(range(100))
    config = Config.from_context_manager(lambda: Recorder(life, next(numbers)), worker_count=1)
    return life, config


def destroy(config: Config[Any], resource: object) -> None:
    assert config.on_destroy is not None
    config.on_destroy(resource)


def test_a_context_manager_is_entered_and_left_without_an_error() -> None:
    life, config = recording()
    me = threading.get_ident()
    destroy(config, config.on_create())
    assert life == [("enter", 0, me), ("exit", 0, me, None, None, None)]


def test_a_renewed_resource_leaves_its_own_manager() -> None:
    life, config = recording()
    for _ in range(3):
        destroy(config, config.on_create())
    assert [event[:2] for event in life] == [
        ("enter", 0), ("exit", 0), ("enter", 1), ("exit", 1), ("enter", 2), ("exit", 2),
    ]  # fmt: skip


def test_nested_resources_of_one_thread_leave_their_own_managers() -> None:
    life, config = recording()
    outer = config.on_create()
    destroy(config, config.on_create())
    destroy(config, outer)
    assert [event[:2] for event in life] == [("enter", 0), ("enter", 1), ("exit", 1), ("exit", 0)]


def test_each_thread_leaves_the_manager_it_entered() -> None:
    life, config = recording()
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        resources = [each.submit(config.on_create).result(10) for each in (first, second)]
        for each, resource in zip((first, second), resources, strict=True):
            each.submit(destroy, config, resource).result(10)
    threads = {number: thread for event, number, thread, *_ in life if event == "enter"}
    assert len(set(threads.values())) == 2
    assert [event[:3] for event in life[2:]] == [("exit", 0, threads[0]), ("exit", 1, threads[1])]


def test_a_manager_whose_exit_fails_is_not_left_twice() -> None:
    left = []

    @contextmanager
    def failing(number: int) -> Iterator[int]:
        yield number
        left.append(number)
        raise OSError(number)

    numbers = iter(range(2))
    config = Config.from_context_manager(lambda: failing(next(numbers)), worker_count=1)
    for number in range(2):
        resource = config.on_create()
        with pytest.raises(OSError, match=str(number)):
            destroy(config, resource)
    assert left == [0, 1]
    with pytest.raises(IndexError):
        destroy(config, None)


def test_a_failed_enter_leaves_nothing_behind() -> None:
    attempts = iter([ConnectionRefusedError, None])

    @contextmanager
    def connect() -> Iterator[str]:
        if error := next(attempts):
            raise error
        yield "connection"

    config = Config.from_context_manager(connect, worker_count=1)
    with pytest.raises(ConnectionRefusedError):
        config.on_create()
    resource = config.on_create()
    destroy(config, resource)
    with pytest.raises(IndexError):
        destroy(config, resource)


def test_configs_from_context_managers_take_all_other_fields_and_can_be_varied() -> None:
    fields = {field.name for field in dataclasses.fields(Config)}
    assert set(ConfigFields.__annotations__) == fields - {"on_create", "on_destroy"}

    class Closable:
        def close(self) -> None:
            pass

    config = Config.from_context_manager(
        lambda: closing(Closable()), worker_count=1, max_queue_size=7, name="app"
    )
    assert (config.max_queue_size, config.name) == (7, "app")
    varied = dataclasses.replace(config, worker_count=2)
    destroy(config, varied.on_create())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Config.from_context_manager(None, worker_count=1), "factory must be callable"),  # type: ignore[arg-type]
        (lambda: Config.from_context_manager(recording, worker_count=0), "worker_count"),  # type: ignore[arg-type]
    ],
)
def test_configs_from_context_managers_are_checked(
    build: Callable[[], Config[Any]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build()
