"""Counts the instructions that one task costs: the same on a busy machine and on an idle one.

    python -m benches.python.instructions             # what each verb costs, and what it may cost
    python -m benches.python.instructions --anatomy   # where a task spends them

What is held to a limit is what the package's own native code spends: the interpreter's share is
another one for each version and build of Python. The anatomy needs a build with symbols, and makes
one.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benches.python import callgrind, report

ROOT = Path(__file__).parents[2]
BEGIN = "<!-- anatomy: begin, written by benches/python/instructions.py -->"
END = "<!-- anatomy: end -->"
FEW, MANY = 2_000, 122_000
"""How many tasks: so many that it hardly matters how long the clock is calibrated at the start."""
REPEATS = 3
"""How often each program runs: the least counts, for threads do not meet the same way twice."""

PRELUDE = """
import sys
import threading
from tasker import Config, Runner

def task(resource, item=None):
    return None

def run(count):
    {run}

runner = Runner(Config(on_create=object, worker_count=1, {settings}))
run(64)
run(int(sys.argv[1]))
runner.stop()
"""

# Nothing here may depend on how long things take: the worker is held while tasks are queued, and
# results are taken when all are there, for how often two threads meet is nobody's choice.
PROGRAMS = {
    "submit": PRELUDE.format(
        settings="",
        run="""
    gate = threading.Event()
    runner.submit(lambda _: gate.wait())
    futures = [runner.submit(task) for _ in range(count)]
    gate.set()
    futures[-1].result()
    for future in futures: future.result()""",
    ),
    "executor.submit": """
import sys
import threading
from tasker import ThreadPoolExecutor

def task():
    return None

def run(count):
    gate = threading.Event()
    executor.submit(gate.wait)
    futures = [executor.submit(task) for _ in range(count)]
    gate.set()
    futures[-1].result()
    for future in futures: future.result()

with ThreadPoolExecutor(1) as executor:
    run(64)
    run(int(sys.argv[1]))
""",
    "run_task": PRELUDE.format(
        settings="thread_bound=False, resource_pool_size=1",
        run="for _ in range(count): runner.run_task(task)",
    ),
    # Batches grow with what is in flight while nothing is known of the items. These take so long
    # that the worker looks up after each, whatever the machine.
    "map": PRELUDE.format(
        settings="",
        run="""
    def work(resource, item):
        for _ in range(100): pass

    gate = threading.Event()
    runner.submit(lambda _: gate.wait())
    results = runner.map(work, range(count), buffersize=count)
    last = runner.submit(task)
    gate.set()
    last.result()
    for _ in results: pass""",
    ),
}

LIMITS = {"submit": 3_050, "executor.submit": 2_780, "run_task": 1_910, "map": 1_550}
"""A tenth more than when the figure was last lowered. Raise one only with a reason."""

# What the first functions cost with all below them, less what the second ones do, which are there.
STAGES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "submit: make the future, take the context": (
        ("EngineHandleRef>::draft", "snapshot::Snapshot::take"),
        (),
    ),
    "submit: gate, lane, wake-up": (("Engine<H>>::submit",), ()),
    "submit: arguments, checks, clock": (
        ("submit::enter",),
        ("EngineHandleRef>::draft", "snapshot::Snapshot::take", "Engine<H>>::submit"),
    ),
    "worker: take it from its lane": (
        ("Worker<H>>::work",),
        ("WorkerSession<H>>::serve",),
    ),
    "worker: claim, show as running, figures, let go": (
        ("WorkerSession<H>>::serve",),
        ("guarded_call::call", "settle::publish", "WorkerSession<H>::count_outcome"),
    ),
    "worker: call the function": (("guarded_call::call",), ()),
    "worker: count and publish the outcome": (
        ("settle::publish", "WorkerSession<H>::count_outcome"),
        (),
    ),
    "caller: result()": (("future::Future>::__pymethod_result__",), ()),
    "caller: the end of the future": (("subtype_dealloc",), ()),
}


def measure(name: str, environment: dict[str, str]) -> callgrind.Counts:
    """What one task costs, by its verb."""

    def once(tasks: int) -> callgrind.Counts:
        runs = [callgrind.run(PROGRAMS[name], [str(tasks)], environment) for _ in range(REPEATS)]
        return min(runs, key=lambda counts: counts.by_library.total())

    return once(MANY).per_task(once(FEW), MANY - FEW)


def ours(counts: callgrind.Counts) -> int:
    """What the package's own native code spent."""
    return sum(count for name, count in counts.by_library.items() if name.startswith("_tasker."))


