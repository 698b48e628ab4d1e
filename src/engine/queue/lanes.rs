//! The waiting tasks: three strict classes, first in first out within each, retries first.

use crate::engine::clock::Tick;
use crate::engine::resource::proof::{self, Failure, Proof};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::channel::{Receiver, Sender, unbounded};
use crate::sync::{CachePadded, Mutex};
use std::collections::VecDeque;

/// How urgent a task is. A free worker takes the highest class that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Class {
    /// Taken when nothing else waits.
    Low = 0,
    /// The default.
    Normal = 1,
    /// Taken before everything else.
    High = 2,
}

impl Class {
    /// All classes.
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// The class with this number; numbers above are `High`.
    pub fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Low,
            1 => Self::Normal,
            _ => Self::High,
        }
    }
}

/// One waiting task and when it began to wait.
#[derive(Debug)]
pub struct Entry<T> {
    /// The task; it may have been cancelled since, its claim tells.
    pub task: T,
    /// When this wait began: the submit, or the end of the attempt before.
    pub since: Tick,
    /// The failure that the attempt before ran into; [`proof::NONE`] if there was none.
    pub failed: Failure,
}

impl<T> Entry<T> {
    /// A task that did not fail.
    pub fn fresh(task: T, since: Tick) -> Self {
        Self { task, since, failed: proof::NONE }
    }
}

/// An [`Entry`] that did not fail, as most, in less room.
#[derive(Debug)]
struct Fresh<T> {
    task: T,
    since: Tick,
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
        // An empty `try_recv` costs a full fence, an empty `is_empty` two loads; most lanes are empty.
        if self.receiver.is_empty() { None } else { self.receiver.try_recv().ok() }
    }
}

/// What a sift left over of the fresh tasks of a lane: older than all that are fresh now.
#[derive(Debug)]
struct Elders<T> {
    /// Whether there are any, or a sift is under way. Written under the lock. `SeqCst`, like the channels:
    /// set before a sift takes the first fresh entry, so that no entry is ever in neither place for who
    /// looks at the fresh ones first and here then.
    some: AtomicBool,
    entries: Mutex<VecDeque<Fresh<T>>>,
}

impl<T> Elders<T> {
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

    /// Takes what `live` rejects out of the elders and the fresh ones, which become elders.
    fn sift(&self, fresh: &Channel<T>, live: impl Fn(&T, Tick) -> bool) -> Vec<T> {
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

    fn settle(&self, entries: &mut VecDeque<Fresh<T>>) {
        if entries.is_empty() {
            // A sift of many may have left much room.
            *entries = VecDeque::new();
            self.some.store(false, Ordering::SeqCst);
        }
    }
}

/// The retries of a lane, in the order in which they failed. They are few: one for each worker, more or less.
#[derive(Debug)]
struct Retries<T> {
    /// Whether there are any. Written under the lock. `SeqCst`, like the channels.
    some: AtomicBool,
    /// How often one came, or became anybody's. Raised under the lock, and before `some` is set.
    news: AtomicU64,
    waiting: Mutex<VecDeque<Retry<T>>>,
}

#[derive(Debug)]
struct Retry<T> {
    entry: Entry<T>,
    /// A worker that may not take it validates its resource for it, or did.
    looked_for: bool,
}

impl<T> Retry<T> {
    fn is_for(&self, proof: Proof) -> bool {
        proof.covers(self.entry.failed, self.entry.since)
    }
}

impl<T> Retries<T> {
    fn new() -> Self {
        let waiting = Mutex::new(VecDeque::new());
        Self { some: AtomicBool::new(false), news: AtomicU64::new(0), waiting }
    }

    fn any(&self) -> bool {
        self.some.load(Ordering::SeqCst)
    }

    fn push(&self, entry: Entry<T>) {
        let mut waiting = self.waiting.lock();
        waiting.push_back(Retry { entry, looked_for: false });
        self.news.fetch_add(1, Ordering::SeqCst);
        self.some.store(true, Ordering::SeqCst);
    }

