"""Lets interpreters exit while their runner is busy, again and again, and counts what goes wrong.

    python scripts/exits.py [--count 200] [--jobs 2] [--objects 2000000] [PYTHON ...]

Each interpreter makes so many exits, spread over all the ways to be busy that
`tests/lifecycle/busy_exits.py` knows. It needs the package installed. Without a name it is the one
that runs this script, and those that `make pythons` has prepared under `.venvs/`. An exit passes
if the process ends in time, with status 0 and nothing on standard error.
"""

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice, repeat
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROGRAM = ROOT / "tests" / "lifecycle" / "busy_exits.py"
VERSION = "import sys, tasker; print(sys.version.split()[0])"
LIMIT = 60.0
FAULTS_SHOWN = 10


@dataclass(frozen=True)
class Exit:
    """How one exit went; it passed if there is no fault."""

    name: str
    seconds: float
    fault: str
    errors: str


def main() -> int:
    """Makes the exits and prints a table of them.

    Returns:
        The exit status: 0 when all passed.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pythons", nargs="*", metavar="PYTHON", help="default: this, and .venvs/")
    parser.add_argument("--count", type=int, default=200, help="exits of each interpreter")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    parser.add_argument("--objects", type=int, default=2_000_000, help="live objects in each")
    options = parser.parse_args()
    prepared = sorted(str(python) for python in ROOT.glob(".venvs/*/bin/python"))
    faults = 0
    for python in options.pythons or [sys.executable, *prepared]:
        names = list(islice(cycle(ask(python, str(PROGRAM)).split()), options.count))
        print(f"\nPython {ask(python, '-c', VERSION)}: {len(names)} exits", flush=True)
        with ThreadPoolExecutor(options.jobs) as pool:
            exits = pool.map(leave, repeat(python), names, repeat(str(options.objects)))
        faults += show(list(exits))
    print(f"\nexits: {f'{faults} FAILED' if faults else 'passed'}")
    return int(faults > 0)


def ask(python: str, *arguments: str) -> str:
    """Returns what an interpreter prints."""
    command = [python, *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def leave(python: str, name: str, objects: str) -> Exit:
    """Makes one exit."""
    start = time.monotonic()
    command = [python, str(PROGRAM), name, objects]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return Exit(name, LIMIT, "hung", "")
    fault = ""
    if done.returncode:
        fault = f"status {done.returncode}"
    elif done.stderr:
        fault = "standard error"
    elif done.stdout != "exiting\n":
        fault = f"standard output {done.stdout!r}"
    return Exit(name, time.monotonic() - start, fault, done.stderr)


def show(exits: list[Exit]) -> int:
    """Prints a line for each way to exit, then the first faults; returns how many there are."""
    print(f"  {'':42} {'exits':>6} {'failed':>7} {'slowest':>9}")
    for name in dict.fromkeys(exit.name for exit in exits):
        same = [exit for exit in exits if exit.name == name]
        failed = sum(bool(exit.fault) for exit in same)
        slowest = max(exit.seconds for exit in same)
        print(f"  {name:42} {len(same):6} {failed or '-':>7} {slowest:7.2f} s")
    faults = [exit for exit in exits if exit.fault]
    for exit in faults[:FAULTS_SHOWN]:
        print(f"\n  {exit.name}: {exit.fault}\n{exit.errors}")
    return len(faults)


if __name__ == "__main__":
    sys.exit(main())
