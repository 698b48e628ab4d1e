"""`map` against a model: what is handed out, what is raised, how far the input is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tasker import Config, Runner
from tests.native.support import Broken, finished_tasks, is_healthy


class Failure(Exception):
    """Raised by an item or by the input on purpose."""


@dataclass
class Source:
    """Input of so many items that may raise at its end."""

    length: int
    fails: bool
    read: int = field(default=0)

    def __iter__(self) -> Iterator[int]:
        for number in range(self.length):
            self.read += 1
            yield number
        if self.fails:
            raise Failure("input")


@dataclass(frozen=True)
class Plan:
    """One map and how it is read."""

    workers: int
    fields: dict[str, Any]
    lengths: list[int]
    input_fails: bool
    failing: frozenset[int]
    spoiling: frozenset[int]
    buffersize: int | None
    ordered: bool
    taken: int | None


PLANS = st.builds(
    Plan,
    workers=st.integers(1, 3),
    fields=st.sampled_from(
        [
            {},
            {"max_queue_size": 1},
            {"max_queue_size": 7},
            {"task_timeout": 60.0},
            {"copy_contextvars": False},
            {"max_tasks_per_resource": 3},
        ]
    ),
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=3),
    input_fails=st.booleans(),
    failing=st.frozensets(st.integers(0, 80), max_size=2),
    spoiling=st.frozensets(st.integers(0, 80), max_size=3),
    buffersize=st.none() | st.integers(1, 40),
    ordered=st.booleans(),
    taken=st.none() | st.integers(0, 70),
)


@settings(max_examples=150, deadline=None)
@given(plan=PLANS)
def test_map_does_what_the_model_says(plan: Plan) -> None:
    sources = [Source(length, plan.input_fails) for length in plan.lengths]
    attempts: dict[int, int] = {}

    def task(_resource: object, *numbers: int) -> int:
        (number,) = set(numbers)
        attempts[number] = attempts.get(number, 0) + 1
        if number in plan.spoiling and attempts[number] == 1:
            raise Broken
        if number in plan.failing:
            raise Failure(number)
        return number

    config = Config(
        on_create=object, worker_count=plan.workers, check_health=is_healthy, **plan.fields
    )
    got: list[int] = []
    error: Failure | None = None
    with Runner(config) as runner:
        try:
            results = runner.map(task, *sources, buffersize=plan.buffersize, ordered=plan.ordered)
        except Failure:
            # The input failed before anything could be queued.
            assert plan.input_fails
            assert 0 in plan.lengths
            return
        try:
            while plan.taken is None or len(got) < plan.taken:
                got.append(next(results))
                if plan.buffersize is not None:
                    assert sources[0].read <= len(got) + plan.buffersize + 1
        except StopIteration:
            pass
        except Failure as failure:
            error = failure
        results.close()
        assert list(results) == []
    metrics = runner.metrics()
    assert metrics.total_tasks_arrived == finished_tasks(metrics)

    length = min(plan.lengths)
    first_failure = min((n for n in plan.failing if n < length), default=None)
    assert len(set(got)) == len(got)
    assert set(got) <= set(range(length)) - plan.failing
    if plan.ordered:
        assert got == list(range(len(got)))
    if error is None:
        if plan.taken is None or len(got) < plan.taken:
            assert len(got) == length
            # The shortest input ended without an error, and none before it raised.
            assert not plan.input_fails
        return
    if error.args == ("input",):
        assert plan.input_fails
        assert len(got) == length
    else:
        (number,) = error.args
        assert number in plan.failing
        if plan.ordered:
            assert number == first_failure == len(got)
    assert all(count <= 2 for count in attempts.values())
