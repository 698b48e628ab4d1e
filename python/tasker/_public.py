"""Gives what is public the names by which users know it, wherever it is defined."""

from __future__ import annotations

from types import FunctionType
from typing import Any

PACKAGE = "tasker"


def publish(things: dict[str, Any], names: list[str], package: str = PACKAGE) -> None:
    """Has tracebacks, `help` and pickles name classes and functions where users import them.

    Args:
        things: What the package holds, by name.
        names: What of it is public.
        package: Where users import it.
    """
    for name in names:
        thing = things[name]
        if isinstance(thing, type):
            publish_methods(name, thing, package)
        if is_ours(thing):
            thing.__module__ = package


def publish_methods(public_name: str, base: type, package: str = PACKAGE) -> None:
    """Has the methods of a class speak of themselves as those of the class that users see.

    Args:
        public_name: The public class's name.
        base: The class itself, or a private one whose methods it inherits.
        package: Where users import the public one.
    """
    for name, method in vars(base).items():
        function = getattr(method, "__func__", method)
        # Some are the standard library's: those of enumerations, say.
        if isinstance(function, FunctionType) and is_ours(function):
            function.__module__ = package
            function.__qualname__ = f"{public_name}.{name}"


def is_ours(thing: object) -> bool:
    """Tells whether something says that a private module of the package defines it."""
    return str(getattr(thing, "__module__", "")).startswith(f"{PACKAGE}.")
