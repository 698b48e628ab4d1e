"""Writes the docstrings of what is public into `docs/reference.md`, between its markers.

A line `<!-- tasker.Runner -->` begins a part that is written anew, `<!-- end -->` ends it. What is
outside is written by hand. The sources are read and not imported, so that every interpreter gives
the same page.

    python scripts/reference.py
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python"
PAGE = ROOT / "docs" / "reference.md"
PART = re.compile(r"^<!-- (?P<name>tasker[\w.]*) -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Example):$", re.MULTILINE)
Function = ast.FunctionDef | ast.AsyncFunctionDef
FEW = 4
"""A class with more methods than this has a list of them."""
MODULES = (
    "tasker",
    "tasker.testing",
    "tasker.prometheus",
    "tasker.opentelemetry",
    "tasker.live",
    "tasker.dashboard",
    "tasker.ray",
)
"""Those that users import from."""
LISTS = {"Args": "Arguments", "Attributes": "Attributes", "Raises": "Errors"}


@dataclass(frozen=True)
class Defined:
    """A class or function with the module that defines it."""

    module: str
    node: ast.ClassDef | Function

    @property
    def body(self) -> list[ast.stmt]:
        """What stands in a class; nothing for a function."""
        return self.node.body if isinstance(self.node, ast.ClassDef) else []

    @property
    def bases(self) -> list[ast.expr]:
        """The base classes as they are written."""
        return self.node.bases if isinstance(self.node, ast.ClassDef) else []


@cache
def tree_of(module: str) -> ast.Module:
    """Parses a module of the package; of the native one, its stub."""
    path = PACKAGE.joinpath(*module.split("."))
    candidates = path.with_suffix(".pyi"), path.with_suffix(".py"), path / "__init__.py"
    return ast.parse(next(file for file in candidates if file.is_file()).read_text("utf-8"))


def find(module: str, name: str) -> Defined | None:
    """Follows imports to the definition of a name; `None` for what is not of the package."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return Defined(module, node)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tasker"):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return find(str(node.module), alias.name)
    return None


def bases(defined: Defined) -> Iterator[Defined]:
    """Gives the base classes that are of the package."""
    for written in defined.bases:
        base = written.value if isinstance(written, ast.Subscript) else written
        # `_tasker.Executor`: of the module beside this one.
        module = f"tasker.{ast.unparse(base.value)}" if isinstance(base, ast.Attribute) else ""
        if module == "tasker._tasker":
            found = find(module, ast.unparse(base).rsplit(".", 1)[1])
        else:
            found = find(defined.module, base.id) if isinstance(base, ast.Name) else None
        if found is not None and found != defined:
            yield found


def members(defined: Defined) -> dict[str, Function]:
    """Gives the documented methods and properties; not those of a base that is public itself."""
    found: dict[str, Function] = {}
    for base in bases(defined):
        if base not in published():
            found |= {name: node for name, node in members(base).items() if name not in found}
    returns: dict[str, ast.expr | None] = {}
    for node in defined.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            # Of overloads the last has the docstring, and the first says what is the rule.
            node.returns = returns.setdefault(node.name, node.returns)
            if ast.get_docstring(node):
                found[node.name] = node
    return found


def constructor(defined: Defined) -> Function | None:
    """Finds what makes an object of a class."""
    for node in defined.body:
        if isinstance(node, Function) and node.name in {"__init__", "__new__"}:
            return node
    for base in bases(defined):
        if (made := constructor(base)) is not None:
            return made
    return None


@cache
def published() -> list[Defined | None]:
    """Gives all that users import from the package."""
    return [find(module, name) for module in MODULES for name in names(module)]


def names(module: str) -> list[str]:
    """Reads `__all__`."""
    for node in tree_of(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(node.value) if name != "__version__"]
    return []


def signature(node: Function, called: str) -> str:
    """Shows how a function is called, and what it returns: types are for editors and checkers."""
    arguments = copy.deepcopy(node.args)
    listed = arguments.posonlyargs or arguments.args
    if listed and listed[0].arg in {"self", "cls"}:
        del listed[0]
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    returns = "" if node.returns is None else type_text(node.returns)
    if is_property(node):
        return f"`{called}: {returns}`"
    word = "await " if isinstance(node, ast.AsyncFunctionDef) else ""
    result = f" -> {returns}" if returns and node.name not in {"__init__", "__new__"} else ""
    return f"`{word}{called}({ast.unparse(arguments)}){result}`"


def is_property(node: Function) -> bool:
    """Tells a property from a method."""
    return any(ast.unparse(decorator) == "property" for decorator in node.decorator_list)


