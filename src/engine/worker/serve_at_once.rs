//! `run_task` where a loan is idle: at once, in the task that is kept with the loan.
//!
//! The call brings no task, and nothing is queued, claimed or published: its caller is given the
//! outcome. What other threads see is that the worker runs the task.

use super::attempt::{Attempts, Ran};
use super::serve_loan::LoanOf;
use super::session::WorkerSession;
use crate::engine::clock::Tick;
use crate::engine::engine::Engine;
use crate::engine::metrics::counters::WorkerCounter;
use crate::engine::roster::shared::{Running, WorkerKind};
use crate::engine::task::priority::Priority;
use crate::sync::Arc;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// How a call ended.
#[derive(Debug)]
pub struct Served<R> {
    /// How its attempt ended: never so that the engine would have to decide on it.
    pub ran: Ran,
    /// No other thread knows of the task: it will do for the next call.
    pub is_as_new: bool,
    /// What the caller gets.
    pub result: R,
}

impl<H: Attempts> Engine<H> {
    /// A task to be kept with a loan. `None` where the resource is looked after around each call.
    pub(super) fn spare_task(&self, scope: H::Scope<'_>) -> Option<H::Task> {
        let policy = &self.settings.policy;
        let is_looked_after = policy.resets || policy.validate_after.is_some();
        if is_looked_after { None } else { self.host.spare_task(scope) }
    }

    /// Has the caller `run` the task that is kept with a loan, which
    /// [`accept_at_once`](Self::accept_at_once) gave at this tick, and gives the loan back. `run`
    /// calls [`WorkerSession::count_outcome`] before it gives an outcome.
    pub fn serve_at_once<R>(
        self: &Arc<Self>,
        scope: H::Scope<'_>,
        mut loan: LoanOf<H>,
        since: Tick,
        run: impl FnOnce(&WorkerSession<'_, H>, &H::Task) -> Served<R>,
    ) -> R {
        let host = &self.host;
        let (Some((owned_resource, recorder)), Some(task)) = (&loan.lent, &loan.kept) else {
            unreachable!("accepted with a resource and a task");
        };
        let session = WorkerSession::new(self, &loan.worker, owned_resource, recorder);
        recorder.count(WorkerCounter::Started);
        let latest = self.failure_epochs.latest();
        let served = catch_unwind(AssertUnwindSafe(|| run(&session, task)));
        let Served { ran, is_as_new, result } = served.unwrap_or_else(|panic| {
            let running = Running { task: host.share(scope, task), since };
            loan.worker.push_running(running);
            self.loans.end_call(&loan);
            self.worker_panicked(scope, &loan.worker, recorder);
            resume_unwind(panic)
        });
        if self.is_left_by_fork() {
            std::mem::forget(loan);
            return result;
        }
        match ran {
            Ran::Completed => session.usage().mark_good(latest),
            Ran::Failed => {}
            Ran::Overdue | Ran::NotEntered | Ran::Suspect => {
                debug_assert_ne!(ran, Ran::Suspect, "such a call brings a task of its own");
                session.last.set(self.clock.now());
                recorder.count(WorkerCounter::Ended);
                self.overdue_ended(host.word(task));
            }
        }
        let (end, completed) = (session.last.get(), u64::from(ran == Ran::Completed));
        session.record((0, end.saturating_sub(since)), (1, completed), Priority::Normal);
        session.usage().served(end, 1);
        let goes_home = loan.worker.kind() == WorkerKind::Temporary
            || session.is_bad()
            || session.is_worn()
                && !self.is_closing()
                && self.begin_renewal(scope, &loan.worker).is_some();
        loan.ended = end;
        let mut known = Vec::new();
        if goes_home || !is_as_new {
            self.loans.end_call(&loan);
        }
        if !is_as_new {
            let spare = self.spare_task(scope);
            let shared = spare.as_ref().map(|task| host.share(scope, task));
            known.extend(loan.worker.lent.keep(shared));
            known.extend(std::mem::replace(&mut loan.kept, spare));
        }
        if goes_home {
            drop(loan);
        } else {
            self.give_back_loan(loan);
        }
        for task in known {
            host.discard(scope, task);
        }
        result
    }
}
