//! Renews good resources one at a time: worn ones, and all of them when the runner is recycled.
//!
//! Where the limit leaves room, a fresh worker is hired first, and the old one leaves when that one has its
//! resource. Otherwise the old one destroys and creates on its own thread. Either way one worker at most is without
//! a resource for this reason, and none while another is without one for any other.

use crate::engine::host::Host;
use crate::engine::worker::badge::Badge;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};

/// See the module's documentation.
pub struct Renewal<H: Host> {
    /// Raised by [`recycle`](Self::recycle). Relaxed: who sees it late renews a task later.
    generation: AtomicU64,
    state: Mutex<State<H>>,
}

struct State<H: Host> {
    /// Who renews now, and who relieves it.
    turn: Option<Turn<H>>,
    /// Somebody else wanted to meanwhile.
    wanted: bool,
}

impl<H: Host> State<H> {
    fn is_open(&mut self, right: impl FnOnce() -> bool) -> bool {
        let open = self.turn.is_none() && right();
        self.wanted |= !open;
        open
    }
}

struct Turn<H: Host> {
    old: Arc<Badge<H>>,
    new: Option<Arc<Badge<H>>>,
}

impl<H: Host> Renewal<H> {
    pub(in crate::engine) fn new() -> Self {
        let state = State { turn: None, wanted: false };
        Self { generation: AtomicU64::new(0), state: Mutex::new(state) }
    }

    /// The generation that resources made now belong to.
    pub(in crate::engine) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Wears all resources out.
    pub(in crate::engine) fn recycle(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the turn, if it is free and the time is `right`; see [`is_open`](Self::is_open).
    pub(in crate::engine) fn take_turn(
        &self,
        badge: &Arc<Badge<H>>,
        right: impl FnOnce() -> bool,
    ) -> bool {
        let mut state = self.state.lock();
        let open = state.is_open(right);
        if open {
            state.turn = Some(Turn { old: Arc::clone(badge), new: None });
        }
        open
    }

    /// Whether the turn is free and the time is `right`. Otherwise the caller is remembered, and rung for when either
    /// has changed.
    pub(in crate::engine) fn is_open(&self, right: impl FnOnce() -> bool) -> bool {
        self.state.lock().is_open(right)
    }

    /// Whether somebody waits for the turn, which is free; says so once.
    pub(in crate::engine) fn is_wanted(&self) -> bool {
        let mut state = self.state.lock();
        state.turn.is_none() && std::mem::take(&mut state.wanted)
    }

    /// Says who will relieve the one whose turn it is.
    pub(in crate::engine) fn relieved_by(&self, new: Arc<Badge<H>>) {
        if let Some(turn) = &mut self.state.lock().turn {
            turn.new = Some(new);
        }
    }

    /// Whether this worker was hired to relieve somebody.
    pub(in crate::engine) fn relieves(&self, badge: &Arc<Badge<H>>) -> bool {
        let state = self.state.lock();
        let new = state.turn.as_ref().and_then(|turn| turn.new.as_ref());
        new.is_some_and(|new| Arc::ptr_eq(new, badge))
    }

    /// Who was hired to relieve this worker.
    pub(in crate::engine) fn relief_of(&self, badge: &Arc<Badge<H>>) -> Option<Arc<Badge<H>>> {
        let state = self.state.lock();
        let turn = state.turn.as_ref().filter(|turn| Arc::ptr_eq(&turn.old, badge));
        turn.and_then(|turn| turn.new.clone())
    }

    /// Ends the turn if it is this worker's. One that waits to be relieved keeps it until either of the two is gone
    /// `for_good`.
    pub(in crate::engine) fn end_turn(&self, badge: &Arc<Badge<H>>, for_good: bool) {
        let mut state = self.state.lock();
        let is_its = state.turn.as_ref().is_some_and(|turn| match &turn.new {
            None => Arc::ptr_eq(&turn.old, badge),
            Some(new) => for_good && (Arc::ptr_eq(&turn.old, badge) || Arc::ptr_eq(new, badge)),
        });
        if is_its {
            state.turn = None;
        }
    }
}

impl<H: Host> std::fmt::Debug for Renewal<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewal").field("generation", &self.generation()).finish_non_exhaustive()
    }
}
