"""Where figures were measured: the machine, the interpreter, the package, and who else was busy."""

import os
import platform
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import tasker

STATISTICS = Path("/proc/stat")


@dataclass(frozen=True)
class ProcessorTime:
    """Seconds up to now: what all cores had to give, and what others than this process took."""

    capacity: float
    others: float

    @classmethod
    def so_far(cls) -> Self | None:
        """Reads the figures; None where the system does not tell."""
        if not STATISTICS.exists():
            return None
        # Only the idle time is exact here: the other fields miss short turns of threads.
        idle, waiting = STATISTICS.read_text("ascii").split()[4:6]
        unused = (int(idle) + int(waiting)) / os.sysconf("SC_CLK_TCK")
        capacity = time.monotonic() * (os.cpu_count() or 1)
        return cls(capacity, others=capacity - unused - sum(os.times()[:4]))

    def share_of_others_since(self, earlier: Self) -> float:
        """What part of all processor time went to others, from 0 to 1."""
        return (self.others - earlier.others) / (self.capacity - earlier.capacity)


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
