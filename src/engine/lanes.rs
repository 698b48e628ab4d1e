//! The waiting tasks: three strict classes, first in first out within each, retries first.

use super::clock::Tick;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::channel::{Receiver, Sender, unbounded};
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
}

#[derive(Debug)]
struct Channel<T> {
    sender: Sender<Entry<T>>,
    receiver: Receiver<Entry<T>>,
}

impl<T> Channel<T> {
    fn new() -> Self {
        let (sender, receiver) = unbounded();
        Self { sender, receiver }
    }

    fn push(&self, entry: Entry<T>) {
        // Both ends live in this struct, so the channel cannot be disconnected here.
        let sent = self.sender.send(entry);
        debug_assert!(sent.is_ok());
    }

    fn pop(&self) -> Option<Entry<T>> {
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
    entries: Mutex<VecDeque<Entry<T>>>,
}

impl<T> Elders<T> {
    fn new() -> Self {
        Self { some: AtomicBool::new(false), entries: Mutex::new(VecDeque::new()) }
    }

    fn any(&self) -> bool {
        self.some.load(Ordering::SeqCst)
    }

    fn pop(&self) -> Option<Entry<T>> {
        if !self.any() {
            return None;
        }
        let mut entries = self.entries.lock();
        let first = entries.pop_front();
        self.settle(&mut entries);
        first
    }

    /// Takes what `live` rejects out of the elders and the fresh ones, which become elders.
    fn sift(&self, fresh: &Channel<T>, live: impl Fn(&T) -> bool) -> Vec<T> {
        let mut entries = self.entries.lock();
        self.some.store(true, Ordering::SeqCst);
        let mut dead = Vec::new();
        let old = std::mem::take(&mut *entries);
        // Those that come in meanwhile stay fresh.
        let new = (0..fresh.receiver.len()).map_while(|_| fresh.pop());
        for entry in old.into_iter().chain(new) {
            if live(&entry.task) {
                entries.push_back(entry);
            } else {
                dead.push(entry.task);
            }
        }
        self.settle(&mut entries);
        dead
    }

    fn settle(&self, entries: &mut VecDeque<Entry<T>>) {
        if entries.is_empty() {
            // A sift of many may have left much room.
            *entries = VecDeque::new();
            self.some.store(false, Ordering::SeqCst);
        }
    }
}

#[derive(Debug)]
struct Lane<T> {
    /// Retries. Their place in the queue was theirs before, so a push here cannot be refused.
    again: Channel<T>,
    elders: Elders<T>,
    /// Everything else.
    fresh: Channel<T>,
}

impl<T> Lane<T> {
    fn pop(&self) -> Option<Entry<T>> {
        self.again.pop().or_else(|| self.elders.pop()).or_else(|| self.fresh.pop())
    }

    fn is_empty(&self) -> bool {
        // In this order: see `Elders::some`.
        self.again.receiver.is_empty() && self.fresh.receiver.is_empty() && !self.elders.any()
    }
}

/// Three lanes of unbounded channels; bounds are [`Permits`](super::permits::Permits).
#[derive(Debug)]
pub struct Lanes<T> {
    lanes: [Lane<T>; 3],
}

impl<T> Lanes<T> {
    /// Empty lanes.
    pub fn new() -> Self {
        let lane =
            |()| Lane { again: Channel::new(), elders: Elders::new(), fresh: Channel::new() };
        Self { lanes: [(); 3].map(lane) }
    }

    /// Appends a task that was just accepted.
    pub fn push(&self, class: Class, entry: Entry<T>) {
        self.lanes[class as usize].fresh.push(entry);
    }

    /// Puts a task that is to be tried again before everything fresh of its class.
    pub fn push_again(&self, class: Class, entry: Entry<T>) {
        self.lanes[class as usize].again.push(entry);
    }

    /// Takes the most urgent entry. `None` while others pop or sift is no proof that nothing is left;
    /// [`is_empty`](Self::is_empty) is.
    pub fn pop(&self) -> Option<Entry<T>> {
        self.lanes.iter().rev().find_map(Lane::pop)
    }

    /// Whether nothing waits, tombstones included.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(Lane::is_empty)
    }

    /// Whether something more urgent than this class waits, tombstones included.
    pub fn holds_above(&self, class: Class) -> bool {
        self.lanes[class as usize + 1..].iter().any(|lane| !lane.is_empty())
    }

    /// How many entries wait, tombstones included. Waits for a sift under way.
    pub fn len(&self) -> usize {
        let len = |lane: &Lane<T>| {
            let elders = if lane.elders.any() { lane.elders.entries.lock().len() } else { 0 };
            lane.again.receiver.len() + elders + lane.fresh.receiver.len()
        };
        self.lanes.iter().map(len).sum()
    }

    /// Takes out the entries of a class that `live` rejects, keeping the order of the rest. Retries stay:
    /// they are few.
    ///
    /// A lock is held meanwhile, under which `live` only looks: pops of this class wait for it, but for
    /// one that is under way as it begins, which may overtake.
    pub fn sift(&self, class: Class, live: impl Fn(&T) -> bool) -> Vec<T> {
        let lane = &self.lanes[class as usize];
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

    fn entry(task: u32) -> Entry<u32> {
        Entry { task, since: 0 }
    }

    fn drain(lanes: &Lanes<u32>) -> Vec<u32> {
        std::iter::from_fn(|| lanes.pop().map(|e| e.task)).collect()
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
            lanes.push(class, entry(task));
        }
        assert_eq!(drain(&lanes), [3, 6, 2, 5, 1, 4]);
        assert!(lanes.is_empty());
    }

    #[test]
    fn a_retry_goes_before_fresh_tasks_of_its_class_only() {
        let lanes = Lanes::new();
        lanes.push(Class::Normal, entry(1));
        lanes.push_again(Class::Normal, entry(2));
        lanes.push(Class::High, entry(3));
        assert_eq!(drain(&lanes), [3, 2, 1]);
    }

    #[test]
    fn sifting_keeps_the_order_of_what_lives() {
        let lanes = Lanes::new();
        for task in 0..10 {
            lanes.push(Class::Normal, entry(task));
        }
        assert_eq!(lanes.sift(Class::Normal, |task| task % 3 == 0), [1, 2, 4, 5, 7, 8]);
        lanes.push(Class::Normal, entry(10));
        assert_eq!(drain(&lanes), [0, 3, 6, 9, 10]);
        assert!(lanes.is_empty());
    }

    #[test]
    fn what_a_sift_left_is_sifted_again_and_stays_behind_retries() {
        let lanes = Lanes::new();
        for task in 0..6 {
            lanes.push(Class::Low, entry(task));
        }
        assert_eq!(lanes.sift(Class::Low, |task| *task > 1), [0, 1]);
        lanes.push(Class::Low, entry(6));
        lanes.push_again(Class::Low, entry(7));
        assert_eq!(lanes.sift(Class::Low, |task| *task % 2 == 0), [3, 5]);
        assert_eq!(lanes.len(), 4);
        assert_eq!(drain(&lanes), [7, 2, 4, 6]);
        assert_eq!(lanes.len(), 0);
    }

    #[test]
    fn is_never_empty_while_a_sift_holds_the_last_entry() {
        let lanes = Lanes::new();
        lanes.push(Class::High, entry(1));
        let dead = lanes.sift(Class::High, |_| {
            assert!(!lanes.is_empty());
            true
        });
        assert!(dead.is_empty());
        assert_eq!(drain(&lanes), [1]);
    }
}
