//! What becomes of an item's error: it names the item, and ends the iteration or is handed out in place of a result.

use crate::python::error::{RunnerBroken, RunnerStopped, TaskCancelled, traceback};
use crate::python::host::door;
use crate::python::note;
use pyo3::exceptions::{PyBaseException, PyException};
use pyo3::prelude::*;

/// Whether a `map` ends at an error of an item.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Failures {
    /// It is raised and ends the iteration.
    Raised,
    /// It is handed out in place of a result.
    HandedOut,
}

/// Notes the index of its item on an error; gives whether it is to be handed out, where errors are.
///
/// An error of the note itself is raised when it is no `Exception`: an interrupt that came meanwhile, say.
pub(super) fn is_handed_out(py: Python<'_>, error: &Py<PyAny>, index: u64) -> PyResult<bool> {
    if let Err(refusal) = note::item(py, error, index) {
        if !door::is_instance::<PyException>(py, &refusal) {
            return Err(crate::python::error::raise(py, refusal));
        }
        door::release(py, refusal);
    }
    // Of a runner that takes no more items there would be no end of errors.
    let is_over = door::is_instance::<RunnerStopped>(py, error)
        || door::is_instance::<RunnerBroken>(py, error)
        || is_dropped(py, error);
    Ok(door::is_instance::<PyException>(py, error) && !is_over)
}

/// Whether an item ended so because it was dropped from the queue, and not because its function said so: what a
/// function raises has a traceback.
fn is_dropped(py: Python<'_>, error: &Py<PyAny>) -> bool {
    door::is_instance::<TaskCancelled>(py, error) && traceback(error.bind(py)).is_none()
}

/// [`is_handed_out`] for `amap`, whose items are tasks of asyncio's.
#[pyfunction]
pub(in crate::python) fn _is_handed_out(
    error: &Bound<'_, PyBaseException>,
    index: u64,
) -> PyResult<bool> {
    is_handed_out(error.py(), error.as_any().as_unbound(), index)
}
