//! What the binding tells the user's log: failures that no caller receives.

use super::host::forked_child;
use super::host::guarded_call;
use super::py_imports::PyImports;
use crate::sync::{Arc, Mutex, Weak};
use pyo3::prelude::*;
use pyo3::types::PyString;

/// How bad it is, as `logging` numbers it.
#[derive(Clone, Copy)]
pub(super) enum Level {
    Info = 20,
    Warning = 30,
    Error = 40,
    Critical = 50,
}

/// Where records go.
pub(super) enum Logger {
    Nowhere,
    /// To the logger of the package.
    Package,
    Given(GivenLogger),
}

impl Logger {
    /// That of a config or of an executor.
    pub(super) fn given(logger: Py<PyAny>) -> Self {
        Self::Given(GivenLogger(Mutex::new(LoggerOwnership::Own(Arc::new(logger)))))
    }

    /// Hands a logger over to the `Runner`, as its hooks are: a handler may lead from it back to
    /// the `Runner`, which the collector sees only in what a `Runner` holds.
    pub(super) fn lend(&self) -> Option<Arc<Py<PyAny>>> {
        let Self::Given(given) = self else {
            return None;
        };
        let logger = given.get()?;
        let borrowed = LoggerOwnership::Borrowed(Arc::downgrade(&logger));
        let former = std::mem::replace(&mut *given.0.lock(), borrowed);
        drop(former);
        Some(logger)
    }

    /// Takes the logger back where the `Runner` dies: there may be records to write still, of
    /// tasks whose outcome nobody has asked for.
    pub(super) fn keep(&self, py: Python<'_>) {
        if let Self::Given(given) = self
            && let Some(logger) = given.get()
        {
            let own = LoggerOwnership::Own(Arc::new(logger.clone_ref(py)));
            let former = std::mem::replace(&mut *given.0.lock(), own);
            drop(former);
        }
    }
}

/// A logger that the user gave. Its lock is held for a few instructions, with no call into the
/// interpreter.
pub(super) struct GivenLogger(Mutex<LoggerOwnership>);

impl GivenLogger {
    fn get(&self) -> Option<Arc<Py<PyAny>>> {
        match &*self.0.lock() {
            LoggerOwnership::Own(logger) => Some(Arc::clone(logger)),
            LoggerOwnership::Borrowed(logger) => logger.upgrade(),
        }
    }
}

/// What keeps a logger alive.
enum LoggerOwnership {
    /// The engine: while it starts, and after its `Runner` has gone.
    Own(Arc<Py<PyAny>>),
    /// The `Runner`.
    Borrowed(Weak<Py<PyAny>>),
}

/// A hook or callback raised: logged once, with the worker's name, and dropped.
pub(super) fn hook_failed(
    py: Python<'_>,
    logger: &Logger,
    worker: Option<&str>,
    what: &str,
    error: Py<PyAny>,
) {
    let text = match worker {
        Some(worker) => format!("{worker}: {what} failed"),
        None => format!("{what} failed"),
    };
    say(py, logger, Level::Error, &text, worker, Some(&error));
    guarded_call::release(py, error);
}

/// Writes one record. An error of the logging call itself is dropped: there is nothing left to tell
/// it to.
pub(super) fn say(
    py: Python<'_>,
    logger: &Logger,
    level: Level,
    text: &str,
    worker: Option<&str>,
    error: Option<&Py<PyAny>>,
) {
    let logger = match logger {
        Logger::Nowhere => return,
        Logger::Package => py.None(),
        Logger::Given(logger) => match logger.get() {
            Some(logger) => logger.clone_ref(py),
            None => return,
        },
    };
    let Ok(PyImports { write_record, .. }) = PyImports::get(py) else {
        return;
    };
    let Ok(level) = (level as i32).into_pyobject(py);
    let level = level.into_any().unbind();
    let string = |text: &str| PyString::new(py, text).into_any().unbind();
    let text = string(text);
    let worker = worker.map_or_else(|| py.None(), string);
    let error = error.map_or_else(|| py.None(), |error| error.clone_ref(py));
    let answer =
        guarded_call::call_with(py, write_record, &[&logger, &level, &text, &worker, &error]);
    forked_child::end_here(py, &answer);
    match answer {
        Ok(object) | Err(object) => guarded_call::release(py, object),
    }
    for object in [logger, level, text, worker, error] {
        guarded_call::release(py, object);
    }
}
