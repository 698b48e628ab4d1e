//! The native half of `Future`: a task's word, payload and outcome in one Python object.
//!
//! A waiting task *is* its future: the lanes hold handles on it, so a cancel frees function and arguments
//! at once, and a worker that would wait for it can run it instead. What only some futures need (waiters,
//! callbacks, the standard library's condition, a time limit) lies in a [`Slot`] made on first need.

pub(super) mod outbox;
pub(super) mod settle;
pub(super) mod spare;
pub(super) mod unseen;

use self::settle::{Callback, Slot};
use super::context::snapshot::Snapshot;
use super::error;
use super::host::door;
use super::limit;
use super::map::batch::Batch;
use super::printable::{self, BOUND, printable};
use super::verbs::core::Core;
use super::verbs::options::Options;
use super::wait::{self, Limit};
use crate::engine::clock::Tick;
use crate::engine::queue::lanes::Class;
use crate::engine::task::{BATCH, EXPRESS, OBSERVED, ONCE, Phase, TaskWord};
use crate::engine::worker::desk::Desk;
use crate::sync::{Arc, Mutex, thread};
use pyo3::exceptions::{PyRuntimeError, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit, ffi, intern};
use std::cell::UnsafeCell;
use std::fmt::Write as _;

/// The native half of `tasker.Future`: the state, the outcome and the waiting.
#[pyclass(subclass, frozen, module = "tasker._tasker")]
pub(super) struct Future {
    pub(super) word: TaskWord,
    /// Owned by whoever the word says: the submitter before it is queued, then whoever moves the word out of
    /// a waiting phase.
    payload: UnsafeCell<Payload>,
    /// Owned by whoever moved the word to settling; shared and constant once the word says finished.
    outcome: UnsafeCell<Outcome>,
    pub(super) slot: Mutex<Option<Box<Slot>>>,
    /// Whose task this is; `None` for a future that no runner made.
    pub(super) origin: Option<Origin>,
}

// SAFETY: the two cells are guarded by the word as their documentation says; the word's moves acquire and
// release. Everything else is `Sync` by itself.
unsafe impl Sync for Future {}

/// What runs: let go of as soon as it will not run (again).
#[derive(Default)]
pub(super) struct Payload {
    pub(super) function: Option<Py<PyAny>>,
    pub(super) args: Option<Py<PyTuple>>,
    pub(super) kwargs: Option<Py<PyDict>>,
    pub(super) context: Snapshot,
    /// How many attempts have begun.
    pub(super) attempts: u32,
    /// Whether it runs in a context of its own: a copy of the snapshot.
    pub(super) own_context: bool,
}

/// Where a task came from. Constant.
pub(super) struct Origin {
    pub(super) core: Py<Core>,
    /// `None`: the runner's defaults.
    pub(super) options: Option<Arc<Options>>,
}

/// How a task ended.
#[derive(Default)]
pub(super) enum Outcome {
    #[default]
    None,
    Value(Py<PyAny>),
    Error(Py<PyAny>),
}

/// What a new task is made of.
pub(super) struct Draft {
    pub(super) core: Py<Core>,
    pub(super) options: Option<Arc<Options>>,
    pub(super) class: Class,
    pub(super) once: bool,
    pub(super) express: bool,
    pub(super) function: Py<PyAny>,
    pub(super) args: Option<Py<PyTuple>>,
    pub(super) kwargs: Option<Py<PyDict>>,
    /// `None`: it runs in the worker's own context.
    pub(super) context: Option<Snapshot>,
}

impl Future {
    fn bare() -> Self {
        Self {
            word: TaskWord::new(Class::Normal, 0),
            payload: UnsafeCell::default(),
            outcome: UnsafeCell::default(),
            slot: Mutex::new(None),
            origin: None,
        }
    }

    /// Makes the future of a task. It is not watched by the collector while it waits: the queue keeps it
    /// alive, so it cannot be garbage, and walking a million waiting futures was half of all the time.
    pub(super) fn draft(py: Python<'_>, draft: Draft) -> PyResult<Py<Self>> {
        let mut flags = 0;
        flags |= if draft.once { ONCE } else { 0 };
        flags |= if draft.express { EXPRESS } else { 0 };
        // Its end is told to the group.
        flags |= if draft.core.get().group.is_some() { OBSERVED } else { 0 };
        let future = Self {
            word: TaskWord::new(draft.class, flags),
            payload: UnsafeCell::new(Payload {
                function: Some(draft.function),
                args: draft.args,
                kwargs: draft.kwargs,
                own_context: draft.context.is_some(),
                context: draft.context.unwrap_or_default(),
                attempts: 0,
            }),
            origin: Some(Origin { core: draft.core, options: draft.options }),
            ..Self::bare()
        };
        if let Some(spare) = spare::take(py) {
            Self::renew(py, &spare, Some(future));
            return Ok(spare);
        }
        let object = allocate(py, future)?;
        untrack(object.as_any());
        Ok(object)
    }

