//! The view of a runner that carries options.

use crate::binding::engine_handle::EngineHandleRef;
use crate::binding::error::{self, ConfigError};
use crate::binding::future::Future;
use crate::binding::future::draft::TaskCall;
use crate::binding::host::observed;
use crate::binding::options::{Asked, RetryOption, TaskOptions};
use crate::binding::py_imports::PyImports;
use crate::binding::runner::Runner;
use crate::binding::task_key::LineHold;
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

    /// A call of a view's method: with its options, and the number of its key, of which the line is
    /// held until the task is accepted.
    pub(super) fn with_options<'py>(
        &self,
        call: TaskCall<'py>,
    ) -> PyResult<(TaskCall<'py>, Option<LineHold>)> {
        let mut hold = None;
        let mut call = call.with(&self.options);
        // A runner that is closing refuses the task, whatever its key.
        if self.options.key.is_some() && !self.handle().engine.is_closing() {
            let (py, asked) = (call.function.py(), call.asked());
            let ask =
                |args: Option<&_>, kwargs: Option<&_>| self.handle().key(py, asked, args, kwargs);
            let key = call.args.with(py, call.has_keywords, ask)?;
            (call.key, hold) = (key.number, key.hold);
        }
        Ok((call, hold))
    }

    /// `run_task` of a view.
    pub(super) fn run_task(&self, call: TaskCall<'_>) -> PyResult<Py<PyAny>> {
        if self.options.key.is_some() {
            return Err(ConfigError::new_err(error::RUN_TASK_WITH_KEY));
        }
        self.handle().run_task(call.with(&self.options))
    }
}

/// What the package takes for options.
type GivenOptions<'a> =
    (u8, bool, Option<f64>, Option<&'a str>, Py<PyAny>, Option<Py<PyAny>>, bool);

#[pymethods]
impl Submitter {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "one for each option")]
    fn new(
        runner: Py<Runner>,
        priority: u8,
        once: bool,
        timeout: Option<f64>,
        name: Option<String>,
        retry: &Bound<'_, PyAny>,
        key: Option<Py<PyAny>>,
        serial: bool,
    ) -> PyResult<Self> {
        let options = TaskOptions::checked(priority, once, timeout, name, retry, (key, serial))?;
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
        let TaskOptions { priority, once, timeout, name, key, serial, .. } = &*self.options;
        let retry = self.options.retry_given(py, &PyImports::get(py)?.unset);
        let key = key.as_ref().map(|key| key.clone_ref(py));
        Ok((*priority as u8, *once, *timeout, name.as_deref(), retry, key, *serial))
    }

    /// That of the runner, with the name of tasks of this function by this view.
    fn _observer_of(&self, r#fn: &Bound<'_, PyAny>) -> Option<(Py<PyAny>, String)> {
        let asked = Asked { function: Some(r#fn.as_unbound()), options: Some(&self.options) };
        observed::observer_of(r#fn.py(), &self.handle().engine, asked)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (view, kind) = (slf.get(), slf.get_type().name()?);
        let runner = &view.handle().engine.settings.name;
        let options = view.options.shown(slf.py());
        let gap = if options.is_empty() { "" } else { ": " };
        Ok(format!("<{kind} of runner '{runner}'{gap}{options}>"))
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        // What these call may lead back here. Their references are shared with the tasks, and may be
        // shown to the collector by a sole owner alone: with a task under way they are in use.
        if Arc::strong_count(&self.options) == 1 {
            if let RetryOption::By(retry) = &self.options.retry {
                visit.call(retry)?;
            }
            visit.call(&self.options.key)?;
        }
        visit.call(&self.runner)
    }
}
