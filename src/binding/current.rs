//! What this thread does at the moment: at which session it works, and what it runs.
//!
//! Everything here belongs to one thread. The session and the task are borrowed from frames further
//! down this thread's own stack, set and restored around each run.

use super::host::state::PyHost;
use super::host::{guarded_call, interruption};
use super::interrupt::call::CancelCall;
use super::log::{self, Level, Logger};
use super::wakes;
use crate::engine::Engine;
use crate::engine::clock::Tick;
use crate::engine::worker::session::WorkerSession;
use crate::sync::Arc;
use pyo3::prelude::*;
use std::cell::Cell;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

thread_local! {
    static CURRENT: CurrentThread = const { CurrentThread::new() };
}

/// See the module's documentation. One variable, for every look at one costs a call in a shared
/// library.
pub(super) struct CurrentThread {
    engine_frame: Cell<*const EngineFrame>,
    session_frame: Cell<*const SessionFrame>,
    task: Cell<*mut pyo3::ffi::PyObject>,
    /// The function of that task, of its item, or the hook that is asked about the resource: what
    /// uses it at the moment.
    function: Cell<*mut pyo3::ffi::PyObject>,
    /// The item of a batch that this thread runs, `task` being the batch's ticket.
    item: Cell<*const ()>,
    /// Where an interrupt of a hook is kept for the caller whose thread this is.
    borrower: Cell<*const HookInterrupt>,
    /// The function run last, only compared, and since when a wake-up is put off for its sake.
    run: Cell<(*const pyo3::ffi::PyObject, Tick)>,
}

/// An exception that came inside a hook in the thread of a caller.
type HookInterrupt = Cell<Option<Py<PyAny>>>;

/// An engine that this thread works for, and the one it is called away from.
struct EngineFrame {
    /// Only compared, never followed.
    engine: *const Engine<PyHost>,
    /// The number of the call of `on_event` that runs; 0: another reason.
    telling: u64,
    outer: *const EngineFrame,
}

/// A session this thread works at, and the one it was called away from.
struct SessionFrame {
    session: *const (),
    outer: *const SessionFrame,
    /// What interrupts the attempt there, where the config's `on_cancel` does. A pointer that the
    /// attempt which set it keeps alive: nothing is to be dropped after every task.
    call: Cell<*const CancelCall>,
}

impl SessionFrame {
    fn session(&self) -> &WorkerSession<'_, PyHost> {
        // SAFETY: the function that made the frame borrows the session.
        unsafe { &*self.session.cast() }
    }
}

/// Runs `work` with another value in the cell.
fn within<V, T>(cell: &Cell<V>, value: V, work: impl FnOnce() -> T) -> T {
    let outer = cell.replace(value);
    let result = work();
    cell.set(outer);
    result
}

/// Calls `work` with what is known of this thread.
pub(super) fn with<T>(work: impl FnOnce(&CurrentThread) -> T) -> T {
    CURRENT.with(work)
}

impl CurrentThread {
    const fn new() -> Self {
        Self {
            engine_frame: Cell::new(ptr::null()),
            session_frame: Cell::new(ptr::null()),
            task: Cell::new(ptr::null_mut()),
            function: Cell::new(ptr::null_mut()),
            borrower: Cell::new(ptr::null()),
            item: Cell::new(ptr::null()),
            run: Cell::new((ptr::null(), 0)),
        }
    }

    /// Runs `work` with this thread in a session.
    pub(super) fn at_session<T>(
        &self,
        session: &WorkerSession<'_, PyHost>,
        work: impl FnOnce() -> T,
    ) -> T {
        let outer = self.session_frame.get();
        let session_frame = SessionFrame {
            session: ptr::from_ref(session).cast(),
            outer,
            call: Cell::new(ptr::null()),
        };
        let put_off = wakes::put_off(true);
        let result = within(&self.session_frame, &raw const session_frame, work);
        wakes::put_off(put_off);
        result
    }

    /// Says what interrupts the attempt at the session that this thread works at.
    /// Set back to none before the call is let go of.
    pub(super) fn set_call(&self, call: Option<&Arc<CancelCall>>) {
        // SAFETY: set by `at_session` on this thread, whose frame is still below us.
        if let Some(session_frame) = unsafe { self.session_frame.get().as_ref() } {
            session_frame.call.set(call.map_or(ptr::null(), Arc::as_ptr));
        }
    }

