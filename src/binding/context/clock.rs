//! The clock of all contexts.

use crate::engine::clock::{Clock, Tick, ticks};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::time::Duration;

/// The clock, and what `time.monotonic()` showed when it read zero.
fn clock(py: Python<'_>) -> &'static (Clock, f64) {
    static CLOCK: PyOnceLock<(Clock, f64)> = PyOnceLock::new();
    CLOCK.get_or_init(py, || {
        let monotonic = || py.import("time")?.call_method0("monotonic")?.extract();
        // The first call imports, which takes its time. This clock is behind by the second, and
        // never ahead: what it shows has happened.
        let _: PyResult<f64> = monotonic();
        let monotonic = monotonic().unwrap_or(0.0);
        (Clock::new(), monotonic)
    })
}

/// Sets it going, while the package is imported: a child of a fork that came while another thread
/// did so would wait for that thread for ever.
pub(in crate::binding) fn start(py: Python<'_>) {
    clock(py);
}

/// Reads it, detached too.
pub(in crate::binding) fn now(py: Python<'_>) -> impl Fn() -> Tick + Copy + use<> {
    let (clock, _) = clock(py);
    || clock.now()
}

/// So many seconds from now.
pub(in crate::binding) fn due_in(py: Python<'_>, left: f64) -> Tick {
    now(py)().saturating_add(ticks_of(left.max(0.0)))
}

/// Seconds as ticks; what does not fit counts as for ever.
pub(in crate::binding) fn ticks_of(seconds: f64) -> Tick {
    Duration::try_from_secs_f64(seconds).map_or(Tick::MAX, ticks)
}

/// A moment on the scale of `time.monotonic`.
pub(super) fn monotonic(py: Python<'_>, tick: Tick) -> f64 {
    clock(py).1 + seconds(tick)
}

/// The present moment on that scale.
pub(in crate::binding) fn monotonic_now(py: Python<'_>) -> f64 {
    monotonic(py, now(py)())
}

#[expect(clippy::cast_precision_loss, reason = "seconds for people")]
pub(in crate::binding) fn seconds(ticks: Tick) -> f64 {
    ticks as f64 / 1e9
}
