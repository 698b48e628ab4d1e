//! Which worker may renew its good resource, and which one takes over from it meanwhile.

use super::threads::Threads;
use crate::engine::engine::Engine;
use crate::engine::host::{Host, Notice};
use crate::engine::roster::WorkerCounts;
use crate::engine::roster::shared::{DISMISSED, WorkerKind, WorkerShared};
use crate::sync::Arc;

/// How a worker's good resource is renewed.
pub(in crate::engine) enum RenewalPlan<T> {
    /// Destroyed and made anew on its own thread.
    InPlace,
    /// By a fresh worker, when that one has its resource.
    BySuccessor(Arc<WorkerShared<T>>),
}

impl<H: Host> Engine<H> {
    /// Renews every resource, one after the other. Tasks are accepted and run meanwhile. `waiter`
    /// is handed to [`Host::renewed`] when all are gone that there were, or were being made.
    pub fn renew_all(&self, scope: H::Scope<'_>, waiter: Option<H::Task>) {
        self.generations.begin(waiter);
        // Perhaps there are none; or the runner is closing, and the threads that close it have
        // looked before.
        self.finish_renewals(scope);
        self.recall_outdated_loan();
        self.renewal_turn.want();
        self.offer_turn();
    }

    /// Tells the waiters of the renewals that are over, and all of them in a closing runner, which
    /// renews no more.
    pub(in crate::engine) fn finish_renewals(&self, scope: H::Scope<'_>) {
        let is_closing = self.is_closing();
        for (waiter, gone) in self.generations.take_waiters(is_closing) {
            self.host.renewed(scope, waiter, (!is_closing).then_some(gone));
        }
    }

    /// A resource of this generation is gone, or was not made.
    pub(in crate::engine) fn resource_gone(
        &self,
        scope: H::Scope<'_>,
        generation: u64,
        was_made: bool,
    ) {
        // After a hook that forked the lock may be held by a thread that is gone.
        if !self.is_left_by_fork() {
            self.generations.leave(generation, was_made);
            self.finish_renewals(scope);
        }
    }

    /// Sends an idle loan home that is outdated, if its worker can have the turn to renew it:
    /// otherwise no call might ask for it for a long time.
    pub(in crate::engine) fn recall_outdated_loan(&self) {
        let (now, generation) = (self.clock.now(), self.generations.current());
        while let Some(worker) = self.loans.find_outdated(now, generation) {
            if !self.renewal_turn.take_turn(&worker, || self.roster.all_have_resources())
                || self.loans.recall(|other| std::ptr::eq(other, &raw const *worker))
            {
                return;
            }
            // A call took it meanwhile, and finds out itself.
            self.renewal_turn.end_turn(&worker, false);
        }
    }

    /// A renewal is over, if this worker had the turn; see
    /// [`end_turn`](crate::engine::roster::renewal_turn::RenewalTurn::end_turn).
    pub(in crate::engine) fn renewal_ended(
        &self,
        worker: &Arc<WorkerShared<H::Task>>,
        for_good: bool,
    ) {
        self.renewal_turn.end_turn(worker, for_good);
        self.offer_turn();
        self.recall_outdated_loan();
    }

    /// Wakes one of the workers that sleep until they have the turn, if it is free: the one that
    /// has slept longest. A worker that is woken and does not take the turn, although it might,
    /// offers it to the next; all others do so when they have what keeps it from being taken.
    pub(in crate::engine) fn offer_turn(&self) {
        if !self.renewal_turn.is_wanted() {
            return;
        }
        let generation = self.generations.current();
        // More may sleep. Said before this one is awake, as it may be through with its turn before
        // this thread goes on.
        let want = || self.renewal_turn.want();
        for queue in [&self.main, &self.reserved] {
            if queue.idle_workers.wake_renewer(generation, want) {
                return;
            }
        }
    }

    /// A worker has its resource: the worker that it succeeds may go.
    pub(in crate::engine) fn resource_ready(&self, worker: &Arc<WorkerShared<H::Task>>) {
        self.renewal_ended(worker, false);
        if let Some(old) = self.renewal_turn.predecessor_of(worker) {
            self.main.idle_workers.wake_worker(old.number());
        }
    }
}

impl<H: Threads> Engine<H> {
    /// A worker wants to renew its good resource. `None`: it is not its turn yet.
    pub(in crate::engine) fn begin_renewal(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        worker: &Arc<WorkerShared<H::Task>>,
    ) -> Option<RenewalPlan<H::Task>> {
        if !self.renewal_turn.take_turn(worker, || self.roster.all_have_resources()) {
            return None;
        }
        if !worker.kind().is_main() {
            return Some(RenewalPlan::InPlace);
        }
        let kind = if worker.is_base() { WorkerKind::Base } else { WorkerKind::Burst };
        let spare = |counts: WorkerCounts| {
            (counts.main < self.limits().max() && !worker.has(DISMISSED)).then_some(kind)
        };
        let Some(new) = self.roster.add(&self.settings, true, spare) else {
            return Some(RenewalPlan::InPlace);
        };
        new.inherit(worker);
        self.renewal_turn.set_successor(Arc::clone(&new));
        match self.spawn_worker(scope, Arc::clone(&new)) {
            Ok(()) => Some(RenewalPlan::BySuccessor(new)),
            Err(fault) => {
                self.host.notice(scope, Notice::NoThread(fault));
                // Its loop, which never ran, has ended the turn.
                let turn = self.renewal_turn.take_turn(worker, || self.roster.all_have_resources());
                turn.then_some(RenewalPlan::InPlace)
            }
        }
    }
}
