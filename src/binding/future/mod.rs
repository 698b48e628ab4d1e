//! The native half of `Future`: a task's word, payload and outcome in one Python object.
//!
//! A waiting task *is* its future: the lanes hold handles on it, so a cancel frees function and
//! arguments at once, and a worker that would wait for it can run it instead. What only some
//! futures need (waiters, callbacks, the standard library's condition, a time limit) lies in a
//! [`FutureExtras`] made on first need.

mod arguments;
pub(super) mod draft;
pub(super) mod failures;
pub(super) mod freelist;
mod kept;
pub(super) mod loop_notifier;
mod methods;
pub(super) mod settle;
pub(super) mod unretrieved;
pub(super) mod waiting;
pub(super) mod waiting_submits;

pub(in crate::binding) use self::arguments::Arguments;
use self::failures::Failures;
use self::unretrieved::UnretrievedError;
use super::attached_cell::AttachedCell;
use super::callable;
use super::context::TaskContext;
use super::context::snapshot::Snapshot;
use super::engine_handle::EngineHandle;
use super::host::guarded_call;
use super::host::state::PyHost;
use super::host::task_record::TaskRecord;
use super::interrupt::call::CancelCall;
use super::options::{Asked, TaskOptions};
use super::shared_count;
use crate::binding::task_key::LineHold;
use crate::engine::Engine;
use crate::engine::clock::Tick;
use crate::engine::queue::permits::PermitWaiter;
use crate::engine::relay::Waiter;
use crate::engine::task::deadlines::DeadlineKey;
use crate::engine::task::key::KeyNumber;
use crate::engine::task::priority::Priority;
use crate::engine::task::token::Token;
use crate::engine::task::{BATCH, FAILED, JOINT, Phase, TOLD, TaskWord};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU32, Ordering};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyType};
use pyo3::{PyTraverseError, PyVisit, ffi};
use std::cell::UnsafeCell;
use std::fmt::Write as _;

#[doc = doc!(Future)]
#[pyclass(subclass, frozen, module = "tasker._tasker")]
pub(super) struct Future {
    pub(super) word: TaskWord,
    /// The number of its key.
    pub(super) key: KeyNumber,
    /// How many attempts have begun. Written by the thread that runs it; relaxed.
    attempts: AtomicU32,
    /// Owned by the thread that the word says: the submitter before the task is queued, then the
    /// thread that moves the word out of a waiting phase. Others look at the function alone, while
    /// attached; without an interpreter's lock they do so, and the owner lets go of it, while no other
    /// thread looks into the extras.
    payload: UnsafeCell<Payload>,
    /// Owned by the thread that moved the word to settling; shared and constant once the word says
    /// finished. What it is, a value or an error, the word tells: a mark here would be another word.
    outcome: UnsafeCell<Option<Py<PyAny>>>,
    pub(super) extras: AttachedCell<Option<Box<FutureExtras>>>,
    /// Where the task came from; `None` for a future that no runner made.
    pub(super) origin: Option<Origin>,
}

// SAFETY: the two cells are guarded by the word as their documentation says; the word's moves
// acquire and release. Everything else is `Sync` by itself.
unsafe impl Sync for Future {}

/// What runs: let go of as soon as it will not run (again).
#[derive(Default)]
pub(super) struct Payload {
    pub(super) function: Option<Py<PyAny>>,
    pub(super) args: Arguments,
    /// It runs in a copy of this, if the word says that it has a context of its own: a mark here would
    /// be another word.
    pub(super) context: Snapshot,
}

impl Payload {
    /// Makes it one that another thread lets go of. A plain function is mostly there for long, and
    /// that of many tasks: its halves are merged once at most.
    fn hand_over(self, py: Python<'_>) -> Self {
        let is_plain = |function: &Py<PyAny>| callable::is_plain_function(function);
        let hand_over = |function| shared_count::hand_over(py, function);
        Self {
            function: self.function.map(|it| if is_plain(&it) { it } else { hand_over(it) }),
            args: self.args.hand_over(py),
            context: self.context.hand_over(py),
        }
    }
}

/// Where a task came from. Constant.
pub(super) struct Origin {
    pub(super) handle: Py<EngineHandle>,
    /// `None`: the runner's defaults.
    pub(super) options: Option<Arc<TaskOptions>>,
}

