"""What viewers and collectors show: whatever tells of itself as a `Runner` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasker._config import Config
    from tasker._finding import Finding
    from tasker._stats import Histograms, Metrics, Stats
    from tasker._workers import WorkerInfo


class Watchable(Protocol):
    """A runner with workers of its own: a `Runner`, or a `tasker.ray.RayRunner`."""

    @property
    def name(self) -> str:
        """The runner's name."""
        ...

    @property
    def state(self) -> Literal["running", "stopping", "killed", "stopped"]:
        """How far its life has come."""
        ...

    @property
    def config(self) -> Config[Any]:
        """Its settings."""
        ...

    @property
    def worker_count(self) -> int:
        """The base workers that are asked for."""
        ...

    @property
    def max_worker_count(self) -> int:
        """The most workers that are asked for."""
        ...

    def stats(self) -> Stats:
        """Returns the gauges of this moment."""
        ...

    def metrics(self) -> Metrics:
        """Returns the figures since the start."""
        ...

    def workers(self, *, stacks: bool = False) -> tuple[WorkerInfo, ...]:
        """Returns what each worker does."""
        ...

    def diagnose(self) -> tuple[Finding, ...]:
        """Tells what is wrong."""
        ...

    def _histograms(
        self, wait_edges: Sequence[float], run_edges: Sequence[float]
    ) -> tuple[Metrics, Histograms]: ...
