"""Libraries that take an executor take ours: servers, schedulers, event loops, progress bars."""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime
import functools
import logging
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tasker import Config, Runner, ThreadPoolExecutor

LONG_TIMEOUT = 20.0


@pytest.fixture(params=["pool", "executor"])
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes executors as the standard class does, on an engine of their own or on a runner."""
    ends: list[Callable[[], object]] = []

    def make(max_workers: int = 2, **_anything: object) -> Any:
        if request.param == "pool":
            executor: Any = ThreadPoolExecutor(max_workers)
            ends.append(executor.shutdown)
        else:
            runner = Runner(Config(on_create=object, worker_count=max_workers))
            executor = runner.executor()
            ends.append(runner.stop)
        return executor

    yield make
    for end in ends:
        end()


def on_a_worker() -> bool:
    return threading.current_thread() is not threading.main_thread()


# ---- servers and schedulers


def test_grpc_serves_calls_and_their_failures(make: Callable[..., Any]) -> None:
    grpc = pytest.importorskip("grpc")

    def echo(request: bytes, context: Any) -> bytes:
        if request == b"fail":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        return request if on_a_worker() else b"not on a worker"

    handler = grpc.unary_unary_rpc_method_handler(echo)
    server = grpc.server(make())
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s", {"echo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/s/echo")
            pending = [call.future(b"%d" % n, timeout=LONG_TIMEOUT) for n in range(20)]
            assert [future.result() for future in pending] == [b"%d" % n for n in range(20)]
            with pytest.raises(grpc.RpcError, match="no such thing"):
                call(b"fail", timeout=LONG_TIMEOUT)
    finally:
        assert server.stop(0).wait(LONG_TIMEOUT)


def test_dask_computes_on_it(make: Callable[..., Any]) -> None:
    dask = pytest.importorskip("dask")
    parts = [dask.delayed(pow)(n, 2) for n in range(10)]
    total = dask.delayed(sum)(parts)
    with dask.config.set(pool=make(), scheduler="threads"):
        assert total.compute() == 285
    assert total.compute(scheduler="threads", pool=make()) == 285
    with pytest.raises(ZeroDivisionError):
        dask.delayed(divmod)(1, 0).compute(scheduler="threads", pool=make())


def test_s3transfer_makes_its_own_from_the_class(make: Callable[..., Any]) -> None:
    futures = pytest.importorskip("s3transfer.futures")
    tasks = pytest.importorskip("s3transfer.tasks")

    class Add(tasks.Task):  # type: ignore[misc, name-defined]
        def _main(self, item: int) -> int:
            return item + 1

    coordinator = futures.TransferCoordinator(transfer_id=1)
    bounded = futures.BoundedExecutor(max_size=2, max_num_threads=1, executor_cls=make)
    submitted = [bounded.submit(Add(coordinator, {"item": n})) for n in range(8)]
    bounded.shutdown()
    assert all(future.done() for future in submitted)
    assert coordinator.exception is None


def test_apscheduler_runs_jobs_and_hears_of_failures(make: Callable[..., Any]) -> None:
    background = pytest.importorskip("apscheduler.schedulers.background")
    pools = pytest.importorskip("apscheduler.executors.pool")
    events = pytest.importorskip("apscheduler.events")
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()

    class Pool(pools.BasePoolExecutor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__(make())

    scheduler = background.BackgroundScheduler(executors={"default": Pool()}, timezone=datetime.UTC)
    scheduler.add_listener(heard.put, events.EVENT_JOB_EXECUTED | events.EVENT_JOB_ERROR)
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    scheduler.start()
    try:
        scheduler.add_job(pow, args=(2, 3))
        assert heard.get(timeout=LONG_TIMEOUT).retval == 8
        scheduler.add_job(divmod, args=(1, 0))
        assert isinstance(heard.get(timeout=LONG_TIMEOUT).exception, ZeroDivisionError)
    finally:
        scheduler.shutdown()


# ---- event loops


def run_on_uvloop(main: Callable[[], Any]) -> Any:
    return pytest.importorskip("uvloop").run(main())


def run_on_asyncio(main: Callable[[], Any]) -> Any:
    return asyncio.run(main())


def run_on_tornado(main: Callable[[], Any]) -> Any:
    ioloop = pytest.importorskip("tornado.ioloop")
    loop = ioloop.IOLoop(make_current=False)
    try:
        return loop.run_sync(main)
    finally:
        loop.close()


LOOPS = [run_on_asyncio, run_on_uvloop, run_on_tornado]


@pytest.mark.parametrize("run", LOOPS)
def test_a_loop_takes_it_as_its_default(make: Callable[..., Any], run: Callable[..., Any]) -> None:
    executor = make()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(executor)
        assert await asyncio.to_thread(on_a_worker)
        squares = [loop.run_in_executor(None, pow, n, 2) for n in range(20)]
        assert await asyncio.gather(*squares) == [n * n for n in range(20)]
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, divmod, 1, 0)
        # On Python 3.11 and 3.12 the standard pool leaves the caller waiting for ever.
        with pytest.raises(RuntimeError, match="StopIteration"):
            await loop.run_in_executor(None, next, iter(()))
        await loop.getaddrinfo("127.0.0.1", 80)
        await loop.shutdown_default_executor()

    run(main)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)


def test_tornado_runs_methods_on_it(make: Callable[..., Any]) -> None:
    concurrent = pytest.importorskip("tornado.concurrent")

    class Service:
        executor = make()

        @concurrent.run_on_executor  # type: ignore[untyped-decorator]
        def divide(self, a: int, b: int) -> float:
            assert on_a_worker()
            return a / b

    async def main() -> None:
        assert await Service().divide(6, 3) == 2
        with pytest.raises(ZeroDivisionError):
            await Service().divide(1, 0)

    run_on_tornado(main)


def test_aiohttp_resolves_names_on_it(make: Callable[..., Any]) -> None:
    resolver = pytest.importorskip("aiohttp.resolver")

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(make())
        threaded = resolver.ThreadedResolver()
        (first, *_) = await threaded.resolve("127.0.0.1", 80, socket.AF_INET)
        assert first["host"] == "127.0.0.1"

    asyncio.run(main())


def test_a_task_may_ask_a_loop_by_anyio(make: Callable[..., Any]) -> None:
    from_thread = pytest.importorskip("anyio.from_thread")

    async def double(number: int) -> int:
        return 2 * number

    with from_thread.start_blocking_portal() as portal:
        task = functools.partial(portal.call, double)
        assert list(make().map(task, range(5))) == [0, 2, 4, 6, 8]


def test_asgiref_runs_synchronous_code_on_it(make: Callable[..., Any]) -> None:
    sync = pytest.importorskip("asgiref.sync")
    executor = make(1)

    async def main() -> None:
        call = sync.sync_to_async(on_a_worker, thread_sensitive=False, executor=executor)
        assert await call()

        def back() -> Any:
            return sync.async_to_sync(asyncio.sleep)(0, "awaited")

        assert (
            await sync.sync_to_async(back, thread_sensitive=False, executor=executor)() == "awaited"
        )

    asyncio.run(main())


# ---- pools of pools, progress bars


def test_as_completed_and_wait_take_futures_of_every_kind(make: Callable[..., Any]) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as standard:
        mixed = [make().submit(pow, n, 2) for n in range(3)]
        mixed += [standard.submit(pow, n, 2) for n in range(3)]
        done = concurrent.futures.as_completed(mixed, LONG_TIMEOUT)
        assert sorted(future.result() for future in done) == [0, 0, 1, 1, 4, 4]
        assert not concurrent.futures.wait(mixed, LONG_TIMEOUT).not_done


def test_tqdm_maps_over_it(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tqdm = pytest.importorskip("tqdm")
    contrib = pytest.importorskip("tqdm.contrib.concurrent")
    shown = tqdm.tqdm(make().map(abs, range(9)), total=9, disable=True)
    assert list(shown) == list(range(9))
    monkeypatch.setattr(concurrent.futures, "ThreadPoolExecutor", ThreadPoolExecutor)
    assert contrib.thread_map(abs, [-1, -2], max_workers=2, disable=True) == [1, 2]


def test_more_executors_retries_maps_and_throttles(make: Callable[..., Any]) -> None:
    more = pytest.importorskip("more_executors")
    failures = iter([LookupError(), LookupError()])

    def flaky() -> str:
        for error in failures:
            raise error
        return "in the end"

    policy = more.ExceptionRetryPolicy(max_attempts=3, sleep=0.01)
    executor = more.MapExecutor(
        more.ThrottleExecutor(
            more.TimeoutExecutor(
                more.RetryExecutor(make(), retry_policy=policy), timeout=LONG_TIMEOUT
            ),
            count=2,
        ),
        str.upper,
    )
    with more.CancelOnShutdownExecutor(executor) as layers:
        assert layers.submit(flaky).result(LONG_TIMEOUT) == "IN THE END"
    futures = pytest.importorskip("more_executors.futures")
    one, two = make().submit(int, 1), make().submit(int, 2)
    assert futures.f_zip(one, two).result(LONG_TIMEOUT) == (1, 2)
    assert futures.f_or(make().submit(int), two).result(LONG_TIMEOUT) == 2


def test_django_connections_of_a_pool_end_with_its_threads(tmp_path: Any) -> None:
    django = pytest.importorskip("django")
    conf = pytest.importorskip("django.conf")
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "database")}
    if not conf.settings.configured:
        conf.settings.configure(DATABASES={"default": database}, USE_TZ=True)
        django.setup()
    db = pytest.importorskip("django.db")

    def ask() -> Any:
        with db.connection.cursor() as cursor:
            return cursor.execute("select 42").fetchone()[0]

    def close() -> None:
        db.connections.close_all()

    # The initializer cannot close; the finalizer runs on each worker's own thread, as Django wants.
    with ThreadPoolExecutor(2, finalizer=close) as pool:
        assert [pool.submit(ask).result(LONG_TIMEOUT) for _ in range(4)] == [42] * 4
    config = Config(on_create=lambda: db.connection, on_destroy=lambda _: close(), worker_count=1)
    with Runner(config) as runner:
        assert runner.submit(lambda _: ask()).result(LONG_TIMEOUT) == 42
