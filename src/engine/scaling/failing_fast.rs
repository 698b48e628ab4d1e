//! Tasks fail at once while no worker has a resource and none can be made, where the settings say so.
//!
//! The mark follows from what the roster and the backoff say. Each thread that changes one of these sets
//! it anew afterwards: the worker whose attempt failed or succeeded, and the one that lost the last
//! resource; the keeper does so when the time has come. A submitter looks at the mark after its push, and
//! who finds it up sweeps after that: no task waits under it.

use super::threads::Threads;
use crate::engine::clock::Tick;
use crate::engine::engine::Engine;
use crate::engine::host::{Host, Notice};
use crate::engine::resource::backoff::Trouble;
use crate::engine::task::NOT_ADMITTED;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use std::time::Duration;

impl<H: Host> Engine<H> {
    /// Whether tasks fail at once.
    #[inline]
    pub fn fails_fast(&self) -> bool {
        self.failing_fast.load(Ordering::SeqCst)
    }

    /// An attempt made a resource.
    pub(in crate::engine) fn creation_succeeded(&self, turn: bool) -> Option<Trouble> {
        let over = self.backoff.succeeded(turn, self.clock.now());
        if let Some(limit) = self.settings.fail_fast_after {
            self.set_mark(limit);
        }
        over
    }

    /// When tasks are to fail if no worker has a resource; `None` while resources can be made.
    fn failing_fast_due(&self, limit: Tick) -> Option<Tick> {
        self.backoff.failing_since().map(|since| since.saturating_add(limit))
    }

    /// Sets the mark anew; true when that raised it.
    fn set_mark(&self, limit: Tick) -> bool {
        let is_due = || {
            let due = self.failing_fast_due(limit);
            due.is_some_and(|due| due <= self.clock.now())
                && self.roster.counts().main_with_resource == 0
        };
        loop {
            let is_up = is_due();
            let was_up = self.failing_fast.swap(is_up, Ordering::SeqCst);
            // Another thread may have set it meanwhile by what it saw later.
            if is_due() == is_up {
                return is_up && !was_up;
            }
        }
    }

    /// Has the workers that sleep look again for retries, which any of them may take from now on.
    fn end_retry_holds(&self) {
        for queue in [&self.main, &self.reserved] {
            if queue.lanes.oldest_retry().is_some() {
                queue.idle_workers.wake_beyond(Some(Duration::ZERO));
            }
        }
    }
}

impl<H: Threads> Engine<H> {
    /// Has tasks fail from now on, if it is time for that; has the keeper come back if it will be. While
    /// a worker has a resource, that has the retries which are held: it may be good.
    pub(in crate::engine) fn fail_fast_if_due(self: &Arc<Self>, scope: H::Scope<'_>) {
        let Some(limit) = self.settings.fail_fast_after else {
            return;
        };
        let Some(due) = self.failing_fast_due(limit).filter(|_| !self.is_closing()) else {
            return;
        };
        // It comes back for what is let in under the mark, too. Without one the worker whose next
        // attempt fails does.
        let has_keeper = self.has_keeper(scope);
        if self.clock.now() < due {
            if has_keeper {
                self.deadlines.fail_fast_at(due);
            }
            return;
        }
        if self.set_mark(limit) {
            self.host.notice(scope, Notice::FailsFast);
        }
        self.fail_waiting(scope);
        self.end_retry_holds();
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
