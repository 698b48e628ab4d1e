//! The end: closing in order, answering what is left, and how a worker goes.

use super::clock::Tick;
use super::engine::{BROKEN, ENDED, Engine, FORSAKEN, KILLED, STOPPING};
use super::figures::Counter;
use super::host::{Host, Refusal};
use super::queue::Queue;
use super::queue::lanes::Entry;
use super::resource::proof::{Failure, Proof};
use super::task::{Taken, TaskWord};
use super::worker::badge::Badge;
use crate::sync::atomic::{Ordering, fence};
use crate::sync::{Arc, thread};
use std::time::Duration;

impl<H: Host> Engine<H> {
    /// Begins a graceful stop: refuses new tasks and lets the workers finish. Callable from anywhere.
    pub fn begin_stop(&self) {
        self.close(STOPPING, || ());
    }

    /// Takes the tasks off the main queue that `is_meant` says, under a lock, for the caller to `cancel`.
    pub fn cancel_waiting(
        &self,
        scope: H::Scope<'_>,
        is_meant: impl Fn(&H::Task) -> bool,
        cancel: impl Fn(&H::Task),
    ) {
        // All of it first: what is cancelled may have something new submitted.
        let meant = Self::sift(&self.main, |task, _| !is_meant(task));
        meant.iter().for_each(cancel);
        self.discard_dead(scope, &self.main, meant);
    }

    /// Kills: no task starts from here on; everything that waits is answered before this returns.
    pub fn kill(&self, scope: H::Scope<'_>) {
        self.close(STOPPING | KILLED, || self.sweep(scope));
    }

    /// Our own code failed: refuses everything from here on and answers what waits.
    pub fn break_down(&self, scope: H::Scope<'_>) {
        self.close(STOPPING | KILLED | BROKEN, || self.sweep(scope));
    }

    /// Marks an engine that a fork left without its threads. Touches nothing but the mode.
    pub fn forsake(&self) {
        self.mode.fetch_or(STOPPING | KILLED | BROKEN | FORSAKEN, Ordering::SeqCst);
        self.main.gate.shut();
        self.express.gate.shut();
    }

    /// Blocks until nothing is left or the limit passes; true when nothing is. Not to be called from inside
    /// a task, or a verb of the host's: it would wait for itself.
    pub fn wait_ended(&self, limit: Duration) -> bool {
        let ended = self.roster.wait_empty(limit, || !self.loans.is_sought());
        if ended {
            self.finish_if_over();
        }
        ended
    }

    pub(super) fn close(&self, mode: u8, then: impl FnOnce()) {
        if self.is_forsaken() {
            // Threads that are gone may have held any of the locks.
            return;
        }
        // A visitor, so that the runner has not ended before both queues are sealed and `then` is over.
        let visit = self.roster.visit();
        // The mode first: a worker that finds the lanes drained must know why it was woken.
        self.mode.fetch_or(mode, Ordering::SeqCst);
        self.main.close();
        self.express.close();
        if mode & BROKEN != 0 {
            // The one whose turn it was to wake the next may be the one that fell over.
            self.ring_everybody();
        }
        self.backoff.close();
        // Against the one of a seeker that is gone.
        fence(Ordering::SeqCst);
        self.loans.recall_if_over(self);
        then();
        drop(visit);
        self.finish_if_over();
    }

    /// No accepted call seeks a loan any more.
    pub(super) fn seekers_gone(&self) {
        self.roster.changed();
        self.finish_if_over();
    }

    pub(super) fn finish_if_over(&self) {
        if self.is_closing() && self.roster.is_empty() && !self.loans.is_sought() {
            self.mode.fetch_or(ENDED, Ordering::SeqCst);
            self.deadlines.close();
            self.host.ended();
        }
    }

    /// Answers everything that waits.
    pub(super) fn sweep(&self, scope: H::Scope<'_>) {
        for queue in [&self.main, &self.express] {
            self.sweep_queue(scope, queue);
        }
        self.answer_batches(scope);
        for task in self.loans.waiting(|task| self.host.share(scope, task), Tick::MAX) {
            self.answer(scope, task);
        }
    }

    pub(super) fn sweep_queue(&self, scope: H::Scope<'_>, queue: &Queue<H::Task>) {
        while !queue.lanes.is_empty() {
            if let Some(Entry { task, .. }) = queue.take_any()
                && !self.answer(scope, task)
            {
                queue.unbury(1);
            }
        }
    }

    /// Answers a task without running it; false when it has been settled before.
    pub(super) fn answer(&self, scope: H::Scope<'_>, task: H::Task) -> bool {
        if self.host.deal(&task).is_some() {
            let live = self.answer_batch(scope, &task);
            self.host.discard(scope, task);
            return live;
        }
        let word = self.host.word(&task);
        let taken = word.withdraw();
        if let Some(taken) = taken {
            let first = taken == Taken::Fresh;
            self.queue_of(word).withdrawn(word, first);
            self.book_refusal(first);
            self.host.refuse(scope, &task, self.refusal());
        }
        self.host.discard(scope, task);
        taken.is_some()
    }

