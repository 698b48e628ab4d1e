//! The reader of a `map`: reads the input, queues it in batches, and waits for outcomes.
//!
//! The input is read only here, in the thread that asks for the next result, and no further ahead
//! than the [`LookAhead`] allows. Handing out a value that is there takes one look at one slot,
//! [`Reader::ready`]. Everything else (reading on, waiting, errors, the end) is [`Reader::next`].

use super::batch::{Batch, ItemCall};
use super::item_error;
use super::look_ahead::LookAhead;
use super::pending::PendingBatches;
use super::slot::ItemSlot;
use crate::binding::context::snapshot::Snapshot;
use crate::binding::context::variables;
use crate::binding::current;
use crate::binding::engine_handle::EngineHandle;
use crate::binding::error;
use crate::binding::future::{Future, Outcome};
use crate::binding::host::guarded_call;
use crate::binding::host::task_record::AttemptFacts;
use crate::binding::task_key::TaskKey;
use crate::binding::wait::{self, Limit};
use crate::engine::task::TIMED;
use crate::engine::task::key::KeyNumber;
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyRange, PyTuple};
use pyo3::{PyTraverseError, PyVisit};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often the look-ahead may double before a reader that has to wait does so.
const MAX_DOUBLINGS: u32 = 3;
/// The reading of a slow input stops after this, so that what is there is queued.
const SLOW_INPUT: Duration = Duration::from_micros(100);
/// How long a reader waits before it looks whether a worker is stuck: at first, then, then always,
/// in seconds.
const STUCK_POLL_SECONDS: [f64; 3] = [0.001, 0.005, 0.05];

/// See the module's documentation.
pub(super) struct Reader {
    /// The batch whose values are handed out, in order.
    front: Option<Py<Batch>>,
    /// Outcomes handed out. In order, that is the number of the next one.
    pub(super) handed: u64,
    /// So many may be handed out before the reading has to go on.
    until: u64,
    /// The number of the next item to be queued.
    next: u64,
    look_ahead: LookAhead,
    /// Where the items come from; empty at the end of the input.
    inputs: Vec<Py<PyAny>>,
    /// Reading them runs no code of the user's.
    inert: bool,
    unqueued: VecDeque<UnqueuedItems>,
    /// What the input raised, or why an item was refused: raised after everything before.
    failure: Option<Py<PyAny>>,
    function: Py<PyAny>,
    /// Seconds that an item may take.
    limit: Option<f64>,
    /// Items of a key run one after the other.
    is_serial: bool,
    /// Gives the function for an item: that of its key among those of a batcher.
    by_key: Option<FunctionOf>,
    /// The error of an item is handed out in place of a result, and does not end the iteration.
    return_exceptions: bool,
}

/// What gives the function for an item.
pub(in crate::binding) struct FunctionOf {
    pub(in crate::binding) owner: Py<PyAny>,
    /// Called with the owner and the item.
    pub(in crate::binding) find: fn(&Bound<'_, PyAny>, &Bound<'_, PyAny>) -> PyResult<Py<PyAny>>,
}

/// Items that were read one after the other in one context, and are not queued yet.
struct UnqueuedItems {
    items: Vec<Py<PyAny>>,
    context: Option<Snapshot>,
    /// Their key. With a key each item is queued alone.
    key: TaskKey,
}

impl Reader {
    /// A reader that has read the first items of the input.
    pub(super) fn begin(
        pending: &PendingBatches,
        function: &Bound<'_, PyAny>,
        inputs: Vec<Py<PyAny>>,
        look_ahead: LookAhead,
        limit: Option<f64>,
        by_key: Option<FunctionOf>,
        return_exceptions: bool,
    ) -> PyResult<Box<Self>> {
        let py = function.py();
        let mut reader = Box::new(Self {
            front: None,
            handed: 0,
            until: 0,
            next: 0,
            look_ahead,
            inert: inputs.iter().all(|input| is_inert(py, input)),
            inputs,
            unqueued: VecDeque::new(),
            failure: None,
            function: function.clone().unbind(),
            limit,
            is_serial: pending.asked(function.as_unbound()).is_serial(),
            by_key,
            return_exceptions,
        });
        let mut begun = reader.read_on(py, pending);
        // Nothing comes before it.
        if begun.is_ok()
            && reader.ahead() == 0
            && let Some(error) = reader.failure.take()
        {
            begun = Err(error::raise(py, error));
        }
        match begun {
            Ok(()) => Ok(reader),
            Err(error) => {
                reader.close(py, pending);
                Err(error)
            }
        }
    }

