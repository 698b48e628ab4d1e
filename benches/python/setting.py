"""Where figures were measured: the machine, the interpreter, the package."""

import os
import platform
import re
import sys
from pathlib import Path

import tasker


def describe() -> dict[str, str]:
    """What somebody has to know who compares figures of different runs; nothing of the day."""
    return {
        "Machine": machine(),
        "Python": python(),
        "tasker": f"{tasker.__version__}, release build, default settings",
    }


def machine() -> str:
    processor, virtual = platform.processor() or platform.machine(), ""
    description = Path("/proc/cpuinfo")
    if description.exists():
        text = description.read_text("utf-8")
        if model := re.search(r"^model name\s*: (.+)", text, re.MULTILINE):
            processor = model[1]
        if re.search(r"^flags\s*:.*\bhypervisor\b", text, re.MULTILINE):
            virtual = ", a virtual machine"
    system = f"{platform.system()} {platform.machine()}"
    return f"{os.cpu_count()} cores of {processor}{virtual}; {system}"


def python() -> str:
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    gil = "with the GIL" if has_gil else "without the GIL"
    name, version = platform.python_implementation(), platform.python_version()
    return f"{name} {version}, {gil}, built with {platform.python_compiler()}"
