//! `Context`: a cancellation token in a tree, and the one of the task that runs.

pub(super) mod clock;
pub(super) mod current_context;
pub(super) mod decimal;
pub(super) mod item;
pub(super) mod kept_empty;
pub(super) mod snapshot;
pub(super) mod variables;

use super::callable;
use super::current;
use super::error::TaskCancelled;
use super::interrupt::callbacks::CancelCallbacks;
use super::interrupt::handle::CancelHandle;
use super::limit;
use super::py_imports::PyImports;
use super::wait::{self, Limit};
use crate::binding::host::state::PyHost;
use crate::engine::Engine;
use crate::engine::clock::Tick;
use crate::engine::task::token::Token;
use crate::sync::thread;
use crate::sync::{Arc, OnceLock};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

/// Why a context is cancelled that no caller cancelled.
pub(super) const OVERDUE: &str = "the deadline has passed";

#[doc = doc!(Context)]
#[pyclass(subclass, frozen, module = "tasker")]
pub(super) struct Context {
    token: Token,
    /// What is registered on it. A task's is there from the start, shared by the contexts below;
    /// else it is made on first need.
    callbacks: OnceLock<Arc<CancelCallbacks>>,
    /// Whether the callbacks are this one's alone, or that of the task's own context: the
    /// collector sees it here.
    is_first: bool,
}

impl Context {
    fn of(token: Token) -> Self {
        Self { token, callbacks: OnceLock::new(), is_first: true }
    }

    pub(super) fn token(&self) -> &Token {
        &self.token
    }

    /// What is registered on it, if anything can be.
    pub(super) fn callbacks(&self) -> Option<&Arc<CancelCallbacks>> {
        self.callbacks.get()
    }

    /// The time left until the deadline, if there is one.
    pub(super) fn left(&self, py: Python<'_>) -> Option<Tick> {
        self.token.deadline().map(|due| due.saturating_sub(clock::now(py)()))
    }

    pub(super) fn is_cancelled(&self, py: Python<'_>) -> bool {
        // Most contexts have no deadline, and need no clock.
        self.token.cancelled_flag()
            || self.token.deadline().is_some_and(|due| clock::now(py)() >= due)
    }
}

#[pymethods]
impl Context {
    /// Makes a root that is neither cancelled nor limited.
    #[new]
    fn new() -> Self {
        Self::of(Token::new())
    }

