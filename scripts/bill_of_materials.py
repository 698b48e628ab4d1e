"""Writes the bill of materials of the library, as CycloneDX: which crates are linked into it.

    python -m scripts.bill_of_materials           # writes third-party/tasker-rs.cdx.json
    python -m scripts.bill_of_materials --check   # fails when the file does not fit Cargo.lock

maturin's own one has a random serial number, the time and the folder of the build, so that no two
builds are alike, and it lists what only tests link.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FILE = ROOT / "third-party" / "tasker-rs.cdx.json"
TARGETS = [
    f"{processor}-{system}"
    for processor in ("x86_64", "aarch64")
    for system in ("unknown-linux-gnu", "unknown-linux-musl", "apple-darwin", "pc-windows-msvc")
]
"""What releases have wheels for: the bill is one for all of them."""


def main() -> None:
    """Writes or checks the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    text = json.dumps(bill(), indent=1) + "\n"
    if not parser.parse_args().check:
        FILE.write_text(text, "utf-8", newline="\n")
    elif text != FILE.read_text("utf-8"):
        sys.exit(f"{FILE.name} does not fit Cargo.lock; run `make third-party`")


def bill() -> dict[str, Any]:
    """The bill of materials, without anything that a build could change."""
    graph = metadata()
    packages = {package["id"]: package for package in graph["packages"]}
    nodes = {node["id"]: node for node in graph["resolve"]["nodes"]}
    own = graph["resolve"]["root"]
    needs = linked(own, packages, nodes)
    checksums = {
        (package["name"], package["version"]): package.get("checksum")
        for package in tomllib.loads((ROOT / "Cargo.lock").read_text("utf-8"))["package"]
    }

    def component(package: dict[str, Any]) -> dict[str, Any]:
        name, version = package["name"], package["version"]
        # The older way to write an alternative is no expression of SPDX.
        licence = package["license"].replace("/", " OR ")
        entry = {
            "type": "library",
            "bom-ref": purl(package),
            "name": name,
            "version": version,
            "licenses": [{"expression": licence}],
            "purl": purl(package),
        }
        if checksum := checksums[name, version]:
            entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return entry

    def sorted_purls(ids: set[str]) -> list[str]:
        return sorted(purl(packages[each]) for each in ids)

    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(packages[own])},
        "components": [
            component(packages[each])
            for each in sorted(needs, key=lambda each: purl(packages[each]))
            if each != own
        ],
        "dependencies": [
            {"ref": purl(packages[each]), "dependsOn": sorted_purls(needs[each])}
            for each in sorted(needs, key=lambda each: purl(packages[each]))
        ],
    }


def metadata() -> dict[str, Any]:
    """What cargo resolves for the targets of a release."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    for target in TARGETS:
        command += ["--filter-platform", target]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    graph: dict[str, Any] = json.loads(done.stdout)
    return graph


def linked(
    own: str, packages: dict[str, dict[str, Any]], nodes: dict[str, dict[str, Any]]
) -> dict[str, set[str]]:
    """Which packages end up in the library, each with those that it needs.

    What runs while it is built, a macro or a build script, does not.
    """
    found: dict[str, set[str]] = {}
    waiting = [own]
    while waiting:
        each = waiting.pop()
        if each in found:
            continue
        found[each] = {
            dependency["pkg"]
            for dependency in nodes[each]["deps"]
            if any(kind["kind"] is None for kind in dependency["dep_kinds"])
            and not is_macro(packages[dependency["pkg"]])
        }
        waiting += found[each]
    return found


def is_macro(package: dict[str, Any]) -> bool:
    """Whether the compiler runs it."""
    return any("proc-macro" in target["kind"] for target in package["targets"])


def purl(package: dict[str, Any]) -> str:
    """The name by which databases of advisories know a crate."""
    return f"pkg:cargo/{package['name']}@{package['version']}"


if __name__ == "__main__":
    main()
