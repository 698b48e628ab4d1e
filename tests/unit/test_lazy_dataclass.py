"""A config is a dataclass to whoever asks, though none was made at the import."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
import sys
from typing import Any

import pytest

from tasker import Config, ConfigError, Retry
from tasker._retry import RUNNING_BODY


def make(**fields: Any) -> Config[object]:
    return Config(**{"on_create": object, "worker_count": 2, **fields})


def test_equal_configs_are_equal_and_have_one_hash() -> None:
    assert make(name="a") == make(name="a")
    assert hash(make(name="a")) == hash(make(name="a"))
    assert make(name="a") != make(name="b")
    assert make() != object()


def test_a_config_is_shown_with_all_its_fields() -> None:
    shown = repr(Retry(on=ValueError, attempts=2))
    assert shown == "Retry(on=<class 'ValueError'>, attempts=2, wait=0.1, max_wait=30.0)"


def test_what_is_missing_is_named() -> None:
    message = "Config.__init__() missing 2 required keyword-only arguments: "
    with pytest.raises(TypeError, match=re.escape(f"{message}'on_create' and 'worker_count'")):
        Config()  # type: ignore[call-arg]
    message = "Retry.__init__() got an unexpected keyword argument 'pause'"
    with pytest.raises(TypeError, match=re.escape(message)):
        Retry(on=ValueError, pause=1)  # type: ignore[call-arg]


def test_a_field_can_neither_be_changed_nor_deleted() -> None:
    config = make()
    for name in ("name", "strange"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, name, "other")
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(config, name)
    assert config == make()


def test_the_module_of_dataclasses_knows_it() -> None:
    assert dataclasses.is_dataclass(Config)
    assert dataclasses.is_dataclass(make())
    fields = {field.name: field for field in dataclasses.fields(Config)}
    assert all(field.kw_only for field in fields.values())
    assert fields["max_retries"].default == Config.max_retries == 3
    assert fields["on_create"].default is dataclasses.MISSING
    assert Config.__match_args__ == ()


def test_its_signature_is_that_of_its_fields() -> None:
    parameters = inspect.signature(Retry).parameters
    assert list(parameters) == ["on", "attempts", "wait", "max_wait"]
    assert parameters["attempts"].default == 3


def test_a_subclass_may_be_a_dataclass_with_more_fields() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Tagged(Config[object]):
        tag: str = "none"

    tagged = Tagged(on_create=object, worker_count=1, tag="red")
    assert (tagged.tag, tagged.max_retries) == ("red", 3)
    assert dataclasses.replace(tagged, worker_count=3).tag == "red"
    assert "tag" in inspect.signature(Tagged).parameters
    with pytest.raises(ConfigError):
        Tagged(on_create=object, worker_count=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        tagged.worker_count = 2  # type: ignore[misc]


def test_a_plain_subclass_is_made_in_its_own_way() -> None:
    class Small(Config[object]):
        def __init__(self, size: int) -> None:
            super().__init__(on_create=object, worker_count=size)

    assert Small(3).worker_count == 3
    assert list(inspect.signature(Small).parameters) == ["size"]
    assert Small(3) == Small(3)
    assert Small(3) != make(worker_count=3)


def test_a_copy_is_another_config_of_the_same_kind() -> None:
    assert copy.copy(make(name="a")) == make(name="a")
    if sys.version_info >= (3, 13):
        assert copy.replace(make(), name="b") == make(name="b")


def test_the_flags_of_a_body_that_can_be_suspended_are_those_of_the_interpreter() -> None:
    flags = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
    assert flags == RUNNING_BODY
