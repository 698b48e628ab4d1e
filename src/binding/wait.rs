//! Blocking calls: detached, in slices, with a look at signals in between.

use super::error;
use super::wakes;
use crate::sync::Mutex;
use crate::sync::thread;
use pyo3::prelude::*;
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::ptr;
use std::time::{Duration, Instant};

/// No waiting thread goes longer than this without a look, native and detached, at what it waits
/// for: a worker may put a wake-up off, and begin something long against expectation. The main
/// thread looks at signals too; one that reaches it ends its wait at once anyhow, but not every
/// platform delivers it there.
const SIGNAL_POLL: Duration = Duration::from_millis(50);
/// How often a waiting thread yields its core before it blocks.
const YIELDS_BEFORE_PARK: usize = 4;

/// A wait that took no longer makes the next one look short.
const SHORT_WAIT: Duration = Duration::from_millis(1);

/// What interrupted a hook of the main thread, which has yet to raise it.
static INTERRUPT: Mutex<Option<Py<PyAny>>> = Mutex::new(None);

thread_local! {
    /// Whether this thread expects its next wait to be short.
    static EXPECTS_SHORT_WAIT: Cell<bool> = const { Cell::new(true) };
}

/// When a wait ends.
#[derive(Clone, Copy)]
pub(super) struct Limit(Option<Instant>);

impl Limit {
    /// From seconds as users give them: `None` is for ever, as is what no clock can hold; below
    /// zero is now.
    pub(super) fn after(seconds: Option<f64>) -> Self {
        let end =
            |s: f64| Instant::now().checked_add(Duration::try_from_secs_f64(s.max(0.0)).ok()?);
        Self(seconds.and_then(end))
    }

    pub(super) fn left(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }
}

/// Blocks until it is `ready`; false when the limit passes. `block` waits, detached, up to a
/// duration for something to change, and may return early; what it gives is of no use.
pub(super) fn until<R>(
    py: Python<'_>,
    limit: Limit,
    ready: impl Fn() -> bool + Sync,
    mut block: impl FnMut(Duration) -> R + Send,
) -> PyResult<bool> {
    let on_main_thread = on_main_thread(py);
    while !ready() {
        if limit.left() == Some(Duration::ZERO) {
            return Ok(false);
        }
        py.detach(|| {
            wakes::wake_now();
            while limit.left() != Some(Duration::ZERO) {
                block(limit.left().map_or(SIGNAL_POLL, |left| left.min(SIGNAL_POLL)));
                // On the main thread a signal may have ended the wait.
                if on_main_thread || ready() {
                    break;
                }
            }
        });
        // Elsewhere this could only set off the collector, from 3.12 on, with whatever that runs.
        if on_main_thread {
            check_signals(py)?;
        }
    }
    Ok(true)
}

/// Yields the core a few times, detached: what is waited for is often a few microseconds away, and
/// wants this core. True when it is `ready` then.
///
/// Not when the last wait of this thread was a long one: to come back for nothing takes a turn of
/// the interpreter. For that a thread waits five milliseconds while workers compute, and each
/// thread behind it waits as much longer.
pub(super) fn offer(py: Python<'_>, limit: Limit, ready: impl Fn() -> bool + Sync) -> bool {
    if !EXPECTS_SHORT_WAIT.get() || limit.left() == Some(Duration::ZERO) {
        return false;
    }
    let came = py.detach(|| {
        wakes::wake_now();
        for _ in 0..YIELDS_BEFORE_PARK {
            if ready() {
                return true;
            }
            thread::yield_now();
        }
        ready()
    });
    EXPECTS_SHORT_WAIT.set(came);
    came
}

/// [`until`], parked: the thread that changes what `ready` looks at unparks this one.
pub(super) fn parked_until(
    py: Python<'_>,
    limit: Limit,
    ready: impl Fn() -> bool + Sync,
) -> PyResult<bool> {
    let begun = Instant::now();
    let waited = until(py, limit, ready, wakes::park);
    wakes::pass_on();
    EXPECTS_SHORT_WAIT.set(begun.elapsed() < SHORT_WAIT);
    waited
}

/// [`until`], for what no thread tells of: `ready` is looked at every so often.
pub(super) fn polling(
    py: Python<'_>,
    seconds: f64,
    ready: impl Fn() -> bool + Sync,
) -> PyResult<bool> {
    until(py, Limit::after(Some(seconds)), ready, thread::park_timeout)
}

/// Looks at signals, for a thread that is the main one.
pub(super) fn check_signals(py: Python<'_>) -> PyResult<()> {
    let kept = INTERRUPT.lock().take();
    kept.map_or_else(|| py.check_signals(), |error| Err(error::raise(py, error)))
}

/// Raises what interrupted a hook where the call under way can raise it: as soon as it waits or
/// returns, as for a signal. In the hook it would be raised out of the middle of that call's work.
/// Comes back on other threads, and where one is to be raised already.
pub(super) fn raise_later(py: Python<'_>, error: Py<PyAny>) -> Result<(), Py<PyAny>> {
    extern "C" fn raise_now(_: *mut c_void) -> c_int {
        // SAFETY: the interpreter calls it, on the main thread.
        let py = unsafe { Python::assume_attached() };
        let kept = INTERRUPT.lock().take();
        kept.map_or(0, |error| {
            error::raise(py, error).restore(py);
            -1
        })
    }
    if !on_main_thread(py) {
        return Err(error);
    }
    let mut kept = INTERRUPT.lock();
    if kept.is_some() {
        return Err(error);
    }
    *kept = Some(error);
    drop(kept);
    // Not `PyErr_SetInterrupt`: that calls a handler of the user's, or does nothing where SIGINT is
    // ignored.
    // SAFETY: the call needs no argument.
    let asked = unsafe { pyo3::ffi::Py_AddPendingCall(Some(raise_now), ptr::null_mut()) };
    let unasked = if asked == 0 { None } else { INTERRUPT.lock().take() };
    unasked.map_or(Ok(()), Err)
}

/// [`raise_later`] for an `InlineRunner`; false: the exception is to be logged.
#[pyfunction]
pub(super) fn _raise_later(py: Python<'_>, error: Py<PyAny>) -> bool {
    raise_later(py, error).is_ok()
}

/// Whether signal handlers run on this thread.
pub(super) fn on_main_thread(py: Python<'_>) -> bool {
    thread_local! {
        /// The answer, and for which generation of forks it holds: a fork makes another thread the
        /// main one.
        static ANSWER: Cell<Option<(u64, bool)>> = const { Cell::new(None) };
    }
    let forks = super::process::forks();
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
