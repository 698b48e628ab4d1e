//! The view of a runner that carries options.

use crate::binding::engine_handle::EngineHandleRef;
use crate::binding::future::Future;
use crate::binding::host::observed;
use crate::binding::options::{Asked, RetryOption, TaskOptions};
use crate::binding::py_imports::PyImports;
use crate::binding::runner::Runner;
use crate::sync::Arc;
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

/// What the package takes for options.
type GivenOptions<'a> = (u8, bool, Option<f64>, Option<&'a str>, Py<PyAny>);

#[pymethods]
impl Submitter {
    #[new]
    fn new(
        runner: Py<Runner>,
        priority: u8,
        once: bool,
        timeout: Option<f64>,
        name: Option<String>,
        retry: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let options = TaskOptions::checked(priority, once, timeout, name, retry)?;
        Ok(Self { runner, options })
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

    /// What it was made with.
    #[getter]
    fn _options(&self, py: Python<'_>) -> PyResult<GivenOptions<'_>> {
        let TaskOptions { priority, once, timeout, name, .. } = &*self.options;
        let retry = self.options.retry_given(py, &PyImports::get(py)?.unset);
        Ok((*priority as u8, *once, *timeout, name.as_deref(), retry))
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
        // What a `Retry` calls may lead back here. Its reference is shared with the tasks, and may
        // be shown to the collector by a sole owner alone: with a task under way it is in use.
        if let RetryOption::By(retry) = &self.options.retry
            && Arc::strong_count(&self.options) == 1
        {
            visit.call(retry)?;
        }
        visit.call(&self.runner)
    }
}
