//! One queue whole: the gate, the lanes behind it, the bell, the bound, and the count of what waits.

pub mod bell;
pub mod gate;
pub mod lanes;
pub mod permits;

use self::bell::{Bell, Woken};
use self::gate::Gate;
use self::lanes::{Class, Entry, Lanes};
use self::permits::Permits;
use super::clock::Tick;
use super::resource::proof::{self, Failure, Proof};
use super::task::TaskWord;
use crate::sync::CachePadded;
use crate::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// See the module's documentation.
#[derive(Debug)]
pub struct Queue<T> {
    pub(super) gate: Gate,
    pub(super) lanes: Lanes<T>,
    pub(super) bell: Bell,
    /// `None`: no bound, and no cost.
    pub(super) permits: Option<Permits>,
    /// For how long a retry is held; `None`: for ever.
    hold: Option<Duration>,
    counts: CachePadded<Counts>,
}

/// Monotone counters beside the gate's; a reader takes those of leaving first, so no difference is ever
/// negative. Only rare events write here: what workers take they count in tallies of their own.
#[derive(Debug, Default)]
struct Counts {
    /// Left the queue without a start: cancelled, expired, dropped.
    withdrawn: AtomicU64,
    /// Came back for a retry.
    returned: AtomicU64,
    high_entered: AtomicU64,
    high_left: AtomicU64,
    /// Entries in the lanes whose task is gone. Lowered when they are skipped or sifted out.
    tombstones: AtomicU64,
}

/// The queue is closed; the task comes back.
#[derive(Debug)]
pub struct Closed<T>(pub T);

/// Why a task that waited for room was not accepted.
#[derive(Debug)]
pub enum Late<T> {
    /// The queue is closed; the task comes back.
    Closed(T),
    /// Somebody settled the task meanwhile.
    Settled(T),
}

impl<T> Queue<T> {
    pub(super) fn new(bound: Option<usize>, hold: Tick) -> Self {
        Self {
            gate: Gate::new(),
            lanes: Lanes::new(),
            bell: Bell::new(),
            permits: bound.map(Permits::new),
            hold: (hold != Tick::MAX).then(|| Duration::from_nanos(hold)),
            counts: CachePadded::new(Counts::default()),
        }
    }

    /// Accepts a task or refuses it, in one step against [`close`](Self::close).
    pub(super) fn push(&self, class: Class, task: T, since: Tick) -> Result<(), Closed<T>> {
        self.push_and(class, task, since, || ())
    }

    /// Accepts a task or refuses it; if it does, `also` is part of the same step.
    pub(super) fn push_and<R>(
        &self,
        class: Class,
        task: T,
        since: Tick,
        also: impl FnOnce() -> R,
    ) -> Result<R, Closed<T>> {
        let Some(pass) = self.gate.enter() else {
            return Err(Closed(task));
        };
        if class == Class::High {
            self.counts.high_entered.fetch_add(1, Ordering::SeqCst);
        }
        self.lanes.push(class, task, since);
        let done = also();
        drop(pass);
        self.bell.ring();
        Ok(done)
    }

    /// Accepts a task that waited for room, if it still wants to come in: `admit` tells, in the same step.
    pub(super) fn push_if(
        &self,
        class: Class,
        task: T,
        since: Tick,
        admit: impl FnOnce(&T) -> bool,
    ) -> Result<(), Late<T>> {
        let Some(pass) = self.gate.enter() else {
            return Err(Late::Closed(task));
        };
        if !admit(&task) {
            pass.take_back();
            return Err(Late::Settled(task));
        }
        if class == Class::High {
            self.counts.high_entered.fetch_add(1, Ordering::SeqCst);
        }
        self.lanes.push(class, task, since);
        drop(pass);
        self.bell.ring();
        Ok(())
    }

