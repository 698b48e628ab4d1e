//! The share of the last minute that a worker was busy.
//!
//! Written by the worker at the end of an attempt, in a few plain stores every two seconds at most:
//! marks, each a moment and how long the worker had been busy until then. A reader draws straight
//! lines between them, so nothing wakes up for it, and what it reads is at most two seconds in
//! sixty off.

use super::{SECOND, ratio};
use crate::engine::clock::Tick;
use crate::sync::OnceLock;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How far back readers look.
pub const WINDOW: Tick = 60 * SECOND;
/// Marks are at least this far apart.
const BETWEEN_MARKS: Tick = 2 * SECOND;
/// An attempt leaves one mark where it begins and one where it ends. With so many, none is written
/// over that a reader needs: they reach back for two minutes at least.
const MARKS: usize = 128;

/// See the module's documentation. One thread at a time writes, any may read.
///
/// Relaxed: attempts are added, and the share is read, under the lock of what the worker runs. So a
/// reader finds each attempt either among what runs or in the total.
#[derive(Debug)]
pub struct BusyTime {
    /// Nanoseconds in outermost attempts that have ended.
    total: AtomicU64,
    /// Where the next mark is due.
    due: AtomicU64,
    /// When the worker came up.
    start: AtomicU64,
    /// Marks ever written; the last ones stand at `n % MARKS`.
    written: AtomicUsize,
    /// Made when the first is written: workers that come and go write none.
    marks: OnceLock<Box<[Mark; MARKS]>>,
}

#[derive(Debug, Default)]
struct Mark {
    at: AtomicU64,
    busy: AtomicU64,
}

impl Default for BusyTime {
    fn default() -> Self {
        let number = || AtomicU64::new(0);
        Self {
            total: number(),
            due: number(),
            start: number(),
            written: AtomicUsize::new(0),
            marks: OnceLock::new(),
        }
    }
}

impl BusyTime {
    /// The worker has come up.
    pub(super) fn begin(&self, now: Tick) {
        self.start.store(now, Ordering::Relaxed);
        self.due.store(now + BETWEEN_MARKS, Ordering::Relaxed);
    }

    /// The worker was busy from then to then, with an attempt that runs in no other, and is just
    /// taken off what it runs.
    pub(super) fn add(&self, begin: Tick, end: Tick) {
        let before = self.total.load(Ordering::Relaxed);
        let total = before + end.saturating_sub(begin);
        self.total.store(total, Ordering::Relaxed);
        let due = self.due.load(Ordering::Relaxed);
        if end >= due {
            if begin >= due {
                self.mark(begin, before);
            }
            self.mark(end, total);
            self.due.store(end + BETWEEN_MARKS, Ordering::Relaxed);
        }
    }

    fn mark(&self, at: Tick, busy: u64) {
        let marks = self.marks.get_or_init(|| {
            let marks: Box<[Mark]> = (0..MARKS).map(|_| Mark::default()).collect();
            marks.try_into().expect("so many were made")
        });
        let written = self.written.load(Ordering::Relaxed);
        let mark = &marks[written % MARKS];
        mark.at.store(at, Ordering::Relaxed);
        mark.busy.store(busy, Ordering::Relaxed);
        self.written.store(written.wrapping_add(1), Ordering::Relaxed);
    }

    /// For how many of how many nanoseconds the worker was busy, over the last minute or its life.
    /// `since`: since when it runs what it runs, if it does.
    pub fn share(&self, now: Tick, since: Option<Tick>) -> (u64, u64) {
        let start = self.start.load(Ordering::Relaxed);
        if start == 0 || now <= start {
            return (0, 0);
        }
        let window = start.max(now.saturating_sub(WINDOW));
        let total = self.total.load(Ordering::Relaxed);
        let at_window = if window == start { 0 } else { self.busy_at(window, now, total, since) };
        let running = since.map_or(0, |since| now.saturating_sub(since));
        let length = now - window;
        ((total + running).saturating_sub(at_window).min(length), length)
    }

    /// How long it had been busy by then, on the lines between the marks.
    fn busy_at(&self, then: Tick, now: Tick, total: u64, since: Option<Tick>) -> u64 {
        let written = self.written.load(Ordering::Relaxed);
        // From the newest on, as most readers need the last few.
        let mut later = match since {
            Some(since) if since <= then => return total + (then - since),
            Some(since) => (since, total),
            None => (now, total),
        };
        let marks = self.marks.get().map_or(&[][..], |marks| &marks[..]);
        for n in 1..=written.min(MARKS) {
            let mark = &marks[written.wrapping_sub(n) % MARKS];
            let earlier = (mark.at.load(Ordering::Relaxed), mark.busy.load(Ordering::Relaxed));
            if earlier.0 <= then {
                return between(earlier, later, then);
            }
            later = earlier;
        }
        between((self.start.load(Ordering::Relaxed), 0), later, then)
    }
}

