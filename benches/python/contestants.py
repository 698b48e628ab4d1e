"""The pools that are compared, each used in the way its own users would."""

import asyncio
import concurrent.futures
import multiprocessing.pool
import threading
from _thread import allocate_lock
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from queue import SimpleQueue
from typing import Any, ClassVar, NamedTuple, Self

import tasker


class Resource(NamedTuple):
    """How something that a worker owns is made and closed."""

    create: Callable[[], Any]
    destroy: Callable[[Any], object]


NOTHING = Resource(create=lambda: None, destroy=lambda _: None)


class Contestant(ABC):
    """One side of a comparison; a `with` block closes it."""

    name: ClassVar[str]

    @abstractmethod
    def __init__(self, workers: int, resource: Resource = NOTHING) -> None: ...

    @abstractmethod
    def _close(self) -> None:
        """Ends all threads and closes every resource."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


class Pool(Contestant):
    """Worker threads and a queue.

    What is measured is reached through attributes that hold the pool's own callables: a method of
    this class around them would be measured too.
    """

    submit: Callable[..., Any]
    """Takes a function and arguments for it, and returns a ticket at once.

    The function is called with the worker's resource before the arguments. Where the pool knows
    nothing of resources and none is asked for, it gets the arguments alone.
    """
    wait: Callable[[Any], Any]
    """Takes a ticket, waits for its task and returns the value."""
    asubmit: Callable[..., asyncio.Future[Any]]
    """Takes a function, for a pool without a resource, and returns a future of the running loop."""
    program: ClassVar[str]
    """What a process runs before it can make such a pool."""


class StandardPool(Pool):
    """The standard library's pool; a resource is what an initializer left in thread-local data."""

    name = "ThreadPoolExecutor"
    program = "import concurrent.futures.thread"

    def __init__(self, workers: int, resource: Resource = NOTHING) -> None:
        self._local = threading.local()
        self._resource = resource
        self._created: list[Any] = []
        if resource is NOTHING:
            self._executor = concurrent.futures.ThreadPoolExecutor(workers)
            self.submit = self._executor.submit
        else:
            self._executor = concurrent.futures.ThreadPoolExecutor(workers, initializer=self._open)
            self.submit = partial(self._executor.submit, self._with_resource())
        self.wait = concurrent.futures.Future.result
        self.asubmit = self._run_in_executor

    def _run_in_executor(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._executor, function)

    def _open(self) -> None:
        self._local.resource = self._resource.create()
        self._created.append(self._local.resource)

    def _with_resource(self) -> Callable[..., Any]:
        local = self._local

        def run(function: Callable[..., Any], *args: Any) -> Any:
            return function(local.resource, *args)

        return run

    def _close(self) -> None:
        self._executor.shutdown()
        for resource in self._created:
            self._resource.destroy(resource)