    /// Makes another future of one that only the caller holds; `None`: a bare one.
    pub(super) fn renew(_py: Python<'_>, object: &Py<Self>, native: Option<Self>) {
        let place = object.as_ptr();
        let offset = std::ptr::from_ref(object.get()) as usize - place as usize;
        // SAFETY: the native part of the object, by the object's own pointer; nobody else has a reference to either.
        unsafe { *place.byte_add(offset).cast::<Self>() = native.unwrap_or_else(Self::bare) };
    }

    /// Makes a future of no runner that has its outcome.
    pub(super) fn settled_with(py: Python<'_>, outcome: Outcome) -> PyResult<Py<Self>> {
        let future = allocate(py, Self::bare())?;
        settle::by_hand(future.bind(py), outcome)?;
        Ok(future)
    }

    /// Makes the ticket of a batch: what stands in a lane for it. The batch is its payload as long as it lives.
    pub(super) fn ticket(
        py: Python<'_>,
        core: Py<Core>,
        class: Class,
        batch: Py<Batch>,
    ) -> PyResult<Py<Self>> {
        let future = Self {
            word: TaskWord::new(class, BATCH),
            payload: UnsafeCell::new(Payload {
                function: Some(batch.into_any()),
                ..Payload::default()
            }),
            origin: Some(Origin { core, options: None }),
            ..Self::bare()
        };
        allocate(py, future)
    }

    /// The batch that this is the ticket of.
    pub(super) fn batch(&self) -> Option<&Py<Batch>> {
        if !self.word.has(BATCH) {
            return None;
        }
        // SAFETY: the payload of a ticket does not change, and its function is a batch; a reference to one is laid
        // out like a reference to any object.
        unsafe {
            (*self.payload.get()).function.as_ref().map(|batch| &*std::ptr::from_ref(batch).cast())
        }
    }

    /// The payload, for its owner.
    #[expect(clippy::mut_from_ref, reason = "the word stands for the lock")]
    pub(super) unsafe fn payload(&self) -> &mut Payload {
        // SAFETY: the caller owns the payload, as the word's documentation defines it.
        unsafe { &mut *self.payload.get() }
    }

    /// Takes a copy of the current context for a task that nobody else knows of, where it would have run in that.
    pub(super) fn keep_context(&self, py: Python<'_>) -> PyResult<()> {
        // SAFETY: nobody else knows of the task, so the caller owns the payload.
        let payload = unsafe { self.payload() };
        if payload.own_context {
            payload.context = Snapshot::take(py)?;
        }
        Ok(())
    }

    /// Lets go of the payload.
    pub(super) unsafe fn drop_payload(&self, py: Python<'_>) {
        // SAFETY: the caller owns the payload.
        let mut payload = std::mem::take(unsafe { self.payload() });
        door::release_some(py, payload.function);
        door::release_some(py, payload.args);
        door::release_some(py, payload.kwargs);
        payload.context.release(py);
    }

    /// Writes the outcome, for its owner.
    pub(super) unsafe fn set_outcome(&self, outcome: Outcome) {
        // SAFETY: the caller moved the word to settling, so nobody reads or writes this now.
        unsafe { *self.outcome.get() = outcome };
    }

    /// The outcome of a finished task.
    pub(super) fn outcome(&self) -> &Outcome {
        debug_assert!(self.word.phase() == Phase::Finished);
        // SAFETY: finished, so the outcome is constant until the object dies.
        unsafe { &*self.outcome.get() }
    }

    /// The outcome, if it has one.
    pub(super) fn settled(&self) -> Option<&Outcome> {
        (self.word.phase() == Phase::Finished).then(|| self.outcome())
    }

    /// Whether it ended with an error.
    pub(super) fn raised(&self) -> bool {
        matches!(self.settled(), Some(Outcome::Error(_)))
    }