/// The value at `then` on the line between two points.
fn between(earlier: (Tick, u64), later: (Tick, u64), then: Tick) -> u64 {
    let (span, rise) = (later.0.saturating_sub(earlier.0), later.1.saturating_sub(earlier.1));
    let passed = u128::from(then.saturating_sub(earlier.0).min(span));
    let risen = u128::from(rise) * passed / u128::from(span.max(1));
    earlier.1 + u64::try_from(risen).unwrap_or(rise)
}

/// What several workers come to.
pub fn sum(workers: impl Iterator<Item = (u64, u64)>) -> (u64, u64) {
    workers.fold((0, 0), |sum, worker| (sum.0 + worker.0, sum.1 + worker.1))
}

/// The share that so many of so many nanoseconds are, from 0 to 1; zero before any time has passed.
pub fn share((busy, length): (u64, u64)) -> f64 {
    ratio(busy, length)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const START: Tick = 1_000 * SECOND;

    fn fresh() -> BusyTime {
        let time = BusyTime::default();
        time.begin(START);
        time
    }

    fn assert_share(time: &BusyTime, now: Tick, since: Option<Tick>, expected: f64) {
        let actual = share(time.share(now, since));
        assert!((actual - expected).abs() <= 2.0 / 60.0, "{actual} instead of {expected} at {now}");
    }

    #[test]
    fn nothing_is_known_before_the_worker_is_up() {
        assert_eq!(BusyTime::default().share(5 * SECOND, None), (0, 0));
        assert_eq!(fresh().share(START, None), (0, 0));
        assert!(share(sum([].into_iter())).abs() < f64::EPSILON);
    }

    #[test]
    fn a_young_worker_is_judged_over_its_life() {
        let time = fresh();
        time.add(START + SECOND, START + 2 * SECOND);
        assert_eq!(time.share(START + 4 * SECOND, None), (SECOND, 4 * SECOND));
        assert_eq!(time.share(START + 40 * SECOND, None), (SECOND, 40 * SECOND));
    }

    #[test]
    fn a_task_that_runs_counts_until_now() {
        let time = fresh();
        for age in [1, 30, 59, 60, 61, 300] {
            let now = START + age * SECOND;
            assert_share(&time, now, Some(START), 1.0);
        }
        assert_share(&time, START + 300 * SECOND, Some(START + 270 * SECOND), 0.5);
    }

    #[test]
    fn long_tasks_count_where_they_ran() {
        let time = fresh();
        time.add(START + 100 * SECOND, START + 130 * SECOND);
        for (now, expected) in [(130, 0.5), (160, 0.5), (175, 0.25), (190, 0.0), (900, 0.0)] {
            assert_share(&time, START + now * SECOND, None, expected);
        }
        time.add(START + 900 * SECOND, START + 1_200 * SECOND);
        for (now, expected) in [(1_200, 1.0), (1_230, 0.5), (1_260, 0.0)] {
            assert_share(&time, START + now * SECOND, None, expected);
        }
    }

    #[test]
    fn short_tasks_count_as_the_share_that_they_take() {
        let time = fresh();
        // A quarter busy for ten minutes, then three quarters.
        for step in 0..12_000 {
            let begin = START + step * SECOND / 10;
            let span = SECOND / 40 * if step < 6_000 { 1 } else { 3 };
            time.add(begin, begin + span);
            let end = begin + SECOND / 10;
            let new = ratio((end - START).saturating_sub(600 * SECOND).min(WINDOW), WINDOW);
            if step % 77 == 0 {
                assert_share(&time, end, None, 0.25 + new * 0.5);
            }
        }
    }

    #[test]
    fn short_tasks_after_a_long_rest_count_from_their_beginning() {
        let time = fresh();
        time.add(START, START + 3 * SECOND);
        time.add(START + 500 * SECOND, START + 500 * SECOND + 1);
        assert_share(&time, START + 501 * SECOND, None, 0.0);
        assert_share(&time, START + 60 * SECOND, None, 3.0 / 60.0);
    }

    #[test]
    fn many_long_tasks_leave_the_marks_that_readers_need() {
        let time = fresh();
        for step in 0..1_000 {
            let begin = START + step * 3 * SECOND;
            time.add(begin, begin + 2 * SECOND);
            assert_share(&time, begin + 3 * SECOND, None, 2.0 / 3.0);
        }
    }
}
