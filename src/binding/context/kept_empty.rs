//! One context without variables, kept for the next task that runs in such a one. Buys some 170
//! instructions of a task of the row *Bulk*, of 5,240, measured on CPython 3.11.
//!
//! After a task that set no variable, and if no other code holds it, such a context is as good as
//! new. What a task may keep of the one that it runs in is a token, which holds it: a variable that
//! is set and reset leaves no trace.

use crate::binding::host::guarded_call;
use crate::binding::kept_one::KeptOne;
use pyo3::ffi;
use pyo3::prelude::*;

static KEPT: KeptOne<PyAny> = KeptOne::new();

/// The kept one, or another.
pub(in crate::binding) fn take(py: Python<'_>) -> Result<Py<PyAny>, Py<PyAny>> {
    KEPT.take(py).map_or_else(|| guarded_call::empty_context(py), Ok)
}

/// Lets go of one that no thread is in, and keeps it if it is as good as new.
pub(in crate::binding) fn give_back(py: Python<'_>, context: Py<PyAny>) {
    // SAFETY: a live context object. Its length is looked up, which runs no code.
    let is_empty = |context: &Py<PyAny>| unsafe { ffi::PyMapping_Size(context.as_ptr()) == 0 };
    guarded_call::release_some(py, KEPT.keep(py, context, is_empty));
}
