"""Checks that dependencies go down the layers of `layers.toml`, and that no file is too long.

    python scripts/check_layers.py [ROOT]

A file may depend on lower layers, and within its own layer on files that do not depend on it. What
offends is printed as `file:line: layer -> layer (path)`. What counts as a dependency:

- Rust: each path in a `use`, re-exports included, and in expressions, types and macros; not what
  stands in comments, strings and test modules, and not `mod x;`. A name that a `mod.rs` hands on
  is a dependency on that `mod.rs`, which depends itself on where the name comes from.
- Python: each import, also in functions and under `TYPE_CHECKING`. Only the stub's own do not
  count: the native module that it describes is compiled and at the bottom.

Blank lines, comments, docstrings and test modules are not lines of code.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
LAYERS = "scripts/layers.toml"
MOST_LINES = 500
MOST_TIED = 6  # files in all knots together

Names = tuple[str, ...]  # of a module or of an item: ("crate", "engine", "task")


class Use(NamedTuple):
    """A path that a file names, from the root of the crate or of the package."""

    line: int
    path: Names


class Source(NamedTuple):
    """What matters of one file."""

    file: str
    uses: list[Use]
    lines: int


class Fault(NamedTuple):
    """What is printed."""

    file: str
    line: int
    text: str


# Rust

INNER_COMMENT = r"/\*(?:(?!/\*|\*/).)*\*/"
NOT_CODE = re.compile(
    rf"//[^\n]*|/\*(?:{INNER_COMMENT}|(?!\*/).)*\*/"
    r'|\b[bc]?r(#*)".*?"\1|"(?:\\.|[^"\\])*"'
    r"|'(?:\\.[^']*|[^'\\])'"  # a character, not a lifetime
    r"|\bpub\s*\((?:in\s[^)]*|\s*(?:crate|self|super)\s*)\)",
    re.DOTALL,
)
TEST_MODULE = re.compile(
    r"#\[cfg\((?:test|all\(\s*test\b[^]]*\))\)\]\s*(?:#\[[^]]*\]\s*)*(?:pub\s+)?mod\s+(\w+)\s*[;{]"
)
MODULE = re.compile(r"\bmod\s+(\w+)\s*[;{]")
USE = re.compile(r"\buse\s+([^;<]*;)")
USE_TOKEN = re.compile(r"\bas\s+\w+|\w+|[{},;]")
PATH = re.compile(r"(?<![\w:])\w+(?:\s*::\s*\w+)+")


def blank(text: str, by: str = " ") -> str:
    """As many lines of the same lengths."""
    return "\n".join(by * len(line) for line in text.split("\n"))


def end_of(item: re.Match[str]) -> int:
    """Where an item ends whose head, the match, ends with a semicolon or an opening brace."""
    depth = 0
    for mark in re.compile(r"[{};]").finditer(item.string, item.end() - 1):
        depth += {"{": 1, "}": -1, ";": 0}[mark[0]]
        if not depth:
            return mark.end()
    return len(item.string)


def read_rust(root: Path) -> dict[Names, Source]:
    """The files of the crate that are not tests, by their modules."""
    code: dict[Names, tuple[str, str]] = {}
    tests: set[Names] = set()
    for file in sorted(root.glob("src/**/*.rs")):
        parts = file.relative_to(root / "src").with_suffix("").parts
        module: Names = "crate", *(parts[:-1] if parts[-1] in {"mod", "lib"} else parts)
        text = file.read_text(encoding="utf-8")
        text = NOT_CODE.sub(lambda no: blank(no[0], '"' if '"' in no[0][:6] else " "), text)
        while test := TEST_MODULE.search(text):
            tests.add((*module, test[1]))
            start, end = test.start(), end_of(test)
            text = text[:start] + blank(text[start:end]) + text[end:]
        code[module] = file.relative_to(root).as_posix(), text
    kept = {of: code[of] for of in code if not any(of[: len(test)] == test for test in tests)}
    return {
        module: Source(
            file,
            rust_uses(text, module, kept.keys()),
            sum(1 for line in text.split("\n") if line.strip()),
        )
        for module, (file, text) in kept.items()
    }


def rust_uses(text: str, module: Names, modules: Set[Names]) -> list[Use]:
    """The paths of the crate that a file names, without comments and tests."""
    inner = [(item[1], item.start(), end_of(item)) for item in MODULE.finditer(text)]

    def scope(at: int) -> Names:
        return (*module, *(name for name, start, end in inner if start < at < end))

    # What a path may begin with, beside `crate`, `self` and `super`.
    bound: dict[str, Names] = {name: (*scope(start), name) for name, start, _ in inner}
    uses = []
    for at, path, name in [*use_leaves(text), *paths(text)]:
        if target := absolute(path, scope(at), bound):
            uses.append(Use(text.count("\n", 0, at) + 1, target))
            if name and target in modules:
                bound[name] = target
    return uses


def use_leaves(text: str) -> Iterator[tuple[int, Names, str]]:
    """Where each name of a `use` stands, its whole path, and how it is called in this file."""
    for use in USE.finditer(text):
        name, at, path, groups = "", 0, Names(), [Names()]
        for token in USE_TOKEN.finditer(text, use.start(1), use.end(1)):
            if token[0] == "{":
                groups.append(path)
            elif token[0] in {",", "}", ";"}:
                if path != groups[-1]:
                    yield at, path[:-1] if path[-1] == "self" else path, name
                if token[0] == "}":
                    groups.pop()
                path = groups[-1]
            elif token[0].startswith("as "):
                name = token[0][3:].strip()
            else:
                name = path[-1] if path and token[0] == "self" else token[0]
                path, at = (*path, token[0]), token.start()


def paths(text: str) -> Iterator[tuple[int, Names, str]]:
    """The paths outside of `use`; they give nothing a name."""
    for path in PATH.finditer(USE.sub(lambda use: blank(use[0]), text)):
        yield path.start(), tuple(re.split(r"\s*::\s*", path[0])), ""


def absolute(path: Names, scope: Names, bound: Mapping[str, Names]) -> Names | None:
    """A path from the root of the crate; nothing for one that leads out of it."""
    if path[0] == "crate":
        return path
    if path[0] not in {"self", "super"}:
        return (*bound[path[0]], *path[1:]) if path[0] in bound else None
    while path and path[0] in {"self", "super"}:
        scope, path = scope[:-1] if path[0] == "super" else scope, path[1:]
    return (*scope, *path)


# Python


def read_python(root: Path) -> dict[Names, Source]:
    """The files of the package by their modules."""
    sources = {}
    for file in sorted([*root.glob("python/**/*.py"), *root.glob("python/**/*.pyi")]):
        parts = file.relative_to(root / "python").with_suffix("").parts
        package = parts[:-1]
        module = package if parts[-1] == "__init__" else parts
        text = file.read_text(encoding="utf-8")
        uses, lines = list[Use](), text.splitlines()
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Expr(value=ast.Constant(value=str()), lineno=first, end_lineno=last):
                    lines[first - 1 : last] = [""] * (1 + (last or first) - first)
                case ast.Import(names=names):
                    uses += [Use(name.lineno, tuple(name.name.split("."))) for name in names]
                case ast.ImportFrom(module=origin, names=names, level=level):
                    above = package[: len(package) + 1 - level] if level else ()
                    base = (*above, *(origin.split(".") if origin else ()))
                    uses += [Use(name.lineno, (*base, name.name)) for name in names]
                case _:
                    pass
        sources[module] = Source(
            file.relative_to(root).as_posix(),
            [] if file.suffix == ".pyi" else uses,
            sum(1 for line in lines if line.strip() and not line.lstrip().startswith("#")),
        )
    return sources


# Both


def check(
    sources: Mapping[Names, Source],
    layers: list[tuple[str, list[str]]],
    knots: list[frozenset[str]],
) -> Iterator[Fault]:
    """What offends in the files, given the layers from the bottom up, and what may be circular."""
    places = {place: rank for rank, (_, inside) in enumerate(layers) for place in inside}
    unused, rank = set(places), dict[str, int]()
    for file, _, lines in sources.values():
        fitting = [place for place in places if file == place or file.startswith(f"{place}/")]
        unused.difference_update(fitting)
        if fitting:
            rank[file] = places[max(fitting, key=len)]
        else:
            yield Fault(file, 1, f"in no layer of {LAYERS}")
        if lines > MOST_LINES:
            yield Fault(file, 1, f"{lines} lines of code, {MOST_LINES} at most")
    for place in unused:
        yield Fault(LAYERS, 1, f"{place}: there is no such file")

    arrows = [
        (source.file, line, target, path)
        for source in sources.values()
        for line, path in source.uses
        if (target := owner(path, sources)) in rank and source.file in rank
        if target != source.file
    ]
    # With a knot's arrows upwards, so that a circle is found that leaves the knot.
    below: dict[str, set[str]] = {file: set() for file in rank}
    for file, _, target, _ in arrows:
        if rank[target] <= rank[file] or any({file, target} <= knot for knot in knots):
            below[file].add(target)
    needs = {file: reachable(file, below) for file in below}
    untied = set().union(*knots)
    for file, line, target, path in arrows:
        if (down := rank[target] <= rank[file]) and file not in needs[target]:
            continue
        if any({file, target} <= knot for knot in knots):
            untied -= {file, target}
            continue
        name = ("::" if path[0] == "crate" else ".").join(path)
        text = f"{layers[rank[file]][0]} -> {layers[rank[target]][0]} ({name})"
        yield Fault(file, line, text + ", in a circle" * down)
    for file in untied:
        yield Fault(LAYERS, 1, f"{file}: is in a knot and needs none")
    if (tied := len(set().union(*knots))) > MOST_TIED:
        yield Fault(LAYERS, 1, f"{tied} files in knots, {MOST_TIED} at most")


def owner(path: Names, sources: Mapping[Names, Source]) -> str:
    """The file that a path leads to: the module that the longest part of it names."""
    modules = (path[:length] for length in range(len(path), 0, -1))
    return next((sources[module].file for module in modules if module in sources), "")


def reachable(file: str, below: Mapping[str, Set[str]]) -> set[str]:
    """Whatever a file depends on, directly or not."""
    found, unseen = set[str](), [file]
    while unseen:
        new = below[unseen.pop()] - found
        found |= new
        unseen += new
    return found


def main(root: Path = ROOT) -> int:
    """Prints what offends.

    Returns:
        The exit status: 0 when nothing does.
    """
    declared = tomllib.loads((root / LAYERS).read_text(encoding="utf-8"))
    knots = [frozenset(knot["files"]) for knot in declared.pop("knot", [])]
    layers = [layer for order in declared.values() for layer in order.items()]
    sources = read_rust(root) | read_python(root)
    faults = sorted(set(check(sources, layers, knots)))
    for file, line, text in faults:
        print(f"{file}:{line}: {text}")
    if not faults:
        print(
            f"{len(sources)} files in {len(layers)} layers: "
            "no dependency goes upwards, none makes a circle"
        )
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
