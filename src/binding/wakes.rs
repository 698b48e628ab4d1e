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
    static PUTS_OFF: Cell<bool> = const { Cell::new(false) };
    /// Whether there is any in `WAKES`.
    static HAS_WAKES: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread puts its wake-ups off from now on. Gives what held before.
pub(super) fn put_off(puts_off: bool) -> bool {
    PUTS_OFF.replace(puts_off)
}

/// Has a thread woken when this one detaches or begins its next task; at once when this one puts
/// nothing off.
pub(super) fn wake_later(waiter: Thread) {
    if PUTS_OFF.get() {
        WAKES.with_borrow_mut(|wakes| wakes.push(waiter));
        HAS_WAKES.set(true);
    } else {
        waiter.unpark();
    }
}

/// Whether this thread has yet to wake any.
pub(super) fn are_pending() -> bool {
    HAS_WAKES.get()
}

/// Wakes those that this thread has yet to wake.
pub(super) fn wake_now() {
    if HAS_WAKES.replace(false) {
        WAKES.with_borrow_mut(|wakes| {
            for waiter in wakes.drain(..) {
                waiter.unpark();
            }
        });
    }
}
