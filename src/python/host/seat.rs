//! Where this thread stands: at which desk it works, what it runs, whom it has yet to wake.
//!
//! Everything here belongs to one thread. The desk and the task are borrowed from frames further down this
//! thread's own stack, set and restored around each run.

use super::{PyHost, door, intrusion};
use crate::engine::Engine;
use crate::engine::clock::Tick;
use crate::engine::worker::desk::Desk;
use crate::python::future::Future;
use crate::python::interrupt::Call;
use crate::python::map::batch::Current;
use crate::sync::Arc;
use crate::sync::thread::Thread;
use pyo3::prelude::*;
use std::cell::{Cell, RefCell};
use std::ptr;

thread_local! {
    static SEAT: Seat = const { Seat::new() };
    /// Whom this thread has yet to wake; apart from the seat, which needs no destructor.
    static WAKES: RefCell<Vec<Thread>> = const { RefCell::new(Vec::new()) };
}

/// See the module's documentation. One variable, for every look at one costs a call in a shared library.
pub(in crate::python) struct Seat {
    employer: Cell<*const Employer>,
    place: Cell<*const Place>,
    task: Cell<*mut pyo3::ffi::PyObject>,
    /// The function of that task, of its item, or the hook that is asked about the resource: what uses it at the moment.
    function: Cell<*mut pyo3::ffi::PyObject>,
    /// The item of a batch that this thread runs, `task` being the batch's ticket.
    item: Cell<*const ()>,
    /// Where an interrupt of a hook is kept for the caller whose thread this is.
    guest: Cell<*const Interrupt>,
    /// The function run last, only compared, and since when a wake-up is put off for its sake.
    run: Cell<(*const pyo3::ffi::PyObject, Tick)>,
    /// Whether there is anybody in `WAKES`.
    owes: Cell<bool>,
}

/// An exception that came inside a hook in the thread of a caller.
type Interrupt = Cell<Option<Py<PyAny>>>;

/// An engine that this thread works for, and the one it is called away from.
struct Employer {
    /// Only compared, never followed.
    engine: *const Engine<PyHost>,
    outer: *const Employer,
}

/// A desk this thread works at, and the one it was called away from.
struct Place {
    desk: *const (),
    outer: *const Place,
    /// What interrupts the attempt there, where the config's `on_cancel` does.
    /// A pointer that the attempt which set it keeps alive: nothing is to be dropped after every task.
    call: Cell<*const Call>,
}

/// Calls `work` with this thread's seat.
pub(in crate::python) fn with<T>(work: impl FnOnce(&Seat) -> T) -> T {
    SEAT.with(work)
}

impl Seat {
    const fn new() -> Self {
        Self {
            employer: Cell::new(ptr::null()),
            place: Cell::new(ptr::null()),
            task: Cell::new(ptr::null_mut()),
            function: Cell::new(ptr::null_mut()),
            guest: Cell::new(ptr::null()),
            item: Cell::new(ptr::null()),
            run: Cell::new((ptr::null(), 0)),
            owes: Cell::new(false),
        }
    }

    /// Runs `work` with this thread at a desk.
    pub(in crate::python) fn at_desk<T>(
        &self,
        desk: &Desk<'_, PyHost>,
        work: impl FnOnce() -> T,
    ) -> T {
        let outer = self.place.get();
        let place = Place { desk: ptr::from_ref(desk).cast(), outer, call: Cell::new(ptr::null()) };
        self.place.set(&raw const place);
        let result = work();
        self.place.set(outer);
        result
    }

    /// Says what interrupts the attempt at the desk that this thread works at.
    /// Set back to none before the call is let go of.
    pub(in crate::python) fn set_call(&self, call: Option<&Arc<Call>>) {
        // SAFETY: set by `at_desk` on this thread, whose frame is still below us.
        if let Some(place) = unsafe { self.place.get().as_ref() } {
            place.call.set(call.map_or(ptr::null(), Arc::as_ptr));
        }
    }

