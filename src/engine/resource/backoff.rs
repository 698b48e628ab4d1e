//! Pauses between attempts to create a resource while creation fails, shared by the whole runner.
//!
//! While all is well every worker creates at once and in parallel. From the first failure on there
//! is one attempt at a time for the whole runner, after a pause that doubles from 0.1 s to 2 s and
//! is drawn with full jitter; the first success releases every worker that waits. A resource that
//! is bad from the start is no success: once that is seen to happen, each new one is validated as
//! it is made.

use crate::engine::clock::Tick;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex};
use std::time::Duration;

const FIRST_PAUSE: Tick = 100_000_000;
const MAX_PAUSE: Tick = 2_000_000_000;

/// The pause before the next attempt after `failures` in a row, between nothing and the doubled
/// bound; `random` is any number.
pub fn pause(failures: u32, random: u64) -> Tick {
    let bound = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_PAUSE);
    // Never quite zero, or a lucky draw would be an attempt without a pause.
    (bound / 10) + random % (bound - bound / 10)
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Backoff {
    state: Mutex<FailureStreak>,
    changed: Condvar,
    validate_on_create: AtomicBool,
}

#[derive(Debug, Default)]
struct FailureStreak {
    /// Failures in a row; zero while all is well.
    failures: u32,
    /// When the next attempt may begin.
    next: Tick,
    /// A worker is attempting, during trouble.
    attempting: bool,
    /// When trouble began.
    since: Tick,
    /// When trouble was last reported.
    reported: Tick,
    /// No more waiting.
    closed: bool,
    random: u64,
}

/// What to tell the user's log: changes of state, and a reminder after 1, 2, 4 … minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The first failure.
    Began,
    /// It still fails, after this long.
    Lasts(Duration),
    /// Creation works again, after this long.
    Over(Duration),
}

impl Backoff {
    /// All is well. `seed` sets the jitter apart from other runners'.
    pub fn new(seed: u64) -> Self {
        let state = FailureStreak { random: seed | 1, ..FailureStreak::default() };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            validate_on_create: AtomicBool::new(false),
        }
    }

    /// Blocks until the caller may attempt. The attempt ends with `succeeded` or `failed`, which
    /// are told what this returned: whether the caller has the one turn there is in trouble. It
    /// waits no longer than the caller `is_needed`; the thread that changes that calls
    /// [`wake_all`](Self::wake_all).
    pub fn wait_for_turn(&self, now: impl Fn() -> Tick, is_needed: impl Fn() -> bool) -> bool {
        let mut state = self.state.lock();
        while state.failures > 0 && !state.closed && is_needed() {
            let now = now();
            if !state.attempting && now >= state.next {
                state.attempting = true;
                return true;
            }
            let limit = if state.attempting { MAX_PAUSE } else { state.next - now };
            state = self.changed.wait_timeout(state, Duration::from_nanos(limit));
        }
        false
    }

    /// Since when no attempt has succeeded; `None` while all is well.
    pub fn failing_since(&self) -> Option<Tick> {
        let state = self.state.lock();
        (state.failures > 0).then_some(state.since)
    }

    /// Has every worker that waits look again whether it is needed.
    pub fn wake_all(&self) {
        // Under the lock, or a worker that has just looked would miss it.
        drop(self.state.lock());
        self.changed.notify_all();
    }

    /// Says whether new resources may be bad from the start.
    pub fn set_validate_on_create(&self, validate_on_create: bool) {
        // Relaxed, as below: one more resource that no worker validated makes no difference.
        self.validate_on_create.store(validate_on_create, Ordering::Relaxed);
    }

    /// Whether new resources may be bad from the start.
    pub fn validates_on_create(&self) -> bool {
        self.validate_on_create.load(Ordering::Relaxed)
    }

    /// An attempt made a resource: every worker that waits may attempt.
    pub fn succeeded(&self, turn: bool, now: Tick) -> Option<Trouble> {
        let mut state = self.state.lock();
        state.attempting &= !turn;
        if state.failures == 0 {
            return None;
        }
        state.failures = 0;
        let lasted = Duration::from_nanos(now.saturating_sub(state.since));
        self.changed.notify_all();
        Some(Trouble::Over(lasted))
    }

    /// An attempt failed.
    pub fn failed(&self, turn: bool, now: Tick) -> Option<Trouble> {
        let mut state = self.state.lock();
        state.attempting &= !turn;
        state.failures = state.failures.saturating_add(1);
        state.random ^= state.random << 13;
        state.random ^= state.random >> 7;
        state.random ^= state.random << 17;
        state.next = now + pause(state.failures, state.random);
        self.changed.notify_all();
        if state.failures == 1 {
            state.since = now;
            state.reported = now;
            return Some(Trouble::Began);
        }
        let lasted = now.saturating_sub(state.since);
        let told = state.reported - state.since;
        let due = if told == 0 { 60_000_000_000 } else { told * 2 };
        (lasted >= due).then(|| {
            // The reminder's own time, not the moment it was noticed: 1, 2, 4 … minutes stay that.
            state.reported = state.since + due;
            Trouble::Lasts(Duration::from_nanos(lasted))
        })
    }

    /// Ends all waiting: a closing runner attempts once more and gives up.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_full_jitter_up_to_two_seconds() {
        for (failures, bound) in [(1, 0.1), (2, 0.2), (3, 0.4), (5, 1.6), (6, 2.0), (60, 2.0)] {
            for random in [0, 1, u64::MAX / 3, u64::MAX] {
                let seconds = Duration::from_nanos(pause(failures, random)).as_secs_f64();
                assert!(
                    seconds >= bound / 10.0 - 1e-9 && seconds <= bound,
                    "{failures}: {seconds}"
                );
            }
        }
    }

    #[test]
    fn reports_changes_and_reminds_after_one_two_four_minutes() {
        let backoff = Backoff::new(7);
        let minute = 60_000_000_000;
        assert_eq!(backoff.succeeded(false, 1), None);
        assert_eq!(backoff.failed(false, 0), Some(Trouble::Began));
        let reminders: Vec<_> =
            (1..=17).filter(|half| backoff.failed(false, half * minute / 2).is_some()).collect();
        assert_eq!(reminders, [2, 4, 8, 16]);
        assert_eq!(
            backoff.succeeded(false, 9 * minute),
            Some(Trouble::Over(Duration::from_secs(9 * 60)))
        );
        assert_eq!(backoff.failed(false, 10 * minute), Some(Trouble::Began));
    }

    #[test]
    fn a_closed_backoff_lets_everybody_through() {
        let backoff = Backoff::new(7);
        backoff.failed(false, 0);
        backoff.close();
        backoff.wait_for_turn(|| 0, || true);
    }
}
