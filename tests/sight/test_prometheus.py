"""What Prometheus is shown: names, types and labels, which runners, and figures that are right."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from tasker import (
    Config,
    ConfigError,
    Priority,
    QueueFull,
    Runner,
    RunnerStopped,
    TaskTimeout,
    _findings,
)
from tests.native.support import (
    LONG_TIMEOUT,
    Broken,
    Call,
    Gate,
    LogCapture,
    Runners,
    at_once,
    break_down,
    eventually,
    is_healthy,
)
from tests.sight.scraping import (
    OPENMETRICS,
    RUN_BUCKETS,
    WAIT_BUCKETS,
    CollectorRegistry,
    RunnerCollector,
    fetch,
    promtool,
    registry_of,
    scrape,
    served,
)

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "prometheus.md"
WORKERS = ["starting", "idle", "busy", "equipping"]
PRIORITIES = ["low", "normal", "high"]
OUTCOMES = ["completed", "failed", "cancelled", "dropped", "timed_out"]
REASONS = ["unhealthy", "reset", "invalid", "age", "tasks", "renewed"]
FINDINGS = [
    "creation_failing",
    "queue_full",
    "stuck_worker",
    "overdue",
    "retries_failing",
    "tasks_failing",
    "all_busy",
    "interpreter_bound",
    "too_many_workers",
]
FAMILIES: dict[str, tuple[str, dict[str, list[str]]]] = {
    "tasker_runner": ("info", {}),
    "tasker_workers": ("gauge", {"state": WORKERS}),
    "tasker_workers_base": ("gauge", {}),
    "tasker_workers_max": ("gauge", {}),
    "tasker_workers_starting": ("gauge", {}),
    "tasker_workers_burst": ("gauge", {}),
    "tasker_reserved_resources": ("gauge", {"state": ["idle", "busy"]}),
    "tasker_worker_attach_seconds": ("summary", {}),
    "tasker_findings": ("gauge", {"code": FINDINGS}),
    "tasker_queue_tasks": ("gauge", {"priority": PRIORITIES}),
    "tasker_queue_limit": ("gauge", {}),
    "tasker_queue_oldest_task_age_seconds": ("gauge", {}),
    "tasker_tasks_refused": ("counter", {"reason": ["full", "stopped"]}),
    "tasker_task_wait_seconds": ("histogram", {"priority": PRIORITIES}),
    "tasker_running_tasks": ("gauge", {}),
    "tasker_overdue_tasks": ("gauge", {}),
    "tasker_paused_tasks": ("gauge", {}),
    "tasker_longest_line_tasks": ("gauge", {}),
    "tasker_tasks_accepted": ("counter", {}),
    "tasker_tasks": ("counter", {"outcome": OUTCOMES}),
    "tasker_task_retries": ("counter", {}),
    "tasker_keyed_tasks": ("counter", {"result": ["hit", "miss"]}),
    "tasker_task_run_seconds": ("histogram", {}),
    "tasker_resource_create_seconds": ("histogram", {}),
    "tasker_resource_creations": ("counter", {"outcome": ["made", "failed"]}),
    "tasker_resource_replacements": ("counter", {"reason": REASONS}),
    "tasker_resource_creation_failing_seconds": ("gauge", {}),
}
"""Names, types and, beside `runner`, labels with their values, as the documentation has them."""
BY_TASK = {"tasker_task_run_by_name_seconds": "summary", "tasker_task_errors": "counter"}


def shown(collector: RunnerCollector) -> set[str]:
    return scrape(registry_of(collector)).runners


# ---- names, formats


def test_families_have_their_names_types_and_labels(runners: Runners) -> None:
    runners.start(name="db", max_queue_size=5)
    registry = registry_of(RunnerCollector())
    with served(registry) as address:
        found = fetch(address, OPENMETRICS)
    assert {name: family.type for name, family in found.families.items()} == {
        name: kind for name, (kind, _) in FAMILIES.items()
    }
    for name, (kind, labels) in FAMILIES.items():
        if kind == "info":
            continue
        for sample in found.families[name].samples:
            own = dict(sample.labels)
            assert own.pop("runner") == "db"
            own.pop("le", None)
            assert own.keys() == labels.keys(), sample
        for label, values in labels.items():
            # Each once, in whatever order.
            ending = {"counter": "_total", "histogram": "_count"}.get(kind, "")
            assert list(found.by(name + ending, label, runner="db")) == values


def test_the_page_lists_what_there_is_and_every_help_leads_there(runners: Runners) -> None:
    runners.start(max_queue_size=5).submit(break_down).exception(LONG_TIMEOUT)
    page = PAGE.read_text("utf-8")
    headings = re.findall(r"^#+ (.*)", page, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    listed = set(re.findall(r"^\| `(tasker_\w+)` \| (\w+)", page, re.MULTILINE))
    found = scrape(registry_of(RunnerCollector(by_task=5))).families.values()
    endings = {"counter": "_total"}
    assert listed == {(one.name + endings.get(one.type, ""), one.type) for one in found}
    for family in found:
        address, _, anchor = family.documentation.rpartition(" ")[2].partition("#")
        assert address.endswith("/docs/how-to/prometheus.md")
        assert anchor in anchors
    for _, labels in FAMILIES.values():
        for text in (*labels, *(value for values in labels.values() for value in values)):
            assert f"`{text}`" in page


def test_text_and_openmetrics_over_http_say_the_same(runners: Runners) -> None:
    runner = runners.start(name="db")
    list(runner.map(lambda _, n: n, range(100)))
    with served(registry_of(RunnerCollector())) as address:
        text, openmetrics = fetch(address), fetch(address, OPENMETRICS)
    assert text.samples == openmetrics.samples
    assert text.value("tasker_tasks_total", runner="db", outcome="completed") == 100
    assert openmetrics.text.endswith("# EOF\n")


@pytest.mark.parametrize("by_task", [0, 50])
def test_promtool_finds_nothing_to_say(runners: Runners, by_task: int) -> None:
    runner = runners.start(name="db", max_queue_size=5)
    runner.submit(break_down).exception(LONG_TIMEOUT)
    text = scrape(registry_of(RunnerCollector(by_task=by_task))).text
    assert promtool("check", "metrics", given=text) == (0, "")


def test_there_is_no_series_of_when_a_counter_began(runners: Runners) -> None:
    runners.start()
    assert "_created" not in scrape(registry_of(RunnerCollector(by_task=9))).text


def test_the_info_says_what_the_runner_runs_on(runners: Runners) -> None:
    runners.start(name="db")
    (sample,) = scrape(registry_of(RunnerCollector())).families["tasker_runner_info"].samples
    assert sample.value == 1
    assert sample.labels.keys() == {"runner", "version", "python", "free_threaded"}
    assert sample.labels["python"] == sys.version.split(" ", 1)[0].removesuffix("+")
    assert sample.labels["free_threaded"] in {"0", "1"}


def test_a_scrape_of_some_metrics_alone_finds_them(runners: Runners) -> None:
    runners.start(name="db")
    with served(registry_of(RunnerCollector())) as address:
        found = fetch(f"{address}?name[]=tasker_workers_base&name[]=tasker_running_tasks")
    assert found.families.keys() == {"tasker_workers_base", "tasker_running_tasks"}


def test_a_queue_without_a_limit_shows_none(runners: Runners) -> None:
    runners.start(name="endless")
    assert "tasker_queue_limit" not in scrape(registry_of(RunnerCollector())).families
    runners.start(name="bounded", max_queue_size=7)
    found = scrape(registry_of(RunnerCollector()))
    assert found.by("tasker_queue_limit", "runner") == {"bounded": 7}


# ---- which runners


def test_all_runners_are_shown_and_later_ones_too(runners: Runners) -> None:
    registry = registry_of(RunnerCollector())
    assert scrape(registry).text == ""
    one = runners.start(name="one")
    assert scrape(registry).runners == {"one"}
    runners.start(name="two")
    assert scrape(registry).runners == {"one", "two"}
    one.stop(LONG_TIMEOUT)
    assert scrape(registry).runners == {"two"}


def test_those_that_are_given_are_shown_alone(runners: Runners) -> None:
    one, two = runners.start(name="one"), runners.start(name="two")
    runners.start(name="three")
    registry = registry_of(RunnerCollector(one, two))
    assert scrape(registry).runners == {"one", "two"}
    one.stop(LONG_TIMEOUT)
    assert scrape(registry).runners == {"two"}
    two.stop(LONG_TIMEOUT)
    # Not all that there are: some were given.
    assert scrape(registry).text == ""


def test_a_collector_keeps_no_runner_alive() -> None:
    runner: Runner[Any] = Runner(Config(on_create=dict, worker_count=1))
    collector = RunnerCollector(runner, by_task=5)
    list(collector.collect())
    runner.stop()
    del runner
    eventually(lambda: collector._given[0]() is None and not collector._tasks)


def test_a_runner_that_stops_while_it_is_read_is_left_out(runners: Runners) -> None:
    class Stopping(Runner[Any]):
        def stats(self) -> Any:
            self.stop(LONG_TIMEOUT)
            return super().stats()

    runners.keep(Stopping(runners.config(name="gone")))
    runners.start(name="there")
    assert shown(RunnerCollector()) == {"there"}


def test_runners_come_and_go_while_they_are_scraped(runners: Runners) -> None:
    registry, over = registry_of(RunnerCollector(by_task=2)), threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            config: Config[Any] = Config(on_create=dict, worker_count=1, name="brief")
            with Runner(config) as runner:
                runner.submit(lambda _: None)

    del runners
    calls = [Call(come_and_go) for _ in range(3)]
    try:
        for _ in range(100):
            found = scrape(registry)
            # None of them is shown after its end, with no worker.
            assert all(value == 1 for value in found.by("tasker_workers_base", "runner").values())
            for name in found.runners:
                assert sum(found.by("tasker_workers", "state", runner=name).values()) == 1
    finally:
        over.set()
    for call in calls:
        call.result()


@pytest.mark.skipif(sys.platform == "win32", reason="fork of POSIX")
def test_a_forked_child_shows_its_own_runners_alone(tmp_path: Path) -> None:
    program = """
        import os, warnings
        from prometheus_client import CollectorRegistry, generate_latest
        from tasker import Config, Runner
        from tasker.prometheus import RunnerCollector
        warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads

        def names(collector):
            registry = CollectorRegistry()
            registry.register(collector)
            lines = generate_latest(registry).decode().splitlines()
            return [line for line in lines if line.startswith("tasker_workers_base")]

        with Runner(Config(on_create=dict, worker_count=1, name="db")) as runner:
            given, every = RunnerCollector(runner, by_task=5), RunnerCollector(by_task=5)
            assert names(given) == names(every) == ['tasker_workers_base{runner="db"} 1.0']
            if (child := os.fork()) == 0:
                assert names(given) == names(every) == []
                with Runner(Config(on_create=dict, worker_count=2, name="own")):
                    assert names(every) == ['tasker_workers_base{runner="own"} 2.0']
                os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    """
    assert run(program, tmp_path) == ""


def test_figures_of_runners_stand_beside_those_of_all_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shared").mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "shared"))
    program = """
        from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess
        from tasker import Config, Runner
        from tasker.prometheus import RunnerCollector

        with Runner(Config(on_create=dict, worker_count=2, name="db")) as runner:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
            registry.register(RunnerCollector())
            calls = Counter("calls", "Calls made by tasks.")
            runner.queue_task(lambda _: calls.inc())
            text = generate_latest(registry).decode()
        for name in ("calls_total", "tasker_workers_base"):
            print(*[line for line in text.splitlines() if line.startswith(name)])
    """
    assert run(program, tmp_path) == 'calls_total 1.0\ntasker_workers_base{runner="db"} 2.0\n'


def run(program: str, folder: Path) -> str:
    """Runs a program in a process of its own, and gives what it printed."""
    path = folder / "program.py"
    path.write_text(textwrap.dedent(program), "utf-8")
    command = [sys.executable, path.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LONG_TIMEOUT)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


# ---- figures


def test_workers_are_counted_by_what_they_do(runners: Runners, gate: Gate) -> None:
    runner = runners.start(name="db", worker_count=3, max_worker_count=5, resource_pool_size=2)
    runner.submit(gate.hold)
    gate.wait_for()
    lent = Call(runner.run_task, gate.hold)
    gate.wait_for()
    found = scrape(registry_of(RunnerCollector()))
    assert found.by("tasker_workers", "state", runner="db") == {
        "starting": 0,
        "idle": 2,
        "busy": 1,
        "equipping": 0,
    }
    assert found.value("tasker_workers_base", runner="db") == 3
    assert found.value("tasker_workers_max", runner="db") == 5
    reserved = found.by("tasker_reserved_resources", "state", runner="db")
    assert reserved["busy"] == 1
    assert found.value("tasker_running_tasks", runner="db") == runner.stats().running_tasks
    gate.open()
    lent.result()


def test_a_finding_is_shown_as_long_as_it_holds(
    runners: Runners, gate: Gate, log: LogCapture
) -> None:
    log.overlook("limit")
    runner = runners.start(name="db")
    registry = registry_of(RunnerCollector())

    def shown() -> set[str]:
        found = scrape(registry).by("tasker_findings", "code", runner="db")
        assert list(found) == FINDINGS
        return {code for code, holds in found.items() if holds == 1}

    assert shown() == set()
    late = runner.options(timeout=0.01).submit(gate.hold)
    with pytest.raises(TaskTimeout):
        late.result(LONG_TIMEOUT)
    assert shown() == {"overdue"}
    gate.open()
    eventually(lambda: not runner.stats().overdue_tasks)
    assert shown() == set()


def test_every_code_of_a_finding_has_a_series() -> None:
    told = Path(_findings.__file__).read_text("utf-8")
    assert re.findall(r'\bcode="(\w+)"', told) == FINDINGS


def test_limits_are_what_is_asked_for_after_a_resize(runners: Runners) -> None:
    runner = runners.start(name="db")
    runner.resize(worker_count=2, max_worker_count=6)
    found = scrape(registry_of(RunnerCollector()))
    assert found.value("tasker_workers_base", runner="db") == 2
    assert found.value("tasker_workers_max", runner="db") == 6


def test_what_waits_is_counted_by_priority(runners: Runners, gate: Gate) -> None:
    runner = runners.start(name="db")
    runner.submit(gate.hold)
    gate.wait_for()
    for priority in (Priority.LOW, Priority.NORMAL, Priority.NORMAL, Priority.HIGH):
        runner.options(priority=priority).submit(gate.hold)
    found = scrape(registry_of(RunnerCollector()))
    queued = found.by("tasker_queue_tasks", "priority", runner="db")
    assert queued == {"low": 1, "normal": 2, "high": 1}
    assert found.value("tasker_queue_oldest_task_age_seconds", runner="db") > 0
    gate.open()


def test_outcomes_add_up_to_what_was_accepted(runners: Runners) -> None:
    runner, gate = runners.start(name="db", max_queue_size=3, when_full="raise"), Gate()
    runner.queue_task(lambda _: None)
    runner.submit(break_down).exception(LONG_TIMEOUT)
    running = runner.submit(gate.hold)
    gate.wait_for()
    runner.submit(gate.hold).cancel()
    runner.options(timeout=0.001).submit(gate.hold).exception(LONG_TIMEOUT)
    for _ in range(3):
        runner.submit(gate.hold)
    with pytest.raises(QueueFull):
        runner.submit(gate.hold)
    runner.cancel_queued()
    gate.open()
    running.result(LONG_TIMEOUT)
    stopping = Gate()
    runner.submit(stopping.hold)
    stopping.wait_for()
    stop = Call(runner.stop)
    eventually(lambda: runner.state == "stopping")
    with pytest.raises(RunnerStopped):
        runner.submit(gate.hold)
    # One is running yet.
    found = scrape(registry_of(RunnerCollector()))
    stopping.open()
    stop.result()
    outcomes = found.by("tasker_tasks_total", "outcome", runner="db")
    assert outcomes == {
        "completed": 2,
        "failed": 1,
        "cancelled": 1,
        "dropped": 3,
        "timed_out": 1,
    }
    accepted = found.value("tasker_tasks_accepted_total", runner="db")
    assert accepted == sum(outcomes.values()) + found.value("tasker_running_tasks", runner="db")
    refused = found.by("tasker_tasks_refused_total", "reason", runner="db")
    assert refused == {"full": 1, "stopped": 1}


def test_resources_are_counted_by_what_became_of_them(runners: Runners, log: LogCapture) -> None:
    broken = threading.Event()
    factory = runners.factory

    def create() -> object:
        if broken.is_set():
            raise OSError
        return factory.create()

    runner = runners.start(
        name="db", on_create=create, check_health=is_healthy, max_retries=0, worker_count=2
    )
    registry = registry_of(RunnerCollector())
    runner.renew().result(LONG_TIMEOUT)
    assert scrape(registry).value("tasker_resource_creation_failing_seconds", runner="db") == 0
    broken.set()
    with contextlib.suppress(Broken):
        runner.queue_task(break_down)
    eventually(lambda: runner.stats().creation_failing_for > 0)
    found = scrape(registry)
    assert found.value("tasker_resource_creation_failing_seconds", runner="db") > 0
    creations = found.by("tasker_resource_creations_total", "outcome", runner="db")
    assert creations["made"] == 4
    assert creations["failed"] >= 1
    assert found.value("tasker_resource_create_seconds_count", runner="db") == 4
    replaced = found.by("tasker_resource_replacements_total", "reason", runner="db")
    assert (replaced["renewed"], replaced["unhealthy"]) == (2, 1)
    broken.clear()
    eventually(lambda: runner.stats().equipped_workers == 2)
    log.take()


def test_histograms_have_the_buckets_that_were_asked_for(runners: Runners) -> None:
    runner = runners.start(name="db")
    runner.queue_task(lambda _: None)
    text = scrape(registry_of(RunnerCollector()))
    own = scrape(registry_of(RunnerCollector(wait_buckets=[1, 2.5], run_buckets=(3, float("inf")))))
    name, labels = "tasker_task_wait_seconds_bucket", {"runner": "db", "priority": "normal"}
    assert list(text.by(name, "le", **labels)) == [*map(str, WAIT_BUCKETS), "+Inf"]
    assert own.by(name, "le", **labels) == {"1.0": 1, "2.5": 1, "+Inf": 1}
    name, labels = "tasker_task_run_seconds_bucket", {"runner": "db"}
    assert list(text.by(name, "le", **labels)) == [*map(str, RUN_BUCKETS), "+Inf"]
    assert own.by(name, "le", **labels) == {"3.0": 1, "+Inf": 1}
    assert own.by("tasker_resource_create_seconds_bucket", "le", runner="db").keys() == {
        "3.0",
        "+Inf",
    }


def test_many_scrapes_at_once_are_all_right(runners: Runners) -> None:
    runner = runners.start(name="db", worker_count=2)
    list(runner.options(name="many").map(lambda _, n: n, range(1000)))
    with served(registry_of(RunnerCollector(by_task=5))) as address:
        found = [call.result() for call in at_once(200, lambda: fetch(address))]
    for one in found:
        labels = {"runner": "db", "outcome": "completed"}
        assert one.by("tasker_tasks_total", "task", **labels) == {"many": 1000}


# ---- names of users


HOSTILE = '<script>alert("1")</script>\\\n\r\t\x00\x1b[31m\u202e}{="' + "x" * 10_000


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_names_that_are_long_and_hostile_are_cut_and_escaped(runners: Runners, accept: str) -> None:
    class Unspeakable(Exception):
        pass

    def fail(_: object) -> None:
        raise Unspeakable

    Unspeakable.__qualname__ = HOSTILE
    runner = runners.start(name=HOSTILE)
    runner.options(name=HOSTILE).submit(fail).exception(LONG_TIMEOUT)
    with served(registry_of(RunnerCollector(by_task=5))) as address:
        found = fetch(address, accept)
    (name,) = found.runners
    (task,) = found.by("tasker_task_run_by_name_seconds_count", "task", runner=name)
    (kind,) = found.by("tasker_task_errors_total", "type", runner=name)
    for text in (name, task, kind):
        assert len(text) == 80
        assert text.isprintable()
    assert "<script>" in name
    assert "<script>" in task
    assert all(line.isprintable() for line in found.text.splitlines())
    assert promtool("check", "metrics", given=found.text)[0] == 0 or accept == OPENMETRICS


def test_names_that_begin_alike_stay_apart(runners: Runners) -> None:
    alike = "n" * 100
    runner = runners.start(name=f"{alike}1")
    runners.start(name=f"{alike}2")
    for number in range(3):
        runner.options(name=f"{alike}{number}").queue_task(lambda _: None)
    found = scrape(registry_of(RunnerCollector(by_task=5)))
    assert len(found.runners) == 2
    counts = [
        found.by("tasker_task_run_by_name_seconds_count", "task", runner=name)
        for name in found.runners
    ]
    assert sorted(map(len, counts)) == [0, 3]


# ---- tasks by name


def spend(runner: Runner[Any], name: str, times: int = 1) -> None:
    for _ in range(times):
        runner.options(name=name).queue_task(lambda _: sum(range(20_000)))


def completed(found: Any) -> dict[str, float]:
    counts: dict[str, float] = found.by(
        "tasker_tasks_total", "task", runner="db", outcome="completed"
    )
    return counts


def test_the_busiest_names_have_series_of_their_own(runners: Runners) -> None:
    runner = runners.start(name="db")
    for number in range(1, 7):
        spend(runner, f"task {number}", number * number)
    registry = registry_of(RunnerCollector(by_task=2))
    found = scrape(registry)
    assert completed(found) == {"task 5": 25, "task 6": 36, "other": 1 + 4 + 9 + 16}
    assert found.by("tasker_task_run_by_name_seconds_count", "task", runner="db") == completed(
        found
    )
    seconds = found.by("tasker_task_run_by_name_seconds_sum", "task", runner="db")
    assert sum(seconds.values()) == pytest.approx(
        found.value("tasker_task_run_seconds_sum", runner="db"), rel=0.01
    )


def test_who_has_a_series_keeps_it_and_no_counter_falls(runners: Runners) -> None:
    runner = runners.start(name="db")
    registry = registry_of(RunnerCollector(by_task=2))
    spend(runner, "first")
    assert completed(scrape(registry)) == {"first": 1}
    spend(runner, "second", 5)
    spend(runner, "third", 2)
    assert completed(scrape(registry)) == {"first": 1, "second": 5, "other": 2}
    spend(runner, "third", 50)
    assert completed(scrape(registry)) == {"first": 1, "second": 5, "other": 52}


def test_a_task_that_is_named_other_is_one_of_the_others(runners: Runners) -> None:
    runner = runners.start(name="db")
    spend(runner, "other", 9)
    spend(runner, "own")
    assert completed(scrape(registry_of(RunnerCollector(by_task=5)))) == {"own": 1, "other": 9}


def test_outcomes_without_a_name_have_an_empty_one(runners: Runners, gate: Gate) -> None:
    runner = runners.start(name="db")
    runner.submit(gate.hold)
    gate.wait_for()
    runner.submit(gate.hold).cancel()
    found = scrape(registry_of(RunnerCollector(by_task=5)))
    cancelled = found.by("tasker_tasks_total", "task", runner="db", outcome="cancelled")
    assert cancelled == {"": 1}
    gate.open()


def test_errors_are_counted_by_type_the_rarest_together(runners: Runners) -> None:
    runner = runners.start(name="db")

    def fail(_: object, kind: type[Exception]) -> None:
        raise kind

    for number in range(35):
        kind = type(f"Kind{number}", (Exception,), {"__module__": "shop"})
        for _ in range(2 if number < 30 else 1):
            runner.submit(fail, kind).exception(LONG_TIMEOUT)
    found = scrape(registry_of(RunnerCollector(by_task=1)))
    errors = found.by("tasker_task_errors_total", "type", runner="db")
    assert errors == {**{f"shop.Kind{number}": 2 for number in range(30)}, "other": 5}


def test_without_by_task_no_name_of_a_task_or_an_error_is_shown(runners: Runners) -> None:
    runner = runners.start(name="db")
    runner.options(name="secret").submit(break_down).exception(LONG_TIMEOUT)
    found = scrape(registry_of(RunnerCollector()))
    assert BY_TASK.keys().isdisjoint(found.families)
    assert "secret" not in found.text
    assert "Broken" not in found.text


# ---- what may be given


def test_registering_does_not_look_at_a_runner(runners: Runners) -> None:
    looks = []

    class Watched(Runner[Any]):
        def stats(self) -> Any:
            looks.append(self)
            return super().stats()

    runner = runners.keep(Watched(runners.config()))
    collector = RunnerCollector()
    registry = registry_of(collector)
    assert [family for family in collector.describe() if family.samples] == []
    assert looks == []
    scrape(registry)
    assert looks == [runner]


def test_a_registry_takes_one_collector() -> None:
    collector = RunnerCollector()
    registry = registry_of(collector)
    for another in (collector, RunnerCollector(by_task=5)):
        with pytest.raises(ValueError, match="Duplicated timeseries"):
            registry.register(another)
    registry.unregister(collector)
    registry.register(RunnerCollector())


def test_two_runners_of_one_name_are_refused(runners: Runners) -> None:
    runner = runners.start(name="db")
    with pytest.raises(ValueError, match=r'^runners must have names of their own, got "db" twice$'):
        CollectorRegistry().register(RunnerCollector(runner, runner))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"by_task": -1}, "by_task must be at least 0, got -1"),
        ({"by_task": True}, "by_task must be an int, got True"),
        ({"by_task": "5"}, "by_task must be an int, got '5'"),
        ({"wait_buckets": 5}, "wait_buckets must be a sequence of numbers of seconds, got 5"),
        ({"run_buckets": "12"}, "run_buckets must be a sequence of numbers of seconds, got '12'"),
        ({"run_buckets": None}, "run_buckets must be a sequence of numbers of seconds, got None"),
        ({"run_buckets": []}, "run_buckets must be at least one finite number of seconds, got ()"),
        (
            {"run_buckets": [float("inf")]},
            "run_buckets must be at least one finite number of seconds, got (inf,)",
        ),
        ({"run_buckets": [1, 0.5]}, "run_buckets[1] must be more than the one before it, got 0.5"),
        ({"wait_buckets": [1, 1]}, "wait_buckets[1] must be more than the one before it, got 1.0"),
        ({"wait_buckets": [0, 1]}, "wait_buckets[0] must be more than 0, got 0"),
        ({"wait_buckets": [1, "2"]}, "wait_buckets[1] must be a number of seconds, got '2'"),
        ({"wait_buckets": [float("nan")]}, "wait_buckets[0] must be more than 0, got nan"),
        (
            {"wait_buckets": [float("inf"), 1]},
            "wait_buckets[1] must be more than the one before it, got 1.0",
        ),
        (
            {"wait_buckets": [1, float("inf"), float("inf")]},
            "wait_buckets[1] must be finite, got inf",
        ),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunnerCollector(**settings)
    assert str(caught.value) == message


def test_what_is_no_runner_is_refused(runners: Runners) -> None:
    given: Any = "db"
    with pytest.raises(ConfigError, match=r"^runners\[1\] must be a Runner, got 'db'$"):
        RunnerCollector(runners.start(), given)


def test_without_the_client_the_module_says_what_to_install() -> None:
    program = """
        import sys
        sys.modules["prometheus_client"] = None
        import tasker
        try:
            import tasker.prometheus
        except ModuleNotFoundError as error:
            print(error, error.name)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True
    )
    assert done.stdout == (
        "tasker.prometheus needs prometheus-client: pip install 'tasker-rs[prometheus]' "
        "prometheus_client\n"
    ), done.stderr


def test_the_package_alone_imports_nothing_of_it() -> None:
    program = (
        "import sys, tasker\n"
        "assert not {'prometheus_client', 'tasker.prometheus'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ)