    /// Accepts a batch or refuses it, as [`push`](Self::push) does a task; `note` is told of it first.
    pub(super) fn push_batch(
        &self,
        class: Class,
        task: T,
        since: Tick,
        items: usize,
        note: impl FnOnce(&T),
    ) -> Result<(), Closed<T>> {
        let Some(pass) = self.gate.enter_with_items(items) else {
            return Err(Closed(task));
        };
        if class == Class::High {
            self.counts.high_entered.fetch_add(items as u64, Ordering::SeqCst);
        }
        note(&task);
        self.lanes.push(class, task, since);
        drop(pass);
        self.bell.ring();
        Ok(())
    }

    /// Puts the entry of a batch back, in front of its class. Its items are counted already.
    pub(super) fn rejoin(&self, class: Class, task: T, since: Tick) {
        self.lanes.push_again(class, Entry { task, since, failed: proof::LONG_AGO });
        self.bell.ring();
    }

    /// Takes over, before everything else, a task that another queue accepted and has nobody for.
    pub(super) fn adopt(&self, mut entry: Entry<T>) -> Result<(), Closed<T>> {
        let Some(pass) = self.gate.enter_again() else {
            return Err(Closed(entry.task));
        };
        entry.failed = proof::LONG_AGO;
        self.lanes.push_again(Class::High, entry);
        drop(pass);
        self.bell.ring();
        Ok(())
    }

    /// Queues a retry. Its place is still its own: neither gate nor bound is asked.
    pub(super) fn push_again(&self, class: Class, entry: Entry<T>) {
        self.returned();
        if class == Class::High {
            self.counts.high_entered.fetch_add(1, Ordering::SeqCst);
        }
        self.lanes.push_again(class, entry);
        // Not one for it, who perhaps may not take it: all who would sleep on when it has become anybody's. They
        // look once, and then sleep until then at most. Who may take it by then is awake, or about to be.
        self.bell.ring_beyond(self.hold);
    }

    /// Makes the retry of this failure anybody's, as the worker that would have come for it leaves.
    pub(super) fn open(&self, failed: Failure) {
        if self.lanes.open(failed) {
            self.bell.ring();
        }
    }

    /// Takes the most urgent entry that is for who has this `proof`. `rung` is what the [`rest`](Self::rest) before it
    /// told, if there was one: the wake-up is passed on when there is more.
    pub(super) fn take(&self, rung: bool, proof: impl Fn() -> Proof) -> Option<Entry<T>> {
        let entry = self.lanes.pop(proof);
        if rung {
            // After the pop, so that a lone task wakes one worker and not two.
            self.answered();
        }
        if entry.as_ref().is_some_and(|entry| entry.failed != proof::NONE) {
            self.retry_left();
        }
        entry
    }

    /// Takes an entry to answer it, whoever it waits for.
    pub(super) fn take_any(&self) -> Option<Entry<T>> {
        self.take(false, || Proof::ANY)
    }

    /// Takes out the retries of a class that `live` rejects.
    pub(super) fn sift_retries(&self, class: Class, live: impl Fn(&T, Tick) -> bool) -> Vec<T> {
        let dead = self.lanes.sift_retries(class, live);
        if !dead.is_empty() {
            self.retry_left();
        }
        dead
    }

    /// Workers sleep while retries wait that are not for them; when nothing more can come they are to leave.
    fn retry_left(&self) {
        if self.is_drained() {
            self.bell.ring();
        }
    }

    /// Blocks until a task waits for who has this `proof`, or none can come any more, until the caller is `restless`,
    /// or the limit passes. After `Rung` the caller owes a [`take`](Self::take) or an [`answered`](Self::answered).
    /// `warm`: it was at work just now, and the next task may be as near.
    pub(super) fn rest(
        &self,
        warm: bool,
        limit: impl Fn() -> Option<Duration>,
        proof: impl Fn() -> Proof,
        restless: impl Fn() -> bool,
    ) -> Woken {
        let idle = || !self.lanes.has_for(&proof) && !self.is_drained() && !restless();
        if warm && self.bell.look_again(idle) {
            return Woken::Rung;
        }
        loop {
            // A retry that is not for the caller makes the limit another.
            let retries = self.lanes.retries();
            let nothing_new = || self.lanes.retries() == retries && idle();
            match self.bell.sleep(limit(), nothing_new) {
                // Somebody was quicker: sleep again, without having asked to come back.
                Woken::Rung if idle() => self.answered(),
                Woken::NotNeeded if idle() => {}
                woken => return woken,
            }
        }
    }

