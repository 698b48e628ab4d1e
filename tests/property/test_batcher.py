"""A batcher against a model of it: whatever is submitted, cancelled and failed, in any order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tasker import Batcher, Config, Future, Priority, Runner, TaskCancelled
from tests.native.support import LONG_TIMEOUT, Broken, Factory, Gate, Resource, is_healthy

WAITS = [0.0, 0.002, LONG_TIMEOUT * 10]


@dataclass(frozen=True)
class Item:
    """An item, and how it is submitted and ends."""

    number: int
    priority: Priority
    key: int
    cancels: bool
    fails: bool


@dataclass(frozen=True)
class Plan:
    """A batcher, the items for it, and what happens to its runner."""

    workers: int
    max_size: int
    max_wait: float
    splits: bool
    breaks: bool
    end: str
    items: list[Item]


def items(rows: list[tuple[Priority, int, bool, bool]]) -> list[Item]:
    return [Item(number, *row) for number, row in enumerate(rows)]


ROWS = st.tuples(st.sampled_from(Priority), st.integers(0, 2), st.booleans(), st.booleans())
PLANS = st.builds(
    Plan,
    workers=st.integers(1, 3),
    max_size=st.integers(1, 5),
    max_wait=st.sampled_from(WAITS),
    splits=st.booleans(),
    breaks=st.booleans(),
    end=st.sampled_from(["stop", "kill", "cancel_queued"]),
    items=st.lists(ROWS, max_size=25).map(items),
)


class Calls:
    """A batch function that fails and breaks as planned, and keeps book."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.batches: list[list[Item]] = []
        self.broke = False

    def call(self, resource: Resource, items: list[Item]) -> list[int | Exception]:
        self.batches.append(items)
        if self.plan.breaks and not self.broke:
            self.broke = True
            raise Broken
        if self.plan.splits and any(item.fails for item in items):
            raise LookupError
        return [LookupError() if item.fails else item.number for item in items]


@settings(deadline=None, max_examples=150)
@given(PLANS)
def test_every_item_is_answered_once_and_by_its_own_result(plan: Plan) -> None:
    calls, factory, gate = Calls(plan), Factory(), Gate()
    runner = Runner(
        Config(
            on_create=factory.create,
            on_destroy=factory.destroy,
            check_health=is_healthy,
            worker_count=plan.workers,
        )
    )
    for _ in range(plan.workers):
        runner.submit(gate.hold)
    gate.wait_for(plan.workers)
    batcher: Batcher[Item, int] = runner.batcher(
        calls.call,
        max_size=plan.max_size,
        max_wait=plan.max_wait,
        key=lambda item: item.key,
        split_failed=plan.splits,
    )
    outcomes: list[int] = []
    futures: list[Future[int]] = []
    for item in plan.items:
        future = batcher.options(priority=item.priority).submit(item)
        future.add_done_callback(lambda _, item=item: outcomes.append(item.number))  # type: ignore[misc]
        futures.append(future)
    cancelled = [future for item, future in zip(plan.items, futures, strict=True) if item.cancels]
    assert all(future.cancel() for future in cancelled)
    dropped = runner.cancel_queued() if plan.end == "cancel_queued" else []
    gate.open()
    if plan.end == "kill":
        dropped = runner.kill(timeout=LONG_TIMEOUT)
    else:
        runner.stop(timeout=LONG_TIMEOUT)
    check(plan, calls, futures, {task.args[0].number for task in dropped if task.args})
    assert sorted(outcomes) == [item.number for item in plan.items]
    factory.check()


def check(plan: Plan, calls: Calls, futures: list[Future[int]], dropped: set[int]) -> None:
    """Compares what came of the items with what had to."""
    entered = [item.number for batch in calls.batches for item in batch]
    for batch in calls.batches:
        assert 1 <= len(batch) <= plan.max_size
        assert len({item.key for item in batch}) == 1
        assert [item.priority for item in batch] == sorted(
            (item.priority for item in batch), reverse=True
        )
    for item, future in zip(plan.items, futures, strict=True):
        if item.cancels:
            assert future.cancelled()
            assert item.number not in entered
        elif item.number in dropped:
            assert isinstance(future.exception(0), TaskCancelled)
            assert item.number not in entered
        else:
            assert outcome(future) in expected(plan, item)
            assert item.number in entered or plan.end == "kill"


def outcome(future: Future[int]) -> Any:
    error = future.exception(0)
    return future.result(0) if error is None else type(error)


def expected(plan: Plan, item: Item) -> list[Any]:
    """What may come of an item that ran: a kill leaves it with the error of its last attempt."""
    ends: list[Any] = [LookupError if item.fails else item.number]
    if plan.end == "kill":
        ends += [Broken, LookupError, TaskCancelled]
    return ends
