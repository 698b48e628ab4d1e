"""The driver's thread: it sends tasks ahead, takes replies, and settles futures."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

from tasker import _log, _tasker
from tasker._errors import (
    QueueFull,
    ResourceCreationError,
    RunnerBroken,
    RunnerStopped,
    TaskCancelled,
)
from tasker._future import Future
from tasker.ray import _cluster, _names, _remote_log
from tasker.ray._fleet import Fleet
from tasker.ray._outcomes import Outcomes
from tasker.ray._pickling import loads
from tasker.ray._renewals import Renewals
from tasker.ray._waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tasker._dropped import DroppedTask
    from tasker._tasker import CancelHandle, Context
    from tasker.ray._link import Link
    from tasker.ray._task import Task
    from tasker.ray._wire import Outcome, Reply

State = Literal["running", "stopping", "killed", "stopped"]

WATCH = 1.0
"""Seconds between two looks, while tasks are under way, for what Ray tells nobody of."""
SILENCE = 30.0
"""Seconds after which an actor is given up that was killed, and answers nothing at all."""
FEW = 8
"""Outcomes in a reply that are given out before the next reply is asked for."""
FORKED = "this process was forked from the one that made the runner: make another one here"
SHUT_DOWN = "Ray was shut down under the runner, or connected anew: make another one"


class Dispatcher:
    """Has the tasks of a runner run by its actors.

    Its thread alone touches the actors. Callers leave tasks and wishes, and are told by futures.

    Args:
        name: Of the runner.
        logger: Of its config.
        bound: Its `max_queue_size`.
        most_losses: How many actors a task may be lost with, and still be sent to another.
        fail_fast_after: Of its config.
        fleet: The actors, which are open.
        context: Of its config: while it is not cancelled tasks are accepted.
    """

    def __init__(
        self,
        name: str,
        logger: logging.Logger | None,
        bound: int | None,
        most_losses: int,
        fail_fast_after: float | None,
        fleet: Fleet,
        context: Context | None,
    ) -> None:
        self.name = name
        self.logger = logger
        self.waiting = Waiting(bound)
        self.outcomes = Outcomes(name, logger, self.waiting, most_losses, self._wake)
        self.fleet = fleet
        self.state: State = "running"
        self.over = threading.Event()
        """The runner has stopped, or is broken."""
        self.fault: BaseException | None = None
        """Why it is broken."""
        self._context = context
        self._ending: CancelHandle | None = None
        """What has the end of the context end the runner."""
        self._fail_fast_after = fail_fast_after
        self._events: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._renewals = Renewals()
        self._process = os.getpid()
        self._session = _cluster.session()
        self._thread = threading.Thread(target=self._run, name=f"{name}-driver", daemon=True)
        fleet.assign(self.post, self._opened, self._log)

    def start(self) -> None:
        """Starts the thread."""
        if self._context is not None:
            self._ending = self._context.on_cancel(partial(self.begin_end, "stopping"))
        self._thread.start()
        self.post(self._begin)

    def join(self) -> None:
        """Waits until its thread is gone, which has nothing to do any more."""
        self._thread.join()

    # ---- what callers do

    @property
    def is_own_process(self) -> bool:
        """Whether this is the process that made it, and no child of that."""
        return os.getpid() == self._process

    def check_process(self) -> None:
        if not self.is_own_process:
            raise RunnerBroken(FORKED)

    def is_here(self) -> bool:
        return threading.get_ident() == self._thread.ident

    def post(self, what: Callable[[], object]) -> None:
        """Has the thread do something. May be called from any thread, Ray's too."""
        self._events.put(what)

    def check_open(self) -> None:
        """Raises where no task is accepted."""
        self.check_process()
        if self.fault is not None:
            raise RunnerBroken(str(self.fault)) from self.fault
        if self._context is not None and self._context.cancelled:
            # Its callback, which says so too, comes on a thread of its own.
            self.begin_end("stopping")
        if self.state != "running":
            with self.waiting.lock:
                self.outcomes.counters.refused(1, is_full=False)
            raise RunnerStopped(_tasker._STOPPED)

    def accept(self, task: Task, *, may_wait: bool) -> None:
        """Takes a task.

        Raises:
            QueueFull: There is no room for it, and the call may not wait.
            RunnerStopped: The runner does not accept tasks.
        """
        waiting = self.waiting
        with waiting.lock:
            self.check_open()
            if waiting.is_full:
                self._wait_for_room(task, may_wait=may_wait)
            waiting.add(task)
            self.outcomes.counters.arrived(1)
        self._wake()

    def accept_each(self, tasks: list[Task], *, may_wait: bool) -> list[tuple[Task, Exception]]:
        """Takes tasks together; gives those that are refused, and why."""
        if self.waiting.bound is None:
            with self.waiting.lock:
                self.check_open()
                for task in tasks:
                    self.waiting.add(task)
                self.outcomes.counters.arrived(len(tasks))
            self._wake()
            return []
        refused: list[tuple[Task, Exception]] = []
        for task in tasks:
            try:
                self.accept(task, may_wait=may_wait)
            except (QueueFull, RunnerStopped, RunnerBroken) as error:
                refused.append((task, error))
        return refused

    def accept_now(self, task: Task) -> None:
        """Takes a task that goes past the queue."""
        with self.waiting.lock:
            self.check_open()
            self.waiting.add_direct(task)
            self.outcomes.counters.arrived(1)
        self._wake()

    def accept_later(self, task: Task) -> None:
        """Takes a task of a coroutine, which waits for room without a thread."""
        waiting = self.waiting
        with waiting.lock:
            self.check_open()
            if waiting.is_full:
                waiting.add_for_room(task)
            else:
                waiting.add(task)
                self.outcomes.counters.arrived(1)
        self._wake()

    def _wait_for_room(self, task: Task, *, may_wait: bool) -> None:
        waiting, due = self.waiting, task.due
        while waiting.is_full:
            left = math.inf if due is None else due - time.monotonic()
            if not may_wait or left <= 0 or self.is_here():
                self.outcomes.counters.refused(1, is_full=True)
                message = f"the queue holds max_queue_size={waiting.bound} tasks"
                raise QueueFull(message)
            waiting.has_room.wait(None if left == math.inf else left)
            self.check_open()

    def give_up(self, task: Task) -> bool:
        with self.waiting.lock:
            if not self.waiting.take_out(task):
                return False
            self.outcomes.cancelled(task)
        self._wake()
        return True

    def request_cancel(self, task: Task, reason: str | None) -> None:
        task.is_cancel_requested, task.reason = True, reason
        self.post(partial(self._cancel, task))

    def cancel_queued(self, reason: str | None) -> list[DroppedTask]:
        """Drops what has not begun; see `Runner.cancel_queued`."""
        self.check_open()
        with self.waiting.lock:
            tasks = self.waiting.take_all()
        text = "the task was dropped from the queue before it started"
        return self.outcomes.drop(tasks, text if reason is None else f"{text}: {reason}")

    def begin_end(self, state: Literal["stopping", "killed"]) -> None:
        """Takes no more tasks: ends when all are done, or now."""
        with self.waiting.lock:
            if self.state == "stopped" or self.state == state == "stopping":
                return
            if self.state != "killed":
                self.state = state
            for task in self.waiting.take_for_room():
                self._events.put(partial(self.outcomes.refuse, task))
            self.waiting.has_room.notify_all()
        if state == "killed":
            with self.waiting.lock:
                tasks = self.waiting.take_all()
            self.outcomes.drop_for_kill(tasks)
            self.post(self._kill)
        self._wake()

    def renew(self) -> Future[int]:
        """Has all resources renewed."""
        self.check_open()
        future: Future[int] = Future()
        self.post(partial(self._renew, future))
        return future

    def resize(self, actors: int) -> None:
        """Has more actors, or fewer."""
        self.post(partial(self._resize, actors))

    def _wake(self) -> None:
        # Whatever it will take from there has it look again, and a Ctrl-C here keeps no other
        # caller from waking it.
        if self._events.empty():
            self._events.put(None)

    # ---- the thread

    def _run(self) -> None:
        try:
            while not self.over.is_set():
                self._take_turn()
        except BaseException as error:
            self._log(logging.ERROR, f"the driver of {self.name!r} failed inside", error)
            self._break(error)

    def _take_turn(self) -> None:
        try:
            event = self._events.get(timeout=self._patience())
            while True:
                if event is not None:
                    event()
                event = self._events.get_nowait()
        except Empty:
            pass
        except Exception:
            # Any call may fail then.
            if not self._is_cut_off():
                raise
        if self.over.is_set():
            return
        self._watch()
        self._expire()
        self._fail_fast()
        self._send()
        self._balance()
        self._end_if_due()

    def _patience(self) -> float | None:
        """For how long there is nothing to do, unless somebody says so."""
        with self.waiting.lock:
            limit = self.waiting.next_limit()
            is_idle = self.waiting.is_empty and self.state == "running"
        moments = [] if limit is None else [limit]
        if (wish := self.fleet.next_wish()) is not None:
            moments.append(wish)
        now = time.monotonic()
        if not is_idle or any(link.out for link in self.fleet.links) or self.fleet.is_opening:
            moments.append(now + WATCH)
        return max(min(moments) - now, 0.0) if moments else None

    def _watch(self) -> None:
        """Looks for what Ray tells nobody of: that it was shut down, or has lost a push."""
        now = time.monotonic()
        if now < self._next_watch:
            return
        self._next_watch = now + WATCH
        if self._is_cut_off():
            return
        for link in list(self.fleet.links):
            if link.out and (error := link.failed_push()) is not None:
                self._lost(link, error)
            elif link.is_killed and link.silent_for() >= SILENCE:
                # Nothing reaches a task there that keeps the interpreter to itself.
                text = f"it was killed and has answered nothing for {SILENCE:g} s: it is ended"
                self._lost(link, TimeoutError(text))
        self.fleet.give_up_late()

    _next_watch = 0.0

    def _is_cut_off(self) -> bool:
        """Whether Ray was shut down; then all is given up."""
        if _cluster.session() == self._session:
            return False
        if self.fault is None:
            self._break(RunnerBroken(SHUT_DOWN))
        return True

    def _begin(self) -> None:
        for link in self.fleet.links:
            link.listen(self._replied)

    def _opened(self, link: Link) -> None:
        link.listen(self._replied)
        if self.state == "killed" or link.is_closing:
            link.close(now=self.state == "killed")

    # ---- sending

    def _send(self) -> None:
        links = [link for link in self.fleet.links if link.is_open and not link.is_closing]
        batches: dict[Link, list[Task]] = {}
        waiting = self.waiting
        with waiting.lock:
            for link in links:
                if not link.out and (suspect := waiting.take_suspect()) is not None:
                    link.suspect = suspect
                    batches[link] = [suspect]
            ready = [link for link in links if link.suspect is None]
            while waiting.direct and (ready or links):
                least = min(ready or links, key=lambda link: len(link.out))
                batches.setdefault(least, []).append(waiting.take_direct())
            ready.sort(key=lambda link: len(link.out))
            for place, link in enumerate(ready):
                share = -(-len(waiting) // (len(ready) - place))
                if (most := min(link.room, share)) > 0 and (tasks := waiting.take(most)):
                    batches.setdefault(link, []).extend(tasks)
        for link, tasks in batches.items():
            self._send_to(link, [task for task in tasks if self._may_be_sent(task)])

    def _may_be_sent(self, task: Task) -> bool:
        future = task.future
        if future.running():
            return True  # sent before
        try:
            return future.set_running_or_notify_cancel()
        except RuntimeError:
            self.outcomes.count_settled_by_hand(task)
            return False

    def _send_to(self, link: Link, tasks: list[Task]) -> None:
        if link.suspect is not None and link.suspect not in tasks:
            link.suspect = None
        if not tasks:
            return
        try:
            link.send(tasks)
        except Exception as error:
            if self._is_cut_off():
                pass
            elif isinstance(error, _cluster.Lost):
                with self.waiting.lock:
                    self.waiting.put_back(tasks)
                self._lost(link, error)
            elif len(tasks) > 1:
                for task in tasks:
                    self._send_to(link, [task])
            else:
                self.outcomes.settle(tasks[0], "failed", error=error)

    def _balance(self) -> None:
        """Takes back from the fullest what an actor that has nothing could do."""
        links = [link for link in self.fleet.links if link.is_open]
        if not links or not self.waiting.is_empty:
            return
        fullest = max(links, key=lambda link: len(link.out))
        surplus = len(fullest.out) - fullest.workers
        is_dry = any(not (link.out or link.is_closing) for link in links)
        if is_dry and surplus > 0 and not fullest.is_recalling:
            fullest.recall(-(-surplus // 2), self._recalled)

    def _recalled(self, link: Link, future: Any) -> None:
        link.is_recalling = False
        try:
            numbers = future.result()
        except Exception:
            return  # the pull says so too
        tasks = [task for number in numbers if (task := link.out.pop(number, None)) is not None]
        with self.waiting.lock:
            self.waiting.put_back(tasks)
        for task in tasks:
            if task.is_cancel_requested:
                self._cancel(task)
        if self.state == "killed":
            self._kill()

    # ---- receiving

    def _replied(self, link: Link, call: int, future: Any) -> None:
        if link not in self.fleet.links:
            return
        is_again = link.note_reply(call)
        try:
            reply: Reply = loads(future.result())
        except Exception as error:
            if isinstance(error, _cluster.Lost) or is_again:
                self._lost(link, error)
            else:
                link.pull(failed=call)
            return
        if any(what == "closed" for what, _ in reply.notes):
            link.is_over = True
        # Of a few outcomes a caller waits for each; many go on while the next are fetched.
        is_first = len(reply.outcomes) > FEW
        if is_first:
            link.pull()
        if reply.started:
            self._note_starts(link, reply.started)
        self._take_outcomes(link, reply.outcomes)
        if not is_first:
            link.pull()
        link.adapt(reply.idle, has_waiting=len(self.waiting) > 0)
        for what, told in reply.notes:
            if what == "log":
                _remote_log.write(self.logger, link.name, told)
            elif what == "renewed":
                self._renewals.told(link, *told)
        if link.is_over and not link.is_listening:
            self._closed(link)

    def _take_outcomes(self, link: Link, outcomes: list[Outcome]) -> None:
        out, values = link.out, []
        for number, what, payload, attempts in outcomes:
            task = out.pop(number, None)
            if task is None:
                continue
            if link.suspect is task:
                link.suspect = None
            if what == "value":
                values.append((task, payload, attempts))
            elif what == "error":
                self.outcomes.fail(task, payload, attempts, is_killed=self.state == "killed")
            elif self.state == "killed" and not task.is_cancel_requested:
                self.outcomes.drop_for_kill([task])
            else:
                self._cancel(task)
        if values:
            self.outcomes.succeed(values)

    def _note_starts(self, link: Link, numbers: Iterable[int]) -> None:
        with self.waiting.lock:
            for number in numbers:
                if (task := link.out.get(number)) is not None:
                    task.has_begun = True
                    self.outcomes.begun(task)

    # ---- outcomes

    def _cancel(self, task: Task) -> None:
        """Cancels a task that was sent, and may be back."""
        link = next((link for link in self.fleet.links if task.number in link.out), None)
        if link is not None:
            link.cancel(task)
        elif not task.future.done():
            reason = task.reason or "the task was cancelled"
            self.outcomes.settle(task, "cancelled", error=TaskCancelled(reason))

    def _expire(self) -> None:
        """Fails tasks whose limit passes before an actor has them; afterwards it rules on them."""
        with self.waiting.lock:
            tasks = self.waiting.overdue()
        for task in tasks:
            if not any(task.number in link.out for link in self.fleet.links):
                self.outcomes.settle(task, "timed_out", error=task.timed_out("start"))

    def _fail_fast(self) -> None:
        """Fails what waits where no actor can be made, for as long as the config says."""
        failing = self.fleet.failing_for
        is_over = self._fail_fast_after is not None and failing >= self._fail_fast_after
        if not failing or not (is_over or self.state == "stopping") or self.fleet.has_open:
            return
        with self.waiting.lock:
            tasks = self.waiting.take_all()
        for task in tasks:
            if not self.outcomes.claim(task):
                continue
            error = ResourceCreationError("no actor could be made for the task")
            error.__cause__ = self.fleet.fault
            self.outcomes.settle(task, "failed" if task.has_begun else "dropped", error=error)

    # ---- actors that are lost, and the end

    def _lost(self, link: Link, error: Exception) -> None:
        """Sends what an actor had to others, in order, except for what must not begin twice."""
        # First: a call to Ray that finds no connection makes one, to a cluster of its own.
        if self._is_cut_off() or link not in self.fleet.links:
            return
        tasks = list(link.out.values())
        link.out.clear()
        is_missed = self.state == "running" and not link.is_closing
        self.fleet.remove(link, replaces=is_missed)
        again: list[Task] = []
        for task in tasks:
            task.losses += 1
            if task.is_cancel_requested:
                self._cancel(task)
            elif self.state == "killed" or not self.outcomes.may_be_sent_again(task):
                self.outcomes.lose(task, error)
            else:
                task.has_begun = True
                again.append(task)
        with self.waiting.lock:
            for task in again:
                self.outcomes.begun(task)
                self.outcomes.counters.retried(task.name)
            self.waiting.put_first(again)
        reason = str(error).strip().partition("\n")[0]
        what = f"the actor {link.name} of {self.name!r} was lost"
        self._log(logging.WARNING, f"{what}, {len(again)} tasks are sent again: {reason}")
        self._renewals.lost(link)

    def _resize(self, actors: int) -> None:
        for link in self.fleet.resize(actors):
            link.is_closing = True
            # One that is being made is closed when it is there.
            if link.is_open:
                link.recall(len(link.out), self._recalled)
                link.close(now=False)

    def _renew(self, future: Future[int]) -> None:
        links = [link for link in self.fleet.links if link.is_open and not link.is_closing]
        self._renewals.begin(future, links)

    def _kill(self) -> None:
        with self.waiting.lock:
            tasks = self.waiting.take_all()
        self.outcomes.drop_for_kill(tasks)
        for link in list(self.fleet.links):
            if not link.is_open:
                self.fleet.remove(link, replaces=False)
            elif not link.is_killed:
                link.close(now=True)

    def _end_if_due(self) -> None:
        if self.state == "running":
            return
        with self.waiting.lock:
            is_empty = self.waiting.is_empty
        if is_empty:
            self.fleet.cancel_wishes()
            for link in list(self.fleet.links):
                if not link.is_open:
                    self.fleet.remove(link, replaces=False)
                elif not link.is_closing:
                    link.close(now=self.state == "killed")
        elif not self.fleet.links and self.fleet.next_wish() is None:
            self.fleet.add()
        if is_empty and not self.fleet.links:
            self._end()

    def _closed(self, link: Link) -> None:
        if link.out:
            # It stopped with tasks: what it was told to do is no reason to lose them.
            self._lost(link, RunnerStopped("the runner in the actor has stopped"))
            return
        self.fleet.retire(link)

    def _end(self) -> None:
        self._renewals.fail(RunnerStopped(_tasker._STOPPED))
        self._be_over()

    def _be_over(self) -> None:
        self.state = "stopped"
        # Once: afterwards the name is another's.
        if not self.over.is_set():
            _names.release(self.name)
            if self._ending is not None:
                # The context may live on for long.
                self._ending.close()
            self.over.set()

    def _break(self, error: BaseException) -> None:
        """Gives up: fails all there is, so that nobody waits for what will not come."""
        self.fault = error
        with self.waiting.lock:
            tasks = self.waiting.take_all()
            self.waiting.has_room.notify_all()
        for link in self.fleet.links:
            tasks += link.out.values()
            link.out.clear()
        self.fleet.forget()
        for task in tasks:
            if not task.future.done() and self.outcomes.claim(task):
                fault = RunnerBroken(str(error))
                fault.__cause__ = error
                self.outcomes.settle(task, "failed", error=fault)
        self._renewals.fail(RunnerBroken(str(error)))
        self._be_over()

    def _log(self, level: int, text: str, error: BaseException | None = None) -> None:
        if self.logger is not None:
            _log.write(self.logger, level, text, None, error)
