//! What is known of a task that failed on a good resource, and may be tried again.

use crate::binding::context::clock;
use crate::engine::clock::Tick;
use crate::engine::task::deadlines::DeadlineKey;

/// See the module's documentation.
#[derive(Default)]
pub(in crate::binding) struct Failures {
    /// How often it failed so.
    count: u32,
    /// Which of its attempts was counted last.
    attempt: Option<u32>,
    /// When it did first.
    first: Tick,
    /// The pause that it is at, or was at last.
    pub(in crate::binding) pause: Option<DeadlineKey>,
    /// The pause in seconds that its time limit leaves no room for.
    pub(in crate::binding) too_long: Option<f64>,
}

impl Failures {
    /// Counts that of this attempt, once, and gives how many there are.
    pub(in crate::binding) fn count(&mut self, attempt: u32, now: Tick) -> u32 {
        if self.count == 0 {
            self.first = now;
        }
        if self.attempt.replace(attempt) != Some(attempt) {
            self.count += 1;
        }
        self.count
    }

    /// For how many seconds it has failed.
    pub(in crate::binding) fn lasted(&self, now: Tick) -> f64 {
        clock::seconds(now.saturating_sub(self.first))
    }
}
