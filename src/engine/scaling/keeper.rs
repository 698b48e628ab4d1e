//! The one thread that watches time limits, ends pauses, starts burst workers and looks at the
//! runner.

use super::threads::Threads;
use crate::engine::clock::Tick;
use crate::engine::engine::Engine;
use crate::engine::host::{Host, Notice};
use crate::engine::task::deadlines::DeadlineKey;
use crate::sync::Arc;

impl<H: Host> Engine<H> {
    /// Has the keeper watch a task's time limit.
    pub fn watch_deadline(&self, due: Tick, task: H::Task) -> DeadlineKey {
        self.deadlines.add(due, task)
    }

    /// Has the keeper begin a graceful stop at this time.
    pub fn stop_at(&self, due: Tick) {
        self.deadlines.stop_at(due);
    }

    /// Stops watching a task's time limit.
    pub fn unwatch(&self, scope: H::Scope<'_>, key: DeadlineKey) {
        if let Some(task) = self.deadlines.remove(key) {
            self.host.discard(scope, task);
        }
    }
}

impl<H: Threads> Engine<H> {
    /// Starts the keeper, if it does not live yet. To be called before a task with a time limit is
    /// accepted: a submit that fails must not leave a task behind.
    ///
    /// # Errors
    ///
    /// The keeper's thread could not be started.
    pub fn need_keeper(self: &Arc<Self>, scope: H::Scope<'_>) -> Result<(), H::Fault> {
        if self.deadlines.claim_keeper() {
            self.host.spawn_keeper(scope, self).inspect_err(|_| self.lost_keeper(scope))?;
        }
        Ok(())
    }

    /// The keeper's thread could not be started, or ended before it came up: the next caller of
    /// `need_keeper` starts another. A pause that a worker began meanwhile, as it took the keeper for
    /// alive, is over.
    pub fn lost_keeper(self: &Arc<Self>, scope: H::Scope<'_>) {
        self.deadlines.disclaim_keeper();
        self.resume(scope, self.deadlines.take_paused());
    }

    /// Whether the keeper lives, which is started if it does not. The user is told that it cannot be.
    pub(in crate::engine) fn has_keeper(self: &Arc<Self>, scope: H::Scope<'_>) -> bool {
        let kept = self.need_keeper(scope);
        kept.map_err(|fault| self.host.notice(scope, Notice::NoThread(fault))).is_ok()
    }

    /// Has the host look at the runner while tasks are under way, and comes back later.
    fn look(self: &Arc<Self>, scope: H::Scope<'_>) {
        // First: a thread that counts from here on requests the next look, or is seen below.
        self.looks.begin();
        let stats = self.stats();
        let under_way = stats.queued + stats.paused + stats.running > 0;
        if under_way {
            self.host.look(scope, self);
        }
        let now = self.clock.now();
        if under_way || !self.looks.may_rest(&self.window, now) {
            self.request_look(now);
        }
    }

    /// Blocks until something is due for which the host is needed, or the engine has ended: false
    /// then. What lingers needs no host.
    fn wait_for_duty(&self) -> bool {
        while self.deadlines.wait(|| self.clock.now()) {
            if !self.deadlines.must_release(self.clock.now()) {
                return true;
            }
            self.main.release_due(self.clock.now());
            if let Some(due) = self.main.lingering.next_due() {
                self.deadlines.release_at(due);
            }
        }
        false
    }

    /// The keeper's life: ends tasks as they fall due, until the engine has ended.
    pub fn run_keeper(self: &Arc<Self>, scope: H::Scope<'_>) {
        while self.host.park(scope, || self.wait_for_duty()) {
            if self.deadlines.must_stop(self.clock.now()) {
                self.begin_stop();
            }
            if self.deadlines.must_scale(self.clock.now()) {
                self.scale(scope);
            }
            self.resume_due(scope);
            if self.deadlines.may_fail_fast(self.clock.now()) {
                self.fail_fast_if_due(scope);
            }
            while let Some(task) = self.deadlines.pop_due(self.clock.now()) {
                self.host.expire(scope, &task);
                self.host.discard(scope, task);
            }
            // Last: the limits are kept before the host takes its time.
            if self.deadlines.must_look(self.clock.now()) {
                self.look(scope);
            }
        }
        while let Some(task) = self.deadlines.pop() {
            self.host.discard(scope, task);
        }
    }
}