    /// Where it is, by the standard's names.
    fn state_name(&self) -> &'static str {
        match self.word.phase() {
            Phase::Waiting => "PENDING",
            Phase::Running => "RUNNING",
            Phase::Cancelled => "CANCELLED_AND_NOTIFIED",
            Phase::Finished => "FINISHED",
        }
    }

    /// The name of the task, for people.
    pub(super) fn name(&self, py: Python<'_>) -> String {
        if let Some(name) = self.options().and_then(|options| options.name.as_deref()) {
            return printable(name, BOUND).into_owned();
        }
        if let Some(batch) = self.batch() {
            return batch.get().name(py);
        }
        let function = self.function(py);
        let name = name_of(py, function.as_ref());
        door::release_some(py, function);
        name
    }

    /// The task's function, while the task may run (again).
    fn function(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        // SAFETY: attached, and the owner changes a payload only while attached, between calls into the
        // interpreter; a shared look at the function is therefore whole. A reference of the reader's own, since what
        // the reader asks the function may let the owner go on.
        unsafe { (*self.payload.get()).function.as_ref() }.map(|function| function.clone_ref(py))
    }

    /// What the text of a future says of its task: the name, and which attempt it is at.
    fn described(&self, py: Python<'_>) -> String {
        let given = self.options().is_some_and(|options| options.name.is_some());
        // Without an interpreter's lock nobody but the payload's owner may look at it.
        let knows = !cfg!(Py_GIL_DISABLED) && self.origin.is_some() && !self.word.is_done();
        let function = if knows && !given { self.function(py) } else { None };
        let mut text = String::new();
        if given || function.is_some() {
            let _ = write!(text, " task='{}'", self.name(py));
        }
        door::release_some(py, function);
        if knows && !self.word.is_done() {
            // SAFETY: as for the function.
            let attempts = unsafe { (*self.payload.get()).attempts };
            if attempts > 0 {
                let _ = write!(text, " attempt={attempts}");
            }
        }
        text
    }

    pub(super) fn options(&self) -> Option<&Options> {
        self.origin.as_ref()?.options.as_deref()
    }

    /// When the task's time is up.
    pub(super) fn due(&self) -> Option<Tick> {
        self.slot.lock().as_ref()?.due
    }

    /// Whether it is called without the resource.
    pub(super) fn is_bare(&self) -> bool {
        self.origin.as_ref().is_some_and(|origin| origin.core.get().bare)
    }

    fn is_forked(&self) -> bool {
        self.origin.as_ref().is_some_and(|origin| origin.core.get().engine.is_broken())
    }
}

/// The name of a task by its function, for people.
pub(super) fn name_of(py: Python<'_>, function: Option<&Py<PyAny>>) -> String {
    let Some(function) = function else {
        return String::from("task");
    };
    let name = match door::get_attribute(py, function, intern!(py, "__qualname__")) {
        Ok(name) => {
            let text = name.bind(py).cast::<PyString>().map(printable::name).ok();
            door::release(py, name);
            text
        }
        Err(missing) => {
            door::release(py, missing);
            None
        }
    };
    name.unwrap_or_else(|| {
        let class = function.bind(py).get_type().to_string();
        printable(&class, BOUND).into_owned()
    })
}

/// Allocates an instance of the Python class `Future` and puts the native part in its place.
///
/// Not `object.__new__`, which on 3.11 and 3.12 makes room for attributes that hardly any future gets, and
/// not a call of the class: both together cost more than everything else in a submit.
fn allocate(py: Python<'_>, native: Future) -> PyResult<Py<Future>> {
    static CLASS: PyOnceLock<(Py<PyType>, usize)> = PyOnceLock::new();
    let (class, offset) = CLASS.get_or_try_init(py, || {
        let class = py.import("tasker._future")?.getattr("Future")?.cast_into::<PyType>()?;
        let sample = class.call0()?.cast_into::<Future>()?;
        let offset = std::ptr::from_ref(sample.get()) as usize - sample.as_ptr() as usize;
        PyResult::Ok((class.unbind(), offset))
    })?;
    let class = class.as_ptr().cast::<ffi::PyTypeObject>();
    // SAFETY: a heap type, whose allocator is set and gives zeroed memory of the type's size, or null with an
    // exception.
    let object = unsafe { (*class).tp_alloc.map_or(std::ptr::null_mut(), |alloc| alloc(class, 0)) };
    // SAFETY: an owned reference or null.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, object) };
    let object = object.inspect_err(|_| {
        // The native part holds references: dropped by the caller's frame, attached.
    })?;
    // SAFETY: the native part of an instance of this class lies at this offset, as measured on an instance that
    // PyO3 made; PyO3's own header around it is empty for a frozen class without dict and weak references. The
    // memory is ours alone and uninitialised but for zeros.
    unsafe { object.as_ptr().byte_add(*offset).cast::<Future>().write(native) };
    // SAFETY: complete now.
    Ok(unsafe { object.cast_into_unchecked::<Future>() }.unbind())
}

