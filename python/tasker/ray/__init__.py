"""The same `Config` on a Ray cluster: `RayRunner` has its workers in actors.

Needs Ray: `pip install 'tasker-rs[ray]'`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasker._extra import need as _need

_need("ray", "ray")

# Behind the check, which says what to install.
if TYPE_CHECKING:
    from tasker.ray._executor import RayExecutor
    from tasker.ray._figures import ActorInfo
    from tasker.ray._runner import RayRunner, RaySubmitter

__all__ = ["ActorInfo", "RayExecutor", "RayRunner", "RaySubmitter"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Imports what an actor does without, which starts sooner for it."""
        if name not in __all__:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message, name=name)
        from tasker.ray import _runner  # noqa: PLC0415

        found = getattr(_runner, name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


del TYPE_CHECKING
