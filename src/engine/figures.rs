//! The figures of a runner, counted by each worker for itself and added up by whoever asks.
//!
//! A worker owns a [`Recorder`]: counters and a small ring of durations that only it writes, so that
//! a task costs a few plain stores. A reader empties the rings into histograms of bounded size and
//! merges those; this takes the same time after ten tasks and after ten million, and sees every task
//! that was recorded. The [`Ledger`] knows the recorders at work, and keeps what those that ended had
//! to tell. A [`Window`] turns totals into rates.

use super::clock::Tick;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, CachePadded, Mutex};
use hdrhistogram::Histogram;
use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Index;

const SECOND: u64 = 1_000_000_000;

/// What a worker counts, in the order in which it happens to a task. Nothing is ever subtracted.
///
/// Counted in this order and read against it, a later event never shows without the earlier ones: no
/// difference of two totals is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Tasks whose first attempt began.
    Started,
    /// Attempts after which the task was put back for another.
    Retried,
    /// Retries that began.
    Resumed,
    /// Tasks that ended with a result.
    Completed,
    /// Tasks that ended with an error.
    Failed,
    /// Tasks whose time limit passed while they ran.
    TimedOut,
    /// Attempts, first ones and retries, that are over whatever came of them.
    Ended,
    /// Nanoseconds spent in task functions.
    ExecutionTime,
    /// Times a worker had to wait for the interpreter.
    Attached,
    /// Nanoseconds spent waiting for it.
    AttachTime,
}

impl Counter {
    const ALL: [Self; 10] = [
        Self::Started,
        Self::Retried,
        Self::Resumed,
        Self::Completed,
        Self::Failed,
        Self::TimedOut,
        Self::Ended,
        Self::ExecutionTime,
        Self::Attached,
        Self::AttachTime,
    ];
}

/// The counters of all workers together, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals([u64; Counter::ALL.len()]);

impl Totals {
    /// Attempts that have begun and are not over.
    pub fn running(&self) -> u64 {
        self[Counter::Started] + self[Counter::Resumed] - self[Counter::Ended]
    }
}

impl Index<Counter> for Totals {
    type Output = u64;

    fn index(&self, counter: Counter) -> &u64 {
        &self.0[counter as usize]
    }
}

/// The shares of completed and of failed tasks among both; zero for both before the first.
pub fn ratios(completed: u64, failed: u64) -> (f64, f64) {
    let finished = completed + failed;
    (ratio(completed, finished), ratio(failed, finished))
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people: 15 digits are enough")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Durations kept as a histogram, with exact sum, minimum and maximum.
///
/// The histogram has two significant digits: below 256 ns it is exact, above, a percentile is at most
/// 1/128 (0.8 %) too high and never too low. It takes 2 KiB, and 1 KiB more for each doubling of the
/// longest duration beyond that: 14 KiB for 1 ms, 24 KiB for 1 s, 36 KiB for an hour, 58 KiB at most
/// (up to twice that where the allocator grows it in steps). A worker has two.
#[derive(Debug, Clone)]
struct Series {
    histogram: Histogram<u64>,
    sum: u64,
    min: u64,
    max: u64,
}

/// What a [`Series`] tells, in seconds; all zero before the first duration.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spread {
    /// Arithmetic mean.
    pub average: f64,
    /// The shortest.
    pub min: f64,
    /// The longest.
    pub max: f64,
    /// The median. Percentiles are by nearest rank, at most 0.8 % too high and never above `max`.
    pub p50: f64,
    /// At least 95 of 100 durations are no longer.
    pub p95: f64,
    /// At least 99 of 100 durations are no longer.
    pub p99: f64,
}

impl Series {
    fn new() -> Self {
        let histogram = Histogram::new(2).expect("two digits are within what a histogram can do");
        Self { histogram, sum: 0, min: u64::MAX, max: 0 }
    }

    fn add(&mut self, duration: u64) {
        self.histogram += duration;
        self.sum = self.sum.saturating_add(duration);
        self.min = self.min.min(duration);
        self.max = self.max.max(duration);
    }

