"""The Grafana dashboard and the alerts: their queries are sound, and name what is exported."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasker import TaskTimeout
from tests.native.support import (
    LONG_TIMEOUT,
    Gate,
    LogCapture,
    Runners,
    break_down,
    eventually,
    is_healthy,
)
from tests.sight.scraping import RunnerCollector, promtool, registry_of, scrape, served

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "prometheus.md"
ALERTS = ROOT / "dashboards" / "alerts.yml"
ALERT_TESTS = Path(__file__).with_name("alerts_test.yml")
DASHBOARD: dict[str, Any] = json.loads((ROOT / "dashboards" / "grafana.json").read_text("utf-8"))
MOST_PANELS = 8
OF_PROMETHEUS = {"job", "instance"}
"""Labels that Prometheus adds to what it scrapes."""


def dashboard_queries() -> list[str]:
    """The queries of all panels, as they are when everything is chosen."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    chosen = {"$__rate_interval": "4s", "$instance": ".*", "$runner": ".*"}
    for name, value in chosen.items():
        found = [query.replace(name, value) for query in found]
    return found


def alert_queries() -> list[str]:
    """The queries of all rules; one that is folded, on one line."""
    found = re.findall(
        r"^ +expr: (?:>-\n((?: {10}.*\n)+)|(.*))", ALERTS.read_text("utf-8"), re.MULTILINE
    )
    return [" ".join((folded or plain).split()) for folded, plain in found]


def names_in(query: str) -> tuple[dict[str, set[str]], set[str]]:
    """The metrics of a query with the labels that are asked of each, and those it groups by."""
    metrics: dict[str, set[str]] = {}
    for name, selector in re.findall(r"\b(tasker_\w+)(?:\{([^}]*)\})?", query):
        metrics.setdefault(name, set()).update(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
    groups = re.findall(r"\b(?:by|without|on|ignoring) \(([^)]*)\)", query)
    return metrics, {label.strip() for group in groups for label in group.split(",")}


@pytest.fixture
def exported(runners: Runners) -> dict[str, set[str]]:
    """The labels of each series that a collector with names of tasks exports."""
    runner = runners.start(name="db", max_queue_size=5)
    runner.submit(break_down).exception(LONG_TIMEOUT)
    found: dict[str, set[str]] = {}
    for name, labels in scrape(registry_of(RunnerCollector(by_task=50))).samples:
        found.setdefault(name, set()).update(dict(labels))
    return found


def test_queries_name_only_what_is_exported(exported: dict[str, set[str]]) -> None:
    queries = [*dashboard_queries(), *alert_queries()]
    assert len(queries) > 30
    for query in queries:
        metrics, groups = names_in(query)
        assert metrics, query
        for name, labels in metrics.items():
            assert name in exported, query
            assert labels - OF_PROMETHEUS <= exported[name], query
            # A label that one of them lacks would match nothing, or put all into one group.
            assert groups - OF_PROMETHEUS <= exported[name], query


def test_variables_and_legends_name_only_what_is_exported(exported: dict[str, set[str]]) -> None:
    for variable in DASHBOARD["templating"]["list"][1:]:
        query = variable["query"]["query"]
        (metric, label) = re.findall(r"(tasker_\w+).*, (\w+)\)$", query)[0]
        assert label in exported[metric] | OF_PROMETHEUS
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert shown <= names_in(target["expr"])[1], target


def test_queries_of_the_dashboard_are_valid(tmp_path: Path) -> None:
    rules = "".join(
        f"      - record: dashboard:query{number}\n        expr: {json.dumps(query)}\n"
        for number, query in enumerate(dashboard_queries())
    )
    file = tmp_path / "rules.yml"
    file.write_text(f"groups:\n  - name: dashboard\n    rules:\n{rules}", "utf-8")
    assert promtool("check", "rules", str(file)) == (0, "")


def test_the_dashboard_is_small_and_whole() -> None:
    panels = DASHBOARD["panels"]
    assert 0 < len(panels) <= MOST_PANELS
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert taken.isdisjoint(cells)
        assert max(x for x, _ in cells) < 24
        taken |= cells
    sources = re.findall(r'"uid": "([^"]*)"', json.dumps(panels))
    assert set(sources) == {"${datasource}"}


def test_promtool_finds_nothing_wrong_with_the_alerts() -> None:
    assert promtool("check", "rules", str(ALERTS)) == (0, "")


def test_alerts_fire_when_they_are_to() -> None:
    assert promtool("test", "rules", str(ALERT_TESTS)) == (0, "")


def test_every_alert_is_tried_with_and_without_a_reason() -> None:
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text("utf-8"))
    tried = re.findall(r"alertname: (\w+)\n +exp_alerts:( \[\])?", ALERT_TESTS.read_text("utf-8"))
    assert {name for name, quiet in tried if quiet} == set(alerts)
    assert {name for name, quiet in tried if not quiet} == set(alerts)


def test_alerts_say_in_words_what_is_wrong_and_where_to_read_on() -> None:
    headings = re.findall(r"^#+ (.*)", PAGE.read_text("utf-8"), re.MULTILINE)
    anchors = {text.lower().replace(" ", "-") for text in headings}
    rules = ALERTS.read_text("utf-8").split("- alert: ")[1:]
    for rule in rules:
        assert re.search(r"^ +summary: .*\.\"?$", rule, re.MULTILINE), rule
        assert re.search(r"^ +description: .*\.\"?$", rule, re.MULTILINE), rule
        (anchor,) = re.findall(
            r"^ +runbook_url: https://.*/prometheus\.md#(.*)$", rule, re.MULTILINE
        )
        assert anchor in anchors


# ---- with Prometheus itself


@contextlib.contextmanager
def prometheus(target: str, folder: Path) -> Iterator[str]:
    """Runs a Prometheus that scrapes an address once a second; gives its own address."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus (Debian package prometheus)")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    job = {"job_name": "app", "static_configs": [{"targets": [target]}]}
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        f"rule_files: [{json.dumps(str(ALERTS))}]\n"
        f"scrape_configs: [{json.dumps(job)}]\n",
        "utf-8",
    )
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [program, *options, f"--web.listen-address={address}"], stdout=log, stderr=log
        )
    try:
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait(LONG_TIMEOUT)


def ask(address: str, query: str) -> list[Any]:
    """The series that a query finds; none before the server is there."""
    url = f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=LONG_TIMEOUT) as answer:  # noqa: S310 - our own
            found: list[Any] = json.load(answer)["data"]["result"]
    except OSError:
        return []
    return found


def test_prometheus_finds_something_for_every_query(
    runners: Runners, tmp_path: Path, gate: Gate, log: LogCapture
) -> None:
    log.overlook("limit")
    runner = runners.start(
        name="db", worker_count=2, check_health=is_healthy, max_retries=1, max_queue_size=100
    )
    overdue = runner.options(timeout=0.01).submit(gate.hold)
    with pytest.raises(TaskTimeout):
        overdue.result(LONG_TIMEOUT)
    runner.submit(break_down).exception(LONG_TIMEOUT)
    runner.queue_task(lambda _: None)
    missing = dashboard_queries()
    with (
        served(registry_of(RunnerCollector(by_task=50))) as metrics,
        prometheus(urllib.parse.urlsplit(metrics).netloc, tmp_path) as address,
    ):

        def all_found() -> bool:
            missing[:] = [query for query in missing if not ask(address, query)]
            return not missing

        eventually(all_found)
        assert ask(address, 'up{job="app"}')[0]["value"][1] == "1"
    assert missing == []
