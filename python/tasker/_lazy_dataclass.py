"""A dataclass that leaves `dataclasses` alone until somebody asks for what only that can tell.

The module imports `inspect` and much else: together they take half as long to import as the
standard thread pool, and a program that makes a config and a runner needs none of it.
"""

from __future__ import annotations

import sys
from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T", bound=type)

_MADE = [
    "__dataclass_fields__",
    "__dataclass_params__",
    "__eq__",
    "__hash__",
    "__match_args__",
    "__repr__",
]
if sys.version_info >= (3, 13):
    _MADE.append("__replace__")


def dataclass(*, frozen: Literal[True], kw_only: Literal[True]) -> Callable[[T], T]:
    """Decorates a class as `dataclasses.dataclass` does, of whose options it knows these two alone.

    A default is a plain value. The class checks its fields in a `__post_init__`.
    """
    return lambda cls: _decorated(cls, {"frozen": frozen, "kw_only": kw_only})


def _decorated(cls: Any, options: dict[str, bool]) -> Any:
    names = tuple(cls.__annotations__)
    defaults = {name: vars(cls)[name] for name in names if name in vars(cls)}

    @cache
    def made() -> Any:
        """What the true decorator makes of the same fields: the original of all that it adds."""
        import dataclasses  # noqa: PLC0415

        named = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
        body = {"__annotations__": cls.__annotations__, **named, **defaults}
        return dataclasses.dataclass(**options)(type(cls.__name__, (), body))

    def __init__(self: Any, /, **given: Any) -> None:
        values = defaults | given
        if values.keys() != set(names):
            made().__init__(self, **given)  # raises, and says which are missing
        vars(self).update((name, values[name]) for name in names)
        self.__post_init__()

    def __setattr__(self: object, name: str, value: object) -> None:
        refuse(self, name, "assign to")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: object, name: str) -> None:
        refuse(self, name, "delete")
        super(cls, self).__delattr__(name)

    def refuse(self: object, name: str, what: str) -> None:
        if type(self) is cls or name in names:
            from dataclasses import FrozenInstanceError  # noqa: PLC0415

            message = f"cannot {what} field {name!r}"
            raise FrozenInstanceError(message)

    for method in (__init__, __setattr__, __delattr__):
        method.__qualname__ = f"{cls.__qualname__}.{method.__name__}"
        setattr(cls, method.__name__, method)
    for name in _MADE:
        setattr(cls, name, _Made(made, name))
    cls.__signature__ = _Signature(made, cls)
    return cls


class _Made:
    """An attribute that the true decorator gives, which is asked for it when somebody looks."""

    def __init__(self, made: Callable[[], Any], name: str) -> None:
        self._made = made
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        found = vars(self._made())[self._name]
        return found.__get__(instance, owner) if isinstance(found, FunctionType) else found


class _Signature:
    """How an object is made, for `help` and editors; not of a subclass that is made in its way."""

    def __init__(self, made: Callable[[], Any], cls: Any) -> None:
        self._made = made
        self._cls = cls

    def __get__(self, instance: object, owner: Any) -> Any:
        if instance is not None or owner.__init__ is not self._cls.__init__:
            raise AttributeError(name="__signature__", obj=owner)
        from inspect import signature  # noqa: PLC0415

        return signature(self._made())
