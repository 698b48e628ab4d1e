//! `Context`: a cancellation token in a tree, and the one of the task that runs.

pub(super) mod decimal;
pub(super) mod snapshot;
pub(super) mod variables;

use super::callable;
use super::error::TaskCancelled;
use super::future::Future;
use super::host::seat;
use super::interrupt::handle::CancelHandle;
use super::interrupt::ward::Ward;
use super::limit;
use super::wait::{self, Limit};
use crate::engine::Engine;
use crate::engine::clock::{Clock, Tick, ticks};
use crate::engine::task::token::Token;
use crate::engine::task::{ASKED, TOLD};
use crate::python::host::PyHost;
use crate::sync::thread;
use crate::sync::{Arc, OnceLock};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};
use std::time::Duration;

/// Why a context is cancelled that was not cancelled by anybody.
pub(super) const OVERDUE: &str = "the deadline has passed";

/// The clock of all contexts, and what `time.monotonic()` showed when it read zero.
fn clock(py: Python<'_>) -> &'static (Clock, f64) {
    static CLOCK: PyOnceLock<(Clock, f64)> = PyOnceLock::new();
    CLOCK.get_or_init(py, || {
        let monotonic = || py.import("time")?.call_method0("monotonic")?.extract();
        (Clock::new(), monotonic().unwrap_or(0.0))
    })
}

/// Sets the clock of all contexts going, while the package is imported: a child of a fork that came while another
/// thread did so would wait for that thread for ever.
pub(super) fn start_clock(py: Python<'_>) {
    clock(py);
}

/// Reads the clock of all contexts, detached too.
pub(super) fn now(py: Python<'_>) -> impl Fn() -> Tick + Copy + use<> {
    let (clock, _) = clock(py);
    || clock.now()
}

/// So many seconds from now, on the clock of contexts.
pub(super) fn due_in(py: Python<'_>, left: f64) -> Tick {
    let length = Duration::try_from_secs_f64(left.max(0.0)).map_or(Tick::MAX, ticks);
    clock(py).0.now().saturating_add(length)
}

#[expect(clippy::cast_precision_loss, reason = "seconds for people")]
fn seconds(ticks: Tick) -> f64 {
    ticks as f64 / 1e9
}

/// A cancellation token in a tree: cancelling one cancels all below it.
#[pyclass(subclass, frozen, module = "tasker._tasker")]
pub(super) struct Context {
    token: Token,
    /// What is registered on it. A task's is there from the start, shared by the contexts below; else it is made on first
    /// need.
    ward: OnceLock<Arc<Ward>>,
    /// Whether the ward is this one's alone, or that of the task's own context: the collector sees it here.
    is_first: bool,
}

impl Context {
    fn of(token: Token) -> Self {
        Self { token, ward: OnceLock::new(), is_first: true }
    }

    pub(super) fn token(&self) -> &Token {
        &self.token
    }

    /// What is registered on it, if anything can be.
    pub(super) fn ward(&self) -> Option<&Arc<Ward>> {
        self.ward.get()
    }

    /// The time left until the deadline, if there is one.
    pub(super) fn left(&self, py: Python<'_>) -> Option<Tick> {
        self.token.deadline().map(|due| due.saturating_sub(clock(py).0.now()))
    }

    pub(super) fn is_cancelled(&self, py: Python<'_>) -> bool {
        // Most contexts have no deadline, and need no clock.
        self.token.cancelled_flag()
            || self.token.deadline().is_some_and(|due| clock(py).0.now() >= due)
    }
}

#[pymethods]
impl Context {
    /// Makes a root that is neither cancelled nor limited.
    #[new]
    fn new() -> Self {
        Self::of(Token::new())
    }

    /// Whether this context or one above it was cancelled, or its deadline has passed.
    #[getter]
    fn cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py)
    }

    /// The reason given with the cancel, or `None`.
    #[getter]
    fn reason(&self, py: Python<'_>) -> Option<String> {
        match self.token.reason() {
            Some(reason) => Some(reason.to_string()),
            None if self.is_cancelled(py) && !self.token.cancelled_flag() => Some(OVERDUE.into()),
            None => None,
        }
    }

    /// When the context cancels itself, on the scale of `time.monotonic`, or `None`.
    #[getter]
    fn deadline(&self, py: Python<'_>) -> Option<f64> {
        self.token.deadline().map(|due| clock(py).1 + seconds(due))
    }

    /// Returns the seconds left until the deadline, at least 0; `None` without a deadline.
    fn remaining(&self, py: Python<'_>) -> Option<f64> {
        self.left(py).map(seconds)
    }

    /// Makes a context that is cancelled together with this one.
    #[pyo3(signature = (*, timeout = None))]
    fn child(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let deadline = limit::of_call(timeout)?.map(|seconds| due_in(py, seconds));
        let child = Self::of(self.token.child(deadline));
        // What is registered below a task's context ends with the task too.
        match self.ward.get().filter(|ward| ward.is_of_attempt()) {
            Some(ward) => Ok(Self { ward: Arc::clone(ward).into(), is_first: false, ..child }),
            None => Ok(child),
        }
    }

    /// Cancels this context and all below it; further calls change nothing.
    #[pyo3(signature = (reason = None))]
    fn cancel(&self, reason: Option<String>) {
        self.token.cancel(reason.map(Into::into));
    }

    /// Does nothing unless the context is cancelled.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_cancelled(py) {
            return Ok(());
        }
        Err(TaskCancelled::new_err(self.reason(py).unwrap_or_else(|| "cancelled".into())))
    }

    /// Has *callback* called when the context is cancelled, or when its deadline has passed.
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
        let ward = slf.get().ward.get_or_init(Ward::of_context);
        CancelHandle::register(slf, ward, callback.clone().unbind())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.ward.get() {
            Some(ward) if self.is_first => ward.traverse(&visit),
            _ => Ok(()),
        }
    }

    /// Waits until the context is cancelled.
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

    /// Gives a context that the first of *signals* cancels.
    #[classmethod]
    #[pyo3(signature = (*signals))]
    fn on_signals<'py>(
        cls: &Bound<'py, PyType>,
        signals: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        static ON_SIGNALS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = cls.py();
        let on_signals = ON_SIGNALS.get_or_try_init(py, || {
            PyResult::Ok(py.import("tasker._signals")?.getattr("on_signals")?.unbind())
        })?;
        on_signals.bind(py).call1((cls, signals))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let state = if slf.get().is_cancelled(slf.py()) { "cancelled" } else { "active" };
        Ok(format!("<{} {state}>", slf.get_type().name()?))
    }
}