    fn merge(&mut self, other: &Self) {
        self.histogram += &other.histogram;
        self.sum = self.sum.saturating_add(other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    fn spread(&self) -> Spread {
        if self.histogram.is_empty() {
            return Spread::default();
        }
        let seconds = |nanoseconds| ratio(nanoseconds, SECOND);
        // A bucket answers with its upper end, which may lie above all that was recorded.
        let percentile = |q| seconds(self.histogram.value_at_quantile(q).min(self.max));
        Spread {
            average: ratio(self.sum, self.histogram.len()) / ratio(SECOND, 1),
            min: seconds(self.min),
            max: seconds(self.max),
            p50: percentile(0.5),
            p95: percentile(0.95),
            p99: percentile(0.99),
        }
    }
}

/// How long tasks waited and how long they ran.
#[derive(Debug, Clone)]
struct Latencies {
    wait: Series,
    execution: Series,
}

impl Latencies {
    fn new() -> Self {
        Self { wait: Series::new(), execution: Series::new() }
    }

    fn merge(&mut self, other: &Self) {
        self.wait.merge(&other.wait);
        self.execution.merge(&other.execution);
    }
}

/// Everything at once, as far as durations go. Times are seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// Time in the task function.
    pub execution: Spread,
    /// Time from acceptance to start.
    pub wait: Spread,
    /// Mean time a worker waited for the interpreter, over the times it had to.
    pub average_attach: f64,
}

/// Samples a worker writes before it empties its ring itself. 64 samples are 1 KiB.
const RING: usize = 64;

#[derive(Debug, Default)]
struct Sample {
    wait: AtomicU64,
    execution: AtomicU64,
}

/// One worker's figures: written through its [`Recorder`], read by anybody.
#[derive(Debug)]
struct Tally {
    /// Written by the recorder alone, hence by load and store. Release, and acquire for readers, so
    /// that who sees an event counted sees those that happened before it counted too, on this worker
    /// and on others. Padded, which pads the whole tally: no two workers share a cache line.
    counters: CachePadded<[AtomicU64; Counter::ALL.len()]>,
    /// Sample `n` is at `n % RING`. Written by the recorder alone; relaxed, as `written` publishes.
    ring: [Sample; RING],
    /// Samples ever written. Written by the recorder alone; release, and acquire for readers, so that
    /// the samples below it are there. May wrap: `RING` divides the range.
    written: AtomicUsize,
    settled: Mutex<Settled>,
}

/// What has left the ring.
#[derive(Debug)]
struct Settled {
    /// Samples ever taken out of the ring.
    taken: usize,
    latencies: Latencies,
}

impl Tally {
    fn new() -> Self {
        Self {
            counters: CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0))),
            ring: std::array::from_fn(|_| Sample::default()),
            written: AtomicUsize::new(0),
            settled: Mutex::new(Settled { taken: 0, latencies: Latencies::new() }),
        }
    }

    fn read(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Acquire)
    }

    /// Empties the ring and shows `look` all there is. Any thread may; the lock is held meanwhile.
    fn settle(&self, look: impl FnOnce(&Latencies)) {
        let mut settled = self.settled.lock();
        let Settled { taken, latencies } = &mut *settled;
        let written = self.written.load(Ordering::Acquire);
        while *taken != written {
            let sample = &self.ring[*taken % RING];
            latencies.wait.add(sample.wait.load(Ordering::Relaxed));
            latencies.execution.add(sample.execution.load(Ordering::Relaxed));
            *taken = taken.wrapping_add(1);
        }
        look(latencies);
    }
}

/// A worker's pen. Made by [`Ledger::enlist`]; dropping it hands its figures over for good.
///
/// It can move between threads but not be shared (the cell sees to that), so its tally has one writer
/// at a time.
#[derive(Debug)]
pub struct Recorder {
    ledger: Arc<Ledger>,
    tally: Arc<Tally>,
    /// Places in the ring that can be written before it has to be emptied. Readers empty it more
    /// often; this worker need not know.
    room: Cell<usize>,
}

impl Recorder {
    /// Counts one event.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Records that a task waited and ran so many nanoseconds.
    ///
    /// Takes a lock once in 64 calls. It is this worker's own, and readers hold it for microseconds.
    pub fn record(&self, wait: u64, execution: u64) {
        if self.room.get() == 0 {
            self.tally.settle(|_| ());
            self.room.set(RING);
        }
        self.room.set(self.room.get() - 1);
        let written = self.tally.written.load(Ordering::Relaxed);
        let sample = &self.tally.ring[written % RING];
        sample.wait.store(wait, Ordering::Relaxed);
        sample.execution.store(execution, Ordering::Relaxed);
        self.tally.written.store(written.wrapping_add(1), Ordering::Release);
        self.add(Counter::ExecutionTime, execution);
    }

    /// Records that the worker waited so many nanoseconds for the interpreter.
    pub fn record_attach(&self, attach: u64) {
        self.add(Counter::AttachTime, attach);
        self.add(Counter::Attached, 1);
    }

    fn add(&self, counter: Counter, amount: u64) {
        let cell = &self.tally.counters[counter as usize];
        let value = cell.load(Ordering::Relaxed);
        cell.store(value.wrapping_add(amount), Ordering::Release);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.ledger.retire(&self.tally);
    }
}

/// The figures of all workers of a runner, those at work and those that ended.
#[derive(Debug)]
pub struct Ledger {
    /// Taken by readers and when a worker comes or goes, never by a task. Taken before a tally's
    /// lock where both are.
    roll: Mutex<Roll>,
}

#[derive(Debug)]
struct Roll {
    /// The tallies of the recorders there are.
    live: Vec<Arc<Tally>>,
    /// The sum of all other tallies there were.
    totals: Totals,
    latencies: Latencies,
}

