//! The items of a `map` that were queued together: run without a future each, their results in slots.
//!
//! A [`Batch`] is what its ticket, an ordinary future in the lanes, has in place of a function. Its [`Course`] is what
//! all batches of one call share with whoever reads the results. An item whose error has to be judged becomes a task
//! with a future of its own, as does every item that has a time limit; a [`Berth`] in that future leads its outcome
//! back into the slot.

use crate::engine::Refusal;
use crate::engine::queue::lanes::Class;
use crate::engine::task::batch::{Deal, Pace, Stride};
use crate::engine::task::token::Token;
use crate::engine::worker::desk::Desk;
use crate::python::context::TaskContext;
use crate::python::context::decimal;
use crate::python::context::snapshot::Snapshot;
use crate::python::context::variables;
use crate::python::error::{self, ResourceCreationError, RunnerBroken, TaskCancelled};
use crate::python::future::settle;
use crate::python::future::{Draft, Future, Outcome};
use crate::python::host::breath;
use crate::python::host::door;
use crate::python::host::seat::{self, Seat};
use crate::python::host::{self, Dropped, PyHost, Task};
use crate::python::interrupt::attempt::{self, UnderWay};
use crate::python::interrupt::{Call, Owner};
use crate::python::note;
use crate::python::printable::{BOUND, printable};
use crate::python::verbs::core::Core;
use crate::python::verbs::options::Options;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use crate::sync::channel::{Receiver, Sender, unbounded};
use crate::sync::thread::{self, Thread};
use crate::sync::{Arc, Mutex};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::ptr::NonNull;

/// Nobody waits.
const NOBODY: u64 = u64::MAX;
/// Whatever ends next is waited for.
const ANY: u64 = u64::MAX - 1;
/// How many strides a waiting reader's wake-up is put off at most while there is more to do: some 0.2 ms.
const LONGEST_DEBT: u32 = 10;

/// What the batches of one call and the reader of its results share. No Python object is in it.
pub(in crate::python) struct Course {
    pub(in crate::python) pace: Arc<Pace>,
    /// The number of the item that the reader waits for, or one of the marks above. `SeqCst` against the slots: the
    /// reader writes this and looks at a slot, a worker writes a slot and looks at this.
    wanted: AtomicU64,
    /// Who waits. It and the mark are set and taken together under this lock.
    reader: Mutex<Option<Thread>>,
    /// Strides that the reader's wake-up has been put off for.
    debt: AtomicU32,
    /// The numbers of items as they end, where they are handed out so.
    finished: Option<(Sender<u64>, Receiver<u64>)>,
    /// Nothing more is read.
    closed: AtomicBool,
    /// Running items were told to give up.
    told: AtomicBool,
    /// What is told that an item is to give up, by the items' numbers.
    listeners: Mutex<Vec<(u64, Listener)>>,
}

/// What learns that a running item is to give up.
#[derive(Clone)]
enum Listener {
    /// The context that it asked for.
    Context(Token),
    /// What interrupts it.
    Call(Arc<Call>),
}

impl Course {
    pub(in crate::python) fn new(ordered: bool) -> Arc<Self> {
        Arc::new(Self {
            pace: Arc::new(Pace::new()),
            wanted: AtomicU64::new(NOBODY),
            reader: Mutex::new(None),
            debt: AtomicU32::new(0),
            finished: (!ordered).then(unbounded),
            closed: AtomicBool::new(false),
            told: AtomicBool::new(false),
            listeners: Mutex::new(Vec::new()),
        })
    }

    pub(in crate::python) fn is_ordered(&self) -> bool {
        self.finished.is_none()
    }

