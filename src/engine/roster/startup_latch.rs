//! The start: the constructor waits until every first resource is made, or one of them failed.

use crate::sync::thread;
use crate::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// How often a waiting thread yields its core while no worker comes up, before it blocks.
const YIELDS_BEFORE_BLOCK: usize = if cfg!(loom) { 0 } else { 500 };

/// See the module's documentation.
#[derive(Debug)]
pub struct StartupLatch<F> {
    state: Mutex<StartupProgress<F>>,
    changed: Condvar,
}

#[derive(Debug)]
struct StartupProgress<F> {
    missing: usize,
    fault: Option<F>,
    /// How the first one failed.
    failed: Option<StartupStatus>,
}

/// How far the start has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartupStatus {
    /// Some are still being made.
    Pending,
    /// All are made.
    Ready,
    /// One could not be made.
    Failed,
    /// The thread of one ended before it came up.
    NoThread,
}

impl<F> StartupProgress<F> {
    fn status(&self) -> StartupStatus {
        let on_the_way =
            if self.missing == 0 { StartupStatus::Ready } else { StartupStatus::Pending };
        self.failed.unwrap_or(on_the_way)
    }
}

impl<F> StartupLatch<F> {
    pub(in crate::engine) fn new(count: usize) -> Self {
        let state = StartupProgress { missing: count, fault: None, failed: None };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(in crate::engine) fn one_is_ready(&self) {
        let missing = {
            let mut state = self.state.lock();
            state.missing -= 1;
            state.missing
        };
        // Not for each: the thread in `wait` would come up as often, and take the core from the
        // workers.
        if missing == 0 {
            self.changed.notify_all();
        }
    }

    /// Keeps the first failure; later ones come back. `how`: a resource was not made, or the thread
    /// of its worker ended before it came up.
    pub(in crate::engine) fn fail(&self, fault: F, how: StartupStatus) -> Option<F> {
        let mut state = self.state.lock();
        let is_first = state.failed.is_none();
        state.failed.get_or_insert(how);
        let late = if is_first { state.fault.replace(fault) } else { Some(fault) };
        drop(state);
        self.changed.notify_all();
        late
    }

    /// Has the start fail without a fault.
    pub fn cancel(&self) {
        self.state.lock().failed.get_or_insert(StartupStatus::Failed);
        self.changed.notify_all();
    }

    /// How far the start is.
    pub fn status(&self) -> StartupStatus {
        self.state.lock().status()
    }

    /// Waits until the start is decided or the limit passes.
    ///
    /// As long as one worker comes up after the other the caller only yields its core: they wake
    /// each other, and each would find a core that has gone to sleep, which takes longer to wake
    /// than a worker to come up.
    pub fn wait(&self, limit: Duration) -> StartupStatus {
        let end = Instant::now().checked_add(limit);
        let (mut missing, mut yields) = (usize::MAX, 0);
        while yields < YIELDS_BEFORE_BLOCK && end.is_none_or(|end| Instant::now() < end) {
            let state = self.state.lock();
            if state.status() != StartupStatus::Pending {
                return state.status();
            }
            yields = if state.missing == missing { yields + 1 } else { 0 };
            missing = state.missing;
            drop(state);
            thread::yield_now();
        }
        let left = end.map_or(limit, |end| end.saturating_duration_since(Instant::now()));
        let pending = |state: &mut StartupProgress<F>| state.status() == StartupStatus::Pending;
        self.changed.wait_while(self.state.lock(), left, pending).status()
    }

    /// Why the start failed.
    pub fn take_fault(&self) -> Option<F> {
        self.state.lock().fault.take()
    }
}
