//! Orders *accept* against *close*: what was accepted is seen by the drain, the rest is refused.
//!
//! One word holds a closed bit, the number of submitters between `enter` and `leave`, and how many
//! were ever let in. A submitter enters with one `fetch_add` and pushes only when the bit was not set;
//! the closer sets the bit and waits until nobody is inside. Nothing inside the gate blocks, detaches
//! or calls Python, so that wait is a few instructions long.

use crate::sync::CachePadded;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::thread;

const INSIDE: u64 = 1;
const INSIDE_MASK: u64 = (1 << 20) - 1;
const ACCEPTED: u64 = 1 << 20;
const CLOSED: u64 = 1 << 63;

/// See the module's documentation.
#[derive(Debug)]
pub struct Gate {
    /// Closed bit, count of all accepted, count of submitters inside. `SeqCst` throughout: the order
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
        // The look before the add keeps refused submits out of the accepted count, but for those
        // that race with the close itself, which take theirs back.
        if self.is_closed() {
            return None;
        }
        let before = self.word.fetch_add(INSIDE + ACCEPTED, Ordering::SeqCst);
        if before & CLOSED == 0 {
            return Some(Pass(self));
        }
        self.word.fetch_sub(INSIDE + ACCEPTED, Ordering::SeqCst);
        None
    }

    /// Refuses everybody from now on, and returns when nobody is inside any more. Idempotent.
    pub fn close(&self) {
        self.word.fetch_or(CLOSED, Ordering::SeqCst);
        while self.word.load(Ordering::SeqCst) & INSIDE_MASK != 0 {
            thread::yield_now();
        }
    }

    /// Whether `close` has begun.
    pub fn is_closed(&self) -> bool {
        self.word.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// Whether `close` has begun and everything accepted has been pushed.
    pub fn is_sealed(&self) -> bool {
        let word = self.word.load(Ordering::SeqCst);
        word & CLOSED != 0 && word & INSIDE_MASK == 0
    }

    /// How many tasks were ever accepted.
    pub fn accepted(&self) -> u64 {
        (self.word.load(Ordering::SeqCst) & !CLOSED) / ACCEPTED
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
        gate.close();
        gate.close();
        assert!(gate.enter().is_none());
        assert!(gate.is_sealed());
        assert_eq!(gate.accepted(), 3);
    }
}