    /// Makes the retry of this failure anybody's; false when it does not wait here.
    fn open(&self, failed: Failure) -> bool {
        let is_it = |retry: &Retry<T>| retry.entry.failed == failed;
        let open = |retry: &mut Retry<T>| {
            retry.entry.failed = proof::LONG_AGO;
            self.news.fetch_add(1, Ordering::SeqCst);
        };
        self.mark(is_it, open)
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

    fn pop(&self, proof: impl Fn() -> Proof) -> Option<Entry<T>> {
        if !self.any() {
            return None;
        }
        // Before the lock: it looks at a clock, and under another one.
        let proof = proof();
        self.with(|waiting| {
            let place = waiting.iter().position(|retry| retry.is_for(proof))?;
            waiting.remove(place).map(|retry| retry.entry)
        })?
    }

    fn has(&self, which: impl Fn(&Retry<T>) -> bool) -> bool {
        self.with(|waiting| waiting.iter().any(which)).unwrap_or(false)
    }

    /// Marks the first of those that are so.
    fn mark(&self, which: impl Fn(&Retry<T>) -> bool, mark: impl FnOnce(&mut Retry<T>)) -> bool {
        let marked = |waiting: &mut VecDeque<Retry<T>>| {
            waiting.iter_mut().find(|retry| which(retry)).map(mark).is_some()
        };
        self.with(marked).unwrap_or(false)
    }
}

#[derive(Debug)]
struct Lane<T> {
    /// Their place in the queue was theirs before, so a push here cannot be refused.
    again: Retries<T>,
    elders: Elders<T>,
    /// Everything else.
    fresh: Channel<T>,
}

impl<T> Lane<T> {
    fn pop(&self, proof: impl Fn() -> Proof) -> Option<Entry<T>> {
        let fresh = || {
            self.elders
                .pop()
                .or_else(|| self.fresh.pop())
                .map(|Fresh { task, since }| Entry::fresh(task, since))
        };
        self.again.pop(proof).or_else(fresh)
    }

    fn is_empty(&self) -> bool {
        !self.again.any() && !self.has_fresh()
    }

    fn has_fresh(&self) -> bool {
        // In this order: see `Elders::some`.
        !self.fresh.receiver.is_empty() || self.elders.any()
    }

    fn has_news(&self, seen: u64) -> bool {
        self.has_fresh() || self.again.any() && self.again.news.load(Ordering::SeqCst) != seen
    }

    fn has_for(&self, proof: impl Fn() -> Proof) -> bool {
        self.again.any() && {
            let proof = proof();
            self.again.has(|retry| retry.is_for(proof))
        } || self.has_fresh()
    }
}

/// What a worker has looked at; see [`Lanes::seen`].
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    urgent: u64,
    /// Retries of the class [`Class::Normal`].
    normal: u64,
}

/// Three lanes of unbounded queues; bounds are [`Permits`](super::permits::Permits).
#[derive(Debug)]
pub struct Lanes<T> {
    classes: [Lane<T>; 3],
    /// How many retries ever came that are not anybody's. `SeqCst`: raised before the bell is rung for one, looked at by those who fall
    /// asleep.
    retries: AtomicU64,
    /// How often a task of the highest class came, or a retry of it became anybody's. `SeqCst`: raised after it is
    /// there; a worker notes this number, looks at the lanes, and looks at the number again later.
    urgent: CachePadded<AtomicU64>,
}

impl<T> Lanes<T> {
    /// Empty lanes.
    pub fn new() -> Self {
        let lane =
            |()| Lane { again: Retries::new(), elders: Elders::new(), fresh: Channel::new() };
        let urgent = CachePadded::new(AtomicU64::new(0));
        Self { classes: [(); 3].map(lane), retries: AtomicU64::new(0), urgent }
    }

