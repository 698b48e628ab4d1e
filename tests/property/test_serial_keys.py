"""Tasks that run in order by key against what is promised, whatever is submitted and goes wrong."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tasker import Config, Future, Priority, Retry, Runner, StopTimeout
from tests.native.support import Broken, Factory, Gate, Resource, is_healthy


@dataclass(frozen=True)
class Event:
    """A task: its key and class, how its attempts end, and whether it is cancelled as it waits."""

    key: str
    priority: Priority
    errors: tuple[type[Exception], ...]
    cancels: bool


@dataclass(frozen=True)
class Plan:
    """A runner, the tasks for it, and its end."""

    workers: int
    room: int | None
    end: str
    held: bool
    """All of it waits before the first one begins, if there is room."""
    events: list[Event]


EVENTS = st.builds(
    Event,
    key=st.sampled_from("abc"),
    priority=st.sampled_from(Priority),
    errors=st.lists(st.sampled_from([Broken, LookupError, ValueError]), max_size=3).map(tuple),
    cancels=st.booleans(),
)
PLANS = st.builds(
    Plan,
    workers=st.integers(1, 3),
    room=st.none() | st.integers(1, 4),
    end=st.sampled_from(["stop", "kill", "cancel_queued"]),
    held=st.booleans(),
    events=st.lists(EVENTS, max_size=20),
)


class Log:
    """A task function that fails as planned, and notes when each attempt begins and ends."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events
        self.attempts = [0] * len(events)
        self.inside: dict[str, int] = {}
        self.entered: dict[str, list[int]] = {"a": [], "b": [], "c": []}
        self.overlaps: list[tuple[int, int]] = []

    def apply(self, _resource: Resource, number: int) -> int:
        event = self.events[number]
        other = self.inside.setdefault(event.key, number)
        if other != number:
            self.overlaps.append((other, number))
        self.entered[event.key].append(number)
        attempt = self.attempts[number]
        self.attempts[number] += 1
        del self.inside[event.key]
        if attempt < len(event.errors):
            raise event.errors[attempt]
        return number


@settings(deadline=None, max_examples=150)
@given(PLANS)
def test_tasks_of_a_key_run_in_their_order_and_each_is_answered(plan: Plan) -> None:
    factory, gate, log = Factory(), Gate(), Log(plan.events)
    config = Config(
        on_create=factory.create,
        on_destroy=factory.destroy,
        check_health=is_healthy,
        retry=Retry(on=LookupError, wait=0.0005),
        worker_count=plan.workers,
        max_queue_size=None if plan.held else plan.room,
    )
    runner = Runner(config)
    views = {
        each: runner.options(key=lambda number: plan.events[number].key, serial=True, priority=each)
        for each in Priority
    }
    if plan.held:
        for _ in range(plan.workers):
            runner.submit(gate.hold)
        gate.wait_for(plan.workers)
    futures: list[Future[int]] = []
    for number, event in enumerate(plan.events):
        futures.append(views[event.priority].submit(log.apply, number))
        if event.cancels:
            futures[-1].cancel()
    dropped = []
    if plan.end == "cancel_queued":
        dropped = runner.cancel_queued()
    elif plan.end == "kill":
        try:
            dropped = runner.kill(timeout=0)
        except StopTimeout as error:
            dropped = error.dropped
    gate.open()
    runner.stop()
    factory.check()
    assert all(future.done() for future in futures)
    assert log.overlaps == []
    for key, entered in log.entered.items():
        assert entered == sorted(entered), key
    for number, future in enumerate(futures):
        if future.cancelled():
            assert log.attempts[number] == 0
        elif future.exception() is None:
            assert future.result() == number
    handed_back = [task.args[0] for task in dropped]
    for key in "abc":
        of_key = [number for number in handed_back if plan.events[number].key == key]
        assert of_key == sorted(of_key)
    if not dropped and plan.end == "stop":
        run = [future for future in futures if not future.cancelled()]
        assert sum(attempts > 0 for attempts in log.attempts) == len(run)
