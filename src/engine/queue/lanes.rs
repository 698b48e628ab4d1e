//! The waiting tasks: three strict priorities, first in first out within each, retries first.

use crate::engine::clock::Tick;
use crate::engine::resource::epochs::{self, Eligibility, FailureEpoch};
use crate::engine::task::priority::Priority;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::channel::{Receiver, Sender, unbounded};
use crate::sync::{CachePadded, Mutex};
use std::collections::VecDeque;

/// One waiting task and when it began to wait.
#[derive(Debug)]
pub struct Entry<T> {
    /// The task; it may have been cancelled since, its claim tells.
    pub task: T,
    /// When this wait began: the submit, or the end of the attempt before.
    pub since: Tick,
    /// The failure that the attempt before ran into; [`epochs::NO_FAILURE`] if there was none.
    pub failure_epoch: FailureEpoch,
}

impl<T> Entry<T> {
    /// A task that did not fail.
    pub fn fresh(task: T, since: Tick) -> Self {
        Self { task, since, failure_epoch: epochs::NO_FAILURE }
    }
}

/// An [`Entry`] that did not fail, as most, in less room.
#[derive(Debug)]
struct Fresh<T> {
    task: T,
    since: Tick,
}

impl<T> From<Fresh<T>> for Entry<T> {
    fn from(Fresh { task, since }: Fresh<T>) -> Self {
        Self::fresh(task, since)
    }
}

#[derive(Debug)]
struct Channel<T> {
    sender: Sender<Fresh<T>>,
    receiver: Receiver<Fresh<T>>,
}

impl<T> Channel<T> {
    fn new() -> Self {
        let (sender, receiver) = unbounded();
        Self { sender, receiver }
    }

    fn push(&self, fresh: Fresh<T>) {
        // Both ends live in this struct, so the channel cannot be disconnected here.
        let sent = self.sender.send(fresh);
        debug_assert!(sent.is_ok());
    }

    fn pop(&self) -> Option<Fresh<T>> {
        // An empty `try_recv` costs a full fence, an empty `is_empty` two loads; most lanes are
        // empty.
        if self.receiver.is_empty() { None } else { self.receiver.try_recv().ok() }
    }
}

/// What a compaction left over of the fresh tasks of a lane, or the one that a look at the oldest
/// found: older than all that are fresh now.
#[derive(Debug)]
struct Compacted<T> {
    /// Whether there are any, or a compaction is under way. Written under the lock. `SeqCst`, like
    /// the channels: set before a compaction takes the first fresh entry. So no entry is ever in
    /// neither place for a worker that looks at the fresh ones first and here second.
    some: AtomicBool,
    entries: Mutex<VecDeque<Fresh<T>>>,
}

impl<T> Compacted<T> {
    fn new() -> Self {
        Self { some: AtomicBool::new(false), entries: Mutex::new(VecDeque::new()) }
    }

    fn any(&self) -> bool {
        self.some.load(Ordering::SeqCst)
    }

    fn pop(&self) -> Option<Fresh<T>> {
        if !self.any() {
            return None;
        }
        let mut entries = self.entries.lock();
        let first = entries.pop_front();
        self.settle(&mut entries);
        first
    }

    /// Takes the first of so many that `is_mine`, or else the first.
    fn pop_own(
        &self,
        fresh: &Channel<T>,
        most: usize,
        is_mine: impl Fn(&T) -> bool,
    ) -> Option<Fresh<T>> {
        let mut entries = self.entries.lock();
        self.some.store(true, Ordering::SeqCst);
        let missing = most.saturating_sub(entries.len());
        entries.extend((0..missing).map_while(|_| fresh.pop()));
        let own = entries.iter().take(most).position(|entry| is_mine(&entry.task));
        let taken = entries.remove(own.unwrap_or(0));
        self.settle(&mut entries);
        taken
    }

