//! Blocking calls: detached, in slices, with a look at signals in between.

use crate::sync::thread;
use pyo3::prelude::*;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// A wait on the main thread lasts no longer than this before signals are looked at. A signal that reaches
/// the thread ends its wait at once anyhow; this is for platforms and threads where it does not.
const SLICE: Duration = Duration::from_millis(50);
/// Other threads get no signals; they look only for a fork that took their workers away.
const LONG_SLICE: Duration = Duration::from_secs(5);

/// When a wait ends.
#[derive(Clone, Copy)]
pub(super) struct Limit(Option<Instant>);

impl Limit {
    /// From seconds as users give them: `None` is for ever, as is what no clock can hold; below zero is now.
    pub(super) fn after(seconds: Option<f64>) -> Self {
        let end = |s: f64| Instant::now().checked_add(Duration::try_from_secs_f64(s.max(0.0)).ok()?);
        Self(seconds.and_then(end))
    }

    fn left(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }
}

/// Blocks until `done` gives something; `None` when the limit passes. `block` waits up to a duration, detached,
/// for something to change, and may return early.
pub(super) fn until<T>(
    py: Python<'_>,
    limit: Limit,
    mut done: impl FnMut() -> Option<T>,
    mut block: impl FnMut(Duration) + Send,
) -> PyResult<Option<T>> {
    let slice = if on_main_thread(py) { SLICE } else { LONG_SLICE };
    loop {
        if let Some(result) = done() {
            return Ok(Some(result));
        }
        let left = limit.left();
        if left == Some(Duration::ZERO) {
            return Ok(None);
        }
        py.detach(|| {
            super::seat::wake_now();
            block(left.map_or(slice, |left| left.min(slice)));
        });
        py.check_signals()?;
    }
}

/// [`until`], parked: whoever changes what `done` looks at unparks this thread.
pub(super) fn parked_until<T>(
    py: Python<'_>,
    limit: Limit,
    done: impl FnMut() -> Option<T>,
) -> PyResult<Option<T>> {
    until(py, limit, done, thread::park_timeout)
}

/// Whether signal handlers run on this thread.
fn on_main_thread(py: Python<'_>) -> bool {
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
