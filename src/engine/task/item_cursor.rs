//! Many small tasks behind one entry of a lane, claimed one by one by every worker that has time.
//!
//! A batch has a [word](super::TaskWord) like any task. It is `WAITING` or `RETRY_WAITS` while its
//! entry stands in a lane, `RUNNING` while workers claim its items and no entry is there, and
//! `FINISHED` once no worker can claim an item any more. Putting the entry back invites one more
//! worker. An item counts as a task of its own from the submit on: in the gate, in the bound, in
//! the counters. The host makes a task of an item that is not plain (it needs a retry, or a
//! judgement).

use crate::engine::clock::Tick;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex};
use std::collections::BTreeMap;
use std::ops::Range;

/// A worker writes down what it did about this often.
pub(in crate::engine) const CHUNK_TIME: Tick = 20_000;
/// It does so after so many items even if they are quicker than anything.
const MAX_CHUNK_ITEMS: u64 = 256;
/// After an item that took so long lately the worker looks at the clock: the next may take longer.
const SLOW_ITEM: Tick = 1_000;
/// After so many quicker items the worker does so too. A look after each would cost a fifth of what
/// is done for one.
const QUICK_ITEMS: u64 = 8;
/// How long one of the items of a kind takes, lately. Shared by the batches of one call.
#[derive(Debug, Default)]
pub struct ItemCost {
    /// Nanoseconds; zero when nothing is known. Relaxed: an estimate, of which a lost update is no
    /// harm.
    span: AtomicU64,
}

impl ItemCost {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nanoseconds of one item, at least one.
    pub fn get(&self) -> Option<Tick> {
        Some(self.span.load(Ordering::Relaxed)).filter(|span| *span > 0)
    }

    /// Says that items take long, against what was measured: one of them does not come to an end.
    pub fn raise(&self, span: Tick) {
        self.span.fetch_max(span, Ordering::Relaxed);
    }

    pub(in crate::engine) fn observe(&self, span: Tick) {
        let next = self.get().map_or(span, |before| before.midpoint(span));
        self.span.store(next.max(1), Ordering::Relaxed);
    }
}

/// Which items of a batch are claimed. A claimed item belongs to the thread alone that claimed it.
#[derive(Debug)]
pub struct ItemCursor {
    /// Its number among the batches of its engine. Written by the submitter, before a worker knows
    /// of the batch.
    number: AtomicU64,
    /// The first item that is not claimed. Beyond `size` by as many claims as came too late.
    next: AtomicUsize,
    size: usize,
    /// So many items are run by one call, or fewer.
    group: usize,
    pub(in crate::engine) since: Tick,
    pub(in crate::engine) cost: Arc<ItemCost>,
}

impl ItemCursor {
    /// The items of a batch that is queued now.
    pub fn new(size: usize, since: Tick, cost: Arc<ItemCost>) -> Self {
        let (number, next) = (AtomicU64::new(0), AtomicUsize::new(0));
        Self { number, next, size, group: 1, since, cost }
    }

    /// The same, of which so many are run by one call.
    #[must_use]
    pub fn in_groups(self, group: usize) -> Self {
        Self { group, ..self }
    }

    pub(in crate::engine) fn group(&self) -> usize {
        self.group
    }

    /// How long an item has waited that starts now.
    pub fn waited(&self, now: Tick) -> Tick {
        now.saturating_sub(self.since)
    }

    /// How many items are not claimed.
    pub fn left(&self) -> usize {
        self.size.saturating_sub(self.next.load(Ordering::Acquire))
    }

    pub(in crate::engine) fn claim(&self) -> Option<usize> {
        // The look before keeps the number from growing without end.
        if self.left() == 0 {
            return None;
        }
        let item = self.next.fetch_add(1, Ordering::AcqRel);
        (item < self.size).then_some(item)
    }

    /// Claims all that is left, so that no worker starts it.
    pub(in crate::engine) fn claim_rest(&self) -> Range<usize> {
        let first = self.next.swap(usize::MAX / 2, Ordering::AcqRel);
        first.min(self.size)..self.size
    }

