//! Options of a task, and the view of a runner that carries them.

use super::core::CoreRef;
use crate::engine::queue::lanes::Class;
use crate::python::future::Future;
use crate::python::printable::{BOUND, printable};
use crate::python::runner::Runner;
use crate::sync::Arc;
use pyo3::prelude::*;

/// What a task may be given beside its function. Checked by the facade.
#[derive(Debug, Clone)]
pub(in crate::python) struct Options {
    pub(in crate::python) class: Class,
    pub(in crate::python) once: bool,
    /// Seconds from submit to outcome; `None`: the runner's default.
    pub(in crate::python) timeout: Option<f64>,
    pub(in crate::python) name: Option<String>,
}

impl Options {
    /// Options that only say how urgent, and whether once.
    pub(in crate::python) fn plain(class: Class, once: bool) -> Arc<Self> {
        Arc::new(Self { class, once, timeout: None, name: None })
    }

    /// What was chosen, for people.
    fn shown(&self) -> String {
        let class = match self.class {
            Class::Low => Some("priority=LOW".to_owned()),
            Class::Normal => None,
            Class::High => Some("priority=HIGH".to_owned()),
        };
        let once = self.once.then(|| "once=True".to_owned());
        let timeout = self.timeout.map(|seconds| format!("timeout={seconds}"));
        let name = self.name.as_ref().map(|name| format!("name='{}'", printable(name, BOUND)));
        [class, once, timeout, name].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// The verbs of a runner with the options baked in.
#[pyclass(subclass, frozen, module = "tasker._tasker")]
pub(in crate::python) struct Submitter {
    /// Strong: a view keeps its runner alive.
    runner: Py<Runner>,
    pub(in crate::python) options: Arc<Options>,
}

impl Submitter {
    pub(in crate::python) fn core(&self) -> CoreRef<'_> {
        self.runner.get().core()
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
    ) -> Self {
        let class = Class::from_number(priority);
        Self { runner, options: Arc::new(Options { class, once, timeout, name }) }
    }

    /// The runner this is a view of.
    #[getter]
    fn runner(&self, py: Python<'_>) -> Py<Runner> {
        self.runner.clone_ref(py)
    }

    /// Does what `Runner.submit_many` does, with the options of this view.
    #[pyo3(signature = (r#fn, iterable, /))]
    fn submit_many(
        &self,
        r#fn: &Bound<'_, PyAny>,
        iterable: &Bound<'_, PyAny>,
    ) -> PyResult<Vec<Py<Future>>> {
        self.core().submit_many(r#fn, iterable, Some(&self.options))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (view, kind) = (slf.get(), slf.get_type().name()?);
        let runner = &view.core().engine.settings.name;
        let options = view.options.shown();
        let gap = if options.is_empty() { "" } else { ": " };
        Ok(format!("<{kind} of runner '{runner}'{gap}{options}>"))
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.runner)
    }
}
