//! The submitter's `contextvars` context, as it was at the submit.
//!
//! Most programs set no context variable, and an empty context need not be kept: each attempt gets
//! an empty one of its own. That saves a quarter of the memory of a waiting task, and as many page
//! faults, which cost as much as the copy itself.

use crate::binding::gc;
use crate::binding::host::guarded_call;
use crate::binding::shared_count;
use pyo3::ffi;
use pyo3::prelude::*;

/// See the module's documentation. `None`: it was empty.
#[derive(Default)]
pub(in crate::binding) struct Snapshot(Option<Py<PyAny>>);

impl Snapshot {
    /// The context of this thread.
    pub(in crate::binding) fn take(py: Python<'_>) -> PyResult<Self> {
        // SAFETY: attached; gives an owned reference, or null with an exception.
        Self::keep(unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }?)
    }

    /// [`take`](Self::take) for a task that its caller waits for: of those a thread has one at a
    /// time, so an empty context is kept too, and the last attempt runs in it. Buys 110 instructions
    /// of a task of the row *run_task* (4,150 in all, 4,260 without), measured on CPython 3.11.
    pub(in crate::binding) fn take_whole(py: Python<'_>) -> PyResult<Self> {
        // SAFETY: as above.
        let copy = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }?;
        Ok(Self(Some(copy.unbind())))
    }

    /// A context at hand, as it is now.
    pub(in crate::binding) fn of(py: Python<'_>, context: &Py<PyAny>) -> PyResult<Self> {
        // SAFETY: a live context object; gives an owned reference, or null with an exception.
        let copy = unsafe { ffi::PyContext_Copy(context.as_ptr()) };
        // SAFETY: as above.
        Self::keep(unsafe { Bound::from_owned_ptr_or_err(py, copy) }?)
    }

    fn keep(copy: Bound<'_, PyAny>) -> PyResult<Self> {
        if copy.len()? == 0 {
            return Ok(Self(None));
        }
        let copy = copy.unbind();
        // Like its future it cannot be garbage while it waits.
        gc::untrack(&copy);
        Ok(Self(Some(copy)))
    }

    /// Makes it one that another thread lets go of.
    pub(in crate::binding) fn hand_over(mut self, py: Python<'_>) -> Self {
        Self(self.0.take().map(|context| shared_count::hand_over(py, context)))
    }

    /// A context to run an attempt in. The last attempt gets the snapshot itself.
    pub(in crate::binding) fn open(&mut self, py: Python<'_>, last: bool) -> PyResult<Py<PyAny>> {
        if last && let Some(snapshot) = self.0.take() {
            // It is about to be used, and may become part of a cycle.
            gc::track(&snapshot);
            return Ok(snapshot);
        }
        let context = match &self.0 {
            // SAFETY: attached.
            None => unsafe { ffi::PyContext_New() },
            // SAFETY: a live context object.
            Some(snapshot) => unsafe { ffi::PyContext_Copy(snapshot.as_ptr()) },
        };
        // SAFETY: an owned reference, or null with an exception.
        unsafe { Bound::from_owned_ptr_or_err(py, context) }.map(Bound::unbind)
    }

    /// Lets go of it.
    #[inline]
    pub(in crate::binding) fn release(&mut self, py: Python<'_>) {
        if let Some(context) = self.0.take() {
            // Before it dies: a context takes itself off the collector's list then, without looking
            // whether it is on it.
            gc::track(&context);
            guarded_call::release(py, context);
        }
    }

    /// What it holds, if it may hold any variable.
    pub(in crate::binding) fn peek(&self) -> Option<&Py<PyAny>> {
        self.0.as_ref()
    }
}

impl Drop for Snapshot {
    #[inline]
    fn drop(&mut self) {
        if self.peek().is_some() {
            attach_and_release(self);
        }
    }
}

#[cold]
fn attach_and_release(snapshot: &mut Snapshot) {
    Python::attach(|py| snapshot.release(py));
}
