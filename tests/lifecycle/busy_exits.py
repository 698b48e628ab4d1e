"""A program whose interpreter exits while its runner is busy, one way for each name.

    python busy_exits.py                   # prints the names
    python busy_exits.py NAME [OBJECTS]    # exits that way, with so many live objects

It prints `exiting` as its last act. From then on nothing may go wrong: the status is 0, standard
error stays empty, and the process ends within moments. Live objects make the end of the
interpreter take long, which is when a worker that was left behind can do harm.

A name that ends in `stop` or `kill` has its runner given up by a `stop` or `kill` whose time limit
passes, while a task or hook goes on for ever.
"""

import asyncio
import contextlib
import gc
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from typing import Any

from tasker import Config, Context, Future, Runner, StopTimeout

EXITS: dict[str, Callable[[], None]] = {}
LEFT_BEHIND: dict[str, Callable[["LeftBehind"], None]] = {}

# What lives until the interpreter has ended.
KEPT: list[object] = []


def busy(way: Callable[[], None]) -> Callable[[], None]:
    """Registers a way to exit with a runner that nobody stopped."""
    EXITS[way.__name__] = way
    return way


def left_behind(way: Callable[["LeftBehind"], None]) -> Callable[["LeftBehind"], None]:
    """Registers a way to be busy for ever, to be left behind by `stop` and by `kill`."""
    LEFT_BEHIND[way.__name__] = way
    return way


def dropping(way: Callable[["LeftBehind"], None]) -> Callable[["LeftBehind"], None]:
    """`left_behind`, where an object dies on the thread that lets go of it last."""
    return way if sysconfig.get_config_var("Py_GIL_DISABLED") else left_behind(way)


# ---- with a runner that nobody stopped


@busy
def idle() -> None:
    KEPT.append(Runner(Config(on_create=object, on_destroy=id, worker_count=4)))


@busy
def unused_reserve() -> None:
    KEPT.append(Runner(Config(on_create=object, worker_count=1, resource_pool_size=3)))


@busy
def running() -> None:
    runner = Runner(Config(on_create=object, on_destroy=id, worker_count=4))
    KEPT.extend(runner.submit(compute) for _ in range(200))
    KEPT.append(runner)


@busy
def tasks_of_a_closed_loop() -> None:
    runner = Runner(Config(on_create=object, on_destroy=id, worker_count=4))

    async def begin() -> None:
        KEPT.extend(runner.asubmit(compute) for _ in range(200))

    asyncio.run(begin())
    KEPT.append(runner)


@busy
def a_loop_that_goes_on() -> None:
    runner = Runner(Config(on_create=object, worker_count=4, max_queue_size=20))
    going_on = threading.Event()

    async def feed() -> None:
        # Until the runner refuses, or the thread is no more.
        with contextlib.suppress(RuntimeError):
            while True:
                await submit_many()
                going_on.set()

    async def submit_many() -> None:
        promises: list[asyncio.Future[None]] = []
        try:
            for _ in range(100):
                promises.append(runner.asubmit(nap))  # noqa: PERF401 - it may raise half-way
        finally:
            # Those that wait for room are refused too, and asyncio reports errors that nobody
            # has looked at.
            await asyncio.gather(*promises, return_exceptions=True)

    threading.Thread(target=lambda: asyncio.run(feed()), daemon=True).start()
    going_on.wait()
    KEPT.append(runner)


@busy
def full_queue() -> None:
    config = Config(on_create=object, worker_count=2, max_queue_size=20)
    runner = Runner(config)

    def feed() -> None:
        while True:
            try:
                runner.submit(nap)
            except RuntimeError:
                return

    feeders = [threading.Thread(target=feed, daemon=True) for _ in range(2)]
    for feeder in feeders:
        feeder.start()
    while runner.stats().queued_tasks < 20:
        time.sleep(0.001)
    KEPT.append(runner)


@busy
def in_run_task() -> None:
    runner = Runner(Config(on_create=object, worker_count=1))
    entered = threading.Event()

    def task(_: object) -> None:
        entered.set()
        time.sleep(0.05)

    threading.Thread(target=runner.run_task, args=(task,), daemon=True).start()
    entered.wait()
    KEPT.append(runner)


@busy
def in_run_task_on_loan() -> None:
    runner = Runner(Config(on_create=object, worker_count=1, thread_bound=False))
    entered = threading.Event()

    def task(_: object) -> None:
        entered.set()
        time.sleep(0.05)

    threading.Thread(target=runner.run_task, args=(task,), daemon=True).start()
    entered.wait()
    KEPT.append(runner)


@busy
def in_constructor() -> None:
    entered = threading.Event()

    def create() -> object:
        entered.set()
        time.sleep(0.05)
        return object()

    def construct() -> None:
        KEPT.append(Runner(Config(on_create=create, worker_count=3)))

    threading.Thread(target=construct, daemon=True).start()
    entered.wait()


@busy
def in_on_create() -> None:
    replace(create=lambda: time.sleep(0.05))


