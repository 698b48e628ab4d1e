//! What runs on a loan that its caller found idle: the task that is kept with the loan, and since
//! when it runs.
//!
//! No other thread knows of such a task before it starts, and its caller has the outcome when it is
//! over: one task does for all those calls, one after the other. While it runs it is seen as what
//! the worker runs.

use crate::engine::clock::Tick;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

/// See the module's documentation.
#[derive(Debug)]
pub(in crate::engine) struct LentTask<T> {
    /// A handle beside the loan's. Locked by the thread that keeps another task, and by threads that
    /// look.
    task: Mutex<Option<T>>,
    /// When the call began that runs; 0: none does. Written under the lock of the idle loans, in one
    /// step with taking the loan and with giving it back.
    since: AtomicU64,
}

impl<T> LentTask<T> {
    pub(super) fn new() -> Self {
        Self { task: Mutex::new(None), since: AtomicU64::new(0) }
    }

    /// Puts another task in the place of the one that is kept, and gives that back. None runs.
    pub(in crate::engine) fn keep(&self, task: Option<T>) -> Option<T> {
        std::mem::replace(&mut *self.task.lock(), task)
    }

    /// A call begins.
    pub(super) fn show(&self, since: Tick) {
        self.since.store(since.max(1), Ordering::Release);
    }

    /// The call that runs is over. Gives when it began, if there was one.
    pub(in crate::engine) fn hide(&self) -> Option<Tick> {
        let since = self.since();
        if since.is_some() {
            self.since.store(0, Ordering::Release);
        }
        since
    }

    /// When the call began that runs.
    pub(super) fn since(&self) -> Option<Tick> {
        Some(self.since.load(Ordering::Acquire)).filter(|since| *since != 0)
    }

    /// Shows the task to `look` if it runs, under a lock.
    pub(super) fn look(&self, look: impl FnOnce(&T, Tick)) {
        let task = self.task.lock();
        if let (Some(task), Some(since)) = (&*task, self.since()) {
            look(task, since);
        }
    }
}
