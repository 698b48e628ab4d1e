"""What users import: the names of the package, and those of extras whose library is there."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any

EXTRAS = {
    "tasker.prometheus": "prometheus_client",
    "tasker.live": "rich",
    "tasker.dashboard": "metaflow_extensions",
    "tasker.ray": "ray",
    # Of its modules one needs the SDK.
    "tasker.opentelemetry": "opentelemetry.sdk",
}
"""Modules that need a library, and the library."""


def is_there(module: str) -> bool:
    """Whether a module can be imported here."""
    libraries = (
        library for extra, library in EXTRAS.items() if f"{module}.".startswith(f"{extra}.")
    )
    return all(map(_is_installed, libraries))


def _is_installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except ModuleNotFoundError:
        # Not even the package that it is in.
        return False


MODULES = [module for module in ("tasker", "tasker.testing", *EXTRAS) if is_there(module)]


def public() -> Iterator[tuple[str, str, Any]]:
    """Gives module, name and value of all that is public, but for what is plain data."""
    for name in MODULES:
        module: Any = importlib.import_module(name)
        for exported in module.__all__:
            value = getattr(module, exported)
            if callable(value):
                yield name, exported, value