    /// Takes what `live` rejects out of the compacted ones and the fresh ones, which become
    /// compacted ones.
    fn compact(&self, fresh: &Channel<T>, live: impl Fn(&T, Tick) -> bool) -> Vec<T> {
        let mut entries = self.entries.lock();
        self.some.store(true, Ordering::SeqCst);
        let mut dead = Vec::new();
        let old = std::mem::take(&mut *entries);
        // Those that come in meanwhile stay fresh.
        let new = (0..fresh.receiver.len()).map_while(|_| fresh.pop());
        for entry in old.into_iter().chain(new) {
            if live(&entry.task, entry.since) {
                entries.push_back(entry);
            } else {
                dead.push(entry.task);
            }
        }
        self.settle(&mut entries);
        dead
    }

    /// Since when the oldest entry waits that `is_live`; those before it are taken out. The entry
    /// stays here, in front of the fresh ones, so that the next look costs as little.
    fn oldest(
        &self,
        fresh: &Channel<T>,
        is_live: impl Fn(&T) -> bool,
        dead: &mut Vec<T>,
    ) -> Option<Tick> {
        let mut entries = self.entries.lock();
        self.some.store(true, Ordering::SeqCst);
        while let Some(entry) = entries.pop_front().or_else(|| fresh.pop()) {
            if is_live(&entry.task) {
                entries.push_front(entry);
                break;
            }
            dead.push(entry.task);
        }
        self.settle(&mut entries);
        entries.front().map(|entry| entry.since)
    }

    fn settle(&self, entries: &mut VecDeque<Fresh<T>>) {
        if entries.is_empty() {
            // A compaction of many may have left much room.
            *entries = VecDeque::new();
            self.some.store(false, Ordering::SeqCst);
        }
    }
}

/// The retries of a lane, in the order in which they failed. They are few: one for each worker,
/// more or less.
#[derive(Debug)]
struct Retries<T> {
    /// Whether there are any. Written under the lock. `SeqCst`, like the channels.
    some: AtomicBool,
    /// How often a retry came, or was released to any worker. Raised under the lock, and before
    /// `some` is set.
    arrivals: AtomicU64,
    waiting: Mutex<VecDeque<Retry<T>>>,
}

#[derive(Debug)]
struct Retry<T> {
    entry: Entry<T>,
    /// A worker that may not take it validates its resource for it, or did.
    validation_claimed: bool,
}

impl<T> Retry<T> {
    fn is_for(&self, eligibility: Eligibility) -> bool {
        eligibility.covers(self.entry.failure_epoch, self.entry.since)
    }
}

impl<T> Retries<T> {
    fn new() -> Self {
        let waiting = Mutex::new(VecDeque::new());
        Self { some: AtomicBool::new(false), arrivals: AtomicU64::new(0), waiting }
    }

    fn any(&self) -> bool {
        self.some.load(Ordering::SeqCst)
    }

    fn push(&self, entry: Entry<T>) {
        let mut waiting = self.waiting.lock();
        waiting.push_back(Retry { entry, validation_claimed: false });
        self.arrivals.fetch_add(1, Ordering::SeqCst);
        self.some.store(true, Ordering::SeqCst);
    }

    /// Releases the retries of this failure to any worker; false when none waits here.
    fn release_retry(&self, failure_epoch: FailureEpoch) -> bool {
        let release = |waiting: &mut VecDeque<Retry<T>>| {
            let is_its = |retry: &&mut Retry<T>| retry.entry.failure_epoch == failure_epoch;
            let released = waiting.iter_mut().filter(is_its).map(|retry| {
                retry.entry.failure_epoch = epochs::INITIAL_EPOCH;
            });
            let released = released.count();
            self.arrivals.fetch_add(released as u64, Ordering::SeqCst);
            released > 0
        };
        self.with(release).unwrap_or(false)
    }

    /// What `with` makes of the retries; `None` while there are none.
    fn with<R>(&self, with: impl FnOnce(&mut VecDeque<Retry<T>>) -> R) -> Option<R> {
        if !self.any() {
            return None;
        }
        let mut waiting = self.waiting.lock();
        let made = with(&mut waiting);
        if waiting.is_empty() {
            self.some.store(false, Ordering::SeqCst);
        }
        Some(made)
    }