/// The context of a running task, from `current_context`.
#[pyclass(extends = Context, frozen, module = "tasker._tasker")]
pub(super) struct TaskContext {
    pub(super) attempt: u32,
    pub(super) worker_name: String,
    pub(super) task_name: String,
}

impl TaskContext {
    /// The context of an attempt on this thread.
    pub(super) fn make(
        py: Python<'_>,
        engine: &Arc<Engine<PyHost>>,
        token: Token,
        attempt: u32,
        task_name: String,
    ) -> PyResult<Py<Self>> {
        let ward = Ward::of_attempt(engine, &task_name);
        let worker_name = seat::desk(|desk| desk.badge().name().to_owned()).unwrap_or_default();
        Self::with(py, ward, token, Self { attempt, worker_name, task_name })
    }

    /// The context of an attempt of which all is known.
    pub(super) fn with(
        py: Python<'_>,
        ward: Arc<Ward>,
        token: Token,
        own: Self,
    ) -> PyResult<Py<Self>> {
        let base = Context { ward: ward.into(), ..Context::of(token) };
        Py::new(py, PyClassInitializer::from(base).add_subclass(own))
    }
}

#[pymethods]
impl TaskContext {
    /// Which attempt this is: 1 for the first, 2 for the first retry.
    #[getter]
    fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The name of the worker's thread.
    #[getter]
    fn worker_name(&self) -> &str {
        &self.worker_name
    }

    /// The task's name: the one given with `options(name=...)`, else its function's.
    #[getter]
    fn task_name(&self) -> &str {
        &self.task_name
    }
}

/// Returns the context of the task that runs on this thread.
#[pyfunction]
pub(super) fn current_context(py: Python<'_>) -> PyResult<Py<TaskContext>> {
    let Some(task) = seat::task(py) else {
        return Err(PyRuntimeError::new_err(
            "current_context() is for tasks: no task of a runner runs on this thread",
        ));
    };
    if let Some(context) = seat::item(|item| item.context(py)) {
        return context;
    }
    let future: &Future = task.get();
    if let Some((_, context)) = future.slot.lock().as_deref().and_then(|slot| slot.context.as_ref())
    {
        return Ok(context.clone_ref(py));
    }
    let Some(origin) = &future.origin else {
        return Err(PyRuntimeError::new_err("the task has no runner"));
    };
    let token = Token::new().child(due(py, future));
    // SAFETY: this thread runs the task, so it owns the payload.
    let attempt = unsafe { future.payload() }.attempts;
    let engine = &origin.core.get().engine;
    let context = TaskContext::make(py, engine, token.clone(), attempt, future.name(py))?;
    let (reason, call) = {
        let mut slot = future.slot.lock();
        let slot = slot.get_or_insert_default();
        slot.context = Some((token.clone(), context.clone_ref(py)));
        future.word.set(ASKED);
        (slot.reason.clone(), slot.call.clone())
    };
    if let Some(call) = call {
        call.follow(&token);
    }
    // After it was put where others find it: whoever told the task before could not.
    let killed = seat::is_killed();
    if killed || future.word.has(TOLD) {
        token.cancel(reason.or_else(|| killed.then(|| "the runner was killed".into())));
    }
    Ok(context)
}

/// The task's time limit on the clock of contexts.
fn due(py: Python<'_>, future: &Future) -> Option<Tick> {
    let due = future.due()?;
    let now = future.origin.as_ref()?.core.get().engine.clock.now();
    Some(clock(py).0.now().saturating_add(due.saturating_sub(now)))
}
