"""What a notebook shows of figures: tables, as plain text and as HTML without script or colours.

Nothing of it is loaded before something is shown.
"""

from __future__ import annotations

import dataclasses
import html
from typing import TYPE_CHECKING, Any, NamedTuple

from tasker._sight.texts import cut

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MOST = 20
"""Rows of a table that could have any number."""
# Borders have the colour of the text, which is the page's own: right in light and dark.
_TABLE = "border-collapse: collapse; margin: 0.3em 0 0.8em"
_CAPTION = "text-align: left; font-weight: bold; padding: 0.2em 0"
_HEAD = "padding: 0.1em 0.7em; border-bottom: 1px solid; font-weight: normal; opacity: 0.7"
_CELL = "padding: 0.1em 0.7em"


class Table(NamedTuple):
    """Rows of texts. Cells of the first column stand at the left, the others at the right."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def bundle(title: str, tables: Iterable[Table]) -> dict[str, str]:
    """Makes what IPython asks of `_repr_mimebundle_`.

    Args:
        title: What stands above the tables.
        tables: The tables; those without rows are left out.
    """
    shown = [table for table in tables if table.rows]
    parts = [title, *map(_text, shown)]
    page = f"<div><strong>{html.escape(title)}</strong>{''.join(map(_html, shown))}</div>"
    return {"text/plain": "\n".join(parts), "text/html": page}


def figures_bundle(figures: Any) -> dict[str, str]:
    """Makes it of a dataclass of figures.

    Its numbers make one table, and so do its fields that are dataclasses of numbers themselves;
    each dictionary makes another, with the 20 greatest.

    Args:
        figures: The dataclass.
    """
    fields = {each.name: getattr(figures, each.name) for each in dataclasses.fields(figures)}
    # The flat names of times, which are Go's, say what the dataclasses say.
    numbers = {
        name: value
        for name, value in fields.items()
        if isinstance(value, int | float) and not name.endswith("_time")
    }
    spread = {name: value for name, value in fields.items() if dataclasses.is_dataclass(value)}
    counted = {name: value for name, value in fields.items() if isinstance(value, dict)}
    tables = [_table("", numbers), _table("", spread)]
    tables += [_table(name, greatest(value)) for name, value in counted.items()]
    return bundle(type(figures).__name__, tables)


def greatest(counted: Mapping[str, Any]) -> dict[str, Any]:
    """Takes the 20 greatest of some numbers, or those that took most time of some figures."""

    def size(name: str) -> float:
        value = counted[name]
        return float(value if isinstance(value, int) else value.execution.total)

    return {name: counted[name] for name in sorted(counted, key=size, reverse=True)[:MOST]}


def _table(title: str, named: Mapping[str, Any]) -> Table:
    rows = [[cut(name), *_cells(value)] for name, value in named.items()]
    head = next((_heads(value) for value in named.values()), [])
    return Table(title, ["", *head], rows)


def _heads(value: object) -> list[str]:
    """Names the cells of a value; those of what is nested stand for it."""
    if not dataclasses.is_dataclass(value):
        return [""]
    nested = [(each.name, getattr(value, each.name)) for each in dataclasses.fields(value)]
    return [
        head
        for name, each in nested
        for head in (_heads(each) if dataclasses.is_dataclass(each) else [name])
    ]


def _cells(value: Any) -> list[str]:
    if dataclasses.is_dataclass(value):
        nested = [getattr(value, each.name) for each in dataclasses.fields(value)]
        return [cell for each in nested for cell in _cells(each)]
    return [f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"]


def _text(table: Table) -> str:
    lines = [table.head, *table.rows] if any(table.head) else list(table.rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    drawn = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    ]
    return "\n".join(["", *([table.title] if table.title else []), *drawn])


def _html(table: Table) -> str:
    caption = f'<caption style="{_CAPTION}">{html.escape(table.title)}</caption>'
    head = f"<thead>{_row('th', table.head, _HEAD)}</thead>" if any(table.head) else ""
    body = "".join(_row("td", row, _CELL) for row in table.rows)
    parts = [caption if table.title else "", head, f"<tbody>{body}</tbody>"]
    return f'<table style="{_TABLE}">{"".join(parts)}</table>'


def _row(tag: str, cells: Sequence[str], style: str) -> str:
    sides = ["left", *["right"] * (len(cells) - 1)]
    drawn = [
        f'<{tag} style="{style}; text-align: {side}">{html.escape(cell)}</{tag}>'
        for cell, side in zip(cells, sides, strict=True)
    ]
    return f"<tr>{''.join(drawn)}</tr>"