def check(environment: dict[str, str]) -> int:
    """Prints what each verb costs; the number of those that cost too much."""
    above = 0
    print(f"{'instructions':24}{'all':>8}{'ours':>8}{'limit':>8}")
    for name, limit in LIMITS.items():
        counts = measure(name, environment)
        too_many = ours(counts) > limit
        above += too_many
        verdict = "  above its limit" if too_many else ""
        print(f"{name:24}{counts.by_library.total():8}{ours(counts):8}{limit:8}{verdict}")
    return above


def anatomy(environment: dict[str, str]) -> str:
    """Where a task that is submitted and waited for spends its time, as a table."""
    counts = measure("submit", environment)
    total = counts.by_library.total()
    duration = nanoseconds(environment)

    missing = {
        function
        for functions in STAGES.values()
        for function in (*functions[0], *functions[1])
        if not any(name.endswith(function) for name in counts.by_function)
    }
    if missing:
        # Renamed, or inlined by another compiler.
        names = ", ".join(sorted(missing))
        raise LookupError(f"in this build nothing is called by these names of STAGES: {names}")

    def cost(functions: tuple[str, ...]) -> int:
        found = counts.by_function.items()
        return sum(count for name, count in found if name.endswith(functions))

    stages = {stage: cost(first) - cost(less) for stage, (first, less) in STAGES.items()}
    stages["the caller's own loop, and the rest"] = total - sum(stages.values())
    lines = ["| stage | instructions | share | ns |", "| --- | ---: | ---: | ---: |"]
    for stage, count in [*stages.items(), ("one task", total)]:
        share = count / total
        lines.append(f"| {stage} | {count:,} | {share:.0%} | {share * duration:.0f} |")
    return "\n".join(lines)


def nanoseconds(environment: dict[str, str]) -> float:
    """How long a task takes without valgrind: the best of several runs."""

    def once(tasks: int) -> float:
        command = [sys.executable, "-c", PROGRAMS["submit"], str(tasks)]
        begin = time.perf_counter()
        subprocess.run(command, env=environment, check=True)
        return time.perf_counter() - begin

    few, many = 100_000, 500_000
    best = min(once(many) for _ in range(5)) - min(once(few) for _ in range(5))
    return best / (many - few) * 1e9


def build_with_symbols(folder: Path) -> None:
    """Puts a copy of the package into a folder, optimised and with the names of its functions."""
    environment = {**os.environ, "PYO3_PYTHON": sys.executable}
    command = ["cargo", "build", "--locked", "--quiet", "--profile", "profiling"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    package = folder / "tasker"
    unbuilt = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "python" / "tasker", package, ignore=unbuilt)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    shutil.copy(target / "profiling" / "libtasker.so", package / "_tasker.so")


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--anatomy", action="store_true", help="where a task spends them")
    parser.add_argument(
        "--write-docs", action="store_true", help=f"put the anatomy into {report.PAGE.name}"
    )
    options = parser.parse_args()
    if not callgrind.is_available():
        reason = "instructions: not counted, for valgrind is not installed"
        if os.environ.get("TASKER_REQUIRE") == "all":
            sys.exit(reason)
        print(reason)
        return
    # Hashes of strings decide how far a dictionary has to look.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    if options.anatomy:
        with tempfile.TemporaryDirectory() as folder:
            build_with_symbols(Path(folder))
            table = anatomy({**environment, "PYTHONPATH": folder})
        print(table)
        if options.write_docs:
            report.put_between(BEGIN, END, table)
    elif check(environment):
        sys.exit("instructions: a task costs more than it may")
    else:
        print("instructions: passed")


if __name__ == "__main__":
    main()
