"""Builds the wheels of a release for every CPython found, and tries each as a user gets it.

    python -m scripts.wheels                # builds, looks into and tries them
    python -m scripts.wheels 3.11 3.14t     # for these alone
    python -m scripts.wheels --reproduce    # builds them again, elsewhere, and compares every byte
    python -m scripts.wheels --suite        # runs tests/ on each

A wheel is tried in a new environment, without a Rust toolchain on its path.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from scripts import build_wheel, other_pythons

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist" / "release"
MOST_BYTES = 1_250_000
"""What a wheel may take."""
INSIDE = ("licenses/LICENSE", "licenses/third-party/LICENSES.txt", "sboms/tasker-rs.cdx.json")
"""What else than the package has to be in it, below `.dist-info`."""


def main() -> None:
    """Does what the command line asks for; the first thing that is wrong ends it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("versions", nargs="*", help="of CPython; all that are found when left out")
    parser.add_argument("--reproduce", action="store_true", help="build twice and compare")
    parser.add_argument("--suite", action="store_true", help="run the whole suite on each")
    options = parser.parse_args()
    if not build_wheel.has_zig():
        sys.exit("wheels: zig builds them, on Linux: pip install --group wheels")
    pythons = interpreters(options.versions)
    shutil.rmtree(DIST, ignore_errors=True)
    build_wheel.build(DIST, list(pythons.values()))
    for version, program in pythons.items():
        wheel = wheel_for(version)
        print(f"{wheel.name}: {wheel.stat().st_size:,} bytes, {look_into(wheel)} files", flush=True)
        try_out(wheel, program, suite=options.suite)
    if options.reproduce:
        reproduce(list(pythons.values()))
    print("wheels: passed")


def interpreters(versions: list[str]) -> dict[str, str]:
    """The program of each version and build of CPython, this one's among them."""
    found = {str(other_pythons.probe(sys.executable)): sys.executable}
    for program in other_pythons.candidates():
        if build := other_pythons.probe(program):
            found.setdefault(str(build), program)
    if missing := set(versions) - set(found):
        sys.exit(f"wheels: there is no CPython {sorted(missing)} on this machine")
    return {
        version: program
        for version, program in found.items()
        if version in versions or not versions
    }


def wheel_for(version: str) -> Path:
    """The wheel of a version such as 3.14t."""
    digits = version.rstrip("t").replace(".", "")
    (wheel,) = DIST.glob(f"*-cp{digits}-cp{version.replace('.', '')}-*.whl")
    return wheel


def look_into(wheel: Path) -> int:
    """Checks what is in a wheel, and returns the number of its files."""
    if wheel.stat().st_size >= MOST_BYTES:
        sys.exit(f"wheels: {wheel.name} takes {wheel.stat().st_size:,} bytes of {MOST_BYTES:,}")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        missing = [end for end in INSIDE if not any(name.endswith(end) for name in names)]
        if missing:
            sys.exit(f"wheels: {wheel.name} lacks {missing}")
        for name in names:
            if traces := paths_in(archive.read(name)):
                sys.exit(f"wheels: {name} in {wheel.name} names a folder of this machine: {traces}")
    return len(names)


def paths_in(content: bytes) -> list[str]:
    """The folders of whoever built it that a file tells of."""
    folders = {f"{folder}/" for folder in (ROOT, Path.home())}
    return sorted(folder for folder in folders if folder.encode() in content)


def try_out(wheel: Path, program: str, *, suite: bool) -> None:
    """Installs a wheel where there is no Rust, and runs the demo, or the suite as well."""
    with tempfile.TemporaryDirectory() as folder:
        python = str(Path(folder) / "bin" / "python")
        environment = {**os.environ, "PATH": f"{folder}/bin:/usr/bin:/bin"}
        if shutil.which("cargo", path=environment["PATH"]):
            environment["PATH"] = f"{folder}/bin"
        steps = [
            [program, "-m", "venv", folder],
            [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel)],
            [python, "-m", "tasker", "demo", "--pages", "200"],
        ]
        for step in steps:
            subprocess.run(step, cwd=folder, env=environment, check=True, stdout=sys.stderr)
        if suite:
            groups = ["--group", str(ROOT / "pyproject.toml") + ":test"]
            subprocess.run([python, "-m", "pip", "install", "--quiet", *groups], check=True)
            subprocess.run([python, "-m", "pytest"], cwd=ROOT, check=True)


def reproduce(programs: list[str]) -> None:
    """Builds all wheels again, from a copy of the tree in another folder, and compares them."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        files = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.split("\0")
        for name in filter(None, files):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
        again = Path(folder) / "dist"
        build_wheel.build(again, programs, root=copy, target=Path(folder) / "target")
        for wheel in sorted(DIST.glob("*.whl")):
            if wheel.read_bytes() != (again / wheel.name).read_bytes():
                sys.exit(f"wheels: {wheel.name} is another one when it is built again")
            print(f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel.name}")


if __name__ == "__main__":
    main()
