//! The figures of a runner, counted by each worker for itself and added up by whoever asks.
//!
//! A worker owns a [`Recorder`]: counters and a small ring of durations that only it writes, so that
//! a task costs a few plain stores. It empties a full ring into histograms of bounded size; a reader
//! adds these and what is in the rings. That takes the same time after ten tasks and after ten
//! million, and sees every task that was recorded. The [`Ledger`] knows the recorders at work, and
//! keeps what those that ended had to tell. A [`Window`] turns totals into rates.

pub mod books;

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
    /// Attempts, first ones and retries, that are over whatever came of them.
    Ended,
    /// Nanoseconds spent in task functions.
    ExecutionTime,
    /// Times a worker had to wait for the interpreter.
    Attached,
    /// Nanoseconds spent waiting for it.
    AttachTime,
}

/// How many counters there are: one more than the last.
const COUNTERS: usize = Counter::AttachTime as usize + 1;

/// The counters of all workers together, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals([u64; COUNTERS]);

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

/// A mean in seconds, from nanoseconds.
fn mean(total: u64, count: u64) -> f64 {
    ratio(total, count) / 1e9
}

/// Durations kept as a histogram, with exact sum, minimum and maximum.
///
/// The histogram has two significant digits: below 256 ns it is exact, above, a percentile is at most
/// 1/128 (0.8 %) too high and never too low. It takes 2 KiB, and 1 KiB more for each doubling of the
/// longest duration beyond that: 14 KiB for 1 ms, 24 KiB for 1 s, 36 KiB for an hour, 58 KiB at most
/// (up to twice that where the allocator grows it in steps). A worker has two, once its ring was full.
#[derive(Debug, Clone)]
struct Series {
    histogram: Histogram<u64>,
    sum: u64,
    min: u64,
    max: u64,
}

/// What durations of one kind come to, in seconds; all zero before the first.
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

    fn add(&mut self, duration: u64, times: u64) {
        self.histogram.record_n(duration, times).expect("a histogram without a limit grows");
        self.sum = self.sum.saturating_add(duration.saturating_mul(times));
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
            average: mean(self.sum, self.histogram.len()),
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

impl Default for Latencies {
    fn default() -> Self {
        Self { wait: Series::new(), execution: Series::new() }
    }
}

impl Latencies {
    fn merge(&mut self, other: &Self) {
        self.wait.merge(&other.wait);
        self.execution.merge(&other.execution);
    }
}

/// Everything at once, as far as durations go. Times are seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    /// Time in the task function, of each attempt by itself.
    pub execution: Spread,
    /// Time in the queue, of each attempt by itself.
    pub wait: Spread,
    /// Mean time a worker waited for the interpreter, over the times it had to.
    pub average_attach: f64,
}

/// Samples a worker writes before it empties its ring itself. 64 samples are 1.5 KiB.
const RING: usize = 64;

#[derive(Debug, Default)]
struct Sample {
    wait: AtomicU64,
    execution: AtomicU64,
    /// How many attempts had these durations.
    times: AtomicU64,
}

/// One worker's figures: written through its [`Recorder`], read by anybody.
#[derive(Debug)]
struct Tally {
    /// Written by the recorder alone, hence by load and store. Release, and acquire for readers, so
    /// that who sees an event counted sees those that happened before it counted too, on this worker
    /// and on others. Padded, which pads the whole tally: no two workers share a cache line.
    counters: CachePadded<[AtomicU64; COUNTERS]>,
    /// Sample `n` is at `n % RING`. Written by the recorder alone; relaxed, as `written` publishes.
    /// Boxed, and so never on the stack of a worker that begins: that would take another page of it.
    ring: Box<[Sample; RING]>,
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
    /// Nothing before the ring was full once: workers that come and go run less than that.
    latencies: Option<Box<Latencies>>,
}

