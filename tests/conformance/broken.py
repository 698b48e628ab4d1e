"""Executors with one fault each. CPython's tests have to notice every one of them."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tasker
from tasker import Future


class Silent(tasker.ThreadPoolExecutor):
    """What a call raises is lost."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Submits a call that never fails."""

        def call() -> Any:
            try:
                return fn(*args, **kwargs)
            except Exception:
                return None

        return super().submit(call)


class Unstoppable(tasker.ThreadPoolExecutor):
    """It cancels nothing when it is shut down."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Waits for everything."""
        super().shutdown(wait)


class Greedy(tasker.ThreadPoolExecutor):
    """It accepts calls for ever."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Gives a future that will not be done, rather than to refuse."""
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError:
            return Future()


class Hoarder(tasker.ThreadPoolExecutor):
    """It forgets nothing."""

    futures: list[Future[Any]] = []  # noqa: RUF012 - shared on purpose

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Keeps the future."""
        future = super().submit(fn, *args, **kwargs)
        self.futures.append(future)
        return future


class Lazy(tasker.ThreadPoolExecutor):
    """Its `map` submits a call only when its result is asked for."""

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **_: Any) -> Iterator[Any]:
        """Submits one call after the other."""
        for item in zip(*iterables, strict=False):
            yield self.submit(fn, *item).result()


class Eager(tasker.ThreadPoolExecutor):
    """It hires for each call, whoever is idle."""

    @property
    def _threads(self) -> set[threading.Thread]:  # type: ignore[override]
        return {threading.Thread() for _ in range(self._max_workers)}


class Nameless(tasker.ThreadPoolExecutor):
    """Its threads have names of their own."""

    def __init__(self, max_workers: int | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(max_workers, "worker", *args, **kwargs)


class Hasty(tasker.ThreadPoolExecutor):
    """What waits when the interpreter exits is lost."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        for _ in itertools.count():
            future, call = self._calls.get()
            future.set_result(call())

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Has a daemon thread make the call."""
        future: Future[Any] = Future()
        self._calls.put((future, lambda: fn(*args, **kwargs)))
        return future


class Careless(tasker.ThreadPoolExecutor):
    """A failing initializer does not matter to it."""

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        del initializer, initargs
        super().__init__(max_workers, thread_name_prefix)
