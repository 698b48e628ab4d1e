//! How futures are made: a task's, one that has its outcome already, and a batch's ticket.

use super::freelist;
use super::settle;
use super::{Arguments, Future, FutureExtras, Origin, Outcome, Payload, allocate};
use crate::binding::attached_cell::AttachedCell;
use crate::binding::context::snapshot::Snapshot;
use crate::binding::engine_handle::{EngineHandle, EngineHandleRef};
use crate::binding::gc;
use crate::binding::options::{Asked, TaskOptions};
use crate::engine::clock::Tick;
use crate::engine::task::key::KeyNumber;
use crate::engine::task::priority::Priority;
use crate::engine::task::{
    BATCH, KEYWORDS, OBSERVED, ONCE, OWN_CONTEXT, RENEWAL, RESERVED, RETRIES, SERIAL, TIMED,
    TaskWord,
};
use crate::sync::Arc;
use crate::sync::atomic::AtomicU32;
use pyo3::prelude::*;
use std::cell::UnsafeCell;

/// What a method that takes a task was called with.
pub(in crate::binding) struct TaskCall<'py> {
    pub(in crate::binding) function: Bound<'py, PyAny>,
    pub(in crate::binding) args: Arguments,
    /// Which kind these are, of the two that a call may have.
    pub(in crate::binding) has_keywords: bool,
    /// `None`: the runner's defaults.
    pub(in crate::binding) options: Option<Arc<TaskOptions>>,
    /// Who makes the call holds its line, if it has one, until the task is accepted, or is not.
    pub(in crate::binding) key: KeyNumber,
}

impl TaskCall<'_> {
    /// The same call with these options.
    pub(in crate::binding) fn with(self, options: &Arc<TaskOptions>) -> Self {
        Self { options: Some(Arc::clone(options)), ..self }
    }

    /// The task as it is asked for.
    pub(in crate::binding) fn asked(&self) -> Asked<'_> {
        Asked { function: Some(self.function.as_unbound()), options: self.options.as_deref() }
    }
}

impl EngineHandleRef<'_> {
    /// Makes the future of a task, which no other thread knows of yet. Without a `context` it runs
    /// in the worker's own. The collector does not watch it while it waits: the queue keeps it
    /// alive, so it cannot be garbage, and walking a million waiting futures was half of all the
    /// time. `flags`: what the word is to say besides.
    pub(in crate::binding) fn draft(
        &self,
        call: TaskCall<'_>,
        context: Option<Snapshot>,
        due: Option<Tick>,
        mut flags: u32,
    ) -> PyResult<Py<Future>> {
        let py = call.function.py();
        flags |= if call.options.as_ref().is_some_and(|options| options.once) { ONCE } else { 0 };
        let retries = TaskOptions::retries(call.options.as_deref(), self.retries());
        flags |= if retries { RETRIES } else { 0 };
        // Its end is told to the group.
        flags |= if self.group.is_some() { OBSERVED } else { 0 };
        flags |= if due.is_some() { TIMED } else { 0 };
        flags |= if context.is_some() { OWN_CONTEXT } else { 0 };
        flags |= if call.has_keywords { KEYWORDS } else { 0 };
        flags |= if call.key.line().is_some() { SERIAL } else { 0 };
        let extras = |due| Box::new(FutureExtras { due: Some(due), ..FutureExtras::default() });
        let word = TaskWord::new(call.asked().priority(), flags);
        let payload = Payload {
            function: Some(call.function.unbind()),
            args: call.args,
            context: context.unwrap_or_default(),
        };
        let goes_to_worker = cfg!(Py_GIL_DISABLED) && flags & RESERVED == 0;
        let payload = if goes_to_worker { payload.hand_over(py) } else { payload };
        let future = Future {
            word,
            key: call.key,
            extras: AttachedCell::new(due.map(extras)),
            payload: UnsafeCell::new(payload),
            attempts: AtomicU32::new(0),
            outcome: UnsafeCell::default(),
            origin: Some(Origin { handle: self.0.clone_ref(py), options: call.options }),
        };
        if let Some(spare) = freelist::take(py) {
            Future::fill(py, &spare, future);
            return Ok(spare);
        }
        let object = allocate(py, future)?;
        gc::untrack(object.as_any());
        Ok(object)
    }
}

impl Future {
    /// Makes a future of no runner that has its outcome.
    pub(in crate::binding) fn settled_with(py: Python<'_>, outcome: Outcome) -> PyResult<Py<Self>> {
        let future = allocate(py, Self::bare())?;
        settle::settle_by_hand(future.bind(py), outcome)?;
        Ok(future)
    }

    /// Makes what a renewal of all resources gives their number to.
    pub(in crate::binding) fn renewal(
        py: Python<'_>,
        handle: Py<EngineHandle>,
    ) -> PyResult<Py<Self>> {
        let word = TaskWord::new(Priority::Normal, RENEWAL);
        let origin = Some(Origin { handle, options: None });
        allocate(py, Self { word, origin, ..Self::bare() })
    }

    /// Makes the ticket of a batch: what stands in a lane for it. The batch is its payload as long
    /// as it lives.
    pub(in crate::binding) fn ticket(
        py: Python<'_>,
        handle: Py<EngineHandle>,
        priority: Priority,
        options: Option<Arc<TaskOptions>>,
        batch: Py<PyAny>,
        key: KeyNumber,
    ) -> PyResult<Py<Self>> {
        let future = Self {
            word: TaskWord::new(priority, BATCH),
            key,
            payload: UnsafeCell::new(Payload { function: Some(batch), ..Payload::default() }),
            origin: Some(Origin { handle, options }),
            ..Self::bare()
        };
        allocate(py, future)
    }
}
