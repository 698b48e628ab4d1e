//! The only door to `std::sync`, `std::thread`, crossbeam and loom.
//!
//! Under `--cfg loom` the primitives whose interleavings matter are loom's, and the channel is a
//! small queue made of them: loom then explores *our* protocol around the channel, while crossbeam
//! tests its own. `Arc`, `Weak` and `OnceLock` stay the standard ones: reference counting is not
//! under test, and loom lacks the other two.
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "this is the door")]

pub(crate) use crossbeam_utils::CachePadded;
pub(crate) use std::sync::OnceLock;
pub(crate) use std::sync::{Arc, Weak};

#[cfg(not(loom))]
pub(crate) use std::sync::atomic;
#[cfg(not(loom))]
pub(crate) mod thread {
    pub(crate) use std::thread::{Thread, current, panicking, park, park_timeout, yield_now};
}

#[cfg(loom)]
pub(crate) use loom::sync::atomic;
#[cfg(loom)]
pub(crate) mod thread {
    #[cfg(test)]
    pub(crate) use loom::thread::spawn;
    pub(crate) use loom::thread::{Thread, current, park, yield_now};
    pub(crate) use std::thread::panicking;

    /// loom has no clock: a wait with a limit is a wait.
    pub(crate) fn park_timeout(_limit: std::time::Duration) {
        park();
    }
}

/// Runs a test once for every interleaving of its threads.
#[cfg(all(test, loom))]
pub(crate) use loom::model;

#[cfg(loom)]
use loom::sync as imp;
#[cfg(not(loom))]
use std::sync as imp;

pub(crate) use imp::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// A mutex that ignores poison: a panic of our own already breaks the runner, and nothing that the
/// engine guards is left half-written by the few instructions under a lock.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(imp::Mutex<T>);

impl<T> Mutex<T> {
    #[cfg(not(loom))]
    pub(crate) const fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    #[cfg(loom)]
    pub(crate) fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` only while another thread holds the lock.
    #[cfg(all(feature = "python", not(loom)))]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poison)) => Some(poison.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        }
    }
}

/// A condition variable for [`Mutex`].
#[derive(Debug, Default)]
pub(crate) struct Condvar(imp::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(imp::Condvar::new())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait_timeout<'g, T>(
        &self,
        guard: MutexGuard<'g, T>,
        limit: Duration,
    ) -> MutexGuard<'g, T> {
        self.0.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits while `condition` holds, but no longer than `limit`.
    #[cfg(not(loom))]
    pub(crate) fn wait_while<'g, T>(
        &self,
        guard: MutexGuard<'g, T>,
        limit: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'g, T> {
        let waited = self.0.wait_timeout_while(guard, limit, condition);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    #[cfg(loom)]
    pub(crate) fn wait_while<'g, T>(
        &self,
        mut guard: MutexGuard<'g, T>,
        limit: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> MutexGuard<'g, T> {
        while condition(&mut guard) {
            guard = self.wait_timeout(guard, limit);
        }
        guard
    }
}

#[cfg(not(loom))]
pub(crate) mod channel {
    pub(crate) use crossbeam_channel::{Receiver, Sender, unbounded};
}

#[cfg(loom)]
pub(crate) mod channel {
    //! The part of crossbeam-channel's interface that the engine uses, over loom's primitives.
    use super::{Arc, Condvar, Mutex};
    use std::collections::VecDeque;
    use std::fmt;
    use std::time::Duration;

    struct Shared<T> {
        queue: Mutex<VecDeque<T>>,
        arrived: Condvar,
    }

    pub(crate) struct Sender<T>(Arc<Shared<T>>);
    pub(crate) struct Receiver<T>(Arc<Shared<T>>);

    impl<T> fmt::Debug for Sender<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.pad("Sender { .. }")
        }
    }

    impl<T> fmt::Debug for Receiver<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.pad("Receiver { .. }")
        }
    }

    pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
        let shared =
            Arc::new(Shared { queue: Mutex::new(VecDeque::new()), arrived: Condvar::new() });
        (Sender(Arc::clone(&shared)), Receiver(shared))
    }

    impl<T> Sender<T> {
        pub(crate) fn send(&self, value: T) -> Result<(), T> {
            self.0.queue.lock().push_back(value);
            self.0.arrived.notify_all();
            Ok(())
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn try_recv(&self) -> Result<T, ()> {
            self.0.queue.lock().pop_front().ok_or(())
        }

        pub(crate) fn recv(&self) -> Result<T, ()> {
            let mut queue = self.0.queue.lock();
            loop {
                if let Some(value) = queue.pop_front() {
                    return Ok(value);
                }
                queue = self.0.arrived.wait_timeout(queue, Duration::ZERO);
            }
        }

        /// loom has no clock: a wait with a limit is a wait.
        pub(crate) fn recv_timeout(&self, _limit: Duration) -> Result<T, ()> {
            self.recv()
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.0.queue.lock().is_empty()
        }

        pub(crate) fn len(&self) -> usize {
            self.0.queue.lock().len()
        }
    }
}
