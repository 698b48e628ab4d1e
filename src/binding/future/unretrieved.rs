//! A task's own exception that its submitter has not asked for: logged when the future is gone and never was asked.
//!
//! A task that fails unobserved gives its future an [`Unseen`], which goes when a reader asks for the outcome. Left to die
//! with the future it writes the record: when its last reference goes, or, as part of a cycle, when the collector calls
//! finalizers, for then the exception is still whole. A task that succeeds pays nothing for all this.

use super::Future;
use crate::engine::task::{EXPRESS, OBSERVED, TOLD};
use crate::python::error::TaskCancelled;
use crate::python::exit;
use crate::python::host::door;
use crate::python::host::seat;
use crate::python::log::{self, Level};
use crate::python::verbs::core::Core;
use crate::sync::atomic::{AtomicBool, Ordering};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyTypeInfo, PyVisit};

/// See the module's documentation.
#[pyclass(frozen, module = "tasker._tasker")]
pub(in crate::python) struct Unseen {
    core: Py<Core>,
    /// The task's name.
    name: String,
    error: Py<PyAny>,
    /// How often this process had been forked: a child leaves the record to its parent.
    forks: u64,
    /// A reader has asked, or it has been logged. Relaxed: it guards nothing but itself.
    is_settled: AtomicBool,
}

impl Unseen {
    /// Has a task's own exception logged if its future is never asked, where that is due. The caller is about to publish it.
    pub(super) fn expect(py: Python<'_>, future: &Future, error: &Py<PyAny>) {
        // The caller of `run_task` gets it, and the observers of the task are told. After `kill` or `request_cancel` an
        // error is what was asked for: a driver's own word for a query that `on_cancel` has ended, say.
        let is_expected = future.word.has(OBSERVED | EXPRESS | TOLD);
        let Some(origin) = future.origin.as_ref().filter(|_| !is_expected) else {
            return;
        };
        let core = origin.core.get();
        // The contract of a standard executor is the standard's.
        let is_due = !core.bare && core.engine.host.logs();
        if !is_due || door::is_instance::<TaskCancelled>(py, error) {
            return;
        }
        let unseen = Self {
            core: origin.core.clone_ref(py),
            name: future.name(py),
            error: error.clone_ref(py),
            forks: exit::forks(),
            is_settled: AtomicBool::new(false),
        };
        // Without memory for it there is none for a record either.
        if let Ok(unseen) = Py::new(py, unseen) {
            future.slot.lock().get_or_insert_default().unseen = Some(unseen);
        }
    }

    /// A reader has asked, or an observer is told.
    pub(super) fn settle(py: Python<'_>, unseen: Py<Self>) {
        unseen.get().is_settled.store(true, Ordering::Relaxed);
        door::release(py, unseen.into_any());
    }

    /// Writes the record, unless a reader has asked.
    fn write(&self, py: Python<'_>) {
        if self.is_settled.swap(true, Ordering::Relaxed) || self.forks != exit::forks() {
            return;
        }
        // This may be any moment of any thread: a worker's that has yet to wake the caller of its last task, for one, or
        // one in which an exception is on its way.
        seat::wake_now();
        door::with_exception_set_aside(py, || {
            let engine = &self.core.get().engine;
            let (task, runner) = (&self.name, &engine.settings.name);
            let text = format!("task '{task}' of '{runner}' failed and nobody looked");
            log::say(py, Some(&engine.host), Level::Error, &text, None, Some(&self.error));
        });
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // SAFETY: as for a batch: where objects die, a thread is attached.
        self.write(unsafe { Python::assume_attached() });
    }
}

#[pymethods]
impl Unseen {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.core)?;
        visit.call(&self.error)
    }
}

/// Has the collector call [`finalize`] for what is garbage, which `PyO3` has no method for.
pub(in crate::python) fn install(py: Python<'_>) {
    let class = Unseen::type_object(py);
    // SAFETY: a live type, before any object of it exists.
    unsafe { (*class.as_type_ptr()).tp_finalize = Some(finalize) };
}

/// What the collector calls before it takes a cycle apart.
unsafe extern "C" fn finalize(of: door::Object) {
    // SAFETY: the interpreter calls its slots attached, with an object of the type.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: as above, borrowed for the call.
    let this = unsafe { Borrowed::from_ptr(py, of).cast_unchecked::<Unseen>() };
    this.get().write(py);
}
