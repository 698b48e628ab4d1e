//! The waiting tasks: three strict classes, first in first out within each, retries first.

use super::clock::Tick;
use crate::sync::channel::{Receiver, Sender, unbounded};

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
    const HIGHEST_FIRST: [Self; 3] = [Self::High, Self::Normal, Self::Low];

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

#[derive(Debug)]
struct Lane<T> {
    /// Retries. Their place in the queue was theirs before, so a push here cannot be refused.
    again: Channel<T>,
    /// Everything else.
    fresh: Channel<T>,
}

/// Three lanes of unbounded channels; bounds are [`Permits`](super::permits::Permits).
#[derive(Debug)]
pub struct Lanes<T> {
    lanes: [Lane<T>; 3],
}

impl<T> Lanes<T> {
    /// Empty lanes.
    pub fn new() -> Self {
        Self { lanes: [(); 3].map(|()| Lane { again: Channel::new(), fresh: Channel::new() }) }
    }

    /// Appends a task that was just accepted.
    pub fn push(&self, class: Class, entry: Entry<T>) {
        self.lanes[class as usize].fresh.push(entry);
    }

    /// Puts a task that is to be tried again before everything fresh of its class.
    pub fn push_again(&self, class: Class, entry: Entry<T>) {
        self.lanes[class as usize].again.push(entry);
    }

    /// Takes the most urgent entry.
    pub fn pop(&self) -> Option<Entry<T>> {
        Class::HIGHEST_FIRST.iter().find_map(|&class| {
            let lane = &self.lanes[class as usize];
            lane.again.pop().or_else(|| lane.fresh.pop())
        })
    }

    /// Whether nothing waits, tombstones included.
    pub fn is_empty(&self) -> bool {
        self.lanes
            .iter()
            .all(|lane| lane.again.receiver.is_empty() && lane.fresh.receiver.is_empty())
    }

    /// How many entries wait in a class, tombstones included.
    pub fn len(&self, class: Class) -> usize {
        let lane = &self.lanes[class as usize];
        lane.again.receiver.len() + lane.fresh.receiver.len()
    }

    /// Takes out the fresh entries of a class that `live` rejects, keeping the order of the rest.
    ///
    /// The survivors move to the front part of the lane, so this is for one caller at a time, and a
    /// worker that pops meanwhile may overtake the one entry that is just being moved.
    pub fn sift(&self, class: Class, live: impl Fn(&T) -> bool) -> Vec<T> {
        let lane = &self.lanes[class as usize];
        let mut dead = Vec::new();
        for _ in 0..lane.fresh.receiver.len() {
            match lane.fresh.pop() {
                Some(entry) if live(&entry.task) => lane.again.push(entry),
                Some(entry) => dead.push(entry.task),
                None => break,
            }
        }
        dead
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
    }
}
