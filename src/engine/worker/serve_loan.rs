//! `run_task` without a thread hop: a reserved worker lends its resource to the calling thread.

use super::attempt::Attempts;
use super::session::{Next, WorkerSession};
use crate::engine::clock::Tick;
use crate::engine::engine::Engine;
use crate::engine::host::Host;
use crate::engine::metrics::recorder::Recorder;
use crate::engine::queue::lanes::Entry;
use crate::engine::resource::epochs;
use crate::engine::resource::manager::ResourceManager;
use crate::engine::resource::owned_resource::OwnedResource;
use crate::engine::roster::loans::Loan;
use crate::engine::roster::shared::{WorkerKind, WorkerShared};
use crate::engine::task::TaskWord;
use crate::sync::Arc;
use crate::sync::atomic::{Ordering, fence};
use crate::sync::channel::unbounded;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

/// A loan of an engine with this host.
pub type LoanOf<H> = Box<Loan<<H as Host>::Task, <H as ResourceManager>::Resource>>;

/// How a task on a loan gets its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claiming {
    /// No thread knows of it but that of its caller, which found the loan idle.
    Unshared,
    /// In a race with other threads, which may settle it.
    Shared,
}

/// One accepted call that has no loan. To be dropped when it has one, or its outcome.
pub struct LoanWaiter<'e, H: Host> {
    engine: &'e Engine<H>,
    for_retry: bool,
}

/// A call that has to go on to another loan.
pub struct Unserved<'e, H: Host> {
    /// Its task.
    pub entry: Entry<H::Task>,
    /// How it goes on.
    pub wait: CallWait<'e, H>,
    /// What the caller is to tell of an attempt that failed.
    pub retry: Option<H::Retry>,
}

/// What a call waits for before it goes on.
pub enum CallWait<'e, H: Host> {
    /// For the loan.
    Loan(LoanWaiter<'e, H>),
    /// For the end of its pause: its task is paused until then. After that the caller asks
    /// [`Engine::end_call_pause`] for a place among the waiters.
    Pause(Tick),
}

impl<'e, H: Host> LoanWaiter<'e, H> {
    /// `for_retry`: not every loan will do, as it is for a retry.
    pub(in crate::engine) fn new(engine: &'e Engine<H>, for_retry: bool) -> Self {
        engine.loans.add_waiter(for_retry);
        Self { engine, for_retry }
    }
}

impl<H: Host> Drop for LoanWaiter<'_, H> {
    fn drop(&mut self) {
        let engine = self.engine;
        let was_last = engine.loans.remove_waiter(self.for_retry);
        // Against the fence in `close`, which seals and then looks for waiters for a loan. Either
        // the thread that closes sees that this waiter is gone, or the thread that puts this one's
        // loan back sees the seal.
        fence(Ordering::SeqCst);
        if was_last && engine.is_closing() && !engine.is_left_by_fork() {
            engine.recall_loans_if_over();
            engine.roster.changed();
            engine.finish_if_over();
        }
        if !engine.is_left_by_fork() {
            // An outdated one may have been left to this call, which did not take it.
            engine.recall_outdated_loan();
        }
    }
}

impl<H: Host> Engine<H> {
    /// Whether the runner is closing and every accepted call has its loan.
    pub(in crate::engine) fn loans_are_over(&self) -> bool {
        self.is_killed() || self.reserved.is_drained() && !self.loans.has_waiters()
    }

    /// Sends every idle loan back to its worker, once no caller will ask for one.
    pub(in crate::engine) fn recall_loans_if_over(&self) {
        if self.loans_are_over() {
            self.loans.recall(|_| true);
        }
    }

    /// Ends the pause of a call's task, for the caller to find a loan for it. `None`: another thread
    /// has settled it.
    pub fn end_call_pause(&self, word: &TaskWord) -> Option<LoanWaiter<'_, H>> {
        // First: the task is to keep the runner from ending all the time.
        let waiter = LoanWaiter::new(self, false);
        self.end_pause(word).then_some(waiter)
    }

    /// Takes an idle loan that will do for this task, waiting up to `limit` for one. A caller that
    /// goes on waiting calls [`Engine::start_reserved_for`] before each wait: the worker it waited
    /// for may have left.
    pub fn take_loan(&self, entry: &Entry<H::Task>, limit: Duration) -> Option<LoanOf<H>> {
        self.try_take_loan(entry).or_else(|| {
            self.loans.wait(entry, self.is_held(entry), limit);
            self.try_take_loan(entry)
        })
    }

    /// Takes an idle loan that will do for this task, if there is one.
    pub fn try_take_loan(&self, entry: &Entry<H::Task>) -> Option<LoanOf<H>> {
        self.loans.take(entry, self.is_held(entry))
    }

    /// Gives a loan back.
    pub fn give_back_loan(&self, loan: LoanOf<H>) {
        let generation =
            loan.lent.as_ref().map(|(owned_resource, _)| owned_resource.usage().generation);
        self.loans.put(loan, |worker| self.is_dismissed(worker));
        self.recall_loans_if_over();
        // Looked at when it is idle: the thread that renews begins the generation first and then
        // looks for idle loans.
        if generation != Some(self.generations.current()) {
            self.recall_outdated_loan();
        }
    }

    /// Whether a task is a retry that still waits for a loan known to be good. The caller asks
    /// before it takes the lock of the idle loans: this reads the clock, and looks under another
    /// lock.
    fn is_held(&self, entry: &Entry<H::Task>) -> bool {
        let covered =
            || self.eligibility(epochs::NO_FAILURE).covers(entry.failure_epoch, entry.since);
        entry.failure_epoch != epochs::NO_FAILURE && !covered()
    }
}

