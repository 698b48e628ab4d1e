"""The same `Config` on a Ray cluster: `RayRunner` has its workers in actors.

Needs Ray: `pip install 'tasker-rs[ray]'`.
"""

from __future__ import annotations

from tasker._extra import need as _need

_need("ray", "ray")

# Behind the check, which says what to install.
from tasker.ray._figures import ActorInfo  # noqa: E402
from tasker.ray._runner import RayRunner, RaySubmitter  # noqa: E402

__all__ = ["ActorInfo", "RayRunner", "RaySubmitter"]