    /// The frames of the sessions that this thread works at, the innermost first.
    fn session_frames(&self) -> impl Iterator<Item = &SessionFrame> {
        // SAFETY: set by `at_session` on this thread: its stack frame and the outer ones are still
        // below us.
        let innermost = unsafe { self.session_frame.get().as_ref() };
        // SAFETY: as above.
        iter::successors(innermost, |frame| unsafe { frame.outer.as_ref() })
    }

    /// What interrupts the attempt around the one at this session, on the same resource.
    pub(super) fn outer_call(
        &self,
        session: &WorkerSession<'_, PyHost>,
    ) -> Option<Arc<CancelCall>> {
        let is_its = |frame: &&SessionFrame| {
            !frame.call.get().is_null() && Arc::ptr_eq(frame.session().worker, session.worker)
        };
        let call = self.session_frames().skip(1).find(is_its)?.call.get();
        // SAFETY: `set_call` got it from an `Arc` that is alive until it is set back.
        Some(unsafe {
            Arc::increment_strong_count(call);
            Arc::from_raw(call)
        })
    }

    /// Runs `work` with this thread inside a task with its function, or inside none.
    pub(super) fn inside_task<T>(
        &self,
        task: Option<(&Py<PyAny>, *mut pyo3::ffi::PyObject)>,
        work: impl FnOnce() -> T,
    ) -> T {
        let (task, function) =
            task.map_or((ptr::null_mut(), ptr::null_mut()), |(task, f)| (task.as_ptr(), f));
        within(&self.task, task, || {
            within(&self.function, function, || within(&self.item, ptr::null(), work))
        })
    }

    /// Runs `work` with this thread inside items of a batch, of which `current` tells which.
    pub(super) fn inside_item<I, T>(
        &self,
        ticket: &Py<PyAny>,
        function: &Py<PyAny>,
        current: &I,
        work: impl FnOnce() -> T,
    ) -> T {
        self.inside_task(Some((ticket, function.as_ptr())), || {
            self.item.set(ptr::from_ref(current).cast());
            work()
        })
    }

    /// Runs `work` with this thread working for an engine.
    fn working_for<T>(
        &self,
        engine: &Arc<Engine<PyHost>>,
        telling: u64,
        work: impl FnOnce() -> T,
    ) -> T {
        let outer = self.engine_frame.get();
        let engine_frame = EngineFrame { engine: Arc::as_ptr(engine), telling, outer };
        within(&self.engine_frame, &raw const engine_frame, work)
    }

    /// Runs `work` with this thread inside a hook that uses the resource of the session.
    pub(super) fn inside_hook<T>(&self, hook: &Py<PyAny>, work: impl FnOnce() -> T) -> T {
        within(&self.function, hook.as_ptr(), work)
    }

    /// Wakes the threads that this one has yet to wake, before it runs a function that may take
    /// long.
    ///
    /// A function that took a few microseconds just now is taken to be quick again, and the wake-up
    /// is put off to the end of a short run of such tasks. That saves half of all system calls, and
    /// serves twice as many callers that wait for each task. When the guess is wrong, the waiting
    /// threads look for themselves (see [`wait`](super::wait)).
    pub(super) fn wake_before(
        &self,
        function: *const pyo3::ffi::PyObject,
        session: &WorkerSession<'_, PyHost>,
    ) {
        const WAKE_DEFERRAL: Tick = 50_000;
        if !wakes::are_pending() {
            self.run.set((function, 0));
            return;
        }
        let (before, since) = self.run.get();
        let put_off = match session.last_run() {
            Some((now, took)) if before == function && took < QUICK_TASK => {
                let since = if since == 0 { now } else { since };
                self.run.set((function, since));
                now - since < WAKE_DEFERRAL
            }
            _ => false,
        };
        if !put_off {
            self.run.set((function, 0));
            wakes::wake_now();
        }
    }
}

