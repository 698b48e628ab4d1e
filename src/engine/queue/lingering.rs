//! Accepted tasks that get their entry in a lane later: the keeper puts it there when the time has
//! come, or another thread does before.
//!
//! To the gate, the counters and a leaving worker such a task waits like any other.

use crate::engine::clock::Tick;
use crate::engine::task::priority::Priority;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::collections::BTreeMap;

/// Tells where a task lingers: until when, and a number of its own.
pub(in crate::engine) type LingerKey = (Tick, u64);

/// A task that lingers.
#[derive(Debug)]
pub(super) struct Lingerer<T> {
    pub(super) priority: Priority,
    pub(super) task: T,
    pub(super) since: Tick,
}

/// See the module's documentation.
#[derive(Debug)]
pub(in crate::engine) struct Lingering<T> {
    /// Relaxed: it only tells keys apart.
    numbers: AtomicU64,
    /// How many there are. `SeqCst`, like the lanes: raised before the gate is left, and lowered
    /// after the entry is in its lane.
    count: AtomicUsize,
    /// For how long any was to linger at most. Written and read under the lock.
    longest: AtomicU64,
    tasks: Mutex<BTreeMap<LingerKey, Lingerer<T>>>,
}

impl<T> Lingering<T> {
    pub(super) fn new() -> Self {
        Self {
            numbers: AtomicU64::new(0),
            count: AtomicUsize::new(0),
            longest: AtomicU64::new(0),
            tasks: Mutex::new(BTreeMap::new()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// A key for a task that is to linger until then.
    pub(in crate::engine) fn key(&self, due: Tick) -> LingerKey {
        (due, self.numbers.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn add(&self, key: LingerKey, lingerer: Lingerer<T>) {
        self.count.fetch_add(1, Ordering::SeqCst);
        let mut tasks = self.tasks.lock();
        self.longest.fetch_max(key.0.saturating_sub(lingerer.since), Ordering::Relaxed);
        tasks.insert(key, lingerer);
    }

    /// Has one pushed into its lane; false when it lingers no more.
    pub(super) fn release(&self, key: LingerKey, push: impl FnOnce(Lingerer<T>)) -> bool {
        let mut tasks = self.tasks.lock();
        let Some(lingerer) = tasks.remove(&key) else {
            return false;
        };
        self.push_locked(lingerer, push);
        true
    }

    /// Has those pushed into their lanes that have lingered until this time; false when none has.
    pub(super) fn release_due(&self, now: Tick, push: impl Fn(Lingerer<T>)) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut tasks = self.tasks.lock();
        let mut any = false;
        while let Some(first) = tasks.first_entry().filter(|first| first.key().0 <= now) {
            self.push_locked(first.remove(), &push);
            any = true;
        }
        any
    }

    /// Under the lock, which the caller holds: the thread that closes the queue, and then looks at
    /// the lanes, misses none that is on its way.
    fn push_locked(&self, lingerer: Lingerer<T>, push: impl FnOnce(Lingerer<T>)) {
        push(lingerer);
        self.count.fetch_sub(1, Ordering::SeqCst);
    }

    /// Takes one out that needs no entry any more.
    pub(in crate::engine) fn take(&self, key: LingerKey) -> Option<T> {
        let lingerer = self.tasks.lock().remove(&key)?;
        self.count.fetch_sub(1, Ordering::SeqCst);
        Some(lingerer.task)
    }

    /// Takes those out that wait since then or longer.
    pub(in crate::engine) fn take_since(&self, then: Tick) -> Vec<T> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut tasks = self.tasks.lock();
        let (meant, others) = std::mem::take(&mut *tasks)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, lingerer)| lingerer.since <= then);
        *tasks = others;
        self.count.fetch_sub(meant.len(), Ordering::SeqCst);
        meant.into_values().map(|lingerer| lingerer.task).collect()
    }

    /// When the first is due.
    pub(in crate::engine) fn next_due(&self) -> Option<Tick> {
        self.tasks.lock().first_key_value().map(|((due, _), _)| *due)
    }

    /// Since when the one waits that has waited longest of those that `waits` picks. Where all linger for
    /// as long, that is the first to be due, and no other is looked at.
    pub(in crate::engine) fn oldest(&self, waits: impl Fn(&T) -> bool) -> Option<Tick> {
        if self.is_empty() {
            return None;
        }
        let tasks = self.tasks.lock();
        let longest = self.longest.load(Ordering::Relaxed);
        let mut oldest: Option<Tick> = None;
        for ((due, _), lingerer) in &*tasks {
            if oldest.is_some_and(|oldest| due.saturating_sub(longest) >= oldest) {
                break;
            }
            if waits(&lingerer.task) {
                oldest = oldest.into_iter().chain([lingerer.since]).min();
            }
        }
        oldest
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn add(lingering: &Lingering<u32>, task: u32, since: Tick, due: Tick) -> LingerKey {
        let key = lingering.key(due);
        lingering.add(key, Lingerer { priority: Priority::Normal, task, since });
        key
    }

    #[test]
    fn each_leaves_once_when_it_is_due_or_before() {
        let lingering = Lingering::new();
        let first = add(&lingering, 1, 0, 10);
        add(&lingering, 2, 1, 20);
        let third = add(&lingering, 3, 2, 20);
        assert_eq!((lingering.next_due(), lingering.oldest(|_| true)), (Some(10), Some(0)));
        let pushed = std::cell::RefCell::new(Vec::new());
        let push = |lingerer: Lingerer<u32>| pushed.borrow_mut().push(lingerer.task);
        assert!(lingering.release(third, push) && !lingering.release(third, push));
        assert!(!lingering.release_due(9, push));
        assert_eq!((lingering.take(first), lingering.take(first)), (Some(1), None));
        assert!(!lingering.is_empty());
        assert!(lingering.release_due(20, push) && lingering.is_empty());
        assert_eq!(*pushed.borrow(), [3, 2]);
    }

    #[test]
    fn the_oldest_is_found_before_those_that_cannot_be_older_are_looked_at() {
        let lingering = Lingering::new();
        for (task, since, due) in [(1, 5, 15), (2, 3, 13), (3, 1, 21), (4, 9, 29), (5, 2, 40)] {
            add(&lingering, task, since, due);
        }
        let seen = std::cell::RefCell::new(Vec::new());
        let waits = |task: &u32| {
            seen.borrow_mut().push(*task);
            *task != 5
        };
        assert_eq!(lingering.oldest(waits), Some(1));
        assert_eq!(*seen.borrow(), [2, 1, 3, 4]);
    }

    #[test]
    fn those_that_came_later_stay() {
        let lingering = Lingering::new();
        add(&lingering, 1, 5, 10);
        add(&lingering, 2, 6, 20);
        assert_eq!(lingering.take_since(5), [1]);
        assert!(lingering.take_since(5).is_empty() && !lingering.is_empty());
        assert_eq!(lingering.take_since(6), [2]);
    }
}