impl Tally {
    fn new() -> Self {
        let ring: Box<[Sample]> = (0..RING).map(|_| Sample::default()).collect();
        Self {
            counters: CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0))),
            ring: ring.try_into().expect("so many were made"),
            written: AtomicUsize::new(0),
            settled: Mutex::new(Settled { taken: 0, latencies: None }),
        }
    }

    fn read(&self, counter: usize) -> u64 {
        self.counters[counter].load(Ordering::Acquire)
    }

    /// Empties the ring. For the recorder, which writes on from its beginning.
    fn settle(&self) {
        let mut settled = self.settled.lock();
        let Settled { taken, latencies } = &mut *settled;
        *taken = self.read_ring(*taken, latencies.get_or_insert_default());
    }

    /// Adds all there is to a sum. Any thread may; the lock is held meanwhile.
    fn add_to(&self, sum: &mut Latencies) {
        let settled = self.settled.lock();
        if let Some(latencies) = &settled.latencies {
            sum.merge(latencies);
        }
        self.read_ring(settled.taken, sum);
    }

    /// Adds the samples from this one on, under the lock, without which they would be overwritten. Gives the end.
    fn read_ring(&self, mut next: usize, sum: &mut Latencies) -> usize {
        let written = self.written.load(Ordering::Acquire);
        while next != written {
            let sample = &self.ring[next % RING];
            let times = sample.times.load(Ordering::Relaxed);
            sum.wait.add(sample.wait.load(Ordering::Relaxed), times);
            sum.execution.add(sample.execution.load(Ordering::Relaxed), times);
            next = next.wrapping_add(1);
        }
        written
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
    /// Places in the ring that can be written before it has to be emptied.
    room: Cell<usize>,
}

impl Recorder {
    /// Counts one event.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Records that an attempt waited and ran so many nanoseconds.
    ///
    /// Takes a lock once in 64 calls. It is this worker's own, and readers hold it for microseconds.
    pub fn record(&self, wait: u64, execution: u64) {
        self.record_many(wait, execution, 1);
    }

    /// Records so many attempts that waited and ran about as long as each other.
    pub fn record_many(&self, wait: u64, execution: u64, times: u64) {
        if self.room.get() == 0 {
            self.tally.settle();
            self.room.set(RING);
        }
        self.room.set(self.room.get() - 1);
        let written = self.tally.written.load(Ordering::Relaxed);
        let sample = &self.tally.ring[written % RING];
        sample.wait.store(wait, Ordering::Relaxed);
        sample.execution.store(execution, Ordering::Relaxed);
        sample.times.store(times, Ordering::Relaxed);
        self.tally.written.store(written.wrapping_add(1), Ordering::Release);
        self.add(Counter::ExecutionTime, execution.saturating_mul(times));
    }

    /// Records that the worker waited so many nanoseconds for the interpreter.
    pub fn record_attach(&self, attach: u64) {
        self.add(Counter::Attached, 1);
        self.add(Counter::AttachTime, attach);
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
        let (totals, latencies) = (Totals::default(), Latencies::default());
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
        for (counter, total) in totals.0.iter_mut().enumerate().rev() {
            *total += roll.live.iter().map(|tally| tally.read(counter)).sum::<u64>();
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
            tally.add_to(&mut latencies);
        }
        Summary {
            execution: latencies.execution.spread(),
            wait: latencies.wait.spread(),
            average_attach: mean(totals[Counter::AttachTime], totals[Counter::Attached]),
        }
    }