    /// Whether a caller may still hope for a loan.
    pub fn may_lend(&self) -> bool {
        !self.is_killed() && !self.loans.are_given_up()
    }

    /// Answers a task that its caller wanted to run on a loan, which does not come.
    pub fn decline(&self, scope: H::Scope<'_>, task: H::Task) {
        self.answer(scope, task);
    }

    /// Takes back a task that has no worker; false when somebody has taken it. Other tasks may have counted on the
    /// same worker: they are answered.
    pub(super) fn give_up(&self, scope: H::Scope<'_>, word: &TaskWord) -> bool {
        let visit = self.roster.visit();
        let taken = word.withdraw().is_some();
        if taken {
            self.leave_tombstone(scope, word, true);
            self.book_refusal(true);
            self.answer_unserved(scope);
        }
        drop(visit);
        self.finish_if_over();
        taken
    }

    /// Answers what counts on a worker hired on demand that never came up, while there is no other. A task that is
    /// submitted meanwhile hires a worker of its own, and stands behind those that are counted here.
    pub(super) fn answer_unserved(&self, scope: H::Scope<'_>) {
        for _ in 0..self.main.lanes.len() {
            if self.roster.headcount().main > 0 {
                return;
            }
            if let Some(Entry { task, .. }) = self.main.take_any()
                && !self.answer(scope, task)
            {
                self.main.unbury(1);
            }
        }
    }

    /// Why a task will not run now.
    pub(super) fn refusal(&self) -> Refusal {
        match self.mode.load(Ordering::SeqCst) {
            mode if mode & BROKEN != 0 => Refusal::Broken,
            mode if mode & KILLED != 0 => Refusal::Killed,
            _ => Refusal::NoWorker,
        }
    }

    pub(super) fn book_refusal(&self, first: bool) {
        let count = if first { &self.strays.dropped } else { &self.strays.failed };
        count.fetch_add(1, Ordering::SeqCst);
    }

    /// A worker without a resource is about to go: the last of its kind answers what waits. False when
    /// it has to go on, as something came; not if it `failed` to make a resource. `owed`: its last retry.
    pub(super) fn dismiss(
        &self,
        scope: H::Scope<'_>,
        badge: &Arc<Badge<H>>,
        failed: bool,
        owed: Failure,
    ) -> bool {
        let closing = self.is_closing();
        let queue = self.queue_at(badge.post());
        if closing {
            // Sealed first: whoever is the last then, stays the last.
            queue.close();
        }
        // While the runner is open, a base worker goes only if a stand-in took its place, or if it never came up.
        let to_remain = if closing || failed { 0 } else { self.settings.worker_count };
        let needed = closing || !badge.post().is_main();
        // A retry that is held is no reason: the worker that comes back for it is there.
        let waits = || queue.lanes.has_for(|| Proof::NONE);
        let stays = || needed && !failed && !self.is_killed() && waits();
        let relief = self.renewal.relief_of(badge);
        let Some(last) = self.roster.dismiss(badge, relief.as_deref(), to_remain, stays) else {
            return false;
        };
        if closing && failed && !badge.post().is_main() {
            if last {
                self.loans.give_up();
            }
            self.loans.lend_any();
        }
        queue.open(owed);
        // After a kill its own retry may have come into the lanes after the sweep, and does not wait for
        // the others.
        if closing && last || self.is_killed() {
            self.sweep_queue(scope, queue);
        }
        true
    }

    /// A worker's last act: gives its place back.
    pub(super) fn leave(&self, badge: &Arc<Badge<H>>) {
        self.renewal_ended(badge, true);
        self.roster.leave(badge);
        self.finish_if_over();
    }

    /// The place of a worker that never lived, or that fell over a second time.
    pub(super) fn abandon(&self, badge: &Arc<Badge<H>>) {
        if thread::panicking() {
            self.close(STOPPING | KILLED | BROKEN, || ());
        }
        self.leave(badge);
    }

    /// Our own code panicked while it did this worker's work: the runner is broken, and what the worker
    /// ran is answered.
    pub(super) fn collapse(
        &self,
        scope: H::Scope<'_>,
        badge: &Badge<H>,
        recorder: &super::figures::Recorder,
    ) {
        self.break_down(scope);
        while let Some(task) = badge.pop_running() {
            if self.host.deal(&task).is_some() {
                self.answer_items(scope, &task);
                self.host.discard(scope, task);
                continue;
            }
            let word = self.host.word(&task);
            recorder.count(Counter::Ended);
            if word.settle_running() {
                self.book_refusal(false);
                self.host.refuse(scope, &task, Refusal::Broken);
            } else {
                self.overdue_ended(word);
            }
            self.host.discard(scope, task);
        }
    }
}
