//! Orders *accept* against *close*: what was accepted is seen by the drain, the rest is refused.
//!
//! One word holds a closed bit, the number of submitters between `enter` and `leave`, and how many
//! were ever let in. A submitter enters with one `fetch_add` and pushes only when the bit was not
//! set; the thread that closes sets the bit, waits until no thread is inside, and seals. Nothing
//! inside the gate blocks, detaches or calls Python, so that wait is a few instructions long.

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
    /// Closed and sealed bit, count of all accepted, count of submitters inside. `SeqCst`
    /// throughout: the order of "closed" against "inside" is the promise, and on the usual
    /// machines it costs the same.
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

    /// Enters, and counts so many accepted tasks: one, the items of a batch, or none for a task
    /// that another gate accepted. `None` once closed.
    pub fn enter(&self, accepted: u64) -> Option<Pass<'_>> {
        let ticket = INSIDE + ACCEPTED * accepted;
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

    /// Refuses every submitter from now on, without a look at the threads inside: after a fork they
    /// are gone.
    pub fn shut(&self) {
        self.word.fetch_or(CLOSED, Ordering::SeqCst);
    }

    /// Refuses every submitter from now on, and returns when no thread is inside any more.
    /// Idempotent.
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
    /// A bit of its own, as a late submitter may still come in, only to be refused. Were that to
    /// look like a task under way, a worker would go to sleep for it, and no thread would wake it.
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
    pub fn cancel(self) {
        self.0.word.fetch_sub(ACCEPTED, Ordering::SeqCst);
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
            assert!(gate.enter(1).is_some());
        }
        assert!(!gate.is_sealed());
        if let Some(pass) = gate.enter(1) {
            pass.cancel();
        }
        assert_eq!(gate.accepted(), 3);
        gate.close();
        gate.close();
        assert!(gate.enter(1).is_none());
        assert!(gate.is_sealed());
        assert_eq!(gate.accepted(), 3);
    }
}
