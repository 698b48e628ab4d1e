"""Runs a program under valgrind's callgrind and reads what it counted."""

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which


@dataclass
class Counts:
    """Instructions: of each shared library by itself, of each function with all below it."""

    by_library: Counter[str] = field(default_factory=Counter)
    by_function: Counter[str] = field(default_factory=Counter)

    def per_task(self, less: "Counts", tasks: int) -> "Counts":
        """What so many tasks more cost, divided by their number: without start and end."""
        difference = Counts()
        for name in ("by_library", "by_function"):
            more, fewer = getattr(self, name), getattr(less, name)
            for key in more:
                getattr(difference, name)[key] = (more[key] - fewer[key]) // tasks
        return difference


def is_available() -> bool:
    """Whether valgrind is installed."""
    return which("valgrind") is not None


def run(program: str, arguments: Sequence[str], environment: dict[str, str]) -> Counts:
    """Runs a Python program under callgrind; an error of the program is an error here."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "callgrind.out")
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output}"]
        subprocess.run(
            [*command, sys.executable, "-c", program, *arguments],
            env=environment,
            stderr=subprocess.PIPE,
            check=True,
            timeout=600,
        )
        return read(output.read_text("utf-8", "replace").splitlines())


# The format is described in valgrind's manual, under "Callgrind Format Specification": a name is
# written once and referred to by its number from then on; positions are absolute or relative; the
# line after `calls=` is what a call cost with all below it, any other line of numbers what the
# function spent itself.
_NAME = re.compile(r"(ob|fn|cob|cfn)=\((\d+)\)(?: (.*))?")
_COST = re.compile(r"[\d*+-]\S*(?: \S+)* (\d+)$")


def read(lines: Sequence[str]) -> Counts:
    """Adds up what a file of callgrind's says."""
    counts = Counts()
    names: dict[tuple[str, str], str] = {}
    library = called = ""
    calling = False
    for kind, value in _records(lines):
        match kind:
            case "calls":
                calling = True
            case "cost" if calling:
                counts.by_function[called] += int(value)
                calling = False
            case "cost":
                counts.by_library[library] += int(value)
            case _:
                number, _, name = value.partition(" ")
                key = (kind.removeprefix("c"), number)
                name = names.setdefault(key, name)
                if kind == "ob":
                    library = Path(name).name
                elif kind == "cfn":
                    called = re.sub(r"'\d+$", "", name)
    return counts


def _records(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if named := _NAME.match(line):
            yield named[1], f"{named[2]} {named[3] or ''}"
        elif line.startswith("calls="):
            yield "calls", ""
        elif cost := _COST.match(line):
            yield "cost", cost[1]