    fn pop(&self, eligibility: impl Fn() -> Eligibility) -> Option<Entry<T>> {
        if !self.any() {
            return None;
        }
        // Before the lock: it looks at a clock, and under another one.
        let eligibility = eligibility();
        self.with(|waiting| {
            let place = waiting.iter().position(|retry| retry.is_for(eligibility))?;
            waiting.remove(place).map(|retry| retry.entry)
        })?
    }

    fn has(&self, which: impl Fn(&Retry<T>) -> bool) -> bool {
        self.with(|waiting| waiting.iter().any(which)).unwrap_or(false)
    }

    /// Marks the first retry that `which` picks; false when there is none.
    fn mark(&self, which: impl Fn(&Retry<T>) -> bool, mark: impl FnOnce(&mut Retry<T>)) -> bool {
        let marked = |waiting: &mut VecDeque<Retry<T>>| {
            waiting.iter_mut().find(|retry| which(retry)).map(mark).is_some()
        };
        self.with(marked).unwrap_or(false)
    }
}

#[derive(Debug)]
struct Lane<T> {
    /// What was accepted before, so that a push here cannot be refused.
    retries: Retries<T>,
    compacted: Compacted<T>,
    /// Everything else.
    fresh: Channel<T>,
}

impl<T> Lane<T> {
    fn pop(&self, eligibility: impl Fn() -> Eligibility) -> Option<Entry<T>> {
        let fresh = || self.compacted.pop().or_else(|| self.fresh.pop()).map(Entry::from);
        self.retries.pop(eligibility).or_else(fresh)
    }

    fn pop_own(
        &self,
        eligibility: impl Fn() -> Eligibility,
        most: usize,
        is_mine: impl Fn(&T) -> bool,
    ) -> Option<Entry<T>> {
        let own = || self.compacted.pop_own(&self.fresh, most, is_mine).map(Entry::from);
        self.retries.pop(eligibility).or_else(|| if self.has_fresh() { own() } else { None })
    }

    fn is_empty(&self) -> bool {
        !self.retries.any() && !self.has_fresh()
    }

    fn has_fresh(&self) -> bool {
        // In this order: see `Compacted::some`.
        !self.fresh.receiver.is_empty() || self.compacted.any()
    }

    fn has_arrivals(&self, seen: u64) -> bool {
        self.has_fresh()
            || self.retries.any() && self.retries.arrivals.load(Ordering::SeqCst) != seen
    }

    fn has_for(&self, eligibility: impl Fn() -> Eligibility) -> bool {
        self.has_retry_for(eligibility) || self.has_fresh()
    }

    fn has_retry_for(&self, eligibility: impl Fn() -> Eligibility) -> bool {
        self.retries.any() && {
            let eligibility = eligibility();
            self.retries.has(|retry| retry.is_for(eligibility))
        }
    }

    fn fresh_len(&self) -> usize {
        let compacted = if self.compacted.any() { self.compacted.entries.lock().len() } else { 0 };
        compacted + self.fresh.receiver.len()
    }
}

/// What a worker has looked at; see [`Lanes::arrival_mark`].
#[derive(Debug, Clone, Copy)]
pub struct ArrivalMark {
    high: u64,
    /// Retries of the priority [`Priority::Normal`].
    normal: u64,
}

/// Three lanes of unbounded queues; bounds are [`Permits`](super::permits::Permits).
#[derive(Debug)]
pub struct Lanes<T> {
    by_priority: [Lane<T>; Priority::COUNT],
    /// How many held retries ever came: retries that not every worker may take. `SeqCst`: raised
    /// before workers are woken for one, read by workers that fall asleep.
    held_retries: AtomicU64,
    /// How often a task of the highest priority came, or a retry of that priority was released to
    /// any worker. `SeqCst`: raised after it is there; a worker notes this number, looks at the
    /// lanes, and looks at the number again later.
    high: CachePadded<AtomicU64>,
}

