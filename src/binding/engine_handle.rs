//! The handle on an engine, which futures, workers and views hold on to.
//!
//! None of them holds the `Runner`, so dropping the last reference to that is noticed.

use super::callable::check_task;
use super::error::{self, BrokenThreadPool, QueueFull, RunnerBroken, RunnerStopped};
use super::host::state::PyHost;
use super::options::{Asked, TaskOptions};
use super::process;
use crate::engine::Engine;
use crate::engine::task::task_group::TaskGroup;
use crate::sync::Arc;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// See the module's documentation.
#[pyclass(frozen, module = "tasker._tasker")]
pub(super) struct EngineHandle {
    pub(super) engine: Arc<Engine<PyHost>>,
    /// The time limit of tasks that have none of their own, in seconds.
    pub(super) task_timeout: Option<f64>,
    pub(super) copy_contextvars: bool,
    /// A full queue refuses every submitter at once.
    pub(super) raise_when_full: bool,
    /// Tasks are called without the resource, as the standard library's executors call theirs, and
    /// may be anything.
    pub(super) bare: bool,
    /// Its tasks, where the caller of `shutdown` waits for them and not for the engine.
    pub(super) group: Option<TaskGroup>,
}

/// A handle by its Python object, which futures keep a reference to.
pub(super) struct EngineHandleRef<'a>(pub(super) &'a Py<EngineHandle>);

impl std::ops::Deref for EngineHandleRef<'_> {
    type Target = EngineHandle;

    fn deref(&self) -> &EngineHandle {
        self.0.get()
    }
}

impl EngineHandle {
    /// That of a standard executor with an engine of its own.
    pub(super) fn standard(engine: Arc<Engine<PyHost>>) -> Self {
        Self {
            engine,
            task_timeout: None,
            copy_contextvars: false,
            raise_when_full: false,
            bare: true,
            group: None,
        }
    }

    /// Another handle on the same engine, for a standard executor over it.
    pub(super) fn view(&self) -> Self {
        let engine = Arc::clone(&self.engine);
        Self { engine, bare: true, group: Some(TaskGroup::new()), ..*self }
    }

    /// Whether tasks are tried again after errors of their own, if they have no options.
    pub(super) fn retries(&self) -> bool {
        self.engine.host.given.retries && !self.bare
    }

    /// Why nothing is accepted; of a standard executor, in the standard's words.
    pub(super) fn closed_error(&self) -> PyErr {
        let Engine { host, .. } = &*self.engine;
        let is_forked = self.engine.is_left_by_fork();
        match (host.standard, self.engine.is_broken()) {
            (false, true) if is_forked => RunnerBroken::new_err(error::FORKED),
            (false, true) => RunnerBroken::new_err(error::BROKEN),
            (false, false) => RunnerStopped::new_err(error::STOPPED),
            (true, true) if is_forked => BrokenThreadPool::new_err(error::FORKED_EXECUTOR),
            (true, true) => BrokenThreadPool::new_err(error::BROKEN),
            (true, false) if host.is_uninitialised() => {
                BrokenThreadPool::new_err(error::UNINITIALISED)
            }
            (true, false) if process::is_exiting() => {
                PyRuntimeError::new_err("cannot schedule new futures after interpreter shutdown")
            }
            (true, false) => PyRuntimeError::new_err(error::SHUT_DOWN),
        }
    }

    /// Raises if a fork left this runner behind, or it broke.
    pub(super) fn check_alive(&self) -> PyResult<()> {
        if self.engine.is_broken() { Err(self.closed_error()) } else { Ok(()) }
    }

    /// Raises if the runner is closing, or broke, or a fork left it behind.
    pub(super) fn check_running(&self) -> PyResult<()> {
        if self.engine.is_closing() { Err(self.closed_error()) } else { Ok(()) }
    }

    /// Why nothing is accepted, counted as a refusal.
    pub(super) fn refuse_closed(&self, py: Python<'_>, asked: Asked<'_>) -> PyErr {
        self.refused(py, asked, false, self.closed_error())
    }

    /// What is wrong when the queue is full, counted as a refusal.
    pub(super) fn refuse_full(&self, py: Python<'_>, asked: Asked<'_>, why: &str) -> PyErr {
        self.refused(py, asked, true, QueueFull::new_err(self.full(why)))
    }

    /// Counts a refused submit; false: a broken runner counts no more. `full`: it found the queue
    /// full.
    pub(super) fn count_refused(&self, full: bool) -> bool {
        let counts = !self.engine.is_broken();
        if counts {
            self.engine.count_refused(full);
        }
        counts
    }

    /// Raises for what is no task, and early when the runner is closed: nothing is made for what is
    /// refused anyway, and at the very end of the interpreter nothing can be made any more.
    pub(super) fn check_open(
        &self,
        r#fn: &Bound<'_, PyAny>,
        options: Option<&TaskOptions>,
    ) -> PyResult<()> {
        if !self.bare {
            check_task(r#fn)?;
        }
        if self.engine.is_closing() {
            return Err(
                self.refuse_closed(r#fn.py(), Asked { function: Some(r#fn.as_unbound()), options })
            );
        }
        Ok(())
    }

    /// What is wrong when the queue is full.
    pub(super) fn full(&self, why: &str) -> String {
        let bound = self.engine.settings.max_queue_size.unwrap_or_default();
        format!("the queue holds max_queue_size={bound} tasks{why}")
    }
}
