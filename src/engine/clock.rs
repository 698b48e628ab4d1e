//! Time as the engine counts it: nanoseconds since the runner began.
//!
//! A task reads the clock twice, which was a seventh of its cost. So the clock asks the system once
//! in a millisecond, and tells by the processor's counter, at a third of the price, how much has
//! passed since. That counter alone would not do: it runs a little off, and some machines reset it
//! while they sleep. Where there is none that can be trusted, `quanta` reads the system's clock for
//! it.
//!
//! Two microseconds late at most, and monotonic as far as the counter and the system's clock agree
//! on the length of a millisecond to a thousandth: differences of ticks saturate all the same.

use crate::sync::CachePadded;
use crate::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

/// A point in time, in nanoseconds since the clock's origin. 584 years fit.
pub type Tick = u64;

/// For how long the counter is trusted.
const TRUSTED: Tick = 1_000_000;

/// The one clock of a runner. Safe to read from any thread.
#[derive(Debug)]
pub struct Clock {
    origin: Instant,
    counter: quanta::Clock,
    anchor: CachePadded<Anchor>,
}

/// What the counter and the system's clock showed at one moment. A sequence lock, as the two words
/// belong together, are read by every thread and are seldom written.
#[derive(Debug)]
struct Anchor {
    /// Odd while a thread writes. Zero: never written.
    version: AtomicU64,
    counter: AtomicU64,
    tick: AtomicU64,
}

impl Anchor {
    fn new() -> Self {
        Self { version: AtomicU64::new(0), counter: AtomicU64::new(0), tick: AtomicU64::new(0) }
    }

    /// The version, and the two words if they belong together.
    fn read(&self) -> (u64, Option<(u64, Tick)>) {
        let version = self.version.load(Ordering::Acquire);
        let words = (self.counter.load(Ordering::Relaxed), self.tick.load(Ordering::Relaxed));
        // The words are read before the version is looked at again.
        fence(Ordering::Acquire);
        let whole =
            version != 0 && version & 1 == 0 && self.version.load(Ordering::Relaxed) == version;
        (version, whole.then_some(words))
    }

    /// Writes, unless another thread did since this `version`: what is older must not replace what
    /// is newer.
    fn write(&self, version: u64, counter: u64, tick: Tick) {
        let begin =
            |odd| self.version.compare_exchange(version, odd, Ordering::Relaxed, Ordering::Relaxed);
        if version & 1 == 0 && begin(version + 1).is_ok() {
            // A thread that reads one of the new words reads the odd version after it.
            fence(Ordering::Release);
            self.counter.store(counter, Ordering::Relaxed);
            self.tick.store(tick, Ordering::Relaxed);
            self.version.store(version + 2, Ordering::Release);
        }
    }
}

impl Clock {
    /// A clock that reads zero now.
    pub fn new() -> Self {
        let anchor = CachePadded::new(Anchor::new());
        Self { origin: Instant::now(), counter: quanta::Clock::new(), anchor }
    }

    /// Nanoseconds since the origin.
    pub fn now(&self) -> Tick {
        if cfg!(loom) {
            // Time stands still: what the engine does with it is not what loom explores there, and
            // an execution that loom repeats must go the same way on a machine that is slower.
            return 0;
        }
        let counter = self.counter.raw();
        let (version, anchor) = self.anchor.read();
        if let Some((then, tick)) = anchor
            && counter >= then
        {
            let passed = self.counter.delta_as_nanos(then, counter);
            if passed < TRUSTED {
                // A thousandth slow: it is never ahead of the system's clock, and so never has to
                // step back.
                return tick + passed - passed / 1024;
            }
        }
        let tick = ticks(self.origin.elapsed());
        // Read after the tick, so that a time computed from it is not ahead. Not written as the
        // anchor when the system suspended this thread in between.
        let after = self.counter.raw();
        if self.counter.delta_as_nanos(counter, after) < TRUSTED / 1024 {
            self.anchor.write(version, after, tick);
        }
        tick
    }
}

/// A duration as ticks; what does not fit counts as for ever.
pub fn ticks(duration: Duration) -> Tick {
    u64::try_from(duration.as_nanos()).unwrap_or(Tick::MAX)
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::thread::spawn;
    use crate::sync::{Arc, model};

    /// A reader that takes one word of one moment and one of another.
    #[test]
    fn loom_what_an_anchor_says_belongs_together() {
        model(|| {
            let anchor = Arc::new(Anchor::new());
            let writers = [1, 2].map(|n| {
                let anchor = Arc::clone(&anchor);
                spawn(move || {
                    let (version, _) = anchor.read();
                    anchor.write(version, n, 10 * n);
                })
            });
            let (_, words) = anchor.read();
            assert!(matches!(words, None | Some((1, 10) | (2, 20))), "{words:?}");
            for writer in writers {
                writer.join().unwrap();
            }
            let (version, words) = anchor.read();
            assert!(version >= 2 && matches!(words, Some((1, 10) | (2, 20))), "{words:?}");
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn keeps_to_the_system_clock_and_never_steps_back() {
        const APART: Tick = 100_000;
        let clock = Clock::new();
        let mut last = 0;
        // Over several of the moments at which it looks at the system's clock anew.
        while last < 20 * TRUSTED {
            let before = ticks(clock.origin.elapsed());
            let now = clock.now();
            let after = ticks(clock.origin.elapsed());
            assert!(now >= last, "stepped back from {last} to {now}");
            assert!(now + APART >= before && now <= after, "{before} {now} {after}");
            last = now;
        }
    }

    #[test]
    fn a_counter_that_was_reset_is_not_believed() {
        let clock = Clock::new();
        // As after a sleep that set the counter back to zero.
        clock.anchor.write(0, u64::MAX, Tick::MAX);
        assert!((0..1_000).all(|_| clock.now() < Tick::MAX));
        assert!(clock.anchor.read().1.is_some_and(|(counter, _)| counter < u64::MAX));
    }
}