    pub(in crate::python) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Ends the reading, also that of a reader who waits.
    pub(in crate::python) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.wake(|_| true, thread::Thread::unpark);
    }

    /// The next item that ended.
    pub(in crate::python) fn next_finished(&self) -> Option<u64> {
        self.finished.as_ref()?.1.try_recv().ok()
    }

    pub(in crate::python) fn has_finished(&self) -> bool {
        self.finished.as_ref().is_some_and(|(_, numbers)| !numbers.is_empty())
    }

    /// Has this thread woken when the item is done, or any, where items are handed out as they end.
    pub(in crate::python) fn listen(&self, number: u64) {
        let wanted = if self.is_ordered() { number } else { ANY };
        self.debt.store(0, Ordering::Relaxed);
        {
            let mut reader = self.reader.lock();
            *reader = Some(thread::current());
            self.wanted.store(wanted, Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
    }

    pub(in crate::python) fn stop_listening(&self) {
        self.wanted.store(NOBODY, Ordering::SeqCst);
    }

    /// Wakes the reader, if what it waits for now `is_there`: without an interpreter's lock it may have gone on to
    /// another item since the caller looked, and a wake-up used up for nothing would be missing for that one.
    fn wake(&self, is_there: impl FnOnce(u64) -> bool, how: impl FnOnce(&Thread)) {
        let reader = {
            let mut reader = self.reader.lock();
            let wanted = self.wanted.load(Ordering::SeqCst);
            if wanted == NOBODY || !is_there(wanted) {
                return;
            }
            self.wanted.store(NOBODY, Ordering::SeqCst);
            reader.take()
        };
        if let Some(reader) = reader {
            how(&reader);
        }
    }

    /// Tells running items to give up: their contexts are cancelled, and no retry follows.
    pub(in crate::python) fn tell(&self, reason: &str) {
        let listeners = {
            let listeners = self.listeners.lock();
            self.told.store(true, Ordering::SeqCst);
            listeners.clone()
        };
        for (_, listener) in listeners {
            match listener {
                Listener::Context(token) => _ = token.cancel(Some(reason.into())),
                Listener::Call(call) => call.want(),
            }
        }
    }

    /// Has an item's listener told; whether the items were told before.
    fn listen_for(&self, number: u64, listener: Listener) -> bool {
        let mut listeners = self.listeners.lock();
        listeners.push((number, listener));
        self.told.load(Ordering::SeqCst)
    }
}

/// What a slot holds, in the low bits of its word. Objects are aligned to more than that.
const KIND: usize = 0b11;
/// The item's argument, or the tuple of its arguments.
const ITEM: usize = 0;
const VALUE: usize = 1;
const ERROR: usize = 2;
/// Nothing: the item became a task, whose future is among [`Batch::tasks`].
const TASK: usize = 3;

/// One item and later its outcome: a pointer with a reference, and its kind; zero when it was taken out.
///
/// Until the item is claimed it belongs to the batch, then to its claimer, and with an outcome to the reader.
struct Slot(AtomicUsize);

impl Slot {
    fn new(item: Py<PyAny>) -> Self {
        Self(AtomicUsize::new(item.into_ptr() as usize | ITEM))
    }

    fn kind(&self) -> usize {
        self.0.load(Ordering::Acquire) & KIND
    }

    fn is_done(&self) -> bool {
        matches!(self.kind(), VALUE | ERROR)
    }

    /// Puts something else in, for the slot's owner; gives what was there.
    fn replace(&self, py: Python<'_>, word: usize) -> Option<Py<PyAny>> {
        // No swap, which costs as much as all the rest: nobody but the owner writes.
        let before = self.0.load(Ordering::Acquire);
        self.0.store(word, Ordering::Release);
        // SAFETY: the slot had a reference, which is the caller's now.
        unsafe { Bound::from_owned_ptr_or_opt(py, object(before)) }.map(Bound::unbind)
    }

    /// Takes the object out, for the slot's owner.
    fn take(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.replace(py, 0)
    }

    /// Another reference to the object, for the slot's owner.
    fn share(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let word = self.0.load(Ordering::Acquire);
        // SAFETY: the slot's object is alive while its owner leaves it there.
        unsafe { Bound::from_borrowed_ptr_or_opt(py, object(word)) }.map(Bound::unbind)
    }
}

/// The pointer in a slot's word.
fn object(word: usize) -> door::Object {
    (word & !KIND) as door::Object
}

/// What the items of a batch have in common.
pub(in crate::python) struct Load {
    pub(in crate::python) function: Py<PyAny>,
    /// The context that each runs in a copy of.
    pub(in crate::python) context: Option<Py<PyAny>>,
}

/// See the module's documentation.
#[pyclass(frozen, module = "tasker._tasker")]
pub(in crate::python) struct Batch {
    pub(in crate::python) deal: Deal,
    slots: Box<[Slot]>,
    /// The number of its first item among all of the call.
    first: u64,
    course: Arc<Course>,
    core: Py<Core>,
    options: Option<Arc<Options>>,
    /// An item is a tuple of arguments.
    spread: bool,
    load: Mutex<Option<Load>>,
    /// The context of the load, which never changes, holds variables.
    has_variables: bool,
    /// Items without an outcome; at zero the load is let go of.
    undone: AtomicUsize,
    /// The items that became tasks and have no outcome yet, by their places.
    tasks: Mutex<Vec<(usize, Py<Future>)>>,
}

/// What a batch is made of, beside its items.
pub(in crate::python) struct Make<'a> {
    pub(in crate::python) core: &'a Py<Core>,
    pub(in crate::python) course: &'a Arc<Course>,
    pub(in crate::python) options: Option<&'a Arc<Options>>,
    pub(in crate::python) spread: bool,
    pub(in crate::python) first: u64,
    pub(in crate::python) load: Load,
}