def type_text(annotation: ast.expr) -> str:
    """Shows a type without the modules and underscores that the sources need."""
    text = ast.unparse(annotation).replace('"', "").replace("'", "")
    if "Literal" in ast.unparse(annotation):
        text = ast.unparse(annotation)
    return re.sub(r"\b_[a-z]\w*\.|\b_(?=[A-Z]\b)", "", text)


def items(body: str) -> list[tuple[str, str]]:
    """Splits a section into names and what is said of them."""
    found = re.findall(r"^ {4}(\S.*?): (.*(?:\n {8}.*|\n)*)", body, re.MULTILINE)
    return [(name, one_line(text)) for name, text in found]


def one_line(text: str) -> str:
    """Joins the lines of a text."""
    return " ".join(text.split())


def prose(docstring: str) -> str:
    """Turns a docstring into Markdown: its sections into lists and a block of code."""
    first, *rest = SECTION.split(docstring)
    parts = [first.strip()]
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        if title in LISTS:
            lines = [f"- `{name}`: {text}" for name, text in items(body)]
            parts.append("\n".join([f"{LISTS[title]}:", "", *lines]))
        elif title == "Returns":
            parts.append(f"Returns: {one_line(body)}")
        else:
            code = re.sub(r"^ {4}", "", body.strip("\n").rstrip(), flags=re.MULTILINE)
            parts.append(f"```pycon\n{code}\n```")
    return "\n\n".join(parts)


def declared(node: ast.stmt) -> tuple[str, str] | None:
    """Gives the name of a field, and its declaration as users read it."""
    if isinstance(node, ast.Assign):
        name = ast.unparse(node.targets[0])
        return name, name
    if not isinstance(node, ast.AnnAssign):
        return None
    name, default = ast.unparse(node.target), node.value
    given = "" if default is None else f" = {ast.unparse(default)}"
    return name, f"{name}: {type_text(node.annotation)}{given}"


def fields(node: ast.ClassDef) -> str:
    """Lists the fields of a dataclass or enumeration that have a docstring of their own."""
    rows = []
    for statement, text in zip(node.body, node.body[1:], strict=False):
        field = declared(statement)
        if field and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            rows.append(f"- `{field[1]}`: {one_line(str(text.value.value))}")
    return "\n".join(rows)


def overview(name: str, listed: dict[str, Function]) -> str:
    """Lists the methods and properties of a class with the first lines of their docstrings."""
    rows = ["| | |", "|---|---|"]
    for member, function in listed.items():
        first = (ast.get_docstring(function) or "").partition("\n")[0]
        rows.append(f"| [`{member}`](#{anchor(heading(name, member, function))}) | {first} |")
    return "\n".join(rows)


def heading(name: str, member: str, function: Function) -> str:
    """Names a member of a class; without its kind `Runner.executor` would pass for a class."""
    kind = "attribute" if is_property(function) else "method"
    return f"`{name}.{member}` {kind}"


def anchor(text: str) -> str:
    """Gives the address of a heading on its page."""
    return re.sub(r"[^\w -]", "", text).lower().replace(" ", "-")


def part(path: str, shown: dict[Function, str]) -> str:
    """Writes what stands between the markers of a name.

    Args:
        path: Of what it tells.
        shown: The methods that the page has told of, with their headings; one that several classes
            inherit is told of once.
    """
    module, name = path.rsplit(".", 1)
    defined = find(module, name)
    if defined is None:
        message = f"{path} is not defined"
        raise LookupError(message)
    node = defined.node
    text = prose(ast.get_docstring(node) or "")
    if not isinstance(node, ast.ClassDef):
        return f"{signature(node, name)}\n\n{text}"
    for name_of_field, declaration in filter(None, map(declared, node.body)):
        text = text.replace(f"\n- `{name_of_field}`: ", f"\n- `{declaration}`: ")
    parts = [text]
    made = constructor(defined)
    if made is not None and "Arguments:" in text:
        parts.insert(0, signature(made, name))
    if listed := fields(node):
        parts.append(listed)
    if len(members(defined)) > FEW:
        parts.append(overview(name, members(defined)))
    for member, function in members(defined).items():
        own = heading(name, member, function)
        first = shown.setdefault(function, own)
        said = prose(ast.get_docstring(function) or "")
        if first != own:
            said = f"As [{first}](#{anchor(first)})."
        parts.append(f"### {own}\n\n{signature(function, member)}\n\n{said}")
    return "\n\n".join(parts)


def render(page: str) -> str:
    """Returns the page with every part written anew."""
    shown: dict[Function, str] = {}
    return PART.sub(
        lambda old: f"<!-- {old['name']} -->\n\n{part(old['name'], shown)}\n\n<!-- end -->", page
    )


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text("utf-8")), "utf-8")