impl<T> Lanes<T> {
    /// Empty lanes.
    pub fn new() -> Self {
        let lane = |_| Lane {
            retries: Retries::new(),
            compacted: Compacted::new(),
            fresh: Channel::new(),
        };
        let high = CachePadded::new(AtomicU64::new(0));
        Self { by_priority: Priority::ALL.map(lane), held_retries: AtomicU64::new(0), high }
    }

    fn note_arrival(&self, priority: Priority) {
        if priority == Priority::High {
            self.high.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Appends a task that was just accepted.
    pub fn push(&self, priority: Priority, task: T, since: Tick) {
        self.by_priority[priority as usize].fresh.push(Fresh { task, since });
        self.note_arrival(priority);
    }

    /// Puts a task that is to be tried again, or a batch that goes on, before everything fresh of
    /// its priority.
    pub fn push_front(&self, priority: Priority, entry: Entry<T>) {
        let is_held = entry.failure_epoch > epochs::INITIAL_EPOCH;
        self.by_priority[priority as usize].retries.push(entry);
        self.note_arrival(priority);
        if is_held {
            self.held_retries.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Takes the most urgent entry that a worker with this `eligibility` may take; the
    /// `eligibility` is asked for when there are retries. `None` while other threads pop or compact
    /// is no proof that nothing is left; [`is_empty`](Self::is_empty) is.
    pub fn pop(&self, eligibility: impl Fn() -> Eligibility) -> Option<Entry<T>> {
        self.by_priority.iter().rev().find_map(|lane| lane.pop(&eligibility))
    }

    /// [`pop`](Self::pop) that looks at the first `most` fresh entries of a priority: it takes the
    /// first that `is_mine`, which only looks, as a lock is held, and else the first. The others are
    /// moved, as in a compaction.
    pub fn pop_own(
        &self,
        eligibility: impl Fn() -> Eligibility,
        most: usize,
        is_mine: impl Fn(&T) -> bool,
    ) -> Option<Entry<T>> {
        let pop = |lane: &Lane<T>| lane.pop_own(&eligibility, most, &is_mine);
        self.by_priority.iter().rev().find_map(pop)
    }

    /// [`pop`](Self::pop) of retries alone.
    pub fn pop_retry(&self, eligibility: impl Fn() -> Eligibility) -> Option<Entry<T>> {
        self.by_priority.iter().rev().find_map(|lane| lane.retries.pop(&eligibility))
    }

    /// Whether nothing waits, tombstones included.
    pub fn is_empty(&self) -> bool {
        self.by_priority.iter().all(Lane::is_empty)
    }

    /// Whether anything waits that a worker with this `eligibility` may take.
    pub fn has_for(&self, eligibility: impl Fn() -> Eligibility) -> bool {
        self.by_priority.iter().any(|lane| lane.has_for(&eligibility))
    }

    /// Whether a retry waits that a worker with this `eligibility` may take.
    pub fn has_retry_for(&self, eligibility: impl Fn() -> Eligibility) -> bool {
        self.by_priority.iter().any(|lane| lane.has_retry_for(&eligibility))
    }

    /// Whether something more urgent than this priority waits that a worker with this `eligibility`
    /// may take. The caller has `seen` what there is right before: where nothing urgent ever came, as
    /// in most runners, it looks at no lane. That buys 65 instructions of an item of the row *map*.
    pub fn has_above_for(
        &self,
        priority: Priority,
        seen: &ArrivalMark,
        eligibility: impl Fn() -> Eligibility,
    ) -> bool {
        if priority == Priority::Normal && seen.high == 0 {
            return false;
        }
        self.by_priority[priority as usize + 1..].iter().any(|lane| lane.has_for(&eligibility))
    }

    /// Notes what there is. A worker that looks next, with [`has_above_for`](Self::has_above_for),
    /// whether it may take any of that need not look at the same again for a while.
    pub fn arrival_mark(&self) -> ArrivalMark {
        let normal = &self.by_priority[Priority::Normal as usize];
        ArrivalMark {
            high: self.high.load(Ordering::SeqCst),
            normal: normal.retries.arrivals.load(Ordering::SeqCst),
        }
    }

    /// Whether something more urgent than this priority has come since, or for the lowest priority
    /// is there. A worker asks between two quick items: a load and no more but for the lowest
    /// priority.
    #[inline]
    pub fn has_arrivals_above(&self, priority: Priority, seen: &ArrivalMark) -> bool {
        match priority {
            Priority::High => false,
            Priority::Normal => self.high.load(Ordering::SeqCst) != seen.high,
            Priority::Low => {
                self.high.load(Ordering::SeqCst) != seen.high
                    || self.by_priority[Priority::Normal as usize].has_arrivals(seen.normal)
            }
        }
    }

    /// How many entries wait, tombstones included. Waits for a compaction under way.
    pub fn len(&self) -> usize {
        let retries = |lane: &Lane<T>| lane.retries.with(|waiting| waiting.len()).unwrap_or(0);
        self.by_priority.iter().map(retries).sum::<usize>() + self.fresh_len()
    }

    /// How many of them are no retries.
    pub fn fresh_len(&self) -> usize {
        self.by_priority.iter().map(Lane::fresh_len).sum()
    }

    /// Since when the entry waits that has waited longest, retries left out, and the tombstones
    /// found in front of it, taken out: what is not `is_live`. Of the retries those count that have
    /// `never_started`. Costs the same however many wait.
    ///
    /// As in a compaction a lock is held meanwhile, under which both only look, and a pop that is
    /// under way may overtake the one entry that is moved.
    pub fn oldest(
        &self,
        is_live: impl Fn(&T) -> bool,
        never_started: impl Fn(&T) -> bool,
    ) -> (Option<Tick>, Vec<T>) {
        let mut dead = Vec::new();
        let oldest = |lane: &Lane<T>| {
            // Not retried, but handed over by another queue, oldest first.
            let adopted = |waiting: &mut VecDeque<Retry<T>>| {
                let first = waiting.iter().find(|retry| never_started(&retry.entry.task));
                first.map(|retry| retry.entry.since)
            };
            let fresh = || lane.compacted.oldest(&lane.fresh, &is_live, &mut dead);
            let fresh = lane.has_fresh().then(fresh).flatten();
            lane.retries.with(adopted).flatten().into_iter().chain(fresh).min()
        };
        let oldest = self.by_priority.iter().filter_map(oldest).min();
        (oldest, dead)
    }

    /// Takes out what stands in front of the first fresh entry of a priority that `waits`; as in
    /// [`oldest`](Self::oldest).
    pub fn take_tombstones(&self, priority: Priority, waits: impl Fn(&T) -> bool) -> Vec<T> {
        let (lane, mut dead) = (&self.by_priority[priority as usize], Vec::new());
        if lane.has_fresh() {
            lane.compacted.oldest(&lane.fresh, waits, &mut dead);
        }
        dead
    }

    /// How many held retries ever came: retries that not every worker may take.
    pub fn held_retries(&self) -> u64 {
        self.held_retries.load(Ordering::SeqCst)
    }

    /// Since when the retry waits that has waited longest.
    pub fn oldest_retry(&self) -> Option<Tick> {
        let oldest = |waiting: &mut VecDeque<Retry<T>>| waiting.iter().map(|r| r.entry.since).min();
        self.by_priority.iter().filter_map(|lane| lane.retries.with(oldest)?).min()
    }

    /// Whether the retry of this failure waits.
    pub fn has_retry(&self, failure_epoch: FailureEpoch) -> bool {
        self.by_priority
            .iter()
            .any(|lane| lane.retries.has(|retry| retry.entry.failure_epoch == failure_epoch))
    }

    /// Releases the retry of this failure to any worker; false when it does not wait here.
    pub fn release_retry(&self, failure_epoch: FailureEpoch) -> bool {
        // All of them: the tasks of a joint call fail together, whatever their priorities.
        let release = |priority: &Priority| {
            let released =
                self.by_priority[*priority as usize].retries.release_retry(failure_epoch);
            if released {
                self.note_arrival(*priority);
            }
            released
        };
        Priority::ALL.iter().filter(|priority| release(priority)).count() > 0
    }

    /// Moves a retry to the end of the retries of a higher priority; false when it does not wait here.
    pub fn raise_retry(&self, from: Priority, to: Priority, is_it: impl Fn(&T) -> bool) -> bool {
        let take = |waiting: &mut VecDeque<Retry<T>>| {
            let place = waiting.iter().position(|retry| is_it(&retry.entry.task))?;
            waiting.remove(place)
        };
        let taken = self.by_priority[from as usize].retries.with(take).flatten();
        let is_here = taken.is_some();
        if let Some(retry) = taken {
            self.push_front(to, retry.entry);
        }
        is_here
    }

    /// Whether a retry waits for which no worker validates its resource.
    pub fn has_retry_to_validate(&self) -> bool {
        self.by_priority.iter().any(|lane| lane.retries.has(|retry| !retry.validation_claimed))
    }

    /// Claims one of those retries for the caller, a worker that validates its resource next; false
    /// when there is none.
    pub fn claim_validation(&self) -> bool {
        let is_free = |retry: &Retry<T>| !retry.validation_claimed;
        let claim = |retry: &mut Retry<T>| retry.validation_claimed = true;
        self.by_priority.iter().rev().any(|lane| lane.retries.mark(is_free, claim))
    }

    /// Takes out the retries of a priority that `live` rejects, which is told since when they wait.
    /// A lock is held meanwhile, under which `live` only looks.
    pub fn compact_retries(&self, priority: Priority, live: impl Fn(&T, Tick) -> bool) -> Vec<T> {
        let compact = |waiting: &mut VecDeque<Retry<T>>| {
            let (alive, dead) = std::mem::take(waiting)
                .into_iter()
                .partition::<VecDeque<_>, _>(|retry| live(&retry.entry.task, retry.entry.since));
            *waiting = alive;
            dead.into_iter().map(|retry| retry.entry.task).collect()
        };
        self.by_priority[priority as usize].retries.with(compact).unwrap_or_default()
    }

    /// Takes out the entries of a priority that `live` rejects, which is told since when they wait,
    /// keeping the order of the rest, but for retries.
    ///
    /// A lock is held meanwhile, under which `live` only looks: pops of this priority wait for it,
    /// but for one that is under way as it begins, which may overtake.
    pub fn compact(&self, priority: Priority, live: impl Fn(&T, Tick) -> bool) -> Vec<T> {
        let lane = &self.by_priority[priority as usize];
        lane.compacted.compact(&lane.fresh, live)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn retry(task: u32, failure_epoch: FailureEpoch) -> Entry<u32> {
        Entry { task, since: u64::from(task), failure_epoch }
    }

    fn drain(lanes: &Lanes<u32>) -> Vec<u32> {
        std::iter::from_fn(|| lanes.pop(|| Eligibility::ANY).map(|e| e.task)).collect()
    }

    fn known_good_since(known_good_since: FailureEpoch) -> impl Fn() -> Eligibility {
        move || Eligibility { known_good_since, held_since: None }
    }

    #[test]
    fn takes_the_highest_priority_first_and_keeps_order_within_it() {
        let lanes = Lanes::new();
        for (priority, task) in [
            (Priority::Low, 1),
            (Priority::Normal, 2),
            (Priority::High, 3),
            (Priority::Low, 4),
            (Priority::Normal, 5),
            (Priority::High, 6),
        ] {
            lanes.push(priority, task, 0);
        }
        assert_eq!(drain(&lanes), [3, 6, 2, 5, 1, 4]);
        assert!(lanes.is_empty());
    }

    #[test]
    fn a_retry_goes_before_fresh_tasks_of_its_priority_only() {
        let lanes = Lanes::new();
        lanes.push(Priority::Normal, 1, 0);
        lanes.push_front(Priority::Normal, retry(2, 2));
        lanes.push(Priority::High, 3, 0);
        assert_eq!(drain(&lanes), [3, 2, 1]);
    }

    #[test]
    fn compacting_keeps_the_order_of_what_lives() {
        let lanes = Lanes::new();
        for task in 0..10 {
            lanes.push(Priority::Normal, task, 0);
        }
        assert_eq!(lanes.compact(Priority::Normal, |task, _| task % 3 == 0), [1, 2, 4, 5, 7, 8]);
        lanes.push(Priority::Normal, 10, 0);
        assert_eq!(drain(&lanes), [0, 3, 6, 9, 10]);
        assert!(lanes.is_empty());
    }

    #[test]
    fn what_a_compaction_left_is_compacted_again_and_stays_behind_retries() {
        let lanes = Lanes::new();
        for task in 0..6 {
            lanes.push(Priority::Low, task, 0);
        }
        assert_eq!(lanes.compact(Priority::Low, |task, _| *task > 1), [0, 1]);
        lanes.push(Priority::Low, 6, 0);
        lanes.push_front(Priority::Low, retry(7, 2));
        assert_eq!(lanes.compact(Priority::Low, |task, _| *task % 2 == 0), [3, 5]);
        assert_eq!(lanes.len(), 4);
        assert_eq!(drain(&lanes), [7, 2, 4, 6]);
        assert_eq!(lanes.len(), 0);
    }

    #[test]
    fn the_oldest_is_found_at_once_however_many_wait_and_the_order_stays() {
        const COUNT: u32 = if cfg!(miri) { 1_000 } else { 10_000_000 };
        let lanes = Lanes::new();
        for task in 0..COUNT {
            lanes.push(Priority::Low, task, u64::from(task));
        }
        lanes.push(Priority::High, COUNT, u64::from(COUNT));
        let looks = Cell::new(0);
        let waits = |task: &u32| {
            looks.set(looks.get() + 1);
            *task >= 2
        };
        assert_eq!(lanes.oldest(waits, |_| true), (Some(2), vec![0, 1]));
        assert_eq!(lanes.oldest(waits, |_| true), (Some(2), vec![]));
        assert_eq!(looks.get(), 6);
        assert_eq!(lanes.len(), COUNT as usize - 1);
        let first: Vec<_> =
            (0..3).filter_map(|_| lanes.pop(|| Eligibility::ANY).map(|e| e.task)).collect();
        assert_eq!(first, [COUNT, 2, 3]);
        assert_eq!(lanes.oldest(|_| true, |_| true), (Some(4), vec![]));
    }

    #[test]
    fn retries_are_not_the_oldest_but_what_another_queue_handed_over_is() {
        let lanes = Lanes::new();
        lanes.push(Priority::Normal, 5, 5);
        lanes.push_front(Priority::Normal, retry(1, 7));
        lanes.push_front(Priority::High, retry(3, epochs::INITIAL_EPOCH));
        assert_eq!(lanes.oldest(|_| true, |task| *task != 1), (Some(3), vec![]));
        assert_eq!(lanes.oldest(|_| true, |_| false), (Some(5), vec![]));
        assert_eq!(lanes.oldest(|_| false, |_| false), (None, vec![5]));
        assert_eq!(lanes.len(), 2);
    }

    #[test]
    fn is_never_empty_while_a_compaction_holds_the_last_entry() {
        let lanes = Lanes::new();
        lanes.push(Priority::High, 1, 0);
        let dead = lanes.compact(Priority::High, |_, _| {
            assert!(!lanes.is_empty());
            true
        });
        assert!(dead.is_empty());
        assert_eq!(drain(&lanes), [1]);
    }

    #[test]
    fn a_retry_waits_for_a_good_resource_and_others_pass_it() {
        let lanes = Lanes::new();
        lanes.push(Priority::Normal, 1, 0);
        lanes.push_front(Priority::Normal, retry(5, 5));
        lanes.push_front(Priority::Normal, retry(3, 3));
        lanes.push_front(Priority::Normal, retry(4, 4));
        assert!(lanes.has_for(known_good_since(2)));
        assert_eq!(lanes.pop(known_good_since(2)).map(|e| e.task), Some(1));
        assert!(!lanes.has_for(known_good_since(2)) && !lanes.is_empty());
        assert!(lanes.pop(known_good_since(2)).is_none());
        assert_eq!(lanes.pop(known_good_since(4)).map(|e| e.task), Some(3));
        assert_eq!(lanes.len(), 2);
        assert_eq!(drain(&lanes), [5, 4]);
        assert!(lanes.is_empty());
    }

    #[test]
    fn a_retry_held_for_long_or_left_behind_is_anybodys() {
        let lanes = Lanes::new();
        lanes.push_front(Priority::Low, retry(7, 7));
        lanes.push_front(Priority::High, retry(8, 8));
        assert_eq!(lanes.oldest_retry(), Some(7));
        let held = || Eligibility { known_good_since: 2, held_since: Some(7) };
        assert_eq!(lanes.pop(held).map(|e| e.task), Some(7));
        assert!(lanes.pop(held).is_none());
        assert!(
            lanes.has_retry(8)
                && !lanes.release_retry(9)
                && lanes.release_retry(8)
                && !lanes.has_retry(8)
        );
        assert_eq!(lanes.pop(|| Eligibility::NONE).map(|e| e.task), Some(8));
        assert_eq!(lanes.oldest_retry(), None);
        assert_eq!(lanes.held_retries(), 2);
    }

    #[test]
    fn a_retry_that_was_not_for_the_caller_is_no_news_until_another_comes_or_it_is_opened() {
        let lanes = Lanes::new();
        let arrivals = |seen: &ArrivalMark| lanes.has_arrivals_above(Priority::Normal, seen);
        lanes.push_front(Priority::High, retry(1, 7));
        let seen = lanes.arrival_mark();
        assert!(!arrivals(&seen));
        lanes.push_front(Priority::Normal, retry(2, 8));
        assert!(!arrivals(&seen), "as urgent is not more urgent");
        lanes.push_front(Priority::High, retry(3, 9));
        assert!(arrivals(&seen) && !arrivals(&lanes.arrival_mark()));
        let seen = lanes.arrival_mark();
        assert!(lanes.release_retry(7) && arrivals(&seen));
        let seen = lanes.arrival_mark();
        lanes.push(Priority::High, 4, 0);
        assert!(arrivals(&seen) && !lanes.has_arrivals_above(Priority::High, &seen));
    }

    #[test]
    fn what_is_above_the_lowest_priority_is_news_to_it_as_long_as_it_is_there() {
        let lanes = Lanes::new();
        lanes.push_front(Priority::Normal, retry(1, 7));
        let seen = lanes.arrival_mark();
        assert!(!lanes.has_arrivals_above(Priority::Low, &seen));
        lanes.push_front(Priority::Normal, retry(2, 8));
        assert!(lanes.has_arrivals_above(Priority::Low, &seen));
        let seen = lanes.arrival_mark();
        lanes.push(Priority::Normal, 3, 0);
        assert!(lanes.has_arrivals_above(Priority::Low, &seen));
        assert!(!lanes.has_arrivals_above(Priority::Normal, &seen));
    }

    #[test]
    fn each_retry_is_looked_after_once() {
        let lanes = Lanes::new();
        assert!(!lanes.has_retry_to_validate() && !lanes.claim_validation());
        lanes.push_front(Priority::Low, retry(1, 2));
        lanes.push_front(Priority::High, retry(2, 3));
        assert!(lanes.claim_validation() && lanes.has_retry_to_validate());
        assert!(lanes.claim_validation() && !lanes.has_retry_to_validate());
        assert!(!lanes.claim_validation());
    }

    #[test]
    fn dead_retries_are_compacted_out_in_their_order() {
        let lanes = Lanes::new();
        for task in 1..6 {
            lanes.push_front(Priority::Normal, retry(task, 2));
        }
        lanes.push(Priority::Normal, 7, 0);
        assert_eq!(lanes.compact_retries(Priority::Normal, |task, _| task % 2 == 1), [2, 4]);
        assert!(lanes.compact_retries(Priority::Low, |_, _| false).is_empty());
        assert_eq!(drain(&lanes), [1, 3, 5, 7]);
    }
}
