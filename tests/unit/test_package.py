"""What `import tasker` offers."""

import importlib
import re
from types import ModuleType

import pytest

import tasker
from tasker import Priority, _lifecycle, _tasker


def test_all_names_every_public_name_and_nothing_else() -> None:
    names = {name for name in dir(tasker) if not name.startswith("_")} | {"__version__"}
    # A module of the package is one of its names once it has been imported.
    public = {name for name in names if not isinstance(getattr(tasker, name), ModuleType)}
    assert set(tasker.__all__) == public
    assert sorted(tasker.__all__) == tasker.__all__


def test_every_public_class_and_function_is_documented() -> None:
    for name in set(tasker.__all__) - {"__version__"}:
        assert (getattr(tasker, name).__doc__ or "").strip(), name


def test_the_version_is_that_of_the_native_module() -> None:
    assert tasker.__version__ == _tasker.__version__
    assert re.match(r"\d+\.\d+\.\d+", tasker.__version__)


def test_priorities_are_ordered_by_urgency() -> None:
    assert list(Priority) == [0, 1, 2]
    assert [each.name for each in Priority] == ["LOW", "NORMAL", "HIGH"]


def test_an_unoptimised_build_warns_when_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lifecycle, "install_hooks", lambda: None)
    monkeypatch.setattr(_tasker, "_debug_build", True)
    with pytest.warns(RuntimeWarning, match="unoptimised"):
        importlib.reload(tasker)
    assert not hasattr(tasker, "warnings")


def test_an_optimised_build_does_not_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lifecycle, "install_hooks", lambda: None)
    monkeypatch.setattr(_tasker, "_debug_build", False)
    importlib.reload(tasker)  # warnings are errors in this suite
