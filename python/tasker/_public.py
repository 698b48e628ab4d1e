"""Gives what is public the names by which users know it, wherever it is defined."""

from __future__ import annotations

from types import FunctionType
from typing import Any

PACKAGE = "tasker"


def publish(things: dict[str, Any], names: list[str]) -> None:
    """Has tracebacks, `help` and pickles name classes and functions where users import them.

    Args:
        things: What the package holds, by name.
        names: What of it is public.
    """
    for name in names:
        if str(getattr(things[name], "__module__", "")).startswith(f"{PACKAGE}."):
            things[name].__module__ = PACKAGE


def lend_to(heir: str, base: type) -> None:
    """Has the methods of a private base speak of themselves as those of the class that users see.

    Args:
        heir: The public class's name.
        base: The private one, whose methods it inherits.
    """
    for name, method in vars(base).items():
        if isinstance(method, FunctionType):
            method.__module__ = PACKAGE
            method.__qualname__ = f"{heir}.{name}"