class HandWrittenPool(Pool):
    """What is written without a library: a queue, threads, and a lock for each result."""

    name = "by hand"
    program = "import _thread, queue, threading"

    def __init__(self, workers: int, resource: Resource = NOTHING) -> None:
        # A task is its function, the arguments, and a ticket: lock, value, error.
        self._tasks: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...], list[Any]] | None]
        self._tasks = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, args=(resource,), daemon=True)
            for _ in range(workers)
        ]
        for thread in self._threads:
            thread.start()
        self.submit = self._put
        self.wait = self.take
        self.asubmit = self._put_for_loop

    def _put(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        done = allocate_lock()
        done.acquire()
        ticket = [done, None, None]
        self._tasks.put((function, args, ticket))
        return ticket

    def _put_for_loop(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        ticket: list[Any] = [None, None, None]
        ticket[0] = _LoopCall(loop, future, ticket)
        self._tasks.put((function, (), ticket))
        return future

    def _work(self, resource: Resource) -> None:
        owned = resource.create()
        while (task := self._tasks.get()) is not None:
            function, args, ticket = task
            try:
                ticket[1] = function(owned, *args)
            except BaseException as error:
                ticket[2] = error
            ticket[0].release()
        resource.destroy(owned)

    @staticmethod
    def take(ticket: list[Any]) -> Any:
        """Waits for a task and returns its value."""
        ticket[0].acquire()
        if ticket[2] is not None:
            raise ticket[2]
        return ticket[1]

    def _close(self) -> None:
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()


class _LoopCall:
    """Stands in a ticket where a thread that waits would have its lock."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], ticket: list[Any]
    ) -> None:
        self._loop, self._future, self._ticket = loop, future, ticket

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        _, value, error = self._ticket
        if error is None:
            self._future.set_result(value)
        else:
            self._future.set_exception(error)


class TaskerPool(Pool):
    """A runner with its default settings."""

    name = "tasker"
    program = "from tasker import Config, Runner; Config(on_create=object, worker_count=1)"

    def __init__(self, workers: int, resource: Resource = NOTHING) -> None:
        self._runner = tasker.Runner(
            tasker.Config(
                on_create=resource.create, on_destroy=resource.destroy, worker_count=workers
            )
        )
        self.submit = self._runner.submit
        self.wait = tasker.Future.result
        self.asubmit = self._runner.asubmit

    def _close(self) -> None:
        self._runner.stop()


class Lender(Contestant):
    """Resources without threads: a call borrows one and runs in the caller's own thread."""

    call: Callable[..., Any]
    """Takes a function and arguments for it, and returns what it returns for a free resource."""
    limited_call: Callable[..., Any]
    """The same with a time limit, where there is such a thing."""


class HandWrittenLender(Lender):
    """A queue of free resources."""

    name = HandWrittenPool.name

    def __init__(self, workers: int, resource: Resource = NOTHING) -> None:
        self._resource = resource
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(workers):
            self._free.put(resource.create())
        self._count = workers
        self.call = self.limited_call = self._call

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        borrowed = self._free.get()
        try:
            return function(borrowed, *args)
        finally:
            self._free.put(borrowed)

    def _close(self) -> None:
        for _ in range(self._count):
            self._resource.destroy(self._free.get())


class TaskerLender(Lender):
    """`run_task` with resources that are not bound to their thread."""

    name = TaskerPool.name

    def __init__(self, workers: int, resource: Resource = NOTHING) -> None:
        self._runner = tasker.Runner(
            tasker.Config(
                on_create=resource.create,
                on_destroy=resource.destroy,
                worker_count=1,
                resource_pool_size=workers,
                thread_bound=False,
            )
        )
        self.call = self._runner.run_task
        self.limited_call = self._runner.options(timeout=60).run_task

    def _close(self) -> None:
        self._runner.stop()


class Mapper(Contestant):
    """Calls a function for many items, and gives the results in order."""

    map: Callable[[Iterable[int]], list[int]]
    """Takes items, and returns what a function that returns its item gives for them."""


class StandardMapper(Mapper):
    """The standard pool has a future for each item."""

    name = StandardPool.name

    def __init__(self, workers: int, resource: Resource = NOTHING) -> None:
        del resource
        self._executor = concurrent.futures.ThreadPoolExecutor(workers)
        self.map = lambda items: list(self._executor.map(_itself, items))

    def _close(self) -> None:
        self._executor.shutdown()


class ChunkMapper(Mapper):
    """The threads of `multiprocessing`, which take items in chunks of a size that they choose."""

    name = "multiprocessing"

    def __init__(self, workers: int, resource: Resource = NOTHING) -> None:
        del resource
        self._pool = multiprocessing.pool.ThreadPool(workers)
        self.map = lambda items: self._pool.map(_itself, items)

    def _close(self) -> None:
        self._pool.close()
        self._pool.join()


class BareMapper(Mapper):
    """No pool at all: the least that a call for each item can cost in one thread."""

    name = "list(map)"

    def __init__(self, workers: int, resource: Resource = NOTHING) -> None:
        del workers, resource
        self.map = lambda items: list(map(_itself, items))

    def _close(self) -> None:
        pass


class TaskerMapper(Mapper):
    """A runner's `map` with its default settings."""

    name = TaskerPool.name

    def __init__(self, workers: int, resource: Resource = NOTHING) -> None:
        self._runner = tasker.Runner(tasker.Config(on_create=resource.create, worker_count=workers))
        self.map = lambda items: list(self._runner.map(_itself_on, items))

    def _close(self) -> None:
        self._runner.stop()


def _itself(item: int) -> int:
    return item


def _itself_on(_resource: object, item: int) -> int:
    return item


POOLS: tuple[type[Pool], ...] = (StandardPool, HandWrittenPool, TaskerPool)
LENDERS: tuple[type[Lender], ...] = (HandWrittenLender, TaskerLender)
MAPPERS: tuple[type[Mapper], ...] = (StandardMapper, ChunkMapper, BareMapper, TaskerMapper)
