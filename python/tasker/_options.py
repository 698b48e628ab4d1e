"""What `options` takes, of every kind of runner."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from tasker._checks import check_deadline, check_key, check_name, check_priority, check_type
from tasker._errors import ConfigError
from tasker._hints import refuse_option
from tasker._priority import Priority
from tasker._retry import Retry, Unset, check_retry

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

F = TypeVar("F", bound="Callable[..., Any]")


class Options(NamedTuple):
    """What a view fixes for its tasks."""

    priority: Priority = Priority.NORMAL
    once: bool = False
    timeout: float | None = None
    name: str | None = None
    retry: Retry | Unset | None = Unset.UNSET
    key: Callable[..., Hashable] | None = None
    serial: bool = False


def check_options(
    priority: Priority,
    once: bool,
    timeout: float | None,
    name: str | None,
    retry: Retry | Unset | None,
    key: Callable[..., Hashable] | None = None,
    serial: bool = False,
) -> Options:
    """Checks the options of a view.

    Args:
        priority: The class of its tasks.
        once: Whether their functions are entered at most once.
        timeout: Their time limit in seconds, or `None`.
        name: Their name, or `None`.
        retry: When they are tried again, or `None`: not after an error of their own.
        key: What is asked for their keys, or `None`.
        serial: Whether tasks of a key run one after the other.

    Returns:
        The options, as they are used from then on.

    Raises:
        ConfigError: One has a wrong type or value, or two contradict each other.
    """
    priority = check_priority("priority", priority)
    check_type("once", once, bool)
    timeout = check_deadline("timeout", timeout)
    name = check_name("name", name, optional=True)
    if retry is not Unset.UNSET:
        check_retry("retry", retry)
        if once and retry is not None:
            text = "once and retry exclude each other: a retry enters the function again"
            raise ConfigError(text)
    check_key(key)
    check_type("serial", serial, bool)
    if serial and key is None:
        text = "serial=True needs a key: key=lambda ... says which tasks run one after the other"
        raise ConfigError(text)
    return Options(priority, once, timeout, name, retry, key, serial)


def taking_options(method: F) -> F:
    """Decorates `options`: it says which options there are to who gives one that is none.

    Others are taken by name here, and not looked for among those given: that would cost a view a
    fourth of its time.
    """

    @wraps(method)
    def options(
        self: object,
        /,
        *,
        priority: Priority = Priority.NORMAL,
        once: bool = False,
        timeout: float | None = None,
        name: str | None = None,
        retry: Retry | Unset | None = Unset.UNSET,
        key: Callable[..., Hashable] | None = None,
        serial: bool = False,
        **others: object,
    ) -> Any:
        if others:
            refuse_option(next(iter(others)), Options._fields)
        return method(
            self,
            priority=priority,
            once=once,
            timeout=timeout,
            name=name,
            retry=retry,
            key=key,
            serial=serial,
        )

    return cast("F", options)
