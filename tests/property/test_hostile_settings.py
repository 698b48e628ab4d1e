"""Whatever settings and options are given: they are taken, or refused by name.

`python -m scripts.fuzz` drives the same tests by what they cover.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeVar

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tasker import Config, ConfigError, Context, Priority, Retry, Runner, Unset

Made = TypeVar("Made")


class Hostile:
    """Raises whatever it is asked for."""

    def _refuse(self, *_: object) -> Any:
        raise RuntimeError("refused")

    __float__ = __index__ = __int__ = __bool__ = __len__ = __iter__ = _refuse
    __repr__ = __str__ = __format__ = __call__ = __getattr__ = _refuse
    __hash__ = __eq__ = __lt__ = __gt__ = __le__ = __ge__ = _refuse


class Exotic(int):
    """A number of a class of its own, which says that it is another."""

    def __gt__(self, _: object) -> bool:
        return True

    def __index__(self) -> int:
        return 7


async def coroutine() -> None:
    """Nothing that a hook may be."""


def generator() -> Iterator[None]:
    """Nothing that a hook may be, either."""
    yield


VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 70),
    st.floats(),
    st.text(max_size=20),
    st.text(st.characters(), max_size=300),
    st.binary(max_size=9),
    st.sampled_from(["block", "raise", *Priority, Unset.UNSET, Retry(on=OSError), Context()]),
    st.sampled_from([object, len, dict, print, coroutine, generator, lambda: None, lambda _: None]),
    st.builds(Exotic, st.integers()),
    st.builds(Hostile),
    st.fractions(),
    st.decimals(),
    st.lists(st.integers(), max_size=3),
)
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)
"""However slow the machine is."""

FIELDS = [field.name for field in dataclasses.fields(Config)]
OPTIONS = list(inspect.signature(Runner.options).parameters)[1:]


def tried(call: Callable[[], Made], values: dict[str, Any]) -> Made | None:
    """What a call makes of values, or None: it refused one of them, and said which on one line."""
    try:
        return call()
    except ConfigError as error:
        text = str(error)
    assert any(name in text for name in values), text
    assert "\n" not in text
    return None


@UNHURRIED
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6))
@example({"worker_count": Fraction(1)})
@example({"task_timeout": Decimal("sNaN")})
def test_settings_are_taken_or_refused_by_name(fields: dict[str, Any]) -> None:
    given_fields: dict[str, Any] = {"on_create": object, "worker_count": 2} | fields
    config = tried(lambda: Config(**given_fields), given_fields)
    if config is None:
        return
    assert type(config.worker_count) is int
    assert config.worker_count >= 1
    assert config.max_worker_count is None or config.max_worker_count >= config.worker_count
    assert type(config.max_retries) is int
    assert config.max_retries >= 0
    assert config.task_timeout is None or config.task_timeout > 0
    # What was taken may be taken again.
    assert Config(**{name: getattr(config, name) for name in FIELDS}) == config


@UNHURRIED
@given(st.dictionaries(st.sampled_from(OPTIONS), VALUES, max_size=4))
def test_options_are_taken_or_refused_by_name(options: dict[str, Any]) -> None:
    with Runner(Config(on_create=object, worker_count=1)) as runner:
        view = tried(lambda: runner.options(**options), options)
        if view is None:
            return
        assert isinstance(repr(view), str)
        if options.get("key") is None and options.get("timeout") is None:
            assert view.queue_task(lambda _: 1) == 1
