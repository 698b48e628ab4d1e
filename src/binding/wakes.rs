//! The threads that this one has yet to wake.
//!
//! A waiter woken while its waker is attached only runs into the interpreter's lock and sleeps
//! again. So a thread that runs tasks puts its wake-ups off until it detaches, or begins a task
//! that may take long.

use crate::sync::thread::Thread;
use std::cell::{Cell, RefCell};

thread_local! {
    /// Apart from the rest, which needs no destructor.
    static WAKES: RefCell<Vec<Thread>> = const { RefCell::new(Vec::new()) };
    static DEFERRAL: Deferral = const { Deferral::new() };
}

/// One variable, for every look at one costs a call in a shared library.
struct Deferral {
    /// Wake-ups are put off.
    is_on: Cell<bool>,
    /// Whether there is any in `WAKES`.
    has_wakes: Cell<bool>,
}

impl Deferral {
    const fn new() -> Self {
        Self { is_on: Cell::new(false), has_wakes: Cell::new(false) }
    }
}

/// Whether this thread puts its wake-ups off from now on. Gives what held before.
pub(super) fn put_off(puts_off: bool) -> bool {
    DEFERRAL.with(|deferral| deferral.is_on.replace(puts_off))
}

/// Has a thread woken when this one detaches or begins its next task; at once when this one puts
/// nothing off.
pub(super) fn wake_later(waiter: Thread) {
    DEFERRAL.with(|deferral| {
        if deferral.is_on.get() {
            WAKES.with_borrow_mut(|wakes| wakes.push(waiter));
            deferral.has_wakes.set(true);
        } else {
            waiter.unpark();
        }
    });
}

/// Whether this thread has yet to wake any.
pub(super) fn are_pending() -> bool {
    DEFERRAL.with(|deferral| deferral.has_wakes.get())
}

/// Wakes those that this thread has yet to wake.
pub(super) fn wake_now() {
    if DEFERRAL.with(|deferral| deferral.has_wakes.replace(false)) {
        WAKES.with_borrow_mut(|wakes| {
            for waiter in wakes.drain(..) {
                waiter.unpark();
            }
        });
    }
}
