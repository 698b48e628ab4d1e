//! The end of a child that was forked on a thread of ours, inside code of the user's.
//!
//! Of the parent's threads there is only that one. What called the user's code there is a worker of
//! the parent's, of which nothing may go on. So the process ends when the outermost code of the
//! user's on the thread has ended, with the status that its end says. On a thread of the user's
//! own, where a lent task ran, the child goes on in the caller.

use super::frames;
use super::guarded_call;
use crate::binding::process;
use pyo3::intern;
use pyo3::prelude::*;
use std::cell::Cell;

thread_local! {
    /// How many calls of Python are below the work of this thread of ours, and how often the
    /// process had been forked when it came up.
    static BELOW: Cell<Option<(usize, u64)>> = const { Cell::new(None) };
}

/// Says that this is a thread of ours.
pub(super) fn thread_started(py: Python<'_>) {
    BELOW.set(Some((depth(py), process::forks())));
}

/// Whether this is a thread of ours that went through a fork, in the child.
fn is_forked() -> Option<usize> {
    BELOW.get().and_then(|(below, forks)| (forks != process::forks()).then_some(below))
}

/// To be called when code of the user's has ended, before anything else is done: ends a child that
/// was forked in it, unless there is more of the user's code below.
pub(in crate::binding) fn end_here<T>(py: Python<'_>, outcome: &Result<T, Py<PyAny>>) {
    if let Some(below) = is_forked()
        && depth(py) == below
    {
        end(py, outcome.as_ref().err());
    }
}

/// Ends a child on a thread of ours whose work is over.
pub(super) fn end_thread(py: Python<'_>) {
    if is_forked().is_some() {
        end(py, None);
    }
}

/// How many calls of Python there are on the stack of this thread.
fn depth(py: Python<'_>) -> usize {
    frames::of_this_thread(py).count()
}

fn end(py: Python<'_>, error: Option<&Py<PyAny>>) -> ! {
    let end = guarded_call::import(py, intern!(py, "tasker._lifecycle"))
        .and_then(|module| guarded_call::get_attribute(py, &module, intern!(py, "end_child")));
    if let Ok(end) = end {
        let error = error.map_or_else(|| py.None(), |error| error.clone_ref(py));
        let _ = guarded_call::call_with(py, &end, &[&error]);
    }
    // Never: it does not return.
    std::process::exit(1)
}
