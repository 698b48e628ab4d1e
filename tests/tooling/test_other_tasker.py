"""What the README says of the index's other `tasker`, a module of the same name, is so."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OTHER = {
    "tasker.py": "whose = 'the other'\n",
    "tasker-0.3.dist-info/METADATA": "Metadata-Version: 2.1\nName: tasker\nVersion: 0.3\n",
    "tasker-0.3.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "tasker-0.3.dist-info/RECORD": "tasker.py,,\ntasker-0.3.dist-info/METADATA,,\n"
    "tasker-0.3.dist-info/WHEEL,,\ntasker-0.3.dist-info/RECORD,,\n",
}
"""As on the index: one module, no package."""
WHOSE = "import tasker; print(getattr(tasker, 'whose', None) or tasker.Runner.__module__)"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The other one, and the installed one packed again, as pip takes them."""
    folder = tmp_path_factory.mktemp("wheels")
    other = folder / "tasker-0.3-py3-none-any.whl"
    with zipfile.ZipFile(other, "w") as archive:
        for name, text in OTHER.items():
            archive.writestr(name, text)
    installed = distribution("tasker-rs")
    said = (installed.read_text("WHEEL") or "").splitlines()
    tag = next(line.removeprefix("Tag: ") for line in said if line.startswith("Tag: "))
    own = folder / f"tasker_rs-{installed.version}-{tag}.whl"
    with zipfile.ZipFile(own, "w") as archive:
        for file in installed.files or []:
            if ".." not in file.parts and file.suffix != ".pyc":
                archive.write(str(file.locate()), str(file))
    return {"tasker": other, "tasker-rs": own}


@pytest.mark.parametrize("order", [("tasker", "tasker-rs"), ("tasker-rs", "tasker")])
def test_beside_this_package_the_other_cannot_be_imported(
    order: tuple[str, str], wheels: dict[str, Path], tmp_path: Path
) -> None:
    venv.create(tmp_path, with_pip=True)
    windows = sys.platform == "win32"
    python = str(tmp_path / ("Scripts/python.exe" if windows else "bin/python"))

    def run(*arguments: str) -> str:
        command = [python, "-I", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    for name in order:
        run("-m", "pip", "install", "--no-index", "--no-deps", str(wheels[name]))
    assert run("-c", WHOSE) == "tasker"
    # Neither has overwritten anything of the other.
    run("-m", "pip", "uninstall", "--yes", "tasker-rs")
    assert run("-c", WHOSE) == "the other"


def test_the_readme_says_so() -> None:
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert (
        "another author's module of the same name: beside this package it cannot be imported"
        in readme
    )
