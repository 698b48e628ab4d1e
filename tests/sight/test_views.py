"""Views of runners: rates, quantiles and series of successive readings, in bounded memory."""

from __future__ import annotations

import gc
import json
import threading
from dataclasses import asdict
from typing import Any

import pytest

from tasker import Config, Runner
from tasker._sight import history
from tasker._sight.history import History
from tasker._sight.quantiles import EDGES, between, counts_of
from tasker._sight.ring import Ring
from tasker._sight.texts import cut
from tasker._sight.view import View
from tasker._sight.watch import MOST_ENDED, MOST_RUNNERS, Watch
from tests.native.support import LONG_TIMEOUT, Gate, Runners
from tests.sight.support import (
    EMPTY,
    HOSTILE,
    busy,
    deep_size,
    histogram,
    metrics,
    reading,
    task_metrics,
    timing,
    worker,
)

# ---- what is remembered


def test_a_ring_keeps_one_thing_for_each_step_and_forgets_what_is_old() -> None:
    ring: Ring[int] = Ring(1.0, 10.0)
    for half in range(100):
        ring.add(half / 2, half)
    # One beside the span, so that something is there that is as old as it.
    assert len(ring.things()) == 11
    assert ring.before(45.0) == (45.0, 90)
    assert ring.before(45.5) == (45.0, 90)
    assert ring.before(0.0) == (39.0, 78)


def test_an_empty_ring_has_no_past() -> None:
    ring: Ring[int] = Ring(1.0, 10.0)
    with pytest.raises(LookupError):
        ring.before(1.0)


@pytest.mark.parametrize("seconds", [6e-8, 3e-6, 0.004, 0.25, 7.0, 1000.0])
def test_quantiles_are_four_in_a_hundred_off_at_most(seconds: float) -> None:
    before = counts_of(histogram((2.0, 50)))
    after = counts_of(histogram((2.0, 50), (seconds, 98), (10 * seconds, 2)))
    found = between(before, after)
    assert found is not None
    assert found.count == 100
    for quantile, true in ((found.p50, seconds), (found.p95, seconds)):
        assert abs(quantile / true - 1) <= 0.04
    assert abs(found.p99 / (10 * seconds) - 1) <= 0.04 or found.p99 == EDGES[-1]


def test_nothing_between_two_moments_has_no_quantiles() -> None:
    same = counts_of(histogram((2.0, 50)))
    assert between(same, same) is None


def test_what_takes_longer_than_the_last_edge_counts_as_that() -> None:
    found = between(counts_of(histogram()), counts_of(histogram((1e6, 1))))
    assert found is not None
    assert found.p50 == EDGES[-1]


# ---- rates and series


def at(second: float, completed: int, **figures: Any) -> Any:
    figures["by_task"] = {"fetch": task_metrics(completed, 0.01)}
    done = metrics(total_tasks_arrived=completed, total_tasks_completed=completed, **figures)
    return reading(second, metrics=done)


def test_rates_are_over_5_seconds_a_minute_and_5_minutes() -> None:
    kept = History()
    # 10 a second for 5 minutes, 40 a second in the last 5 s.
    for second in range(296):
        kept.add(at(second, 10 * second))
    for more in range(1, 5):
        kept.add(at(295 + more, 2950 + 40 * more))
    view = kept.add(at(300, 3150))
    assert view.rates.completed == pytest.approx(40)
    (fetch,) = view.tasks
    assert fetch.rate_5s == pytest.approx(40)
    assert fetch.rate_1min == pytest.approx(12.5)
    assert fetch.rate_5min == pytest.approx(10.5)


def test_a_first_view_has_no_rates() -> None:
    view = History().add(at(0, 1000))
    assert view.rates.completed == 0
    assert view.tasks[0].rate_5min == 0
    assert view.completed == 1000
    assert len(view.series) == 1


def test_a_short_watch_has_rates_over_its_own_time() -> None:
    kept = History()
    kept.add(at(0, 1000))
    view = kept.add(at(2, 1010))
    assert view.tasks[0].rate_5min == pytest.approx(5)
    assert view.watched_for == 2


def test_a_series_has_a_point_for_each_second_of_5_minutes() -> None:
    kept = History()
    for half in range(1000):
        kept.add(at(half / 2, 20 * half))
    view = kept.add(at(500, 20_000))
    assert 300 <= len(view.series) <= 301
    assert {round(point.completed) for point in view.series} == {40}
    assert view.series[-1].time - view.series[0].time == pytest.approx(300)


def test_a_point_after_a_pause_is_the_rate_since_the_last_one() -> None:
    kept = History()
    kept.add(at(0, 0))
    view = kept.add(at(60, 600))
    assert [point.completed for point in view.series] == [0, 10]


