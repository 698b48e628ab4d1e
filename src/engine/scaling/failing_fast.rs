//! Tasks fail at once while no worker has a resource and none can be made, where the settings say so.
//!
//! The mark is raised by the worker whose attempt failed, by the one that was the last with a
//! resource, or by the keeper when the time has come; the first attempt that succeeds lowers it. Two
//! orders hold, both `SeqCst`. Whoever raises the mark looks at the attempts *after* that, and who
//! made a resource lowers it *after* the attempts are over: it does not stay up beside a resource.
//! And a submitter looks at the mark after its push, whoever raises it sweeps after that: no task
//! waits under it.

use super::threads::Threads;
use crate::engine::clock::Tick;
use crate::engine::engine::Engine;
use crate::engine::host::{Host, Notice};
use crate::engine::resource::backoff::Trouble;
use crate::engine::task::NOT_ADMITTED;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

impl<H: Host> Engine<H> {
    /// Whether tasks fail at once.
    #[inline]
    pub fn fails_fast(&self) -> bool {
        self.failing_fast.load(Ordering::SeqCst)
    }

    /// An attempt made a resource.
    pub(in crate::engine) fn creation_succeeded(&self, turn: bool) -> Option<Trouble> {
        let over = self.backoff.succeeded(turn, self.clock.now());
        if self.settings.fail_fast_after.is_some() {
            self.failing_fast.store(false, Ordering::SeqCst);
        }
        over
    }

    /// For how long no resource could be made, while no worker that serves the queue has one; zero
    /// otherwise.
    fn failing_without_resource(&self) -> Tick {
        if self.roster.counts().main_with_resource > 0 {
            return 0;
        }
        self.backoff.failing_for(self.clock.now())
    }

    /// Settles what waits for a resource. A call of `run_task` may still get one that was made for
    /// such calls.
    pub fn fail_waiting(&self, scope: H::Scope<'_>) {
        self.main.release_due(Tick::MAX);
        self.abandon_queue(scope, &self.main);
        self.abandon_running_batches(scope);
        let counts = self.roster.counts();
        if counts.reserved > counts.reserved_without_resource {
            return;
        }
        self.abandon_queue(scope, &self.reserved);
        for task in self.loans.waiting_calls(|task| self.host.share(scope, task), Tick::MAX) {
            self.abandon_unless_taken(scope, task);
        }
    }
}

impl<H: Threads> Engine<H> {
    /// Has tasks fail from now on, if it is time for that; has the keeper come back if it will be.
    pub(in crate::engine) fn fail_fast_if_due(self: &Arc<Self>, scope: H::Scope<'_>) {
        let Some(limit) = self.settings.fail_fast_after else {
            return;
        };
        let failing = self.failing_without_resource();
        if failing == 0 || self.is_closing() {
            return;
        }
        // It comes back for what is let in under the mark, too. Without one the worker whose next
        // attempt fails does.
        let has_keeper = self.has_keeper(scope);
        if failing < limit {
            if has_keeper {
                self.deadlines.fail_fast_at(self.clock.now().saturating_add(limit - failing));
            }
            return;
        }
        let had_begun = self.failing_fast.swap(true, Ordering::SeqCst);
        if self.failing_without_resource() == 0 {
            self.failing_fast.store(false, Ordering::SeqCst);
            return;
        }
        if !had_begun {
            self.host.notice(scope, Notice::FailsFast);
        }
        self.fail_waiting(scope);
    }

    /// A task was pushed under the mark. The thread that lets one in which waited for room may hold
    /// the claim of another, and leaves the rest to the keeper.
    #[cold]
    pub(in crate::engine) fn fail_pushed(&self, scope: H::Scope<'_>, flags: u32) {
        if flags & NOT_ADMITTED == 0 {
            self.fail_waiting(scope);
        } else {
            self.deadlines.fail_fast_at(self.clock.now());
        }
    }
}
