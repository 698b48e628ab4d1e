//! Time as the engine counts it: nanoseconds since the runner began.

use std::time::{Duration, Instant};

/// A point in time, in nanoseconds since the clock's origin. 584 years fit.
pub type Tick = u64;

/// The one clock of a runner. Monotonic; safe to read from any thread.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that reads zero now.
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }

    /// Nanoseconds since the origin.
    pub fn now(&self) -> Tick {
        ticks(self.origin.elapsed())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// A duration as ticks; what does not fit counts as for ever.
pub fn ticks(duration: Duration) -> Tick {
    u64::try_from(duration.as_nanos()).unwrap_or(Tick::MAX)
}
