//! The key of a task that is being submitted: its number, and a hold on its line.

use super::engine_handle::EngineHandle;
use super::host::guarded_call;
use super::host::state::PyHost;
use super::keys;
use super::options::Asked;
use crate::engine::Engine;
use crate::engine::task::key::{KeyNumber, LineNumber};
use crate::sync::Arc;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// See the module's documentation.
pub(super) struct TaskKey {
    pub(super) number: KeyNumber,
    /// If tasks of the key run one after the other. Kept until the task is accepted, or is not.
    pub(super) hold: Option<LineHold>,
}

impl TaskKey {
    /// The task has no key.
    pub(super) const NONE: Self = Self { number: KeyNumber::NONE, hold: None };
}

/// Keeps the line of a key, and with it the key, until the task is in it.
pub(super) struct LineHold {
    engine: Arc<Engine<PyHost>>,
    line: LineNumber,
}

impl Drop for LineHold {
    #[inline]
    fn drop(&mut self) {
        self.let_go();
    }
}

impl LineHold {
    #[cold]
    fn let_go(&self) {
        // A thread that is gone may have held the lock.
        if self.engine.is_left_by_fork() {
            return;
        }
        if let Some(ended) = self.engine.serial_lines().let_go(self.line) {
            Python::attach(|py| self.engine.host.serial_keys.forget(py, ended));
        }
    }
}

impl EngineHandle {
    /// The key of a task with this item for its argument, or the items of it if it is to be `spread`.
    #[inline]
    pub(super) fn key_of_item(
        &self,
        asked: Asked<'_>,
        item: &Bound<'_, PyAny>,
        spread: bool,
    ) -> PyResult<TaskKey> {
        let py = item.py();
        if !asked.has_key() {
            return Ok(TaskKey::NONE);
        }
        let args = if spread { item.cast::<PyTuple>()?.clone() } else { PyTuple::new(py, [item])? };
        let args = args.unbind();
        let key = self.key(py, asked, Some(&args), None);
        guarded_call::release(py, args);
        key
    }

    /// The key of a task with these arguments, whose options ask for one.
    pub(super) fn key(
        &self,
        py: Python<'_>,
        asked: Asked<'_>,
        args: Option<&Py<PyTuple>>,
        kwargs: Option<&Py<PyDict>>,
    ) -> PyResult<TaskKey> {
        let Some((key, hash)) = keys::ask(py, asked, args, kwargs)? else {
            return Ok(TaskKey::NONE);
        };
        let number = KeyNumber::of_hash(hash);
        let made = if asked.is_serial() {
            let check =
                || if self.engine.is_left_by_fork() { Err(self.closed_error()) } else { Ok(()) };
            let (lines, engine) = (self.engine.serial_lines(), &self.engine);
            check()
                .and_then(|()| engine.host.serial_keys.line(key.bind(py), hash, lines, check))
                .map(|line| {
                    let hold = Some(LineHold { engine: Arc::clone(engine), line });
                    TaskKey { number: number.in_line(line), hold }
                })
        } else {
            Ok(TaskKey { number, hold: None })
        };
        guarded_call::release(py, key);
        made
    }
}