impl<H: Attempts> Engine<H> {
    /// A worker's part: lends its resource until it comes back, for good, to be replaced or to be
    /// renewed.
    pub(super) fn lend(
        &self,
        scope: H::Scope<'_>,
        worker: &Arc<WorkerShared<H::Task>>,
        owned_resource: OwnedResource<H::Resource>,
        recorder: &Recorder,
    ) -> (OwnedResource<H::Resource>, Next) {
        let (return_to, returned) = unbounded();
        let (now, generation) = (self.clock.now(), self.generations.current());
        let usage = owned_resource.usage();
        let worn_at_once = worker.note_worn_at_once(usage.is_worn(|| now, generation));
        // One that is outdated rests for a while, and this worker has it looked at again. One that
        // will be is renewed at once: no thread would look at it later.
        let is_outdated = usage.is_outdated(generation);
        let rests_until = if is_outdated { usage.rests_until(generation, worn_at_once) } else { 0 };
        let rest = rests_until.saturating_sub(now);
        let kept = self.spare_task(scope);
        worker.lent.keep(kept.as_ref().map(|task| self.host.share(scope, task)));
        let (worker_of, recorder) = (Arc::clone(worker), recorder.lend());
        let loan = Loan::new(worker_of, owned_resource, recorder, kept, return_to, rests_until);
        self.give_back_loan(loan);
        let back = self.host.park(scope, || {
            let rested = || {
                self.recall_outdated_loan();
                returned.recv()
            };
            match rest {
                0 => returned.recv(),
                _ => returned.recv_timeout(Duration::from_nanos(rest)).or_else(|_| rested()),
            }
        });
        let (owned_resource, kept) =
            back.expect("a loan goes home before its end of the channel is dropped");
        for task in [kept, worker.lent.keep(None)].into_iter().flatten() {
            self.host.discard(scope, task);
        }
        // One whose resource was bad before its first task stays for the call that it was started
        // for.
        let is_done = worker.kind() == WorkerKind::Temporary && !owned_resource.never_served();
        let leaves = is_done || self.loans_are_over() || self.is_dismissed(worker);
        let next = if leaves { Next::Leave } else { Next::MakeAnother };
        (owned_resource, next)
    }

    /// Runs one task on a loan in the calling thread, then gives the loan back. The task comes back
    /// when it is to be tried on another.
    pub fn serve_on_loan(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        loan: LoanOf<H>,
        entry: Entry<H::Task>,
        claim: Claiming,
    ) -> Option<Unserved<'_, H>> {
        let Some((owned_resource, recorder)) = &loan.lent else {
            unreachable!("only `drop` takes it");
        };
        let session = WorkerSession::new(self, &loan.worker, owned_resource, recorder);
        let worn = || {
            session.is_worn()
                && !self.is_closing()
                && self.begin_renewal(scope, &loan.worker).is_some()
        };
        let usage = owned_resource.usage();
        // As for a worker of its own: what wore out while it was made serves one call that waited
        // for it.
        let serves_worn = usage.was_awaited(entry.since) && !loan.was_passed_over();
        // The clock is read only where resources are validated.
        let is_suspect = || {
            entry.failure_epoch > usage.known_good_since() || usage.must_validate(self.clock.now())
        };
        if !serves_worn && worn()
            || usage.can_validate() && is_suspect() && !session.is_valid(scope)
        {
            if self.is_left_by_fork() {
                // The hook forked: nothing here is the child's.
                std::mem::forget(loan);
                return None;
            }
            // The loan goes back to its worker to be replaced or renewed. The task, which is
            // still unclaimed, goes on to another.
            let waiter = LoanWaiter::new(self, entry.failure_epoch != epochs::NO_FAILURE);
            return Some(Unserved { entry, wait: CallWait::Loan(waiter), retry: None });
        }
        let serve = AssertUnwindSafe(|| match claim {
            Claiming::Unshared => {
                // The call found it idle, so that its wait ended when it began.
                session.last.set(entry.since);
                session.serve_unshared(scope, entry)
            }
            Claiming::Shared => session.serve(scope, entry),
        });
        let again = catch_unwind(serve).unwrap_or_else(|panic| {
            self.worker_panicked(scope, &loan.worker, recorder);
            resume_unwind(panic)
        });
        if self.is_left_by_fork() {
            std::mem::forget(loan);
            return None;
        }
        let again = again.map(|task| {
            let (retry, resumes) = (session.retry.take(), session.resumes.take());
            if resumes > 0 {
                let entry = Entry::fresh(task, resumes);
                return Unserved { entry, wait: CallWait::Pause(resumes), retry };
            }
            self.reserved.count_returned();
            let failure_epoch = self.failure_epochs.advance();
            let entry = Entry { task, since: session.last.get(), failure_epoch };
            Unserved { entry, wait: CallWait::Loan(LoanWaiter::new(self, true)), retry }
        });
        let used_up = session.is_bad() || worn();
        if !used_up && loan.worker.kind() != WorkerKind::Temporary {
            self.give_back_loan(loan);
        }
        again
    }
}