    pub(in crate::engine) fn chunk(&self) -> u64 {
        if self.group > 1 {
            return self.group as u64;
        }
        self.cost.get().map_or(1, |span| (CHUNK_TIME / span).clamp(1, MAX_CHUNK_ITEMS))
    }

    /// After how many items the clock is looked at.
    pub(in crate::engine) fn between_looks(&self) -> u64 {
        if self.group > 1 {
            // They are claimed one by one, and run all at once.
            return self.group as u64;
        }
        if self.cost.get().is_none_or(|span| span >= SLOW_ITEM) { 1 } else { QUICK_ITEMS }
    }
}

/// Every batch of an engine that a worker may still claim an item of, wherever it is: in a lane, at
/// a worker, or on its way from one to the other. So the thread that kills the runner, and settles
/// what waits, misses none.
#[derive(Debug)]
pub(in crate::engine) struct Batches<T> {
    state: Mutex<BatchList<T>>,
}

#[derive(Debug)]
struct BatchList<T> {
    /// How many ever were: it numbers the next one.
    count: u64,
    tasks: BTreeMap<u64, T>,
}

impl<T> Batches<T> {
    pub(in crate::engine) fn new() -> Self {
        Self { state: Mutex::new(BatchList { count: 0, tasks: BTreeMap::new() }) }
    }

    /// Adds a batch, with a handle of the list's own.
    pub(in crate::engine) fn add(&self, cursor: &ItemCursor, task: T) {
        let mut state = self.state.lock();
        state.count += 1;
        let number = state.count;
        // Relaxed: the batch is handed on by the lanes, or found here under the lock.
        cursor.number.store(number, Ordering::Relaxed);
        state.tasks.insert(number, task);
    }

    pub(in crate::engine) fn remove(&self, cursor: &ItemCursor) -> Option<T> {
        self.state.lock().tasks.remove(&cursor.number.load(Ordering::Relaxed))
    }

    /// Since when the first batch waits of which no worker has claimed all.
    pub(in crate::engine) fn oldest(
        &self,
        cursor: impl Fn(&T) -> Option<&ItemCursor>,
    ) -> Option<Tick> {
        let waits = |task| cursor(task).filter(|c| c.left() > 0).map(|c| c.since);
        self.state.lock().tasks.values().find_map(waits)
    }

    /// Handles on the batches that `is_meant` picks. `share` makes them and does nothing else, as
    /// the lock is held.
    pub(in crate::engine) fn all(
        &self,
        is_meant: impl Fn(&T) -> bool,
        share: impl Fn(&T) -> T,
    ) -> Vec<T> {
        let state = self.state.lock();
        state.tasks.values().filter(|task| is_meant(task)).map(share).collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn cursor(size: usize) -> ItemCursor {
        ItemCursor::new(size, 0, Arc::new(ItemCost::new()))
    }

    #[test]
    fn an_item_is_claimed_once_and_what_is_withdrawn_never() {
        let cursor = cursor(4);
        assert_eq!([cursor.claim(), cursor.claim()], [Some(0), Some(1)]);
        assert_eq!(cursor.left(), 2);
        assert_eq!(cursor.claim_rest(), 2..4);
        assert_eq!((cursor.claim(), cursor.left()), (None, 0));
        assert!(cursor.claim_rest().is_empty());
    }

    #[test]
    fn a_chunk_is_one_item_until_something_is_known_and_short_when_items_are_long() {
        let cursor = cursor(1_000);
        assert_eq!(cursor.chunk(), 1);
        cursor.cost.observe(1_000);
        assert_eq!(cursor.chunk(), 20);
        cursor.cost.raise(CHUNK_TIME);
        assert_eq!(cursor.chunk(), 1);
        for _ in 0..40 {
            cursor.cost.observe(1);
        }
        assert_eq!(cursor.chunk(), MAX_CHUNK_ITEMS);
    }
}