    /// Folds the tally of a recorder that ends into the sum. Readers see it before or after, never
    /// twice and never missing.
    fn retire(&self, tally: &Arc<Tally>) {
        let roll = &mut *self.roll.lock();
        roll.live.retain(|other| !Arc::ptr_eq(other, tally));
        for (counter, total) in roll.totals.0.iter_mut().enumerate() {
            *total += tally.read(counter);
        }
        tally.add_to(&mut roll.latencies);
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

/// Seconds a [`Window`] looks back.
const WINDOW: u64 = 60;

/// Arrivals and completions per second over the last 60 seconds.
///
/// Each second in which something happens leaves one mark: the totals as they stood when it began.
/// The window begins with a second, so it is 59 to 60 seconds long, and nothing that is 60 seconds
/// old counts any more. A younger runner's figures are over its life, taken as one second at least.
#[derive(Debug)]
pub struct Window {
    start: Tick,
    /// When the second after the newest mark's begins. Written under the lock of `marks`, after
    /// the totals were read, and read without it. Release and acquire: who sees that the mark of
    /// this second exists counts after it was taken, so what it counts lies within the window.
    due: AtomicU64,
    /// One for each second with events among the last 60, oldest first.
    marks: Mutex<VecDeque<Mark>>,
}

/// The totals at the moment a second began.
#[derive(Debug)]
struct Mark {
    second: u64,
    arrived: u64,
    completed: u64,
}

impl Window {
    /// A window of a runner that starts now, with totals of zero.
    pub fn new(now: Tick) -> Self {
        let second = now / SECOND;
        let marks = VecDeque::from([Mark { second, arrived: 0, completed: 0 }]);
        let due = AtomicU64::new((second + 1) * SECOND);
        Self { start: now, due, marks: Mutex::new(marks) }
    }

    /// To be called before an arrival or a completion is counted. `totals` gives (arrived, completed).
    ///
    /// One load, unless a second has begun. Then `totals` is asked, once, under a lock: it must be
    /// quick and must not come back here.
    pub fn note(&self, now: Tick, totals: impl FnOnce() -> (u64, u64)) {
        if now < self.due.load(Ordering::Acquire) {
            return;
        }
        let mut marks = self.marks.lock();
        if now < self.due.load(Ordering::Relaxed) {
            return;
        }
        let second = now / SECOND;
        marks.retain(|mark| mark.second + WINDOW > second);
        let (arrived, completed) = totals();
        marks.push_back(Mark { second, arrived, completed });
        self.due.store((second + 1) * SECOND, Ordering::Release);
    }

    /// (arrivals, completions) per second, when the totals are now `current`.
    pub fn rates(&self, now: Tick, current: (u64, u64)) -> (f64, f64) {
        let first = (now / SECOND + 1).saturating_sub(WINDOW);
        let marks = self.marks.lock();
        let Some(base) = marks.iter().find(|mark| mark.second >= first) else {
            return (0.0, 0.0);
        };
        let begin = self.start.max(first * SECOND);
        let length = now.saturating_sub(begin).max(SECOND);
        let rate = |now: u64, then: u64| ratio(now.saturating_sub(then), length) * 1e9;
        (rate(current.0, base.arrived), rate(current.1, base.completed))
    }
}

#[cfg(all(test, not(loom)))]
#[expect(clippy::disallowed_methods, reason = "tests start threads of their own")]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    /// Equal but for what arithmetic in floating point may do.
    fn assert_close(actual: f64, expected: f64) {
        let error = (actual - expected).abs();
        assert!(error <= 1e-12 * expected.abs(), "{actual} instead of {expected}");
    }

    fn assert_rates(actual: (f64, f64), expected: (f64, f64)) {
        assert_close(actual.0, expected.0);
        assert_close(actual.1, expected.1);
    }

    fn spread(durations: impl IntoIterator<Item = u64>) -> Spread {
        let mut series = Series::new();
        durations.into_iter().for_each(|duration| series.add(duration, 1));
        series.spread()
    }

    fn assert_percentiles(spread: &Spread, nanoseconds: [u64; 3]) {
        let actual = [spread.p50, spread.p95, spread.p99];
        for (actual, nanoseconds) in actual.into_iter().zip(nanoseconds) {
            assert_close(actual, ratio(nanoseconds, SECOND));
        }
    }

    fn kibibytes(series: &Series) -> usize {
        series.histogram.distinct_values() * size_of::<u64>() / 1024
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        for (last, expected) in [
            (1, [1, 1, 1]),
            (2, [1, 2, 2]),
            (10, [5, 10, 10]),
            (20, [10, 19, 20]),
            (50, [25, 48, 50]),
            (100, [50, 95, 99]),
            (200, [100, 190, 198]),
        ] {
            // Backwards, as the order must not matter.
            assert_percentiles(&spread((1..=last).rev()), expected);
        }
    }

    #[test]
    fn average_and_extremes_are_exact() {
        let spread = spread([3_000_000_001, 1_234_567, 999_999_999]);
        assert_close(spread.average, 4_001_234_567.0 / 3.0 / 1e9);
        assert_close(spread.min, 0.001_234_567);
        assert_close(spread.max, 3.000_000_001);
        assert_close(spread.p99, 3.000_000_001);
    }

    #[test]
    fn percentiles_of_any_size_are_at_most_one_in_128_too_high() {
        for shift in 0..50 {
            let mut durations: Vec<u64> = (1..=101_u64).map(|n| (n * n * 977) << shift).collect();
            let spread = spread(durations.iter().copied());
            durations.sort_unstable();
            for (rank, actual) in [(51, spread.p50), (96, spread.p95), (100, spread.p99)] {
                let exact = ratio(durations[rank - 1], SECOND);
                let highest = exact * (1.0 + 1.0 / 128.0);
                assert!(exact <= actual && actual <= highest, "{exact} {actual} {shift}");
            }
            assert!(spread.p99 <= spread.max);
        }
    }

    #[test]
    fn nothing_recorded_reads_zero() {
        assert_eq!(spread([]), Spread::default());
        assert_eq!(Arc::new(Ledger::new()).summary(), Summary::default());
        assert_eq!(Ledger::new().totals(), Totals::default());
    }

    #[test]
    fn durations_of_zero_count() {
        let spread = spread([0, 0, 0, 8]);
        assert_eq!((spread.min, spread.p50, spread.max), (0.0, 0.0, 8e-9));
        assert_close(spread.average, 2e-9);
    }

    #[test]
    fn memory_depends_on_the_longest_duration_alone() {
        for (longest, expected) in
            [(255, 2), (1_000_000, 14), (SECOND, 24), (3_600 * SECOND, 36), (u64::MAX, 58)]
        {
            let mut series = Series::new();
            for step in 0..10_000 {
                series.add(longest - longest / 10_000 * step, 1);
            }
            assert_eq!(kibibytes(&series), expected, "{longest}");
        }
    }

    #[test]
    fn ratios_are_right_from_the_first_finished_task() {
        assert_eq!(ratios(0, 0), (0.0, 0.0));
        assert_eq!(ratios(0, 1), (0.0, 1.0));
        assert_eq!(ratios(0, 4), (0.0, 1.0));
        assert_eq!(ratios(3, 1), (0.75, 0.25));
    }

    #[test]
    fn totals_add_up_over_recorders_that_live_and_that_ended() {
        let ledger = Arc::new(Ledger::new());
        let recorders = [(); 3].map(|()| ledger.enlist());
        for recorder in &recorders {
            recorder.count(Counter::Started);
            recorder.count(Counter::Started);
            recorder.count(Counter::Failed);
            recorder.count(Counter::Ended);
            recorder.record_attach(40);
        }
        let before = ledger.totals();
        assert_eq!(before[Counter::Started], 6);
        assert_eq!(before[Counter::Failed], 3);
        assert_eq!(before[Counter::Completed], 0);
        assert_eq!(before[Counter::AttachTime], 120);
        assert_eq!(before.running(), 3);
        let [first, rest @ ..] = recorders;
        drop(first);
        assert_eq!(ledger.totals(), before);
        drop(rest);
        assert_eq!(ledger.totals(), before);
        assert!(ledger.roll.lock().live.is_empty());
    }

    #[test]
    fn a_retry_counts_as_running_again() {
        use Counter::{Ended, Resumed, Retried, Started};
        let ledger = Arc::new(Ledger::new());
        let recorder = ledger.enlist();
        let running = [Started, Retried, Ended, Resumed, Ended].map(|counter| {
            recorder.count(counter);
            ledger.totals().running()
        });
        assert_eq!(running, [1, 1, 0, 1, 0]);
    }

    #[test]
    fn a_reader_sees_every_sample_at_once_and_each_once() {
        let ledger = Arc::new(Ledger::new());
        let recorder = ledger.enlist();
        for n in 1..=1_000_u64 {
            recorder.record(n, 2 * n);
            // At odd moments, so that the ring is emptied in the middle too.
            if n < 10 || n.is_multiple_of(37) || n == 1_000 {
                let summary = ledger.summary();
                assert_close(summary.wait.max, ratio(n, SECOND));
                assert_close(summary.execution.max, ratio(2 * n, SECOND));
                assert_close(summary.wait.average, ratio(n + 1, 2) / 1e9);
            }
        }
        assert_eq!(ledger.totals()[Counter::ExecutionTime], 1_001_000);
    }

    #[test]
    fn summaries_merge_recorders_that_live_and_that_ended() {
        let ledger = Arc::new(Ledger::new());
        let recorders = [1, 2, 3, 4].map(|n| {
            let recorder = ledger.enlist();
            for step in 1..=25 {
                recorder.record(n * 25 - step + 1, 7);
            }
            recorder.record_attach(n * 100);
            recorder
        });
        let summary = ledger.summary();
        assert_percentiles(&summary.wait, [50, 95, 99]);
        assert_eq!((summary.execution.min, summary.execution.p99), (7e-9, 7e-9));
        assert_close(summary.average_attach, 250e-9);
        for recorder in recorders {
            drop(recorder);
            assert_eq!(ledger.summary(), summary);
        }
        assert!(ledger.roll.lock().live.is_empty());
    }

    #[test]
    fn reading_is_about_the_same_data_after_ten_tasks_and_after_a_million() {
        let ledger = Arc::new(Ledger::new());
        let recorder = ledger.enlist();
        let size_after = |tasks: u64| {
            (0..tasks).for_each(|n| recorder.record(n % 1_000, 1_000));
            ledger.summary();
            let settled = recorder.tally.settled.lock();
            let latencies = settled.latencies.as_ref().unwrap();
            (kibibytes(&latencies.wait), kibibytes(&latencies.execution))
        };
        size_after(1_000);
        let (ten, million) = (size_after(10), size_after(1_000_000));
        assert_eq!(ten, million);
    }

    #[test]
    fn a_worker_that_runs_few_tasks_makes_no_histogram() {
        let ledger = Arc::new(Ledger::new());
        let recorder = ledger.enlist();
        let runs = |tasks: usize| (0..tasks).for_each(|_| recorder.record(1, 2));
        runs(RING);
        assert_eq!(ledger.summary(), ledger.summary());
        assert!(recorder.tally.settled.lock().latencies.is_none());
        runs(1);
        assert!(recorder.tally.settled.lock().latencies.is_some());
    }

    #[test]
    fn no_sample_is_lost_or_torn_while_others_read() {
        const SAMPLES: u64 = if cfg!(miri) { 500 } else { 100_000 };
        let ledger = Arc::new(Ledger::new());
        let recorders = [ledger.enlist(), ledger.enlist()];
        let start = Barrier::new(3);
        let (start, ledger) = (&start, &*ledger);
        thread::scope(|scope| {
            let writers = recorders.map(|recorder| {
                scope.spawn(move || {
                    start.wait();
                    (1..=SAMPLES).for_each(|n| recorder.record(n, n));
                })
            });
            start.wait();
            while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
                let summary = ledger.summary();
                assert_eq!(summary.wait, summary.execution);
            }
        });
        let summary = ledger.summary();
        assert_close(summary.wait.average, ratio(SAMPLES + 1, 2) / 1e9);
        assert_eq!(ledger.roll.lock().latencies.wait.histogram.len(), 2 * SAMPLES);
    }

