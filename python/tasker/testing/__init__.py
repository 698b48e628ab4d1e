"""Doubles for tests: `InlineRunner` runs tasks in the thread of the test.

The fixtures of `tasker.testing.plugin` are asked for with `pytest_plugins`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasker.testing._batcher import InlineBatcher
    from tasker.testing._inline import InlineRunner, InlineSubmitter

__all__ = ["InlineBatcher", "InlineRunner", "InlineSubmitter"]


# Not at the top: a test run that asks for the plug-in imports this module before coverage begins.
def __getattr__(name: str) -> object:
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from tasker.testing import _batcher, _inline  # noqa: PLC0415

    return getattr(_batcher if name == "InlineBatcher" else _inline, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