    /// The next value, if it is there and nothing else is due.
    pub(super) fn ready(&mut self, py: Python<'_>) -> Option<Py<PyAny>> {
        if self.handed >= self.until {
            return None;
        }
        let value = self.front.as_ref()?.get().slot(self.handed)?.take_value(py)?;
        self.handed += 1;
        Some(value)
    }

    /// The next result; `None` at the end. An error ends it too.
    pub(super) fn next(
        &mut self,
        py: Python<'_>,
        pending: &PendingBatches,
    ) -> PyResult<Option<Py<PyAny>>> {
        let mut doublings = 0..MAX_DOUBLINGS;
        loop {
            self.read_on(py, pending)?;
            if let Some((number, outcome)) = self.take(py, pending) {
                return match outcome {
                    Outcome::Value(value) => Ok(Some(value)),
                    Outcome::Error(error) => self.failed(py, number, error).map(Some),
                    Outcome::None => Ok(Some(py.None())),
                };
            }
            if self.ahead() == 0 {
                return match self.failure.take() {
                    Some(error) => Err(error::raise(py, error)),
                    None => Ok(None),
                };
            }
            if doublings.next().is_some() && self.grow(pending) {
                continue;
            }
            self.wait(py, pending).inspect_err(|_| pending.request_cancel(py))?;
            if pending.shared.is_closed() {
                return Ok(None);
            }
        }
    }

    // ---- reading the input
    // ------------------------------------------------------------------------

    /// Items read and not handed out.
    pub(super) fn ahead(&self) -> u64 {
        let unqueued: usize = self.unqueued.iter().map(|group| group.items.len()).sum();
        self.in_flight() + unqueued as u64
    }

    /// Items queued and not handed out.
    fn in_flight(&self) -> u64 {
        self.next - self.handed
    }

    /// Each item with a time limit becomes a task of its own, as does one that may meet only some
    /// others, or that stands in a line.
    fn takes_single_items(&self) -> bool {
        self.limit.is_some() || self.by_key.is_some() || self.is_serial
    }

    fn room(&self) -> u64 {
        self.look_ahead.room(self.ahead())
    }

    /// Looks ahead further, when the reader has to wait although items are quick.
    fn grow(&mut self, pending: &PendingBatches) -> bool {
        !self.inputs.is_empty()
            && self.room() == 0
            && !current::works_for(&pending.handle.get().engine)
            && self.look_ahead.grow_by_cost(pending.shared.cost.get())
    }

    /// Reads and queues items: all there is room for when nothing can be handed out, else when
    /// there is enough room.
    fn read_on(&mut self, py: Python<'_>, pending: &PendingBatches) -> PyResult<()> {
        let enough = self.look_ahead.worthwhile(pending.shared.cost.get());
        while !pending.shared.is_closed() {
            if self.unqueued.is_empty() {
                let least = if self.is_ready(py, pending) { enough } else { 1 };
                if self.room() < least || self.failure.is_some() {
                    break;
                }
                self.look_ahead.follow(pending.handle.get().engine.limits().max() as u64);
                self.pull(py, pending)?;
            }
            if self.unqueued.is_empty() || !self.queue(py, pending)? {
                break;
            }
        }
        // Handed out without a look until so much room is there again.
        let is_over = self.inputs.is_empty() && self.unqueued.is_empty();
        let free = enough.saturating_sub(self.room()).max(1);
        self.until = if is_over { u64::MAX } else { self.handed + free };
        Ok(())
    }

