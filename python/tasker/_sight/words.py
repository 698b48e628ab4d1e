"""Figures as people read them: short, with their units, and of about the same width each time."""

from __future__ import annotations

_UNITS = (
    (1e-6, 1e-9, "ns"),
    (1e-3, 1e-6, "µs"),
    (1.0, 1e-3, "ms"),
    (120.0, 1.0, "s"),
    (2 * 3600.0, 60.0, "min"),
    (48 * 3600.0, 3600.0, "h"),
)
"""Below how many seconds a unit is used, how many of them it has, and its name."""


def duration(seconds: float) -> str:
    """Writes a time.

    Example:
        >>> [duration(seconds) for seconds in (0, 6e-8, 0.00042, 0.0123, 2.34, 600, 90_000, 1e6)]
        ['0 s', '60 ns', '420 µs', '12 ms', '2.3 s', '10 min', '25 h', '12 d']
    """
    # A clock has no less than this, so it is no time.
    if seconds < 5e-10:
        return "0 s"
    for below, size, unit in _UNITS:
        if seconds < below:
            return f"{short(seconds / size)} {unit}"
    return f"{short(seconds / 86400)} d"


def short(figure: float) -> str:
    """Writes a figure with two digits at least.

    Example:
        >>> [short(figure) for figure in (0, 0.04, 0.36, 4.25, 42.5, 1234, 123_456, 7_200_000)]
        ['0', '0.04', '0.4', '4.2', '42', '1,234', '123k', '7.2M']
    """
    if figure >= 99_950_000:
        return f"{figure / 1e6:,.0f}M"
    if figure >= 999_500:
        return f"{figure / 1e6:.1f}M"
    if figure >= 99_999.5:
        return f"{figure / 1e3:.0f}k"
    if figure >= 9.95:
        return f"{figure:,.0f}"
    if figure == int(figure):
        return f"{figure:.0f}"
    return f"{figure:.1f}" if figure >= 0.095 else f"{figure:.2f}"


def count(number: int) -> str:
    """Writes how many there are.

    Example:
        >>> [count(number) for number in (0, 42, 1234, 250_000)]
        ['0', '42', '1,234', '250k']
    """
    return short(float(number))


def rate(per_second: float) -> str:
    """Writes how many there are in a second.

    Example:
        >>> [rate(figure) for figure in (0, 0.001, 3.5, 1200)]
        ['0/s', '0.00/s', '3.5/s', '1,200/s']
    """
    return f"{short(per_second)}/s"


def share(part: float) -> str:
    """Writes a share of 1.

    Example:
        >>> [share(part) for part in (0, 0.0004, 0.012, 0.5, 1)]
        ['0 %', '0.04 %', '1.2 %', '50 %', '100 %']
    """
    return f"{short(100 * part)} %"


def among(number: int, limit: int | None) -> str:
    """Writes how many there are of how many there may be.

    Example:
        >>> among(3, 10), among(3, None)
        ('3/10', '3')
    """
    return count(number) if limit is None else f"{count(number)}/{count(limit)}"
