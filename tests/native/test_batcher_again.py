"""A call of a batcher that failed and is made again: which of its items are in it once more."""

from __future__ import annotations

from typing import Any

import pytest

from tasker import Future, Retry
from tests.native.support import LONG_TIMEOUT, Gate, Resource, Runners

LONG_WAIT = LONG_TIMEOUT * 10
"""A pause, or a time limit, that passes in no test."""


class Failing:
    """A batch function whose first call fails, and may tell one of its items to give up before."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gives_up: Future[int] | None = None

    def __call__(self, _resource: Resource, items: list[int]) -> list[int]:
        """Gives the items back."""
        self.batches.append(list(items))
        if len(self.batches) == 1:
            if self.gives_up is not None:
                self.gives_up.request_cancel()
            raise LookupError
        return items


@pytest.fixture
def failing() -> Failing:
    return Failing()


def outcomes(futures: list[Future[int]]) -> list[Any]:
    errors = [future.exception(LONG_TIMEOUT) for future in futures]
    return [
        future.result() if error is None else type(error)
        for error, future in zip(errors, futures, strict=True)
    ]


def test_an_item_told_to_give_up_while_its_retry_is_asked_gets_its_error(
    runners: Runners, gate: Gate, failing: Failing
) -> None:
    futures: list[Future[int]] = []

    def again(_error: Exception) -> bool:
        return futures[0].request_cancel()

    runner = runners.start()
    runner.submit(gate.hold)
    batcher = runner.options(retry=Retry(on=again, wait=0.0)).batcher(failing, max_size=4)
    futures.extend(batcher.submit(item) for item in range(3))
    gate.open()
    assert outcomes(futures) == [LookupError, 1, 2]
    assert failing.batches == [[0, 1, 2], [1, 2]]


@pytest.mark.parametrize("how", ["is_broken", "retry"])
def test_an_item_told_to_give_up_when_another_ends_gets_its_error(
    runners: Runners, gate: Gate, failing: Failing, how: str
) -> None:
    runner = runners.start(is_broken=lambda *_: how == "is_broken")
    runner.submit(gate.hold)
    retry = Retry(on=LookupError, wait=0.0) if how == "retry" else None
    batcher = runner.options(retry=retry).batcher(failing, max_size=4)
    futures = [batcher.submit(item) for item in range(3)]
    futures[0].add_done_callback(lambda _: futures[1].request_cancel())
    failing.gives_up = futures[0]
    gate.open()
    assert outcomes(futures) == [LookupError, LookupError, 2]
    assert failing.batches == [[0, 1, 2], [2]]


def test_an_item_told_to_give_up_is_not_run_again_alone(
    runners: Runners, gate: Gate, failing: Failing
) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    batcher = runner.batcher(failing, max_size=4, split_failed=True)
    futures = [batcher.submit(item) for item in range(3)]
    failing.gives_up = futures[1]
    gate.open()
    assert outcomes(futures) == [0, LookupError, 2]
    assert failing.batches == [[0, 1, 2], [0], [2]]


@pytest.mark.parametrize("hurried", [0, 1])
def test_an_item_whose_limit_leaves_no_room_for_a_pause_keeps_no_other_from_it(
    runners: Runners, gate: Gate, failing: Failing, hurried: int
) -> None:
    runner = runners.start()
    runner.submit(gate.hold)
    retry = Retry(on=lambda _: LONG_WAIT, max_wait=LONG_WAIT)
    batcher = runner.options(retry=retry).batcher(failing, max_size=4)
    in_a_hurry = batcher.options(timeout=LONG_TIMEOUT)
    futures = [(in_a_hurry if item == hurried else batcher).submit(item) for item in range(2)]
    gate.open()
    assert isinstance(futures[hurried].exception(LONG_TIMEOUT), LookupError)
    runner.stop(timeout=LONG_TIMEOUT)
    assert outcomes([futures[1 - hurried]]) == [1 - hurried]
    assert failing.batches == [[0, 1], [1 - hurried]]