    /// Reads items for a batch, and one more where it was read in another context.
    fn pull(&mut self, py: Python<'_>, pending: &PendingBatches) -> PyResult<()> {
        let asked = pending.asked(&self.function);
        let size = if self.takes_single_items() || asked.has_key() {
            1
        } else {
            self.look_ahead.batch_size(pending.shared.cost.get(), self.in_flight())
        };
        let copies = pending.handle.get().copy_contextvars;
        let began = (!self.inert).then(Instant::now);
        for _ in 0..size.min(self.room()) {
            let item = match self.pull_one(py) {
                Ok(Some(item)) => item,
                Ok(None) => {
                    self.inputs.clear();
                    break;
                }
                Err(error) => return self.fail(py, error),
            };
            let asked = pending.asked(&self.function);
            let handle = pending.handle.get();
            let key = handle.key_of_item(asked, item.bind(py), pending.shared.spread);
            let key = match key {
                Ok(key) => key,
                Err(error) => {
                    guarded_call::release(py, item);
                    return self.fail(py, error);
                }
            };
            let group = self.unqueued.back_mut();
            // It needs no look: contexts are not kept, or no code ran that could change one.
            let is_next = group.is_some() && (self.inert || !copies);
            let context = (copies && !is_next).then(|| Snapshot::take(py)).transpose()?;
            match group {
                Some(group) if is_next || is_same(py, context.as_ref(), group.context.as_ref()) => {
                    group.items.push(item);
                }
                _ => {
                    self.unqueued.push_back(UnqueuedItems { items: vec![item], context, key });
                    if self.unqueued.len() > 1 {
                        break;
                    }
                }
            }
            if began.is_some_and(|began| began.elapsed() > SLOW_INPUT) {
                break;
            }
        }
        Ok(())
    }

    /// Reads the arguments of one item.
    fn pull_one(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let next = |input| guarded_call::next(py, input).map_err(|error| error::raise(py, error));
        match &self.inputs[..] {
            [] => Ok(None),
            [input] => next(input),
            inputs => {
                let mut item = Vec::with_capacity(inputs.len());
                for input in inputs {
                    match next(input)? {
                        Some(argument) => item.push(argument),
                        None => return Ok(None),
                    }
                }
                Ok(Some(PyTuple::new(py, item)?.into_any().unbind()))
            }
        }
    }

    /// Ends the input by an error, which is raised at its place: after everything before it.
    fn fail(&mut self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        self.inputs.clear();
        if !error.is_instance_of::<PyException>(py) {
            return Err(error);
        }
        self.failure = Some(error.into_value(py).into_any());
        Ok(())
    }

    /// Queues what was read, or as much of it as the bounded queue has room for; false when that is
    /// nothing.
    fn queue(&mut self, py: Python<'_>, pending: &PendingBatches) -> PyResult<bool> {
        let handle = pending.handle.get();
        let asked = pending.asked(&self.function);
        let Some(group) = self.unqueued.front_mut() else {
            return Ok(false);
        };
        let permit = match handle.engine.try_permits(group.items.len()) {
            Some(permit) => permit,
            // What is in flight makes room, or at least a result to hand out.
            None if self.next > self.handed => return Ok(false),
            None => match handle.room(py, asked, || Limit::after(self.limit)) {
                Ok(permit) => permit,
                Err(error) => return self.refused(py, error),
            },
        };
        let rest = group.items.split_off(permit.count());
        let is_last = rest.is_empty();
        let context =
            group.context.as_mut().map(|context| context.open(py, is_last)).transpose()?;
        let items = std::mem::replace(&mut group.items, rest);
        let key = std::mem::replace(&mut group.key, TaskKey::NONE);
        if is_last {
            self.unqueued.pop_front();
        }
        let function = match (&self.by_key, items.first()) {
            (Some(by_key), Some(item)) => match (by_key.find)(by_key.owner.bind(py), item.bind(py))
            {
                Ok(function) => function,
                Err(error) => return self.refused(py, error),
            },
            _ => self.function.clone_ref(py),
        };
        let call = ItemCall { function, context, key: key.number };
        let batch = Batch::make(py, &pending.handle, &pending.shared, self.next, call, items)?;
        let is_single = self.takes_single_items();
        let future = if is_single {
            single_item(py, handle, &batch)
        } else {
            ticket(py, &batch, key.number)
        };
        let accepted =
            future.and_then(|future| handle.accept(py, &future, permit).map(|()| future));
        match accepted {
            Ok(future) => {
                self.next = batch.get().end();
                pending.add(py, batch, (!is_single).then_some(future));
                Ok(true)
            }
            Err(error) => {
                batch.get().forget_tasks(py);
                self.refused(py, error)
            }
        }
    }

