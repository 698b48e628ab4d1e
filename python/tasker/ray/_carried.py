"""What of a submitter's context travels with a task: named variables, and the trace it is in."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from tasker._checks import wrong
from tasker._errors import ConfigError
from tasker.ray._pickling import loads, pack_context

_TRACING = "opentelemetry.trace"


class Carrier:
    """Packs the variables of a submitter, and puts them back where the task runs.

    Args:
        names: Of variables, as `package.module.variable`.

    Raises:
        ConfigError: A name is not that of a `ContextVar` in a module that an actor can import.
    """

    def __init__(self, names: Iterable[str]) -> None:
        if isinstance(names, str) or not hasattr(type(names), "__iter__"):
            raise wrong("contextvars", "names of variables", names)
        self.names = tuple(names)
        self._variables = {name: _find(name) for name in self.names}

    def pack(self) -> bytes | None:
        """Takes what is set here; `None`: nothing is.

        Raises:
            TaskNotPicklable: The value of one cannot be pickled; the text names it.
        """
        if not self._variables and _TRACING not in sys.modules:
            return None
        unset = object()
        found = {name: each.get(unset) for name, each in self._variables.items()}
        values = {name: value for name, value in found.items() if value is not unset}
        trace = _trace()
        return pack_context(values, trace) if values or trace else None

    def unpack(self, packed: bytes) -> None:
        """Sets it in the current context."""
        values, trace = loads(packed)
        for name, value in values.items():
            self._variables[name].set(value)
        if trace:
            _continue(trace)


def _find(name: object) -> contextvars.ContextVar[Any]:
    module, _, attribute = name.rpartition(".") if isinstance(name, str) else ("", "", "")
    if not module or module == "__main__":
        must_be = 'names of variables in modules that actors can import, "package.module.variable"'
        raise wrong("contextvars", must_be, name)
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"contextvars names {name!r}, which is not there: {error}") from error
    if not isinstance(found, contextvars.ContextVar):
        raise wrong(f"contextvars: {name}", "a ContextVar", found)
    return found


def _trace() -> dict[str, str]:
    """The trace of the caller, as headers have it; empty where nothing traces."""
    # A process that has not imported it is in no trace.
    if _TRACING not in sys.modules:
        return {}
    headers: dict[str, str] = {}
    import_module("opentelemetry.propagate").inject(headers)
    return headers


def _continue(trace: Mapping[str, str]) -> None:
    try:
        propagate = import_module("opentelemetry.propagate")
    except ImportError:
        return  # the actor has no library for it, and nothing that would ask
    import_module("opentelemetry.context").attach(propagate.extract(trace))
