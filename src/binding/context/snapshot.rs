//! The submitter's `contextvars` context, as it was at the submit.
//!
//! Most programs set no context variable, and an empty context need not be kept: each attempt gets an empty one of its
//! own. That saves a quarter of the memory of a waiting task, and as many page faults, which cost as much as the copy
//! itself.

use crate::python::future::{track, untrack};
use crate::python::host::door;
use pyo3::ffi;
use pyo3::prelude::*;

/// See the module's documentation.
#[derive(Default)]
pub(in crate::python) struct Snapshot(Kind);

#[derive(Default)]
enum Kind {
    /// It was empty.
    #[default]
    Empty,
    /// A copy.
    Kept(Py<PyAny>),
    /// That of the thread which runs the task: it submitted it just now, and nothing came in between.
    Current,
}

impl Snapshot {
    /// The context of the thread that runs the task, for one that it submitted itself and runs at once.
    pub(in crate::python) const CURRENT: Self = Self(Kind::Current);

    /// The context of this thread.
    pub(in crate::python) fn take(py: Python<'_>) -> PyResult<Self> {
        // SAFETY: attached; gives an owned reference, or null with an exception.
        Self::keep(unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }?)
    }

    /// A context at hand, as it is now.
    pub(in crate::python) fn of(py: Python<'_>, context: &Py<PyAny>) -> PyResult<Self> {
        // SAFETY: a live context object; gives an owned reference, or null with an exception.
        let copy = unsafe { ffi::PyContext_Copy(context.as_ptr()) };
        // SAFETY: as above.
        Self::keep(unsafe { Bound::from_owned_ptr_or_err(py, copy) }?)
    }

    fn keep(copy: Bound<'_, PyAny>) -> PyResult<Self> {
        if copy.len()? == 0 {
            return Ok(Self(Kind::Empty));
        }
        let copy = copy.unbind();
        // Like its future it cannot be garbage while it waits.
        untrack(&copy);
        Ok(Self(Kind::Kept(copy)))
    }

    /// A context to run an attempt in. The last attempt gets the snapshot itself.
    pub(in crate::python) fn open(&mut self, py: Python<'_>, last: bool) -> PyResult<Py<PyAny>> {
        if last && let Some(snapshot) = self.take_kept() {
            // It is about to be used, and may become part of a cycle.
            track(&snapshot);
            return Ok(snapshot);
        }
        let context = match &self.0 {
            // SAFETY: attached.
            Kind::Empty => unsafe { ffi::PyContext_New() },
            // SAFETY: a live context object.
            Kind::Kept(snapshot) => unsafe { ffi::PyContext_Copy(snapshot.as_ptr()) },
            // SAFETY: attached.
            Kind::Current => unsafe { ffi::PyContext_CopyCurrent() },
        };
        // SAFETY: an owned reference, or null with an exception.
        unsafe { Bound::from_owned_ptr_or_err(py, context) }.map(Bound::unbind)
    }

    /// Lets go of it.
    pub(in crate::python) fn release(&mut self, py: Python<'_>) {
        if let Some(context) = self.take_kept() {
            // Before it dies: a context takes itself off the collector's list then, without looking whether it is on it.
            track(&context);
            door::release(py, context);
        }
    }

    fn take_kept(&mut self) -> Option<Py<PyAny>> {
        match std::mem::take(&mut self.0) {
            Kind::Kept(context) => Some(context),
            other => {
                self.0 = other;
                None
            }
        }
    }

    /// Whether it may hold any variable.
    pub(in crate::python) fn is_empty(&self) -> bool {
        matches!(self.0, Kind::Empty)
    }

    pub(in crate::python) fn peek(&self) -> Option<&Py<PyAny>> {
        match &self.0 {
            Kind::Kept(context) => Some(context),
            Kind::Empty | Kind::Current => None,
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if self.peek().is_some() {
            Python::attach(|py| self.release(py));
        }
    }
}
