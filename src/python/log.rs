//! What the binding tells the user's log: failures that nobody else receives.

use super::host::PyHost;
use super::host::door;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

/// How bad it is, by the name of the logger's method.
#[derive(Clone, Copy)]
pub(super) enum Level {
    Info,
    Warning,
    Error,
    Critical,
}

/// A hook or callback raised: logged once, with the worker's name, and dropped.
pub(super) fn hook_failed(
    py: Python<'_>,
    host: Option<&PyHost>,
    worker: Option<&str>,
    what: &str,
    error: Py<PyAny>,
) {
    let worker = worker
        .map(ToOwned::to_owned)
        .or_else(|| super::host::seat::desk(|desk| desk.badge().name().to_owned()));
    let text = match &worker {
        Some(worker) => format!("{worker}: {what} failed"),
        None => format!("{what} failed"),
    };
    say(py, host, Level::Error, &text, worker.as_deref(), Some(&error));
    door::release(py, error);
}

/// Writes one record. An error of the logging call itself is dropped: there is nobody left to tell.
pub(super) fn say(
    py: Python<'_>,
    host: Option<&PyHost>,
    level: Level,
    text: &str,
    worker: Option<&str>,
    error: Option<&Py<PyAny>>,
) {
    let logger = match host {
        Some(host) => match host.logger(py) {
            Some(logger) => logger,
            None => return,
        },
        None => py.None(),
    };
    let Ok(write) = function(py) else {
        return;
    };
    let level = match level {
        Level::Info => 20_i32,
        Level::Warning => 30,
        Level::Error => 40,
        Level::Critical => 50,
    };
    let Ok(level) = level.into_pyobject(py);
    let level = level.into_any().unbind();
    let string = |text: &str| PyString::new(py, text).into_any().unbind();
    let text = string(text);
    let worker = worker.map_or_else(|| py.None(), string);
    let error = error.map_or_else(|| py.None(), |error| error.clone_ref(py));
    let answer = door::call_with(py, write, &[&logger, &level, &text, &worker, &error]);
    super::host::child::end_here(py, &answer);
    match answer {
        Ok(object) | Err(object) => door::release(py, object),
    }
    for object in [logger, level, text, worker, error] {
        door::release(py, object);
    }
}

/// Finds what writes the records: at the very end of the interpreter nothing can be imported any more.
pub(super) fn load(py: Python<'_>) -> PyResult<()> {
    function(py).map(|_| ())
}

fn function(py: Python<'_>) -> PyResult<&Py<PyAny>> {
    static WRITE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    WRITE.get_or_try_init(py, || Ok(py.import("tasker._log")?.getattr("write")?.unbind()))
}