    fn refused(&mut self, py: Python<'_>, error: PyErr) -> PyResult<bool> {
        self.unqueued.clear();
        self.fail(py, error).map(|()| false)
    }

    // ---- handing out
    // ------------------------------------------------------------------------------

    fn is_ready(&mut self, py: Python<'_>, pending: &PendingBatches) -> bool {
        if !pending.shared.is_ordered() {
            return pending.shared.has_finished();
        }
        self.step(py, pending);
        self.next_slot().is_some_and(ItemSlot::is_done)
    }

    /// The slot of the next outcome, in order.
    fn next_slot(&self) -> Option<&ItemSlot> {
        self.front.as_ref()?.get().slot(self.handed)
    }

    /// Goes on to the next batch when the front one is handed out.
    fn step(&mut self, py: Python<'_>, pending: &PendingBatches) {
        if self.next_slot().is_none() {
            if let Some(front) = self.front.take() {
                pending.remove(py, front);
            }
            self.front = pending.first(py);
        }
    }

    /// Takes the next outcome out with the number of its item, if it is there.
    fn take(&mut self, py: Python<'_>, pending: &PendingBatches) -> Option<(u64, Outcome)> {
        let (number, outcome) = if pending.shared.is_ordered() {
            self.step(py, pending);
            (self.handed, self.next_slot()?.take(py)?)
        } else {
            let number = pending.shared.next_finished()?;
            (number, pending.take(py, number)?)
        };
        self.handed += 1;
        Some((number, outcome))
    }

    /// The error of an item, raised or in place of its result.
    fn failed(&self, py: Python<'_>, number: u64, error: Py<PyAny>) -> PyResult<Py<PyAny>> {
        let is_handed_out = item_error::is_handed_out(py, &error, number)?;
        if is_handed_out && self.return_exceptions {
            return Ok(error);
        }
        Err(error::raise(py, error))
    }

    /// Waits until an outcome can be handed out, or the reading is closed.
    fn wait(&self, py: Python<'_>, pending: &PendingBatches) -> PyResult<()> {
        let (handle, shared) = (pending.handle.get(), &pending.shared);
        let engine = &handle.engine;
        if current::works_for(engine) {
            if current::would_deadlock(py, engine) {
                return Err(PyRuntimeError::new_err(error::WOULD_DEADLOCK));
            }
            if pending.run_one(py) {
                return Ok(());
            }
            self.check_lines(py, pending)?;
        }
        let is_there = || match self.next_slot() {
            Some(slot) => slot.is_done(),
            None => shared.has_finished(),
        };
        let over = || is_there() || shared.is_closed() || engine.is_broken();
        if !wait::offer(py, Limit::after(None), over) {
            let mut left = pending.left(py);
            let mut looks = STUCK_POLL_SECONDS.into_iter();
            let mut slice = Some(0.0);
            loop {
                slice = looks.next().or(slice);
                shared.listen(self.handed);
                let waited = wait::parked_until(py, Limit::after(slice), over);
                shared.stop_listening();
                if waited? {
                    break;
                }
                if self.is_serial && current::works_for(engine) && pending.run_one(py) {
                    return Ok(());
                }
                self.check_lines(py, pending)?;
                let still_left = pending.left(py);
                if still_left == left {
                    pending.invite_others(py);
                }
                left = still_left;
            }
        }
        if is_there() || !engine.is_broken() { Ok(()) } else { Err(handle.closed_error()) }
    }

