"""What is wrong with a runner: each rule on figures made by hand, just below and just above."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from typing import Any, Literal

import pytest

from tasker import Finding, Metrics, RunningTask, Stats, TaskMetrics, Timing, WorkerInfo
from tasker._findings import Snapshot, examine
from tasker._looks import Memory

MINUTE = 60.0


def timing(count: int = 0, total: float = 0.0, p99: float = 0.0) -> Timing:
    return Timing(count, total, total / max(count, 1), 0.0, p99, p99, p99, p99)


def stats(**known: Any) -> Stats:
    found: dict[str, Any] = {field.name: 0 for field in dataclasses.fields(Stats)}
    return Stats(**found | known)


def metrics(**known: Any) -> Metrics:
    found: dict[str, Any] = {field.name: 0 for field in dataclasses.fields(Metrics)}
    found |= dict.fromkeys(("execution", "wait", "attach", "creation"), timing())
    found |= {"by_task": {}, "errors": {}, "replaced": {}}
    return Metrics(**found | known)


def worker(
    state: Literal["starting", "idle", "busy", "equipping"] = "idle",
    *,
    name: str = "db-worker-1",
    kind: Literal["base", "burst", "reserved", "temporary"] = "base",
    task: RunningTask | None = None,
    tasks_done: int = 1,
    resource_age: float | None = 1.0,
) -> WorkerInfo:
    return WorkerInfo(
        name=name,
        native_id=1,
        kind=kind,
        state=state,
        task=task,
        tasks_done=tasks_done,
        busy_seconds=0.0,
        busy_share=0.0,
        resource_generation=1,
        resource_age=resource_age,
    )


def running(name: str, age: float, *, on: str = "db-worker-1") -> WorkerInfo:
    return worker("busy", name=on, task=RunningTask(name, age, on))


def snapshot(**known: Any) -> Snapshot:
    found: dict[str, Any] = {
        "at": 1000.0,
        "stats": stats(),
        "metrics": metrics(),
        "workers": (worker(),),
        "max_queue_size": None,
        "refused_lately": 0,
        "creation_error": None,
        "processor_time": 0.0,
        "has_gil": True,
    }
    return Snapshot(**found | known)


def texts(now: Snapshot, earlier: Snapshot | None = None) -> list[str]:
    return [finding.text for finding in examine(now, earlier)]


def only(now: Snapshot, earlier: Snapshot | None = None) -> Finding:
    (finding,) = examine(now, earlier)
    return finding


def test_nothing_is_wrong_with_a_runner_at_rest() -> None:
    assert examine(snapshot()) == []


# ---- creation_failing


@pytest.mark.parametrize(
    ("seconds", "error", "text"),
    [
        (0.0004, "ConnectionError", "creation has failed for 1 ms: ConnectionError"),
        (1.5, "OSError", "creation has failed for 1.5 s: OSError"),
        (9.94, "OSError", "creation has failed for 9.9 s: OSError"),
        (9.96, "OSError", "creation has failed for 10 s: OSError"),
        (100.0, "OSError", "creation has failed for 1.7 min: OSError"),
        (0.25, "db.Refused", "creation has failed for 250 ms: db.Refused"),
        (59.6, "OSError", "creation has failed for 60 s: OSError"),
        (180.0, "OSError", "creation has failed for 3 min: OSError"),
        (7 * 3600.0, "OSError", "creation has failed for 7 h: OSError"),
        (30 * 86400.0, "OSError", "creation has failed for 30 days: OSError"),
        (5.0, None, "creation has failed for 5 s"),
    ],
)
def test_creation_that_fails_is_told_with_its_error(
    seconds: float, error: str | None, text: str
) -> None:
    now = snapshot(stats=stats(creation_failing_for=seconds), creation_error=error)
    finding = only(now)
    assert (finding.code, finding.text, finding.since) == ("creation_failing", text, seconds)


@pytest.mark.parametrize(("equipped", "severity"), [(0, "critical"), (1, "warning")])
def test_failing_creation_is_critical_while_no_worker_has_a_resource(
    equipped: int, severity: str
) -> None:
    now = snapshot(stats=stats(creation_failing_for=1.0, equipped_workers=equipped))
    assert only(now).severity == severity


def test_an_error_of_a_creation_that_has_worked_since_is_none() -> None:
    assert examine(snapshot(creation_error="OSError")) == []


# ---- queue_full


@pytest.mark.parametrize(
    ("size", "queued", "refused", "text"),
    [
        (10, 10, 40, "queue full: 40 tasks refused in the last minute"),
        (10, 9, 1, "queue full: 1 task refused in the last minute"),
        (10, 8, 40, None),
        (10, 10, 0, None),
        (1, 1, 2, "queue full: 2 tasks refused in the last minute"),
        (1, 0, 2, None),
        (None, 1000, 2, None),
    ],
)
def test_a_queue_is_full_that_refuses(
    size: int | None, queued: int, refused: int, text: str | None
) -> None:
    now = snapshot(stats=stats(queued_tasks=queued), max_queue_size=size, refused_lately=refused)
    assert texts(now) == ([text] if text else [])


# ---- stuck_worker


@pytest.mark.parametrize(
    ("age", "p99", "count", "found"),
    [
        (20.1, 0.2, 100, True),
        (20.0, 0.2, 100, False),
        (10.1, 0.001, 100, True),
        (10.0, 0.001, 100, False),
        (1000.0, 0.001, 99, False),
    ],
)
def test_a_task_is_stuck_that_takes_a_hundred_times_as_long_as_99_percent(
    age: float, p99: float, count: int, found: bool
) -> None:
    now = snapshot(
        metrics=metrics(execution=timing(count, p99=p99)), workers=(running("fetch", age),)
    )
    assert [finding.code for finding in examine(now)] == ["stuck_worker"] * found


def test_a_stuck_task_is_told_with_its_worker() -> None:
    now = snapshot(
        metrics=metrics(execution=timing(100, p99=0.05)), workers=(running("fetch", 300.0),)
    )
    finding = only(now)
    assert finding.text == (
        'seems stuck: task "fetch" has run for 5 min on db-worker-1, where 99 % take at most 50 ms'
    )
    assert (finding.severity, finding.since) == ("warning", 290.0)


def test_of_several_stuck_tasks_the_longest_is_told() -> None:
    workers = (running("a", 20.0), running("b", 70.0, on="db-worker-2"), running("c", 1.0))
    now = snapshot(metrics=metrics(execution=timing(100, p99=0.05)), workers=workers)
    finding = only(now)
    assert finding.text == (
        '2 workers seem stuck, the longest: task "b" has run for 70 s on db-worker-2, '
        "where 99 % take at most 50 ms"
    )
    assert (finding.since, finding.figures["workers"]) == (60.0, 2)


def test_a_slow_kind_of_task_is_compared_with_its_own() -> None:
    by_task = {"report": TaskMetrics(200, 0, 0, timing(200, p99=30.0))}
    figures = metrics(execution=timing(100_000, p99=0.001), by_task=by_task)
    assert examine(snapshot(metrics=figures, workers=(running("report", 200.0),))) == []
    assert len(examine(snapshot(metrics=figures, workers=(running("other", 200.0),)))) == 1


def test_a_task_that_runs_for_the_first_times_is_compared_with_all() -> None:
    by_task = {"report": TaskMetrics(99, 0, 0, timing(99, p99=30.0))}
    figures = metrics(execution=timing(100_000, p99=0.001), by_task=by_task)
    assert len(examine(snapshot(metrics=figures, workers=(running("report", 11.0),)))) == 1


# ---- overdue


@pytest.mark.parametrize(
    ("overdue", "text"), [(1, "1 task past its limit"), (2, "2 tasks past their limit")]
)
def test_tasks_past_their_limit_are_told(overdue: int, text: str) -> None:
    finding = only(snapshot(stats=stats(overdue_tasks=overdue)))
    assert (finding.code, finding.severity, finding.text) == ("overdue", "warning", text)


# ---- retries_failing


@pytest.mark.parametrize(
    ("retried", "failed", "completed", "found"),
    [(10, 1, 0, True), (9, 1, 0, False), (10, 0, 0, False), (10, 1, 1, False)],
)
def test_retries_fail_that_never_succeed(
    retried: int, failed: int, completed: int, found: bool
) -> None:
    by_task = {"load": TaskMetrics(completed, failed, retried, timing())}
    now = snapshot(metrics=metrics(by_task=by_task), stats=stats(running_tasks=1))
    assert [finding.code for finding in examine(now)] == ["retries_failing"] * found


def test_what_happened_before_the_period_does_not_count() -> None:
    earlier = snapshot(metrics=metrics(by_task={"load": TaskMetrics(500, 3, 30, timing())}))
    by_task = {
        "load": TaskMetrics(500, 8, 50, timing()),
        "save": TaskMetrics(0, 1, 30, timing()),
    }
    now = snapshot(metrics=metrics(by_task=by_task), stats=stats(queued_tasks=1))
    assert texts(now, earlier) == [
        '50 retries of "save" and 1 other name, and none of these tasks succeeds'
    ]
    assert texts(now) == ['30 retries of "save", and none of these tasks succeeds']
    assert examine(now, now) == []


# ---- tasks_failing


def ended(
    completed: int,
    failed: int,
    timed_out: int = 0,
    errors: dict[str, int] | None = None,
    by_task: dict[str, TaskMetrics] | None = None,
    **known: Any,
) -> Snapshot:
    figures = metrics(
        total_tasks_completed=completed,
        total_tasks_failed=failed,
        total_tasks_timed_out=timed_out,
        errors=errors or {},
        by_task=by_task or {},
        task_arrival_rate=1.0,
    )
    return snapshot(metrics=figures, **known)


@pytest.mark.parametrize(
    ("completed", "failed", "timed_out", "found"),
    [(5, 5, 0, True), (6, 5, 0, False), (4, 5, 0, False), (0, 10, 0, True), (5, 0, 5, True)],
)
def test_tasks_fail_when_half_of_ten_do(
    completed: int, failed: int, timed_out: int, found: bool
) -> None:
    codes = [finding.code for finding in examine(ended(completed, failed, timed_out))]
    assert codes == ["tasks_failing"] * found


def test_failing_tasks_are_told_with_their_error_and_name() -> None:
    earlier = ended(
        500, 100, errors={"ValueError": 100}, by_task={"save": TaskMetrics(0, 100, 0, timing())}
    )
    by_task = {
        "save": TaskMetrics(0, 101, 0, timing()),
        "fetch": TaskMetrics(1, 8, 0, timing()),
    }
    errors = {"ValueError": 101, "ConnectionError": 8}
    now = ended(501, 109, errors=errors, by_task=by_task, at=1070.0)
    finding = only(now, earlier)
    assert finding.text == (
        '9 of 10 tasks failed in the last minute, most with ConnectionError, most in "fetch"'
    )
    assert (finding.severity, finding.since) == ("warning", 0.0)
    assert finding.figures == {"failed": 9, "ended": 10}


@pytest.mark.parametrize(
    ("period", "text"),
    [(60.0, "minute"), (89.0, "minute"), (95.0, "95 s"), (125.0, "2.1 min"), (3600.0, "60 min")],
)
def test_the_period_in_which_tasks_failed_is_told(period: float, text: str) -> None:
    found = texts(ended(0, 20, at=1000.0 + period), ended(0, 10))
    assert found == [f"10 of 10 tasks failed in the last {text}"]


def test_without_an_earlier_look_failures_count_from_the_start() -> None:
    assert texts(ended(0, 10)) == ["10 of 10 tasks failed since the start"]


def test_a_time_out_is_an_error_of_its_type() -> None:
    now = ended(1, 3, 7, errors={"OSError": 3})
    assert only(now).text == "10 of 11 tasks failed since the start, most with tasker.TaskTimeout"


def test_an_error_that_is_not_that_of_most_is_told_with_its_number() -> None:
    errors = {"OSError": 4, "KeyError": 3, "ValueError": 3}
    by_task = {name: TaskMetrics(0, 5, 0, timing()) for name in ("fetch", "load")}
    now = ended(0, 10, errors=errors, by_task=by_task)
    assert only(now).text == "10 of 10 tasks failed since the start, 4 with OSError"


def test_what_is_counted_together_is_no_error_and_no_name() -> None:
    now = ended(0, 10, errors={"other": 10}, by_task={"other": TaskMetrics(0, 10, 0, timing())})
    assert only(now).text == "10 of 10 tasks failed since the start"


def test_failures_of_retried_tasks_are_told_once() -> None:
    by_task = {"load": TaskMetrics(0, 10, 30, timing()), "save": TaskMetrics(5, 5, 0, timing())}
    errors = {"OSError": 15}
    now = ended(5, 15, errors=errors, by_task=by_task)
    assert [finding.text for finding in examine(now)] == [
        '30 retries of "load", and none of these tasks succeeds',
        '5 of 10 tasks failed since the start, most in "save"',
    ]
    alone = ended(0, 10, errors=errors, by_task={"load": by_task["load"]})
    assert [finding.code for finding in examine(alone)] == ["retries_failing"]


def test_a_runner_at_rest_has_no_failing_tasks() -> None:
    now = ended(0, 10)
    assert (
        examine(
            dataclasses.replace(
                now, metrics=dataclasses.replace(now.metrics, task_arrival_rate=0.0)
            )
        )
        == []
    )


# ---- all_busy


@pytest.mark.parametrize(
    ("workers", "waited", "text"),
    [
        (4, 12.3, "all 4 workers busy, oldest task waits 12 s"),
        (1, 1.0, "the one worker busy, oldest task waits 1 s"),
        (4, 0.99, None),
    ],
)
def test_all_are_busy_when_a_task_waits_for_a_second(
    workers: int, waited: float, text: str | None
) -> None:
    busy = tuple(worker("busy") for _ in range(workers))
    now = snapshot(stats=stats(oldest_wait=waited, queued_tasks=1), workers=busy)
    assert texts(now) == ([text] if text else [])


@pytest.mark.parametrize(("waited", "severity"), [(59.9, "info"), (60.0, "warning")])
def test_a_wait_of_a_minute_is_a_warning(waited: float, severity: str) -> None:
    now = snapshot(stats=stats(oldest_wait=waited), workers=(worker("busy"),))
    assert (only(now).severity, only(now).since) == (severity, waited)


@pytest.mark.parametrize("state", ["idle", "equipping", "starting"])
def test_not_all_are_busy_while_one_is_not(state: Any) -> None:
    now = snapshot(stats=stats(oldest_wait=5.0), workers=(worker("busy"), worker(state)))
    assert examine(now) == []


def test_burst_workers_count_and_those_for_run_task_do_not() -> None:
    workers = (worker("busy"), worker("busy", kind="burst"), worker(kind="reserved"))
    now = snapshot(stats=stats(oldest_wait=5.0), workers=workers)
    assert texts(now) == ["all 2 workers busy, oldest task waits 5 s"]
    assert examine(dataclasses.replace(now, workers=workers[2:])) == []


@pytest.mark.parametrize(
    ("slow", "quick", "other", "most"),
    [
        (51.0, 50.0, 0.0, ', most of it in "slow_report"'),
        (50.0, 50.0, 0.0, ""),
        (1.0, 1.0, 50.0, ""),
    ],
)
def test_the_task_is_told_that_takes_most_of_the_time(
    slow: float, quick: float, other: float, most: str
) -> None:
    spent = {"slow_report": slow, "quick": quick, "other": other}
    by_task = {name: TaskMetrics(9, 0, 0, timing(9, total)) for name, total in spent.items()}
    now = snapshot(
        metrics=metrics(by_task=by_task), stats=stats(oldest_wait=12.0), workers=(worker("busy"),)
    )
    assert texts(now) == [f"the one worker busy{most}, oldest task waits 12 s"]


def test_time_counts_since_the_recent_look_with_the_tasks_that_run() -> None:
    def look(slow: float, quick: float) -> Snapshot:
        by_task = {"quick": TaskMetrics(9, 0, 0, timing(9, quick))}
        workers = (running("slow_report", slow), worker("busy"))
        return snapshot(
            metrics=metrics(by_task=by_task), stats=stats(oldest_wait=2.0), workers=workers
        )

    def text(now: Snapshot, recent: Snapshot | None) -> str:
        (finding,) = examine(now, None, recent)
        return finding.text

    told = 'all 2 workers busy, most of it in "{}", oldest task waits 2 s'
    assert text(look(20.0, 100.0), None) == told.format("quick")
    assert text(look(20.0, 100.0), look(10.0, 95.0)) == told.format("slow_report")
    # It had begun before the look, as long as the other one ran since.
    assert text(look(20.0, 105.0), look(19.0, 95.0)) == told.format("quick")


# ---- interpreter_bound


@pytest.mark.parametrize(
    ("attach", "execution", "found"),
    [(40.0, 60.0, True), (25.0, 75.0, True), (24.0, 76.0, False), (0.9, 0.1, False)],
)
def test_workers_that_wait_for_the_interpreter(
    attach: float, execution: float, found: bool
) -> None:
    figures = metrics(attach=timing(9, attach), execution=timing(9, execution))
    now = snapshot(metrics=figures, stats=stats(running_tasks=1))
    assert [finding.code for finding in examine(now)] == ["interpreter_bound"] * found


def test_the_share_is_that_of_the_period() -> None:
    earlier = snapshot(metrics=metrics(attach=timing(9, 1000.0), execution=timing(9, 1.0)))
    figures = metrics(attach=timing(9, 1004.0), execution=timing(9, 7.0))
    now = snapshot(metrics=figures, stats=stats(running_tasks=1))
    finding = only(now, earlier)
    assert finding.text == (
        "workers wait 40 % of their time for the interpreter: more workers will not help"
    )
    assert (finding.severity, finding.figures) == ("info", {"share": 0.4})


def at_work(at: float, spent: float, processor_time: float, **known: Any) -> Snapshot:
    by_task = {"count": TaskMetrics(9, 0, 0, timing(9, spent))}
    found: dict[str, Any] = {
        "metrics": metrics(by_task=by_task),
        "stats": stats(running_tasks=1),
        "processor_time": processor_time,
    }
    return snapshot(at=at, **found | known)


@pytest.mark.parametrize(
    ("period", "busy", "cores", "found"),
    [
        (10.0, 4.0, 1.0, True),
        (5.0, 4.0, 1.0, True),
        (4.9, 4.0, 1.0, False),
        (10.0, 1.5, 1.0, True),
        (10.0, 1.4, 1.0, False),
        (10.0, 4.0, 0.81, True),
        (10.0, 4.0, 0.79, False),
        (10.0, 4.0, 1.14, True),
        (10.0, 4.0, 1.16, False),
    ],
)
def test_several_workers_on_one_core_wait_for_the_interpreter(
    period: float, busy: float, cores: float, found: bool
) -> None:
    recent = at_work(1000.0, 500.0, 90.0)
    now = at_work(1000.0 + period, 500.0 + busy * period, 90.0 + cores * period)
    codes = [finding.code for finding in examine(now, None, recent)]
    assert codes == ["interpreter_bound"] * found
    assert examine(now, recent, None) == []
    assert examine(dataclasses.replace(now, has_gil=False), None, recent) == []


def test_several_workers_on_one_core_are_told_with_what_runs() -> None:
    # Two that ran at the earlier look have ended, and two have begun.
    recent = at_work(1000.0, 0.0, 90.0, workers=(running("count", 3.0), running("count", 4.0)))
    now = at_work(1010.0, 25.0, 100.0, workers=(running("count", 9.0), running("count", 12.0)))
    (finding,) = examine(now, None, recent)
    assert finding.text == (
        "workers wait for the interpreter, 3.9 busy on 1.0 cores: more workers will not help"
    )
    assert finding.severity == "info"
    assert finding.figures == pytest.approx({"busy_workers": 3.9, "cores": 1.0})


def test_workers_wait_for_the_interpreter_by_one_finding() -> None:
    recent = at_work(1000.0, 0.0, 0.0)
    now = at_work(1010.0, 40.0, 10.0)
    figures = dataclasses.replace(now.metrics, attach=timing(9, 4.0), execution=timing(9, 6.0))
    (finding,) = examine(dataclasses.replace(now, metrics=figures), None, recent)
    assert finding.figures == {"share": 0.4}


def test_a_snapshot_knows_the_processor_time_and_the_interpreter() -> None:
    known = {
        field.name: None
        for field in dataclasses.fields(Snapshot)
        if field.name not in ("at", "processor_time", "has_gil")
    }
    before = time.process_time()
    now = Snapshot(at=0.0, **known)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    assert before <= now.processor_time <= time.process_time()
    assert now.has_gil is getattr(sys, "_is_gil_enabled", lambda: True)()


# ---- too_many_workers


@pytest.mark.parametrize(
    ("age", "attempts", "found"), [(600.0, 1000, True), (599.0, 1000, False), (600.0, 999, False)]
)
def test_workers_that_never_ran_a_task_are_too_many(age: float, attempts: int, found: bool) -> None:
    unused = worker(tasks_done=0, resource_age=age)
    figures = metrics(execution=timing(attempts), task_completion_rate=1.0)
    now = snapshot(metrics=figures, workers=(worker(), unused, unused, worker(kind="burst")))
    assert texts(now) == ["never more than 1 of 3 workers busy at once"] * found


def test_since_when_they_are_too_many_is_known_by_their_age() -> None:
    figures = metrics(execution=timing(5000), task_completion_rate=1.0)
    workers = [worker(tasks_done=0, resource_age=age) for age in (700.0, 640.0)]
    finding = only(snapshot(metrics=figures, workers=(worker(), *workers)))
    assert (finding.severity, finding.since) == ("info", 40.0)


def test_a_runner_at_rest_has_not_too_many_workers_nor_failing_retries() -> None:
    figures = metrics(
        execution=timing(5000),
        attach=timing(9, 100.0),
        by_task={"load": TaskMetrics(0, 5, 50, timing())},
    )
    workers = (worker(), worker(tasks_done=0, resource_age=999.0))
    assert examine(snapshot(metrics=figures, workers=workers)) == []


# ---- several, and texts


def test_the_worst_comes_first() -> None:
    now = snapshot(
        stats=stats(
            oldest_wait=2.0,
            overdue_tasks=1,
            creation_failing_for=3.0,
            queued_tasks=4,
            running_tasks=1,
        ),
        metrics=metrics(attach=timing(9, 9.0)),
        workers=(worker("busy"),),
        max_queue_size=4,
        refused_lately=1,
    )
    assert [(finding.severity, finding.code) for finding in examine(now)] == [
        ("critical", "creation_failing"),
        ("warning", "queue_full"),
        ("warning", "overdue"),
        ("info", "all_busy"),
        ("info", "interpreter_bound"),
    ]


def test_a_name_cannot_break_out_of_the_text() -> None:
    name = 'a"\n\x1b[31m' + "b" * 1000
    by_task = {name: TaskMetrics(0, 1, 10, timing())}
    figures = metrics(execution=timing(100, p99=0.001), by_task=by_task)
    now = snapshot(stats=stats(running_tasks=1), metrics=figures, workers=(running(name, 20.0),))
    found = texts(now)
    assert len(found) == 2
    for text in found:
        assert text.isprintable()
        assert r"a\"" in text
        assert len(text) < 400


def test_figures_are_numbers() -> None:
    now = snapshot(stats=stats(oldest_wait=2.0, overdue_tasks=1), workers=(worker("busy"),))
    for finding in examine(now):
        assert all(math.isfinite(figure) for figure in finding.figures.values())


# ---- since


def overdue_at(at: float, overdue: int = 1) -> Snapshot:
    return snapshot(at=at, stats=stats(overdue_tasks=overdue))


def test_a_finding_holds_since_the_first_look_that_found_it() -> None:
    memory = Memory()
    looks = [memory.look(overdue_at(at))[0].since for at in (100.0, 110.0, 200.0)]
    assert looks == [0.0, 10.0, 100.0]


def test_a_finding_that_was_gone_begins_anew() -> None:
    memory = Memory()
    memory.look(overdue_at(100.0))
    assert memory.look(overdue_at(110.0, 0)) == ()
    assert memory.look(overdue_at(120.0))[0].since == 0.0


def test_a_finding_begins_anew_when_nobody_looked_for_long() -> None:
    memory = Memory()
    memory.look(overdue_at(100.0))
    assert memory.look(overdue_at(220.0))[0].since == 120.0
    assert memory.look(overdue_at(341.0))[0].since == 0.0


def test_what_the_figures_tell_of_since_counts_where_it_is_more() -> None:
    memory = Memory()
    now = snapshot(stats=stats(oldest_wait=5.0), workers=(worker("busy"),))
    assert memory.look(now)[0].since == 5.0
    # The task that waited has begun, and another one waits: they are all busy still.
    later = dataclasses.replace(now, at=1010.0, stats=stats(oldest_wait=2.0))
    assert memory.look(later)[0].since == 15.0


def test_the_period_begins_a_minute_ago_or_earlier() -> None:
    memory = Memory()

    def look(at: float, attach: float, execution: float) -> list[str]:
        figures = metrics(attach=timing(9, attach), execution=timing(9, execution))
        now = snapshot(at=at, metrics=figures, stats=stats(running_tasks=1))
        return [finding.code for finding in memory.look(now)]

    bound = ["interpreter_bound"]
    assert look(0.0, 9.0, 1.0) == bound
    assert look(MINUTE, 10.0, 90.0) == []
    # Since the look a minute before, and not the start.
    assert look(2 * MINUTE, 20.0, 100.0) == []
    assert look(2 * MINUTE + 1, 20.0, 100.0) == bound
    assert look(3 * MINUTE, 20.0, 200.0) == []


def test_processor_time_counts_since_a_look_of_some_seconds_ago() -> None:
    memory = Memory()

    def look(at: float, spent: float, processor_time: float) -> list[str]:
        return [finding.code for finding in memory.look(at_work(at, spent, processor_time))]

    bound = ["interpreter_bound"]
    assert look(0.0, 0.0, 0.0) == []
    assert look(4.0, 16.0, 4.0) == []
    assert look(5.0, 20.0, 5.0) == bound
    # From here on the tasks wait for something else.
    assert look(MINUTE, 240.0, 10.0) == []
    assert look(MINUTE + 1, 240.0, 10.0) == []
    assert look(MINUTE + 10, 280.0, 20.0) == bound
    # The look of a minute ago where that of this minute is too young.
    assert look(2 * MINUTE, 480.0, 70.0) == bound
    assert look(2 * MINUTE + 1, 480.0, 70.0) == bound
    assert look(2 * MINUTE + 10, 520.0, 70.0) == []


# ---- what is to be logged


def logged(memory: Memory, at: float, overdue: int = 1) -> list[tuple[str, str]]:
    return memory.to_log(overdue_at(at, overdue))


ONE = [("warning", "1 task past its limit")]


def test_a_finding_is_logged_when_it_has_held_for_ten_seconds() -> None:
    memory = Memory()
    assert [logged(memory, at) for at in (0.0, 9.9, 10.0, 20.0, 300.0)] == [[], [], ONE, [], []]


def test_what_the_figures_tell_of_since_is_enough_to_be_logged_at_once() -> None:
    now = snapshot(stats=stats(oldest_wait=10.0), workers=(worker("busy"),))
    assert Memory().to_log(now) == [("info", "the one worker busy, oldest task waits 10 s")]


def test_a_finding_is_logged_again_when_it_was_clear_for_a_minute() -> None:
    memory = Memory()
    for at in (0.0, 10.0):
        logged(memory, at)
    # Clear for less than a minute: it is the same trouble.
    logged(memory, 20.0, 0)
    assert [logged(memory, at) for at in (69.0, 80.0)] == [[], []]
    for at in (90.0, 140.0):
        logged(memory, at, 0)
    assert [logged(memory, at) for at in (150.0, 161.0)] == [[], ONE]


def test_what_was_logged_is_forgotten_while_nobody_looks() -> None:
    memory = Memory()
    for at in (0.0, 10.0):
        logged(memory, at)
    assert [logged(memory, at) for at in (1000.0, 1010.0)] == [[], ONE]


def test_findings_are_logged_each_for_itself() -> None:
    memory = Memory()
    for at in (0.0, 10.0):
        logged(memory, at)
    both = dataclasses.replace(
        overdue_at(20.0),
        max_queue_size=1,
        refused_lately=1,
        stats=stats(overdue_tasks=1, queued_tasks=1),
    )
    assert memory.to_log(both) == []
    assert memory.to_log(dataclasses.replace(both, at=30.0)) == [
        ("warning", "queue full: 1 task refused in the last minute")
    ]


def test_looks_of_others_make_no_difference_to_the_log() -> None:
    memory = Memory()
    for at in range(10):
        memory.look(overdue_at(float(at)))
    assert logged(memory, 10.0) == ONE
    assert memory.look(overdue_at(11.0))[0].since == 11.0
