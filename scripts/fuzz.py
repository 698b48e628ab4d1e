"""Drives the tests that take anything at all by what they cover, with atheris.

    python -m scripts.fuzz --seconds 60          # each of them
    python -m scripts.fuzz --seconds 3600 page   # one of them

The corpus is kept under `tests/corpus/`: what is there is tried first, what covers more is added.
An input that fails is written beside it and ends the run. Atheris is no part of a dependency group:
it has wheels for few versions of Python.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
CORPUS = ROOT / "tests" / "corpus"
TARGETS = {
    "settings": (
        "tests.property.test_hostile_settings",
        "test_settings_are_taken_or_refused_by_name",
    ),
    "options": (
        "tests.property.test_hostile_settings",
        "test_options_are_taken_or_refused_by_name",
    ),
    "page": ("tests.sight.test_dashboard_requests", "test_every_request_gets_one_answer"),
}


def main() -> None:
    """Runs each target in a process of its own: libFuzzer ends the one that it is in."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each")
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}; all when left out")
    options = parser.parse_args()
    if target := os.environ.get("TASKER_FUZZ_TARGET"):
        drive(target, options.seconds)
    for target in options.targets or TARGETS:
        print(f"fuzz: {target}", flush=True)
        command = [sys.executable, "-m", "scripts.fuzz", "--seconds", str(options.seconds)]
        environment = {**os.environ, "TASKER_FUZZ_TARGET": target}
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
    print("fuzz: passed")


def drive(target: str, seconds: int) -> None:
    """Hands a test's function to atheris, which does not return."""
    atheris: Any = import_module("atheris")
    module, name = TARGETS[target]
    with atheris.instrument_imports(include=["tasker"]):
        test = getattr(import_module(module), name)
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={folder}/failed-",
        "-max_len=1024",
    ]
    atheris.Setup([target, *arguments, str(folder)], test.hypothesis.fuzz_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