    /// Ends a wake-up without taking an entry.
    pub(super) fn answered(&self) {
        // Of the end everybody is told, one by the other. Of retries that are held those who sleep were told.
        self.bell.answered(|| self.is_drained() || self.lanes.has_for(|| Proof::NONE));
    }

    /// Whether tasks wait and no worker sleeps that could be woken for them. To be asked by a woken worker that has
    /// passed its wake-up on: whoever put them there may have seen others still asleep.
    pub(super) fn leaves_tasks_waiting(&self) -> bool {
        self.bell.sleepers() == 0 && !self.lanes.is_empty()
    }

    /// Counts a task that waits again.
    pub(super) fn returned(&self) {
        self.counts.returned.fetch_add(1, Ordering::SeqCst);
    }

    /// A worker claimed a waiting task, for the first time or again.
    pub(super) fn taken(&self, word: &TaskWord, first: bool) {
        if first && let Some(permits) = &self.permits {
            permits.give_back();
        }
        if word.class() == Class::High {
            self.counts.high_left.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Waiting items of a batch left without a start.
    pub(super) fn items_withdrawn(&self, word: &TaskWord, items: usize) {
        (0..items).for_each(|_| self.withdrawn(word, true));
    }

    /// A waiting task left without a start.
    pub(super) fn withdrawn(&self, word: &TaskWord, first: bool) {
        self.counts.withdrawn.fetch_add(1, Ordering::SeqCst);
        self.taken(word, first);
    }

    /// A task left while its entry stays in the lane. True when so many did that a sift is due: about a
    /// thousand, or an eighth of the lanes, so that cancelling a long queue stays linear.
    pub(super) fn bury(&self) -> bool {
        const MANY: u64 = 1_000;
        let dead = self.counts.tombstones.fetch_add(1, Ordering::Relaxed) + 1;
        // Not with each one above: some cannot be sifted out just yet.
        dead >= MANY && dead.is_multiple_of(MANY / 4) && dead >= self.lanes.len() as u64 / 8
    }

    /// `count` tombstones were taken out of the lanes.
    pub(super) fn unbury(&self, count: u64) {
        // Relaxed: only a threshold depends on it. Never below zero: each tombstone is counted before
        // anybody can find its entry dead … but for the instant between the cancel and its count.
        let lower = |n: u64| Some(n.saturating_sub(count));
        let _ = self.counts.tombstones.fetch_update(Ordering::Relaxed, Ordering::Relaxed, lower);
    }

    /// Refuses everybody from now on, and wakes all who wait for room, and one of those who wait for tasks; each of
    /// them wakes the next. All at once they would only fight for the core.
    pub(super) fn close(&self) {
        self.gate.close();
        if let Some(permits) = &self.permits {
            permits.close();
        }
        self.bell.ring();
    }

    /// Whether nothing waits and nothing can come but retries.
    pub(super) fn is_drained(&self) -> bool {
        self.gate.is_sealed() && self.lanes.is_empty()
    }

    /// How many tasks left the queue without a start. Read before [`entered`](Self::entered).
    pub(super) fn withdrawals(&self) -> u64 {
        self.counts.withdrawn.load(Ordering::SeqCst)
    }

    /// How many tasks entered the queue, retries included. Read last.
    pub(super) fn entered(&self) -> u64 {
        self.counts.returned.load(Ordering::SeqCst) + self.gate.accepted()
    }

    /// How many tasks wait, more or less: the lanes without the tombstones.
    pub(super) fn waiting(&self) -> u64 {
        let dead = self.counts.tombstones.load(Ordering::Relaxed);
        (self.lanes.len() as u64).saturating_sub(dead)
    }

    /// How many urgent tasks wait.
    pub(super) fn high(&self) -> u64 {
        let left = self.counts.high_left.load(Ordering::SeqCst);
        self.counts.high_entered.load(Ordering::SeqCst).saturating_sub(left)
    }
}