def test_time_outs_count_among_the_errors_and_have_a_rate() -> None:
    kept = History()
    kept.add(reading())
    ends = {"total_tasks_timed_out": 4, "total_tasks_cancelled": 2, "total_tasks_dropped": 1}
    done = metrics(total_tasks_completed=10, total_tasks_failed=6, **ends)
    view = kept.add(reading(2, metrics=done))
    assert (view.timed_out, view.cancelled, view.dropped) == (4, 2, 1)
    assert view.rates.timed_out == pytest.approx(2)
    assert view.series[-1].timed_out == pytest.approx(2)
    # Those that were cancelled or dropped never ran, and are no errors.
    assert view.error_share == pytest.approx(0.5)


def test_all_that_was_accepted_is_somewhere_in_the_view(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=1)
    held = runner.submit(gate.hold)
    gate.wait_for()
    late = runner.options(timeout=0).submit(gate.hold)
    assert late.exception(LONG_TIMEOUT)
    assert runner.submit(gate.hold).cancel()
    runner.submit(gate.hold)
    assert len(runner.cancel_queued()) == 1
    runner.submit(gate.hold)
    (view,) = Watch(runner).views()
    ended = view.completed + view.failed + view.timed_out + view.cancelled + view.dropped
    assert (view.timed_out, view.cancelled, view.dropped) == (1, 1, 1)
    assert view.accepted == ended + view.running + view.queued == 5
    gate.open()
    held.result(LONG_TIMEOUT)


def test_failures_of_the_last_minute_have_a_share() -> None:
    kept = History()
    assert kept.add(reading()).error_share is None
    done = metrics(total_tasks_completed=30, total_tasks_failed=10)
    assert kept.add(reading(1, metrics=done)).error_share == pytest.approx(0.25)
    assert kept.add(reading(200, metrics=done)).error_share == pytest.approx(0.25)
    # All of it is older than a minute now.
    assert kept.add(reading(270, metrics=done)).error_share is None


def test_times_are_of_the_last_minute_and_by_priority() -> None:
    kept = History()
    kept.add(reading())
    waits = {"low": histogram(), "normal": histogram((0.1, 10)), "high": histogram((2.0, 10))}
    figures: Any = {**EMPTY.histograms, "wait": waits, "execution": histogram((0.5, 4))}
    view = kept.add(reading(1, histograms=figures))
    assert view.wait is not None
    assert view.execution is not None
    assert (view.wait.count, view.execution.count) == (20, 4)
    low, normal, high = (view.wait_by_priority[name] for name in ("low", "normal", "high"))
    assert low is None
    assert normal is not None
    assert high is not None
    assert normal.p99 < 0.2 < 1.5 < high.p50
    assert view.series[-1].wait == view.wait


def test_waiting_for_the_interpreter_has_a_share_of_the_time() -> None:
    kept = History()
    kept.add(reading())
    done = metrics(execution=timing(10, 0.03), attach=timing(10, 0.01))
    assert kept.add(reading(1, metrics=done)).attach_share == pytest.approx(0.25)


def test_an_error_knows_when_it_was_seen_last() -> None:
    kept = History()
    kept.add(reading(metrics=metrics(errors={"OSError": 3})))
    kept.add(reading(1, metrics=metrics(errors={"OSError": 3, "KeyError": 5})))
    view = kept.add(reading(3, metrics=metrics(errors={"OSError": 3, "KeyError": 5})))
    assert [(each.name, each.count, each.last_minute, each.last_seen) for each in view.errors] == [
        ("KeyError", 5, 5, 2.0),
        ("OSError", 3, 0, None),
    ]


# ---- bounds


def test_of_many_workers_those_are_shown_that_matter() -> None:
    idle = [worker(number) for number in range(900)]
    late = [busy(number, "slow", 9.0, overdue=True) for number in range(900, 910)]
    equipping = [worker(number, state="equipping") for number in range(910, 1000)]
    view = History().add(reading(workers=(*idle, *late, *equipping)))
    assert len(view.workers) == history.MOST_WORKERS
    assert view.workers_left_out == 900
    assert view.worker_states == {"idle": 900, "busy": 10, "equipping": 90}
    assert [each.overdue for each in view.workers] == [True] * 10 + [False] * 90
    assert {each.state for each in view.workers} == {"busy", "equipping"}


def full(second: float) -> Any:
    """A reading with as many names and types as a runner counts, all different in each second."""
    ended = int(second) + 1
    by_task = {f"{name}" + "n" * 200: task_metrics(ended * 1000, 0.01) for name in range(201)}
    errors = {f"{name}" + "e" * 200: ended * 1000 for name in range(101)}
    many = tuple(busy(number, "w" * 200, 1.0) for number in range(1000))
    done = metrics(by_task=by_task, errors=errors, total_tasks_completed=ended)
    return reading(second, metrics=done, workers=many)


def test_memory_is_bounded_whatever_there_is_to_remember() -> None:
    kept = History()
    for second in range(320):
        kept.add(full(second))
    half = deep_size(kept)
    for second in range(320, 400):
        kept.add(full(second))
    view = kept.add(full(400))
    assert deep_size(kept) < 1.1 * half
    assert half < 2_800_000
    assert len(view.tasks) == len(view.errors) == 20
    assert (view.tasks_left_out, view.errors_left_out) == (181, 81)
    assert len(json.dumps(asdict(view))) < 300_000