    #[doc = doc!(Context.cancelled)]
    #[getter]
    fn cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py)
    }

    #[doc = doc!(Context.reason)]
    #[getter]
    fn reason(&self, py: Python<'_>) -> Option<String> {
        match self.token.reason() {
            Some(reason) => Some(reason.to_string()),
            None if self.is_cancelled(py) && !self.token.cancelled_flag() => Some(OVERDUE.into()),
            None => None,
        }
    }

    #[doc = doc!(Context.deadline)]
    #[getter]
    fn deadline(&self, py: Python<'_>) -> Option<f64> {
        self.token.deadline().map(|due| clock::monotonic(py, due))
    }

    #[doc = doc!(Context.remaining)]
    fn remaining(&self, py: Python<'_>) -> Option<f64> {
        self.left(py).map(clock::seconds)
    }

    #[doc = doc!(Context.child)]
    #[pyo3(signature = (*, timeout = None))]
    fn child(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let deadline = limit::of_call(timeout)?.map(|seconds| clock::due_in(py, seconds));
        let child = Self::of(self.token.child(deadline));
        // What is registered below a task's context ends with the task too.
        match self.callbacks.get().filter(|callbacks| callbacks.is_of_attempt()) {
            Some(callbacks) => {
                Ok(Self { callbacks: Arc::clone(callbacks).into(), is_first: false, ..child })
            }
            None => Ok(child),
        }
    }

    #[doc = doc!(Context.cancel)]
    #[pyo3(signature = (reason = None))]
    fn cancel(&self, reason: Option<String>) {
        self.token.cancel(reason.map(Into::into));
    }

    #[doc = doc!(Context.check)]
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_cancelled(py) {
            return Ok(());
        }
        Err(TaskCancelled::new_err(self.reason(py).unwrap_or_else(|| "cancelled".into())))
    }

    #[doc = doc!(Context.on_cancel)]
    #[pyo3(signature = (callback, /))]
    fn on_cancel(slf: &Bound<'_, Self>, callback: &Bound<'_, PyAny>) -> PyResult<CancelHandle> {
        if !callback.is_callable() {
            let text = format!("callback must be callable, got {}", callback.repr()?);
            return Err(PyTypeError::new_err(text));
        }
        if let Some(kind) = callable::unrun(callback)? {
            let text =
                format!("callback must be a plain function, got {kind}: {}", callback.repr()?);
            return Err(PyTypeError::new_err(text));
        }
        let context = slf.get();
        let state = (context.token(), context.is_cancelled(slf.py()));
        let callbacks = context.callbacks.get_or_init(|| CancelCallbacks::new(None, None));
        CancelHandle::register(slf.as_any(), state, callbacks, callback.clone().unbind())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.callbacks.get() {
            Some(callbacks) if self.is_first => callbacks.traverse(&visit),
            _ => Ok(()),
        }
    }

    #[doc = doc!(Context.wait)]
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let timeout = limit::of_call(timeout)?;
        let _watch = self.token.watch(thread::current());
        let own = self.remaining(py);
        let limit = match (timeout, own) {
            (Some(limit), Some(own)) => Some(limit.min(own)),
            (limit, own) => limit.or(own),
        };
        wait::parked_until(py, Limit::after(limit), || self.token.cancelled_flag())?;
        Ok(self.is_cancelled(py))
    }

    #[doc = doc!(Context.on_signals)]
    #[classmethod]
    #[pyo3(signature = (*signals))]
    fn on_signals<'py>(
        cls: &Bound<'py, PyType>,
        signals: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let on_signals = PyImports::get(cls.py())?.on_signals.bind(cls.py());
        on_signals.call1((cls, signals))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let state = if slf.get().is_cancelled(slf.py()) { "cancelled" } else { "active" };
        Ok(format!("<{} {state}>", slf.get_type().name()?))
    }
}

#[doc = doc!(TaskContext)]
#[pyclass(extends = Context, frozen, module = "tasker")]
pub(super) struct TaskContext {
    #[doc = doc!(TaskContext.attempt)]
    #[pyo3(get)]
    pub(super) attempt: u32,
    #[doc = doc!(TaskContext.worker_name)]
    #[pyo3(get)]
    pub(super) worker_name: String,
    #[doc = doc!(TaskContext.task_name)]
    #[pyo3(get)]
    pub(super) task_name: String,
    #[doc = doc!(TaskContext.last_error)]
    #[pyo3(get)]
    pub(super) last_error: Option<Py<PyAny>>,
}

#[pymethods]
impl TaskContext {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.last_error)
    }
}

impl TaskContext {
    /// The context of an attempt on this thread.
    pub(super) fn make(
        py: Python<'_>,
        engine: &Arc<Engine<PyHost>>,
        token: Token,
        attempt: u32,
        task_name: String,
        last_error: Option<Py<PyAny>>,
    ) -> PyResult<Py<Self>> {
        let callbacks = CancelCallbacks::new(Some(engine), Some(&task_name));
        let worker_name =
            current::session(|session| session.worker.name().to_owned()).unwrap_or_default();
        Self::with(py, callbacks, token, Self { attempt, worker_name, task_name, last_error })
    }

    /// The context of an attempt of which all is known.
    pub(super) fn with(
        py: Python<'_>,
        callbacks: Arc<CancelCallbacks>,
        token: Token,
        own: Self,
    ) -> PyResult<Py<Self>> {
        let base = Context { callbacks: callbacks.into(), ..Context::of(token) };
        Py::new(py, PyClassInitializer::from(base).add_subclass(own))
    }
}