@busy
def in_on_destroy() -> None:
    replace(destroy=lambda: time.sleep(0.05))


@busy
def with_burst_workers() -> None:
    config = Config(
        on_create=object,
        on_destroy=id,
        worker_count=1,
        max_worker_count=4,
        burst_interval=0.005,
        idle_timeout=0.005,
    )
    runner = Runner(config)
    KEPT.extend(runner.submit(nap) for _ in range(100))
    while not runner.stats().burst_workers:
        time.sleep(0.001)
    KEPT.append(runner)


@busy
def renewing() -> None:
    runner = Runner(
        Config(on_create=object, on_destroy=id, worker_count=3, max_tasks_per_resource=1)
    )
    KEPT.extend(runner.submit(nap) for _ in range(50))
    KEPT.append(runner)


@busy
def renewed_and_resized() -> None:
    runner = Runner(Config(on_create=object, on_destroy=id, worker_count=3, thread_bound=False))
    KEPT.extend(runner.submit(nap) for _ in range(20))
    for count in (6, 1, 4):
        KEPT.append(runner.renew())
        runner.resize(worker_count=count)
    KEPT.append(runner)


@busy
def with_time_limits() -> None:
    config = Config(on_create=object, worker_count=2, task_timeout=0.01, logger=None)
    runner = Runner(config)
    KEPT.extend(runner.submit(nap) for _ in range(20))
    KEPT.append(runner)


# ---- left behind


class LeftBehind:
    """A runner with a task or hook that goes on for ever."""

    def __init__(self) -> None:
        self.entered = threading.Event()

    def run(self, forever: Callable[[], object]) -> None:
        """Has a task do something over and over."""

        def task(_: object) -> None:
            self.repeat(forever)

        self.start(object).submit(task)

    def start(self, create: Callable[[], object], **fields: Any) -> Runner[object]:
        """Starts the runner, with further fields of its config."""
        self.runner = Runner(Config(on_create=create, worker_count=2, **fields))
        return self.runner

    def repeat(self, forever: Callable[[], object]) -> None:
        self.entered.set()
        while True:
            forever()

    def give_up(self, how: str) -> None:
        """Stops or kills the runner, with a time limit that passes."""
        self.entered.wait()
        try:
            getattr(self.runner, how)(timeout=0.05)
        except StopTimeout:
            KEPT.append(self.runner)
        else:
            raise AssertionError(f"{how}() ended what goes on for ever")


@left_behind
def computing(left: LeftBehind) -> None:
    left.run(lambda: sum(i * i for i in range(1000)))


@left_behind
def sleeping(left: LeftBehind) -> None:
    left.run(lambda: time.sleep(0.001))


@left_behind
def sleeping_long(left: LeftBehind) -> None:
    left.run(lambda: time.sleep(3600))


@left_behind
def waiting_for_a_lock(left: LeftBehind) -> None:
    lock = threading.Lock()
    lock.acquire()
    left.run(lambda: lock.acquire(timeout=0.001))


@left_behind
def waiting_for_a_condition(left: LeftBehind) -> None:
    event = threading.Event()
    left.run(lambda: event.wait(0.001))


@left_behind
def in_a_c_call(left: LeftBehind) -> None:
    numbers = list(range(10_000))
    left.run(lambda: sorted(numbers, key=lambda n: -n))


@left_behind
def waiting_for_another_task(left: LeftBehind) -> None:
    stuck: Future[object] = Future()

    def wait() -> None:
        try:
            stuck.result(timeout=0.001)
        except TimeoutError:
            return

    left.run(wait)


@left_behind
def waiting_for_ever_for_another_task(left: LeftBehind) -> None:
    stuck: Future[object] = Future()
    left.run(stuck.result)


@left_behind
def running_another_task_inside(left: LeftBehind) -> None:
    runner = left.start(object)

    def outer(_: object) -> None:
        runner.run_task(inner)

    def inner(_: object) -> None:
        left.repeat(compute_once)

    runner.submit(outer)


@left_behind
def in_a_callback(left: LeftBehind) -> None:
    runner = left.start(object)
    free = threading.Event()

    def task(_: object) -> None:
        free.wait()

    future = runner.submit(task)
    future.add_done_callback(lambda _: left.repeat(compute_once))
    free.set()


@left_behind
def destroying(left: LeftBehind) -> None:
    left.start(object, on_destroy=lambda _: left.repeat(compute_once))
    # What a worker does at its end waits for the call that ends it.
    left.entered.set()


@left_behind
def creating(left: LeftBehind) -> None:
    made: list[object] = []

    def create() -> object:
        made.append(object())
        if len(made) > 2:
            left.repeat(compute_once)
        return made[-1]

    runner = left.start(create, check_health=lambda _: False)
    fail_on(runner)


@left_behind
def validating(left: LeftBehind) -> None:
    def validate(_: object) -> bool:
        left.repeat(compute_once)
        return True

    left.start(object, validate=validate, validate_after_idle=0.0).submit(id)


@left_behind
def resetting(left: LeftBehind) -> None:
    left.start(object, reset=lambda _: left.repeat(compute_once)).submit(id)


