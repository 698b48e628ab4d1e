//! Lets other threads have the interpreter now and then, while a worker runs functions that enter
//! no Python frame.
//!
//! A forced switch is only honoured when a Python frame begins or loops. A worker that runs builtin
//! functions enters none, and would hold the interpreter for as long as there is work; so it enters
//! an empty one when a millisecond has passed since the last. It is there for the other threads'
//! turn and buys no speed.

use super::guarded_call;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Called before a function runs on a worker.
pub(in crate::binding) fn before_call(py: Python<'_>, function: &Py<PyAny>) {
    thread_local! {
        /// When it last began to run functions without frames, or entered the empty one. Functions
        /// with frames do not clear it: an empty call too many does no harm.
        static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    static EMPTY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    const YIELD_INTERVAL: Duration = Duration::from_millis(1);
    // SAFETY: a live object.
    if unsafe { ffi::PyFunction_Check(function.as_ptr()) } != 0 {
        return;
    }
    let now = Instant::now();
    match LAST.get() {
        None => LAST.set(Some(now)),
        Some(last) if now - last > YIELD_INTERVAL => {
            LAST.set(Some(now));
            let empty = EMPTY
                .get_or_try_init(py, || py.eval(c"lambda: None", None, None).map(Bound::unbind));
            if let Ok(empty) = empty {
                match guarded_call::call(py, empty, None, None, None) {
                    Ok(object) | Err(object) => guarded_call::release(py, object),
                }
            }
        }
        Some(_) => {}
    }
}