def texts_in(thing: object) -> list[str]:
    if isinstance(thing, dict):
        return [text for pair in thing.items() for each in pair for text in texts_in(each)]
    if isinstance(thing, list | tuple):
        return [text for each in thing for text in texts_in(each)]
    return [thing] if isinstance(thing, str) else []


@pytest.mark.parametrize("text", [HOSTILE, "\ud800" * 90, "\u202e" * 79, ""])
def test_a_text_is_printable_on_one_line_and_short(text: str) -> None:
    shown = cut(text)
    assert len(shown) <= 80
    assert shown.isprintable()


def test_hostile_names_are_cut_wherever_they_stand() -> None:
    by_task = {HOSTILE: task_metrics(3, 0.1)}
    done = metrics(by_task=by_task, errors={HOSTILE: 3}, replaced={HOSTILE: 1})
    named = busy(1, HOSTILE, 1.0)
    view = History().add(reading(name=HOSTILE, metrics=done, workers=(named,)))
    texts = texts_in(asdict(view))
    assert sum("[red]" in text for text in texts) == 5
    assert all(text.isprintable() and len(text) <= 80 for text in texts)


# ---- real runners


def only(watch: Watch) -> View:
    (view,) = watch.views()
    return view


def test_a_view_agrees_with_its_runner(runners: Runners, gate: Gate) -> None:
    runner = runners.start(worker_count=2, max_queue_size=10, name="db")
    watch = Watch(runner)
    assert only(watch).rates.completed == 0
    assert list(runner.map(lambda _resource, n: n, range(100))) == list(range(100))
    held = runner.options(name="held").submit(gate.hold)
    gate.wait_for()
    view = only(watch)
    assert (view.name, view.state, view.queue_limit) == ("db", "running", 10)
    assert (view.workers_alive, view.workers_base, view.workers_max) == (2, 2, 2)
    assert (view.completed, view.running, view.queued) == (100, 1, 0)
    assert view.worker_states == {"busy": 1, "idle": 1}
    assert [each.task for each in view.workers if each.task] == ["held"]
    assert view.wait is not None
    # An attempt counts when its worker is done with it.
    assert view.wait.count == 100
    assert view.rates.completed > 0
    assert json.loads(json.dumps(asdict(view)))["name"] == "db"
    gate.open()
    held.result()


def test_a_view_tells_nothing_of_what_tasks_work_on(runners: Runners) -> None:
    class Secret(str):
        def __repr__(self) -> str:
            return f"<{self}>"

    def work(_resource: object, argument: str) -> str:
        del argument
        raise KeyError(Secret("message-secret"))

    runner = runners.start(on_create=lambda: Secret("resource-secret"), on_destroy=None)
    assert runner.submit(work, Secret("argument-secret")).exception() is not None
    runner.queue_task(lambda resource: resource)
    text = json.dumps(asdict(only(Watch(runner))))
    assert "KeyError" in text
    assert "secret" not in text


def test_all_runners_are_watched_as_they_come_and_go(runners: Runners) -> None:
    watch = Watch()
    before = len(watch.views())
    first = runners.start(name="first")
    assert [view.name for view in watch.views()][before:] == ["first"]
    second = runners.start(name="second")
    assert [view.name for view in watch.views()][before:] == ["first", "second"]
    first.stop()
    assert [view.state for view in watch.views()][before:] == ["stopped", "running"]
    second.stop()
    assert [view.state for view in watch.views()][before:] == ["stopped", "stopped"]


def test_of_those_that_stopped_the_last_few_stay(runners: Runners) -> None:
    watch = Watch()
    for number in range(MOST_ENDED + 3):
        runner = runners.start(name=f"ended-{number}")
        watch.views()
        runner.stop()
        watch.views()
    names = [view.name for view in watch.views() if view.name.startswith("ended-")]
    assert names == [f"ended-{number}" for number in range(3, MOST_ENDED + 3)]


def test_a_great_many_runners_are_not_all_watched(runners: Runners) -> None:
    started = [runners.start(name=f"many-{number}") for number in range(MOST_RUNNERS + 3)]
    assert len(Watch().views()) == MOST_RUNNERS
    assert len(Watch(*started).views()) == len(started)


def test_a_runner_that_had_stopped_before_is_shown_with_its_totals(runners: Runners) -> None:
    runner = runners.start()
    runner.queue_task(lambda _resource: None)
    runner.stop()
    view = only(Watch(runner))
    assert (view.state, view.completed, view.workers_alive) == ("stopped", 1, 0)


def test_a_watched_runner_can_be_collected() -> None:
    runner = Runner(Config(on_create=object, worker_count=1))
    watch = Watch(runner)
    only(watch)
    runner.stop()
    del runner
    gc.collect()
    assert only(watch).state == "stopped"


def test_watching_starts_no_thread(runners: Runners) -> None:
    watch = Watch(runners.start())
    before = threading.active_count()
    watch.views()
    assert threading.active_count() == before
