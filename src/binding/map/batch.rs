//! Items of a `map` that were queued together: no future each, their outcomes in slots.
//!
//! A [`Batch`] is what its ticket, an ordinary future in the lanes, has in place of a function. An
//! item whose error has to be judged becomes a task with a future of its own, as does every item
//! that has a time limit; an [`ItemRef`] in that future leads its outcome back into the slot.

use super::shared::MapShared;
use super::slot::ItemSlot;
use crate::binding::callable;
use crate::binding::context::clock;
use crate::binding::context::snapshot::Snapshot;
use crate::binding::engine_handle::{EngineHandle, EngineHandleRef};
use crate::binding::future::draft::TaskCall;
use crate::binding::future::settle;
use crate::binding::future::{Arguments, Callback, Future, Observer, Outcome};
use crate::binding::host::events;
use crate::binding::host::guarded_call;
use crate::binding::host::task_record::{AttemptFacts, TaskFacts, TaskRecord};
use crate::binding::options::Asked;
use crate::engine::metrics::events::EventKind;
use crate::engine::task::JOINT;
use crate::engine::task::item_cursor::ItemCursor;
use crate::engine::task::key::KeyNumber;
use crate::sync::{Arc, Mutex};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};
use std::ops::Range;

/// What the items of a batch have in common.
pub(super) struct ItemCall {
    pub(super) function: Py<PyAny>,
    /// The context that each runs in a copy of.
    pub(super) context: Option<Py<PyAny>>,
    /// The number of their key.
    pub(super) key: KeyNumber,
}

impl ItemCall {
    fn share(&self, py: Python<'_>) -> Self {
        let context = self.context.as_ref().map(|context| context.clone_ref(py));
        Self { function: self.function.clone_ref(py), context, key: self.key }
    }

    pub(super) fn release(self, py: Python<'_>) {
        guarded_call::release(py, self.function);
        guarded_call::release_some(py, self.context);
    }
}

/// See the module's documentation.
#[pyclass(frozen, module = "tasker._tasker")]
pub(in crate::binding) struct Batch {
    pub(in crate::binding) cursor: ItemCursor,
    pub(super) slots: Box<[ItemSlot]>,
    /// The number of its first item among all of the call.
    pub(super) first: u64,
    pub(super) shared: Arc<MapShared>,
    pub(super) handle: Py<EngineHandle>,
    /// What the user's `on_event` is told of its first item; the others are numbered on.
    pub(super) record: Option<TaskRecord>,
    /// `None` once the items that were not started are cancelled.
    call: Mutex<Option<ItemCall>>,
    /// The items that became tasks and have no outcome yet, by their indices.
    tasks: Mutex<Vec<(usize, Py<Future>)>>,
}

impl Batch {
    pub(super) fn make(
        py: Python<'_>,
        handle: &Py<EngineHandle>,
        shared: &Arc<MapShared>,
        first: u64,
        call: ItemCall,
        items: Vec<Py<PyAny>>,
    ) -> PyResult<Py<Self>> {
        let slots: Box<[ItemSlot]> = items.into_iter().map(ItemSlot::new).collect();
        let since = handle.get().engine.clock.now();
        let cursor = ItemCursor::new(slots.len(), since, Arc::clone(&shared.cost));
        let cursor = cursor.in_groups(shared.group.unwrap_or(1));
        let options = shared.options.as_deref();
        let asked = Asked { function: Some(&call.function), options };
        let record = if handle.get().engine.host.given.tells {
            let copy = |context| Snapshot::of(py, context)?.open(py, false);
            let context = call.context.as_ref().map(copy).transpose()?;
            Some(handle.get().record(py, asked, slots.len(), context))
        } else {
            None
        };
        let batch = Self {
            cursor,
            slots,
            first,
            shared: Arc::clone(shared),
            handle: handle.clone_ref(py),
            record,
            call: Mutex::new(Some(call)),
            tasks: Mutex::new(Vec::new()),
        };
        Py::new(py, batch)
    }

    /// The batch that a future is the ticket of.
    pub(in crate::binding) fn of(future: &Future) -> Option<&Py<Self>> {
        // SAFETY: tickets are made for batches alone, and a reference to one is laid out like a
        // reference to any object.
        future.batch().map(|batch| unsafe { &*std::ptr::from_ref(batch).cast() })
    }

