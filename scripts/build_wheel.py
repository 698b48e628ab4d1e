"""Builds the wheel that is published: small, alike on every machine, and silent on who built it.

    python -m scripts.build_wheel --out dist --interpreter python3.13

With zig in the environment, from the dependency group `wheels`, it is a manylinux wheel, which runs
on every Linux of the last years; else it is one for systems as new as this.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
MANYLINUX = "manylinux_2_17"
"""The oldest glibc that Rust's standard library goes with."""


def main() -> None:
    """Builds what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the folder for the wheels")
    parser.add_argument("--interpreter", nargs="+", default=[sys.executable])
    options = parser.parse_args()
    build(options.out, options.interpreter)


def build(
    out: Path, interpreters: list[str], *, root: Path = ROOT, target: Path | None = None
) -> None:
    """Builds a wheel for each interpreter.

    Args:
        out: The folder for the wheels.
        interpreters: Programs of CPython.
        root: The source tree.
        target: The folder for what cargo builds; that of the source tree when left out.

    Raises:
        subprocess.CalledProcessError: maturin failed, and has said why.
    """
    command = [sys.executable, "-m", "maturin", "build", "--release", "--locked", "--quiet"]
    command += ["--compression-level", "9", "--out", str(out)]
    if has_zig():
        command += ["--zig", "--compatibility", MANYLINUX]
    command += ["--interpreter", *interpreters]
    environment = {**os.environ, "RUSTFLAGS": flags(root)}
    # PyO3 reads it, and it is one interpreter's.
    environment.pop("PYO3_PYTHON", None)
    # Where maturin looks for zig.
    folders = (str(Path(sys.executable).parent), environment.get("PATH", ""))
    environment["PATH"] = os.pathsep.join(folders)
    if target:
        environment["CARGO_TARGET_DIR"] = str(target)
    subprocess.run(command, cwd=root, env=environment, check=True)


def has_zig() -> bool:
    """Whether a manylinux wheel can be built here."""
    return sys.platform == "linux" and importlib.util.find_spec("ziglang") is not None


def flags(root: Path) -> str:
    """What the compiler is told: messages of panics name files, but not where crates lie."""
    cargo = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    hidden = {cargo / "registry" / "src": "crates", root.resolve(): "tasker-rs"}
    remaps = [f"--remap-path-prefix={place}={name}" for place, name in hidden.items()]
    return " ".join([os.environ.get("RUSTFLAGS", ""), *remaps]).strip()


if __name__ == "__main__":
    main()
