"""Without extras the package works, and the module of each extra says what to install."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

import tasker

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = sorted(PROJECT["optional-dependencies"])


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """The command of a Python that has the package and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv")
    place = folder / "packages"
    shutil.copytree(Path(str(tasker.__file__)).parent, place / "tasker")
    windows = sys.platform == "win32"
    binary = folder / "venv" / ("Scripts/python.exe" if windows else "bin/python")
    with_package = f"import sys; sys.path.append({str(place)!r}); exec(sys.argv[1])"
    return [binary, "-I", "-c", with_package]


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_module_of_an_extra_names_the_command_that_installs_it(
    extra: str, bare: list[str | Path]
) -> None:
    said = subprocess.run([*bare, f"import tasker.{extra}"], capture_output=True, text=True)
    last = said.stderr.splitlines()[-1]
    assert last.startswith(f"ModuleNotFoundError: tasker.{extra} needs "), said.stderr
    assert last.endswith(f": pip install 'tasker-rs[{extra}]'"), said.stderr


def test_the_package_needs_nothing_else(bare: list[str | Path]) -> None:
    program = (
        "from tasker import Config, Runner\n"
        "with Runner(Config(on_create=dict, worker_count=1)) as runner:\n"
        "    print(runner.queue_task(len))"
    )
    said = subprocess.run([*bare, program], capture_output=True, text=True)
    assert (said.returncode, said.stdout, said.stderr) == (0, "0\n", "")
