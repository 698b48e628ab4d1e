//! Parked threads that wake each other: of many a few are woken, and each of these wakes another
//! when it is in the position to let it.
//!
//! Threads that are all woken at once, and then all want the same lock, run into it one by one and
//! sleep again. In a relay a few are on their way, and the others still sleep.

use crate::sync::thread::{self, Thread};
use crate::sync::{Arc, Mutex};
use std::time::Duration;
use std::vec::IntoIter;

/// A thread that may be woken in a relay.
#[derive(Debug)]
pub struct Waiter {
    thread: Thread,
    state: Mutex<WaiterState>,
}

#[derive(Debug)]
enum WaiterState {
    /// It looks by itself at what it waits for, and takes no baton.
    Awake,
    Parked,
    /// Woken, to wake another.
    HasBaton(Arc<Relay>),
}

/// Threads that are yet to be woken. Whoever is woken by it has it for a baton, and owes a
/// [`wake_one`](Self::wake_one) or a [`wake_rest`](Self::wake_rest).
#[derive(Debug)]
pub struct Relay {
    waiters: Mutex<IntoIter<Arc<Waiter>>>,
}

impl Waiter {
    /// The thread that calls this.
    pub fn current() -> Self {
        Self { thread: thread::current(), state: Mutex::new(WaiterState::Awake) }
    }

    /// Parks this thread, which it is; that may be in vain. Gives the relay in which it was woken,
    /// if it was.
    pub fn park_timeout(&self, limit: Duration) -> Option<Arc<Relay>> {
        *self.state.lock() = WaiterState::Parked;
        thread::park_timeout(limit);
        match std::mem::replace(&mut *self.state.lock(), WaiterState::Awake) {
            WaiterState::HasBaton(relay) => Some(relay),
            _ => None,
        }
    }

    /// Wakes it alone.
    pub fn wake(&self) {
        self.thread.unpark();
    }

    /// Wakes it with a baton; false when it takes none.
    fn wake_with(&self, relay: &Arc<Relay>) -> bool {
        let mut state = self.state.lock();
        // Or it has come back by itself, or has the baton of another relay.
        let takes = matches!(*state, WaiterState::Parked);
        if takes {
            *state = WaiterState::HasBaton(Arc::clone(relay));
        }
        drop(state);
        // In any case: it may be about to park.
        self.wake();
        takes
    }
}

impl Relay {
    /// Has these threads woken, with so many on their way at once.
    pub fn start(waiters: Vec<Arc<Waiter>>, runners: usize) {
        let relay = Arc::new(Self { waiters: Mutex::new(waiters.into_iter()) });
        for _ in 0..runners {
            relay.wake_one();
        }
    }

    /// Wakes the next thread that takes the baton, and those before it that do not.
    pub fn wake_one(self: &Arc<Self>) {
        loop {
            let next = self.waiters.lock().next();
            if next.is_none_or(|waiter| waiter.wake_with(self)) {
                return;
            }
        }
    }

    /// Wakes all the others at once.
    pub fn wake_rest(&self) {
        let rest = std::mem::take(&mut *self.waiters.lock());
        rest.for_each(|waiter| waiter.wake());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::atomic::{AtomicUsize, Ordering};
    use crate::sync::{model, thread::spawn};

    /// Two threads of a relay, the second of which may be about to park, or back by itself.
    #[test]
    fn loom_every_thread_of_a_relay_is_woken() {
        model(|| {
            let ready = Arc::new(AtomicUsize::new(0));
            let waiters = Arc::new(Mutex::new(Vec::new()));
            let threads = [(); 2].map(|()| {
                let (ready, waiters) = (Arc::clone(&ready), Arc::clone(&waiters));
                spawn(move || {
                    let waiter = Arc::new(Waiter::current());
                    waiters.lock().push(Arc::clone(&waiter));
                    while ready.load(Ordering::SeqCst) == 0 {
                        if let Some(relay) = waiter.park_timeout(Duration::MAX) {
                            relay.wake_one();
                        }
                    }
                })
            });
            ready.store(1, Ordering::SeqCst);
            // Who is not there yet sees that it is ready.
            Relay::start(std::mem::take(&mut *waiters.lock()), 1);
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }
}
