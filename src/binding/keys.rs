//! The key of a task: asked of the user's function at the submit, and made a number of.
//!
//! The function runs in the thread that submits, as does `__hash__` of what it gives, before there is
//! anything of the task, and with no lock held. The engine gets the number. `__eq__` is never asked.

use super::error;
use super::host::guarded_call;
use super::note;
use super::options::{Asked, TaskOptions};
use crate::engine::task::key::KeyNumber;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// The number of the key of a task with these arguments, if it has options that ask for one.
#[inline]
pub(super) fn number(
    py: Python<'_>,
    asked: Asked<'_>,
    args: Option<&Py<PyTuple>>,
    kwargs: Option<&Py<PyDict>>,
) -> PyResult<KeyNumber> {
    match asked.options {
        Some(TaskOptions { key: Some(key), .. }) => ask(py, key, asked, args, kwargs),
        _ => Ok(KeyNumber::NONE),
    }
}

/// [`number`] for an item, which may be a tuple of arguments, to be `spread`.
pub(super) fn number_of_item(
    py: Python<'_>,
    asked: Asked<'_>,
    item: &Bound<'_, PyAny>,
    spread: bool,
) -> PyResult<KeyNumber> {
    if !asked.has_key() {
        return Ok(KeyNumber::NONE);
    }
    let args = if spread { item.cast::<PyTuple>()?.clone() } else { PyTuple::new(py, [item])? };
    let args = args.unbind();
    let number = number(py, asked, Some(&args), None);
    guarded_call::release(py, args);
    number
}

fn ask(
    py: Python<'_>,
    function: &Py<PyAny>,
    asked: Asked<'_>,
    args: Option<&Py<PyTuple>>,
    kwargs: Option<&Py<PyDict>>,
) -> PyResult<KeyNumber> {
    let key = guarded_call::call(py, function, None, args, kwargs).map_err(|error| {
        note::calling_key(py, &error);
        raised(py, error)
    })?;
    let hash = guarded_call::hash(py, &key).map_err(|cause| not_hashable(py, asked, &key, cause));
    guarded_call::release(py, key);
    Ok(KeyNumber::of_hash(hash?.cast_unsigned() as u64))
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
