"""Lines of styled cells: in columns, or one after the other as far as they fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = 2
"""Cells between two columns."""


class Cell(NamedTuple):
    """A text that is shown as it is: nothing in it is markup."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """How a column is shown.

    Attributes:
        title: What stands above it.
        right: Whether its cells stand at its right.
        least: The narrowest it may get where there is no room; `None`: it stays as wide as it is.
    """

    title: str
    right: bool = False
    least: int | None = None


def columns(heads: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> list[Text]:
    """Sets cells below each other.

    Args:
        heads: The columns.
        rows: A cell for each of them.
        width: Cells that a line has at most. Columns at the right that do not fit are left out.
    """
    titles = [Cell(head.title, "dim") for head in heads]
    lines = [titles, *rows]
    widths = [
        max(cell_len(line[at].text) for line in lines) if lines else 0 for at in range(len(heads))
    ]
    for at, head in enumerate(heads):
        excess = sum(widths) + GAP * (len(widths) - 1) - width
        if excess > 0 and head.least is not None:
            widths[at] = max(widths[at] - excess, min(head.least, widths[at]))
    shown = len(heads)
    while shown > 1 and sum(widths[:shown]) + GAP * (shown - 1) > width:
        shown -= 1
    return [_line(list(zip(heads, line, widths, strict=True))[:shown], width) for line in lines]


def _line(cells: Sequence[tuple[Column, Cell, int]], width: int) -> Text:
    line = Text(no_wrap=True, end="")
    for at, (head, cell, size) in enumerate(cells):
        line.append(" " * GAP if at else "")
        text = fitted(cell.text, size)
        pad = " " * (size - cell_len(text))
        line.append(pad if head.right else "").append(text, cell.style or None)
        line.append("" if head.right or at == len(cells) - 1 else pad)
    line.truncate(width)
    return line


def fitted(text: str, width: int) -> str:
    """Cuts a text that is too wide."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(width - 1, 0)) + "…" if width else ""


def flow(cells: Sequence[Cell], width: int, indent: int = 0) -> list[Text]:
    """Sets cells one after the other, and begins a line where one does not fit.

    Args:
        cells: What to show.
        width: Cells that a line has at most.
        indent: Cells before all lines but the first.
    """
    lines: list[Text] = []
    for cell in cells:
        text = fitted(cell.text, width - indent)
        if not lines or lines[-1].cell_len + GAP + cell_len(text) > width:
            lines.append(Text(" " * indent if lines else "", no_wrap=True, end=""))
        else:
            lines[-1].append(" " * GAP)
        lines[-1].append(text, cell.style or None)
    return lines


def beside(left: Sequence[Text], right: Sequence[Text], width: int) -> list[Text]:
    """Sets two blocks side by side.

    Args:
        left: The one.
        right: The other.
        width: Cells of the left one.
    """
    lines = []
    for at in range(max(len(left), len(right))):
        line = left[at].copy() if at < len(left) else Text(no_wrap=True, end="")
        if at < len(right):
            line.append(" " * max(width - line.cell_len, 0)).append(right[at])
        lines.append(line)
    return lines
