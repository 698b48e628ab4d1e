"""Scrapes as Prometheus makes them; whoever imports this is skipped where the client is missing."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, generate_latest, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from tasker.prometheus import RUN_BUCKETS, WAIT_BUCKETS, RunnerCollector
from tests.native.support import LONG_TIMEOUT

__all__ = ["RUN_BUCKETS", "WAIT_BUCKETS", "CollectorRegistry", "RunnerCollector"]

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Scrape:
    """What a scrape gave."""

    text: str
    families: dict[str, Metric]
    """By name; those of counters and infos without their endings."""

    @property
    def samples(self) -> dict[tuple[str, Labels], float]:
        """All values, by name and labels. A series that is there twice fails the test."""
        found: dict[tuple[str, Labels], float] = {}
        for family in self.families.values():
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in found, f"twice: {key}"
                found[key] = sample.value
        return found

    def value(self, name: str, **labels: str) -> float:
        """The value of one series."""
        return self.samples[name, frozenset(labels.items())]

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """The values of the series that have these labels and one more."""
        wanted, found = labels.items(), {}
        for (sample, own), value in self.samples.items():
            rest = dict(own)
            if sample == name and wanted <= own and label in rest and len(own) == len(labels) + 1:
                found[rest[label]] = value
        return found

    @property
    def runners(self) -> set[str]:
        """The names of the runners that it shows."""
        return set(self.by("tasker_workers_base", "runner"))


def registry_of(collector: RunnerCollector) -> CollectorRegistry:
    """A registry that has this collector and nothing else."""
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def parsed(text: str, *, openmetrics: bool = False) -> Scrape:
    """Reads a scrape with the client's own parser."""
    parse = openmetrics_families if openmetrics else text_string_to_metric_families
    found = list(parse(text))
    families = {family.name: family for family in found}
    assert len(families) == len(found), "a family is there twice"
    return Scrape(text, families)


def scrape(registry: CollectorRegistry) -> Scrape:
    """A scrape without a server."""
    return parsed(generate_latest(registry).decode())


class _Server(ThreadingWSGIServer):
    request_queue_size = 256


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@contextlib.contextmanager
def served(registry: CollectorRegistry) -> Iterator[str]:
    """Serves a registry over HTTP; gives the address."""
    server = make_server("127.0.0.1", 0, make_wsgi_app(registry), _Server, _Silent)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fetch(address: str, accept: str = "text/plain") -> Scrape:
    """A scrape over HTTP, in the format that is asked for."""
    request = urllib.request.Request(address, headers={"Accept": accept})  # noqa: S310 - our own
    with urllib.request.urlopen(request, timeout=LONG_TIMEOUT) as answer:  # noqa: S310
        kind, text = str(answer.headers["Content-Type"]), answer.read().decode()
    assert kind.startswith(accept.partition(";")[0]), kind
    return parsed(text, openmetrics=accept == OPENMETRICS)


def promtool(*arguments: str, given: str = "") -> tuple[int, str]:
    """Runs promtool; gives its status and what it said on standard error."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool (Debian package prometheus)")
    done = subprocess.run(
        [program, *arguments], input=given, capture_output=True, text=True, timeout=LONG_TIMEOUT
    )
    return done.returncode, done.stderr
