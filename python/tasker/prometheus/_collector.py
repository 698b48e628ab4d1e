"""The collector: which runners a scrape shows."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tasker._checks import check_count, check_watchable
from tasker._errors import ConfigError
from tasker._runner import runners
from tasker._texts import quoted
from tasker._watchable import Watchable
from tasker.prometheus._buckets import RUN_BUCKETS, WAIT_BUCKETS, Buckets
from tasker.prometheus._families import Families
from tasker.prometheus._labels import Places
from tasker.prometheus._reading import read

MOST_ERROR_TYPES = 30


class RunnerCollector(Collector):
    """Shows the figures of runners to Prometheus, each time it scrapes.

    Register it once, anywhere: `REGISTRY.register(RunnerCollector())`. A scrape reads one snapshot
    of each runner, and nothing is done for it while tasks run. A runner that has stopped
    disappears, and so does one that was inherited through a fork. No runner is kept alive. May be
    scraped from any thread, by several at once, and from tasks.

    The metrics are listed in the guide on Prometheus. Names of runners and tasks are cut at 80
    characters; a name that was cut ends in a checksum of the whole. A registry takes one collector
    of this class: for a second one it raises its own `ValueError`.

    Args:
        *runners: The runners to show. None: at each scrape all that `tasker.runners` gives then,
            so one that is made later appears.
        by_task: How many names of tasks have series of their own: the label `task` of
            `tasker_tasks_total`, `tasker_task_run_by_name_seconds`, and with them
            `tasker_task_errors_total`. They are those whose functions take most time when they are
            first seen, and keep their series from then on; the others share `other`. A runner
            itself counts 200 names apart. 0: no names.
        wait_buckets: Upper edges of the buckets for times in the queue, in seconds, in increasing
            order. One without end is added where it is missing.
        run_buckets: The same for times in task functions and in `on_create`.

    Raises:
        ConfigError: Something else was given, or two runners of one name. It is a `ValueError`.

    Example:
        >>> from prometheus_client import CollectorRegistry
        >>> from tasker import Config, Runner
        >>> from tasker.prometheus import RunnerCollector
        >>> registry = CollectorRegistry()
        >>> registry.register(RunnerCollector())
        >>> with Runner(Config(on_create=dict, worker_count=2, name="db")) as runner:
        ...     registry.get_sample_value("tasker_workers_base", {"runner": "db"})
        2
    """

    def __init__(
        self,
        *runners: Watchable,
        by_task: int = 0,
        wait_buckets: Sequence[float] = WAIT_BUCKETS,
        run_buckets: Sequence[float] = RUN_BUCKETS,
    ) -> None:
        check_watchable(runners)
        for name, times in Counter(runner.name for runner in runners).items():
            if times > 1:
                raise ConfigError(f"runners must have names of their own, got {quoted(name)} twice")
        self._given = tuple(map(weakref.ref, runners))
        self._by_task = check_count("by_task", by_task, least=0)
        self._wait = Buckets("wait_buckets", wait_buckets)
        self._run = Buckets("run_buckets", run_buckets)
        # Of runners, and not of their names: another one that takes a name begins anew.
        self._tasks: weakref.WeakKeyDictionary[Watchable, Places] = weakref.WeakKeyDictionary()
        self._types: weakref.WeakKeyDictionary[Watchable, Places] = weakref.WeakKeyDictionary()

    def describe(self) -> list[Metric]:
        """Names the metrics without looking at a runner: registering does not collect.

        By these names a registry refuses a second collector, and finds what a scrape of some
        metrics alone asks for.

        Returns:
            The families, without samples.
        """
        return list(Families(by_task=self._by_task > 0))

    def collect(self) -> Iterator[Metric]:
        """Reads the runners and gives the metrics that have samples.

        Returns:
            The families.
        """
        families = Families(by_task=self._by_task > 0)
        for runner in self._shown():
            reading = read(runner, self._wait.edges, self._run.edges)
            if reading is None:
                continue
            families.add(runner, reading, self._wait, self._run)
            if self._by_task:
                tasks = self._tasks.setdefault(runner, Places(self._by_task))
                types = self._types.setdefault(runner, Places(MOST_ERROR_TYPES))
                families.add_by_task(runner, reading, tasks, types)
            else:
                families.add_outcomes(runner, reading)
        return (family for family in families if family.samples)

    def _shown(self) -> list[Watchable]:
        if not self._given:
            return list(runners())
        return [runner for reference in self._given if (runner := reference()) is not None]