    #[test]
    fn totals_never_show_an_effect_without_its_cause() {
        use Counter::{Completed, Ended, Resumed, Retried, Started};
        const TASKS: u64 = if cfg!(miri) { 200 } else { 50_000 };
        let ledger = Arc::new(Ledger::new());
        let (first, second) = (ledger.enlist(), ledger.enlist());
        let (put_back, again) = std::sync::mpsc::channel();
        let done = AtomicBool::new(false);
        let (done, ledger) = (&done, &*ledger);
        thread::scope(|scope| {
            scope.spawn(move || {
                for task in 0..TASKS {
                    for event in [Started, Retried, Ended] {
                        first.count(event);
                    }
                    put_back.send(task).expect("the second worker lives");
                }
            });
            scope.spawn(move || {
                for _ in again {
                    for event in [Resumed, Completed, Ended] {
                        second.count(event);
                    }
                }
                done.store(true, Ordering::Release);
            });
            let mut before = Totals::default();
            while !done.load(Ordering::Acquire) {
                let totals = ledger.totals();
                assert!(totals[Started] >= totals[Retried], "{totals:?}");
                assert!(totals[Retried] >= totals[Resumed], "{totals:?}");
                assert!(totals[Resumed] >= totals[Completed], "{totals:?}");
                assert!(totals[Started] + totals[Resumed] >= totals[Ended], "{totals:?}");
                assert!(totals.0.iter().zip(before.0).all(|(now, then)| *now >= then));
                before = totals;
            }
        });
        let totals = ledger.totals();
        assert_eq!([Started, Retried, Resumed, Completed].map(|c| totals[c]), [TASKS; 4]);
        assert_eq!(totals.running(), 0);
    }

