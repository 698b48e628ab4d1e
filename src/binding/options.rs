//! What a task may be given beside its function.

use super::callable::name_of;
use super::printable::{MAX_NAME_CHARS, printable};
use super::py_imports::PyImports;
use crate::engine::metrics::by_name::NameRow;
use crate::engine::task::priority::Priority;
use crate::sync::{Arc, OnceLock};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// See the module's documentation. Checked by the Python package.
#[derive(Debug, Default)]
pub(super) struct TaskOptions {
    pub(super) priority: Priority,
    pub(super) once: bool,
    /// Seconds from submit to outcome; `None`: the runner's default.
    pub(super) timeout: Option<f64>,
    pub(super) name: Option<String>,
    pub(super) retry: RetryOption,
    /// What is asked for the key of each task.
    pub(super) key: Option<Py<PyAny>>,
    /// Tasks of a key run one after the other.
    pub(super) serial: bool,
    /// Where tasks of that name count in the figures, once one has run.
    pub(super) row: OnceLock<NameRow>,
}

/// When a task is tried again after an error of its own.
#[derive(Debug, Default)]
pub(super) enum RetryOption {
    /// As the config says.
    #[default]
    Configured,
    /// Not at all.
    Never,
    /// As this `Retry` says.
    By(Py<PyAny>),
}

impl TaskOptions {
    /// Options that only say how urgent, and whether once.
    pub(super) fn plain(priority: Priority, once: bool) -> Arc<Self> {
        Arc::new(Self { priority, once, ..Self::default() })
    }

    /// Options that the Python package has checked.
    pub(super) fn checked(
        priority: u8,
        once: bool,
        timeout: Option<f64>,
        name: Option<String>,
        retry: &Bound<'_, PyAny>,
        (key, serial): (Option<Py<PyAny>>, bool),
    ) -> PyResult<Arc<Self>> {
        let priority = Priority::from_number(priority)
            .ok_or_else(|| PyValueError::new_err(format!("there is no priority {priority}")))?;
        let retry = match &PyImports::get(retry.py())?.unset {
            unset if retry.is(unset) => RetryOption::Configured,
            _ if retry.is_none() => RetryOption::Never,
            _ => RetryOption::By(retry.clone().unbind()),
        };
        let row = OnceLock::new();
        Ok(Arc::new(Self { priority, once, timeout, name, retry, key, serial, row }))
    }

    /// The priority of a task with these options, or with the runner's defaults.
    pub(super) fn priority_of(options: Option<&Self>) -> Priority {
        options.map_or(Priority::Normal, |options| options.priority)
    }

    /// Whether a task with these options may be tried again after an error of its own, if one
    /// without options is or not `by_default`.
    pub(super) fn retries(options: Option<&Self>, by_default: bool) -> bool {
        match options {
            None => by_default,
            Some(options) => match options.retry {
                RetryOption::Configured => by_default && !options.once,
                RetryOption::Never => false,
                RetryOption::By(_) => true,
            },
        }
    }

    /// Its `retry` as the package knows it.
    pub(super) fn retry_given(&self, py: Python<'_>, unset: &Py<PyAny>) -> Py<PyAny> {
        match &self.retry {
            RetryOption::Configured => unset.clone_ref(py),
            RetryOption::Never => py.None(),
            RetryOption::By(retry) => retry.clone_ref(py),
        }
    }

    /// What was chosen, for people.
    pub(super) fn shown(&self, py: Python<'_>) -> String {
        let priority = match self.priority {
            Priority::Low => Some("priority=LOW".to_owned()),
            Priority::Normal => None,
            Priority::High => Some("priority=HIGH".to_owned()),
        };
        let once = self.once.then(|| "once=True".to_owned());
        let timeout = self.timeout.map(|seconds| format!("timeout={seconds}"));
        let name =
            self.name.as_ref().map(|name| format!("name='{}'", printable(name, MAX_NAME_CHARS)));
        let retry = match &self.retry {
            RetryOption::Configured => None,
            RetryOption::Never => Some("retry=None".to_owned()),
            RetryOption::By(_) => Some("retry=Retry(...)".to_owned()),
        };
        let key = self.key.as_ref().map(|key| format!("key={}", name_of(py, Some(key))));
        let serial = self.serial.then(|| "serial=True".to_owned());
        let chosen = [priority, once, timeout, name, retry, key, serial];
        chosen.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// A task as it is asked for, before it is made.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// `None`: it is not known.
    pub(super) function: Option<&'a Py<PyAny>>,
    /// `None`: the runner's defaults.
    pub(super) options: Option<&'a TaskOptions>,
}

impl Asked<'_> {
    pub(super) fn priority(self) -> Priority {
        TaskOptions::priority_of(self.options)
    }

    pub(super) fn has_key(self) -> bool {
        self.options.is_some_and(|options| options.key.is_some())
    }

    /// Whether it runs after all tasks of its key that were submitted before.
    pub(super) fn is_serial(self) -> bool {
        self.options.is_some_and(|options| options.serial)
    }

    /// The priority by which it waits for room in a full queue. Tasks that run one after the other do
    /// so in the order of their arrival: a more urgent one must not come into its line first.
    pub(super) fn room_priority(self) -> Priority {
        if self.is_serial() { Priority::Normal } else { self.priority() }
    }

    /// The name of the task, for people.
    pub(super) fn name(self, py: Python<'_>) -> String {
        match self.options.and_then(|options| options.name.as_deref()) {
            Some(name) => printable(name, MAX_NAME_CHARS).into_owned(),
            None => name_of(py, self.function),
        }
    }
}
