//! What a `Future` does in Python.

use super::loop_notifier;
use super::settle;
use super::waiting::{check_renewal, wait_for};
use super::{Callback, Future, Outcome};
use crate::binding::error;
use crate::binding::gc;
use crate::engine::task::Phase;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use pyo3::{PyTraverseError, PyVisit, ffi, intern};

#[pymethods]
impl Future {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "()")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::bare()
    }

    // Here so that the standard class's `__init__`, which makes a condition, does not run.
    #[doc = doc!(Future.__init__)]
    #[expect(clippy::unused_self, reason = "Python's signature")]
    fn __init__(&self) {}

    #[doc = doc!(Future.result)]
    #[pyo3(signature = (timeout = None))]
    pub(in crate::binding) fn result(
        slf: &Bound<'_, Self>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        match ended(slf, timeout)? {
            Outcome::Value(value) => Ok(value.clone_ref(py)),
            Outcome::Error(error) => {
                settle::mark_retrieved(py, slf.get());
                Err(error::raise(py, error.clone_ref(py)))
            }
            Outcome::None => Ok(py.None()),
        }
    }

    #[doc = doc!(Future.exception)]
    #[pyo3(signature = (timeout = None))]
    fn exception(
        slf: &Bound<'_, Self>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        ended(slf, timeout)?;
        Ok(slf.get().error(slf.py()))
    }

    #[doc = doc!(Future.cancel)]
    pub(in crate::binding) fn cancel(slf: &Bound<'_, Self>) -> bool {
        settle::cancel(slf)
    }

    fn _abandon(slf: &Bound<'_, Self>) {
        settle::abandon(slf);
    }

    #[doc = doc!(Future.request_cancel)]
    #[pyo3(signature = (reason = None))]
    pub(in crate::binding) fn request_cancel(
        slf: &Bound<'_, Self>,
        reason: Option<String>,
    ) -> bool {
        if settle::cancel(slf) {
            return true;
        }
        let future = slf.get();
        if future.word.is_done() {
            return false;
        }
        settle::request_cancel(slf.py(), future, reason);
        settle::call_off_retry(slf.py(), slf.as_unbound());
        true
    }

    #[doc = doc!(Future.cancelled)]
    fn cancelled(&self) -> bool {
        self.word.phase() == Phase::Cancelled
    }

    #[doc = doc!(Future.running)]
    fn running(&self) -> bool {
        self.word.phase() == Phase::Running
    }

    #[doc = doc!(Future.done)]
    fn done(&self) -> bool {
        self.word.is_done()
    }

    #[doc = doc!(Future.add_done_callback)]
    #[pyo3(signature = (r#fn))]
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Py<PyAny>) {
        let py = slf.py();
        let future = slf.get();
        gc::track(slf.as_any().as_unbound());
        if let Some(callback) = settle::add_callback(py, future, r#fn, Callback::Function) {
            settle::mark_retrieved(py, future);
            settle::call_function(py, slf.as_unbound(), callback);
        }
    }

    /// Waits in asyncio without blocking the loop, and returns the task's result.
    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let (event_loop, notifier) = loop_notifier::here(py, "a tasker.Future can be awaited")?;
        if !slf.get().word.is_done() {
            if slf.get().is_forked() {
                return Err(error::RunnerBroken::new_err(error::FORKED));
            }
            check_renewal(slf.get())?;
        }
        let (promise, loop_waiter) = loop_notifier::promise(slf, &notifier, &event_loop)?;
        gc::track(slf.as_any().as_unbound());
        if let Some(loop_waiter) = settle::add_callback(py, slf.get(), loop_waiter, Callback::from)
        {
            // Done already: no way round by the loop.
            settle::mark_retrieved(py, slf.get());
            loop_waiter.hand_over(py, slf.as_unbound());
        }
        promise.bind(py).call_method0(intern!(py, "__await__"))
    }

    #[doc = doc!(Future.set_running_or_notify_cancel)]
    fn set_running_or_notify_cancel(&self) -> PyResult<bool> {
        match self.word.phase() {
            Phase::Cancelled => Ok(false),
            Phase::Waiting if self.origin.is_none() && self.word.claim_fresh() => Ok(true),
            _ => Err(PyRuntimeError::new_err("Future in unexpected state")),
        }
    }

    #[doc = doc!(Future.set_result)]
    fn set_result(slf: &Bound<'_, Self>, result: Py<PyAny>) -> PyResult<()> {
        settle::settle_by_hand(slf, Outcome::Value(result))
    }

    #[doc = doc!(Future.set_exception)]
    fn set_exception(slf: &Bound<'_, Self>, exception: Option<Py<PyAny>>) -> PyResult<()> {
        let py = slf.py();
        settle::settle_by_hand(
            slf,
            exception.map_or_else(|| Outcome::Value(py.None()), Outcome::Error),
        )
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        Self::shown(slf)
    }

    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        // An attribute can make it part of a cycle.
        gc::track(slf.as_any().as_unbound());
        set_attribute(slf, name, value.as_ptr())
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>) -> PyResult<()> {
        set_attribute(slf, name, std::ptr::null_mut())
    }

    // ---- what other libraries use of the standard class ---------------------------------------

    #[getter]
    fn _state(&self, py: Python<'_>) -> &'static str {
        if self.word.is_done() {
            settle::mark_retrieved(py, self);
        }
        self.state_name()
    }

    #[getter]
    #[pyo3(name = "_result")]
    fn value(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self.settled()? {
            Outcome::Value(value) => Some(value.clone_ref(py)),
            _ => None,
        }
    }

    #[getter]
    #[pyo3(name = "_exception")]
    fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self.settled()? {
            Outcome::Error(error) => {
                settle::mark_retrieved(py, self);
                Some(error.clone_ref(py))
            }
            _ => None,
        }
    }

    #[getter]
    fn _condition(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        settle::materialise(slf).map(|parts| parts.condition)
    }

    #[getter]
    fn _waiters(slf: &Bound<'_, Self>) -> PyResult<Py<PyList>> {
        settle::materialise(slf).map(|parts| parts.waiters)
    }

    #[getter]
    fn _done_callbacks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let function = |callback: &Callback| match callback {
            Callback::Function(function) => Some(function.clone_ref(py)),
            Callback::Native(_) => None,
        };
        let functions =
            self.extra(py, |extras| Some(extras.callbacks.iter().filter_map(function).collect()));
        functions.unwrap_or_default()
    }

    fn _invoke_callbacks(slf: &Bound<'_, Self>) {
        settle::call_back_all(slf.py(), slf.as_unbound());
    }

    fn _get_snapshot(&self, py: Python<'_>) -> (bool, bool, Option<Py<PyAny>>, Option<Py<PyAny>>) {
        let phase = self.word.phase();
        let done = matches!(phase, Phase::Finished | Phase::Cancelled);
        (done, phase == Phase::Cancelled, self.value(py), self.error(py))
    }

    // ---- the collector --------------------------------------------------------------------------

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs while no thread is between two calls into the interpreter with
        // a cell half-written: it holds the interpreter's lock, or has stopped the world.
        let (payload, outcome) = unsafe { (&*self.payload.get(), &*self.outcome.get()) };
        visit.call(&payload.function)?;
        payload.args.traverse(&visit)?;
        visit.call(payload.context.peek())?;
        visit.call(outcome)?;
        self.extras.with_world_stopped(|extras| match extras {
            Some(extras) => extras.traverse(visit),
            None => Ok(()),
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        // What is garbage does not wait in a queue: its payload is gone, unless the task cannot be
        // reached any more. The outcome and the extras may be part of the cycle.
        let extras = self.extras.with(py, Option::take);
        drop(extras);
        if self.word.is_done() {
            // SAFETY: garbage: no other reference exists but the collector's.
            let outcome = unsafe { (*self.outcome.get()).take() };
            drop(outcome);
        }
    }
}

fn set_attribute(
    slf: &Bound<'_, Future>,
    name: &Bound<'_, PyAny>,
    value: *mut ffi::PyObject,
) -> PyResult<()> {
    // SAFETY: live objects; a null value deletes.
    match unsafe { ffi::PyObject_GenericSetAttr(slf.as_ptr(), name.as_ptr(), value) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(slf.py())),
    }
}

/// The outcome of a task, which the caller waits for.
fn ended<'f>(
    slf: &'f Bound<'_, Future>,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<Outcome<&'f Py<PyAny>>> {
    let future = slf.get();
    if !future.word.is_done() {
        wait_for(slf, timeout)?;
    }
    if future.word.phase() == Phase::Cancelled {
        // The standard's own class, as the standard's `cancel` promises; ours is for the tasks that
        // a kill settles.
        return Err(error::CancelledError::new_err(()));
    }
    Ok(future.outcome())
}