impl Ledger {
    /// No workers yet.
    pub fn new() -> Self {
        let (totals, latencies) = (Totals::default(), Latencies::new());
        Self { roll: Mutex::new(Roll { live: Vec::new(), totals, latencies }) }
    }

    /// A recorder for one more worker.
    pub fn enlist(self: &Arc<Self>) -> Recorder {
        let tally = Arc::new(Tally::new());
        self.roll.lock().live.push(Arc::clone(&tally));
        Recorder { ledger: Arc::clone(self), tally, room: Cell::new(RING) }
    }

    /// The counters. No difference that makes sense is negative, see [`Counter`].
    pub fn totals(&self) -> Totals {
        let roll = self.roll.lock();
        let mut totals = roll.totals;
        for counter in Counter::ALL.into_iter().rev() {
            let live: u64 = roll.live.iter().map(|tally| tally.read(counter)).sum();
            totals.0[counter as usize] += live;
        }
        totals
    }

    /// The durations.
    pub fn summary(&self) -> Summary {
        let totals = self.totals();
        // Copied, so that workers come and go while this merges.
        let (live, mut latencies) = {
            let roll = self.roll.lock();
            (roll.live.clone(), roll.latencies.clone())
        };
        for tally in live {
            tally.settle(|more| latencies.merge(more));
        }
        Summary {
            execution: latencies.execution.spread(),
            wait: latencies.wait.spread(),
            average_attach: ratio(totals[Counter::AttachTime], totals[Counter::Attached])
                / ratio(SECOND, 1),
        }
    }

    /// Folds the tally of a recorder that ends into the sum. Readers see it before or after, never
    /// twice and never missing.
    fn retire(&self, tally: &Arc<Tally>) {
        let roll = &mut *self.roll.lock();
        roll.live.retain(|other| !Arc::ptr_eq(other, tally));
        for counter in Counter::ALL {
            roll.totals.0[counter as usize] += tally.read(counter);
        }
        tally.settle(|more| roll.latencies.merge(more));
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

/// Seconds a [`Window`] looks back.
const WINDOW: u64 = 60;

/// Arrivals and finishes per second over the last 60 seconds.
///
/// Each second in which something happens leaves one sample: the totals as they stood when it began.
/// The window begins with a second, so it is 59 to 60 seconds long, and nothing that is 60 seconds
/// old counts any more. A younger runner's figures are over its life, taken as one second at least.
#[derive(Debug)]
pub struct Window {
    start: Tick,
    /// When the second after the newest sample's begins. Written under the lock of `samples`, after
    /// the totals were read, and read without it. Release and acquire: who sees that the sample of
    /// this second exists counts after it was taken, so what it counts lies within the window.
    due: AtomicU64,
    /// One for each second with events among the last 60, oldest first.
    samples: Mutex<VecDeque<Tally60>>,
}

#[derive(Debug)]
struct Tally60 {
    second: u64,
    arrived: u64,
    finished: u64,
}

impl Window {
    /// A window of a runner that starts now, with totals of zero.
    pub fn new(now: Tick) -> Self {
        let second = now / SECOND;
        let samples = VecDeque::from([Tally60 { second, arrived: 0, finished: 0 }]);
        let due = AtomicU64::new((second + 1) * SECOND);
        Self { start: now, due, samples: Mutex::new(samples) }
    }

    /// To be called before an arrival or a finish is counted. `totals` gives (arrived, finished).
    ///
    /// One load, unless a second has begun. Then `totals` is asked, once, under a lock: it must be
    /// quick and must not come back here.
    pub fn note(&self, now: Tick, totals: impl FnOnce() -> (u64, u64)) {
        if now < self.due.load(Ordering::Acquire) {
            return;
        }
        let mut samples = self.samples.lock();
        if now < self.due.load(Ordering::Relaxed) {
            return;
        }
        let second = now / SECOND;
        samples.retain(|sample| sample.second + WINDOW > second);
        let (arrived, finished) = totals();
        samples.push_back(Tally60 { second, arrived, finished });
        self.due.store((second + 1) * SECOND, Ordering::Release);
    }

    /// (arrivals, finishes) per second, when the totals are now `current`.
    pub fn rates(&self, now: Tick, current: (u64, u64)) -> (f64, f64) {
        let first = (now / SECOND + 1).saturating_sub(WINDOW);
        let samples = self.samples.lock();
        let Some(base) = samples.iter().find(|sample| sample.second >= first) else {
            return (0.0, 0.0);
        };
        let begin = self.start.max(first * SECOND);
        let length = ratio(now.saturating_sub(begin).max(SECOND), SECOND);
        let rate = |now: u64, then: u64| ratio(now.saturating_sub(then), 1) / length;
        (rate(current.0, base.arrived), rate(current.1, base.finished))
    }
}