@left_behind
def judging(left: LeftBehind) -> None:
    def judge(_: BaseException) -> bool:
        left.repeat(compute_once)
        return True

    fail_on(left.start(object, check_health=judge))


@left_behind
def judging_the_answer(left: LeftBehind) -> None:
    class Answer:
        def __bool__(self) -> bool:
            left.repeat(compute_once)
            return True

    def judge(_: BaseException) -> Any:
        return Answer()

    fail_on(left.start(object, check_health=judge))


@dropping
def dropping_an_argument(left: LeftBehind) -> None:
    left.start(object).submit(lambda _, argument: None, NeverGone(left))


@dropping
def dropping_a_result(left: LeftBehind) -> None:
    free = threading.Event()

    def task(_: object) -> NeverGone:
        free.wait()
        return NeverGone(left)

    # Nobody keeps the future, so the worker is the last to let go of it, and with it of the result.
    left.start(object).submit(task)
    free.set()


@dropping
def dropping_a_callback(left: LeftBehind) -> None:
    free = threading.Event()

    def task(_: object) -> None:
        free.wait()

    def add(callback: Callable[[object], object]) -> None:
        left.runner.submit(task).add_done_callback(callback)

    left.start(object)
    add(NeverGone(left))
    free.set()


@dropping
def dropping_a_cancel_callback_with_its_context(left: LeftBehind) -> None:
    def task(_: object) -> None:
        Context().on_cancel(NeverGone(left))

    left.start(object).submit(task)


@dropping
def dropping_a_task_in_the_keeper(left: LeftBehind) -> None:
    runner = left.start(object)
    for _ in range(2):
        runner.submit(lambda _: time.sleep(3600))
    runner.options(timeout=0.01).submit(lambda _, argument: None, NeverGone(left))


@left_behind
def starting_a_stand_in(left: LeftBehind) -> None:
    class Thread(threading.Thread):
        def start(self) -> None:
            if threading.current_thread().name.endswith("keeper"):
                left.repeat(compute_once)
            super().start()

    threading.Thread = Thread  # type: ignore[misc]
    left.start(object, max_worker_count=3)
    began = threading.Event()

    def task(_: object) -> None:
        began.set()
        time.sleep(3600)

    # A task whose limit passes before it starts, as on a machine under load, needs no stand-in.
    while not began.is_set():
        left.runner.options(timeout=0.01).submit(task).exception()


@left_behind
def collecting_garbage(left: LeftBehind) -> None:
    class Cycle:
        def __init__(self) -> None:
            self.own = self

        def __del__(self) -> None:
            compute_once()

    runner = left.start(object)

    def leave_garbage() -> None:
        Cycle()
        runner.stats()

    def task(_: object) -> None:
        left.repeat(leave_garbage)

    # Up to 3.11 any allocation may set the collector off, in native code too.
    gc.set_threshold(1)
    runner.submit(task)


# ---- what they are made of


class NeverGone:
    """What never gets gone once it is dropped."""

    def __init__(self, left: LeftBehind) -> None:
        self.left = left

    def __call__(self, *_: object) -> None:
        """As a callback, does nothing."""

    def __del__(self) -> None:
        self.left.repeat(compute_once)


def compute(_: object) -> int:
    return sum(i * i for i in range(1000))


def compute_once() -> int:
    return compute(None)


def nap(_: object) -> None:
    time.sleep(0.005)


def fail(_: object) -> None:
    raise OSError


def fail_on(runner: Runner[object]) -> Future[None]:
    """Has a task fail, and looks at the error: one that nobody looks at is logged."""
    future = runner.submit(fail)
    future.add_done_callback(Future.exception)
    return future


def replace(create: Callable[[], object] = object, destroy: Callable[[], object] = object) -> None:
    """Exits while a worker replaces its resource."""
    entered = threading.Event()
    made: list[object] = []

    def on_create() -> object:
        made.append(object())
        if len(made) > 1:
            entered.set()
            create()
        return made[-1]

    def on_destroy(resource: object) -> None:
        if resource is made[0]:
            entered.set()
            destroy()

    config = Config(
        on_create=on_create,
        on_destroy=on_destroy,
        check_health=lambda _: False,
        max_retries=1,
        worker_count=1,
    )
    runner = Runner(config)
    KEPT.append(fail_on(runner))
    KEPT.append(runner)
    entered.wait()


def main(arguments: list[str]) -> None:
    """Prepares the exit that is asked for, or names them all."""
    if not arguments:
        names = [f"{way}-{how}" for way in LEFT_BEHIND for how in ("stop", "kill")]
        print(*EXITS, *names, sep="\n")
        return
    name, objects = arguments[0], int(arguments[1]) if arguments[1:] else 0
    KEPT.append([[i] for i in range(objects)])
    if name in EXITS:
        EXITS[name]()
    else:
        way, _, how = name.rpartition("-")
        left = LeftBehind()
        LEFT_BEHIND[way](left)
        left.give_up(how)
    print("exiting", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