impl Batch {
    pub(in crate::python) fn make(
        py: Python<'_>,
        make: Make<'_>,
        items: impl Iterator<Item = Py<PyAny>>,
    ) -> PyResult<Py<Self>> {
        let slots: Box<[Slot]> = items.map(Slot::new).collect();
        let since = make.core.get().engine.clock.now();
        let deal = Deal::new(slots.len(), since, Arc::clone(&make.course.pace));
        // The interpreter's lock is held wherever items are claimed.
        #[cfg(not(Py_GIL_DISABLED))]
        let deal = deal.guarded();
        let batch = Self {
            deal,
            undone: AtomicUsize::new(slots.len()),
            slots,
            first: make.first,
            course: Arc::clone(make.course),
            core: make.core.clone_ref(py),
            options: make.options.cloned(),
            spread: make.spread,
            has_variables: make.load.context.as_ref().is_some_and(decimal::may_be_in),
            load: Mutex::new(Some(make.load)),
            tasks: Mutex::new(Vec::new()),
        };
        Py::new(py, batch)
    }

    pub(in crate::python) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(in crate::python) fn first(&self) -> u64 {
        self.first
    }

    /// Whether an item of it, by its place, has its outcome.
    pub(in crate::python) fn is_done(&self, index: usize) -> bool {
        self.slots.get(index).is_some_and(Slot::is_done)
    }

    /// How many of its items, from a place on, have an outcome that was not taken out.
    pub(in crate::python) fn done_from(&self, index: usize) -> u64 {
        let rest = self.slots.get(index..).unwrap_or_default();
        rest.iter().filter(|slot| slot.is_done()).count() as u64
    }

    /// Takes a value out for the reader; `None` when there is none (yet).
    pub(in crate::python) fn take_value(&self, index: usize) -> Option<*mut ffi::PyObject> {
        let slot = &self.slots.get(index)?.0;
        let word = slot.load(Ordering::Acquire);
        if word & KIND != VALUE {
            return None;
        }
        // The reader's alone since it is done.
        slot.store(0, Ordering::Relaxed);
        Some(object(word))
    }

    /// Takes an outcome out for the reader.
    pub(in crate::python) fn take(&self, py: Python<'_>, index: usize) -> Option<Outcome> {
        let slot = self.slots.get(index)?;
        let outcome = match slot.kind() {
            VALUE => Outcome::Value,
            ERROR => Outcome::Error,
            _ => return None,
        };
        slot.take(py).map(outcome)
    }

    /// The futures of the tasks that items became and that have no outcome yet, in order.
    pub(in crate::python) fn tasks(&self, py: Python<'_>) -> Vec<Py<Future>> {
        self.tasks.lock().iter().map(|(_, future)| future.clone_ref(py)).collect()
    }

