//! What one worker counts.

use super::busy::BusyTime;
use super::figures::Figures;
use super::sample::{RingSample, Sample};
use crate::sync::CachePadded;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::ops::Index;

/// What a worker counts, in the order in which it happens to a task. Nothing is ever subtracted.
///
/// Counted in this order and read against it, a later event never shows without the earlier ones:
/// no difference of two totals is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerCounter {
    /// Tasks with a key that began on its home; see
    /// [`KeyHomes`](crate::engine::queue::key_homes::KeyHomes).
    KeyHits,
    /// Tasks with a key that began elsewhere, as its home was not free, or there was none.
    KeyMisses,
    /// Tasks of which the first attempt began.
    Started,
    /// Attempts after which the task was put back for another.
    Retried,
    /// Retries that began.
    Resumed,
    /// Tasks that ended with a result.
    Completed,
    /// Tasks that ended with an error.
    Failed,
    /// Attempts, first ones and retries, that are over whatever came of them.
    Ended,
    /// Nanoseconds spent in task functions.
    ExecutionTime,
}

/// How many counters there are: one more than the last.
const COUNTERS: usize = WorkerCounter::ExecutionTime as usize + 1;

/// The counters of all workers together, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals(pub(super) [u64; COUNTERS]);

impl Totals {
    /// Attempts that have begun and are not over.
    pub fn running(&self) -> u64 {
        self[WorkerCounter::Started] + self[WorkerCounter::Resumed] - self[WorkerCounter::Ended]
    }
}

impl Index<WorkerCounter> for Totals {
    type Output = u64;

    fn index(&self, counter: WorkerCounter) -> &u64 {
        &self.0[counter as usize]
    }
}

/// Samples a worker writes before it empties its ring itself. 64 samples are 2 KiB.
pub(super) const RING: usize = 64;

/// One worker's counters: written through its [`Recorder`](super::recorder::Recorder), read by any thread.
#[derive(Debug)]
pub struct WorkerCounters {
    /// Written by the recorder alone, hence by load and store. Release, and acquire for readers: a
    /// reader that sees an event counted also sees counted those that happened before it, on this
    /// worker and on the others. Padded, which pads the whole struct: no two workers share a cache
    /// line.
    events: CachePadded<[AtomicU64; COUNTERS]>,
    /// Sample `n` is at `n % RING`. Written by the recorder alone; relaxed, as `written`
    /// publishes. Boxed, and so never on the stack of a worker that begins: that would take
    /// another page of it.
    ring: Box<[RingSample; RING]>,
    /// Samples ever written. Written by the recorder alone; release, and acquire for readers, so
    /// that the samples below it are there. May wrap: `RING` divides the range.
    written: AtomicUsize,
    /// Samples that can be written before the ring has to be emptied. The recorder's alone;
    /// relaxed.
    room: AtomicUsize,
    /// Samples ever taken out of the ring. Written by the recorder, under the lock of the runner's
    /// figures; read under that lock. Relaxed.
    taken: AtomicUsize,
    /// How busy it was of late.
    busy: BusyTime,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        let ring: Box<[RingSample]> = (0..RING).map(|_| RingSample::default()).collect();
        Self {
            events: CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0))),
            ring: ring.try_into().expect("so many were made"),
            written: AtomicUsize::new(0),
            room: AtomicUsize::new(RING),
            taken: AtomicUsize::new(0),
            busy: BusyTime::default(),
        }
    }
}

impl Index<WorkerCounter> for WorkerCounters {
    type Output = AtomicU64;

    /// For readers, with acquire.
    fn index(&self, counter: WorkerCounter) -> &AtomicU64 {
        &self.events[counter as usize]
    }
}

impl WorkerCounters {
    /// How busy the worker was of late.
    pub fn busy(&self) -> &BusyTime {
        &self.busy
    }

    /// Counts. The recorder's alone, as what follows.
    pub(super) fn add(&self, counter: WorkerCounter, amount: u64) {
        let cell = &self.events[counter as usize];
        let value = cell.load(Ordering::Relaxed);
        cell.store(value.wrapping_add(amount), Ordering::Release);
    }

    /// Attempts of this worker that have begun and are not over.
    pub(super) fn running(&self) -> u64 {
        Totals(std::array::from_fn(|counter| self.read(counter))).running()
    }

    /// Whether the ring has to be emptied before the next sample.
    pub(super) fn is_full(&self) -> bool {
        self.room.load(Ordering::Relaxed) == 0
    }

    /// Writes a sample into the ring, which is not full.
    pub(super) fn write(&self, sample: &Sample) {
        self.room.store(self.room.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        let written = self.written.load(Ordering::Relaxed);
        self.ring[written % RING].write(sample);
        self.written.store(written.wrapping_add(1), Ordering::Release);
    }

    pub(super) fn read(&self, counter: usize) -> u64 {
        self.events[counter].load(Ordering::Acquire)
    }

    /// Empties the ring. Called by the recorder, which writes on from its beginning, or ends.
    /// `figures` are the runner's, locked.
    pub(super) fn fold_into(&self, figures: &mut Figures) {
        let taken = self.add_to(figures);
        self.taken.store(taken, Ordering::Relaxed);
        self.room.store(RING, Ordering::Relaxed);
    }

    /// Adds what is in the ring, and gives its end. Any thread may call it that holds the lock of
    /// the runner's figures, without which the recorder would write over the samples.
    pub(super) fn add_to(&self, figures: &mut Figures) -> usize {
        let mut next = self.taken.load(Ordering::Relaxed);
        let written = self.written.load(Ordering::Acquire);
        while next != written {
            figures.add(&self.ring[next % RING].read());
            next = next.wrapping_add(1);
        }
        written
    }
}
