"""To ask for the name of a task may run code of its own, which other workers do not wait for."""

from __future__ import annotations

import contextlib
import threading

from tasker import Config, Runner
from tests.lifecycle.support import run


def test_two_workers_that_ask_for_the_name_of_a_map_at_once() -> None:
    def program() -> None:
        both, asked = threading.Barrier(2, timeout=20), threading.Barrier(2, timeout=20)

        class Named:
            def __call__(self, _resource: object, number: int) -> int:
                both.wait()
                return number

            def __getattr__(self, name: str) -> str:
                if name != "__qualname__":
                    raise AttributeError(name)
                if threading.current_thread() is not threading.main_thread():
                    with contextlib.suppress(threading.BrokenBarrierError):
                        asked.wait()
                return "named"

        with Runner(Config(on_create=object, worker_count=2)) as runner:
            print(list(runner.map(Named(), range(2))))

    assert run(program) == ["[0, 1]"]
