//! The end: closing in order, settling what is left, and how a worker leaves.

use super::clock::Tick;
use super::engine::{BROKEN, ENDED, Engine, KILLED, LEFT_BY_FORK, STOPPING};
use super::host::{AbandonReason, Host};
use super::metrics::events::EventKind;
use super::queue::Queue;
use super::queue::lanes::Entry;
use super::resource::epochs::{Eligibility, FailureEpoch};
use super::roster::shared::{DISMISSED, WorkerShared};
use super::task::key::KeyNumber;
use super::task::{Claim, Taken, TaskWord};
use crate::sync::atomic::{Ordering, fence};
use crate::sync::{Arc, thread};
use std::time::Duration;

impl<H: Host> Engine<H> {
    /// Begins a graceful stop: refuses new tasks and lets the workers finish. Callable from any
    /// thread.
    pub fn begin_stop(&self) {
        self.close(STOPPING, || ());
    }

    /// Takes the tasks off the main queue that `is_meant` names, and has the caller's `cancel` end
    /// them. `is_meant` is called under a lock, `cancel` under none.
    pub fn cancel_matching(
        &self,
        scope: H::Scope<'_>,
        is_meant: impl Fn(&H::Task) -> bool,
        cancel: impl Fn(&H::Task),
    ) {
        // All of it is taken out first: `cancel` may have something new submitted.
        let meant = Self::compact(&self.main, |task, _| !is_meant(task));
        meant.iter().for_each(cancel);
        self.discard_tombstones(scope, &self.main, meant);
    }

    /// Kills: no task starts from here on. The calling thread settles everything that waits before
    /// this returns.
    pub fn kill(&self, scope: H::Scope<'_>) {
        self.close(STOPPING | KILLED, || self.abandon_waiting(scope));
    }

    /// Our own code failed: refuses everything from here on, and settles what waits.
    pub fn break_down(&self, scope: H::Scope<'_>) {
        self.close(STOPPING | KILLED | BROKEN, || self.abandon_waiting(scope));
    }

    /// Marks an engine that a fork left without its threads. Touches nothing but the mode.
    pub fn mark_left_by_fork(&self) {
        self.mode.fetch_or(STOPPING | KILLED | BROKEN | LEFT_BY_FORK, Ordering::SeqCst);
        self.main.gate.shut();
        self.reserved.gate.shut();
    }

    /// Blocks until nothing is left or the limit passes; true when nothing is. Not to be called
    /// inside a task, or a verb of the host's: the calling thread would wait for itself.
    pub fn wait_ended(&self, limit: Duration) -> bool {
        let ended = self.roster.wait_empty(limit, || !self.loans.has_waiters());
        if ended {
            self.finish_if_over();
        }
        ended
    }

    pub(super) fn close(&self, mode: u8, then: impl FnOnce()) {
        if self.is_left_by_fork() {
            // Threads that are gone may have held any of the locks.
            return;
        }
        // Held open, so that the runner has not ended before both queues are sealed and `then` is
        // over.
        let held_open = self.roster.hold_open();
        // The mode first: a worker that finds the lanes drained must know why it was woken.
        self.mode.fetch_or(mode, Ordering::SeqCst);
        self.deadlines.cut_pauses();
        self.main.close();
        self.reserved.close();
        if mode & BROKEN != 0 {
            // The worker that was to wake the next one may be the one that panicked.
            self.wake_all();
        }
        self.backoff.close();
        // Pairs with the fence of a call that stops waiting for a loan (`LoanWaiter`).
        fence(Ordering::SeqCst);
        self.recall_loans_if_over();
        then();
        drop(held_open);
        self.finish_if_over();
        if !self.is_left_by_fork() {
            self.host.closed();
        }
    }

    pub(super) fn finish_if_over(&self) {
        if self.is_closing() && self.roster.is_empty() && !self.loans.has_waiters() {
            self.mode.fetch_or(ENDED, Ordering::SeqCst);
            self.deadlines.close();
            self.host.ended();
        }
    }

    /// Settles everything that waits, without running it.
    pub(super) fn abandon_waiting(&self, scope: H::Scope<'_>) {
        for task in self.deadlines.take_paused().into_iter().chain(self.deadlines.take_sat_out()) {
            self.abandon_unless_taken(scope, task);
        }
        for queue in [&self.main, &self.reserved] {
            self.abandon_queue(scope, queue);
        }
        self.abandon_running_batches(scope);
        self.finish_renewals(scope);
        for task in self.loans.waiting_calls(|task| self.host.share(scope, task), Tick::MAX) {
            self.abandon_unless_taken(scope, task);
        }
    }

