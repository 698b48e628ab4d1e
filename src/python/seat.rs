//! Where this thread stands: at which desk it works, what it runs, whom it has yet to wake.
//!
//! Everything here belongs to one thread. The desk and the task are borrowed from frames further down this
//! thread's own stack, set and restored around each run.

use super::future::Future;
use super::host::PyHost;
use crate::engine::Engine;
use crate::engine::clock::Tick;
use crate::engine::worker::Desk;
use crate::sync::Arc;
use crate::sync::thread::Thread;
use pyo3::prelude::*;
use std::cell::{Cell, RefCell};
use std::ptr;

thread_local! {
    /// The engine whose worker or keeper this thread is, or whose kill it carries out. Only compared, never followed.
    static EMPLOYER: Cell<*const Engine<PyHost>> = const { Cell::new(ptr::null()) };
    static PLACE: Cell<*const Place> = const { Cell::new(ptr::null()) };
    static TASK: Cell<*mut pyo3::ffi::PyObject> = const { Cell::new(ptr::null_mut()) };
    /// The function run last, only compared, and since when a wake-up is put off for its sake.
    static RUN: Cell<(*const pyo3::ffi::PyObject, Tick)> = const { Cell::new((ptr::null(), 0)) };
    static WAKES: RefCell<Vec<Thread>> = const { RefCell::new(Vec::new()) };
}

/// A desk this thread works at, and the one it was called away from.
struct Place {
    desk: *const (),
    outer: *const Place,
}

/// Runs `work` with this thread at a desk.
pub(super) fn at_desk<T>(desk: &Desk<'_, PyHost>, work: impl FnOnce() -> T) -> T {
    let outer = PLACE.get();
    let place = Place { desk: ptr::from_ref(desk).cast(), outer };
    PLACE.set(&raw const place);
    let result = work();
    PLACE.set(outer);
    result
}

/// Runs `work` with this thread inside a task, or inside none.
pub(super) fn inside_task<T>(task: Option<&Py<Future>>, work: impl FnOnce() -> T) -> T {
    let outer = TASK.replace(task.map_or(ptr::null_mut(), Py::as_ptr));
    let result = work();
    TASK.set(outer);
    result
}

/// Calls `look` with the desk this thread works at, if any.
pub(super) fn desk<T>(look: impl FnOnce(&Desk<'_, PyHost>) -> T) -> Option<T> {
    nearest_desk(|_| true, look)
}

/// Calls `look` with the nearest desk of an engine that this thread works at: a runner's resource may be lent to a
/// task of another's, and each task is to meet a resource of its own runner.
pub(super) fn desk_of<T>(
    engine: &Arc<Engine<PyHost>>,
    look: impl FnOnce(&Desk<'_, PyHost>) -> T,
) -> Option<T> {
    nearest_desk(|desk| Arc::ptr_eq(desk.engine(), engine), look)
}

fn nearest_desk<T>(
    is: impl Fn(&Desk<'_, PyHost>) -> bool,
    look: impl FnOnce(&Desk<'_, PyHost>) -> T,
) -> Option<T> {
    // SAFETY: set by `at_desk` on this thread: its frame and those of the outer places are still below us.
    let mut place = unsafe { PLACE.get().as_ref() };
    while let Some(Place { desk, outer }) = place {
        // SAFETY: the frame that made the place borrows the desk.
        let desk = unsafe { &*desk.cast::<Desk<'_, PyHost>>() };
        if is(desk) {
            return Some(look(desk));
        }
        // SAFETY: as above.
        place = unsafe { outer.as_ref() };
    }
    None
}

/// Says that this thread belongs to an engine.
pub(super) fn employ(engine: &Arc<Engine<PyHost>>) {
    EMPLOYER.set(Arc::as_ptr(engine));
}

/// Runs `work` as if this thread belonged to an engine: callbacks inside must not wait for its end.
pub(super) fn on_behalf<T>(engine: &Arc<Engine<PyHost>>, work: impl FnOnce() -> T) -> T {
    let before = EMPLOYER.replace(Arc::as_ptr(engine));
    let result = work();
    EMPLOYER.set(before);
    result
}

/// Whether this thread works for this engine: a wait for its end would be a wait for itself.
pub(super) fn works_for(engine: &Arc<Engine<PyHost>>) -> bool {
    ptr::eq(EMPLOYER.get(), Arc::as_ptr(engine)) || desk_of(engine, |_| ()).is_some()
}

/// The task that this thread runs.
pub(super) fn task(py: Python<'_>) -> Option<Bound<'_, Future>> {
    let task = TASK.get();
    if task.is_null() {
        return None;
    }
    // SAFETY: set by `inside_task` on this thread from a live handle that outlasts it.
    let task = unsafe { Bound::from_borrowed_ptr(py, task) };
    task.cast_into::<Future>().ok()
}

/// Has a thread woken when this one detaches or begins its next task; at once when this is no worker.
///
/// A waiter woken while its waker is attached only runs into the interpreter's lock and sleeps again.
pub(super) fn wake_later(waiter: Thread) {
    if PLACE.get().is_null() {
        waiter.unpark();
    } else {
        WAKES.with_borrow_mut(|wakes| wakes.push(waiter));
    }
}

/// Wakes whom this thread has yet to wake.
pub(super) fn wake_now() {
    WAKES.with_borrow_mut(|wakes| {
        for waiter in wakes.drain(..) {
            waiter.unpark();
        }
    });
}

/// Wakes whom this thread has yet to wake, before it runs a function that may take long.
///
/// One that took a few microseconds just now is taken to be quick again, and the wake-up put off to the end of a
/// short run of such tasks: half of all system calls go, and twice as many callers are served that wait for each
/// task. When the guess is wrong, the waiters look for themselves (see [`wait`](super::wait)).
pub(super) fn wake_before(function: *const pyo3::ffi::PyObject, desk: &Desk<'_, PyHost>) {
    const QUICK: Tick = 10_000;
    const LONGEST: Tick = 50_000;
    if WAKES.with_borrow(Vec::is_empty) {
        RUN.set((function, 0));
        return;
    }
    let (before, since) = RUN.get();
    let put_off = match desk.last_run() {
        Some((now, took)) if before == function && took < QUICK => {
            let since = if since == 0 { now } else { since };
            RUN.set((function, since));
            now - since < LONGEST
        }
        _ => false,
    };
    if !put_off {
        RUN.set((function, 0));
        wake_now();
    }
}
