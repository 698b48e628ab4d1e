//! The key of a task: asked of the user's function at the submit, with its hash.
//!
//! The function runs in the thread that submits, as does `__hash__` of what it gives, before there is
//! anything of the task, and with no lock held. The engine gets a number.

use super::error;
use super::host::guarded_call;
use super::note;
use super::options::{Asked, TaskOptions};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// The key of a task with these arguments, and its hash, if it has options that ask for one.
pub(super) fn ask(
    py: Python<'_>,
    asked: Asked<'_>,
    args: Option<&Py<PyTuple>>,
    kwargs: Option<&Py<PyDict>>,
) -> PyResult<Option<(Py<PyAny>, u64)>> {
    let Some(TaskOptions { key: Some(function), .. }) = asked.options else {
        return Ok(None);
    };
    let key = guarded_call::call(py, function, None, args, kwargs).map_err(|error| {
        note::calling_key(py, &error);
        raised(py, error)
    })?;
    match guarded_call::hash(py, &key) {
        Ok(hash) => Ok(Some((key, hash.cast_unsigned() as u64))),
        Err(cause) => {
            let error = not_hashable(py, asked, &key, cause);
            guarded_call::release(py, key);
            Err(error)
        }
    }
}

/// What asking for a key raised: in a `map` it must not look like the end of the input.
pub(super) fn raised(py: Python<'_>, error: Py<PyAny>) -> PyErr {
    error::raise(py, error::not_stopping(py, error, "key"))
}

#[cold]
fn not_hashable(py: Python<'_>, asked: Asked<'_>, key: &Py<PyAny>, cause: Py<PyAny>) -> PyErr {
    if !guarded_call::is_instance::<PyTypeError>(py, &cause) {
        return raised(py, cause);
    }
    let class = key.bind(py).get_type().name();
    let class = class.map_or_else(|_| "object".to_owned(), |name| name.to_string());
    let text = format!(
        "the key of task '{}' must be hashable, got a {class}: let options(key=...) give a str, an \
         int or a tuple of such",
        asked.name(py),
    );
    let error = error::make::<PyTypeError>(py, &text, Some(&cause));
    guarded_call::release(py, cause);
    error::raise(py, error)
}
