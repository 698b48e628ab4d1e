//! Time limits as users give them, in seconds.
//!
//! The rule is the package's (`tasker._checks`); plain numbers need not ask it.

use super::py_imports::PyImports;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyFloatMethods};

/// A time limit of the call at hand; `None` when there is none.
pub(super) fn of_call(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<f64>> {
    read(given, |py, value| PyImports::get(py)?.check_deadline.bind(py).call1(("timeout", value)))
}

/// A time limit of a method of the standard library's, by its rule; `None` when there is none.
pub(super) fn standard(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<f64>> {
    read(given, |py, value| PyImports::get(py)?.standard_deadline.bind(py).call1((value,)))
}

fn read<'py>(
    given: Option<&Bound<'py, PyAny>>,
    rule: impl FnOnce(Python<'py>, &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Option<f64>> {
    let Some(given) = given else {
        return Ok(None);
    };
    let plain = given.cast_exact::<PyFloat>().map(PyFloatMethods::value);
    let seconds = match plain {
        Ok(seconds) if seconds >= 0.0 => seconds,
        _ => rule(given.py(), given)?.extract()?,
    };
    Ok((seconds != f64::INFINITY).then_some(seconds))
}
