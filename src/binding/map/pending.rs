//! The batches of a `map` that are under way. Apart from the reader, which is taken out of the
//! results while a thread waits for one: another thread that closes the results cancels the batches
//! all the same.

use super::batch::Batch;
use super::shared::MapShared;
use crate::binding::attached_cell::AttachedCell;
use crate::binding::current;
use crate::binding::engine_handle::EngineHandle;
use crate::binding::future::waiting::run_instead;
use crate::binding::future::{Future, Outcome, settle};
use crate::binding::host::guarded_call;
use crate::binding::host::task_record::AttemptFacts;
use crate::binding::options::Asked;
use crate::engine::clock::Tick;
use crate::engine::metrics::events::EventKind;
use crate::engine::queue::serial_lines::Place;
use crate::sync::Arc;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use std::collections::BTreeMap;

/// What an item is taken to last that a reader found a worker stuck in.
const STUCK_ITEM_COST: Tick = 1_000_000;

/// See the module's documentation.
pub(super) struct PendingBatches {
    pub(super) handle: Py<EngineHandle>,
    pub(super) shared: Arc<MapShared>,
    /// By the numbers of their first items.
    list: AttachedCell<BTreeMap<u64, PendingBatch>>,
}

struct PendingBatch {
    batch: Py<Batch>,
    /// `None` where each item is a task of its own.
    ticket: Option<Py<Future>>,
    /// How many outcomes were handed out, where they are handed out as they come.
    handed: usize,
}

impl PendingBatches {
    pub(super) fn new(handle: Py<EngineHandle>, shared: Arc<MapShared>) -> Self {
        Self { handle, shared, list: AttachedCell::new(BTreeMap::new()) }
    }

    /// An item of this function as a task.
    pub(super) fn asked<'a>(&'a self, function: &'a Py<PyAny>) -> Asked<'a> {
        Asked { function: Some(function), options: self.shared.options.as_deref() }
    }

    /// Adds a batch that is queued now, and cancels it if the results were closed meanwhile.
    pub(super) fn add(&self, py: Python<'_>, batch: Py<Batch>, ticket: Option<Py<Future>>) {
        let pending = PendingBatch { batch, ticket, handed: 0 };
        self.list.with(py, |list| list.insert(pending.batch.get().first, pending));
        if self.shared.is_closed() {
            self.cancel(py);
        }
    }

    /// The batch that is first in the order of the input.
    pub(super) fn first(&self, py: Python<'_>) -> Option<Py<Batch>> {
        self.list.with(py, |list| Some(list.first_key_value()?.1.batch.clone_ref(py)))
    }

    /// Lets go of a batch of which all was handed out.
    pub(super) fn remove(&self, py: Python<'_>, batch: Py<Batch>) {
        let done = self.list.with(py, |list| list.remove(&batch.get().first));
        if let Some(done) = done {
            done.release(py);
        }
        guarded_call::release(py, batch);
    }

    /// Takes an outcome out that is handed out as it came.
    pub(super) fn take(&self, py: Python<'_>, number: u64) -> Option<Outcome> {
        let (outcome, done) = self.list.with(py, |list| {
            let pending = list.range_mut(..=number).next_back()?.1;
            let batch = pending.batch.get();
            let outcome = batch.slot(number)?.take(py);
            pending.handed += 1;
            let done = pending.handed == batch.slots.len();
            let first = batch.first;
            Some((outcome, done.then(|| list.remove(&first)).flatten()))
        })?;
        if let Some(done) = done {
            done.release(py);
        }
        outcome
    }

    /// How many items have an outcome that was not handed out.
    pub(super) fn done(&self, py: Python<'_>) -> u64 {
        self.list.with(py, |list| list.values().map(|pending| pending.batch.get().done()).sum())
    }

    /// How many items no worker has started.
    pub(super) fn left(&self, py: Python<'_>) -> usize {
        let left = |pending: &PendingBatch| pending.batch.get().cursor.left();
        self.list.with(py, |list| {
            list.values().filter(|pending| pending.ticket.is_some()).map(left).sum()
        })
    }

    /// Nothing was started for a while: the worker that runs the items is stuck in one of them, and
    /// other workers are invited.
    pub(super) fn invite_others(&self, py: Python<'_>) {
        self.any(py, |batch, ticket| {
            if let Some(ticket) = ticket
                && batch.cursor.left() > 0
            {
                self.shared.cost.raise(STUCK_ITEM_COST);
                self.handle.get().engine.invite(py, ticket);
            }
            false
        });
    }

    /// Runs an item that no worker has started, on a worker that would wait for it.
    pub(super) fn run_one(&self, py: Python<'_>) -> bool {
        let engine = &self.handle.get().engine;
        self.any(py, |batch, ticket| {
            let serve = |ticket| {
                current::session_of(py, engine, |session| session.serve_item_inside(py, ticket))
            };
            ticket.and_then(serve) == Some(true)
                || batch.tasks(py).iter().any(|task| run_instead(task.bind(py)))
        })
    }

    /// Whether of the items, each of which is a task, none can start now and none has started.
    pub(super) fn are_all_behind(&self, py: Python<'_>) -> bool {
        let engine = &self.handle.get().engine;
        let goes_on = |task: &Py<Future>| engine.place_in_line(task) != Place::Behind;
        !self.any(py, |batch, _| batch.tasks(py).iter().any(goes_on))
    }

    /// Tells the items that run that the caller waits for their results no more.
    pub(super) fn request_cancel(&self, py: Python<'_>) {
        let reason = "the call that waited for it was interrupted";
        self.shared.token.cancel(Some(reason.into()));
        self.any(py, |batch, _| {
            for task in batch.tasks(py) {
                Future::request_cancel(task.bind(py), Some(reason.into()));
            }
            false
        });
    }

    /// Cancels what has not started, ends what waits for a retry, and lets go of everything.
    pub(super) fn cancel(&self, py: Python<'_>) {
        let engine = &self.handle.get().engine;
        let list = self.list.with(py, std::mem::take);
        for pending in list.into_values() {
            if !engine.is_left_by_fork() {
                let batch = pending.batch.get();
                if let Some(ticket) = &pending.ticket {
                    let items = engine.cancel_items(py, ticket);
                    batch.drop_items(py, items.clone());
                    for index in items {
                        batch.tell(py, index, AttemptFacts::default(), EventKind::Cancelled, None);
                    }
                }
                for task in batch.tasks(py) {
                    settle::abandon(task.bind(py));
                }
            }
            pending.release(py);
        }
    }

    /// Whether `look`, which may call into the interpreter, is true for a batch and its ticket.
    fn any(
        &self,
        py: Python<'_>,
        mut look: impl FnMut(&Batch, Option<&Py<Future>>) -> bool,
    ) -> bool {
        let all: Vec<_> =
            self.list.with(py, |list| list.values().map(|pending| pending.share(py)).collect());
        let mut found = false;
        for pending in all {
            found = found || look(pending.batch.get(), pending.ticket.as_ref());
            pending.release(py);
        }
        found
    }

    /// For the collector.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.list.with_world_stopped(|list| {
            list.values().try_for_each(|pending| {
                visit.call(&pending.batch)?;
                visit.call(&pending.ticket)
            })
        })
    }
}

impl PendingBatch {
    fn share(&self, py: Python<'_>) -> Self {
        let ticket = self.ticket.as_ref().map(|ticket| ticket.clone_ref(py));
        Self { batch: self.batch.clone_ref(py), ticket, handed: self.handed }
    }

    fn release(self, py: Python<'_>) {
        guarded_call::release_some(py, self.ticket);
        guarded_call::release(py, self.batch);
    }
}
