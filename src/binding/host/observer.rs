//! The place of the observer: what an integration puts around attempts, if one does.
//!
//! It is no hook of the user's: `Config.on_event` belongs to the user and is fixed when a runner is
//! made, while an observer comes and goes as long as the runner lives. Where there is none, an
//! attempt costs one look at a flag.

use super::guarded_call;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use pyo3::prelude::*;

/// See the module's documentation.
#[derive(Default)]
pub(in crate::binding) struct Observer {
    /// Relaxed: an attempt that begins meanwhile may be observed or not.
    is_there: AtomicBool,
    /// The lock is held for a few instructions, with no call into the interpreter. No collector
    /// sees it: an observer must not lead to the runner.
    observer: Mutex<Option<Py<PyAny>>>,
}

impl Observer {
    #[inline]
    pub(in crate::binding) fn is_there(&self) -> bool {
        self.is_there.load(Ordering::Relaxed)
    }

    /// By a reference of the caller's own.
    pub(in crate::binding) fn get(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        if !self.is_there() {
            return None;
        }
        self.observer.lock().as_ref().map(|observer| observer.clone_ref(py))
    }

    /// Puts another in its place, or none.
    pub(in crate::binding) fn replace(&self, py: Python<'_>, other: Option<Py<PyAny>>) {
        let mut observer = self.observer.lock();
        self.is_there.store(other.is_some(), Ordering::Relaxed);
        let former = std::mem::replace(&mut *observer, other);
        drop(observer);
        guarded_call::release_some(py, former);
    }
}