    /// The name of its items, for people.
    pub(in crate::python) fn name(&self, py: Python<'_>) -> String {
        if let Some(name) = self.options.as_ref().and_then(|options| options.name.as_deref()) {
            return printable(name, BOUND).into_owned();
        }
        let load = self.load.lock();
        let function = load.as_ref().map(|load| load.function.clone_ref(py));
        drop(load);
        crate::python::future::name_of(py, function.as_ref())
    }

    /// Takes an item out that becomes a task of its own before anybody could claim it: function, arguments, context.
    pub(in crate::python) fn unload(
        &self,
        py: Python<'_>,
        index: usize,
    ) -> PyResult<(Py<PyAny>, Py<PyTuple>, Option<Snapshot>)> {
        let Load { function, context } = self.load(py).ok_or_else(|| {
            PyRuntimeError::new_err("the batch was let go of before its items were queued")
        })?;
        let context = context.map(|context| Snapshot::of(py, &context)).transpose()?;
        let item = self.slots[index].share(py).unwrap_or_else(|| py.None());
        Ok((function, self.arguments(py, item)?, context))
    }

    /// What its items have in common, while any of them may run.
    fn load(&self, py: Python<'_>) -> Option<Load> {
        let load = self.load.lock();
        let Load { function, context } = load.as_ref()?;
        let context = context.as_ref().map(|context| context.clone_ref(py));
        Some(Load { function: function.clone_ref(py), context })
    }

    /// Cancels what has not started. The engine claimed these items for the caller.
    pub(in crate::python) fn drop_items(&self, py: Python<'_>, items: Range<usize>) {
        let count = items.len();
        for index in items {
            door::release_some(py, self.slots[index].take(py));
        }
        self.ended(py, count);
    }

    /// Tells running items to give up; see [`Course::tell`].
    pub(in crate::python) fn tell(&self, reason: &str) {
        self.course.tell(reason);
    }

    /// Puts the outcome of an item into its slot.
    #[inline]
    fn put(&self, py: Python<'_>, index: usize, kind: usize, object: Py<PyAny>) {
        let before = self.slots[index].replace(py, object.into_ptr() as usize | kind);
        if let Some((numbers, _)) = &self.course.finished {
            // Both ends live in the course, so the channel cannot be disconnected here.
            let sent = numbers.send(self.first + index as u64);
            debug_assert!(sent.is_ok());
        }
        door::release_some(py, before);
    }

    /// Items have their outcome, or will get it by themselves: with the last of them the load goes.
    fn ended(&self, py: Python<'_>, items: usize) {
        if items > 0 && self.undone.fetch_sub(items, Ordering::AcqRel) == items {
            let load = self.load.lock().take();
            if let Some(Load { function, context }) = load {
                door::release(py, function);
                door::release_some(py, context);
            }
        }
    }

    /// Tells the reader, if it waits for what is done now.
    fn news(&self) {
        let course = &self.course;
        fence(Ordering::SeqCst);
        if !self.has(course.wanted.load(Ordering::SeqCst)) {
            return;
        }
        let brief = self.course.pace.get().is_some_and(|span| span < seat::QUICK);
        if self.deal.left() > 0
            && brief
            && course.debt.fetch_add(1, Ordering::Relaxed) < LONGEST_DEBT
        {
            // More is to come in a moment: the reader is to find it all at once.
            return;
        }
        let wake = |reader: &Thread| {
            if self.deal.left() > 0 {
                reader.unpark();
            } else {
                seat::wake_later(reader.clone());
            }
        };
        course.wake(|wanted| self.has(wanted), wake);
    }

    /// Whether what the reader wants is there, and of this batch.
    fn has(&self, wanted: u64) -> bool {
        match wanted {
            NOBODY => false,
            ANY => self.course.has_finished(),
            number => number
                .checked_sub(self.first)
                .and_then(|index| usize::try_from(index).ok())
                .is_some_and(|index| self.is_done(index)),
        }
    }

