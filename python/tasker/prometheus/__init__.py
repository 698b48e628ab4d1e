"""Figures of runners for Prometheus: `RunnerCollector`, registered once, shows all of them.

Needs prometheus-client: `pip install 'tasker-rs[prometheus]'`.
"""

from __future__ import annotations

from tasker._extra import need as _need
from tasker._public import publish

_need("prometheus", "prometheus_client", "prometheus-client")

# Behind the check, which says what to install.
from tasker.prometheus._buckets import RUN_BUCKETS, WAIT_BUCKETS  # noqa: E402
from tasker.prometheus._collector import RunnerCollector  # noqa: E402

__all__ = ["RUN_BUCKETS", "WAIT_BUCKETS", "RunnerCollector"]

publish(globals(), ["RunnerCollector"], "tasker.prometheus")