/// How a task ended.
pub(super) enum Outcome<T = Py<PyAny>> {
    None,
    Value(T),
    Error(T),
}

/// What only some futures need.
#[derive(Default)]
pub(super) struct FutureExtras {
    pub(super) result_waiters: Vec<Arc<Waiter>>,
    pub(super) callbacks: Vec<Callback>,
    pub(super) standard: Option<StandardParts>,
    /// What `current_context()` gave the task, and the token in it.
    pub(super) context: Option<(Token, Py<TaskContext>)>,
    /// What interrupts the attempt, where the config's `on_cancel` does.
    pub(super) call: Option<Arc<CancelCall>>,
    /// Why the task was told to give up.
    pub(super) reason: Option<Arc<str>>,
    /// When its time is up, and the watch on it.
    pub(super) due: Option<Tick>,
    pub(super) deadline_key: Option<DeadlineKey>,
    /// Where it stands while it waits for room.
    pub(super) permit_waiter: Option<Arc<PermitWaiter>>,
    /// Keeps the line of its key until it is let in.
    pub(super) line_hold: Option<LineHold>,
    /// The error of the last attempt, while it is judged or a retry waits.
    pub(super) last_error: Option<Py<PyAny>>,
    /// What is known of failures on a good resource, after which it is tried again.
    pub(super) failures: Option<Box<Failures>>,
    /// What the user's `on_event` is told of the task.
    pub(super) record: Option<Box<TaskRecord>>,
    /// The task's own exception, until a reader asks for it.
    pub(super) unretrieved: Option<Py<UnretrievedError>>,
}

/// What is to be done with a task that is done, in the order in which it was asked for.
pub(super) enum Callback {
    /// Call this.
    Function(Py<PyAny>),
    /// Tell this one of ours.
    Native(Box<dyn Observer>),
}

/// What the standard library looks at in a future.
pub(super) struct StandardParts {
    /// A `threading.Condition`.
    pub(super) condition: Py<PyAny>,
    pub(super) waiters: Py<PyList>,
}

impl StandardParts {
    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { condition: self.condition.clone_ref(py), waiters: self.waiters.clone_ref(py) }
    }
}

/// What learns of the end of a task without being a function of Python's.
pub(super) trait Observer: Send + Sync {
    /// The task is done.
    fn task_done(self: Box<Self>, py: Python<'_>, future: &Py<Future>);

    /// Shows the collector what it holds.
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError>;
}

impl FutureExtras {
    pub(super) fn traverse(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for callback in &self.callbacks {
            match callback {
                Callback::Function(function) => visit.call(function)?,
                Callback::Native(observer) => observer.traverse(&visit)?,
            }
        }
        if let Some(StandardParts { condition, waiters }) = &self.standard {
            visit.call(condition)?;
            visit.call(waiters)?;
        }
        if let Some((_, context)) = &self.context {
            visit.call(context)?;
        }
        if let Some(record) = &self.record {
            record.traverse(&visit)?;
        }
        visit.call(&self.unretrieved)?;
        visit.call(&self.last_error)
    }
}

impl Future {
    fn bare() -> Self {
        Self {
            word: TaskWord::new(Priority::Normal, 0),
            key: KeyNumber::NONE,
            attempts: AtomicU32::new(0),
            payload: UnsafeCell::default(),
            outcome: UnsafeCell::default(),
            extras: AttachedCell::new(None),
            origin: None,
        }
    }

    /// Makes a bare future of one that only the caller holds.
    pub(super) fn clear(_py: Python<'_>, object: &Py<Self>) {
        // SAFETY: no other code has a reference to the object.
        unsafe { *Self::native(object) = Self::bare() };
    }

    /// Makes a future of a bare one that only the caller holds. What is bare has nothing to drop.
    pub(super) fn fill(_py: Python<'_>, object: &Py<Self>, native: Self) {
        // SAFETY: as above.
        unsafe { Self::native(object).write(native) };
    }

    /// The native part of an object, by the object's own pointer.
    fn native(object: &Py<Self>) -> *mut Self {
        let place = object.as_ptr();
        let offset = std::ptr::from_ref(object.get()) as usize - place as usize;
        // SAFETY: it lies within the object.
        unsafe { place.byte_add(offset).cast() }
    }

    /// The batch that this is the ticket of.
    pub(super) fn batch(&self) -> Option<&Py<PyAny>> {
        // SAFETY: the payload of a ticket does not change.
        let function = || unsafe { (*self.payload.get()).function.as_ref() };
        if self.word.has(BATCH) { function() } else { None }
    }

