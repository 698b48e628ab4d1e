//! `CancelHandle`: what takes a registered callback back.

use super::call::CancelCall;
use super::callbacks::CancelCallbacks;
use crate::engine::task::token::Token;
use crate::sync::{Arc, Mutex};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

#[doc = doc!(CancelHandle)]
#[pyclass(frozen, module = "tasker")]
pub(in crate::binding) struct CancelHandle {
    /// Kept alive, as a context that goes takes its callbacks along.
    context: Py<PyAny>,
    /// `None` once it is closed.
    registered: Mutex<Option<Registration>>,
}

#[derive(Clone)]
struct Registration {
    callbacks: Arc<CancelCallbacks>,
    key: u64,
    call: Arc<CancelCall>,
}

impl CancelHandle {
    /// The handle of a callback that is called when `token` is cancelled; at once when its context
    /// `is_cancelled`.
    pub(in crate::binding) fn register(
        context: &Bound<'_, PyAny>,
        (token, is_cancelled): (&Token, bool),
        callbacks: &Arc<CancelCallbacks>,
        callback: Py<PyAny>,
    ) -> PyResult<Self> {
        let py = context.py();
        let registered = if is_cancelled {
            callbacks.call_here(py, callback)?;
            None
        } else {
            let registered = callbacks.register(py, token, callback)?;
            registered.map(|(key, call)| Registration {
                callbacks: Arc::clone(callbacks),
                key,
                call,
            })
        };
        Ok(Self { context: context.clone().unbind(), registered: Mutex::new(registered) })
    }
}

impl Drop for CancelHandle {
    fn drop(&mut self) {
        let registered = self.registered.lock().take();
        if let Some(Registration { callbacks, call, .. }) = registered {
            drop(callbacks);
            // SAFETY: where objects die, a thread is attached.
            call.let_go(unsafe { Python::assume_attached() });
        }
    }
}

#[pymethods]
impl CancelHandle {
    #[doc = doc!(CancelHandle.close)]
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        // It is noted as closed after the wait: an interrupted one may be repeated.
        let registered = self.registered.lock().clone();
        let Some(Registration { callbacks, key, call }) = registered else {
            return Ok(());
        };
        callbacks.close(key);
        if !call.is_made_here() {
            call.wait_here(py)?;
            call.release(py);
        }
        let closed = self.registered.lock().take();
        if let Some(closed) = closed {
            closed.call.let_go(py);
        }
        call.let_go(py);
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