    /// Raises in a task that waits for items which all have others of their keys before them.
    fn check_lines(&self, py: Python<'_>, pending: &PendingBatches) -> PyResult<()> {
        let engine = &pending.handle.get().engine;
        if self.is_serial && current::works_for(engine) && pending.are_all_behind(py) {
            return Err(PyRuntimeError::new_err(error::SERIAL_WOULD_DEADLOCK));
        }
        Ok(())
    }

    // ---- the end
    // ----------------------------------------------------------------------------------

    /// Cancels what has not started, and lets go of everything, by guarded calls: this may be a
    /// worker.
    pub(super) fn close(self, py: Python<'_>, pending: &PendingBatches) {
        pending.cancel(py);
        let Self { front, inputs, unqueued, failure, function, by_key, .. } = self;
        guarded_call::release_some(py, front);
        guarded_call::release_some(py, by_key.map(|by_key| by_key.owner));
        let unqueued = unqueued.into_iter().flat_map(|group| group.items);
        for object in inputs.into_iter().chain(unqueued).chain(failure).chain([function]) {
            guarded_call::release(py, object);
        }
    }

    /// For the collector.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.front)?;
        self.inputs.iter().try_for_each(|input| visit.call(input))?;
        for UnqueuedItems { items, context, .. } in &self.unqueued {
            items.iter().try_for_each(|item| visit.call(item))?;
            visit.call(context.as_ref().and_then(Snapshot::peek))?;
        }
        visit.call(&self.failure)?;
        visit.call(self.by_key.as_ref().map(|by_key| &by_key.owner))?;
        visit.call(&self.function)
    }
}

/// What stands in a lane for a batch.
fn ticket(py: Python<'_>, batch: &Py<Batch>, key: KeyNumber) -> PyResult<Py<Future>> {
    let (shared, handle) = (&batch.get().shared, batch.get().handle.clone_ref(py));
    let options = shared.options.clone();
    Future::ticket(py, handle, shared.priority(), options, batch.clone_ref(py).into_any(), key)
}

/// The task that the one item of a batch becomes.
fn single_item(py: Python<'_>, handle: &EngineHandle, batch: &Py<Batch>) -> PyResult<Py<Future>> {
    let due = handle.due_from_now(py, batch.get().shared.options.as_deref())?;
    let call = batch.get().call(py).ok_or_else(|| PyRuntimeError::new_err(error::STOPPED))?;
    let future = Batch::make_task(batch.bind(py), 0, &call, AttemptFacts::default());
    call.release(py);
    let future = future?;
    if due.is_some() {
        future.get().word.set(TIMED);
        future.get().with_extras(py, |extras| extras.due = due);
    }
    Ok(future)
}

/// Whether reading an iterator on runs no code but the interpreter's own, which changes no context
/// variable.
fn is_inert(py: Python<'_>, iterator: &Py<PyAny>) -> bool {
    static TYPES: PyOnceLock<Vec<Py<PyAny>>> = PyOnceLock::new();
    let types = TYPES.get_or_try_init(py, || {
        let range = PyRange::new(py, 0, 0)?.into_any();
        let list = PyList::empty(py).into_any();
        let tuple = PyTuple::empty(py).into_any();
        let mut types = Vec::new();
        for input in [range, list, tuple] {
            types.push(input.try_iter()?.get_type().into_any().unbind());
        }
        PyResult::Ok(types)
    });
    let Ok(types) = types else {
        return false;
    };
    types.iter().any(|known| known.is(iterator.bind(py).get_type()))
}

/// Whether an item was read in the context that others were.
fn is_same(py: Python<'_>, one: Option<&Snapshot>, other: Option<&Snapshot>) -> bool {
    match (one.and_then(Snapshot::peek), other.and_then(Snapshot::peek)) {
        (Some(one), Some(other)) => variables::are_same(py, one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}
