"""The installed wheel has what a release's wheel must have, and tells nobody where it was built."""

from __future__ import annotations

import json
import tomllib
from importlib.metadata import files
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCKED = {
    (package["name"], package["version"]): package.get("checksum")
    for package in tomllib.loads((ROOT / "Cargo.lock").read_text("utf-8"))["package"]
}

UNSIGNED = {"once_cell"}
"""Crates whose licence has no copyright line in their own sources."""

WRITTEN_BY_PIP = {"INSTALLER", "REQUESTED", "direct_url.json"}


def test_the_bill_of_materials_and_the_licences_travel_in_the_wheel() -> None:
    for own in ("LICENSE", "third-party/LICENSES.txt"):
        assert in_wheel(f"licenses/{own}").read_text("utf-8") == (ROOT / own).read_text("utf-8")
    bill = ROOT / "third-party" / "tasker-rs.cdx.json"
    assert in_wheel(f"sboms/{bill.name}").read_text("utf-8") == bill.read_text("utf-8")


def test_the_bill_of_materials_names_what_is_locked() -> None:
    bill = json.loads((ROOT / "third-party" / "tasker-rs.cdx.json").read_text("utf-8"))
    components = bill["components"]
    assert len(components) > 10
    for component in components:
        (hashed,) = component["hashes"]
        assert LOCKED[component["name"], component["version"]] == hashed["content"]


def test_every_crate_of_the_bill_of_materials_has_its_licence_and_copyright_line() -> None:
    bill = json.loads((ROOT / "third-party" / "tasker-rs.cdx.json").read_text("utf-8"))
    licences = (ROOT / "third-party" / "LICENSES.txt").read_text("utf-8")
    _, *sections = licences.split("=" * 80)
    for component in bill["components"]:
        entry = f"\n- {component['name']} {component['version']}\n"
        (section,) = [section for section in sections if entry in section]
        assert "Permission is hereby granted" in section
        assert component["name"] in UNSIGNED or "Copyright (c)" in section, component["name"]


def test_nothing_in_the_wheel_names_a_folder_of_whoever_built_it() -> None:
    folders = {str(Path.home()), str(ROOT)} - {"/"}
    for file in files("tasker-rs") or []:
        if file.suffix != ".pyc" and file.parts[0] != ".." and file.name not in WRITTEN_BY_PIP:
            content = Path(str(file.locate())).read_bytes()
            assert [folder for folder in folders if folder.encode() in content] == [], file


def in_wheel(end: str) -> Path:
    """The installed file whose path ends so."""
    inside = files("tasker-rs") or []
    (found,) = [file for file in inside if str(file).endswith(f".dist-info/{end}")]
    return Path(str(found.locate()))