/// Takes an object off the collector's list.
pub(super) fn untrack(object: &Py<PyAny>) {
    // On free-threaded builds it costs more than it saves.
    #[cfg(not(Py_GIL_DISABLED))]
    // SAFETY: a live object of a type that the collector knows.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.as_ptr().cast());
    }
    #[cfg(Py_GIL_DISABLED)]
    let _ = object;
}

/// Puts an object on the collector's list, if it is not there.
pub(super) fn track(object: &Py<PyAny>) {
    #[cfg(not(Py_GIL_DISABLED))]
    // SAFETY: a live and complete object of a type that the collector knows; attached, so nobody tracks it
    // between the look and the call.
    unsafe {
        if ffi::PyObject_GC_IsTracked(object.as_ptr()) == 0 {
            ffi::PyObject_GC_Track(object.as_ptr().cast());
        }
    }
    #[cfg(Py_GIL_DISABLED)]
    let _ = object;
}

#[pymethods]
impl Future {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "()")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::bare()
    }

    /// Makes a pending future. Runners make their own; this is for executors and tests.
    // Here so that the standard class's `__init__`, which makes a condition, does not run.
    #[expect(clippy::unused_self, reason = "Python's signature")]
    fn __init__(&self) {}

    /// Waits for the task and returns its result.
    #[pyo3(signature = (timeout = None))]
    pub(super) fn result(
        slf: &Bound<'_, Self>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let future = slf.get();
        if !future.word.is_done() {
            wait_for(slf, timeout)?;
        }
        match future.word.phase() {
            Phase::Cancelled => Err(cancelled()),
            _ => match future.outcome() {
                Outcome::Value(value) => Ok(value.clone_ref(py)),
                Outcome::Error(error) => {
                    settle::look(py, future);
                    Err(error::raise(py, error.clone_ref(py)))
                }
                Outcome::None => Ok(py.None()),
            },
        }
    }

    /// Waits for the task and returns what it raised, or `None`.
    #[pyo3(signature = (timeout = None))]
    fn exception(
        slf: &Bound<'_, Self>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let future = slf.get();
        if !future.word.is_done() {
            wait_for(slf, timeout)?;
        }
        match future.word.phase() {
            Phase::Cancelled => Err(cancelled()),
            _ => Ok(future.error(py)),
        }
    }

    /// Cancels the task if it has never started.
    pub(super) fn cancel(slf: &Bound<'_, Self>) -> bool {
        settle::cancel(slf)
    }

    /// Cancels the task if it has never started, else cancels its context.
    #[pyo3(signature = (reason = None))]
    pub(super) fn request_cancel(slf: &Bound<'_, Self>, reason: Option<String>) -> bool {
        if settle::cancel(slf) {
            return true;
        }
        let future = slf.get();
        if future.word.is_done() {
            return false;
        }
        settle::tell(future, reason);
        settle::call_off_retry(slf.py(), slf.as_unbound());
        true
    }

    /// Tells whether the task was cancelled before it started.
    fn cancelled(&self) -> bool {
        self.word.phase() == Phase::Cancelled
    }

    /// Tells whether the task has started and is not done.
    fn running(&self) -> bool {
        self.word.phase() == Phase::Running
    }

    /// Tells whether the task is finished or cancelled.
    fn done(&self) -> bool {
        self.word.is_done()
    }

    /// Has *fn* called with this future once it is done, at once if it is done already.
    #[pyo3(signature = (r#fn))]
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Py<PyAny>) {
        let py = slf.py();
        let future = slf.get();
        track(slf.as_any().as_unbound());
        let mut callback = Some(r#fn);
        settle::observe(future, |slot| {
            slot.callbacks.extend(callback.take().map(Callback::Function));
        });
        if let Some(callback) = callback {
            settle::look(py, future);
            settle::call_function(py, slf.as_unbound(), callback);
        }
    }

    /// Waits in asyncio without blocking the loop, and returns the task's result.
    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let (event_loop, outbox) = outbox::here(py, "a tasker.Future can be awaited")?;
        if !slf.get().word.is_done() && slf.get().is_forked() {
            return Err(error::RunnerBroken::new_err(error::FORKED));
        }
        let (promise, courier) = outbox::promise(slf, &outbox, &event_loop)?;
        track(slf.as_any().as_unbound());
        let mut courier = Some(courier);
        settle::observe(slf.get(), |slot| {
            slot.callbacks.extend(courier.take().map(Callback::Courier));
        });
        if let Some(courier) = courier {
            // Done already: no way round by the loop.
            settle::look(py, slf.get());
            courier.hand_over(py, slf.as_unbound());
        }
        promise.bind(py).call_method0(intern!(py, "__await__"))
    }

    /// Marks the future as running. For executors and tests.
    fn set_running_or_notify_cancel(&self) -> PyResult<bool> {
        match self.word.phase() {
            Phase::Cancelled => Ok(false),
            Phase::Waiting if self.origin.is_none() && self.word.claim_fresh() => Ok(true),
            _ => Err(PyRuntimeError::new_err("Future in unexpected state")),
        }
    }

    /// Settles the future with a result. For executors and tests.
    fn set_result(slf: &Bound<'_, Self>, result: Py<PyAny>) -> PyResult<()> {
        settle::by_hand(slf, Outcome::Value(result))
    }

    /// Settles the future with an exception. For executors and tests.
    fn set_exception(slf: &Bound<'_, Self>, exception: Option<Py<PyAny>>) -> PyResult<()> {
        let py = slf.py();
        settle::by_hand(slf, exception.map_or_else(|| Outcome::Value(py.None()), Outcome::Error))
    }

    pub(super) fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let (py, future) = (slf.py(), slf.get());
        let task = future.described(py);
        let state = match future.word.phase() {
            Phase::Waiting => "pending".to_owned(),
            Phase::Running => "running".to_owned(),
            Phase::Cancelled => "cancelled".to_owned(),
            Phase::Finished => match future.outcome() {
                Outcome::Value(value) => {
                    format!("finished returned {}", value.bind(py).get_type().name()?)
                }
                Outcome::Error(error) => {
                    format!("finished raised {}", error.bind(py).get_type().name()?)
                }
                Outcome::None => "finished returned NoneType".to_owned(),
            },
        };
        Ok(format!("<{} at {:p} state={state}{task}>", slf.get_type().name()?, slf.as_ptr()))
    }

    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        // An attribute can make it part of a cycle.
        track(slf.as_any().as_unbound());
        set_attribute(slf, name, value.as_ptr())
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>) -> PyResult<()> {
        set_attribute(slf, name, std::ptr::null_mut())
    }

    // ---- what others reach for in the standard class ------------------------------------------

    #[getter]
    fn _state(&self, py: Python<'_>) -> &'static str {
        if self.word.is_done() {
            settle::look(py, self);
        }
        self.state_name()
    }

    #[getter]
    #[pyo3(name = "_result")]
    fn value(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self.settled()? {
            Outcome::Value(value) => Some(value.clone_ref(py)),
            _ => None,
        }
    }

    #[getter]
    #[pyo3(name = "_exception")]
    fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self.settled()? {
            Outcome::Error(error) => {
                settle::look(py, self);
                Some(error.clone_ref(py))
            }
            _ => None,
        }
    }

    #[getter]
    fn _condition(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        settle::materialise(slf).map(|(condition, _)| condition)
    }

    #[getter]
    fn _waiters(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        settle::materialise(slf).map(|(_, waiters)| waiters)
    }

    #[getter]
    fn _done_callbacks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let slot = self.slot.lock();
        let callbacks = slot.as_ref().map(|slot| &slot.callbacks[..]).unwrap_or_default();
        let function = |callback: &Callback| match callback {
            Callback::Function(function) => Some(function.clone_ref(py)),
            Callback::Courier(_) => None,
        };
        callbacks.iter().filter_map(function).collect()
    }

    fn _invoke_callbacks(slf: &Bound<'_, Self>) {
        settle::call_back_all(slf.py(), slf.as_unbound());
    }

    fn _get_snapshot(&self, py: Python<'_>) -> (bool, bool, Option<Py<PyAny>>, Option<Py<PyAny>>) {
        let phase = self.word.phase();
        let done = matches!(phase, Phase::Finished | Phase::Cancelled);
        (done, phase == Phase::Cancelled, self.value(py), self.error(py))
    }

    // ---- the collector --------------------------------------------------------------------------

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs while no thread is between two calls into the interpreter with a cell
        // half-written: it holds the interpreter's lock, or has stopped the world.
        let (payload, outcome) = unsafe { (&*self.payload.get(), &*self.outcome.get()) };
        visit.call(&payload.function)?;
        visit.call(&payload.args)?;
        visit.call(&payload.kwargs)?;
        visit.call(payload.context.peek())?;
        if let Outcome::Value(object) | Outcome::Error(object) = outcome {
            visit.call(object)?;
        }
        // The slot's lock is only ever held by attached threads, for a few instructions without a call into
        // the interpreter: it is free here.
        if let Some(slot) = self.slot.try_lock()
            && let Some(slot) = slot.as_deref()
        {
            slot.traverse(visit)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        // What is garbage does not wait in a queue: its payload is gone, unless nobody can reach the task
        // any more. The outcome and the slot may be part of the cycle.
        let slot = self.slot.lock().take();
        drop(slot);
        if self.word.is_done() {
            // SAFETY: garbage: no other reference exists but the collector's.
            let outcome = unsafe { std::mem::take(&mut *self.outcome.get()) };
            drop(outcome);
        }
    }
}