    pub(super) fn abandon_queue(&self, scope: H::Scope<'_>, queue: &Queue<H::Task>) {
        // First, and the heads among them, by their words: the entry of one may still be on its way.
        let lines = self.take_lines(scope, queue, Tick::MAX);
        self.settle_lines(scope, queue, lines, |task| self.abandon_unless_taken(scope, task));
        while !queue.lanes.is_empty() {
            if let Some(Entry { task, .. }) = queue.take_any()
                && !self.abandon_unless_taken(scope, task)
            {
                queue.uncount_tombstones(1);
            }
        }
    }

    /// Settles a task without running it; false when it was settled before.
    pub(super) fn abandon_unless_taken(&self, scope: H::Scope<'_>, task: H::Task) -> bool {
        if self.host.cursor(&task).is_some() {
            let live = self.host.word(&task).claim() != Claim::Lost;
            if live {
                self.abandon_unclaimed_items(scope, &task);
            }
            self.host.discard(scope, task);
            return live;
        }
        self.settle_waiting(scope, task, |task, event| {
            self.host.abandon(scope, task, self.abandon_reason(), event);
        })
    }

    /// Takes a task that waits, counts it, and has `settle` give it its outcome; false when it was
    /// settled before, or a worker has started it.
    pub(super) fn settle_waiting(
        &self,
        scope: H::Scope<'_>,
        task: H::Task,
        settle: impl FnOnce(&H::Task, EventKind),
    ) -> bool {
        let word = self.host.word(&task);
        let taken = word.take_waiting();
        if let Some(taken) = taken {
            let first = taken == Taken::Fresh;
            match taken {
                Taken::Paused => self.pause_called_off(word),
                _ => self.queue_of(word).count_withdrawn(word, first),
            }
            self.leave_accumulator(scope, &task, first);
            self.leave_line(scope, self.host.key(&task), word, false);
            settle(&task, self.count_abandoned(first));
        }
        self.host.discard(scope, task);
        taken.is_some()
    }

    /// Whether a caller of `run_task` may still hope for a loan.
    pub fn may_lend(&self) -> bool {
        !self.is_killed() && !self.loans.waiting_is_over()
    }

    /// Settles a task that its caller wanted to run on a loan, which does not come.
    pub fn abandon_loan_call(&self, scope: H::Scope<'_>, task: H::Task) {
        self.abandon_unless_taken(scope, task);
    }

    /// Takes back a task that has no worker; false when another thread has taken it. Other tasks
    /// may have counted on the same worker: this settles them too.
    pub(super) fn withdraw_without_worker(
        &self,
        scope: H::Scope<'_>,
        key: KeyNumber,
        word: &TaskWord,
    ) -> bool {
        let held_open = self.roster.hold_open();
        let taken = word.take_waiting().is_some();
        if taken {
            let departure = self.leave_line(scope, key, word, false);
            self.leave_tombstone(scope, word, true, departure);
            self.count_abandoned(true);
            self.abandon_without_worker(scope);
        }
        drop(held_open);
        self.finish_if_over();
        taken
    }

    /// Settles what counts on a worker started on demand that never came up, while there is no
    /// other worker. A task that is submitted meanwhile starts a worker of its own, and stands
    /// behind those that are counted here.
    pub(super) fn abandon_without_worker(&self, scope: H::Scope<'_>) {
        // The end of each head brings the next one of its line.
        for _ in 0..self.main.lanes.len() + self.main.serial_lines.outside() {
            if self.roster.counts().main > 0 {
                return;
            }
            if let Some(Entry { task, .. }) = self.main.take_any()
                && !self.abandon_unless_taken(scope, task)
            {
                self.main.uncount_tombstones(1);
            }
        }
    }

    /// Why a task will not run now.
    pub(super) fn abandon_reason(&self) -> AbandonReason {
        match self.mode.load(Ordering::SeqCst) {
            mode if mode & BROKEN != 0 => AbandonReason::Broken,
            mode if mode & KILLED != 0 => AbandonReason::Killed,
            _ => AbandonReason::NoWorker,
        }
    }

