//! What becomes of an item's error: it names the item, and ends the iteration or is handed out in
//! place of a result.

use crate::binding::error::{RunnerBroken, RunnerStopped, TaskCancelled, traceback};
use crate::binding::host::guarded_call;
use crate::binding::note;
use pyo3::exceptions::{PyBaseException, PyException};
use pyo3::prelude::*;

/// Notes the index of its item on an error; gives whether it is to be handed out, where errors are.
///
/// An error of the note itself is raised when it is no `Exception`: an interrupt that came
/// meanwhile, say.
pub(super) fn is_handed_out(py: Python<'_>, error: &Py<PyAny>, index: u64) -> PyResult<bool> {
    if let Err(refusal) = note::item(py, error, index) {
        if !guarded_call::is_instance::<PyException>(py, &refusal) {
            return Err(crate::binding::error::raise(py, refusal));
        }
        guarded_call::release(py, refusal);
    }
    // Of a runner that takes no more items there would be no end of errors.
    let is_over = guarded_call::is_instance::<RunnerStopped>(py, error)
        || guarded_call::is_instance::<RunnerBroken>(py, error)
        || is_dropped(py, error);
    Ok(guarded_call::is_instance::<PyException>(py, error) && !is_over)
}

/// Whether an item ended so because it was dropped from the queue, and not because its function
/// said so: what a function raises has a traceback.
fn is_dropped(py: Python<'_>, error: &Py<PyAny>) -> bool {
    guarded_call::is_instance::<TaskCancelled>(py, error) && traceback(error.bind(py)).is_none()
}

/// [`is_handed_out`] for `amap`, whose items are tasks of asyncio's.
#[pyfunction]
pub(in crate::binding) fn _is_handed_out(
    error: &Bound<'_, PyBaseException>,
    index: u64,
) -> PyResult<bool> {
    is_handed_out(error.py(), error.as_any().as_unbound(), index)
}