fn set_attribute(
    slf: &Bound<'_, Future>,
    name: &Bound<'_, PyAny>,
    value: *mut ffi::PyObject,
) -> PyResult<()> {
    // SAFETY: live objects; a null value deletes.
    match unsafe { ffi::PyObject_GenericSetAttr(slf.as_ptr(), name.as_ptr(), value) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(slf.py())),
    }
}

fn cancelled() -> PyErr {
    // The standard's own class, as the standard's `cancel` promises; ours is for what a kill answers.
    error::CancelledError::new_err(())
}

/// Blocks until the task is done.
fn wait_for(slf: &Bound<'_, Future>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let (py, future) = (slf.py(), slf.get());
    let timeout = limit::standard(timeout)?;
    if timeout.is_none() && run_instead(slf) {
        return Ok(());
    }
    if future.is_forked() {
        return Err(error::RunnerBroken::new_err(error::FORKED));
    }
    if timeout.is_none()
        && let Some(origin) = &future.origin
    {
        let engine = &origin.core.get().engine;
        if super::host::seat::stands_still(py, engine) {
            // Its outcome has been asked for all the same.
            future.word.set(OBSERVED);
            return Err(PyRuntimeError::new_err(error::STANDSTILL));
        }
    }
    let limit = Limit::after(timeout);
    // Before it registers, which costs as much as the rest of a quick task.
    if wait::offer(py, limit, || future.word.is_done()) {
        return Ok(());
    }
    settle::observe(future, |slot| slot.waiters.push(thread::current()));
    let waited = wait::parked_until(py, limit, || future.word.is_done() || future.is_forked());
    if waited.is_ok() && future.word.is_done() {
        return Ok(());
    }
    stop_waiting(future);
    match waited {
        Ok(true) => Err(error::RunnerBroken::new_err(error::FORKED)),
        Ok(false) => Err(PyTimeoutError::new_err(())),
        // Even if the task is done by now: nobody else would hear of the interrupt.
        Err(interrupted) => Err(interrupted),
    }
}

/// A worker that waits without a limit for a task of its own runner runs it, if nobody has started it.
pub(super) fn run_instead(slf: &Bound<'_, Future>) -> bool {
    let future = slf.get();
    let Some(origin) = &future.origin else {
        return false;
    };
    let engine = &origin.core.get().engine;
    if future.word.phase() != Phase::Waiting {
        return false;
    }
    let task = super::host::Task::new(slf.clone().unbind());
    let run = |desk: &Desk<'_, _>| desk.serve_inside(slf.py(), &task, true);
    let ran = super::host::seat::desk_of(slf.py(), engine, run).unwrap_or(false);
    super::host::discard(slf.py(), task);
    ran
}

fn stop_waiting(future: &Future) {
    let me = thread::current().id();
    let mut slot = future.slot.lock();
    if let Some(slot) = slot.as_deref_mut()
        && let Some(place) = slot.waiters.iter().position(|waiter| waiter.id() == me)
    {
        slot.waiters.swap_remove(place);
    }
}
