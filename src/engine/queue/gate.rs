//! Orders *accept* against *close*: what was accepted is seen by the drain, the rest is refused.
//!
//! One word holds a closed bit, the number of submitters between `enter` and `leave`, and how many
//! were ever let in. A submitter enters with one `fetch_add` and pushes only when the bit was not set;
//! the closer sets the bit, waits until nobody is inside, and seals. Nothing inside the gate blocks,
//! detaches or calls Python, so that wait is a few instructions long.

use crate::sync::CachePadded;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::thread;

const INSIDE: u64 = 1;
const INSIDE_MASK: u64 = (1 << 20) - 1;
const ACCEPTED: u64 = 1 << 20;
const CLOSED: u64 = 1 << 63;
const SEALED: u64 = 1 << 62;

/// See the module's documentation.
#[derive(Debug)]
pub struct Gate {
    /// Closed and sealed bit, count of all accepted, count of submitters inside. `SeqCst` throughout: the order
    /// of "closed" against "inside" is the promise, and on the usual machines it costs the same.
    word: CachePadded<AtomicU64>,
}

/// Proof of being inside the gate; leaves it when dropped.
#[derive(Debug)]
pub struct Pass<'g>(&'g Gate);

impl Gate {
    /// An open gate.
    pub fn new() -> Self {
        Self { word: CachePadded::new(AtomicU64::new(0)) }
    }

    /// Enters, and counts one accepted task; `None` once closed.
    pub fn enter(&self) -> Option<Pass<'_>> {
        self.enter_with(INSIDE + ACCEPTED)
    }

    /// Enters with a batch, and counts each of its items as an accepted task; `None` once closed.
    pub fn enter_with_items(&self, items: usize) -> Option<Pass<'_>> {
        self.enter_with(INSIDE + ACCEPTED * items as u64)
    }

    /// Enters with a task that another gate accepted; `None` once closed.
    pub fn enter_again(&self) -> Option<Pass<'_>> {
        self.enter_with(INSIDE)
    }

    fn enter_with(&self, ticket: u64) -> Option<Pass<'_>> {
        // The look before the add keeps refused submits out of the accepted count, but for those
        // that race with the close itself, which take theirs back.
        if self.is_closed() {
            return None;
        }
        let before = self.word.fetch_add(ticket, Ordering::SeqCst);
        if before & CLOSED == 0 {
            return Some(Pass(self));
        }
        self.word.fetch_sub(ticket, Ordering::SeqCst);
        None
    }

    /// Refuses everybody from now on, without a look at who is inside: after a fork they are gone.
    pub fn shut(&self) {
        self.word.fetch_or(CLOSED, Ordering::SeqCst);
    }

    /// Refuses everybody from now on, and returns when nobody is inside any more. Idempotent.
    pub fn close(&self) {
        self.shut();
        while self.word.load(Ordering::SeqCst) & INSIDE_MASK != 0 {
            thread::yield_now();
        }
        self.word.fetch_or(SEALED, Ordering::SeqCst);
    }

    /// Whether `close` has begun.
    pub fn is_closed(&self) -> bool {
        self.word.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// Whether a `close` is over: everything accepted has been pushed.
    ///
    /// A bit of its own, as somebody may still come in late, only to be refused: were that to look like
    /// a task under way, a worker would go to sleep for it, and nobody would wake it.
    pub fn is_sealed(&self) -> bool {
        self.word.load(Ordering::SeqCst) & SEALED != 0
    }

    /// How many tasks were ever accepted.
    pub fn accepted(&self) -> u64 {
        (self.word.load(Ordering::SeqCst) & !(CLOSED | SEALED)) / ACCEPTED
    }
}

impl Pass<'_> {
    /// Leaves again with a task that is not to be accepted after all; it is counted for a moment.
    pub fn take_back(self) {
        self.0.word.fetch_sub(ACCEPTED, Ordering::SeqCst);
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.word.fetch_sub(INSIDE, Ordering::SeqCst);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn counts_what_it_lets_in_and_refuses_after_close() {
        let gate = Gate::new();
        for _ in 0..3 {
            assert!(gate.enter().is_some());
        }
        assert!(!gate.is_sealed());
        if let Some(pass) = gate.enter() {
            pass.take_back();
        }
        assert_eq!(gate.accepted(), 3);
        gate.close();
        gate.close();
        assert!(gate.enter().is_none());
        assert!(gate.is_sealed());
        assert_eq!(gate.accepted(), 3);
    }
}
