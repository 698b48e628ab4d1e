"""Awaiting a future: in asyncio it works and can be cancelled, elsewhere it says what to do."""

import asyncio
import concurrent.futures
import gc
import weakref

import pytest

from tasker import Future


class Recording(Future[int]):
    """A future of a task that has started, so that `cancel` has no effect on it."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[str | None] = []
        self.set_running_or_notify_cancel()

    def request_cancel(self, reason: str | None = None) -> bool:
        self.requests.append(reason)
        return True


async def awaiting(future: Future[int]) -> int:
    return await future


async def settled_later(settle: str, outcome: object) -> int:
    future: Future[int] = Future()
    waiter = asyncio.create_task(awaiting(future))
    await asyncio.sleep(0)
    getattr(future, settle)(*([outcome] if outcome is not None else []))
    return await waiter


def test_awaiting_gives_the_result() -> None:
    assert asyncio.run(settled_later("set_result", 7)) == 7


def test_awaiting_raises_what_the_task_raised() -> None:
    error = KeyError("missing")
    with pytest.raises(KeyError) as raised:
        asyncio.run(settled_later("set_exception", error))
    assert raised.value is error


def test_awaiting_a_cancelled_future_is_cancelled_too() -> None:
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(settled_later("cancel", None))


def test_awaiting_a_finished_future_gives_the_result() -> None:
    future: Future[int] = Future()
    future.set_result(7)
    assert asyncio.run(awaiting(future)) == 7


def test_cancelling_the_awaiting_task_asks_the_running_one_to_stop() -> None:
    future = Recording()

    async def main() -> None:
        waiter = asyncio.create_task(awaiting(future))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

    asyncio.run(main())
    assert future.requests == ["the asyncio future of the task was cancelled"]
    assert future.running()


def test_a_result_is_no_reason_to_ask_the_task_to_stop() -> None:
    future = Recording()
    future.set_result(7)
    assert asyncio.run(awaiting(future)) == 7
    assert future.requests == []


def test_awaiting_outside_asyncio_names_the_way_that_works() -> None:
    future: Future[int] = Future()
    coroutine = awaiting(future)
    with pytest.raises(RuntimeError, match=r"anyio\.to_thread\.run_sync\(future\.result\)"):
        coroutine.send(None)


def test_an_awaited_failure_leaves_no_cycle_behind() -> None:
    class Broken(Exception):
        pass

    def failed() -> Future[int]:
        future: Future[int] = Future()
        future.set_exception(Broken())
        return future

    async def main() -> "weakref.ref[Broken]":
        try:
            await failed()
        except Broken as error:
            return weakref.ref(error)
        raise AssertionError

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(main())() is None
    finally:
        gc.enable()


def test_a_future_is_a_standard_future() -> None:
    future: Future[int] = Future()
    assert isinstance(future, concurrent.futures.Future)
    future.set_result(7)
    assert concurrent.futures.wait([future], timeout=5).done == {future}
