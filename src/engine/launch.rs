//! The start: the constructor waits until every first resource is made, or one of them failed.

use crate::sync::{Condvar, Mutex};
use std::time::Duration;

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
}

impl<F> Launch<F> {
    pub(super) fn new(count: usize) -> Self {
        let state = State { missing: count, fault: None, failed: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn one_is_ready(&self) {
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
    pub(super) fn one_failed(&self, fault: F) -> Option<F> {
        let mut state = self.state.lock();
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

    /// Blocks until the start is decided or the limit passes.
    pub fn wait(&self, limit: Duration) -> Launched {
        let pending = |state: &mut State<F>| !state.failed && state.missing > 0;
        let state = self.changed.wait_while(self.state.lock(), limit, pending);
        match (state.failed, state.missing) {
            (true, _) => Launched::Failed,
            (false, 0) => Launched::Ready,
            _ => Launched::Pending,
        }
    }

    /// Why the start failed.
    pub fn take_fault(&self) -> Option<F> {
        self.state.lock().fault.take()
    }
}
