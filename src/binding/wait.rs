//! Blocking calls: detached, in slices, with a look at signals in between.

use crate::sync::thread;
use pyo3::prelude::*;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// No waiting thread goes longer than this without a look, native and detached, at what it waits for: a worker may
/// put a wake-up off, and begin something long against expectation. The main thread looks at signals too; one that
/// reaches it ends its wait at once anyhow, but not every platform delivers it there.
const LOOK: Duration = Duration::from_millis(50);
/// How often a waiting thread offers its core before it blocks.
const OFFERS: usize = 4;

/// A wait that took no longer makes the next one look short.
const SHORT: Duration = Duration::from_millis(1);

thread_local! {
    /// Whether this thread expects its next wait to be short.
    static HOPES: Cell<bool> = const { Cell::new(true) };
}

/// When a wait ends.
#[derive(Clone, Copy)]
pub(super) struct Limit(Option<Instant>);

impl Limit {
    /// From seconds as users give them: `None` is for ever, as is what no clock can hold; below zero is now.
    pub(super) fn after(seconds: Option<f64>) -> Self {
        let end =
            |s: f64| Instant::now().checked_add(Duration::try_from_secs_f64(s.max(0.0)).ok()?);
        Self(seconds.and_then(end))
    }

    pub(super) fn left(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }
}

/// Blocks until it is `ready`; false when the limit passes. `block` waits, detached, up to a duration for something
/// to change, and may return early.
pub(super) fn until(
    py: Python<'_>,
    limit: Limit,
    ready: impl Fn() -> bool + Sync,
    mut block: impl FnMut(Duration) + Send,
) -> PyResult<bool> {
    let on_main_thread = on_main_thread(py);
    while !ready() {
        if limit.left() == Some(Duration::ZERO) {
            return Ok(false);
        }
        py.detach(|| {
            super::host::seat::wake_now();
            while limit.left() != Some(Duration::ZERO) {
                block(limit.left().map_or(LOOK, |left| left.min(LOOK)));
                // On the main thread a signal may have ended the wait.
                if on_main_thread || ready() {
                    break;
                }
            }
        });
        // Elsewhere this could only set off the collector, from 3.12 on, with whatever that runs.
        if on_main_thread {
            py.check_signals()?;
        }
    }
    Ok(true)
}

/// Offers the core a few times, detached: what is waited for is often a few microseconds away, and wants this core.
/// True when it is `ready` then.
///
/// Not when the last wait of this thread was a long one: to come back for nothing takes a turn of the interpreter, for
/// which a thread waits five milliseconds while workers compute, and everybody behind it as much longer.
pub(super) fn offer(py: Python<'_>, limit: Limit, ready: impl Fn() -> bool + Sync) -> bool {
    if !HOPES.get() || limit.left() == Some(Duration::ZERO) {
        return false;
    }
    let came = py.detach(|| {
        super::host::seat::wake_now();
        for _ in 0..OFFERS {
            if ready() {
                return true;
            }
            thread::yield_now();
        }
        ready()
    });
    HOPES.set(came);
    came
}

/// [`until`], parked: whoever changes what `ready` looks at unparks this thread.
pub(super) fn parked_until(
    py: Python<'_>,
    limit: Limit,
    ready: impl Fn() -> bool + Sync,
) -> PyResult<bool> {
    let begun = Instant::now();
    let waited = until(py, limit, ready, thread::park_timeout);
    HOPES.set(begun.elapsed() < SHORT);
    waited
}

/// Whether signal handlers run on this thread.
pub(super) fn on_main_thread(py: Python<'_>) -> bool {
    thread_local! {
        /// The answer, and for which generation of forks it holds: a fork makes another thread the main one.
        static ANSWER: Cell<Option<(u64, bool)>> = const { Cell::new(None) };
    }
    let forks = super::exit::forks();
    match ANSWER.get() {
        Some((asked, answer)) if asked == forks => answer,
        _ => {
            // Unknown counts as main: it only costs a look every slice.
            let answer = ask_threading(py).unwrap_or(true);
            ANSWER.set(Some((forks, answer)));
            answer
        }
    }
}

fn ask_threading(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    threading.call_method0("get_ident")?.eq(main)
}