    #[test]
    fn totals_only_grow_while_workers_come_and_go() {
        let ledger = Arc::new(Ledger::new());
        let rounds = if cfg!(miri) { 20 } else { 5_000 };
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..rounds {
                    ledger.enlist().count(Counter::Started);
                }
                done.store(true, Ordering::Release);
            });
            let mut before = 0;
            while !done.load(Ordering::Acquire) {
                let now = ledger.totals()[Counter::Started];
                assert!(now >= before, "{now} after {before}");
                before = now;
            }
        });
        assert_eq!(ledger.totals()[Counter::Started], rounds);
    }

    /// A window with the totals it is about, fed as a runner does it.
    struct Feed {
        window: Window,
        totals: (u64, u64),
    }

    impl Feed {
        fn new(start: Tick) -> Self {
            Self { window: Window::new(start), totals: (0, 0) }
        }

        /// So many tasks arrive and finish at `now`.
        fn pass(&mut self, now: Tick, arriving: u64, finishing: u64) {
            self.window.note(now, || self.totals);
            self.totals.0 += arriving;
            self.totals.1 += finishing;
        }

        fn rates(&self, now: Tick) -> (f64, f64) {
            self.window.rates(now, self.totals)
        }
    }

    #[test]
    fn rates_of_a_young_runner_are_over_its_life_but_at_least_a_second() {
        let start = 10 * SECOND + SECOND / 2;
        let mut feed = Feed::new(start);
        assert_rates(feed.rates(start), (0.0, 0.0));
        feed.pass(start + 1, 6, 3);
        for (age, expected) in [
            (1, (6.0, 3.0)),
            (SECOND / 100, (6.0, 3.0)),
            (SECOND, (6.0, 3.0)),
            (2 * SECOND, (3.0, 1.5)),
            (30 * SECOND, (0.2, 0.1)),
            (59 * SECOND, (6.0 / 59.0, 3.0 / 59.0)),
            (60 * SECOND, (0.0, 0.0)),
            (9_999 * SECOND, (0.0, 0.0)),
        ] {
            assert_rates(feed.rates(start + age), expected);
        }
    }

    #[test]
    fn a_steady_flow_reads_the_same_at_any_age() {
        let mut feed = Feed::new(0);
        for second in 0..300 {
            for quarter in 0..4 {
                feed.pass(second * SECOND + quarter * SECOND / 4, 5, 2);
            }
            assert_rates(feed.rates((second + 1) * SECOND - 1), {
                // The last tick of a second: one tick short of whole seconds.
                let seen = ratio((second + 1).min(WINDOW), 1);
                let length = ratio(((second + 1).min(WINDOW) * SECOND - 1).max(SECOND), SECOND);
                (20.0 * seen / length, 8.0 * seen / length)
            });
        }
        assert_eq!(feed.window.marks.lock().len(), 60);
    }

    #[test]
    fn events_leave_the_window_sixty_seconds_after_them_at_the_latest() {
        for event in [0, 1, SECOND - 1, 100 * SECOND, 100 * SECOND + 1, 101 * SECOND - 1] {
            let mut feed = Feed::new(0);
            feed.pass(event, 1, 0);
            assert!(feed.rates(event + 59 * SECOND).0 > 0.0, "{event}");
            assert_rates(feed.rates(event + 60 * SECOND), (0.0, 0.0));
        }
    }

    #[test]
    fn a_burst_after_a_long_silence_counts_whole() {
        let mut feed = Feed::new(0);
        feed.pass(0, 1_000, 1_000);
        feed.pass(500 * SECOND + 7, 120, 0);
        feed.pass(500 * SECOND + 8, 0, 60);
        let (arrivals, finishes) = feed.rates(501 * SECOND - 1);
        assert!((arrivals - 2.0).abs() < 1e-6 && (finishes - 1.0).abs() < 1e-6);
        feed.pass(530 * SECOND, 0, 60);
        assert!((feed.rates(531 * SECOND - 1).1 - 2.0).abs() < 1e-6);
        assert_eq!(feed.window.marks.lock().len(), 2);
    }

    #[test]
    fn the_totals_are_asked_once_a_second() {
        let window = Window::new(0);
        let asked = Cell::new(0);
        for now in (0..20).map(|step| step * SECOND / 4) {
            window.note(now, || {
                let due = window.due.load(Ordering::Relaxed);
                assert!(due <= now, "nobody passes by before the mark is made");
                asked.set(asked.get() + 1);
                (0, 0)
            });
        }
        // The first of the five seconds is the one in which the window was made.
        assert_eq!(asked.get(), 4);
        window.note(0, || unreachable!("time that goes back is the same second still"));
    }

    #[test]
    fn what_a_second_brings_is_counted_by_all_threads_after_its_mark() {
        const THREADS: u64 = 4;
        let window = Window::new(0);
        let arrived = AtomicU64::new(0);
        for second in 1..if cfg!(miri) { 10 } else { 500 } {
            let start = Barrier::new(4);
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        start.wait();
                        window.note(second * SECOND, || (arrived.load(Ordering::Relaxed), 0));
                        arrived.fetch_add(1, Ordering::Relaxed);
                    });
                }
            });
            let marks = window.marks.lock();
            let newest = marks.back().expect("one for this second");
            assert_eq!((newest.second, newest.arrived), (second, (second - 1) * THREADS));
        }
    }
}
