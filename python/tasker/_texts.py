"""Texts about what users gave: bounded, on one line, and safe to make."""

from __future__ import annotations

import reprlib

from tasker._tasker import _printable

_BOUND = 200
"""Characters that a value may take in a message."""


def shown(value: object) -> str:
    """Describes a value as `repr` does: bounded, without raw control characters, never raising.

    Args:
        value: Anything, however large, and however badly it behaves.
    """
    try:
        text = _REPR.repr(value)
    except Exception:
        # Its own `repr` failed inside a container, or it is of a class that calls itself `list`.
        text = object.__repr__(value)
    return _printable(text, _BOUND)


def plain(name: str) -> str:
    """Gives a name as texts show it: printable, on one line, and not endless."""
    return _printable(name, _BOUND)


def quoted(name: str) -> str:
    """Gives a name as `plain` does, between quotes that it cannot close itself.

    A list of names stays the list that it is, whatever one of them holds.
    """
    return '"' + plain(name).replace('"', r"\"") + '"'


class _Repr(reprlib.Repr):
    """Reads no more of a value than it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlong = self.maxother = _BOUND
        self.maxstring = _BOUND // 2

    def repr_int(self, x: int, level: int) -> str:
        """Shows an int whose digits the interpreter may refuse to write by its size."""
        bits = x.bit_length()
        if bits > 4 * self.maxlong:
            return f"<{'negative ' if x < 0 else ''}int of {bits} bits>"
        return super().repr_int(x, level)


_REPR = _Repr()
