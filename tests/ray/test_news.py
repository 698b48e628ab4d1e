"""What an actor tells its driver: when, to which call, and again where it did not arrive."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tasker import ResultNotPicklable
from tasker._options import Options
from tasker.ray._desk import Desk
from tasker.ray._kinds import Kinds
from tasker.ray._news import News
from tasker.ray._pickling import dumps, loads, pack_fields, unpack_error
from tasker.ray._wire import Outcome, Settings
from tests.ray.functions import same

DONE: Outcome = (7, "value", b"", [])


def test_a_call_gets_all_there_is() -> None:
    news = News(lambda: False)
    news.put(DONE)
    news.put(("log", "text"))
    assert news.take(1, is_soon=False) == ([DONE], [("log", "text")])


def test_a_task_that_has_run_for_a_moment_is_told_though_nothing_else_is() -> None:
    has_begun = threading.Event()
    news = News(has_begun.is_set)
    with ThreadPoolExecutor() as pool:
        reply = pool.submit(news.take, 1, is_soon=False)
        has_begun.set()
        while not reply.done():
            news.begun()
        assert reply.result() == ([], [])


def test_a_call_that_brought_a_task_tells_of_its_start_unasked() -> None:
    news = News(lambda: True)
    assert news.take(1, is_soon=True) == ([], [])


def test_the_end_lets_every_call_go_and_comes_after_all() -> None:
    news = News(lambda: False)
    news.put(DONE)
    news.close()
    replies = [news.take(call, is_soon=False) for call in (1, 2)]
    assert replies == [([DONE], [("closed", None)]), ([], [("closed", None)])]


def test_what_a_call_brought_is_known_for_a_while() -> None:
    news = News(lambda: False)
    news.put(DONE)
    news.take(1, is_soon=False)
    assert news.again(1) == ([DONE], [])
    with pytest.raises(LookupError, match="call 2 has had no reply"):
        news.again(2)


def test_a_result_that_is_too_large_to_be_stored_fails_alone(cluster: Any) -> None:
    del cluster
    desk = Desk()
    config = pack_fields("the config", {"on_create": dict, "worker_count": 1})
    opened = desk.open(Settings(config=config, contextvars=(), log_level=None))
    assert opened.error is None
    kind = Kinds().get(same, Options())
    kinds = [(kind.number, kind.packed)]
    large = b"x" * 2**20

    def item(number: int, value: object) -> Any:
        return (number, kind.number, None, dumps(((value,), {})), None, False)

    found: dict[int, Outcome] = {}
    call = 1
    reply = desk.ask(call, kinds, [item(1, large), item(2, "small")], [])
    while True:
        # As where Ray could not store the reply.
        again = desk.pull(call + 1, call)
        assert [each[0] for each in again.outcomes] == [each[0] for each in reply.outcomes]
        found |= {each[0]: each for each in again.outcomes}
        if len(found) == 2:
            break
        call += 2
        reply = desk.pull(call, None)
    assert loads(found[2][2]) == "small"
    number, what, error, _ = found[1]
    assert (number, what) == (1, "error")
    assert isinstance(unpack_error(error), ResultNotPicklable)
    desk.shut_down()