    /// The function of a task of a batcher, for the owner of its payload; `None` once that is
    /// dropped.
    pub(super) fn joint_function(&self) -> Option<&Py<PyAny>> {
        // SAFETY: the caller owns the payload, or looks while attached at what changes in a single
        // step, as in `function`.
        let function = || unsafe { (*self.payload.get()).function.as_ref() };
        if self.word.has(JOINT) { function() } else { None }
    }

    /// The payload, for its owner.
    #[expect(clippy::mut_from_ref, reason = "the word stands for the lock")]
    pub(super) unsafe fn payload(&self) -> &mut Payload {
        // SAFETY: the caller owns the payload, as the word's documentation defines it.
        unsafe { &mut *self.payload.get() }
    }

    /// How many attempts have begun.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// Notes how many attempts have begun, for the thread that runs it.
    pub(super) fn set_attempts(&self, attempts: u32) {
        self.attempts.store(attempts, Ordering::Relaxed);
    }

    /// Lets go of the payload.
    pub(super) unsafe fn drop_payload(&self, py: Python<'_>) {
        // SAFETY: the caller owns the payload; another thread may look at the function, but not while
        // this one looks into the extras.
        let mut payload = self.extras.with(py, |_| std::mem::take(unsafe { self.payload() }));
        guarded_call::release_some(py, payload.function);
        payload.args.release(py);
        payload.context.release(py);
    }

    /// Writes the outcome, for its owner.
    pub(super) unsafe fn set_outcome(&self, py: Python<'_>, outcome: Outcome) {
        let object = match outcome {
            Outcome::None => None,
            Outcome::Value(value) => Some(value),
            Outcome::Error(error) => {
                self.word.set(FAILED);
                Some(error)
            }
        };
        let object = object.map(|object| shared_count::hand_over(py, object));
        // SAFETY: the caller moved the word to settling, so no other thread reads or writes this
        // now.
        unsafe { *self.outcome.get() = object };
    }

    /// The outcome of a finished task.
    pub(super) fn outcome(&self) -> Outcome<&Py<PyAny>> {
        debug_assert!(self.word.phase() == Phase::Finished);
        // SAFETY: finished, so the outcome is constant until the object dies.
        match unsafe { (*self.outcome.get()).as_ref() } {
            Some(error) if self.word.has(FAILED) => Outcome::Error(error),
            Some(value) => Outcome::Value(value),
            None => Outcome::None,
        }
    }

    /// The outcome, if it has one.
    pub(super) fn settled(&self) -> Option<Outcome<&Py<PyAny>>> {
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
        self.with_asked(py, |asked| asked.name(py))
    }

    /// Calls `look` with the task as it was asked for, as far as that is still known.
    pub(super) fn with_asked<T>(&self, py: Python<'_>, look: impl FnOnce(Asked<'_>) -> T) -> T {
        let options = self.options();
        let is_named = options.is_some_and(|options| options.name.is_some());
        let function = if is_named { None } else { self.function(py) };
        let seen = look(Asked { function: function.as_ref(), options });
        guarded_call::release_some(py, function);
        seen
    }

    /// The task's function, while the task may run (again).
    fn function(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        // SAFETY: the owner lets go of a payload only while no other thread looks into the extras; a
        // shared look at the function is therefore whole.
        let function = || unsafe { (*self.payload.get()).function.as_ref() };
        // A reference of the reader's own, since what the reader asks the function may let the owner
        // go on.
        self.extras.with(py, |_| function().map(|function| function.clone_ref(py)))
    }