    fn is_news(&self, class: Class) {
        if class == Class::High {
            self.urgent.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Appends a task that was just accepted.
    pub fn push(&self, class: Class, task: T, since: Tick) {
        self.classes[class as usize].fresh.push(Fresh { task, since });
        self.is_news(class);
    }

    /// Puts a task that is to be tried again, or a batch that goes on, before everything fresh of its class.
    pub fn push_again(&self, class: Class, entry: Entry<T>) {
        let is_held = entry.failed > proof::LONG_AGO;
        self.classes[class as usize].again.push(entry);
        self.is_news(class);
        if is_held {
            self.retries.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Takes the most urgent entry that is for who has this `proof`, which is asked for when there are retries. `None`
    /// while others pop or sift is no proof that nothing is left; [`is_empty`](Self::is_empty) is.
    pub fn pop(&self, proof: impl Fn() -> Proof) -> Option<Entry<T>> {
        self.classes.iter().rev().find_map(|lane| lane.pop(&proof))
    }

    /// Whether nothing waits, tombstones included.
    pub fn is_empty(&self) -> bool {
        self.classes.iter().all(Lane::is_empty)
    }

    /// Whether anything waits for who has this `proof`.
    pub fn has_for(&self, proof: impl Fn() -> Proof) -> bool {
        self.classes.iter().any(|lane| lane.has_for(&proof))
    }

    /// Whether something more urgent than this class waits for who has this `proof`.
    pub fn has_above_for(&self, class: Class, proof: impl Fn() -> Proof) -> bool {
        self.classes[class as usize + 1..].iter().any(|lane| lane.has_for(&proof))
    }

    /// Notes what there is. Whoever looks next whether that is for it, with [`has_above_for`](Self::has_above_for),
    /// need not look at the same again for a while.
    pub fn seen(&self) -> Seen {
        let normal = &self.classes[Class::Normal as usize];
        Seen {
            urgent: self.urgent.load(Ordering::SeqCst),
            normal: normal.again.news.load(Ordering::SeqCst),
        }
    }

    /// Whether something more urgent than this class has come since, or for the lowest class is there. It is asked
    /// between two quick items: a load and no more but for the lowest class.
    #[inline]
    pub fn has_news_above(&self, class: Class, seen: &Seen) -> bool {
        match class {
            Class::High => false,
            Class::Normal => self.urgent.load(Ordering::SeqCst) != seen.urgent,
            Class::Low => {
                self.urgent.load(Ordering::SeqCst) != seen.urgent
                    || self.classes[Class::Normal as usize].has_news(seen.normal)
            }
        }
    }

    /// How many entries wait, tombstones included. Waits for a sift under way.
    pub fn len(&self) -> usize {
        let len = |lane: &Lane<T>| {
            let elders = if lane.elders.any() { lane.elders.entries.lock().len() } else { 0 };
            let again = lane.again.with(|waiting| waiting.len()).unwrap_or(0);
            again + elders + lane.fresh.receiver.len()
        };
        self.classes.iter().map(len).sum()
    }

    /// How many retries ever came that are not anybody's.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::SeqCst)
    }

    /// Since when the retry waits that has waited longest.
    pub fn oldest_retry(&self) -> Option<Tick> {
        let oldest = |waiting: &mut VecDeque<Retry<T>>| waiting.iter().map(|r| r.entry.since).min();
        self.classes.iter().filter_map(|lane| lane.again.with(oldest)?).min()
    }

    /// Whether the retry of this failure waits.
    pub fn has_retry(&self, failed: Failure) -> bool {
        self.classes.iter().any(|lane| lane.again.has(|retry| retry.entry.failed == failed))
    }

    /// Makes the retry of this failure anybody's; false when it does not wait here.
    pub fn open(&self, failed: Failure) -> bool {
        Class::ALL.into_iter().any(|class| {
            let opened = self.classes[class as usize].again.open(failed);
            if opened {
                self.is_news(class);
            }
            opened
        })
    }

    /// Whether a retry waits for which nobody looks after a resource.
    pub fn has_unlooked(&self) -> bool {
        self.classes.iter().any(|lane| lane.again.has(|retry| !retry.looked_for))
    }

    /// Has the caller, who validates its resource next, look for one of those retries.
    pub fn look(&self) -> bool {
        let is_free = |retry: &Retry<T>| !retry.looked_for;
        let look = |retry: &mut Retry<T>| retry.looked_for = true;
        self.classes.iter().rev().any(|lane| lane.again.mark(is_free, look))
    }

    /// Takes out the retries of a class that `live` rejects, which is told since when they wait. A lock is held
    /// meanwhile, under which `live` only looks.
    pub fn sift_retries(&self, class: Class, live: impl Fn(&T, Tick) -> bool) -> Vec<T> {
        let sift = |waiting: &mut VecDeque<Retry<T>>| {
            let (alive, dead) = std::mem::take(waiting)
                .into_iter()
                .partition::<VecDeque<_>, _>(|retry| live(&retry.entry.task, retry.entry.since));
            *waiting = alive;
            dead.into_iter().map(|retry| retry.entry.task).collect()
        };
        self.classes[class as usize].again.with(sift).unwrap_or_default()
    }

    /// Takes out the entries of a class that `live` rejects, which is told since when they wait, keeping the order of
    /// the rest, but for retries.
    ///
    /// A lock is held meanwhile, under which `live` only looks: pops of this class wait for it, but for
    /// one that is under way as it begins, which may overtake.
    pub fn sift(&self, class: Class, live: impl Fn(&T, Tick) -> bool) -> Vec<T> {
        let lane = &self.classes[class as usize];
        lane.elders.sift(&lane.fresh, live)
    }
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn retry(task: u32, failed: Failure) -> Entry<u32> {
        Entry { task, since: u64::from(task), failed }
    }

    fn drain(lanes: &Lanes<u32>) -> Vec<u32> {
        std::iter::from_fn(|| lanes.pop(|| Proof::ANY).map(|e| e.task)).collect()
    }

    fn proven(proven: Failure) -> impl Fn() -> Proof {
        move || Proof { proven, held_since: None }
    }

    #[test]
    fn takes_the_highest_class_first_and_keeps_order_within_it() {
        let lanes = Lanes::new();
        for (class, task) in [
            (Class::Low, 1),
            (Class::Normal, 2),
            (Class::High, 3),
            (Class::Low, 4),
            (Class::Normal, 5),
            (Class::High, 6),
        ] {
            lanes.push(class, task, 0);
        }
        assert_eq!(drain(&lanes), [3, 6, 2, 5, 1, 4]);
        assert!(lanes.is_empty());
    }

    #[test]
    fn a_retry_goes_before_fresh_tasks_of_its_class_only() {
        let lanes = Lanes::new();
        lanes.push(Class::Normal, 1, 0);
        lanes.push_again(Class::Normal, retry(2, 2));
        lanes.push(Class::High, 3, 0);
        assert_eq!(drain(&lanes), [3, 2, 1]);
    }

    #[test]
    fn sifting_keeps_the_order_of_what_lives() {
        let lanes = Lanes::new();
        for task in 0..10 {
            lanes.push(Class::Normal, task, 0);
        }
        assert_eq!(lanes.sift(Class::Normal, |task, _| task % 3 == 0), [1, 2, 4, 5, 7, 8]);
        lanes.push(Class::Normal, 10, 0);
        assert_eq!(drain(&lanes), [0, 3, 6, 9, 10]);
        assert!(lanes.is_empty());
    }

    #[test]
    fn what_a_sift_left_is_sifted_again_and_stays_behind_retries() {
        let lanes = Lanes::new();
        for task in 0..6 {
            lanes.push(Class::Low, task, 0);
        }
        assert_eq!(lanes.sift(Class::Low, |task, _| *task > 1), [0, 1]);
        lanes.push(Class::Low, 6, 0);
        lanes.push_again(Class::Low, retry(7, 2));
        assert_eq!(lanes.sift(Class::Low, |task, _| *task % 2 == 0), [3, 5]);
        assert_eq!(lanes.len(), 4);
        assert_eq!(drain(&lanes), [7, 2, 4, 6]);
        assert_eq!(lanes.len(), 0);
    }

    #[test]
    fn is_never_empty_while_a_sift_holds_the_last_entry() {
        let lanes = Lanes::new();
        lanes.push(Class::High, 1, 0);
        let dead = lanes.sift(Class::High, |_, _| {
            assert!(!lanes.is_empty());
            true
        });
        assert!(dead.is_empty());
        assert_eq!(drain(&lanes), [1]);
    }

    #[test]
    fn a_retry_waits_for_a_proof_and_others_pass_it() {
        let lanes = Lanes::new();
        lanes.push(Class::Normal, 1, 0);
        lanes.push_again(Class::Normal, retry(5, 5));
        lanes.push_again(Class::Normal, retry(3, 3));
        lanes.push_again(Class::Normal, retry(4, 4));
        assert!(lanes.has_for(proven(2)));
        assert_eq!(lanes.pop(proven(2)).map(|e| e.task), Some(1));
        assert!(!lanes.has_for(proven(2)) && !lanes.is_empty());
        assert!(lanes.pop(proven(2)).is_none());
        assert_eq!(lanes.pop(proven(4)).map(|e| e.task), Some(3));
        assert_eq!(lanes.len(), 2);
        assert_eq!(drain(&lanes), [5, 4]);
        assert!(lanes.is_empty());
    }

    #[test]
    fn a_retry_held_for_long_or_left_behind_is_anybodys() {
        let lanes = Lanes::new();
        lanes.push_again(Class::Low, retry(7, 7));
        lanes.push_again(Class::High, retry(8, 8));
        assert_eq!(lanes.oldest_retry(), Some(7));
        let held = || Proof { proven: 2, held_since: Some(7) };
        assert_eq!(lanes.pop(held).map(|e| e.task), Some(7));
        assert!(lanes.pop(held).is_none());
        assert!(lanes.has_retry(8) && !lanes.open(9) && lanes.open(8) && !lanes.has_retry(8));
        assert_eq!(lanes.pop(|| Proof::NONE).map(|e| e.task), Some(8));
        assert_eq!(lanes.oldest_retry(), None);
        assert_eq!(lanes.retries(), 2);
    }

    #[test]
    fn a_retry_that_was_not_for_the_caller_is_no_news_until_another_comes_or_it_is_opened() {
        let lanes = Lanes::new();
        let news = |seen: &Seen| lanes.has_news_above(Class::Normal, seen);
        lanes.push_again(Class::High, retry(1, 7));
        let seen = lanes.seen();
        assert!(!news(&seen));
        lanes.push_again(Class::Normal, retry(2, 8));
        assert!(!news(&seen), "as urgent is not more urgent");
        lanes.push_again(Class::High, retry(3, 9));
        assert!(news(&seen) && !news(&lanes.seen()));
        let seen = lanes.seen();
        assert!(lanes.open(7) && news(&seen));
        let seen = lanes.seen();
        lanes.push(Class::High, 4, 0);
        assert!(news(&seen) && !lanes.has_news_above(Class::High, &seen));
    }

    #[test]
    fn what_is_above_the_lowest_class_is_news_to_it_as_long_as_it_is_there() {
        let lanes = Lanes::new();
        lanes.push_again(Class::Normal, retry(1, 7));
        let seen = lanes.seen();
        assert!(!lanes.has_news_above(Class::Low, &seen));
        lanes.push_again(Class::Normal, retry(2, 8));
        assert!(lanes.has_news_above(Class::Low, &seen));
        let seen = lanes.seen();
        lanes.push(Class::Normal, 3, 0);
        assert!(lanes.has_news_above(Class::Low, &seen));
        assert!(!lanes.has_news_above(Class::Normal, &seen));
    }

    #[test]
    fn each_retry_is_looked_after_once() {
        let lanes = Lanes::new();
        assert!(!lanes.has_unlooked() && !lanes.look());
        lanes.push_again(Class::Low, retry(1, 2));
        lanes.push_again(Class::High, retry(2, 3));
        assert!(lanes.look() && lanes.has_unlooked());
        assert!(lanes.look() && !lanes.has_unlooked());
        assert!(!lanes.look());
    }

    #[test]
    fn dead_retries_are_sifted_out_in_their_order() {
        let lanes = Lanes::new();
        for task in 1..6 {
            lanes.push_again(Class::Normal, retry(task, 2));
        }
        lanes.push(Class::Normal, 7, 0);
        assert_eq!(lanes.sift_retries(Class::Normal, |task, _| task % 2 == 1), [2, 4]);
        assert!(lanes.sift_retries(Class::Low, |_, _| false).is_empty());
        assert_eq!(drain(&lanes), [1, 3, 5, 7]);
    }
}
