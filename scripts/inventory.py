"""Lists what `docs/reference.md` tells of, so that other projects' pages can link to each name.

The list is in the format of Sphinx, `objects.inv`, which mkdocstrings reads, too.
"""

from __future__ import annotations

import ast
import re
import tomllib
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from scripts.reference import MODULES, PAGE, PART, ROOT, anchor, find

HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
MEMBER = re.compile(r"^### (`(\w+\.\w+)` (method|attribute))$", re.MULTILINE)
ADDRESS = "reference/"
"""Of the reference in the site."""


class Entry(NamedTuple):
    """A name, what it is in Sphinx's terms for Python, and the heading that tells of it."""

    name: str
    role: str
    fragment: str


def entries() -> Iterator[Entry]:
    """Gives the modules, classes and functions of the reference, and the members of its classes."""
    page = PAGE.read_text("utf-8")
    headings = {f"`{module}`" for module in MODULES} & set(HEADING.findall(page))
    yield Entry("tasker", "module", anchor("Reference"))
    yield from (Entry(text.strip("`"), "module", anchor(text)) for text in sorted(headings))
    for part in PART.finditer(page):
        module, name = part["name"].rsplit(".", 1)
        defined = find(module, name)
        is_class = defined is not None and isinstance(defined.node, ast.ClassDef)
        above = HEADING.findall(page[: part.start()])[-1]
        yield Entry(part["name"], "class" if is_class else "function", anchor(above))
        for text, member, role in MEMBER.findall(part[0]):
            yield Entry(f"{module}.{member}", role, anchor(text))


def inventory() -> bytes:
    """Writes the list as Sphinx does: a head, and a compressed line for each name."""
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text("utf-8"))
    head = (
        "# Sphinx inventory version 2\n"
        "# Project: tasker\n"
        f"# Version: {cargo['package']['version']}\n"
        "# The remainder of this file is compressed using zlib.\n"
    )
    # A priority of 1 is the usual one, and `-` says that the name is shown as it is.
    lines = [f"{name} py:{role} 1 {ADDRESS}#{fragment} -\n" for name, role, fragment in entries()]
    return head.encode() + zlib.compress("".join(lines).encode())
