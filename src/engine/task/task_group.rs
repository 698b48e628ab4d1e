//! Tasks that are waited for together, wherever their futures are: a count, until it is closed and
//! empty.
//!
//! The submitter joins before the task is accepted; the membership is the task's from then on, and
//! ends with it. So no task is ever accepted without being counted, however the call that submitted
//! it ends.

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex};
use std::time::Duration;

const CLOSED: usize = 1 << (usize::BITS - 1);

/// See the module's documentation.
#[derive(Debug)]
pub struct TaskGroup {
    /// The closed bit, and how many are members. Acquire and release: a thread that finds the
    /// group over sees what its tasks did.
    word: AtomicUsize,
    looking: Mutex<()>,
    over: Condvar,
}

/// A membership that is no task's yet; dropped, it ends.
#[derive(Debug)]
pub struct Joining<'g>(&'g TaskGroup);

impl TaskGroup {
    /// An open group without members.
    pub fn new() -> Self {
        Self { word: AtomicUsize::new(0), looking: Mutex::new(()), over: Condvar::new() }
    }

    /// Joins; `None` once closed.
    pub fn join(&self) -> Option<Joining<'_>> {
        let joined = |word| (word & CLOSED == 0).then_some(word + 1);
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, joined).ok()?;
        Some(Joining(self))
    }

    /// The task of a member is over.
    pub fn leave(&self) {
        if self.word.fetch_sub(1, Ordering::AcqRel) == CLOSED + 1 {
            // Under the lock, or a waiting thread that has just looked would miss it.
            drop(self.looking.lock());
            self.over.notify_all();
        }
    }

    /// No submitter joins from now on.
    pub fn close(&self) {
        self.word.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Whether no submitter can join any more.
    pub fn is_closed(&self) -> bool {
        self.word.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Whether it is closed and all its tasks are over.
    pub fn is_over(&self) -> bool {
        self.word.load(Ordering::Acquire) == CLOSED
    }

    /// Blocks until the closed group is over or the limit passes.
    pub fn wait_over(&self, limit: Duration) {
        drop(self.over.wait_while(self.looking.lock(), limit, |()| !self.is_over()));
    }
}

impl Joining<'_> {
    /// Its task was accepted, and leaves by itself.
    pub fn stay(self) {
        std::mem::forget(self);
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn is_over_when_it_is_closed_and_the_last_has_left() {
        let group = TaskGroup::new();
        group.join().expect("it is open").stay();
        drop(group.join());
        assert!(!group.is_closed() && !group.is_over());
        group.close();
        group.wait_over(Duration::ZERO);
        assert!(group.is_closed() && !group.is_over());
        group.leave();
        group.wait_over(Duration::MAX);
        assert!(group.is_over());
    }

    #[test]
    fn nobody_joins_a_closed_group() {
        let group = TaskGroup::new();
        group.close();
        assert!(group.join().is_none() && group.is_over());
    }
}