    /// The arguments of an item as a task has them.
    fn arguments(&self, py: Python<'_>, item: Py<PyAny>) -> PyResult<Py<PyTuple>> {
        if self.spread {
            return Ok(item.into_bound(py).cast_into::<PyTuple>()?.unbind());
        }
        Ok(PyTuple::new(py, [item])?.unbind())
    }

    /// Makes a running task of an item that failed, so that its error can be judged.
    fn promote(
        slf: &Bound<'_, Self>,
        index: usize,
        function: &Py<PyAny>,
        context: Option<&Py<PyAny>>,
    ) -> PyResult<Py<Future>> {
        let (py, batch) = (slf.py(), slf.get());
        let item = batch.slots[index].share(py).unwrap_or_else(|| py.None());
        let context = context.map(|context| Snapshot::of(py, context)).transpose()?;
        let options = batch.options.as_ref();
        let future = Future::draft(
            py,
            Draft {
                core: batch.core.clone_ref(py),
                options: options.cloned(),
                class: options.map_or(Class::Normal, |options| options.class),
                once: options.is_some_and(|options| options.once),
                express: false,
                function: function.clone_ref(py),
                args: Some(batch.arguments(py, item)?),
                kwargs: None,
                context,
            },
        )?;
        future.get().word.claim_fresh();
        // SAFETY: claimed on this thread just now, and nobody else knows of it.
        unsafe { future.get().payload() }.attempts = 1;
        Berth::mark(slf, index, &future);
        Ok(future)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // SAFETY: a batch dies with its object, or right where it could not be made: attached, even when the
        // interpreter is so far gone that nobody can attach any more.
        let py = unsafe { Python::assume_attached() };
        for slot in &self.slots {
            door::release_some(py, slot.take(py));
        }
        self.ended(py, self.undone.load(Ordering::Acquire));
    }
}

#[pymethods]
impl Batch {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in &self.slots {
            if let Some(pointer) = NonNull::new(object(slot.0.load(Ordering::Acquire))) {
                // SAFETY: the slot's own reference, lent for the visit and not dropped; `Py` is laid out like it.
                let object =
                    unsafe { std::mem::transmute::<NonNull<ffi::PyObject>, Py<PyAny>>(pointer) };
                visit.call(&*ManuallyDrop::new(object))?;
            }
        }
        // Both are held for a few instructions by attached threads alone, and free here.
        if let Some(tasks) = self.tasks.try_lock() {
            tasks.iter().try_for_each(|(_, future)| visit.call(future))?;
        }
        if let Some(load) = self.load.try_lock()
            && let Some(Load { function, context }) = &*load
        {
            visit.call(function)?;
            visit.call(context)?;
        }
        Ok(())
    }
}

/// Where the outcome of a task belongs that is an item of a `map`.
pub(in crate::python) struct Berth {
    batch: Py<Batch>,
    index: usize,
}

impl Berth {
    /// Gives a future that nobody else knows of its place, and the future to the slot there.
    pub(in crate::python) fn mark(batch: &Bound<'_, Batch>, index: usize, future: &Py<Future>) {
        let berth = Self { batch: batch.clone().unbind(), index };
        settle::observe(future.get(), |slot| slot.berth = Some(berth));
        let (py, batch) = (batch.py(), batch.get());
        batch.tasks.lock().push((index, future.clone_ref(py)));
        door::release_some(py, batch.slots[index].replace(py, TASK));
    }

    /// Brings the outcome of a settled future there.
    pub(in crate::python) fn deliver(self, py: Python<'_>, future: &Future) {
        let batch = self.batch.get();
        let task = {
            let mut tasks = batch.tasks.lock();
            let place = tasks.iter().position(|(index, _)| *index == self.index);
            place.map(|place| tasks.remove(place).1)
        };
        door::release_some(py, task);
        match future.settled() {
            Some(Outcome::Value(value)) => batch.put(py, self.index, VALUE, value.clone_ref(py)),
            Some(Outcome::Error(error)) => batch.put(py, self.index, ERROR, error.clone_ref(py)),
            // Cancelled by the reader, who wants no outcome.
            Some(Outcome::None) | None => {}
        }
        batch.news();
        door::release(py, self.batch.into_any());
    }

    pub(in crate::python) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.batch)
    }
}

