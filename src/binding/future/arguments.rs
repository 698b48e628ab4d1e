//! What a task's function is called with, in one word.

use crate::binding::gc;
use crate::binding::host::guarded_call;
use crate::binding::shared_count;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

/// What a task's function is called with beside the resource: a tuple; a pair of that and a
/// dictionary, of a call with keywords; or, of a task of a batcher, its item without a tuple. The
/// task's word tells which, by `KEYWORDS` and `JOINT`: a mark here would make every task larger.
#[derive(Default)]
pub(in crate::binding) struct Arguments(Option<Py<PyAny>>);

impl Arguments {
    /// Those of a call without keywords.
    pub(in crate::binding) fn of_tuple(tuple: Option<Py<PyTuple>>) -> Self {
        Self(tuple.map(Py::into_any))
    }

    /// Those of a call with keywords.
    #[cold]
    pub(in crate::binding) fn of_both(
        py: Python<'_>,
        tuple: Option<Py<PyTuple>>,
        keywords: Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let tuple = tuple.map_or_else(|| py.None(), Py::into_any);
        // It ends with the task, on another thread mostly.
        let pair = [tuple, keywords.into_any().unbind()];
        let pair = pair.map(|it| shared_count::hand_over(py, it).into_bound(py));
        let pair = PyTuple::new(py, pair)?.into_any().unbind();
        // As the future of a task that waits, and no other code has a reference to it.
        gc::untrack(&pair);
        Ok(Self(Some(pair)))
    }

    pub(in crate::binding) fn of_item(item: Py<PyAny>) -> Self {
        Self(Some(item))
    }

    /// That of a task of a batcher.
    pub(in crate::binding) fn item(&self) -> Option<&Py<PyAny>> {
        self.0.as_ref()
    }

    /// Calls `act` with those of a task that is none of a batcher.
    #[inline]
    pub(in crate::binding) fn with<T>(
        &self,
        py: Python<'_>,
        has_keywords: bool,
        act: impl FnOnce(Option<&Py<PyTuple>>, Option<&Py<PyDict>>) -> T,
    ) -> T {
        if has_keywords {
            let (tuple, keywords) = self.both(py);
            return act(tuple.as_ref(), keywords.as_ref());
        }
        let tuple = self.0.as_ref().and_then(|tuple| tuple.bind(py).cast::<PyTuple>().ok());
        act(tuple.map(Bound::as_unbound), None)
    }

    /// Both kinds, which the pair holds as long as it lives.
    #[cold]
    fn both(&self, py: Python<'_>) -> (Option<Py<PyTuple>>, Option<Py<PyDict>>) {
        let pair = self.0.as_ref().and_then(|pair| pair.bind(py).cast::<PyTuple>().ok());
        let item = |index| pair.and_then(|pair| pair.get_item(index).ok());
        let tuple = item(0).and_then(|tuple| tuple.cast_into().ok()).map(Bound::unbind);
        (tuple, item(1).and_then(|keywords| keywords.cast_into().ok()).map(Bound::unbind))
    }

    /// Makes them ones that another thread lets go of.
    pub(super) fn hand_over(self, py: Python<'_>) -> Self {
        Self(self.0.map(|arguments| shared_count::hand_over(py, arguments)))
    }

    /// Lets go of them.
    pub(super) fn release(self, py: Python<'_>) {
        guarded_call::release_some(py, self.0);
    }

    /// Shows the collector what they are.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}