    /// What its text is, for people.
    pub(super) fn shown(slf: &Bound<'_, Self>) -> PyResult<String> {
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

    /// What the text of a future says of its task: the name, and which attempt it is at.
    fn described(&self, py: Python<'_>) -> String {
        let given = self.options().is_some_and(|options| options.name.is_some());
        let knows = self.origin.is_some() && !self.word.is_done();
        let function = if knows && !given { self.function(py) } else { None };
        let mut text = String::new();
        if given || function.is_some() {
            let _ = write!(text, " task='{}'", self.name(py));
        }
        guarded_call::release_some(py, function);
        let attempts = self.attempts();
        if attempts > 0 && self.origin.is_some() && !self.word.is_done() {
            let _ = write!(text, " attempt={attempts}");
        }
        text
    }

    /// The engine that it is for, if a runner made it.
    pub(super) fn engine(&self) -> Option<&Arc<Engine<PyHost>>> {
        self.origin.as_ref().map(|origin| &origin.handle.get().engine)
    }

    pub(super) fn options(&self) -> Option<&TaskOptions> {
        self.origin.as_ref()?.options.as_deref()
    }

    /// Calls `act` with the extras, made now if need be. It must not call into the interpreter.
    pub(super) fn with_extras<T>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&mut FutureExtras) -> T,
    ) -> T {
        self.extras.with(py, |extras| act(extras.get_or_insert_default()))
    }

    /// Notes what the user's `on_event` is told of a task that no other thread knows of yet.
    #[cold]
    pub(super) fn set_record(&self, py: Python<'_>, record: TaskRecord) {
        self.word.set(TOLD);
        self.with_extras(py, |extras| extras.record = Some(Box::new(record)));
    }

    /// What `get` finds in the extras, or takes out, if there are any. It must not call into the
    /// interpreter.
    pub(super) fn extra<T>(
        &self,
        py: Python<'_>,
        get: impl FnOnce(&mut FutureExtras) -> Option<T>,
    ) -> Option<T> {
        self.extras.with(py, |extras| extras.as_deref_mut().and_then(get))
    }

    /// What the attempt before this one raised, or this one while that is judged.
    pub(super) fn last_error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.extra(py, |extras| Some(extras.last_error.as_ref()?.clone_ref(py)))
    }

    pub(super) fn take_last_error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.extra(py, |extras| extras.last_error.take())
    }

    /// When the task's time is up.
    pub(super) fn due(&self, py: Python<'_>) -> Option<Tick> {
        self.extra(py, |extras| extras.due)
    }

    /// Whether it is called without the resource.
    pub(super) fn is_bare(&self) -> bool {
        self.origin.as_ref().is_some_and(|origin| origin.handle.get().bare)
    }

    /// The time limit that holds for it, in seconds.
    pub(super) fn time_limit(&self) -> f64 {
        let own = self.options().and_then(|options| options.timeout);
        let common = || self.origin.as_ref()?.handle.get().task_timeout;
        own.or_else(common).unwrap_or(f64::INFINITY)
    }

    pub(super) fn is_forked(&self) -> bool {
        self.engine().is_some_and(|engine| engine.is_broken())
    }
}

/// Allocates an instance of the Python class `Future` and puts the native part in its place.
///
/// Not `object.__new__`, which on 3.11 and 3.12 makes room for attributes that hardly any future
/// gets, and not a call of the class: this buys 13 % of the row *Bulk* (838 ns a task, 960 with the
/// call) and 23 % behind 100,000 tasks that wait, measured on CPython 3.11.
fn allocate(py: Python<'_>, native: Future) -> PyResult<Py<Future>> {
    static CLASS: PyOnceLock<(Py<PyType>, usize)> = PyOnceLock::new();
    let (class, offset) = CLASS.get_or_try_init(py, || {
        let class = py.import("tasker._future")?.getattr("Future")?.cast_into::<PyType>()?;
        let sample = class.call0()?.cast_into::<Future>()?;
        let offset = std::ptr::from_ref(sample.get()) as usize - sample.as_ptr() as usize;
        PyResult::Ok((class.unbind(), offset))
    })?;
    let class = class.as_ptr().cast::<ffi::PyTypeObject>();
    // SAFETY: a heap type, whose allocator is set and gives zeroed memory of the type's size, or
    // null with an exception.
    let object = unsafe { (*class).tp_alloc.map_or(std::ptr::null_mut(), |alloc| alloc(class, 0)) };
    // SAFETY: an owned reference or null.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, object) };
    let object = object.inspect_err(|_| {
        // The native part holds references: dropped by the caller's frame, attached.
    })?;
    // SAFETY: the native part of an instance of this class lies at this offset, as measured on an
    // instance that PyO3 made; PyO3's own header around it is empty for a frozen class without dict
    // and weak references. The memory is ours alone and uninitialised but for zeros.
    unsafe { object.as_ptr().byte_add(*offset).cast::<Future>().write(native) };
    // SAFETY: complete now.
    Ok(unsafe { object.cast_into_unchecked::<Future>() }.unbind())
}
