//! The view of a runner that carries options.

use crate::binding::engine_handle::EngineHandleRef;
use crate::binding::future::Future;
use crate::binding::host::observed;
use crate::binding::options::{Asked, TaskOptions};
use crate::binding::runner::Runner;
use crate::engine::task::priority::Priority;
use crate::sync::{Arc, OnceLock};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

#[doc = doc!(Submitter)]
#[pyclass(subclass, frozen, module = "tasker._tasker")]
pub(in crate::binding) struct Submitter {
    // Strong: a view keeps its runner alive.
    #[doc = doc!(Submitter.runner)]
    #[pyo3(get)]
    runner: Py<Runner>,
    pub(in crate::binding) options: Arc<TaskOptions>,
}

impl Submitter {
    pub(in crate::binding) fn handle(&self) -> EngineHandleRef<'_> {
        self.runner.get().handle()
    }
}

#[pymethods]
impl Submitter {
    #[new]
    fn new(
        runner: Py<Runner>,
        priority: u8,
        once: bool,
        timeout: Option<f64>,
        name: Option<String>,
    ) -> PyResult<Self> {
        let priority = Priority::from_number(priority)
            .ok_or_else(|| PyValueError::new_err(format!("there is no priority {priority}")))?;
        Ok(Self {
            runner,
            options: Arc::new(TaskOptions { priority, once, timeout, name, row: OnceLock::new() }),
        })
    }

    #[doc = doc!(Submitter.submit_many)]
    #[pyo3(signature = (r#fn, iterable, /))]
    fn submit_many(
        &self,
        r#fn: &Bound<'_, PyAny>,
        iterable: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<Py<Future>>> {
        self.handle().submit_many(r#fn, iterable, Some(&self.options))
    }

    /// That of the runner, with the name of tasks of this function by this view.
    fn _observer_of(&self, r#fn: &Bound<'_, PyAny>) -> Option<(Py<PyAny>, String)> {
        let asked = Asked { function: Some(r#fn.as_unbound()), options: Some(&self.options) };
        observed::observer_of(r#fn.py(), &self.handle().engine, asked)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (view, kind) = (slf.get(), slf.get_type().name()?);
        let runner = &view.handle().engine.settings.name;
        let options = view.options.shown();
        let gap = if options.is_empty() { "" } else { ": " };
        Ok(format!("<{kind} of runner '{runner}'{gap}{options}>"))
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.runner)
    }
}