    /// The slot of an item, by its number.
    pub(super) fn slot(&self, number: u64) -> Option<&ItemSlot> {
        self.slots.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// The number of the item after the last.
    pub(super) fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// What is told of the arrival of each item.
    pub(in crate::binding) fn arrivals(&self) -> impl Iterator<Item = TaskFacts> {
        let items = |record| {
            (0..self.slots.len())
                .map(move |index| TaskRecord::item(record, index, AttemptFacts::default()))
        };
        self.record.as_ref().into_iter().flat_map(items)
    }

    /// How many of its items have an outcome that was not taken out.
    pub(super) fn done(&self) -> u64 {
        self.slots.iter().filter(|slot| slot.is_done()).count() as u64
    }

    /// What its items have in common, while any of them may start.
    pub(super) fn call(&self, py: Python<'_>) -> Option<ItemCall> {
        self.call.lock().as_ref().map(|call| call.share(py))
    }

    /// The futures of the tasks that items became and that have no outcome yet, in order.
    pub(super) fn tasks(&self, py: Python<'_>) -> Vec<Py<Future>> {
        self.tasks.lock().iter().map(|(_, future)| future.clone_ref(py)).collect()
    }

    /// Makes a task of an item, whose outcome comes back into the slot. No other thread knows of
    /// it.
    pub(super) fn make_task(
        slf: &Bound<'_, Self>,
        index: usize,
        call: &ItemCall,
        attempt: AttemptFacts,
    ) -> PyResult<Py<Future>> {
        let (py, batch) = (slf.py(), slf.get());
        let is_joint = batch.shared.group.is_some();
        // A joint call runs in none of its tasks' contexts.
        let context = call.context.as_ref().filter(|_| !is_joint);
        let context = context.map(|context| Snapshot::of(py, context)).transpose()?;
        let item = batch.slots[index].share(py).unwrap_or_else(|| py.None());
        let call = TaskCall {
            function: call.function.bind(py).clone(),
            args: if is_joint {
                Arguments::of_item(item)
            } else {
                Arguments::of_tuple(Some(batch.arguments(py, item)?))
            },
            has_keywords: false,
            options: batch.shared.options.clone(),
            key: call.key,
        };
        let handle = EngineHandleRef(&batch.handle);
        let future = handle.draft(call, context, None, if is_joint { JOINT } else { 0 })?;
        if let Some(record) = &batch.record {
            future.get().set_record(py, record.of_item(py, index, attempt));
        }
        let item_ref = Box::new(ItemRef { batch: slf.clone().unbind(), index });
        settle::add_callback(py, future.get(), item_ref, |item_ref| Callback::Native(item_ref));
        batch.tasks.lock().push((index, future.clone_ref(py)));
        batch.slots[index].become_task(py);
        Ok(future)
    }

    /// Tells of the outcome of an item, where anything is told.
    pub(super) fn tell(
        &self,
        py: Python<'_>,
        index: usize,
        attempt: AttemptFacts,
        event: EventKind,
        error: Option<Py<PyAny>>,
    ) {
        if let Some(record) = &self.record {
            let engine = &self.handle.get().engine;
            let (facts, ended) = (record.item(index, attempt), clock::monotonic_now(py));
            events::tell(py, engine, event, facts, record.context.as_ref(), Some(ended), error);
        }
    }

    /// Lets go of tasks that were not accepted: each holds the batch.
    pub(super) fn forget_tasks(&self, py: Python<'_>) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for (_, task) in tasks {
            guarded_call::release(py, task);
        }
    }

    /// The arguments of an item as a task has them.
    pub(super) fn arguments(&self, py: Python<'_>, item: Py<PyAny>) -> PyResult<Py<PyTuple>> {
        if self.shared.spread {
            return Ok(item.into_bound(py).cast_into::<PyTuple>()?.unbind());
        }
        Ok(PyTuple::new(py, [item])?.unbind())
    }

    /// Tells running items, of all batches of the call, to give up.
    pub(in crate::binding) fn request_cancel(&self, reason: &str) {
        self.shared.token.cancel(Some(reason.into()));
    }

    /// Lets go of items that the engine claimed for the caller, which cancels what has not started.
    pub(super) fn drop_items(&self, py: Python<'_>, items: Range<usize>) {
        for index in items {
            self.slots[index].clear(py);
        }
        let call = self.call.lock().take();
        if let Some(call) = call {
            call.release(py);
        }
    }

    /// Puts the outcome of an item into its slot.
    #[inline]
    pub(super) fn put(&self, py: Python<'_>, index: usize, outcome: Outcome) {
        self.slots[index].settle(py, outcome);
        self.shared.note_finished(self.first + index as u64);
    }

    /// Wakes the reader, if it waits for what is done now.
    pub(super) fn wake_reader(&self) {
        let is_done = |number| self.slot(number).is_some_and(ItemSlot::is_done);
        self.shared.wake_reader(self.cursor.left() > 0, is_done);
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // SAFETY: a batch dies with its object, or right where it could not be made: attached, even
        // when the interpreter is so far gone that no thread can attach any more.
        let py = unsafe { Python::assume_attached() };
        self.drop_items(py, 0..self.slots.len());
    }
}

#[pymethods]
impl Batch {
    /// Its items are called what their function is called.
    #[getter]
    fn __qualname__(&self, py: Python<'_>) -> String {
        let call = self.call(py);
        let name = callable::name_of(py, call.as_ref().map(|call| &call.function));
        if let Some(call) = call {
            call.release(py);
        }
        name
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.slots.iter().try_for_each(|slot| slot.traverse(&visit))?;
        // Both are held for a few instructions by attached threads alone, and free here.
        if let Some(record) = &self.record {
            record.traverse(&visit)?;
        }
        if let Some(tasks) = self.tasks.try_lock() {
            tasks.iter().try_for_each(|(_, future)| visit.call(future))?;
        }
        if let Some(call) = self.call.try_lock()
            && let Some(ItemCall { function, context, .. }) = &*call
        {
            visit.call(function)?;
            visit.call(context)?;
        }
        Ok(())
    }
}

/// Where the outcome of a task belongs that is an item of a `map`.
struct ItemRef {
    batch: Py<Batch>,
    index: usize,
}

impl Observer for ItemRef {
    fn task_done(self: Box<Self>, py: Python<'_>, future: &Py<Future>) {
        let batch = self.batch.get();
        let task = {
            let mut tasks = batch.tasks.lock();
            let place = tasks.iter().position(|(index, _)| *index == self.index);
            place.map(|place| tasks.remove(place).1)
        };
        guarded_call::release_some(py, task);
        let outcome = match future.get().settled() {
            Some(Outcome::Value(value)) => Outcome::Value(value.clone_ref(py)),
            Some(Outcome::Error(error)) => Outcome::Error(error.clone_ref(py)),
            // Cancelled by the reader, which wants no outcome.
            Some(Outcome::None) | None => Outcome::None,
        };
        if !matches!(outcome, Outcome::None) {
            batch.put(py, self.index, outcome);
        }
        batch.wake_reader();
        guarded_call::release(py, self.batch);
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.batch)
    }
}