    /// What interrupts the attempt around the one at this desk, on the same resource.
    pub(in crate::python) fn outer_call(&self, desk: &Desk<'_, PyHost>) -> Option<Arc<Call>> {
        // SAFETY: set by `at_desk` on this thread: its frame and those of the outer places are still below us.
        let mut place = unsafe { self.place.get().as_ref()?.outer.as_ref() };
        while let Some(Place { desk: other, outer, call }) = place {
            // SAFETY: the frame that made the place borrows the desk.
            let other = unsafe { &*other.cast::<Desk<'_, PyHost>>() };
            let call = call.get();
            if !call.is_null() && Arc::ptr_eq(other.badge(), desk.badge()) {
                // SAFETY: `set_call` got it from an `Arc` that is alive until it is set back.
                return Some(unsafe {
                    Arc::increment_strong_count(call);
                    Arc::from_raw(call)
                });
            }
            // SAFETY: as above.
            place = unsafe { outer.as_ref() };
        }
        None
    }

    /// Runs `work` with this thread inside a task with its function, or inside none.
    pub(in crate::python) fn inside_task<T>(
        &self,
        task: Option<(&Py<Future>, *mut pyo3::ffi::PyObject)>,
        work: impl FnOnce() -> T,
    ) -> T {
        let (task, function) =
            task.map_or((ptr::null_mut(), ptr::null_mut()), |(task, f)| (task.as_ptr(), f));
        let outer = self.task.replace(task);
        let outer_function = self.function.replace(function);
        let outer_item = self.item.replace(ptr::null());
        let result = work();
        self.task.set(outer);
        self.function.set(outer_function);
        self.item.set(outer_item);
        result
    }

    /// Runs `work` with this thread inside items of a batch, of which `current` tells which.
    pub(in crate::python) fn inside_item<T>(
        &self,
        ticket: &Py<Future>,
        function: &Py<PyAny>,
        current: &Current<'_>,
        work: impl FnOnce() -> T,
    ) -> T {
        self.inside_task(Some((ticket, function.as_ptr())), || {
            self.item.set(ptr::from_ref(current).cast());
            work()
        })
    }

    /// Runs `work` with this thread working for an engine.
    fn employed_by<T>(&self, engine: &Arc<Engine<PyHost>>, work: impl FnOnce() -> T) -> T {
        let outer = self.employer.get();
        let employer = Employer { engine: Arc::as_ptr(engine), outer };
        self.employer.set(&raw const employer);
        let result = work();
        self.employer.set(outer);
        result
    }

    /// Runs `work` with this thread inside a hook that uses the resource of the desk.
    pub(in crate::python) fn inside_hook<T>(
        &self,
        hook: &Py<PyAny>,
        work: impl FnOnce() -> T,
    ) -> T {
        let outer = self.function.replace(hook.as_ptr());
        let result = work();
        self.function.set(outer);
        result
    }

    /// Wakes whom this thread has yet to wake, before it runs a function that may take long.
    ///
    /// One that took a few microseconds just now is taken to be quick again, and the wake-up put off to the end of
    /// a short run of such tasks: half of all system calls go, and twice as many callers are served that wait for
    /// each task. When the guess is wrong, the waiters look for themselves (see [`wait`](crate::python::wait)).
    pub(in crate::python) fn wake_before(
        &self,
        function: *const pyo3::ffi::PyObject,
        desk: &Desk<'_, PyHost>,
    ) {
        const LONGEST: Tick = 50_000;
        if !self.owes.get() {
            self.run.set((function, 0));
            return;
        }
        let (before, since) = self.run.get();
        let put_off = match desk.last_run() {
            Some((now, took)) if before == function && took < QUICK => {
                let since = if since == 0 { now } else { since };
                self.run.set((function, since));
                now - since < LONGEST
            }
            _ => false,
        };
        if !put_off {
            self.run.set((function, 0));
            self.wake_now();
        }
    }

    fn wake_now(&self) {
        if self.owes.replace(false) {
            WAKES.with_borrow_mut(|wakes| {
                for waiter in wakes.drain(..) {
                    waiter.unpark();
                }
            });
        }
    }
}

/// A task that takes no longer than this is quick: whoever waits for it may as well wait for a few of its like.
pub(in crate::python) const QUICK: Tick = 10_000;

/// Calls `look` with the item of a batch that this thread runs, if that is what it runs.
pub(in crate::python) fn item<T>(look: impl FnOnce(&Current<'_>) -> T) -> Option<T> {
    let item = with(|seat| seat.item.get()).cast::<Current<'_>>();
    // SAFETY: set by `inside_item` on this thread, whose frame is still below us and borrows it.
    unsafe { item.as_ref() }.map(look)
}

/// Whether the engine of the desk that this thread works at was killed.
pub(in crate::python) fn is_killed() -> bool {
    desk(|desk| desk.engine().is_killed() && !desk.engine().is_forsaken()) == Some(true)
}

/// Calls `look` with the desk this thread works at, if any.
pub(in crate::python) fn desk<T>(look: impl FnOnce(&Desk<'_, PyHost>) -> T) -> Option<T> {
    nearest_desk(|_| true, look)
}

/// Calls `look` with the nearest desk of an engine that this thread works at: a runner's resource may be lent to a
/// task of another's, and each task is to meet a resource of its own runner. An intruder, which came in the middle of
/// what is done at that desk, finds none: its resource may be in the middle of anything.
pub(in crate::python) fn desk_of<T>(
    py: Python<'_>,
    engine: &Arc<Engine<PyHost>>,
    look: impl FnOnce(&Desk<'_, PyHost>) -> T,
) -> Option<T> {
    nearest_desk(is_of(engine), |desk| (!is_intruder(py)).then(|| look(desk)))?
}

/// [`desk_of`] for a call that has asked whether there is one.
pub(in crate::python) fn same_desk_of<T>(
    engine: &Arc<Engine<PyHost>>,
    look: impl FnOnce(&Desk<'_, PyHost>) -> T,
) -> Option<T> {
    nearest_desk(is_of(engine), look)
}

fn is_of(engine: &Arc<Engine<PyHost>>) -> impl Fn(&Desk<'_, PyHost>) -> bool {
    |desk| Arc::ptr_eq(desk.engine(), engine)
}

/// Whether the present call comes in the middle of what uses the resource, without being part of it. Between a task's
/// end and the next begin nothing does: a finalizer of the task's arguments, say, may have it.
fn is_intruder(py: Python<'_>) -> bool {
    let function = with(|seat| seat.function.get());
    // SAFETY: set by `inside_task` or `inside_hook` on this thread, whose caller keeps the function alive meanwhile.
    let function = unsafe { Bound::from_borrowed_ptr_or_opt(py, function) };
    function.is_some_and(|function| intrusion::has_intruder(py, &function))
}

/// Whether a wait of this thread for a task of this engine might never end: it is a worker of it, whose resource is not
/// to be had, and nobody else may be left to run the task.
pub(in crate::python) fn stands_still(py: Python<'_>, engine: &Arc<Engine<PyHost>>) -> bool {
    works_for(engine)
        && desk_of(py, engine, |_| ()).is_none()
        // A lent resource keeps no worker from running what is queued.
        && nearest_desk(|desk| is_of(engine)(desk) && desk.is_on_loan(), |_| ()).is_none()
}

fn nearest_desk<T>(
    is: impl Fn(&Desk<'_, PyHost>) -> bool,
    look: impl FnOnce(&Desk<'_, PyHost>) -> T,
) -> Option<T> {
    // SAFETY: set by `at_desk` on this thread: its frame and those of the outer places are still below us.
    let mut place = unsafe { with(|seat| seat.place.get()).as_ref() };
    while let Some(Place { desk, outer, .. }) = place {
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

/// Runs `work` with this thread working for an engine, all its life or for once: what is called inside must not wait for
/// the engine's end.
pub(in crate::python) fn on_behalf<T>(engine: &Arc<Engine<PyHost>>, work: impl FnOnce() -> T) -> T {
    with(|seat| seat.employed_by(engine, work))
}

/// Whether this thread works for this engine: a wait for its end would be a wait for itself.
pub(in crate::python) fn works_for(engine: &Arc<Engine<PyHost>>) -> bool {
    // SAFETY: set by `on_behalf` on this thread: its frame and those of the outer ones are still below us.
    let mut employer = unsafe { with(|seat| seat.employer.get()).as_ref() };
    while let Some(Employer { engine: other, outer }) = employer {
        if ptr::eq(*other, Arc::as_ptr(engine)) {
            return true;
        }
        // SAFETY: as above.
        employer = unsafe { outer.as_ref() };
    }
    same_desk_of(engine, |_| ()).is_some()
}

/// Runs `work`, which serves a task with a lent resource, in the thread of the caller. Gives what interrupted a hook
/// meanwhile beside.
pub(in crate::python) fn as_guest<T>(
    engine: &Arc<Engine<PyHost>>,
    work: impl FnOnce() -> T,
) -> (T, Option<Py<PyAny>>) {
    let interrupt = Interrupt::new(None);
    let result = with(|seat| {
        let outer = seat.guest.replace(&raw const interrupt);
        let result = seat.employed_by(engine, work);
        seat.guest.set(outer);
        result
    });
    (result, interrupt.into_inner())
}

/// Keeps what interrupted a hook for the caller whose thread this is. Where there is no such caller, and where it was
/// no interrupt, it comes back.
pub(in crate::python) fn interrupt_guest(
    py: Python<'_>,
    error: Py<PyAny>,
) -> Result<(), Py<PyAny>> {
    // SAFETY: set by `as_guest` on this thread, whose frame is still below us.
    let Some(guest) = (unsafe { with(|seat| seat.guest.get()).as_ref() }) else {
        return Err(error);
    };
    if !intrusion::raised(py, &error) {
        return Err(error);
    }
    door::release_some(py, guest.replace(Some(error)));
    Ok(())
}

/// The task that this thread runs.
pub(in crate::python) fn task(py: Python<'_>) -> Option<Bound<'_, Future>> {
    let task = with(|seat| seat.task.get());
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
pub(in crate::python) fn wake_later(waiter: Thread) {
    with(|seat| {
        if seat.place.get().is_null() {
            waiter.unpark();
        } else {
            WAKES.with_borrow_mut(|wakes| wakes.push(waiter));
            seat.owes.set(true);
        }
    });
}

/// Wakes whom this thread has yet to wake.
pub(in crate::python) fn wake_now() {
    with(Seat::wake_now);
}