/// A task that takes no longer than this is quick: the thread that waits for it may as well wait
/// for a few of its like.
pub(super) const QUICK_TASK: Tick = 10_000;

/// Runs `work` with this thread inside no task, wherever the call comes from.
pub(super) fn outside_tasks<T>(work: impl FnOnce() -> T) -> T {
    with(|this_thread| this_thread.inside_task(None, work))
}

/// Calls `look` with the item of a batch that this thread runs, if that is what it runs.
///
/// # Safety
///
/// `I` is what `inside_item` is called with everywhere.
pub(super) unsafe fn item<I, T>(look: impl FnOnce(&I) -> T) -> Option<T> {
    let item = with(|this_thread| this_thread.item.get()).cast::<I>();
    // SAFETY: set by `inside_item` on this thread, whose frame is still below us and borrows it.
    unsafe { item.as_ref() }.map(look)
}

/// Whether the engine of the session that this thread works at was killed.
pub(super) fn is_killed() -> bool {
    session(|session| session.engine.is_killed() && !session.engine.is_left_by_fork()) == Some(true)
}

/// Calls `look` with the session this thread works at, if any.
pub(super) fn session<T>(look: impl FnOnce(&WorkerSession<'_, PyHost>) -> T) -> Option<T> {
    nearest_session(|_| true, look)
}

/// Calls `look` with the nearest session of an engine that this thread works at: a runner's
/// resource may be lent to a task of another's, and each task is to meet a resource of its own
/// runner. An interruption, which came in the middle of what is done at that session, finds none:
/// its resource may be in the middle of anything.
pub(super) fn session_of<T>(
    py: Python<'_>,
    engine: &Arc<Engine<PyHost>>,
    look: impl FnOnce(&WorkerSession<'_, PyHost>) -> T,
) -> Option<T> {
    nearest_session(is_of(engine), |session| (!is_interruption(py)).then(|| look(session)))?
}

/// [`session_of`] for a call that has asked whether there is one.
pub(super) fn same_session_of<T>(
    engine: &Arc<Engine<PyHost>>,
    look: impl FnOnce(&WorkerSession<'_, PyHost>) -> T,
) -> Option<T> {
    nearest_session(is_of(engine), look)
}

fn is_of(engine: &Arc<Engine<PyHost>>) -> impl Fn(&WorkerSession<'_, PyHost>) -> bool {
    |session| Arc::ptr_eq(session.engine, engine)
}

/// Whether the present call comes in the middle of what uses the resource, without being part of
/// it. Between a task's end and the next begin nothing does: a finalizer of the task's arguments,
/// say, may have it.
fn is_interruption(py: Python<'_>) -> bool {
    let function = with(|this_thread| this_thread.function.get());
    // SAFETY: set by `inside_task` or `inside_hook` on this thread, whose caller keeps the function
    // alive meanwhile.
    let function = unsafe { Bound::from_borrowed_ptr_or_opt(py, function) };
    function.is_some_and(|function| interruption::has_interruption(py, &function))
}

/// Whether a wait of this thread for a task of this engine might never end: it is a worker of it,
/// whose resource is not to be had, and no other thread may be left to run the task.
pub(super) fn would_deadlock(py: Python<'_>, engine: &Arc<Engine<PyHost>>) -> bool {
    works_for(engine)
        && session_of(py, engine, |_| ()).is_none()
        // A lent resource keeps no worker from running what is queued.
        && nearest_session(|session| is_of(engine)(session) && session.is_on_loan(), |_| ()).is_none()
}

fn nearest_session<T>(
    is: impl Fn(&WorkerSession<'_, PyHost>) -> bool,
    look: impl FnOnce(&WorkerSession<'_, PyHost>) -> T,
) -> Option<T> {
    with(|this_thread| {
        this_thread
            .session_frames()
            .map(SessionFrame::session)
            .find(|session| is(session))
            .map(look)
    })
}

/// Runs `work` with this thread working for an engine, all its life or for once: what is called
/// inside must not wait for the engine's end.
pub(super) fn on_behalf<T>(engine: &Arc<Engine<PyHost>>, work: impl FnOnce() -> T) -> T {
    with(|this_thread| this_thread.working_for(engine, 0, work))
}

/// [`on_behalf`] for a call of the engine's `on_event`, by its number.
pub(super) fn telling<T>(engine: &Arc<Engine<PyHost>>, call: u64, work: impl FnOnce() -> T) -> T {
    with(|this_thread| this_thread.working_for(engine, call, work))
}

/// The calls of the engine's `on_event` that this thread is in, the innermost first.
pub(super) fn telling_calls(engine: &Engine<PyHost>) -> impl Iterator<Item = u64> {
    frames_of(engine).map(|frame| frame.telling).filter(|call| *call != 0)
}

/// Whether this thread works for this engine: a wait for its end would be a wait for itself.
pub(super) fn works_for(engine: &Arc<Engine<PyHost>>) -> bool {
    frames_of(engine).next().is_some() || same_session_of(engine, |_| ()).is_some()
}

fn frames_of(engine: &Engine<PyHost>) -> impl Iterator<Item = &EngineFrame> {
    // SAFETY: set by `working_for` on this thread: its frame and those of the outer ones are still
    // below us.
    let innermost = unsafe { with(|this_thread| this_thread.engine_frame.get()).as_ref() };
    // SAFETY: as above.
    iter::successors(innermost, |frame| unsafe { frame.outer.as_ref() })
        .filter(|frame| ptr::eq(frame.engine, engine))
}

/// Runs `work`, which serves a task with a lent resource, in the thread of the caller. Gives what
/// interrupted a hook meanwhile beside.
pub(super) fn as_borrower<T>(
    engine: &Arc<Engine<PyHost>>,
    work: impl FnOnce() -> T,
) -> (T, Option<Py<PyAny>>) {
    let interrupt = HookInterrupt::new(None);
    let result = with(|this_thread| {
        let work = || this_thread.working_for(engine, 0, work);
        within(&this_thread.borrower, &raw const interrupt, work)
    });
    (result, interrupt.into_inner())
}

/// Keeps what interrupted a hook for the caller whose thread this is. Where there is no such
/// caller, and where it was no interrupt, it comes back.
fn interrupt_borrower(py: Python<'_>, error: Py<PyAny>) -> Result<(), Py<PyAny>> {
    // SAFETY: set by `as_borrower` on this thread, whose frame is still below us.
    let Some(borrower) = (unsafe { with(|this_thread| this_thread.borrower.get()).as_ref() })
    else {
        return Err(error);
    };
    if !interruption::raised(py, &error) {
        return Err(error);
    }
    guarded_call::release_some(py, borrower.replace(Some(error)));
    Ok(())
}

/// The task that this thread runs.
pub(super) fn task(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    let task = with(|this_thread| this_thread.task.get());
    if task.is_null() {
        return None;
    }
    // SAFETY: set by `inside_task` on this thread from a live handle that outlasts it.
    Some(unsafe { Bound::from_borrowed_ptr(py, task) })
}

/// Logs what a callback raised, with the name of the worker that this thread is, and drops it.
pub(super) fn callback_failed(py: Python<'_>, logger: &Logger, what: &str, error: Py<PyAny>) {
    let worker = session(|session| session.worker.name().to_owned());
    log::hook_failed(py, logger, worker.as_deref(), what, error);
}

/// Reports what a hook raised: to the caller in whose thread it was interrupted, or to the log.
pub(super) fn hook_failed(
    py: Python<'_>,
    host: &PyHost,
    worker: &str,
    what: &str,
    error: Py<PyAny>,
) {
    if let Err(error) = interrupt_borrower(py, error) {
        log::hook_failed(py, &host.logger, Some(worker), what, error);
    }
}

/// Runs the life of a thread that works for an engine. A panic of our own breaks the runner,
/// visibly, and nothing else.
pub(super) fn live_for(py: Python<'_>, engine: &Arc<Engine<PyHost>>, life: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| on_behalf(engine, life))) {
        engine.break_down(py);
        let reason = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| String::from("unknown"));
        let text = format!(
            "{}: internal fault, the runner is broken; please report this: {reason}",
            engine.host.name
        );
        log::say(py, &engine.host.logger, Level::Error, &text, None, None);
    }
    wakes::wake_now();
}