/// An item while it runs: what `current_context()` asks about.
pub(in crate::python) struct Current<'b> {
    batch: &'b Batch,
    number: Cell<u64>,
    context: RefCell<Option<Py<TaskContext>>>,
    /// What interrupts it, where the config's `on_cancel` does.
    call: RefCell<Option<Arc<Call>>>,
}

impl Current<'_> {
    /// The context of the item that this thread runs.
    pub(in crate::python) fn context(&self, py: Python<'_>) -> PyResult<Py<TaskContext>> {
        if let Some(context) = &*self.context.borrow() {
            return Ok(context.clone_ref(py));
        }
        let course = &self.batch.course;
        let engine = &self.batch.core.get().engine;
        let token = Token::new().child(None);
        let context = TaskContext::make(py, engine, token.clone(), 1, self.batch.name(py))?;
        *self.context.borrow_mut() = Some(context.clone_ref(py));
        if let Some(call) = &*self.call.borrow() {
            call.follow(&token);
        }
        let told = course.listen_for(self.number.get(), Listener::Context(token.clone()));
        // After it was put where cancellers find it: one that told the items before could not.
        if seat::is_killed() {
            token.cancel(Some("the runner was killed".into()));
        } else if told {
            token.cancel(None);
        }
        Ok(context)
    }

    /// An item begins that can be interrupted.
    fn begin(&self, py: Python<'_>, desk: &Desk<'_, PyHost>, batch: &Py<Batch>) {
        let call = attempt::begin(py, desk, Owner::Item(batch.clone_ref(py)));
        let told =
            self.batch.course.listen_for(self.number.get(), Listener::Call(Arc::clone(&call)));
        // After it was put where cancellers find it: one that told the items before could not.
        if told || desk.engine().is_killed() {
            call.want();
        }
        self.call.replace(Some(call));
    }

    /// The item has ended: no task uses its context any more, and nothing interrupts it from here on.
    fn end(&self, py: Python<'_>, desk: &Desk<'_, PyHost>) -> Option<UnderWay> {
        let (context, call) = (self.context.take(), self.call.take());
        if context.is_none() && call.is_none() {
            return None;
        }
        let number = self.number.get();
        self.batch.course.listeners.lock().retain(|(other, _)| *other != number);
        Some(attempt::end(py, desk, call, context))
    }
}

/// Runs a stride of items of a batch at a desk.
pub(in crate::python) fn run(
    py: Python<'_>,
    host: &PyHost,
    desk: &Desk<'_, PyHost>,
    task: &Task,
    stride: &Stride,
) {
    let Some(batch) = task.batch() else {
        return;
    };
    let Some(Load { function, context }) = batch.get().load(py) else {
        return;
    };
    breath::before(py, &function);
    seat::with(|seat| seat.wake_before(function.as_ptr(), desk));
    let work = Work {
        py,
        host,
        desk,
        task,
        batch,
        function: &function,
        callee: door::Callee::of(&function),
        context: context.as_ref(),
    };
    let failed = seat::with(|seat| seat.at_desk(desk, || work.run(seat, stride)));
    if let Some((index, error)) = failed {
        work.fail(index, error);
    }
    batch.get().ended(py, usize::try_from(stride.ran()).unwrap_or(usize::MAX));
    batch.get().news();
    door::release(py, function);
    door::release_some(py, context);
}

/// What a worker needs to run some items one after the other.
struct Work<'a, 'py> {
    py: Python<'py>,
    host: &'a PyHost,
    desk: &'a Desk<'a, PyHost>,
    task: &'a Task,
    batch: &'a Py<Batch>,
    function: &'a Py<PyAny>,
    callee: door::Callee<'a>,
    context: Option<&'a Py<PyAny>>,
}

