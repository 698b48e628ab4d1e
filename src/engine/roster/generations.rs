//! Resources by generation: a renewal of all begins one, and is over when no older one is left.
//!
//! A resource belongs to the generation in which its creation began, as what it was made with may
//! have changed meanwhile. So a resource that was being made at a renewal is renewed too, and one
//! whose creation began after several renewals is young enough for all of them.

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// See the module's documentation.
#[derive(Debug)]
pub struct Generations<T> {
    /// Raised under the lock. Relaxed: a worker that sees it late renews a task later.
    current: AtomicU64,
    state: Mutex<LiveGenerations<T>>,
}

#[derive(Debug)]
struct LiveGenerations<T> {
    /// The generation of each resource that there is or that is being made, in order.
    live: Vec<u64>,
    /// In the order of their generations.
    waiters: Vec<RenewalWaiter<T>>,
}

/// What waits until every resource from before its generation is gone.
#[derive(Debug)]
struct RenewalWaiter<T> {
    waiter: T,
    generation: u64,
    gone: usize,
}

impl<T> Generations<T> {
    pub(in crate::engine) fn new() -> Self {
        let state = LiveGenerations { live: Vec::new(), waiters: Vec::new() };
        Self { current: AtomicU64::new(0), state: Mutex::new(state) }
    }

    /// The generation that resources belong to whose creation begins now.
    pub(in crate::engine) fn current(&self) -> u64 {
        self.current.load(Ordering::Relaxed)
    }

    /// Begins a generation: whatever there is, is outdated.
    pub(in crate::engine) fn begin(&self, waiter: Option<T>) {
        let mut state = self.state.lock();
        let generation = self.current.fetch_add(1, Ordering::Relaxed) + 1;
        state.waiters.extend(waiter.map(|waiter| RenewalWaiter { waiter, generation, gone: 0 }));
    }

    /// The creation of a resource begins: gives its generation.
    pub(in crate::engine) fn enter(&self) -> u64 {
        let mut state = self.state.lock();
        state.live.push(self.current());
        self.current()
    }

    /// A resource of this generation is gone, or could not be made.
    pub(in crate::engine) fn leave(&self, generation: u64, was_made: bool) {
        let LiveGenerations { live, waiters } = &mut *self.state.lock();
        if let Ok(index) = live.binary_search(&generation) {
            live.remove(index);
        }
        for waiter in waiters.iter_mut().filter(|waiter| waiter.generation > generation) {
            waiter.gone += usize::from(was_made);
        }
    }

    /// Takes the waiters for which nothing is left, or `all`, each with how many went.
    pub(in crate::engine) fn take_waiters(&self, all: bool) -> Vec<(T, usize)> {
        let LiveGenerations { live, waiters } = &mut *self.state.lock();
        let oldest = live.first().copied().filter(|_| !all).unwrap_or(u64::MAX);
        let over = waiters.partition_point(|waiter| waiter.generation <= oldest);
        waiters.drain(..over).map(|one| (one.waiter, one.gone)).collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_of_nothing_is_over_at_once() {
        let generations = Generations::new();
        generations.begin(Some("first"));
        assert_eq!(generations.take_waiters(false), [("first", 0)]);
    }

    #[test]
    fn overlapping_renewals_are_over_with_the_last_resource_from_before_them() {
        let generations = Generations::new();
        let old = [generations.enter(), generations.enter()];
        generations.begin(Some("first"));
        generations.begin(Some("second"));
        let young = generations.enter();
        generations.leave(old[0], true);
        assert_eq!(generations.take_waiters(false), []);
        generations.begin(Some("third"));
        generations.leave(old[1], true);
        assert_eq!(generations.take_waiters(false), [("first", 2), ("second", 2)]);
        generations.leave(young, true);
        assert_eq!(generations.take_waiters(false), [("third", 2)]);
    }

    #[test]
    fn a_resource_that_was_being_made_is_waited_for_and_counts_if_it_was() {
        for was_made in [false, true] {
            let generations = Generations::new();
            let making = generations.enter();
            generations.begin(Some(()));
            assert_eq!(generations.take_waiters(false), []);
            generations.leave(making, was_made);
            assert_eq!(generations.take_waiters(false), [((), usize::from(was_made))]);
        }
    }

    #[test]
    fn all_waiters_are_taken_when_the_runner_ends() {
        let generations = Generations::new();
        generations.enter();
        generations.begin(Some("first"));
        assert_eq!(generations.take_waiters(true), [("first", 0)]);
    }
}
