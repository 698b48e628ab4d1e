//! What is wrong with a runner: all that the package's rules look at, taken in one go.

use super::class_name;
use super::context::clock::{self, seconds};
use super::figures;
use super::host::guarded_call;
use super::host::state::PyHost;
use super::log::{self, Level};
use super::py_imports::PyReports;
use super::survey;
use crate::engine::clock::Tick;
use crate::engine::{Engine, Mode};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// The findings of this moment; none once the runner has stopped.
pub(super) fn diagnose<'py>(
    py: Python<'py>,
    engine: &Engine<PyHost>,
) -> PyResult<Bound<'py, PyAny>> {
    if engine.mode() == Mode::Stopped {
        return Ok(PyTuple::empty(py).into_any());
    }
    let snapshot = snapshot(py, engine)?;
    engine.host.memory(py)?.bind(py).call_method1("look", (snapshot,))
}

/// Time between two looks for the log.
pub(super) fn look_interval(py: Python<'_>) -> PyResult<Tick> {
    Ok(clock::ticks_of(py.import("tasker._log")?.getattr("INTERVAL")?.extract()?))
}

/// Logs what has been wrong for long enough. Called by the keeper: its exit guard is under what is
/// no guarded call.
pub(super) fn log(py: Python<'_>, engine: &Engine<PyHost>) {
    let logger = &engine.host.logger;
    let due = || -> PyResult<Vec<(String, String)>> {
        let snapshot = snapshot(py, engine)?;
        engine.host.memory(py)?.bind(py).call_method1("to_log", (snapshot,))?.extract()
    };
    match due() {
        Ok(due) => {
            for (severity, text) in due {
                let level = match &*severity {
                    "critical" => Level::Critical,
                    "warning" => Level::Warning,
                    _ => Level::Info,
                };
                let text = format!("{}: {text}", engine.host.name);
                log::say(py, logger, level, &text, None, None);
            }
        }
        Err(error) => {
            let error = error.into_value(py).into_any();
            let what = format!("{}: a look at the runner", engine.host.name);
            log::hook_failed(py, logger, None, &what, error);
        }
    }
}

/// What the rules look at.
pub(super) fn snapshot(py: Python<'_>, engine: &Engine<PyHost>) -> PyResult<Py<PyAny>> {
    let metrics = engine.metrics();
    let fault = engine.host.fault(py);
    let creation_error =
        fault.as_ref().and_then(|fault| class_name::of_error(&fault.bind(py).get_type()));
    let fields = PyDict::new(py);
    fields.set_item("at", seconds(engine.clock.now()))?;
    fields.set_item("stats", figures::stats(py, engine)?)?;
    fields.set_item("metrics", figures::metrics(py, engine, &metrics)?)?;
    fields.set_item("workers", survey::workers(py, engine, false)?)?;
    fields.set_item("max_queue_size", engine.settings.max_queue_size)?;
    fields.set_item("refused_lately", engine.refused_lately())?;
    guarded_call::release_some(py, fault);
    fields.set_item("creation_error", creation_error)?;
    PyReports::get(py)?.snapshot.call(py, (), Some(&fields))
}
