//! What the user's `on_event` is told of a task: facts, without what has happened.

use crate::binding::context::clock;
use crate::engine::task::priority::Priority;
use crate::sync::Arc;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// What events tell of a task, or of the items of a batch.
pub(in crate::binding) struct TaskRecord {
    pub(in crate::binding) facts: TaskFacts,
    /// The submitter's variables, which the hook is called in a copy of; no thread ever enters
    /// this one, so any thread may copy it. `None`: the hook is called in its thread's own.
    pub(in crate::binding) context: Option<Py<PyAny>>,
    /// The task waits for room by itself. A thread that lets it in may hold the claim of another
    /// task, so the arrival is told by the one that has something else to tell.
    pub(in crate::binding) arrives_late: bool,
}

/// What an event says that does not depend on what has happened.
#[derive(Clone)]
pub(in crate::binding) struct TaskFacts {
    /// 0: it was not accepted.
    pub(in crate::binding) id: u64,
    pub(super) name: Arc<str>,
    pub(super) priority: Priority,
    /// When it was accepted, or refused.
    pub(in crate::binding) submitted: f64,
    pub(in crate::binding) attempt: AttemptFacts,
    /// The call of the hook that submitted it; 0: another caller.
    pub(super) by_call: u64,
}

/// The attempt that was begun last; of a task that never started, what it looks like.
#[derive(Clone, Default)]
pub(in crate::binding) struct AttemptFacts {
    pub(super) number: u32,
    pub(super) worker: Option<Arc<str>>,
    pub(super) started: Option<f64>,
}

impl AttemptFacts {
    /// An attempt that begins now.
    #[cold]
    pub(in crate::binding) fn begin(py: Python<'_>, number: u32, worker: &str) -> Self {
        Self { number, worker: Some(worker.into()), started: Some(clock::monotonic_now(py)) }
    }
}

impl TaskRecord {
    /// That of an item of the batch that this one is of.
    pub(in crate::binding) fn of_item(
        &self,
        py: Python<'_>,
        index: usize,
        attempt: AttemptFacts,
    ) -> Self {
        let context = self.context.as_ref().map(|context| context.clone_ref(py));
        Self { facts: self.item(index, attempt), context, arrives_late: false }
    }

    /// What is told of an item of the batch that this is of.
    pub(in crate::binding) fn item(&self, index: usize, attempt: AttemptFacts) -> TaskFacts {
        TaskFacts { id: self.facts.id + index as u64, attempt, ..self.facts.clone() }
    }

    /// For the collector.
    pub(in crate::binding) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.context)
    }
}
