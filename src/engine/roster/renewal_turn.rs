//! Renews good resources one at a time: worn ones, and all of them when the runner is told to
//! renew.
//!
//! Where the limit leaves room, a fresh worker is started first, and the old one leaves when that
//! one has its resource. Otherwise the old one destroys and creates on its own thread. Either way
//! one worker at most is without a resource for this reason, and none while another is without one
//! for any other.

use crate::engine::roster::shared::WorkerShared;
use crate::sync::{Arc, Mutex};

/// See the module's documentation.
#[derive(Debug)]
pub struct RenewalTurn<T> {
    state: Mutex<TurnState<T>>,
}

#[derive(Debug)]
struct TurnState<T> {
    /// Which worker renews now, and its successor.
    turn: Option<TurnHolder<T>>,
    /// A worker may sleep until it has the turn: one asked for it and did not get it, or all are to
    /// renew.
    wanted: bool,
}

impl<T> TurnState<T> {
    fn is_open(&mut self, right: impl FnOnce() -> bool) -> bool {
        let open = self.turn.is_none() && right();
        self.wanted |= !open;
        open
    }
}

#[derive(Debug)]
struct TurnHolder<T> {
    old: Arc<WorkerShared<T>>,
    new: Option<Arc<WorkerShared<T>>>,
}

impl<T> RenewalTurn<T> {
    pub(in crate::engine) fn new() -> Self {
        Self { state: Mutex::new(TurnState { turn: None, wanted: false }) }
    }

    /// Takes the turn, if it is free and the time is `right`; see [`is_open`](Self::is_open).
    pub(in crate::engine) fn take_turn(
        &self,
        worker: &Arc<WorkerShared<T>>,
        right: impl FnOnce() -> bool,
    ) -> bool {
        let mut state = self.state.lock();
        let open = state.is_open(right);
        if open {
            state.turn = Some(TurnHolder { old: Arc::clone(worker), new: None });
        }
        open
    }

    /// Whether the turn is free and the time is `right`. Otherwise one that asks when it is counted
    /// as asleep is woken when either has changed, and it has slept longest.
    pub(in crate::engine) fn is_open(&self, right: impl FnOnce() -> bool) -> bool {
        self.state.lock().is_open(right)
    }

    /// A worker may sleep until it has the turn.
    pub(in crate::engine) fn want(&self) {
        self.state.lock().wanted = true;
    }

    /// Whether a worker may sleep until it has the turn, which is free; says so once.
    pub(in crate::engine) fn is_wanted(&self) -> bool {
        let mut state = self.state.lock();
        state.turn.is_none() && std::mem::take(&mut state.wanted)
    }

    /// Names the successor of the worker whose turn it is.
    pub(in crate::engine) fn set_successor(&self, new: Arc<WorkerShared<T>>) {
        if let Some(turn) = &mut self.state.lock().turn {
            turn.new = Some(new);
        }
    }

    /// The worker that this one was started as the successor of.
    pub(in crate::engine) fn predecessor_of(
        &self,
        worker: &Arc<WorkerShared<T>>,
    ) -> Option<Arc<WorkerShared<T>>> {
        let state = self.state.lock();
        let is_its =
            |turn: &&TurnHolder<T>| turn.new.as_ref().is_some_and(|new| Arc::ptr_eq(new, worker));
        state.turn.as_ref().filter(is_its).map(|turn| Arc::clone(&turn.old))
    }

    /// The worker that was started as the successor of this one.
    pub(in crate::engine) fn successor_of(
        &self,
        worker: &Arc<WorkerShared<T>>,
    ) -> Option<Arc<WorkerShared<T>>> {
        let state = self.state.lock();
        let turn = state.turn.as_ref().filter(|turn| Arc::ptr_eq(&turn.old, worker));
        turn.and_then(|turn| turn.new.clone())
    }

    /// Ends the turn if it is this worker's. One that waits for its successor keeps it until either
    /// of the two is gone `for_good`.
    pub(in crate::engine) fn end_turn(&self, worker: &Arc<WorkerShared<T>>, for_good: bool) {
        let mut state = self.state.lock();
        let is_its = state.turn.as_ref().is_some_and(|turn| match &turn.new {
            None => Arc::ptr_eq(&turn.old, worker),
            Some(new) => for_good && (Arc::ptr_eq(&turn.old, worker) || Arc::ptr_eq(new, worker)),
        });
        if is_its {
            state.turn = None;
        }
    }
}
