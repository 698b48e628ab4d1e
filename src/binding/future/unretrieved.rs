//! A task's own exception that its submitter has not asked for: logged when the future is gone and
//! never was asked.
//!
//! A task that fails unobserved gives its future an [`UnretrievedError`], which goes when a reader
//! asks for the outcome. Left to die with the future it writes the record: when its last reference
//! goes, or, as part of a cycle, when the collector calls finalizers, for then the exception is
//! still whole. A task that succeeds pays nothing for all this.

use crate::binding::engine_handle::EngineHandle;
use crate::binding::host::guarded_call;
use crate::binding::log::{self, Level};
use crate::binding::process;
use crate::binding::wakes;
use crate::sync::atomic::{AtomicBool, Ordering};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyTypeInfo, PyVisit};

/// See the module's documentation.
#[pyclass(frozen, module = "tasker._tasker")]
pub(in crate::binding) struct UnretrievedError {
    handle: Py<EngineHandle>,
    /// The task's name.
    name: String,
    error: Py<PyAny>,
    /// How often this process had been forked: a child leaves the record to its parent.
    forks: u64,
    /// A reader has asked, or it has been logged. Relaxed: it guards nothing but itself.
    is_settled: AtomicBool,
}

impl UnretrievedError {
    /// Has an exception of this task logged if it is never asked for.
    pub(super) fn new(
        py: Python<'_>,
        handle: &Py<EngineHandle>,
        name: String,
        error: &Py<PyAny>,
    ) -> PyResult<Py<Self>> {
        let unretrieved = Self {
            handle: handle.clone_ref(py),
            name,
            error: error.clone_ref(py),
            forks: process::forks(),
            // Until there is an object: one that cannot be made dies here, and a reader may still
            // ask.
            is_settled: AtomicBool::new(true),
        };
        let unretrieved = Py::new(py, unretrieved)?;
        unretrieved.get().is_settled.store(false, Ordering::Relaxed);
        Ok(unretrieved)
    }

    /// A reader has asked, or an observer is told.
    pub(super) fn settle(py: Python<'_>, unretrieved: Py<Self>) {
        unretrieved.get().is_settled.store(true, Ordering::Relaxed);
        guarded_call::release(py, unretrieved);
    }

    /// Writes the record, unless a reader has asked.
    fn write(&self, py: Python<'_>) {
        if self.is_settled.swap(true, Ordering::Relaxed) || self.forks != process::forks() {
            return;
        }
        // This may be any moment of any thread: a worker's that has yet to wake the caller of its
        // last task, for one, or one in which an exception is on its way.
        wakes::wake_now();
        guarded_call::with_exception_set_aside(py, || {
            let engine = &self.handle.get().engine;
            let (task, runner) = (&self.name, &engine.settings.name);
            let text = format!("task '{task}' of '{runner}' failed and nobody looked");
            log::say(py, &engine.host.logger, Level::Error, &text, None, Some(&self.error));
        });
    }
}

impl Drop for UnretrievedError {
    fn drop(&mut self) {
        // SAFETY: as for a batch: where objects die, a thread is attached.
        self.write(unsafe { Python::assume_attached() });
    }
}

#[pymethods]
impl UnretrievedError {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.handle)?;
        visit.call(&self.error)
    }
}

/// Has the collector call [`finalize`] for what is garbage, which `PyO3` has no method for.
pub(in crate::binding) fn install(py: Python<'_>) {
    let class = UnretrievedError::type_object(py);
    // SAFETY: a live type, before any object of it exists.
    unsafe { (*class.as_type_ptr()).tp_finalize = Some(finalize) };
}

/// What the collector calls before it takes a cycle apart.
unsafe extern "C" fn finalize(of: guarded_call::Object) {
    // SAFETY: the interpreter calls its slots attached, with an object of the type.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: as above, borrowed for the call.
    let this = unsafe { Borrowed::from_ptr(py, of).cast_unchecked::<UnretrievedError>() };
    this.get().write(py);
}
