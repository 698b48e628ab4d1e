//! What exists once in a process, however often the package is imported.
//!
//! Hot reload, documentation builders and test runners drop modules and import them again. The
//! native half is there once, and keeps the classes that it makes objects of: were they another
//! class after a second import, no caller could catch an error of a runner by its new name. So the
//! first definition stays, and a later one gives the first.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// Decorates a class or function of the package: gives the one that was first defined under its
/// name.
#[pyfunction]
#[pyo3(signature = (thing, /))]
pub(super) fn _once<'py>(
    py: Python<'py>,
    thing: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    static KEPT: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let kept = KEPT.get_or_init(py, || PyDict::new(py).unbind()).bind(py);
    let key = (thing.getattr("__module__")?, thing.getattr("__qualname__")?);
    kept.call_method1("setdefault", (key, thing))
}

/// Whether this is the first call in this process: hooks of the interpreter are registered once.
#[pyfunction]
pub(super) fn _is_first_import(py: Python<'_>) -> bool {
    static IMPORTED: PyOnceLock<()> = PyOnceLock::new();
    IMPORTED.set(py, ()).is_ok()
}
