//! `CancelHandle`: what takes a registered callback back.

use super::Call;
use super::ward::Ward;
use crate::python::context::Context;
use crate::sync::{Arc, Mutex};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// What takes a callback back that was registered with `Context.on_cancel`.
#[pyclass(frozen, module = "tasker._tasker")]
pub(in crate::python) struct CancelHandle {
    /// Kept alive, as a context that goes takes its callbacks along.
    context: Py<Context>,
    /// `None` once it is closed.
    registered: Mutex<Option<Registered>>,
}

#[derive(Clone)]
struct Registered {
    ward: Arc<Ward>,
    key: u64,
    call: Arc<Call>,
}

impl CancelHandle {
    pub(in crate::python) fn register(
        context: &Bound<'_, Context>,
        ward: &Arc<Ward>,
        callback: Py<PyAny>,
    ) -> PyResult<Self> {
        let (py, inner) = (context.py(), context.get());
        let registered = if inner.is_cancelled(py) {
            ward.call_here(py, callback)?;
            None
        } else {
            let registered = ward.register(py, inner.token(), callback)?;
            registered.map(|(key, call)| Registered { ward: Arc::clone(ward), key, call })
        };
        Ok(Self { context: context.clone().unbind(), registered: Mutex::new(registered) })
    }
}

#[pymethods]
impl CancelHandle {
    /// Takes the callback back: when this returns it neither runs nor will run.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        // It is noted as closed after the wait: an interrupted one may be repeated.
        let registered = self.registered.lock().clone();
        let Some(Registered { ward, key, call }) = registered else {
            return Ok(());
        };
        ward.close(key);
        if !call.is_made_here() {
            call.wait_here(py)?;
            call.release(py);
        }
        let closed = self.registered.lock().take();
        drop(closed);
        Ok(())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _exc_type: &Bound<'_, PyAny>,
        _exc: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.close(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.context)
    }
}