impl Work<'_, '_> {
    /// Runs items until the stride is over, or one fails. Gives the failure.
    fn run(&self, seat: &Seat, stride: &Stride) -> Option<(usize, Py<PyAny>)> {
        let Self { py, desk, task, .. } = *self;
        let batch = self.batch.get();
        let (context, call) = (RefCell::new(None), RefCell::new(None));
        let current = Current { batch, number: Cell::new(0), context, call };
        let mut copy = variables::Copy::of(self.context, batch.has_variables);
        let failed = seat.inside_item(task.future(), self.function, &current, || {
            loop {
                let index = desk.start_item(py, task, &batch.deal, stride)?;
                current.number.set(batch.first + index as u64);
                if self.host.interrupts() {
                    current.begin(py, desk, self.batch);
                }
                let result = copy.renew(py).and_then(|()| {
                    let item = object(batch.slots[index].0.load(Ordering::Relaxed));
                    self.callee.call(py, desk.resource(), item, batch.spread)
                });
                if desk.engine().is_forsaken() {
                    host::child::end_here(py, &result);
                }
                let under_way = current.end(py, desk);
                let failed = match result {
                    Ok(value) => {
                        desk.item_ended(true);
                        batch.put(py, index, VALUE, value);
                        None
                    }
                    Err(error) => Some((index, error)),
                };
                if let Some(under_way) = under_way {
                    under_way.wait(py);
                }
                if failed.is_some() {
                    return failed;
                }
            }
        });
        copy.leave(py);
        failed
    }

    /// Decides on an error that an item ended with.
    fn fail(&self, index: usize, error: Py<PyAny>) {
        let Self { py, host, desk, .. } = *self;
        let batch = self.batch.get();
        let error = host::storable(py, error);
        note::calling(py, &error);
        // Without memory for a task the error is delivered as it is.
        if host.judges(py, desk, &error, batch.course.told.load(Ordering::SeqCst))
            && let Ok(future) =
                Batch::promote(self.batch.bind(py), index, self.function, self.context)
        {
            future.get().slot.lock().get_or_insert_default().last_error = Some(error);
            desk.item_failed(py, Task::new(future));
            return;
        }
        desk.item_ended(false);
        batch.put(py, index, ERROR, error);
    }
}

/// Publishes the refusal of items that will not run.
pub(in crate::python) fn refuse(
    py: Python<'_>,
    host: &PyHost,
    task: &Task,
    items: Range<usize>,
    why: Refusal,
) {
    let Some(batch) = task.batch() else {
        return;
    };
    let batch = batch.get();
    let count = items.len();
    for index in items {
        let error = match why {
            Refusal::Killed => {
                host.keep(batch.dropped(py, index));
                let text = "the runner was killed before the task started";
                error::make::<TaskCancelled>(py, text, None)
            }
            Refusal::NoWorker => {
                let text = "the runner stopped while no resource could be created for the task";
                error::make::<ResourceCreationError>(py, text, host.fault(py).as_ref())
            }
            Refusal::Broken => error::make::<RunnerBroken>(py, error::BROKEN, None),
        };
        batch.put(py, index, ERROR, error);
    }
    batch.ended(py, count);
    batch.news();
}

/// Publishes that items were dropped that will not run, and tells which.
pub(in crate::python) fn drop_waiting(
    py: Python<'_>,
    task: &Task,
    items: Range<usize>,
    error: impl Fn() -> Py<PyAny>,
    dropped: &mut Vec<Dropped>,
) {
    let Some(batch) = task.batch() else {
        return;
    };
    let batch = batch.get();
    let count = items.len();
    for index in items {
        dropped.push(batch.dropped(py, index));
        batch.put(py, index, ERROR, error());
    }
    batch.ended(py, count);
    batch.news();
}

impl Batch {
    /// What is left of an item that the engine claimed for this thread.
    fn dropped(&self, py: Python<'_>, index: usize) -> Dropped {
        let function = self.load.lock().as_ref().map(|load| load.function.clone_ref(py));
        let item = self.slots[index].share(py);
        let args = item.and_then(|item| self.arguments(py, item).ok());
        let options = self.options.as_deref();
        Dropped {
            function,
            args,
            kwargs: None,
            class: options.map_or(Class::Normal, |options| options.class),
            once: options.is_some_and(|options| options.once),
            timeout: None,
            name: options.and_then(|options| options.name.clone()),
            bare: false,
        }
    }
}
