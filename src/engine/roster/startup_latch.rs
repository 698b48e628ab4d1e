//! The start: the constructor waits until every first resource is made, or one of them failed.

use crate::sync::thread;
use crate::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// How often a waiting thread offers its core while no worker comes up, before it blocks.
const OFFERS: usize = if cfg!(loom) { 0 } else { 500 };

/// See the module's documentation.
#[derive(Debug)]
pub struct Launch<F> {
    state: Mutex<State<F>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<F> {
    missing: usize,
    fault: Option<F>,
    failed: bool,
    /// What failed was a thread.
    threadless: bool,
}

/// How far the start has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launched {
    /// Some are still being made.
    Pending,
    /// All are made.
    Ready,
    /// One could not be made.
    Failed,
    /// The thread of one ended before it came up.
    NoThread,
}

impl<F> State<F> {
    fn launched(&self) -> Launched {
        match (self.failed, self.missing) {
            (true, _) if self.threadless => Launched::NoThread,
            (true, _) => Launched::Failed,
            (false, 0) => Launched::Ready,
            _ => Launched::Pending,
        }
    }
}

impl<F> Launch<F> {
    pub(in crate::engine) fn new(count: usize) -> Self {
        let state = State { missing: count, fault: None, failed: false, threadless: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(in crate::engine) fn one_is_ready(&self) {
        let missing = {
            let mut state = self.state.lock();
            state.missing -= 1;
            state.missing
        };
        // Not for each: the one who waits would come up as often, and take the core from the others.
        if missing == 0 {
            self.changed.notify_all();
        }
    }

    /// Keeps the first failure; later ones come back.
    pub(in crate::engine) fn one_failed(&self, fault: F) -> Option<F> {
        self.fail(fault, false)
    }

    /// [`one_failed`](Self::one_failed), for one whose thread ended before it came up.
    pub(in crate::engine) fn one_has_no_thread(&self, fault: F) -> Option<F> {
        self.fail(fault, true)
    }

    fn fail(&self, fault: F, threadless: bool) -> Option<F> {
        let mut state = self.state.lock();
        state.threadless |= threadless && !state.failed;
        let late = if state.failed { Some(fault) } else { state.fault.replace(fault) };
        state.failed = true;
        drop(state);
        self.changed.notify_all();
        late
    }

    /// Has the start fail without a fault.
    pub fn give_up(&self) {
        self.state.lock().failed = true;
        self.changed.notify_all();
    }

    /// How far the start is.
    pub fn look(&self) -> Launched {
        self.state.lock().launched()
    }

    /// Waits until the start is decided or the limit passes.
    ///
    /// As long as one worker comes up after the other it only offers its core: they wake each other, and each would
    /// find a core that has gone to sleep, which takes longer to wake than a worker to come up.
    pub fn wait(&self, limit: Duration) -> Launched {
        let end = Instant::now().checked_add(limit);
        let (mut missing, mut offers) = (usize::MAX, 0);
        while offers < OFFERS && end.is_none_or(|end| Instant::now() < end) {
            let state = self.state.lock();
            if state.launched() != Launched::Pending {
                return state.launched();
            }
            offers = if state.missing == missing { offers + 1 } else { 0 };
            missing = state.missing;
            drop(state);
            thread::yield_now();
        }
        let left = end.map_or(limit, |end| end.saturating_duration_since(Instant::now()));
        let pending = |state: &mut State<F>| state.launched() == Launched::Pending;
        self.changed.wait_while(self.state.lock(), left, pending).launched()
    }

    /// Why the start failed.
    pub fn take_fault(&self) -> Option<F> {
        self.state.lock().fault.take()
    }
}
