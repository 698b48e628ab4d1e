"""Texts of users as viewers get them: printable, on one line, and short."""

from __future__ import annotations

from tasker._tasker import _printable

SHORT = 80
"""Characters of a name."""
LONG = 300
"""Characters of a sentence."""
_ELLIPSIS = "..."


def cut(text: str, bound: int = SHORT) -> str:
    """Makes a text printable and short.

    Args:
        text: Any, however hostile.
        bound: Characters that the result has at most.
    """
    # What is not printable takes several characters: hence the second cut.
    shown = _printable(text, bound)
    return shown if len(shown) <= bound else shown[: bound - len(_ELLIPSIS)] + _ELLIPSIS
