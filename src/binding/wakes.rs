//! The threads that this one has yet to wake.
//!
//! A waiter woken while its waker is attached only runs into the interpreter's lock and sleeps
//! again. So a thread that runs tasks puts its wake-ups off until it detaches, or begins a task
//! that may take long.
//!
//! Many waiters that are woken together run into that lock all the same, and each other. So two of
//! them are woken, and each wakes another once it has the interpreter: one has it, one is about to,
//! and the others still sleep.

use super::process;
use crate::engine::relay::{Relay, Waiter};
use crate::sync::Arc;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// How many waiters are on their way at once.
const RUNNERS: usize = 2;
/// A waiter that has the interpreter so late wakes all others at once: another thread computes, and
/// lets go of it every few milliseconds only. They must not wait for that one after the other.
const LATE: Duration = Duration::from_millis(1);

thread_local! {
    /// Apart from the rest, which needs no destructor.
    static WAKES: RefCell<Vec<Arc<Waiter>>> = const { RefCell::new(Vec::new()) };
    static DEFERRAL: Deferral = const { Deferral::new() };
    /// This thread, and for which generation of forks: another thread may have held the lock of one
    /// of an earlier generation.
    static THIS_THREAD: RefCell<Option<(u64, Arc<Waiter>)>> = const { RefCell::new(None) };
    static BATON: Cell<Option<Baton>> = const { Cell::new(None) };
}

/// One variable, for every look at one costs a call in a shared library.
struct Deferral {
    /// Wake-ups are put off.
    is_on: Cell<bool>,
    /// Whether there is any in `WAKES`.
    has_wakes: Cell<bool>,
}

/// What a thread has that was woken to wake another.
struct Baton {
    relay: Arc<Relay>,
    since: Instant,
    forks: u64,
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
pub(super) fn wake_later(waiter: Arc<Waiter>) {
    DEFERRAL.with(|deferral| {
        if deferral.is_on.get() {
            WAKES.with_borrow_mut(|wakes| wakes.push(waiter));
            deferral.has_wakes.set(true);
        } else {
            waiter.wake();
        }
    });
}

/// Whether this thread has yet to wake any.
pub(super) fn are_pending() -> bool {
    DEFERRAL.with(|deferral| deferral.has_wakes.get())
}

/// Wakes those that this thread has yet to wake.
pub(super) fn wake_now() {
    if !DEFERRAL.with(|deferral| deferral.has_wakes.replace(false)) {
        return;
    }
    // Without the interpreter's lock there is nothing that they run into.
    let are_few = |wakes: &Vec<_>| wakes.len() <= RUNNERS || cfg!(Py_GIL_DISABLED);
    if WAKES.with_borrow(are_few) {
        WAKES.with_borrow_mut(|wakes| wakes.drain(..).for_each(|waiter| waiter.wake()));
    } else {
        Relay::start(WAKES.take(), RUNNERS);
    }
}

/// This thread, as others wake it while it is [parked](park).
pub(super) fn this_thread() -> Arc<Waiter> {
    let forks = process::forks();
    THIS_THREAD.with_borrow_mut(|this_thread| match this_thread {
        Some((made, waiter)) if *made == forks => Arc::clone(waiter),
        _ => {
            let waiter = Arc::new(Waiter::current());
            *this_thread = Some((forks, Arc::clone(&waiter)));
            waiter
        }
    })
}

/// Parks this thread, detached. The caller owes a [`pass_on`] when it is attached again, or parks
/// again.
pub(super) fn park(limit: Duration) {
    pass_on();
    if let Some(relay) = this_thread().park_timeout(limit) {
        BATON.set(Some(Baton { relay, since: Instant::now(), forks: process::forks() }));
    }
}

/// Wakes the next waiter, if this thread was woken for that, too.
pub(super) fn pass_on() {
    // In a forked child none of them lives.
    let baton = BATON.take().filter(|baton| baton.forks == process::forks());
    if let Some(Baton { relay, since, .. }) = baton {
        if since.elapsed() < LATE { relay.wake_one() } else { relay.wake_rest() }
    }
}