    /// A worker without a resource is about to leave: the last of its kind settles what waits.
    /// False when the worker has to go on, as something came; it need not if it `failed` to make a
    /// resource. `retry_epoch`: its last retry.
    pub(super) fn retire(
        &self,
        scope: H::Scope<'_>,
        worker: &Arc<WorkerShared<H::Task>>,
        failed: bool,
        retry_epoch: FailureEpoch,
    ) -> bool {
        let closing = self.is_closing();
        let queue = self.queue_for(worker.kind());
        if closing {
            // Sealed first: the worker that is the last then, stays the last.
            queue.close();
        }
        // While the runner is open, a base worker leaves only if it is one too many, or if it never
        // came up.
        let is_base_needed = !closing && !failed;
        let needed = closing || !worker.kind().is_main() && !worker.has(DISMISSED);
        // A held retry is no reason to stay: the worker that comes back for it is there.
        let waits = || queue.lanes.has_for(|| Eligibility::NONE);
        let stays = || needed && !failed && !self.is_killed() && waits();
        let successor = self.renewal_turn.successor_of(worker);
        let retired = self.roster.retire(worker, successor.as_deref(), is_base_needed, stays);
        let Some(last) = retired else {
            // Its successor, if it has one, goes on beside it.
            self.renewal_ended(worker, true);
            return false;
        };
        if let Some(successor) = successor.filter(|_| worker.has(DISMISSED)) {
            // So is the successor now, and asleep perhaps, or about to make its resource.
            self.main.idle_workers.wake_worker(successor.number());
            self.backoff.wake_all();
        }
        if closing && failed && !worker.kind().is_main() {
            if last {
                self.loans.stop_waiting();
            }
            self.loans.lend_any();
        }
        queue.release_retry(retry_epoch);
        // A worker that did not fail leaves nothing behind: what comes back from a pause since then
        // has another one started for it, or is settled by the keeper. After a kill the worker's own
        // retry may have come into the lanes after the sweep, and does not wait for the other
        // workers to leave.
        if closing && failed && last || self.is_killed() {
            self.abandon_queue(scope, queue);
        }
        true
    }

    /// A worker's last act: gives its slot back.
    pub(super) fn release_slot(&self, worker: &Arc<WorkerShared<H::Task>>) {
        // Before a worker is told that it may have the turn to renew: this one lacks a resource.
        self.roster.give_up(worker);
        self.renewal_ended(worker, true);
        self.roster.release_slot(worker);
        self.finish_if_over();
    }

    /// Gives back the slot of a worker that never ran, or that panicked a second time.
    pub(super) fn release_failed(&self, worker: &Arc<WorkerShared<H::Task>>) {
        if thread::panicking() {
            self.close(STOPPING | KILLED | BROKEN, || ());
        }
        self.release_slot(worker);
    }

    /// Our own code panicked while it did this worker's work: the runner is broken, and what the
    /// worker ran is settled.
    pub(super) fn worker_panicked(
        &self,
        scope: H::Scope<'_>,
        worker: &WorkerShared<H::Task>,
        recorder: &super::metrics::recorder::Recorder,
    ) {
        self.break_down(scope);
        recorder.end_attempts();
        let mut running = Vec::new();
        while let Some(task) = worker.pop_running(|| ()) {
            let call = self.joint_calls.end(self.host.word(&task), |task| self.host.word(task));
            let is_lead =
                |other: &H::Task| std::ptr::eq(self.host.word(other), self.host.word(&task));
            let call = call.and_then(Arc::into_inner).unwrap_or_default();
            let (leads, others): (Vec<_>, Vec<_>) = call.into_iter().partition(is_lead);
            for lead in leads {
                self.host.discard(scope, lead);
            }
            running.push(task);
            running.extend(others);
        }
        for task in running {
            if self.host.cursor(&task).is_some() {
                self.abandon_unclaimed_items(scope, &task);
                self.host.discard(scope, task);
                continue;
            }
            let word = self.host.word(&task);
            if word.settle_running() {
                let event = self.count_abandoned(false);
                self.host.abandon(scope, &task, AbandonReason::Broken, event);
            } else {
                self.overdue_ended(word);
            }
            self.leave_line(scope, self.host.key(&task), word, false);
            self.host.discard(scope, task);
        }
    }
}
