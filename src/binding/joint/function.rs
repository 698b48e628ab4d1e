//! What the tasks of a batcher have in place of a function: the user's function, which takes a list
//! of items, and the accumulator in which they wait.

use crate::binding::callable;
use crate::binding::context::variables;
use crate::binding::error;
use crate::binding::future::Future;
use crate::binding::host::guarded_call;
use crate::engine::queue::accumulator::{Accumulator, JointSettings};
use crate::sync::Arc;
use pyo3::exceptions::{PyException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyList;

#[doc = doc!(BatchFunction)]
#[pyclass(frozen, module = "tasker._tasker")]
pub(in crate::binding) struct BatchFunction {
    pub(super) function: Py<PyAny>,
    pub(in crate::binding) accumulator: Arc<Accumulator<Py<Future>>>,
    /// The settings of its batcher, for one of another runner.
    #[pyo3(get, name = "_batch_settings")]
    settings: Py<PyAny>,
}

impl BatchFunction {
    pub(super) fn new(
        py: Python<'_>,
        function: Py<PyAny>,
        settings: Py<PyAny>,
        joint: JointSettings,
    ) -> PyResult<Py<Self>> {
        Py::new(py, Self { function, accumulator: Arc::new(Accumulator::new(joint)), settings })
    }

    /// That of a task of a batcher, for the thread that owns its payload.
    pub(in crate::binding) fn of(future: &Future) -> Option<&Py<Self>> {
        // SAFETY: such tasks are made with a function of this class alone, and a reference to one
        // is laid out like a reference to any object.
        future.joint_function().map(|function| unsafe { &*std::ptr::from_ref(function).cast() })
    }

    /// The user's function.
    pub(in crate::binding) fn user(&self) -> &Py<PyAny> {
        &self.function
    }

    /// Calls the function with a list of items, in a context of its own if it is to have one: none of
    /// the items' is that of all. Gives as many results. `around` is given the call, which wants a
    /// resource and gives nothing of use.
    pub(in crate::binding) fn call_with_context(
        &self,
        py: Python<'_>,
        items: impl ExactSizeIterator<Item = Option<Py<PyAny>>>,
        own_context: bool,
        around: impl FnOnce(
            &mut dyn FnMut(&Py<PyAny>) -> Result<Py<PyAny>, Py<PyAny>>,
        ) -> Result<Py<PyAny>, Py<PyAny>>,
    ) -> Result<Vec<Py<PyAny>>, Py<PyAny>> {
        let raised = |error: PyErr| error.into_value(py).into_any();
        let count = items.len();
        let items = PyList::new(py, items.map(|item| item.unwrap_or_else(|| py.None())));
        let items = items.map_err(raised)?.into_any().unbind();
        let mut results = Vec::new();
        let mut call = |resource: &Py<PyAny>| {
            results = self.call(py, resource, &items, count)?;
            Ok(py.None())
        };
        let called = if own_context {
            guarded_call::empty_context(py).and_then(|context| {
                let called = variables::within(py, &context, false, || around(&mut call));
                guarded_call::release(py, context);
                called
            })
        } else {
            around(&mut call)
        };
        guarded_call::release(py, items);
        called.map(|_| results)
    }

    fn call(
        &self,
        py: Python<'_>,
        resource: &Py<PyAny>,
        items: &Py<PyAny>,
        count: usize,
    ) -> Result<Vec<Py<PyAny>>, Py<PyAny>> {
        let results = guarded_call::call_with(py, &self.function, &[resource, items])?;
        let listed = self.listed(py, &results, count);
        guarded_call::release(py, results);
        listed
    }

    fn listed(
        &self,
        py: Python<'_>,
        results: &Py<PyAny>,
        count: usize,
    ) -> Result<Vec<Py<PyAny>>, Py<PyAny>> {
        let name = || callable::name_of(py, Some(&self.function));
        if results.is_none(py) {
            // The one slip that the interpreter's own text does not explain.
            let text = format!("{} must return a result for each item, got None", name());
            return Err(error::make::<PyTypeError>(py, &text, None));
        }
        // What reads any other iterable runs its code.
        let made = if results.bind(py).is_exact_instance_of::<PyList>() {
            None
        } else {
            let list = py.get_type::<PyList>().into_any().unbind();
            Some(guarded_call::call_with(py, &list, &[results])?)
        };
        let list = made.as_ref().unwrap_or(results).bind(py).cast::<PyList>();
        let listed =
            list.map_or_else(|_| Vec::new(), |list| list.iter().map(Bound::unbind).collect());
        guarded_call::release_some(py, made);
        if listed.len() == count {
            return Ok(listed);
        }
        let text = format!("{} returned {} results for {count} items", name(), listed.len());
        for result in listed {
            guarded_call::release(py, result);
        }
        Err(error::make::<PyValueError>(py, &text, None))
    }
}

/// Whether a result is an error in the place of one.
pub(in crate::binding) fn is_error(py: Python<'_>, result: &Py<PyAny>) -> bool {
    guarded_call::is_instance::<PyException>(py, result)
}

#[pymethods]
impl BatchFunction {
    /// Calls the function for one item.
    fn __call__(
        &self,
        resource: &Bound<'_, PyAny>,
        item: &Bound<'_, PyAny>,
    ) -> PyResult<Py<PyAny>> {
        let py = item.py();
        let items = PyList::new(py, [item])?.into_any().unbind();
        let results = self.call(py, resource.as_unbound(), &items, 1);
        let mut results = results.map_err(|error| error::raise(py, error))?;
        let result = results.pop().unwrap_or_else(|| py.None());
        if is_error(py, &result) { Err(error::raise(py, result)) } else { Ok(result) }
    }

    /// Its tasks are called what the user's function is called.
    #[getter]
    fn __qualname__(&self, py: Python<'_>) -> String {
        callable::name_of(py, Some(&self.function))
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("<batch function {}>", callable::name_of(py, Some(&self.function)))
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        // Not the tasks that wait, which a queue keeps alive.
        visit.call(&self.function)?;
        visit.call(&self.settings)
    }
}
