//! Arrivals and completions per second over the last minute.

use super::{SECOND, ratio};
use crate::engine::clock::Tick;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use std::collections::VecDeque;

/// Seconds a [`Window`] looks back.
const WINDOW: u64 = 60;

/// Arrivals and completions per second over the last 60 seconds.
///
/// Each second in which something happens leaves one mark: the totals as they stood when it began.
/// The window begins with a second, so it is 59 to 60 seconds long, and nothing that is 60 seconds
/// old counts any more. A younger runner's rates are over its life, taken as one second at least.
#[derive(Debug)]
pub struct Window {
    start: Tick,
    /// When the second after the newest mark's begins. Written under the lock of `marks`, after
    /// the totals were read, and read without it. Release and acquire: a thread that sees that
    /// the mark of this second exists counts after it was taken, so what the thread counts
    /// lies within the window.
    due: AtomicU64,
    /// One for each second with events among the last 60, oldest first.
    marks: Mutex<VecDeque<SecondTotals>>,
}

/// The totals at the moment a second began.
#[derive(Debug)]
struct SecondTotals {
    second: u64,
    arrived: u64,
    completed: u64,
}

impl Window {
    /// A window of a runner that starts now, with totals of zero.
    pub fn new(now: Tick) -> Self {
        Self { start: now, due: AtomicU64::new(0), marks: Mutex::default() }
    }

    /// To be called before an arrival or a completion is counted. `totals` gives (arrived,
    /// completed).
    ///
    /// One load, unless a second has begun. Then `totals` is called, once, under a lock: it must be
    /// quick and must not call the window. True for the one caller that notes the second.
    pub fn advance(&self, now: Tick, totals: impl FnOnce() -> (u64, u64)) -> bool {
        if now < self.due.load(Ordering::Acquire) {
            return false;
        }
        let mut marks = self.marks.lock();
        if now < self.due.load(Ordering::Relaxed) {
            return false;
        }
        let second = now / SECOND;
        marks.retain(|mark| mark.second + WINDOW > second);
        let (arrived, completed) = totals();
        marks.push_back(SecondTotals { second, arrived, completed });
        self.due.store((second + 1) * SECOND, Ordering::Release);
        true
    }

    /// Whether so much time has passed since the second of the newest mark.
    pub fn is_quiet(&self, now: Tick, time: Tick) -> bool {
        let _marks = self.marks.lock();
        now >= self.due.load(Ordering::Relaxed).saturating_add(time)
    }

    /// (arrivals, completions) per second, when the totals are now `current`.
    pub fn rates(&self, now: Tick, current: (u64, u64)) -> (f64, f64) {
        let begin = self.start.max(first_second(now) * SECOND);
        let length = now.saturating_sub(begin).max(SECOND);
        let (arrived, completed) = self.counts(now, current);
        (ratio(arrived, length) * 1e9, ratio(completed, length) * 1e9)
    }

    /// (arrivals, completions) in the window, when the totals are now `current`.
    pub fn counts(&self, now: Tick, current: (u64, u64)) -> (u64, u64) {
        let first = first_second(now);
        let marks = self.marks.lock();
        let Some(base) = marks.iter().find(|mark| mark.second >= first) else {
            return (0, 0);
        };
        (current.0.saturating_sub(base.arrived), current.1.saturating_sub(base.completed))
    }
}

/// The second with which the window begins.
fn first_second(now: Tick) -> u64 {
    (now / SECOND + 1).saturating_sub(WINDOW)
}

#[cfg(all(test, not(loom)))]
#[expect(clippy::disallowed_methods, reason = "tests start threads of their own")]
mod tests {
    use super::super::series::tests::assert_close;
    use super::*;
    use std::cell::Cell;
    use std::sync::Barrier;
    use std::thread;

    fn assert_rates(actual: (f64, f64), expected: (f64, f64)) {
        assert_close(actual.0, expected.0);
        assert_close(actual.1, expected.1);
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
            self.window.advance(now, || self.totals);
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
    fn what_the_window_holds_is_counted_whole() {
        let mut feed = Feed::new(SECOND / 2);
        feed.pass(SECOND, 7, 3);
        feed.pass(40 * SECOND, 5, 1);
        for (at, expected) in [(41, (12, 4)), (60, (12, 4)), (61, (5, 1)), (100, (0, 0))] {
            assert_eq!(feed.window.counts(at * SECOND, feed.totals), expected, "{at}");
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
            let is_first = now % SECOND == 0;
            let noted = window.advance(now, || {
                let due = window.due.load(Ordering::Relaxed);
                assert!(due <= now, "nobody passes by before the mark is made");
                asked.set(asked.get() + 1);
                (0, 0)
            });
            assert_eq!(noted, is_first);
        }
        assert_eq!(asked.get(), 5);
        window.advance(0, || unreachable!("time that goes back is the same second still"));
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
                        window.advance(second * SECOND, || (arrived.load(Ordering::Relaxed), 0));
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
